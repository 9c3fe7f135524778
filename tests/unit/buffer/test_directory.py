"""The state directory: why it cannot be used is told in words, and whose fault that is."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from relay.buffer.sqlite import directory
from relay.buffer.sqlite.directory import StateDirectory, file_system_type, holder_of
from relay.buffer.sqlite.private_files import open_private
from relay.model.errors import BufferDiskError, BufferLocked, BufferUnusable
from tests.unit.buffer.log_files import append, log_file


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Directories whose names were made to survive power loss."""
    found: list[Path] = []
    monkeypatch.setattr(directory, "sync_directory", found.append)
    return found


def test_path_where_no_directory_can_be_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BufferUnusable, match="Not a directory") as found:
        StateDirectory(tmp_path / "file/state").enter()
    assert "state_dir must be a directory" in (found.value.hint or "")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.ENOSPC, errno.EMFILE])
def test_disk_that_fails_is_an_error_that_may_be_over_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(BufferDiskError, match="state cannot be used"):
        StateDirectory(tmp_path / "state").enter()


# -- entering ---------------------------------------------------------------------------------


def test_new_directory_is_private_from_the_start_and_its_name_is_synced(
    tmp_path: Path, synced: list[Path]
) -> None:
    umask = os.umask(0)
    with structlog.testing.capture_logs() as events:
        for _ in range(2):
            held = StateDirectory(tmp_path / "deep/state")
            held.enter()
            held.leave()
            assert synced == [tmp_path / "deep"]
    os.umask(umask)
    assert events == []
    assert (tmp_path / "deep/state").stat().st_mode & 0o777 == 0o700


@contextmanager
def locked(state_dir: Path, words: str) -> Iterator[None]:
    (state_dir / "lock").write_text(words)
    with (state_dir / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize(("words", "pid"), [("4711\n", "4711"), ("", "unknown")])
def test_who_holds_the_directory_is_told_and_nothing_stays_open(
    tmp_path: Path, words: str, pid: str
) -> None:
    with locked(tmp_path, words):
        before = descriptors()
        with pytest.raises(BufferLocked, match=rf"\(pid {pid}\)"):
            StateDirectory(tmp_path).enter()
        assert holder_of(tmp_path) == words.strip()
        assert descriptors() == before
    assert holder_of(tmp_path) == ""
    assert holder_of(tmp_path / "none") == ""


def test_lock_that_cannot_be_taken_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    before = descriptors()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(BufferUnusable, match="No locks available"):
        StateDirectory(tmp_path).enter()
    assert descriptors() == before


def test_lock_names_who_holds_it_and_nobody_before(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1234567890123\n")
    held = StateDirectory(tmp_path)
    held.enter()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    held.leave()


def test_nothing_stays_open_when_it_is_left(tmp_path: Path) -> None:
    before = descriptors()
    for _ in range(2):
        with log_file(tmp_path) as file:
            append(file, b"one")
    assert descriptors() == before


# -- its files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("database", "wal", "is_orphaned"),
    [
        (None, None, False),
        (None, b"", False),
        (None, b"x", True),
        (b"", b"x", True),
        (b"x", b"x", False),
    ],
)
def test_wal_with_data_is_orphaned_where_its_database_has_none(
    tmp_path: Path, database: bytes | None, wal: bytes | None, is_orphaned: bool
) -> None:
    held = StateDirectory(tmp_path)
    for path, content in ((held.database, database), (held.wal, wal)):
        if content is not None:
            path.write_bytes(content)
    assert held.orphaned_wal() is is_orphaned
    assert held.wal_bytes() == len(wal or b"")


@pytest.mark.parametrize(
    ("make", "is_no_file"), [(Path.exists, False), (Path.touch, False), (Path.mkdir, True)]
)
def test_only_another_thing_than_a_file_is_no_file(
    tmp_path: Path, make: Callable[[Path], Any], is_no_file: bool
) -> None:
    held = StateDirectory(tmp_path)
    make(held.database)
    assert held.is_no_file() is is_no_file


def test_free_bytes_are_those_of_the_file_system(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert abs(StateDirectory(tmp_path).free_bytes() - free) < max(free // 2, 1 << 20)


def test_copy_is_on_the_disk_with_its_name_once_it_is_made(
    tmp_path: Path, synced: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    (tmp_path / "source").write_bytes(b"some bytes")
    with (tmp_path / "source").open("rb") as source:
        StateDirectory(tmp_path).copy_private(source, tmp_path / "copy")
    assert (sizes, synced) == ([10], [tmp_path])
    assert (tmp_path / "copy").read_bytes() == b"some bytes"
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("wal", [None, b"", b"rows"])
def test_file_is_set_aside_with_what_its_wal_holds(
    tmp_path: Path, synced: list[Path], wal: bytes | None
) -> None:
    held = StateDirectory(tmp_path)
    held.database.write_bytes(b"pages")
    (tmp_path / "relay.db-shm").touch()
    if wal is not None:
        held.wal.write_bytes(wal)
    assert held.quarantines == 0
    assert held.quarantine("corrupt-x") == tmp_path / "relay.db.corrupt-x"

    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    name = "relay.db.corrupt-x"
    assert left == ({name: b"pages", f"{name}-wal": wal} if wal else {name: b"pages"})
    assert synced == [tmp_path]
    assert held.quarantines == 1


def test_file_system_is_the_last_one_mounted_on_the_innermost_point(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"22 1 8:1 / {tmp_path} - ext4 /dev/sda1 rw\n"
        f"23 22 0:5 / {tmp_path} rw - xfs /dev/sdb1 rw\n"
        "24 1 0:6 / / rw - overlay overlay rw\n"
    )
    assert file_system_type(tmp_path / "state", mounts) == "xfs"
    mounts.write_text(f"22 1 8:1 / {tmp_path} - ext4 /dev/sda1 rw\n")
    assert file_system_type(tmp_path / "state", mounts) == "ext4"
    assert file_system_type(Path("/elsewhere"), mounts) == ""


def test_what_is_no_file_is_not_left_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    before = descriptors()
    with pytest.raises(OSError, match="not a regular file"):
        open_private(tmp_path / "pipe", os.O_RDWR)
    assert descriptors() == before
