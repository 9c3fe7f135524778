"""The offload process as the event loop has it, over one that is not there: what each job may
take, and what is done while nothing comes.
"""

import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from relay.ingest.offload import offload as offload_module
from relay.ingest.offload.offload import Offload
from relay.ingest.offload.process import OffloadDied, OffloadFailed
from relay.ingest.offload.wire import Job
from relay.model.errors import Refusal
from relay.model.records import Encoding, Sender
from relay.process.prepare import Prepared, PrepareSettings
from tests.unit.buffer.making import eventually

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024
NOTHING: Any = object()


class Process:
    """Remembers what it was asked, and answers at once, or when it `goes`.

    It answers with what is next in `results`, which all processes share: an error is raised.
    """

    pid = 7
    seconds = 0.0

    def __init__(self, results: list[Exception] | None = None) -> None:
        self.jobs: list[Job] = []
        self.is_alive = True
        self.was_killed = self.is_spent = False
        self.begun, self.goes = threading.Event(), threading.Event()
        self.goes.set()
        self._results = [] if results is None else results

    def wait_ready(self) -> None:
        pass

    def ask(self, job: Job, _body: bytes) -> Prepared:
        self.jobs.append(job)
        self.begun.set()
        assert self.goes.wait(30)
        if self.was_killed:
            raise OffloadDied(-signal.SIGKILL)
        if self._results:
            raise self._results.pop(0)
        self.is_alive = not self.is_spent
        return NOTHING  # type: ignore[no-any-return]

    def resident_bytes(self) -> int:
        return 11

    def close(self) -> int:
        self.is_alive = False
        return 0

    def kill(self) -> None:
        self.was_killed = True
        self.goes.set()


@asynccontextmanager
async def running(
    spawned: list[Process], results: list[Exception] | None = None, **settings: Any
) -> AsyncIterator[Offload]:
    def spawn() -> Any:
        spawned.append(Process(results))
        return spawned[-1]

    helper = Offload(spawn=spawn, **settings)
    helper.start()
    try:
        yield helper
    finally:
        await helper.stop()


@asynccontextmanager
async def holding(spawned: list[Process]) -> AsyncIterator[tuple[Offload, Process]]:
    """One that is at a job of three bytes, which ends when the process `goes`."""
    async with running(spawned) as helper, anyio.create_task_group() as tasks:
        await eventually(lambda: helper.statistics().pid == Process.pid)
        (process,) = spawned
        process.goes.clear()
        tasks.start_soon(ask, helper, 3)
        await eventually(process.begun.is_set)
        try:
            yield helper, process
        finally:
            process.goes.set()


async def refused(helper: Offload, words: str) -> None:
    with pytest.raises(Refusal, match=words) as refusal:
        await ask(helper)
    assert (refusal.value.status, refusal.value.grpc_code) == (503, 14)


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


@pytest.mark.parametrize(
    ("results", "status", "words", "failures"),
    [
        ([OffloadDied(-signal.SIGPROF)], 413, "more time", {"died": 1, "too_much": 1}),
        ([OffloadDied(-signal.SIGALRM)], 503, "enough of a processor; retry", {"died": 1}),
        ([OffloadDied(-signal.SIGSEGV)], 413, "more memory", {"died": 1, "too_much": 1}),
        ([OffloadDied(-signal.SIGKILL)] * 2, 503, "killed twice", {"died": 2}),
        ([Refusal("over the limit", status=413, grpc_code=8)], 413, "limit", {"too_much": 1}),
        ([Refusal("not JSON", status=400, grpc_code=3)], 400, "not JSON", {}),
    ],
)
async def test_job_that_fails_is_refused_and_counted_by_its_reason(
    results: list[Exception], status: int, words: str, failures: dict[str, int]
) -> None:
    deaths = failures.get("died", 0)
    spawned: list[Process] = []
    async with running(spawned, list(results)) as helper:
        with pytest.raises(Refusal, match=words) as refusal:
            await ask(helper)
        await ask(helper)  # the next one passes
        found = helper.statistics()

    grpc_code = {413: 8, 503: 14, 400: 3}[status]
    assert (refusal.value.status, refusal.value.grpc_code) == (status, grpc_code)
    assert found.failures == failures
    assert (found.jobs, found.restarts, found.waiting) == (2, deaths, 0)


async def test_job_whose_process_was_killed_once_is_done_by_the_next() -> None:
    spawned: list[Process] = []
    async with running(spawned, [OffloadDied(-signal.SIGKILL)]) as helper:
        await ask(helper)
        found = helper.statistics()

    assert [len(process.jobs) for process in spawned] == [1, 1]
    assert (found.jobs, found.restarts, found.failures) == (1, 1, {"died": 1})


async def test_bug_in_the_process_is_counted_as_one() -> None:
    spawned: list[Process] = []
    async with running(spawned, [OffloadFailed("KeyError", "where")]) as helper:
        with pytest.raises(RuntimeError, match="met a bug"):
            await ask(helper)
        await ask(helper)
        assert helper.statistics().failures == {"bug": 1}
    assert len(spawned) == 1


@pytest.mark.parametrize("error", [OSError("no room"), OffloadDied(1)])
async def test_where_no_process_starts_each_job_is_refused(error: Exception) -> None:
    class Stillborn(Process):
        def wait_ready(self) -> None:
            raise error

    helper = Offload(spawn=Stillborn)  # type: ignore[arg-type]
    helper.start()
    try:
        for _ in range(2):
            await refused(helper, "cannot be started; retry")
        found = helper.statistics()
    finally:
        await helper.stop()
    assert (found.pid, found.resident_bytes, found.restarts) == (0, 0, 0)
    assert found.failures == {"not_started": 2}


