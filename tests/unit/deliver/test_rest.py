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


async def test_nothing_is_sent_beside_a_courier_that_stands_still(
    backlog: MemoryBacklog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even by lanes that were open: it may have stopped over what they would come to."""
    sender = sender_of(backlog)
    parallel = Parallel(sender, None)
    closed = anyio.Event()
    monkeypatch.setattr(parallel, "close_soon", closed.set)
    rest = Rest(sender, parallel, anyio.sleep, pace_seconds=0.5)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rest.until_woken)
            await closed.wait()
            rest.end()
