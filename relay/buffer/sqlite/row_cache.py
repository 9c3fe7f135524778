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

    def read(self, first_row: int, last_row: int, budget: Budget) -> Chunk | None:
        """As reader.read_rows, or None when the first row is not here."""
        row = self._rows.get(first_row)
        if row is None:
            return None
        rows: list[StoredRow | DamagedRow] = []
        raw_bytes, spans = budget.raw_bytes, budget.spans
        signal, encoding, is_first = budget.signal, budget.encoding, budget.is_first
        next_row = first_row
        while row is not None and next_row <= last_row:
            is_other_signal = signal is not None and row.signal is not signal
            is_other_encoding = encoding is not None and row.encoding is not encoding
            if is_other_signal or (budget.one_encoding and is_other_encoding):
                return Chunk(rows, next_row, is_full=True)
            if not is_first and (len(row.body) > raw_bytes or row.spans > spans):
                return Chunk(rows, next_row, is_full=True)
            rows.append(row)
            raw_bytes, spans = raw_bytes - len(row.body), spans - row.spans
            signal, encoding, is_first = row.signal, row.encoding, False
            next_row += 1
            row = self._rows.get(next_row)
        return Chunk(rows, next_row, is_full=False)
