"""Whether rows of metrics hold points that count twice when they come twice.

A cumulative point or a gauge that comes again says the same again. A delta is added to what the
receiver has: sent again it falsifies the sum, and nobody sees it there.
"""

from typing import Final

import anyio.to_thread

from relay.buffer.api import Browse
from relay.buffer.owed_ranges import Ranges
from relay.model.records import Signal, StoredRow
from relay.otlp.item_facts import temporalities_of
from relay.otlp.transcode import TranscodeError

_DELTA: Final = 1  # aggregationTemporality, as OTLP numbers it
_STEP_ROWS: Final = 50
_STEP_BYTES: Final = 2 * 1024 * 1024


async def holds_deltas(browse: Browse, ranges: Ranges) -> bool:
    """Whether rows of metrics in `ranges` hold a delta point; looks from the newest down.

    Raises BufferUnavailable.
    """
    for item in reversed(ranges):
        before = item.end.row + bool(item.end.item) if item.end else browse.last_row + 1
        while before > item.start.row:
            down = await browse.rows_down(
                Signal.METRICS, before, most_rows=_STEP_ROWS, most_bytes=_STEP_BYTES
            )
            rows = [row for row in down.rows if row.row >= item.start.row]
            if await anyio.to_thread.run_sync(_any_delta, rows):
                return True
            before = down.before_row if len(rows) == len(down.rows) else 0
    return False


def _any_delta(rows: list[StoredRow]) -> bool:
    return any(_DELTA in _temporalities(row) for row in rows)


def _temporalities(row: StoredRow) -> list[int | None]:
    try:
        return temporalities_of(row.body, row.encoding)
    except TranscodeError:
        return []  # damaged: it becomes a dead letter instead of being sent
