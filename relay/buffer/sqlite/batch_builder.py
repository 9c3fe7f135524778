"""Builds a batch for a courier: of chunks as they were read, the part that is owed."""

from typing import Self

from relay.buffer.sqlite import partial_rows
from relay.buffer.sqlite.partial_rows import PartialRows
from relay.buffer.sqlite.types import Budget, Chunk, DamagedRow
from relay.model.reasons import Reason
from relay.model.records import OwedRange, StoredRow
from relay.otlp.transcode import TranscodeError


class BatchBuilder:
    """A batch while it grows."""

    def __init__(self, *, max_bytes: int, max_items: int, one_encoding: bool) -> None:
        self.max_bytes = max_bytes
        self.max_items = max_items
        self.one_encoding = one_encoding
        self.rows: list[StoredRow] = []
        self.damaged: list[DamagedRow] = []
        self.covered: list[OwedRange] = []

    @classmethod
    def of_one_row(cls) -> Self:
        """A batch of the first row that comes, however large."""
        return cls(max_bytes=0, max_items=0, one_encoding=False)

    def budget(self) -> Budget:
        """What may still be added."""
        rows = self.rows
        last = rows[-1] if rows else None
        return Budget(
            self.max_bytes - sum(len(row.body) for row in rows),
            self.max_items - sum(row.items for row in rows),
            last.encoding if last is not None else None,
            one_encoding=self.one_encoding,
            is_first=not rows,
        )

    async def add(self, chunk: Chunk, item: OwedRange, known: PartialRows) -> None:
        """The part of each row that lies in `item`."""
        edges = {item.start.row, item.end.row if item.end is not None else 0}
        for row in chunk.rows:
            if row.row not in edges:
                self._put(row)
                continue
            first, stop = partial_rows.items_of(item, row.row, row.items)
            if stop - first != row.items:
                known.note(row)
            if isinstance(row, DamagedRow):
                self.damaged.append(row)
            elif first < stop or not row.items:
                await self._cut(row, first, stop)

    async def _cut(self, row: StoredRow, first: int, stop: int) -> None:
        try:
            self.rows.append(await partial_rows.cut(row, first, stop))
        except TranscodeError as error:
            # Its checksum was right: a mistake of ours put it there. Nobody can have half of it.
            words = f"{error}: it is set aside whole, to be looked at"
            self.damaged.append(
                DamagedRow(
                    row.row,
                    row.received_ns,
                    row.encoding,
                    row.flags,
                    row.items,
                    row.body,
                    words,
                    Reason.RELAY_ERROR,
                    signal=row.signal,
                )
            )

    def _put(self, row: StoredRow | DamagedRow) -> None:
        if isinstance(row, StoredRow):
            self.rows.append(row)
        else:
            self.damaged.append(row)
