"""A real offload process as its parent has it: what it inherits, what is told of its end."""

import gc
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.ingest.offload.process import OffloadDied, OffloadFailed, OffloadProcess
from relay.ingest.offload.wire import Job
from relay.model.errors import Refusal
from relay.model.records import Encoding
from relay.process.prepare import PrepareSettings
from tests.support import builders
from tests.support.child_code import run_before_checks
from tests.support.relay_process import eventually

MIB = 1024 * 1024
BODY = builders.to_body(builders.request(builders.span()))


@pytest.fixture
def process() -> Iterator[OffloadProcess]:
    made = spawned()
    yield made
    made.close()


def spawned() -> OffloadProcess:
    made = OffloadProcess()
    made.wait_ready()
    return made


def job() -> Job:
    return Job(int(Encoding.JSON), True, PrepareSettings(), 10.0, 300 * MIB)


def status_of(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def has(mask: str, number: int) -> bool:
    return bool(int(mask, 16) >> (number - 1) & 1)


def open_files() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


def environ_of(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def test_process_heeds_its_alarms_and_no_signal_that_ends_a_service() -> None:
    """Whoever started the daemon may have had all of these ignored, which a child inherits."""
    before = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    try:
        made = spawned()
    finally:
        signal.signal(signal.SIGPROF, before)
    try:
        ignored = status_of(made.pid, "SigIgn")
        assert resource.prlimit(made.pid, resource.RLIMIT_CORE) == (0, 0)
    finally:
        made.close()

    assert all(has(ignored, each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    assert not any(has(ignored, each) for each in (signal.SIGPROF, signal.SIGALRM))


def test_what_is_decoded_is_not_looked_through_for_garbage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = "raise Refusal(f'{gc.isenabled()} {gc.get_freeze_count() > 10_000}')"
    run_before_checks(monkeypatch, tmp_path, line)
    monkeypatch.setenv("RELAY_PURE", "1")
    made = spawned()
    try:
        with pytest.raises(Refusal, match="False True"):
            made.ask(job(), BODY)
    finally:
        made.close()


@pytest.mark.parametrize("value", [None, "1"])
def test_process_is_told_where_its_modules_are_and_which_to_leave_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hush")
    monkeypatch.delenv("RELAY_PURE", raising=False)
    if value is not None:
        monkeypatch.setenv("RELAY_PURE", value)
    made = spawned()
    try:
        environ = environ_of(made.pid)
    finally:
        made.close()

    assert environ.pop("PYTHONPATH").startswith("/")
    assert environ.pop("RELAY_PURE", None) == value
    assert environ == {}


def test_process_tells_what_it_holds_until_it_is_gone(process: OffloadProcess) -> None:
    held = int(status_of(process.pid, "VmRSS")) * 1024
    assert abs(process.resident_bytes() - held) < MIB
    assert process.close() == 0
    assert process.resident_bytes() == 0


def test_process_is_alive_until_it_has_ended_or_is_going_to(process: OffloadProcess) -> None:
    def told() -> bool:
        return process.is_alive

    assert told()
    process.is_spent = True
    assert not told()
    process.is_spent = False
    process.kill()
    eventually(lambda: not told())


def test_process_is_not_asked_again_after_a_job_that_was_its_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_before_checks(monkeypatch, tmp_path, "if b'too much' in body: raise MemoryError")
    monkeypatch.setenv("RELAY_PURE", "1")
    made = spawned()
    try:
        made.ask(job(), BODY)
        assert (made.is_spent, 0.0 <= made.seconds < 10.0) == (False, True)
        with pytest.raises(Refusal, match="more memory"):
            made.ask(job(), builders.to_body(builders.request(builders.span(name="too much"))))
    finally:
        returncode = made.close()
    assert (made.is_spent, returncode) == (True, 0)


def test_job_in_whose_middle_the_process_dies_has_used_all_that_it_was_allowed(
    process: OffloadProcess,
) -> None:
    os.kill(process.pid, signal.SIGSEGV)
    with pytest.raises(OffloadDied) as death:
        process.ask(job(), BODY)

    assert process.seconds == 10.0
    assert death.value.returncode == -signal.SIGSEGV


def test_nothing_stays_open_of_a_process_that_cannot_be_spawned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_room(*_args: Any, **_options: Any) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", no_room)
    gc.collect()  # else what earlier tests have left may close between
    before = open_files()
    with pytest.raises(BlockingIOError) as caught:
        OffloadProcess()
    assert open_files() == before
    del caught


@pytest.mark.parametrize(
    ("number", "is_overdue", "is_starved", "is_from_outside"),
    [
        (signal.SIGPROF, True, False, False),
        (signal.SIGALRM, False, True, False),
        (signal.SIGKILL, False, False, True),
        (signal.SIGSEGV, False, False, False),
    ],
)
def test_death_tells_whose_fault_it_was(
    number: int, is_overdue: bool, is_starved: bool, is_from_outside: bool
) -> None:
    death = OffloadDied(-number)

    assert (death.is_overdue, death.is_starved) == (is_overdue, is_starved)
    assert death.is_from_outside == is_from_outside
    assert str(death) == f"the offload process ended with {-number}"


def test_bug_tells_its_name_and_its_place_apart() -> None:
    bug = OffloadFailed("KeyError", "frames")
    assert (str(bug), bug.frames) == ("KeyError", "frames")
