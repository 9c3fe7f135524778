"""What the writer published and the place in, the buffer's account of itself out."""

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.directory import Place
from relay.buffer.sqlite.writer import Writer
from relay.buffer.views import BufferStatistics


def of(
    writer: Writer, place: Place, settings: BufferSettings, *, is_usable: bool
) -> BufferStatistics:
    """The buffer at this moment; three system calls, no waiting."""
    published = writer.published
    outlook = published.outlook
    stalled_seconds = writer.busy_seconds
    is_stalled = stalled_seconds > settings.stall_seconds
    try:
        wal_bytes, free_bytes = place.wal_bytes(), place.free_bytes()
    except OSError:
        wal_bytes, free_bytes = 0, 0
    return BufferStatistics(
        rows=published.kept.rows,
        spans=published.kept.spans,
        first_row=published.first_row,
        last_row=published.last_row,
        database_bytes=published.database_bytes,
        wal_bytes=wal_bytes,
        reserve_bytes=published.reserve_bytes,
        max_size_bytes=settings.max_size_bytes,
        file_system_free_bytes=free_bytes,
        oldest_received_ns=published.oldest_received_ns,
        dead_letters=dict(published.letters),
        dead_letters_dropped=published.letters_dropped,
        is_writable=is_usable and not (writer.is_full or writer.last_error or is_stalled),
        is_full=writer.is_full,
        last_error=writer.last_error,
        last_commit_seconds=writer.last_commit_seconds,
        stalled_seconds=stalled_seconds,
        is_stalled=is_stalled,
        limit=writer.limit,
        owed_rows=outlook.owed.rows,
        owed_spans=outlook.owed.spans,
        owed_disk_bytes=outlook.owed_bytes,
        full_in_seconds=None if writer.is_full else outlook.full_in_seconds,
        evicted_spans=published.evicted_spans,
    )
