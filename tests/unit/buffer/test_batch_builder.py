"""What of the rows of a chunk goes into a batch: the items that are owed."""

import pytest

from relay.buffer.sqlite.batch_builder import BatchBuilder
from relay.buffer.sqlite.partial_rows import PartialRows
from relay.buffer.sqlite.types import Chunk
from relay.model.records import BodyFlag, Encoding, OwedRange, Position, StoredRow
from tests.support.builders import request as otlp
from tests.support.builders import span, to_body

pytestmark = pytest.mark.anyio


def row(number: int, items: int) -> StoredRow:
    body = to_body(otlp(*(span() for _ in range(items)))["resourceSpans"])[1:-1]
    return StoredRow(number, 1, Encoding.JSON, BodyFlag.NONE, items, body)


@pytest.mark.parametrize(
    ("start", "end", "owed"),
    [
        ((1, 0), (4, 0), [(1, 3), (2, 3), (3, 3)]),
        ((1, 0), (3, 0), [(1, 3), (2, 3)]),  # nothing of the third
        ((1, 3), (3, 1), [(2, 3), (3, 1)]),  # nothing of the first
        ((1, 2), None, [(1, 1), (2, 3), (3, 3)]),
    ],
)
async def test_a_row_of_which_nothing_is_owed_is_not_in_the_batch(
    start: tuple[int, int], end: tuple[int, int] | None, owed: list[tuple[int, int]]
) -> None:
    batch = BatchBuilder(max_bytes=10**6, max_items=100, one_encoding=False)
    item = OwedRange(Position(*start), Position(*end) if end else None)
    await batch.add(Chunk([row(number, 3) for number in (1, 2, 3)], 4, False), item, PartialRows())

    assert [(each.row, each.items) for each in batch.rows] == owed
