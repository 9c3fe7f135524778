"""Jobs from the daemon in, prepared requests out: what runs in the offload process.

It is meant to die: of too much memory (RLIMIT_AS), of too much time of a processor (an alarm that
the kernel sends, whatever the decoders do), or as the first victim when the host runs out of
memory. Signals that stop a service are ignored, since they reach the whole group: it ends when the
daemon has what it asked for and closes the socket.
"""

import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import time
import traceback
from pathlib import Path
from typing import Final

from relay.ingest.offload.wire import Channel, Done, ItemRejected, Job, PieceMade, Ready
from relay.model.errors import Refusal
from relay.model.records import Encoding, RejectedItem, Sender, Signal
from relay.process.check.rejections import AllItemsRejected
from relay.process.check.weight import refuse_empty_fields
from relay.process.prepare import Prepare, Prepared, PrepareSettings

WALL_SECONDS: Final = 10.0  # a sender has given up by then, whoever used the processor
MEMORY_BYTES: Final = 1024 * 1024 * 1024
# Attributes that are added to each resource may make many times of a body of tiny ones.
ANSWER_BYTES: Final = 128 * 1024 * 1024
# JSON objects: a request of usual spans has 30,000 a megabyte.
MOST_OBJECTS: Final = 8_000_000
EXIT_OUT_OF_MEMORY: Final = 3
_NICENESS: Final = 5
_OOM_SCORE: Final = "500"
_KEPT_BYTES: Final = 96 * 1024 * 1024  # a process that holds more than this after a job ends

TOO_MUCH: Final = (
    "decoding the body needs more {what} than this relay allows; send less at a time"
    " (OTEL_BSP_MAX_EXPORT_BATCH_SIZE, or send_batch_max_size in a Collector)"
)


def main() -> int:
    """Answer jobs from the socket that is standard input until it closes; the exit code."""
    _be_modest()
    channel = Channel(socket.socket(fileno=os.dup(0)))
    worker = _Worker(channel)
    gc.freeze()
    gc.disable()  # decoded spans are trees: looking for cycles among millions finds nothing
    try:
        channel.send(Ready())
        while worker.serve_one():
            pass
    except (EOFError, OSError):
        return 0  # the daemon is gone, or done
    except MemoryError:
        return EXIT_OUT_OF_MEMORY
    return 0


def _be_modest() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = min((each for each in (soft, hard, MEMORY_BYTES) if each >= 0), default=MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def _allow_memory(memory_bytes: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (min(memory_bytes, hard), hard))


class _Worker:
    """Prepares one body at a time; `Prepare` stays while its settings do."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._prepare = Prepare(PrepareSettings())

    def serve_one(self) -> bool:
        """Take a job and answer it; whether there may be another."""
        message, body = self._channel.receive()
        if not isinstance(message, Job):
            return False
        self._limit(message)
        began = time.process_time()
        done = self._answer(message, body)
        del body
        gc.collect()
        if not done.is_last and _resident_bytes() > _KEPT_BYTES:
            trim()  # a new process would cost ten times as much
            done.is_last = _resident_bytes() > _KEPT_BYTES
        done.seconds = time.process_time() - began
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0.0)
        _allow_memory(MEMORY_BYTES)  # the next body has to be received
        self._channel.send(done)
        return not done.is_last

    def _limit(self, job: Job) -> None:
        """Have the kernel hold the job to what it may take."""
        signal.setitimer(signal.ITIMER_PROF, job.seconds)
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
        _allow_memory(job.memory_bytes)

    def _answer(self, job: Job, body: bytes) -> Done:
        """Send all that is to be kept; what is to be said at the end."""
        if job.settings != self._prepare.settings:
            self._prepare = Prepare(job.settings)
        try:
            encoding = Encoding(job.encoding)
            _refuse_objects(body, encoding)
            sender = Sender("", is_local=job.is_local)
            signal = Signal(job.signal)
            return self._send(self._prepare(body, encoding, sender, signal=signal))
        except AllItemsRejected as refusal:
            self._send_rejected(refusal.rejected)
            return Done(
                refusal.message,
                rejected_by_reason=dict(refusal.counts),
                status=refusal.status,
                grpc_code=refusal.grpc_code,
                is_all_rejected=True,
            )
        except Refusal as refusal:
            return Done(refusal.message, status=refusal.status, grpc_code=refusal.grpc_code)
        except MemoryError:
            return Done(TOO_MUCH.format(what="memory"), status=413, grpc_code=8, is_last=True)
        except (EOFError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - told to the daemon, which logs it
            frames = "".join(traceback.format_tb(error.__traceback__))
            return Done(type(error).__name__, frames=frames)

    def _send(self, prepared: Prepared) -> Done:
        answer_bytes = sum(len(piece.body) for piece in prepared.pieces)
        if answer_bytes > ANSWER_BYTES:
            return Done(TOO_MUCH.format(what="space"), status=413, grpc_code=8)
        for piece in prepared.pieces:
            made = PieceMade(piece.items, piece.trace_ids, piece.services, int(piece.flags))
            self._channel.send(made, piece.body)
        self._send_rejected(prepared.rejected)
        return Done(
            prepared.message,
            prepared.items,
            dict(prepared.rejected_by_reason),
            dict(prepared.warnings),
        )

    def _send_rejected(self, rejected: tuple[RejectedItem, ...]) -> None:
        for each in rejected:
            told = ItemRejected(each.reason, each.path, each.trace_id, each.items)
            self._channel.send(told, each.body)


def _refuse_objects(body: bytes, encoding: Encoding) -> None:
    """Refuse at once what would only be found out after seconds, with no memory left."""
    if encoding is Encoding.PROTOBUF:
        refuse_empty_fields(body)
    elif body.count(b"{") > MOST_OBJECTS:
        raise Refusal(TOO_MUCH.format(what="memory"), status=413, grpc_code=8)


def trim() -> None:
    """Let the allocator give free memory back to the host: pieces of large bodies leave gaps."""
    with contextlib.suppress(AttributeError, OSError):  # musl has none and needs none
        ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
