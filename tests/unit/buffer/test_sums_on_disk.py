"""What a destination is owed, summed up when the file is opened: rows between may have gone."""

from pathlib import Path

import pytest

from tests.unit.buffer.making import eventually, opened, piece, request, take

pytestmark = pytest.mark.anyio


async def test_rows_that_went_between_owed_ones_are_not_counted_as_owed(tmp_path: Path) -> None:
    async with opened(tmp_path, row_bytes=1, keep_delivered_seconds=0) as buffer:
        backlog = buffer.consumer("a")
        for spans in (1, 2, 4):
            await buffer.append(request(piece(spans=spans)))
        held = [await take(backlog, max_items=1) for _ in range(3)]
        backlog.settle(held[1], status=200, at_ns=1)
        await buffer.flush()
        await eventually(lambda: buffer.statistics().rows == 2)

    async with opened(tmp_path, row_bytes=1) as buffer:
        found = buffer.consumer("a").statistics()

    assert (found.owed_rows, found.owed_items) == (2, 5)
