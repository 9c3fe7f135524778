"""Sizes on disk in, the room that is left out; measured now and then, estimated in between."""

import apsw

from relay.buffer.place import Place
from relay.buffer.schema import PAGE_BYTES
from relay.buffer.settings import MIB, BufferSettings

# A commit of n bytes may lengthen the WAL by n now and the database by n at the checkpoint.
COMMIT_FACTOR = 2
# Pages that any commit touches beside its data: sequence, ranges, inner pages, pointer map.
COMMIT_OVERHEAD_BYTES = 64 * 1024


class Space:
    """What the buffer uses of `max_size` and of the file system."""

    def __init__(self, place: Place, settings: BufferSettings) -> None:
        self._place = place
        self.settings = settings
        self._written_bytes = 0
        self.database_bytes = 0
        self.freelist_bytes = 0
        self.wal_bytes = 0
        self.reserve_bytes = 0  # its place; the reserve itself comes with giving way
        self.free_bytes = 0

    def measure(self, connection: apsw.Connection) -> None:
        """Look at the disk: about 10 µs."""
        pages = int(connection.pragma("page_count"))
        free_pages = int(connection.pragma("freelist_count"))
        self.database_bytes = (pages - free_pages) * PAGE_BYTES
        self.freelist_bytes = free_pages * PAGE_BYTES
        self.wal_bytes = self._place.wal_bytes()
        self.free_bytes = self._place.free_bytes()
        self._written_bytes = 0

    def note_written(self, size: int) -> None:
        """A transaction of about `size` bytes was committed."""
        self._written_bytes += size * COMMIT_FACTOR + COMMIT_OVERHEAD_BYTES

    @property
    def is_stale(self) -> bool:
        """Whether so much was written since the last look that another one is due."""
        return self._written_bytes >= min(2 * MIB, self.settings.max_size_bytes // 64)

    @property
    def room_bytes(self) -> int:
        """What may still be used, by `max_size` and by `min_free`; may be negative."""
        used = self.database_bytes + self.wal_bytes + self.reserve_bytes
        by_size = self.settings.max_size_bytes - used
        # Pages on the freelist are ours already: using them takes nothing from the file system.
        by_free = self.free_bytes + self.freelist_bytes - self.settings.min_free_bytes
        return min(by_size, by_free) - self._written_bytes

    def fits(self, size: int) -> bool:
        """Whether a transaction of about `size` bytes may be committed."""
        return self.room_bytes >= size * COMMIT_FACTOR + COMMIT_OVERHEAD_BYTES

    @property
    def is_low(self) -> bool:
        """Whether delivered rows should begin to give way, before somebody has to wait for it."""
        return self.room_bytes < min(16 * MIB, self.settings.max_size_bytes // 8)
