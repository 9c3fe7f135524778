"""A file that is found damaged while the buffer is in use, and the new one in its place."""

from pathlib import Path

import apsw
import pytest

from relay.buffer import owed_ranges
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.quarantine import quarantined_files
from relay.model.errors import BufferUnavailable
from relay.model.records import Signal
from tests.unit.buffer.making import NOW_NS, opened, piece, request, take, take_all

pytestmark = pytest.mark.anyio


def replace_at_next_commit(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the writer find its file damaged while it makes room for a request."""
    writer = buffer._writer

    def replace(_need_bytes: int) -> bool:
        writer.lifecycle._replace("damaged")
        return True

    def fits(_connection: object, _need_bytes: int) -> bool:
        return buffer._ledger.generation > 0

    monkeypatch.setattr(writer, "_make_room", replace)
    monkeypatch.setattr(writer._house.space, "fits", fits)


async def test_requests_go_into_the_new_file_when_theirs_was_replaced_to_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was settled is committed then, and may be what finds the damage."""
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"old")))
        seen = buffer.last_row
        replace_at_next_commit(buffer, monkeypatch)
        await buffer.append(request(piece(b"new")))
        assert buffer.last_row > seen + 1
        bodies = await take_all(backlog)

    assert bodies == [b"new"]


@pytest.mark.parametrize("tail_bytes", [0, 1 << 20])
async def test_of_a_file_that_was_replaced_nothing_is_owed_in_flight_or_parked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail_bytes: int
) -> None:
    async with opened(tmp_path, tail_bytes=tail_bytes, flush_seconds=3600) as buffer:
        backlog, logs = buffer.consumer("a"), buffer.consumer("a", signal=Signal.LOGS)
        for _ in range(4):
            await buffer.append(request(piece(b"old", spans=2)))
        held, parked, settled = [await take(backlog, max_items=2) for _ in range(3)]
        backlog.park(parked, b"")
        backlog.settle(settled, status=200, at_ns=NOW_NS)
        replace_at_next_commit(buffer, monkeypatch)
        await buffer.append(request(piece(b"new", spans=3)))

        found = backlog.statistics()
        assert (found.owed_items, found.owed_rows, found.in_flight_items) == (3, 1, 0)
        backlog.settle(held, status=200, at_ns=NOW_NS)
        assert backlog.parked.ranges == ()
        assert backlog.ranges == logs.ranges == owed_ranges.open_from(buffer.last_row)
        assert [row.body for row in (await take(backlog)).rows] == [b"new"]
    async with opened(tmp_path) as buffer:
        assert {each.ranges for each in buffer.consumers().values()} == {
            owed_ranges.open_from(buffer.last_row)
        }


async def test_file_that_a_question_finds_damaged_is_replaced_before_that_is_said(
    tmp_path: Path,
) -> None:
    def meet(_connection: apsw.Connection) -> None:
        raise apsw.CorruptError("a page")

    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"old")))
        with pytest.raises(BufferUnavailable, match="was damaged and was replaced"):
            await buffer._reader.ask(meet)
        assert quarantined_files(tmp_path) != []
        await buffer.append(request(piece(b"new")))
        assert await take_all(backlog) == [b"new"]
