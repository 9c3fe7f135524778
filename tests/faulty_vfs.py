"""A disk in, a worse disk out: an apsw VFS that forgets, tears, reorders, and fails when told to.

What is written stays in this process's memory until xSync of that file; only then it goes to the
file. So after kill -9 the real files are what a power loss would have left. Beyond that:

- `survival`: that share of the writes reaches the disk at once, though nobody synced it, half of
  them in part (whole sectors of 512 bytes from the front or from the back): a random subset of
  what was written between two syncs survives a crash, in any order, torn;
- `Fault`: the n-th write or the n-th sync fails, and the next ones as often as it says. A sync
  that fails `forgets`, if told to, as Linux does: the pages stay in the page cache and count as
  clean, so that a later sync "succeeds" and still does not write them.

It stands on SQLite's own unix VFS, so locks, the shared memory of the WAL and more than one
connection work as in production. What it cannot forget: that a file was created, renamed or
removed.
"""

import random
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

NAME = "faulty"
SECTOR_BYTES = 512
ERRORS: dict[str, type[Exception]] = {"ioerr": apsw.IOError, "full": apsw.FullError}


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` "write" or "sync"; it is the `n`-th (from 1) of this process that fails first.

    It goes on failing `times` times in all. `error` is one of ERRORS.
    """

    kind: str
    n: int
    times: int = 1
    error: str = "ioerr"
    forgets: bool = False

    def hits(self, kind: str, number: int) -> bool:
        """Whether the `number`-th `kind` fails."""
        return kind == self.kind and self.n <= number < self.n + self.times


class _Image:
    """A file as the process sees it, and which of its places the disk has not got yet."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.dirty: list[tuple[int, int]] = []  # offset and end
        self.is_cut = False

    def write(self, data: bytes, offset: int) -> None:
        if len(self.content) < offset:
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset : offset + len(data)] = data
        self.dirty.append((offset, offset + len(data)))

    def cut(self, size: int) -> None:
        if size < len(self.content):
            del self.content[size:]
        else:
            self.content.extend(bytes(size - len(self.content)))
        self.is_cut = True

    def forget(self) -> None:
        """What the disk has not got is taken for written."""
        self.dirty, self.is_cut = [], False


class FaultyVFS(apsw.VFS):
    """Register by making one; keep a reference as long as connections use it."""

    def __init__(
        self,
        name: str = NAME,
        *,
        seed: int = 0,
        survival: float = 0.0,
        faults: Iterable[Fault] = (),
    ) -> None:
        self.lock = threading.RLock()
        self.images: dict[tuple[int, int], _Image] = {}  # by device and inode
        self.counts = {"write": 0, "sync": 0}
        self.faults = tuple(faults)
        self.failed = 0
        self.is_full: Callable[[], bool] = lambda: False
        self._random = random.Random(seed)
        self._survival = survival
        self.vfs_name = name
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _FaultyFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        with self.lock:
            if Path(filename).exists():
                self.images.pop(_identity(filename), None)
            super().xDelete(filename, syncdir)

    def copy_disk(self, source: Path, target: Path) -> None:
        """What is on the disk at this moment, as power loss would leave it, to another folder."""
        target.mkdir()
        with self.lock:
            for name in ("relay.db", "relay.db-wal", "relay.db-journal"):
                if (source / name).exists():
                    shutil.copy(source / name, target / name)

    def meet(self, kind: str) -> Fault | None:
        """Count one more `kind`; the fault that hits it. Call it with the lock held."""
        self.counts[kind] += 1
        if kind == "write" and self.is_full():
            self.failed += 1
            return Fault("write", 0, error="full")
        for fault in self.faults:
            if fault.hits(kind, self.counts[kind]):
                self.failed += 1
                return fault
        return None

    def surviving(self, size: int) -> tuple[int, int]:
        """Which stretch of a write of `size` bytes reaches the disk at once."""
        if self._random.random() >= self._survival:
            return (0, 0)
        if self._random.random() < 0.5:
            return (0, size)
        border = self._random.randrange(0, size + 1, SECTOR_BYTES) if size else 0
        return (0, border) if self._random.random() < 0.5 else (border, size)


class _FaultyFile(apsw.VFSFile):
    def __init__(self, vfs: FaultyVFS, name: Any, flags: list[int]) -> None:
        self._vfs = vfs
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        with vfs.lock:
            super().__init__("", name, flags)
            # The page cache outlives a handle: an image stays until the file goes.
            image = vfs.images.get(_identity(path))
            if image is None:
                size = super().xFileSize()
                image = _Image(super().xRead(size, 0) if size else b"")
                vfs.images[_identity(path)] = image
            self._image = image

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        with self._vfs.lock:
            return bytes(self._image.content[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        with self._vfs.lock:
            fault = self._vfs.meet("write")
            if fault is not None:
                raise ERRORS[fault.error](f"write {self._vfs.counts['write']} fails as asked")
            self._image.write(data, offset)
            first, end = self._vfs.surviving(len(data))
            if first < end:
                super().xWrite(bytes(data[first:end]), offset + first)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        with self._vfs.lock:
            self._image.cut(newsize)

    def xFileSize(self) -> int:  # noqa: N802
        with self._vfs.lock:
            return len(self._image.content)

    def xSync(self, flags: int) -> None:  # noqa: N802
        with self._vfs.lock:
            image = self._image
            fault = self._vfs.meet("sync")
            if fault is not None:
                if fault.forgets:
                    image.forget()
                raise ERRORS[fault.error](f"sync {self._vfs.counts['sync']} fails as asked")
            # As the file is now: what survived before its sync may be newer than what waits.
            for first, end in image.dirty:
                data = bytes(image.content[first:end])
                if data:
                    super().xWrite(data, first)
            if image.is_cut:
                super().xTruncate(len(image.content))
            image.forget()


def _identity(path: str) -> tuple[int, int]:
    found = Path(path).stat()
    return found.st_dev, found.st_ino
