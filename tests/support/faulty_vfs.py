"""A disk in, a worse disk out: an apsw VFS that forgets, tears, reorders, and fails when told to.

The files are as every process sees them; what the *disk* has of each is a file of its own under
`.disk`, by inode, and gets what is written only with xSync of that file. `lose_power` makes the
files what the disk has: to be called where a power loss is meant, such as after kill -9. Beyond
that:

- `survival`: that share of the writes reaches the disk at once, though nobody synced it, half of
  them in part (whole sectors of 512 bytes from the front or from the back): a random subset of
  what was written between two syncs survives a crash, in any order, torn;
- `Fault`: the n-th write or the n-th sync fails, and the next ones as often as it says. A sync
  that fails `forgets`, if told to, as Linux does: the pages stay in the page cache and count as
  clean, so that a later sync "succeeds" and still does not write them.

It stands on SQLite's own unix VFS, so locks, the shared memory of the WAL and more than one
connection work as in production. What it cannot forget: that a file was created, renamed or
removed, and what is written beside SQLite.
"""

import random
import shutil
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

NAME = "faulty"
DISK = ".disk"
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
    """What the disk has of a file, and which of the file's places it has not got yet."""

    def __init__(self, path: Path) -> None:
        folder = path.parent / DISK
        folder.mkdir(exist_ok=True)
        self._path = folder / str(path.stat().st_ino)
        if not self._path.exists():
            shutil.copyfile(path, self._path)
        self.dirty: list[tuple[int, int]] = []  # offset and end
        self.is_cut = False

    def is_of_another(self, path: Path) -> bool:
        """Whether the inode is used again, by a file that was made since."""
        return not (path.stat().st_size or self.is_cut or self.dirty) and bool(
            self._path.stat().st_size
        )

    def write(self, data: bytes, offset: int) -> None:
        """That much reaches the disk."""
        with self._path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def cut(self, size: int) -> None:
        """The disk learns how long the file is."""
        with self._path.open("r+b") as file:
            file.truncate(size)

    def forget(self) -> None:
        """What the disk has not got is taken for written."""
        self.dirty, self.is_cut = [], False

    def remove(self) -> None:
        """The file is gone."""
        self._path.unlink(missing_ok=True)


def lose_power(directory: Path) -> None:
    """Make the files of `directory` what the disk has of them; whoever used them must be gone."""
    for path in directory.iterdir() if directory.exists() else ():
        on_disk = directory / DISK / str(path.stat().st_ino)
        if path.is_file() and on_disk.exists():
            path.write_bytes(on_disk.read_bytes())  # the same inode
    shutil.rmtree(directory / DISK, ignore_errors=True)  # made anew from what is there now


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
                image = self.images.pop(_identity(filename), None)
                if image is not None:
                    image.remove()
            super().xDelete(filename, syncdir)

    def copy_disk(self, source: Path, target: Path) -> None:
        """What is on the disk at this moment, as power loss would leave it, to another folder.

        What goes through SQLite stands still meanwhile. The sidecar does not: a file that is
        about to take its place may do so now, and the copy is of the moment before that was made.
        """
        target.mkdir()
        with self.lock:
            for path in source.iterdir():
                if not path.is_file() or path.name.endswith("-shm"):
                    continue
                with suppress(*((FileNotFoundError,) if path.suffix == ".new" else ())):
                    on_disk = source / DISK / str(path.stat().st_ino)
                    shutil.copyfile(on_disk if on_disk.exists() else path, target / path.name)

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
            if image is not None and image.is_of_another(Path(path)):
                image.remove()
                image = None
            if image is None:
                image = vfs.images[_identity(path)] = _Image(Path(path))
            self._image = image

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        with self._vfs.lock:
            fault = self._vfs.meet("write")
            if fault is not None:
                raise ERRORS[fault.error](f"write {self._vfs.counts['write']} fails as asked")
            super().xWrite(data, offset)
            self._image.dirty.append((offset, offset + len(data)))
            first, end = self._vfs.surviving(len(data))
            if first < end:
                self._image.write(bytes(data[first:end]), offset + first)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        with self._vfs.lock:
            super().xTruncate(newsize)
            self._image.is_cut = True

    def xSync(self, flags: int) -> None:  # noqa: N802
        with self._vfs.lock:
            image = self._image
            fault = self._vfs.meet("sync")
            if fault is not None:
                if fault.forgets:
                    image.forget()
                raise ERRORS[fault.error](f"sync {self._vfs.counts['sync']} fails as asked")
            # As the file is now: what survived before its sync may be newer than what waits.
            size = super().xFileSize()
            for first, end in image.dirty:
                if first < size:
                    image.write(super().xRead(min(end, size) - first, first), first)
            if image.is_cut:
                image.cut(size)
            image.forget()


def _identity(path: str) -> tuple[int, int]:
    found = Path(path).stat()
    return found.st_dev, found.st_ino
