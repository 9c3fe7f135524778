"""What the offload process does with a job: what it refuses, what it is held to, what it tells.

The limits are the kernel's and would hold the tests to them as well: here they are only noted.
"""

import ctypes
import gc
import mmap
import resource
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from relay.ingest.offload import child as child_module
from relay.ingest.offload.child import (
    EXIT_OUT_OF_MEMORY,
    MEMORY_BYTES,
    MOST_OBJECTS,
    WALL_SECONDS,
    _refuse_objects,
    _resident_bytes,
    _Worker,
    trim,
)
from relay.ingest.offload.process import OffloadDied, OffloadProcess
from relay.ingest.offload.wire import Channel, Done, ItemRejected, Job, Message, PieceMade, Ready
from relay.model.errors import Refusal
from relay.model.records import BodyFlag, Encoding, Sender
from relay.process.prepare import Prepare, Prepared, PrepareSettings
from tests.support import builders

MIB: Final = 1024 * 1024
KEPT: Final = 96 * MIB
GOOD: Final = builders.span()
BAD: Final = builders.span(traceId="00" * 16)
STRICT: Final = PrepareSettings(malformed_ids="reject")


def job(
    settings: PrepareSettings = STRICT,
    *,
    encoding: Encoding = Encoding.JSON,
    memory_bytes: int = 300 * MIB,
) -> Job:
    return Job(int(encoding), True, settings, 1.5, memory_bytes)


def body_of(*spans: builders.Json) -> bytes:
    return builders.to_body(builders.request(*spans))


