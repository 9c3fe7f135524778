"""Where a trace is, asked of the files of a relay that does not run."""

from pathlib import Path

import apsw
import pytest

from relay.buffer.sqlite.reader import ask_directly
from relay.buffer.sqlite.trace_lookup import TracesAtRest
from tests.unit.buffer.making import opened, piece, request, trace_id

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("damage", ["x'00'", "'text'"])
async def test_a_damaged_list_owes_everything_as_a_relay_takes_it(
    tmp_path: Path, damage: str
) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        await buffer.append(request(piece(traces=(7,))))
    connection = apsw.Connection(str(tmp_path / "relay.db"))
    connection.execute(f"UPDATE destinations SET ranges = {damage}")  # noqa: S608 - our own words
    try:
        traces = TracesAtRest(ask_directly(connection))
        (place,) = await traces.find(trace_id(7), trace_id(7).hex())
    finally:
        connection.close()

    assert [(each.destination, each.state) for each in place.deliveries] == [("a", "waiting")]
