"""Holds the state directory: one daemon, the paths inside, and files that cannot be used aside.

One daemon a directory (flock), on a file system whose locks and shared memory can be trusted,
and with files that are still the ones we opened: commits into an unlinked file "succeed".
"""

import errno
import fcntl
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import structlog

from relay.buffer.sqlite.disk_errors import advice_for
from relay.buffer.sqlite.high_water import HighWaterFile
from relay.buffer.sqlite.private_files import make_private, open_private
from relay.buffer.sqlite.schema import sync_directory
from relay.model.errors import BufferDiskError, BufferLocked, BufferUnusable

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.glusterfs"}
    | {"fuse.sshfs", "lustre", "gfs2", "ocfs2", "beegfs", "davfs", "fuse.s3fs", "ncpfs", "coda"}
)

# 32 KiB for each 4,096 pages of WAL.
_SHARED_MEMORY_BYTES = 256 * 1024
# What may be over at the next start, unlike an owner or a mode.
_OF_THE_DISK = (errno.EROFS, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ENFILE, errno.EMFILE)

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class StateDirectory:
    """The state directory while this process holds it."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir
        self.database = state_dir / "relay.db"
        self.wal = state_dir / "relay.db-wal"
        self.quarantines = 0  # how often in this process
        self.high_water = HighWaterFile(state_dir)
        self._lock_fd: int | None = None
        self.identities: list[tuple[Path, int, int]] = []

    def enter(self) -> None:
        """Make the directory private (0700) and lock it.

        Raises BufferLocked when another process holds it, BufferUnusable when it may not be made
        or written, is another user's or on a network file system, BufferDiskError when the disk
        fails.
        """
        try:
            is_new = not self.path.exists()
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if is_new:
                sync_directory(self.path.parent)
            kind = file_system_type(self.path)
            if kind in NETWORK_FILE_SYSTEMS:
                raise BufferUnusable(
                    f"{self.path} is on a network file system ({kind})",
                    hint="locks and shared memory fail there; set state_dir to a local disk",
                )
            make_private(self.path)
            self._lock()
        except OSError as error:
            if error.errno in _OF_THE_DISK:
                raise BufferDiskError(f"{self.path} cannot be used: {advice_for(error)}") from error
            raise BufferUnusable(
                f"{self.path} cannot be used: {error.strerror or error}",
                hint="state_dir must be a directory that this user may write",
            ) from error

    def _lock(self) -> None:
        path = self.path / "lock"
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise BufferLocked(
                f"{self.path} is held by another otlp-relay (pid {holder})",
                hint="stop that one, or give this one another state_dir",
            ) from error
        except OSError:
            os.close(descriptor)
            raise
        self._lock_fd = descriptor
        # Who holds it is told for people only: on a full disk it is locked as well.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def leave(self) -> None:
        """Give the lock back; safe twice. The lock file stays: removing it would race."""
        self.high_water.close()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def fill_shared_memory(self) -> None:
        """Let the WAL's index have its blocks now. Raises OSError when there is no room.

        SQLite maps it, and where a block is smaller than a page it may be mapped without all of its
        blocks: on a disk that fills up, writing there is no error but a SIGBUS (tried on ext4 with
        1 KiB blocks). Enough for a WAL of four times the size at which it is cut.
        """
        path = self.path / "relay.db-shm"
        with suppress(FileNotFoundError):
            descriptor = open_private(path, os.O_RDWR)
            try:
                os.posix_fallocate(descriptor, 0, _SHARED_MEMORY_BYTES)
            finally:
                os.close(descriptor)

    def remember_files(self) -> None:
        """Take down which files are ours now: path, device, inode."""
        self.identities = []
        for path in (self.database, self.wal):
            with suppress(FileNotFoundError):
                found = path.stat()
                self.identities.append((path, found.st_dev, found.st_ino))

    def wal_bytes(self) -> int:
        """Size of the WAL file."""
        try:
            return self.wal.stat().st_size
        except FileNotFoundError:
            return 0

    def free_bytes(self) -> int:
        """What a user without privileges may still write to this file system."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def orphaned_wal(self) -> bool:
        """Whether there is a WAL with data whose database has gone."""
        has_database = self.database.exists() and self.database.stat().st_size > 0
        return not has_database and self.wal_bytes() > 0

    def is_no_file(self) -> bool:
        """Whether something else than a file stands where the database should: a directory."""
        return self.database.exists() and not self.database.is_file()

    def free_name(self, label: str) -> Path:
        """`relay.db.LABEL`, with a number where that is taken, also by a WAL."""
        target = self.path / f"relay.db.{label}"
        number = 1
        while target.exists() or target.with_name(target.name + "-wal").exists():
            number += 1
            target = self.path / f"relay.db.{label}.{number}"
        return target

    def copy_private(self, source: BinaryIO, target: Path) -> None:
        """Copy `source` to the new file `target`, 0600 and synced."""
        descriptor = open_private(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(self.path)

    def quarantine(self, label: str) -> Path:
        """Rename database and WAL to `relay.db.LABEL` and `…-wal`, whole and unread.

        The names keep them a pair that SQLite opens together. Returns the new path.
        """
        target = self.free_name(label)
        self.identities = []  # by our own hand: its successor may need more than one try
        if self.database.exists():
            self.database.rename(target)
        if not self.wal_bytes():
            self.wal.unlink(missing_ok=True)
        else:
            self.wal.rename(target.with_name(target.name + "-wal"))
        with suppress(FileNotFoundError):
            (self.path / "relay.db-shm").unlink()
        self.quarantines += 1
        sync_directory(self.path)
        log.error("buffer_file_set_aside", file=target.name)
        return target


def holder_of(state_dir: Path) -> str:
    """The pid of the otlp-relay that has this directory now; empty if none has, or none of us."""
    try:
        with os.fdopen(open_private(state_dir / "lock", os.O_RDONLY), "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read(32).decode("ascii", "replace").strip()
    except OSError:
        pass
    return ""


def time_label() -> str:
    """UTC now, for file names."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def file_system_type(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that holds `path`, or "" where that cannot be told."""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    wanted = str(path.resolve())
    types: dict[str, str] = {}  # by the points that hold it: what was mounted there last
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        if wanted == point or wanted.startswith(point.rstrip("/") + "/"):
            types[point] = after.split(" ")[0]
    return types[max(types, key=len)] if types else ""
