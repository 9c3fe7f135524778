"""Tells how much room is left: measured now and then, estimated in between.

Three limits at once: `max_size`, `min_free`, and the end of the file system itself. The reserve's
room counts as taken while it is given back, or requests would use it up.
"""

from typing import NamedTuple

import apsw

from relay.buffer.settings import MIB, BufferSettings
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.schema import PAGE_BYTES
from relay.buffer.sqlite.space.reserve import Reserve
from relay.model.units import format_size

# A commit of n bytes may lengthen the WAL by n now and the database by n at the checkpoint.
COMMIT_FACTOR = 2
# Pages that any commit touches beside its data: sequence, ranges, inner pages, pointer map.
COMMIT_OVERHEAD_BYTES = 64 * 1024


class _Room(NamedTuple):
    """What may still be used by each limit; may be negative."""

    by_size: int
    by_min_free: int
    on_disk: int  # can be written at all: the WAL needs blocks, whatever the freelist has


class Space:
    """What the buffer uses of `max_size` and of the file system."""

    def __init__(self, state_dir: StateDirectory, settings: BufferSettings) -> None:
        self._state_dir = state_dir
        self.reload(settings)
        self.reserve = Reserve(state_dir.path / "reserve")
        self.written_bytes = 0  # since it was measured, and what the checkpoint will add
        self.database_bytes = 0
        self.freelist_bytes = 0
        self.wal_bytes = 0
        self.free_bytes = 0

    def reload(self, settings: BufferSettings) -> None:
        """Hold to these from now on."""
        self.settings = settings
        self._reserve_bytes = settings.reserve_bytes

    def measure(self, connection: apsw.Connection) -> None:
        """Look at the disk: about 10 µs."""
        pages = int(connection.pragma("page_count"))
        free_pages = int(connection.pragma("freelist_count"))
        self.database_bytes = (pages - free_pages) * PAGE_BYTES
        self.freelist_bytes = free_pages * PAGE_BYTES
        self.wal_bytes = self._state_dir.wal_bytes()
        self.free_bytes = self._state_dir.free_bytes()
        self.written_bytes = 0

    def keep_reserve(self, connection: apsw.Connection) -> bool:
        """Make the reserve the right size, if there is room for it; returns whether it changed."""
        if self.reserve.bytes == self._reserve_bytes:
            return False
        self.measure(connection)
        is_changed = self.reserve.keep(
            self._reserve_bytes,
            free_bytes=self.free_bytes,
            min_free_bytes=self.settings.min_free_bytes,
        )
        self.measure(connection)
        return is_changed

    @property
    def missing_reserve_bytes(self) -> int:
        """What the reserve lacks."""
        return max(self._reserve_bytes - self.reserve.bytes, 0)

    def _room(self) -> _Room:
        missing = self.missing_reserve_bytes
        written = self.written_bytes
        used = self.database_bytes + self.wal_bytes + self.reserve.bytes + missing
        return _Room(
            self.settings.max_size_bytes - used - written,
            # Pages on the freelist are ours already: using them takes nothing from the file system.
            self.free_bytes
            + self.freelist_bytes
            - max(self.settings.min_free_bytes, missing)
            - written,
            self.free_bytes - missing - written,
        )

    @property
    def room_bytes(self) -> int:
        """What may still be used."""
        return min(self._room())

    def fits(self, connection: apsw.Connection, size: int) -> bool:
        """Whether a transaction of about `size` bytes may be committed.

        Looks at the disk again when much was written since the last look.
        """
        if self.written_bytes >= min(2 * MIB, self.settings.max_size_bytes // 64):
            self.measure(connection)
        return self.room_bytes >= _need(size)

    def needs_disk(self, size: int) -> bool:
        """Whether it is the end of the file system that is in the way."""
        return self._room().on_disk < _need(size)

    def may_ever_fit(self, size: int) -> bool:
        """Whether it would fit if every row had gone."""
        by_size, by_min_free, on_disk = self._room()
        room = min(by_size, by_min_free, on_disk + self.freelist_bytes) + self.database_bytes
        return room >= _need(size)

    @property
    def is_low(self) -> bool:
        """Whether delivered rows should begin to give way, before somebody has to wait for it."""
        return self.room_bytes < min(16 * MIB, self.settings.max_size_bytes // 8)

    def limit(self) -> str:
        """In words which limit leaves the least room, and what can be done about it."""
        settings = self.settings
        by_size, by_min_free, on_disk = self._room()
        room = min(by_size, by_min_free, on_disk)
        if room == by_size:
            size = format_size(settings.max_size_bytes)
            return f"max_size ({size}) is used up by what is still owed: raise [buffer] max_size"
        free = f"{max(self.free_bytes, 0) // MIB} MiB free"
        kept = settings.min_free_bytes
        if room == by_min_free and kept >= max(self.missing_reserve_bytes, 1):
            return (
                f"the file system has {free}, and min_free is {format_size(kept)}: "
                "make room on it, or lower [buffer] min_free"
            )
        return f"the file system is full ({free}): make room on it"


def _need(size: int) -> int:
    return size * COMMIT_FACTOR + COMMIT_OVERHEAD_BYTES
