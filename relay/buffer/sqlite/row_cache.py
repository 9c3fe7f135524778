"""The newest rows in memory, for couriers that keep up: no disk, no unzipping."""

from collections import OrderedDict

from relay.buffer.sqlite.types import Budget, Chunk, DamagedRow
from relay.model.records import StoredRow


class RowCache:
    """The newest rows in memory, without a gap, up to so many bytes. Lives in the event loop."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._rows: OrderedDict[int, StoredRow] = OrderedDict()
        self.stored_bytes = 0

    def add(self, row: StoredRow) -> None:
        """Append the newest row; the oldest leave when it is too much."""
        if self._rows and row.row - 1 not in self._rows:
            self.clear()
        self._rows[row.row] = row
        self.stored_bytes += len(row.body)
        while self.stored_bytes > self._limit_bytes:
            _, oldest = self._rows.popitem(last=False)
            self.stored_bytes -= len(oldest.body)

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
        self.stored_bytes = 0

    def get(self, row: int) -> StoredRow | None:
        """That row, if it is still here."""
        return self._rows.get(row)

    @property
    def oldest_received_ns(self) -> int:
        """When the oldest row here was received, 0 without any: what is older waits longer."""
        return next(iter(self._rows.values())).received_ns if self._rows else 0

    def read(self, first_row: int, last_row: int, budget: Budget) -> Chunk | None:
        """As reader.read_rows, or None when the first row is not here."""
        row = self._rows.get(first_row)
        if row is None:
            return None
        rows: list[StoredRow | DamagedRow] = []
        while row is not None and row.row <= last_row:
            if not budget.takes(row.signal, row.encoding, len(row.body), row.items):
                return Chunk(rows, row.row, is_full=True)
            rows.append(row)
            row = self._rows.get(row.row + 1)
        return Chunk(rows, first_row + len(rows), is_full=False)
