"""How long a courier rests between two turns, and what ends that."""

import anyio
import pytest

from relay.deliver.parallel import Parallel
from relay.deliver.rest import PACED_BELOW_BYTES, Rest
from tests.unit.deliver.conftest import MemoryBacklog
from tests.unit.deliver.test_sender import sender_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("began", "size", "slept"),
    [
        (100.0, 1, [0.5]),
        (99.75, 1, [0.25]),
        (99.5, 1, []),
        (90.0, 1, []),
        (100.0, PACED_BELOW_BYTES - 1, [0.5]),
        (100.0, PACED_BELOW_BYTES, []),
    ],
)
async def test_small_batches_begin_no_sooner_than_so_long_after_one_another(
    backlog: MemoryBacklog,
    monkeypatch: pytest.MonkeyPatch,
    began: float,
    size: int,
    slept: list[float],
) -> None:
    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)

    sender = sender_of(backlog)
    rest = Rest(sender, Parallel(sender, None), sleep, pace_seconds=0.5)
    monkeypatch.setattr(anyio, "current_time", lambda: 100.0)
    await rest.pace(size, began)

    assert sleeps == slept
