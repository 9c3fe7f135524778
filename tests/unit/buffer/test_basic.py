"""What goes in comes out: order, joining, encodings, waiting, cancelling."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import apsw
import msgspec
import pytest

from relay.model.counters import Counters
from relay.model.errors import BufferUnavailable
from relay.model.records import BodyFlag, Encoding, Piece, Signal
from tests.unit.buffer.making import NOW_NS, opened, piece, rejected_span, request, take, take_all

pytestmark = pytest.mark.anyio


async def test_append_gives_the_body_to_the_destination(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b'{"n":1}', spans=3)))
        taken = await take(backlog)

    assert [(row.body, row.items, row.received_ns) for row in taken.rows] == [
        (b'{"n":1}', 3, NOW_NS)
    ]


async def test_append_is_committed_when_it_returns(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece()))
        other = apsw.Connection(str(tmp_path / "relay.db"), flags=apsw.SQLITE_OPEN_READONLY)
        count = other.execute("SELECT count(*) FROM rows").get
        other.close()

    assert count == 1


async def test_small_requests_that_wait_share_a_row_and_a_commit(tmp_path: Path) -> None:
    counters = Counters()
    async with opened(tmp_path, counters=counters) as buffer:
        backlog = buffer.consumer("a")
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(buffer.append, request(piece(b'{"n":%d}' % number)))
        bodies = await take_all(backlog)

    entries = msgspec.json.decode(b"[" + b",".join(bodies) + b"]")
    assert sorted(entry["n"] for entry in entries) == list(range(100))
    assert counters.commits < 50
    assert len(bodies) < 50


async def test_protobuf_bodies_are_joined_without_a_comma(tmp_path: Path) -> None:
    two = [piece(body, encoding=Encoding.PROTOBUF) for body in (b"\x0a\x01a", b"\x0a\x01b")]
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(*two))
        taken = await take(backlog)

    assert [row.body for row in taken.rows] == [b"\x0a\x01a\x0a\x01b"]


async def test_row_holds_every_flag_of_its_requests(tmp_path: Path) -> None:
    deep = Piece(Encoding.JSON, b"{}", 1, bytes(16), (), BodyFlag.DEEP)
    special = Piece(Encoding.JSON, b"{}", 1, bytes(16), (), BodyFlag.SPECIAL_DOUBLES)
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(deep, special))
        taken = await take(backlog)

    assert taken.rows[0].flags == BodyFlag.DEEP | BodyFlag.SPECIAL_DOUBLES


@pytest.mark.parametrize("tail_bytes", [0, 1 << 20])
async def test_take_stops_where_the_encoding_changes(tmp_path: Path, tail_bytes: int) -> None:
    async with opened(tmp_path, tail_bytes=tail_bytes) as buffer:
        backlog = buffer.consumer("a")
        for encoding in (1, 1, 2, 1):
            await buffer.append(request(piece(encoding=Encoding(encoding))))
        runs = [await backlog.take(max_bytes=1 << 20, max_items=100) for _ in range(3)]

        assert await backlog.take(max_bytes=1, max_items=1) is None
    assert [len(taken.rows) for taken in runs if taken is not None] == [2, 1, 1]


async def test_take_crosses_encodings_when_it_may(tmp_path: Path) -> None:
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        for encoding in (1, 2, 1):
            await buffer.append(request(piece(encoding=Encoding(encoding))))
        taken = await take(backlog, one_encoding=False)

    assert [row.encoding for row in taken.rows] == [1, 2, 1]


@pytest.mark.parametrize("tail_bytes", [0, 1 << 20])
async def test_each_signal_is_taken_by_itself(tmp_path: Path, tail_bytes: int) -> None:
    async with opened(tmp_path, tail_bytes=tail_bytes) as buffer:
        spans, logs = buffer.consumer("a"), buffer.consumer("a", signal=Signal.LOGS)
        for signal in (Signal.TRACES, Signal.LOGS, Signal.LOGS, Signal.TRACES):
            await buffer.append(request(piece(signal=signal)))
        batches = [await take(each, one_encoding=False) for each in (spans, logs)]
        assert not spans.has_more
        assert not logs.has_more

    assert [[row.row for row in taken.rows] for taken in batches] == [[1, 4], [2, 3]]
    assert [taken.signal for taken in batches] == [Signal.TRACES, Signal.LOGS]


async def test_signals_of_one_request_do_not_share_a_row(tmp_path: Path) -> None:
    async with opened(tmp_path, tail_bytes=0) as buffer:
        spans, points = buffer.consumer("a"), buffer.consumer("a", signal=Signal.METRICS)
        await buffer.append(request(piece(b"1"), piece(b"2", signal=Signal.METRICS), piece(b"3")))
        batches = [await take(each) for each in (spans, points)]

    assert [[row.body for row in taken.rows] for taken in batches] == [[b"1,3"], [b"2"]]


@pytest.mark.parametrize("tail_bytes", [0, 1 << 20])
async def test_take_holds_its_limits_but_gives_one_row_at_least(
    tmp_path: Path, tail_bytes: int
) -> None:
    async with opened(tmp_path, tail_bytes=tail_bytes) as buffer:
        backlog = buffer.consumer("a")
        for _ in range(5):
            await buffer.append(request(piece(b"x" * 100, spans=10)))
        by_bytes = await take(backlog, max_bytes=250)
        by_spans = await take(backlog, max_items=15)
        too_small = await take(backlog, max_bytes=1, max_items=1)

    assert [len(taken.rows) for taken in (by_bytes, by_spans, too_small)] == [2, 1, 1]
    assert [taken.rows[0].row for taken in (by_bytes, by_spans, too_small)] == [1, 3, 4]


async def test_wait_returns_when_something_is_owed_that_is_not_in_flight(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece()))
        with anyio.fail_after(30):
            await backlog.wait()
        taken = await take(backlog)
        with anyio.move_on_after(0.02) as scope:
            await backlog.wait()
        assert scope.cancelled_caught

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backlog.wait)
            await anyio.lowlevel.checkpoint()
            backlog.give_back(taken)


async def test_append_is_kept_when_its_waiter_is_cancelled(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(buffer.append, request(piece(b'{"n":"cancelled"}')))
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        await buffer.append(request(piece(b'{"n":"next"}')))

        assert b",".join(await take_all(backlog)) == b'{"n":"cancelled"},{"n":"next"}'


async def test_append_of_nothing_writes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request())

        assert buffer.statistics().last_row == 0


async def test_rejected_spans_alone_become_dead_letters(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(rejected=(rejected_span("ab" * 16, b'{"bad":2}'),)))
        stored = (await buffer.dead_letters.newest())[0]
        counts = buffer.statistics().dead_letters

    assert (stored.letter.reason, stored.letter.words) == ("trace_id_zero", "ab" * 16)
    assert (stored.letter.body, stored.letter.trace_ids) == (b'{"bad":2}', b"\xab" * 16)
    assert not stored.is_damaged
    assert counts[""].count == 1


async def test_append_is_refused_after_close_which_is_safe_twice(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece()))
        await buffer.close()
        await buffer.close()

        with pytest.raises(BufferUnavailable):
            await buffer.append(request(piece()))
    assert not (tmp_path / "relay.db-wal").exists()


async def test_close_keeps_what_was_appended_in_the_same_turn_of_the_loop(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        # Before the loop's next turn, in which the writer would be told, its thread has ended.
        loop.call_soon(loop.call_soon, buffer._writer.join)
        tasks.start_soon(buffer.append, request(piece()))
        await anyio.lowlevel.checkpoint()
        await buffer.close()
    async with opened(tmp_path) as buffer:
        assert buffer.last_row == 1


async def test_one_request_that_cannot_be_stored_does_not_hurt_its_neighbours(
    tmp_path: Path,
) -> None:
    impossible = Piece(Encoding.JSON, b"{}", 2**70, bytes(16))
    outcomes: list[str] = []

    async def append(one: Piece) -> None:
        try:
            await buffer.append(request(one))
            outcomes.append("kept")
        except BufferUnavailable:
            outcomes.append("refused")

    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        async with anyio.create_task_group() as tasks:
            for one in (piece(), impossible, piece()):
                tasks.start_soon(append, one)
        owed = backlog.statistics().owed_items

    assert sorted(outcomes) == ["kept", "kept", "refused"]
    assert owed == 2


async def test_writer_that_dies_is_told_and_nobody_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as buffer:
        append, is_kept = buffer._writer._append, threading.Event()

        def append_and_note(appends: list[Any]) -> None:
            append(appends)
            is_kept.set()

        def die() -> None:
            if is_kept.is_set():  # it may be called before the request is there
                raise MemoryError("gone")

        monkeypatch.setattr(buffer._writer, "_append", append_and_note)
        monkeypatch.setattr(buffer._writer, "_keep_house", die)
        await buffer.append(request(piece()))
        with anyio.fail_after(30), pytest.raises(MemoryError):
            await buffer.wait_failed()
        with pytest.raises(BufferUnavailable):
            await buffer.append(request(piece()))

        assert not buffer.statistics().is_writable


async def test_waiters_of_a_turn_in_which_the_writer_dies_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise MemoryError("gone")

    async with opened(tmp_path) as buffer:
        monkeypatch.setattr(buffer._writer, "_append", die)
        with anyio.fail_after(30), pytest.raises(BufferUnavailable):
            await buffer.append(request(piece()))


async def test_damage_that_is_met_after_the_end_keeps_nobody_waiting(tmp_path: Path) -> None:
    refused: list[BufferUnavailable] = []
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks, opened(tmp_path) as buffer:

            def meet(_connection: apsw.Connection) -> None:
                buffer._writer.join()  # so that nobody is left to replace the file
                raise apsw.CorruptError("a page")

            async def ask() -> None:
                try:
                    await buffer._reader.ask(meet)
                except BufferUnavailable as error:
                    refused.append(error)

            tasks.start_soon(ask)
            await anyio.lowlevel.checkpoint()

    assert [str(error) for error in refused] == ["the buffer is closed"]


async def test_reader_opens_the_file_anew_after_an_error_of_the_disk(tmp_path: Path) -> None:
    met: list[apsw.Connection] = []

    def meet(connection: apsw.Connection) -> None:
        met.append(connection)
        raise apsw.IOError("disk I/O error")

    async with opened(tmp_path) as buffer:
        for _ in range(2):
            with pytest.raises(BufferUnavailable):
                await buffer._reader.ask(meet)
    first, second = met
    assert first is not second


@pytest.mark.parametrize("tail_bytes", [0, 1 << 20])
async def test_what_comes_behind_a_row_that_is_too_large_waits_for_it(
    tmp_path: Path, tail_bytes: int
) -> None:
    """Also where other rows between them are in flight."""
    async with opened(tmp_path, tail_bytes=tail_bytes) as buffer:
        backlog = buffer.consumer("a")
        for size in (100, 50, 300, 50, 100):
            encoding = Encoding.PROTOBUF if size == 300 else Encoding.JSON
            made = piece(b"x" * size, spans=size // 50, encoding=encoding)
            await buffer.append(request(made))
        first, second, third, fourth = [await take(backlog, max_items=1) for _ in range(4)]
        backlog.give_back(first)
        backlog.give_back(third)
        for max_bytes, max_items in ((350, 99), (9999, 7)):
            taken = await take(
                backlog, max_bytes=max_bytes, max_items=max_items, one_encoding=False
            )
            assert [row.row for row in taken.rows] == [1]
            backlog.give_back(taken)
        taken = await take(backlog)  # the next is of another encoding

    assert [row.row for row in taken.rows] == [1]
    assert [row.row for each in (second, fourth) for row in each.rows] == [2, 4]


async def test_what_cannot_be_read_just_now_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While rows are being evicted nobody can say which of them are there."""
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        for _ in range(3):
            await buffer.append(request(piece(b"x" * 100)))
        first, second = [await take(backlog, max_items=1) for _ in range(2)]
        backlog.give_back(first)
        read, asked = backlog._reader.read_chunk, 0

        async def not_at_first(*args: Any) -> Any:
            nonlocal asked
            asked += 1
            return await read(*args) if asked > 1 else None

        monkeypatch.setattr(backlog._reader, "read_chunk", not_at_first)
        taken = await take(backlog)

    assert [row.row for row in taken.rows] == [1, 3]
    assert [row.row for row in second.rows] == [2]
