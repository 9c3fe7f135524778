"""A job in, what the offload process made of it out: the process as its parent has it.

Everything here blocks; it is called in the thread of `offload.Offload`.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

from relay.ingest.offload.wire import Channel, Done, ItemRejected, Job, Message, PieceMade, Ready
from relay.model.errors import Refusal
from relay.model.records import BodyFlag, Encoding, Piece, RejectedItem, Signal
from relay.otlp import native
from relay.process.check.rejections import AllItemsRejected
from relay.process.prepare import Prepared

_END_SECONDS: Final = 2.0
# Behind the alarm in the process itself: for one that is stopped or in uninterruptible sleep.
_SILENCE_SECONDS: Final = 15
_TIMEVAL: Final = struct.Struct("ll")


class OffloadDied(Exception):
    """The process ended in the middle of a job, or before it could take one."""

    def __init__(self, returncode: int) -> None:
        super().__init__(f"the offload process ended with {returncode}")
        self.returncode = returncode

    @property
    def is_overdue(self) -> bool:
        """It used more of a processor than it was given."""
        return self.returncode == -signal.SIGPROF

    @property
    def is_starved(self) -> bool:
        """It did not come to an end in time, since others used the processor."""
        return self.returncode == -signal.SIGALRM

    @property
    def is_from_outside(self) -> bool:
        """Somebody else ended it: the kernel, short of memory, or a person."""
        return self.returncode == -signal.SIGKILL


class OffloadFailed(Exception):
    """There is a bug: the process met an exception that nobody expected. `frames` tell where."""

    def __init__(self, name: str, frames: str) -> None:
        super().__init__(name)
        self.frames = frames


class OffloadProcess:
    """A process that was just spawned. Raises OSError when the host has no room for one."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "relay.ingest.offload"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    cwd="/",
                    env=_environment(),
                    close_fds=True,  # no listener, no lock: they would outlive the daemon
                    start_new_session=True,  # Ctrl-C is for the daemon
                )
        except BaseException:
            ours.close()
            raise
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(_SILENCE_SECONDS, 0))
        self._channel = Channel(ours)
        self.is_spent = False
        """It ends by itself after the job that it has answered."""
        self.seconds = 0.0
        """Of a processor that the latest job took; all that it was allowed, if it did not end."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can still be asked."""
        return not self.is_spent and self._process.poll() is None

    def resident_bytes(self) -> int:
        """Memory that it holds now; 0 when it is gone."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def wait_ready(self) -> None:
        """Return once it has loaded what it needs, after some 0.2 s. Raises OffloadDied."""
        try:
            message: Message | None = self._channel.receive()[0]
        except (EOFError, OSError):
            message = None
        if not isinstance(message, Ready):
            raise OffloadDied(self.close())

    def ask(self, job: Job, body: bytes) -> Prepared:
        """Have one body prepared; `seconds` tells how long that took.

        Raises what `prepare` raises, OffloadDied, and OffloadFailed for a bug.
        """
        self.seconds = job.seconds
        try:
            self._channel.send(job, body)
            return self._receive_prepared(Encoding(job.encoding), Signal(job.signal))
        except (EOFError, OSError):
            raise OffloadDied(self.close()) from None

    def kill(self) -> None:
        """End it at once, whatever it does. May be called in any thread."""
        self._process.kill()

    def close(self) -> int:
        """Let it end, and wait for that: its exit code, below 0 the signal that ended it."""
        self._channel.close()
        try:
            return self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _receive_prepared(self, encoding: Encoding, signal: Signal) -> Prepared:
        pieces: list[Piece] = []
        rejected: list[RejectedItem] = []
        while True:
            match self._channel.receive():
                case PieceMade(items, trace_ids, services, flags), body:
                    flag = BodyFlag(flags)
                    pieces.append(Piece(encoding, body, items, trace_ids, services, flag, signal))
                case ItemRejected(reason, path, trace_id, items), body:
                    rejected.append(
                        RejectedItem(reason, path, trace_id, encoding, body, items, signal)
                    )
                case Done() as done, _:
                    self.is_spent = done.is_last
                    self.seconds = done.seconds
                    return _result(done, tuple(pieces), tuple(rejected))
                case _:
                    raise EOFError("the offload process says something else")


def _result(done: Done, pieces: tuple[Piece, ...], rejected: tuple[RejectedItem, ...]) -> Prepared:
    if done.frames:
        raise OffloadFailed(done.message, done.frames)
    if done.is_all_rejected:
        raise AllItemsRejected(done.message, rejected, done.rejected_by_reason)
    if done.status:
        raise Refusal(done.message, status=done.status, grpc_code=done.grpc_code)
    return Prepared(
        pieces, done.items, rejected, done.rejected_by_reason, done.warnings, done.message
    )


def _environment() -> dict[str, str]:
    """What the process is to know: where its modules are, which of them to leave, and no secret."""
    environ = {"PYTHONPATH": os.pathsep.join(str(Path(each).absolute()) for each in sys.path)}
    if native.SWITCH in os.environ:
        environ[native.SWITCH] = os.environ[native.SWITCH]
    return environ
