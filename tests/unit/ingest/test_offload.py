"""The offload process as the event loop has it, over one that is not there: what each job may
take, and what is done while nothing comes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.ingest.offload import offload as offload_module
from relay.ingest.offload.offload import Offload
from relay.ingest.offload.wire import Job
from relay.model.errors import Refusal
from relay.model.records import Encoding, Sender
from relay.process.prepare import Prepared, PrepareSettings
from tests.unit.buffer.making import eventually

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024
NOTHING: Any = object()


class Process:
    """Answers at once, and remembers what it was asked."""

    pid = 7
    seconds = 0.0

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.is_alive = True

    def wait_ready(self) -> None:
        pass

    def ask(self, job: Job, _body: bytes) -> Prepared:
        self.jobs.append(job)
        return NOTHING  # type: ignore[no-any-return]

    def resident_bytes(self) -> int:
        return 0

    def close(self) -> int:
        self.is_alive = False
        return 0

    kill = close


@asynccontextmanager
async def running(spawned: list[Process], **settings: Any) -> AsyncIterator[Offload]:
    def spawn() -> Any:
        spawned.append(Process())
        return spawned[-1]

    helper = Offload(spawn=spawn, **settings)
    helper.start()
    try:
        yield helper
    finally:
        await helper.stop()


async def ask(helper: Offload, size: int = 1) -> None:
    sender = Sender("127.0.0.1", is_local=True)
    made = await helper.prepare(PrepareSettings(), b"x" * size, Encoding.JSON, sender)
    assert made is NOTHING


@pytest.mark.parametrize(("mib", "seconds"), [(0, 1.0), (2, 1.6), (4, 2.2), (8, 3.0)])
async def test_job_may_take_time_and_memory_by_its_size(mib: int, seconds: float) -> None:
    spawned: list[Process] = []
    async with running(spawned, job_seconds=3.0) as helper:
        await ask(helper, mib * MIB)
    (job,) = spawned[0].jobs
    assert job.seconds == pytest.approx(seconds)
    assert job.memory_bytes == (256 + 16 * mib) * MIB
    assert (job.is_local, job.encoding) == (True, int(Encoding.JSON))


async def test_memory_is_given_back_once_when_nothing_comes_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[int] = []
    monkeypatch.setattr(offload_module, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(offload_module, "trim", lambda: looks.append(len(spawned[0].jobs)))
    spawned: list[Process] = []
    async with running(spawned) as helper:
        rest, rested = helper._rest, 0

        def count() -> None:
            nonlocal rested
            rest()
            rested += 1

        monkeypatch.setattr(helper, "_rest", count)
        await eventually(lambda: rested > 2)
        assert looks == []  # it has done nothing yet
        await ask(helper)
        begun = rested
        await eventually(lambda: rested > begun + 3)
        assert looks == [1]


async def test_process_that_dies_while_nothing_comes_is_replaced_before_anything_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offload_module, "_LOOK_SECONDS", 0.01)
    spawned: list[Process] = []
    async with running(spawned) as helper:
        await eventually(lambda: len(spawned) == 1)
        spawned[0].is_alive = False
        await eventually(lambda: len(spawned) == 2)
        assert helper.statistics().restarts == 1
        await ask(helper)
    assert [len(process.jobs) for process in spawned] == [0, 1]


async def test_what_is_asked_before_its_start_or_after_its_end_is_refused() -> None:
    spawned: list[Process] = []
    helper = Offload()
    with pytest.raises(Refusal, match="is not running") as refusal:
        await ask(helper)
    assert (refusal.value.status, refusal.value.grpc_code) == (503, 14)
    await helper.stop()  # which waits for no thread that never began
    async with running(spawned) as helper:
        await ask(helper)
    with pytest.raises(Refusal, match="is not running"):
        await ask(helper)
    await helper.stop()