class Ends:
    """A worker, the other end of its channel, and what happened in between."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.noted: list[tuple[Any, ...]] = []
        self.resident_bytes = [0]
        """At each look; the last stays."""
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.settimeout(30)
        self.channel = Channel(ours)
        worker_channel = Channel(theirs)
        self.worker = _Worker(worker_channel)
        send = worker_channel.send

        def sent(message: Message, raw: bytes = b"") -> None:
            self.noted.append(("sent", type(message)))
            send(message, raw)

        monkeypatch.setattr(worker_channel, "send", sent)
        self._note(monkeypatch, signal, "setitimer")
        self._note(monkeypatch, resource, "setrlimit")
        self._note(monkeypatch, gc, "collect")
        self._note(monkeypatch, child_module, "trim")
        monkeypatch.setattr(resource, "getrlimit", lambda _kind: (MEMORY_BYTES, MEMORY_BYTES))
        monkeypatch.setattr(child_module, "_resident_bytes", self._resident)
        monkeypatch.setattr(time, "process_time", map(float, range(99)).__next__)

    def _note(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        monkeypatch.setattr(module, name, lambda *args: self.noted.append((name, *args)))

    def _resident(self) -> int:
        return self.resident_bytes.pop(0) if len(self.resident_bytes) > 1 else 0

    def serve(self, job: Message, body: bytes = b"") -> tuple[bool, list[tuple[Any, bytes]]]:
        """Whether another job may follow, and all that is answered."""
        self.channel.send(job, body)
        goes_on = self.worker.serve_one()
        said = [self.channel.receive() for each in self.noted if each[0] == "sent"]
        return goes_on, said

    def close(self) -> None:
        self.channel.close()
        self.worker._channel.close()


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Ends(monkeypatch)
    yield made
    made.close()


def test_more_objects_than_memory_is_there_for_are_refused_before_they_are_decoded() -> None:
    _refuse_objects(b"{" * MOST_OBJECTS, Encoding.JSON)
    with pytest.raises(Refusal, match="more memory") as refusal:
        _refuse_objects(b"{" * (MOST_OBJECTS + 1), Encoding.JSON)

    assert (refusal.value.status, refusal.value.grpc_code) == (413, 8)
    with pytest.raises(Refusal, match="most of them must be empty"):
        _refuse_objects(b"\x0a\x00" * 50_000, Encoding.PROTOBUF)


def test_job_is_held_to_what_it_may_take_until_all_but_its_end_is_said(ends: Ends) -> None:
    """The next body has to be received before anything can be said of what it may take."""
    goes_on, _said = ends.serve(job(), body_of(GOOD))

    assert goes_on
    assert ends.noted == [
        ("setitimer", signal.ITIMER_PROF, 1.5),
        ("setitimer", signal.ITIMER_REAL, WALL_SECONDS),
        ("setrlimit", resource.RLIMIT_AS, (300 * MIB, MEMORY_BYTES)),
        ("sent", PieceMade),
        ("collect",),
        ("setitimer", signal.ITIMER_PROF, 0.0),
        ("setitimer", signal.ITIMER_REAL, 0.0),
        ("setrlimit", resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES)),
        ("sent", Done),
    ]


def test_job_is_told_as_it_was_prepared_with_all_that_was_rejected(ends: Ends) -> None:
    body = body_of(GOOD, BAD, GOOD)
    _goes_on, said = ends.serve(job(), body)
    made, rejected, done = (message for message, _raw in said)

    assert made == PieceMade(2, bytes.fromhex(builders.TRACE_ID), ("shop",), BodyFlag.NONE)
    assert isinstance(rejected, ItemRejected)
    assert (rejected.items, rejected.trace_id) == (1, "00" * 16)
    assert (done.items, done.rejected_by_reason) == (2, {rejected.reason: 1})
    assert "1 of 3 spans rejected" in done.message
    assert (done.status, done.is_all_rejected, done.is_last, done.frames) == (0, False, False, "")
    assert done.seconds == 1.0


def test_job_without_a_valid_item_is_told_as_a_refusal_with_what_was_rejected(ends: Ends) -> None:
    goes_on, said = ends.serve(job(), body_of(BAD, BAD))
    *rejected, (done, _raw) = said

    assert goes_on
    assert [type(message) for message, _raw in rejected] == [ItemRejected, ItemRejected]
    assert all(b"00000000" in raw for _message, raw in rejected)
    assert (done.is_all_rejected, done.status, done.grpc_code) == (True, 400, 3)
    assert sum(done.rejected_by_reason.values()) == 2


def test_body_that_cannot_be_read_is_told_as_a_refusal(ends: Ends) -> None:
    goes_on, said = ends.serve(job(), b"[")
    ((done, _raw),) = said

    assert goes_on
    assert (done.is_all_rejected, done.status, done.grpc_code) == (False, 400, 3)


def test_job_is_prepared_under_its_own_settings_which_stay_while_they_are_the_same(
    ends: Ends,
) -> None:
    for team in ("red", "red", "blue"):
        before, ends.noted = ends.worker._prepare, []
        _goes_on, ((_made, raw), _done) = ends.serve(
            job(PrepareSettings(configured={"team": team})), body_of(GOOD)
        )
        assert team.encode() in raw
        is_same = ends.worker._prepare is before
        assert is_same == (before.settings.configured == {"team": team})


def test_process_that_ran_out_of_memory_in_a_job_says_so_and_ends(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Prepare, "__call__", raising(MemoryError()))
    goes_on, said = ends.serve(job(), body_of(GOOD))
    ((done, _raw),) = said

    assert not goes_on
    assert (done.status, done.grpc_code, done.is_last) == (413, 8, True)
    assert "more memory" in done.message
    assert ("trim",) not in ends.noted  # all of it is given back at once


def test_bug_is_told_by_its_name_and_place_and_not_by_its_words(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Prepare, "__call__", raising(KeyError("what somebody sent")))
    goes_on, said = ends.serve(job(), body_of(GOOD))
    ((done, _raw),) = said

    assert goes_on
    assert (done.message, done.status) == ("KeyError", 0)
    assert "in raise_it" in done.frames
    assert "somebody" not in done.frames


def test_daemon_that_has_gone_in_the_middle_of_a_job_is_no_verdict_on_it(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Prepare, "__call__", raising(BrokenPipeError()))
    with pytest.raises(BrokenPipeError):
        ends.serve(job(), body_of(GOOD))


def test_what_has_grown_beyond_the_room_for_it_is_told_in_its_place(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_bytes = sum(len(piece.body) for piece in prepared(body_of(GOOD)).pieces)
    monkeypatch.setattr(child_module, "ANSWER_BYTES", answer_bytes)
    _goes_on, said = ends.serve(job(), body_of(GOOD))
    assert [type(message) for message, _raw in said] == [PieceMade, Done]

    ends.noted = []
    monkeypatch.setattr(child_module, "ANSWER_BYTES", answer_bytes - 1)
    goes_on, ((done, _raw),) = ends.serve(job(), body_of(GOOD))
    assert goes_on
    assert (done.status, done.grpc_code) == (413, 8)
    assert "more space" in done.message


@pytest.mark.parametrize(
    ("resident_bytes", "trims", "is_last"),
    [
        ([KEPT, 0], 0, False),
        ([KEPT + 1, KEPT, 0], 1, False),
        ([KEPT + 1, KEPT + 1, 0], 1, True),
    ],
    ids=["small", "gives back", "cannot"],
)
def test_process_that_stays_large_gives_memory_back_or_ends(
    ends: Ends, resident_bytes: list[int], trims: int, is_last: bool
) -> None:
    ends.resident_bytes = resident_bytes
    goes_on, said = ends.serve(job(), body_of(GOOD))

    assert ends.noted.count(("trim",)) == trims
    assert (said[-1][0].is_last, goes_on) == (is_last, not is_last)


def test_body_is_let_go_before_the_process_is_looked_at(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as what the process holds: every large one would end it."""
    looks: list[bool] = []

    class Body(bytes):
        def __del__(self) -> None:
            looks.append(True)

    class Given:
        def receive(self) -> tuple[Message, bytes]:
            return job(), Body(body_of(GOOD))

        def send(self, message: Message, raw: bytes = b"") -> None:
            pass

    def resident() -> int:
        assert looks == [True]
        return 0

    monkeypatch.setattr(child_module, "_resident_bytes", resident)
    assert _Worker(Given()).serve_one()  # type: ignore[arg-type]
    assert looks == [True]


def test_what_is_no_job_ends_the_process(ends: Ends) -> None:
    assert ends.serve(Ready()) == (False, [])


def test_memory_that_the_process_holds_is_what_the_host_misses() -> None:
    before = _resident_bytes()
    with mmap.mmap(-1, 64 * MIB) as fresh:  # not what some test has freed and the process kept
        fresh.write(b"x" * len(fresh))
        assert 60 * MIB < _resident_bytes() - before < 160 * MIB


def test_allocator_is_asked_for_all_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=asked.append))
    trim()
    assert asked == [0]
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    trim()  # musl has none


def test_process_that_has_no_memory_for_a_body_ends_with_that_word() -> None:
    made = OffloadProcess()
    made.wait_ready()
    pages = int(Path(f"/proc/{made.pid}/statm").read_text().split()[0])
    most_bytes = pages * resource.getpagesize() + 32 * MIB
    resource.prlimit(made.pid, resource.RLIMIT_AS, (most_bytes, MEMORY_BYTES))
    with pytest.raises(OffloadDied) as death:
        made.ask(job(), bytes(64 * MIB))

    assert death.value.returncode == EXIT_OUT_OF_MEMORY


def raising(error: Exception) -> Any:
    def raise_it(*_args: Any, **_options: Any) -> None:
        raise error

    return raise_it


def prepared(body: bytes) -> Prepared:
    return Prepare(STRICT)(body, Encoding.JSON, Sender("", is_local=True))
