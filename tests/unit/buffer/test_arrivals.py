"""What came since a row, for who counts it: by row and sender."""

import asyncio
from pathlib import Path

import pytest

from tests.unit.buffer.making import opened, piece, request, trace_id

pytestmark = pytest.mark.anyio


async def test_requests_of_one_sender_in_a_row_are_one_arrival(tmp_path: Path) -> None:
    sent = [
        request(piece(spans=2, traces=(1,)), received_ns=5, agent="one"),
        request(piece(spans=3, traces=(2, 3)), received_ns=6, agent="one"),
        request(piece(spans=4, traces=(4,)), received_ns=7, agent="other"),
    ]
    async with opened(tmp_path) as buffer:
        await asyncio.gather(*map(buffer.append, sent))
        await buffer.append(request(piece(spans=5, traces=(5,)), received_ns=8, agent="other"))
        found = await buffer.browse.arrivals(0)

    assert [(each.row, each.user_agent, each.items, each.received_ns) for each in found] == [
        (1, "one", 5, 6),
        (1, "other", 4, 7),
        (2, "other", 5, 8),
    ]
    assert found[0].trace_ids == trace_id(1) + trace_id(2) + trace_id(3)


async def test_arrivals_have_no_ids_where_nobody_asks_for_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece(spans=2, traces=(1,))))
        (found,) = await buffer.browse.arrivals(0, with_ids=False)

    assert (found.items, found.services, found.trace_ids) == (2, ("shop",), b"")
