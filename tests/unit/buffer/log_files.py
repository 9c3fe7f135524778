"""The engine's file alone for tests, without a thread or an event loop: opened, filled, moved."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.open import open_file
from relay.buffer.sqlite.pending_acks import PendingAck
from relay.buffer.sqlite.rows import Group, build_group
from relay.model.records import OwedRange, Piece, Position, Signal
from tests.unit.buffer.making import NOW_NS, SETTINGS, own_copy, piece, request

ALL = owed_ranges.open_from(1)


@contextmanager
def log_file(
    state_dir: Path, *, vfs: str | None = None, checkpoint: bool = True
) -> Iterator[LogFile]:
    """The file in `state_dir` while it is open; with `checkpoint` its WAL is written back then."""
    held = StateDirectory(state_dir)
    held.enter()
    file, _ = open_file(held, SETTINGS, vfs=vfs)
    try:
        yield file
    finally:
        file.close(checkpoint=checkpoint)
        held.leave()


def group_of(file: LogFile, *pieces: Piece) -> Group:
    """One row of these, as the next one."""
    return build_group(
        [request(each) for each in pieces],
        after_row=file.last_row,
        totals=file.totals,
        settings=SETTINGS,
        uptime=lambda: 0,
    )


def append(file: LogFile, *bodies: bytes, signal: Signal = Signal.TRACES) -> None:
    """Commit one row of these."""
    group = group_of(file, *(piece(body, signal=signal) for body in bodies))
    file.commit(group, {}, now_ns=NOW_NS)
    file._high_water.write(file.last_row, file.totals, file.destinations)


def move(file: LogFile, name: str, ranges: Ranges) -> None:
    """Let `name` be owed `ranges`."""
    file.commit(Group(), {name: PendingAck(ranges)}, now_ns=NOW_NS)
    file._high_water.write(file.last_row, file.totals, file.destinations)


def rows(first: int, last: int) -> Ranges:
    """Rows `first`…`last`."""
    return (OwedRange(Position(first), Position(last + 1)),)


def hit(state_dir: Path) -> None:
    """Nothing is left of the file but its name."""
    with (state_dir / "relay.db").open("r+b") as file:
        file.write(b"\xff" * 40_000)


def crash(state_dir: Path, to: Path) -> Path:
    """The files as a kill at this moment would leave them."""
    to.mkdir()
    for path in state_dir.glob("*"):
        shutil.copy(path, to / path.name)
    own_copy(to)
    return to


def still_open(state_dir: Path) -> list[str]:
    """The buffer's files in `state_dir` that this process has open."""
    descriptors = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    paths = [each.readlink() for each in descriptors if each.is_symlink()]
    return [each.name for each in paths if each.is_relative_to(state_dir / "relay.db")]


def opened_when_set_aside(monkeypatch: pytest.MonkeyPatch, state_dir: Path) -> list[list[str]]:
    """Of each time that a file is set aside from now on, what is `still_open` then."""
    found: list[list[str]] = []
    quarantine = StateDirectory.quarantine

    def note(directory: StateDirectory, label: str) -> Path:
        found.append(still_open(state_dir))
        return quarantine(directory, label)

    monkeypatch.setattr(StateDirectory, "quarantine", note)
    return found