async def test_what_waits_is_counted_with_its_bytes_until_it_is_answered() -> None:
    async with holding([]) as (helper, process), anyio.create_task_group() as tasks:
        tasks.start_soon(ask, helper, 5)
        await eventually(lambda: helper.statistics().waiting == 2)
        found = helper.statistics()
        assert (found.waiting_bytes, found.jobs, found.restarts) == (8, 0, 0)
        assert (found.pid, found.resident_bytes) == (Process.pid, process.resident_bytes())
        process.goes.set()
        await eventually(lambda: helper.statistics().waiting == 0)
        found = helper.statistics()
        assert (found.waiting_bytes, found.jobs, found.failures) == (0, 2, {})


async def test_what_would_wait_too_long_or_has_is_refused_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with holding([]) as (helper, process), anyio.create_task_group() as tasks:
        tasks.start_soon(refused, helper, "is overloaded; retry")
        await eventually(lambda: helper.statistics().waiting == 2)
        monkeypatch.setattr(helper, "_patience_seconds", 0.0)
        await refused(helper, "is overloaded; retry")
        assert helper.statistics().failures == {"busy": 1}
        process.goes.set()
        await eventually(lambda: helper.statistics().waiting == 0)
        assert helper.statistics().failures == {"busy": 2}
        assert len(process.jobs) == helper.statistics().jobs == 1


async def test_job_that_nobody_waits_for_any_more_is_not_begun() -> None:
    async with holding([]) as (helper, process), anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as gone:
            gone.start_soon(ask, helper, 5)
            await eventually(lambda: helper.statistics().waiting == 2)
            gone.cancel_scope.cancel()
        assert (helper.statistics().waiting, helper.statistics().waiting_bytes) == (1, 3)
        tasks.start_soon(ask, helper, 7)
        process.goes.set()
        await eventually(lambda: helper.statistics().jobs == 2)
        assert len(process.jobs) == 2


async def test_stop_kills_a_process_that_is_at_a_job_and_refuses_all() -> None:
    spawned: list[Process] = []
    async with running(spawned) as helper, anyio.create_task_group() as tasks:
        await eventually(lambda: helper.statistics().pid == Process.pid)
        spawned[0].goes.clear()
        for _ in range(3):
            tasks.start_soon(refused, helper, "is stopping; retry")
        await eventually(lambda: helper.statistics().waiting == 3)
        await eventually(spawned[0].begun.is_set)
        await helper.stop()
    (process,) = spawned
    assert (process.was_killed, len(process.jobs)) == (True, 1)
    assert helper.statistics().failures == {}


async def test_stop_lets_an_idle_process_end_by_itself() -> None:
    spawned: list[Process] = []
    async with running(spawned) as helper:
        await ask(helper)
    (process,) = spawned
    assert (process.is_alive, process.was_killed) == (False, False)
    assert helper.statistics().pid == 0


@pytest.mark.timeout(60)
async def test_nobody_waits_for_the_next_look_at_an_idle_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job is begun, a process that is spent replaced and a stop heeded at once."""
    monkeypatch.setattr(offload_module, "_LOOK_SECONDS", 3600.0)
    rests: list[int] = []
    spawned: list[Process] = []
    async with running(spawned) as helper:
        monkeypatch.setattr(helper, "_rest", lambda: rests.append(1))
        await ask(helper)
        spawned[0].is_spent = True
        await ask(helper)
        await eventually(lambda: len(spawned) == 2)
    assert rests == []


async def test_stop_that_is_cancelled_has_ended_the_thread_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spawned: list[Process] = []
    may_close = threading.Event()

    async def let_go() -> None:
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
        may_close.set()

    async with running(spawned) as helper, anyio.create_task_group() as tasks:
        await ask(helper)
        (process,) = spawned
        usual = process.close
        monkeypatch.setattr(process, "close", lambda: may_close.wait(30) and usual())
        tasks.start_soon(let_go)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await helper.stop()
        assert not process.is_alive


async def test_what_takes_just_as_long_as_anybody_waits_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with holding([]) as (helper, process), anyio.create_task_group() as tasks:
        monkeypatch.setattr(helper, "_patience_seconds", 4 / 16 / MIB)  # it and the three bytes
        tasks.start_soon(refused, helper, "is overloaded; retry")
        await eventually(lambda: helper.statistics().waiting == 2)
        assert helper.statistics().failures == {}  # it is refused when its turn comes
        process.goes.set()


async def test_body_that_was_refused_is_let_go_while_the_refusal_is_told() -> None:
    freed: list[bool] = []

    class Body(bytes):
        def __del__(self) -> None:
            freed.append(True)

    async with running([], [Refusal("over the limit", status=413, grpc_code=8)]) as helper:
        sender = Sender("127.0.0.1", is_local=True)
        with pytest.raises(Refusal) as refusal:
            await helper.prepare(PrepareSettings(), Body(b"x"), Encoding.JSON, sender)
        await eventually(lambda: bool(freed))
        assert refusal.value.message == "over the limit"


async def test_what_a_sender_has_had_done_does_not_count_against_its_next_job() -> None:
    async with running([]) as helper:
        for _ in range(17):  # 136 MiB, for which nobody would wait
            await ask(helper, 8 * MIB)
        assert helper.statistics().failures == {}


def test_program_that_ends_without_a_stop_does_not_wait_for_the_thread() -> None:
    code = (
        "import asyncio\nfrom relay.ingest.offload.offload import Offload\n"
        "def spawn(): raise OSError('no room')\n"
        "async def main(): Offload(spawn=spawn).start()\nasyncio.run(main())"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
