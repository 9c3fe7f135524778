"""Keeps a file of room in reserve, and gives it back when the file system has no more.

On a full file system not even a row can be deleted: that, too, needs pages in the WAL. So some room
is kept in a file, and given back then; ranges can move and rows go. It is made again when there
is room for it twice, so that a disk that stays nearly full does not make it come and go.
"""

import os
import stat
from pathlib import Path
from time import monotonic

import structlog

from relay.buffer.sqlite.private_files import open_private

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

_AGAIN_SECONDS = 5.0
_BLOCK_BYTES = 512  # of st_blocks, whatever the file system's own are


class Reserve:
    """`state_dir/reserve`. Nothing here raises: without a reserve the relay works as well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self._was_given_back = False
        self._next_try = 0.0  # monotonic
        self._problem = ""

    def look(self) -> None:
        """Measure what is there; a file whose blocks were never given counts for nothing."""
        try:
            found = self.path.lstat()
            held = min(found.st_size, found.st_blocks * _BLOCK_BYTES)
            held = held if stat.S_ISREG(found.st_mode) else 0
        except OSError:
            held = 0
        self.bytes = held

    def keep(self, wanted_bytes: int, *, free_bytes: int, min_free_bytes: int) -> bool:
        """Make it `wanted_bytes` large if there is room for that; returns whether it changed."""
        more = wanted_bytes - self.bytes
        needed_bytes = max(more + min_free_bytes, 2 * more if self._was_given_back else 0)
        may_grow = free_bytes >= needed_bytes and monotonic() >= self._next_try
        if not more or (more > 0 and not may_grow):
            return False
        self._next_try = monotonic() + _AGAIN_SECONDS
        self._resize(wanted_bytes)
        return True

    def _resize(self, wanted_bytes: int) -> None:
        try:
            descriptor = open_private(self.path, os.O_RDWR | os.O_CREAT)
            try:
                os.ftruncate(descriptor, wanted_bytes)
                os.posix_fallocate(descriptor, 0, wanted_bytes)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._cut()
            if str(error) != self._problem:
                self._problem = str(error)
                log.warning("reserve_not_made", bytes=wanted_bytes, error=self._problem)
        else:
            self._was_given_back, self._problem = False, ""
        self.look()

    def give_back(self) -> bool:
        """Give the room to the file system; returns whether there was any."""
        had = self.bytes
        self._cut()
        self.look()
        self._was_given_back = True
        self._next_try = monotonic() + _AGAIN_SECONDS
        if had > self.bytes:
            log.warning("reserve_given_back", bytes=had - self.bytes)
        return had > self.bytes

    def _cut(self) -> None:
        try:
            descriptor = open_private(self.path, os.O_WRONLY)
            try:
                os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("reserve_not_given_back", error=str(error))
