"""The buffer's model test for as long as one likes."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from tests.trials.rows import Row
from tests.unit.buffer.test_model import BufferModel


def trial(*, seed: int, examples: int, steps: int = 60) -> Row:
    """So many random histories of a buffer; a row without numbers, since a model has no traffic."""
    found = []

    @seeded(seed)
    class Seeded(BufferModel):
        pass

    try:
        run_state_machine_as_test(
            Seeded,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the row tells it
        steps_taken = "\n".join(getattr(error, "__notes__", []))
        found.append(f"seed {seed}: {type(error).__name__}: {error}\n{steps_taken}")
    return Row("buffer against its model", problems=tuple(found))
