"""Bodies in, prepared requests or refusals out: the offload process as the event loop has it.

One thread asks one process, one job at a time; `job_queue` says whose is next. What waits is
bounded by `ingest.max_in_flight` and by patience, since a sender that has given up after ten
seconds sends the same again.

A job may take time and memory by its size. One that goes over, or that makes the process crash, is
refused with 413 and not tried again. A process that was killed is not always the job's fault: the
kernel may have shot it for somebody else's memory. So such a job is tried once more, with a new
process, and answered 503 when that is killed too.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import anyio
import anyio.to_thread
import structlog

from relay.ingest.offload.child import TOO_MUCH, trim
from relay.ingest.offload.job_queue import JobQueue
from relay.ingest.offload.process import OffloadDied, OffloadFailed, OffloadProcess
from relay.ingest.offload.wire import Job
from relay.model.errors import Refusal
from relay.model.records import Encoding, Sender, Signal
from relay.process.prepare import Prepared, PrepareSettings

log = structlog.stdlib.get_logger(__name__)

JOB_SECONDS: Final = 10.0  # of a processor, whatever the size
PATIENCE_SECONDS: Final = 8.0
_MIB: Final = 1024 * 1024
# What a job may take of a processor; usual spans take 0.01 to 0.1 s a MiB.
_LEAST_SECONDS: Final = 1.0
_SECONDS_A_MIB: Final = 0.3
# The process itself, and what is made of a body: usual spans take ten times as much in JSON,
# fifteen times in protobuf.
_LEAST_MEMORY_BYTES: Final = 256 * _MIB
_MEMORY_FACTOR: Final = 16
_LOOK_SECONDS: Final = 2.0  # how often an idle process is looked at


@dataclass(frozen=True, slots=True)
class OffloadStatistics:
    """The process that decodes large bodies, and its work. `pid` is 0 when there is none."""

    pid: int = 0
    resident_bytes: int = 0
    waiting: int = 0  # jobs not answered yet, the one in hand too
    waiting_bytes: int = 0
    jobs: int = 0
    restarts: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)  # by reason


@dataclass(eq=False, slots=True)
class _Waiting:
    """A job, its body, and who waits for it. `body` is let go once it has been answered."""

    job: Job
    body: bytes
    answer: "asyncio.Future[Prepared]"
    sender: str
    size: int
    since: float = field(default_factory=time.monotonic)


class Offload:
    """The face of the offload process. `start` it, and `stop` it in any case.

    `spawn` makes a process; everything but its thread belongs to one event loop.
    """

    def __init__(
        self,
        *,
        spawn: Callable[[], OffloadProcess] = OffloadProcess,
        job_seconds: float = JOB_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._spawn = spawn
        self._job_seconds = job_seconds
        self._patience_seconds = patience_seconds
        self._queue: JobQueue[_Waiting] = JobQueue()
        self._changed = threading.Condition()  # of the queue, and whether it is to stop
        self._thread = threading.Thread(target=self._run, name="offload", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process: OffloadProcess | None = None
        self._is_stopping = False
        self._waiting = 0
        self._waiting_bytes = 0
        self._jobs = 0
        self._has_worked = False
        self._seconds = 0.0  # of a processor, that the latest job took
        self._spawned = 0
        self._failures: Counter[str] = Counter()

    def start(self) -> None:
        """Begin, with a process that gets warm meanwhile."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def prepare(
        self,
        settings: PrepareSettings,
        body: bytes,
        encoding: Encoding,
        sender: Sender,
        signal: Signal = Signal.TRACES,
    ) -> Prepared:
        """Have a body prepared under `settings`.

        Raises Refusal: what `Prepare` raises, 413 when it needs more memory or time than
        there is, 503 when too much of this sender waits already. Raises RuntimeError for a bug.
        """
        if self._is_stopping or self._loop is None:
            raise _busy("is not running")
        size = len(body)
        job = Job(
            encoding=int(encoding),
            signal=int(signal),
            is_local=sender.is_local,
            settings=settings,
            seconds=min(_LEAST_SECONDS + _SECONDS_A_MIB * size / _MIB, self._job_seconds),
            memory_bytes=_LEAST_MEMORY_BYTES + _MEMORY_FACTOR * size,
        )
        waiting = _Waiting(job, body, self._loop.create_future(), sender.account, size)
        with self._changed:
            if self._queue.expected_seconds(waiting.sender, size) > self._patience_seconds:
                self._failures["busy"] += 1
                raise _busy("is overloaded")
            self._queue.put(waiting, time.monotonic())
            self._changed.notify()
        self._waiting += 1
        self._waiting_bytes += size
        try:
            return await waiting.answer
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size
            # A refusal leads to this frame, this frame to the future, and that to the refusal: in
            # such a ring the body would stay until the collector comes by.
            del waiting, body

    async def stop(self) -> None:
        """End the process and the thread; what still waits is refused with 503. Safe twice."""
        self._is_stopping = True
        if self._thread.ident is None:
            return
        with self._changed:
            self._changed.notify()
        process = self._process
        if self._waiting and process is not None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._thread.join)

    def statistics(self) -> OffloadStatistics:
        """The process and its work at this moment."""
        process = self._process
        return OffloadStatistics(
            pid=process.pid if process else 0,
            resident_bytes=process.resident_bytes() if process else 0,
            waiting=self._waiting,
            waiting_bytes=self._waiting_bytes,
            jobs=self._jobs,
            restarts=max(0, self._spawned - 1),
            failures=dict(self._failures),
        )

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        self._warm()
        while not self._is_stopping:
            waiting = self._next()
            if waiting is not None:
                self._serve(waiting)
                waiting = None  # its body would otherwise stay until the next one comes
                self._warm()
        self._drop()
        with self._changed:
            left = self._queue.take_all()
        for waiting in left:
            self._tell(waiting, _busy("is stopping"))

    def _next(self) -> _Waiting | None:
        """The job that is next; None after a while, or when it is time to stop."""
        until = time.monotonic() + _LOOK_SECONDS
        with self._changed:
            while not self._is_stopping:
                now = time.monotonic()
                waiting, ready_at = self._queue.next(now)
                if waiting is not None:
                    return waiting
                if ready_at is None and now >= until:
                    break
                self._changed.wait((until if ready_at is None else ready_at) - now)
        if not self._is_stopping:
            self._rest()
        return None

    def _serve(self, waiting: _Waiting) -> None:
        """Answer one job, whatever happens."""
        began = time.monotonic()
        seconds = 0.0
        if waiting.answer.cancelled():
            pass
        elif began - waiting.since > self._patience_seconds:
            self._failures["busy"] += 1
            self._tell(waiting, _busy("is overloaded"))
        else:
            result = self._result(waiting)
            seconds = self._seconds
            self._jobs += 1
            self._has_worked = True
            self._tell(waiting, result)
        with self._changed:
            self._queue.done(waiting, seconds, time.monotonic())

    def _result(self, waiting: _Waiting) -> Prepared | Exception:
        try:
            return self._try_twice(waiting)
        except OffloadFailed as bug:
            self._failures["bug"] += 1
            log.error("helper_failed", error=str(bug), frames=bug.frames)  # noqa: TRY400 - its own
            return RuntimeError("the offload process met a bug")
        except Exception as error:  # noqa: BLE001 - a refusal, or a bug that one request must bear
            if isinstance(error, Refusal) and error.status == 413:
                self._failures["too_much"] += 1
            return error.with_traceback(None)  # it would hold the body

    def _try_twice(self, waiting: _Waiting) -> Prepared:
        is_second = False
        while True:
            try:
                return self._ask(waiting)
            except OffloadDied as death:
                log.warning("helper_died", returncode=death.returncode, bytes=len(waiting.body))
                if self._is_stopping:
                    raise _busy("is stopping") from None
                self._failures["died"] += 1
                if death.is_overdue:
                    raise _too_much("time") from None
                if death.is_starved:
                    raise _busy("did not get enough of a processor") from None
                if not death.is_from_outside:
                    raise _too_much("memory") from None
                if is_second:
                    raise _busy("was killed twice") from None
                is_second = True

    def _ask(self, waiting: _Waiting) -> Prepared:
        process = self._warm()
        if process is None:
            self._seconds = 0.0
            self._failures["not_started"] += 1
            raise _busy("cannot be started")
        try:
            return process.ask(waiting.job, waiting.body)
        except OffloadDied:
            self._process = None
            raise
        finally:
            self._seconds = process.seconds

    def _rest(self) -> None:
        """Nothing has come for a while: give memory back, and see that the process is there."""
        if self._has_worked:
            self._has_worked = False
            trim()
        if self._process is not None:  # else none could be spawned: not every two seconds again
            self._warm()

    def _warm(self) -> OffloadProcess | None:
        """A process that can be asked; None when none can be spawned, which is logged."""
        if self._process is not None and not self._process.is_alive:
            self._drop()
        if self._process is None and not self._is_stopping:
            try:
                self._process = self._spawn()
                self._process.wait_ready()
            except (OSError, OffloadDied) as error:
                self._process = None
                log.error("helper_not_started", reason=str(error))  # noqa: TRY400 - it is the host
                return None
            self._spawned += 1
        return self._process

    def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def _tell(self, waiting: _Waiting, result: Prepared | Exception) -> None:
        answer = waiting.answer
        waiting.body = b""

        def settle() -> None:
            if answer.done():
                return
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        with suppress(RuntimeError):  # the loop has ended, and whoever waited with it
            answer.get_loop().call_soon_threadsafe(settle)


def _busy(why: str) -> Refusal:
    return Refusal(f"the process that decodes large bodies {why}; retry", status=503, grpc_code=14)


def _too_much(what: str) -> Refusal:
    return Refusal(TOO_MUCH.format(what=what), status=413, grpc_code=8)
