"""A disk in, the same disk without what was never synced out: an apsw VFS for crash tests.

It stands on SQLite's own unix VFS, so locks, the shared memory of the WAL and more than one
connection work as in production. But what is written to or cut from a file stays in this
process's memory until xSync of that file; only then it goes to the file. Kill the process and
everything unsynced is gone, as with power loss. All connections of the process to one file see
the same memory, as they would see the same page cache.

What it cannot forget: that a file was created, renamed or removed. The shared memory (-shm) is
real, too: SQLite rebuilds it from the WAL when the first connection opens it after the kill.
"""

import threading
from typing import Any

import apsw

NAME = "forgetful"


class _Image:
    """A file as the process sees it, and what of it the disk has not got yet."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.pending: list[tuple[int, bytes | None]] = []  # bytes None: cut at the offset
        self.handles = 0

    def write(self, data: bytes, offset: int) -> None:
        if len(self.content) < offset:
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset : offset + len(data)] = data
        self.pending.append((offset, bytes(data)))

    def cut(self, size: int) -> None:
        if size < len(self.content):
            del self.content[size:]
        else:
            self.content.extend(bytes(size - len(self.content)))
        self.pending.append((size, None))


class ForgetfulVFS(apsw.VFS):
    """Register by making one; keep a reference as long as connections use it."""

    def __init__(self, name: str = NAME) -> None:
        self.lock = threading.RLock()
        self.images: dict[str, _Image] = {}
        self.syncs = 0
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _ForgetfulFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        with self.lock:
            self.images.pop(filename, None)
        super().xDelete(filename, syncdir)


class _ForgetfulFile(apsw.VFSFile):
    def __init__(self, vfs: ForgetfulVFS, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._vfs = vfs
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        with vfs.lock:
            image = vfs.images.get(self._name)
            if image is None:
                size = super().xFileSize()
                image = _Image(super().xRead(size, 0) if size else b"")
                vfs.images[self._name] = image
            image.handles += 1
            self._image = image

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        with self._vfs.lock:
            return bytes(self._image.content[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        with self._vfs.lock:
            self._image.write(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        with self._vfs.lock:
            self._image.cut(newsize)

    def xFileSize(self) -> int:  # noqa: N802
        with self._vfs.lock:
            return len(self._image.content)

    def xSync(self, flags: int) -> None:  # noqa: N802
        with self._vfs.lock:
            self._vfs.syncs += 1
            pending, self._image.pending = self._image.pending, []
            for offset, data in pending:
                if data is None:
                    super().xTruncate(offset)
                else:
                    super().xWrite(data, offset)

    def xClose(self) -> None:  # noqa: N802
        with self._vfs.lock:
            self._image.handles -= 1
            if not self._image.handles and self._vfs.images.get(self._name) is self._image:
                # Closing is no sync: what was pending is gone for whoever opens it next.
                del self._vfs.images[self._name]
        super().xClose()
