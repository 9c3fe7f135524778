"""What the reader's thread answers, a step at a time, and how it begins and ends."""

import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import apsw
import msgspec
import pytest

from relay.buffer.sqlite import reader
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.reader import Reader, first_received_ns, last_row_of, split_parts
from relay.buffer.sqlite.rows import Part
from relay.model.counters import Counters
from relay.model.errors import BufferUnavailable
from relay.model.records import Signal
from tests.unit.buffer.making import (
    NOW_NS,
    SETTINGS,
    eventually,
    opened,
    piece,
    request,
    take,
    take_all,
    trace_id,
)

pytestmark = pytest.mark.anyio
TRACES, LOGS, METRICS = Signal


def asked(question: Callable[..., Any], **of: Any) -> Callable[[apsw.Connection], Any]:
    return partial(question, **of)


async def test_rows_are_read_on_where_a_step_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_META_ROWS", 2)
    async with opened(tmp_path, tail_bytes=0) as buffer:
        spans = buffer.consumer("a")
        for number, each in enumerate("tttttltltttt"):
            signal = TRACES if each == "t" else LOGS
            await buffer.append(request(piece(b"%d" % number, signal=signal)))
        taken = await take(spans)

    assert [int(row.body) for row in taken.rows] == [0, 1, 2, 3, 4, 6, 8, 9, 10, 11]


@pytest.mark.parametrize(
    ("sizes", "steps"), [((99, 1, 50), [2, 1]), ((100, 50), [1, 1]), ((99, 2, 50), [2, 1])]
)
async def test_a_step_ends_with_the_row_that_makes_it_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], steps: list[int]
) -> None:
    looked: list[int] = []
    read_some = reader.read_some

    def noting(connection: Any, rows: Any) -> Any:
        found = read_some(connection, rows)
        looked.append(found[1])
        return found

    monkeypatch.setattr(reader, "_EACH_BYTES", 100)
    monkeypatch.setattr(reader, "read_some", noting)
    async with opened(tmp_path, tail_bytes=0) as buffer:
        for size in sizes:
            await buffer.append(request(piece(b"x" * size)))
        rows = await buffer.read_rows(range(1, len(sizes) + 1))

    assert [len(row.body) for row in rows] == list(sizes)
    assert looked == steps


async def test_first_and_last_row_of_a_signal_are_found_where_there_are_any(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        for number, signal in enumerate((TRACES, LOGS, TRACES), start=1):
            await buffer.append(request(piece(signal=signal), received_ns=NOW_NS + number))
        ask = buffer._reader.ask

        async def first(signal: Signal, row: int) -> int:
            found: int = await ask(asked(first_received_ns, signal=signal, first_row=row))
            return found

        async def last(signal: Signal, *rows: int) -> int:
            question = asked(last_row_of, signal=signal, first_row=rows[0], last_row=rows[1])
            found: int = await ask(question)
            return found

        assert [await first(TRACES, row) - NOW_NS for row in (1, 2, 3)] == [1, 3, 3]
        assert [await first(TRACES, 4), await first(LOGS, 3), await first(METRICS, 1)] == [0, 0, 0]
        assert [await last(TRACES, 1, row) for row in (3, 2, 1)] == [3, 1, 1]
        assert [await last(METRICS, 1, 3), await last(TRACES, 2, 2)] == [0, 0]


def test_each_request_of_a_row_has_its_own_ids_and_damage_has_none() -> None:
    parts = [Part(0, 1, NOW_NS, count, "", False, "", ()) for count in (2, 0, 3, 1)]
    ids = [trace_id(number) for number in range(6)]
    found = split_parts(msgspec.msgpack.encode(parts), b"".join(ids))

    assert [part for part, _own in found] == parts
    assert [own for _part, own in found] == [
        b"".join(own) for own in (ids[:2], (), ids[2:5], ids[5:])
    ]
    assert split_parts(b"\xc1", b"") == []


async def test_only_so_many_looked_up_times_are_remembered_those_asked_for_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_MOST_HEADS", 2)
    ledger = Ledger(SETTINGS, Counters(), lambda: NOW_NS)
    ledger.bind()
    looking = Reader(tmp_path / "relay.db", ledger, vfs=None)  # its thread does not run
    ledger.cache.clear(9)
    for row in (1, 2, 3):
        looking.note_oldest(TRACES, row, NOW_NS + row)
    assert [looking.received_ns(TRACES, row) for row in (2, 3)] == [NOW_NS + 2, NOW_NS + 3]

    # What was not found, or is asked for no more, changes nothing.
    looking._found_oldest((TRACES, 2), None, BufferUnavailable("the disk"))
    looking._found_oldest((TRACES, 3), 0, None)
    looking._found_oldest((TRACES, 4), NOW_NS, None)
    assert looking._oldest == {(TRACES, 2): NOW_NS + 2, (TRACES, 3): NOW_NS + 3}


async def test_answer_is_not_kept_until_the_next_question(tmp_path: Path) -> None:
    class Answer:
        pass

    async with opened(tmp_path) as buffer:
        answer = weakref.ref(await buffer._reader.ask(lambda _connection: Answer()))
        await eventually(lambda: answer() is None, seconds=10)


async def test_its_thread_has_ended_when_the_buffer_is_closed(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece()))
        names = [thread.name for thread in threading.enumerate()]
        assert "buffer-reader" in names
        thread = buffer._reader._thread
    assert not thread.is_alive()


async def test_disk_that_cannot_be_read_is_said_unless_the_file_was_replaced_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"1")))
        ask, is_replaced = buffer._reader.ask, [False, True]

        async def fail_twice(question: Any) -> Any:
            if not is_replaced:
                return await ask(question)
            buffer._ledger.generation += is_replaced.pop(0)
            raise BufferUnavailable("the disk")

        monkeypatch.setattr(buffer._reader, "ask", fail_twice)
        with pytest.raises(BufferUnavailable):
            await take(backlog)
        assert is_replaced == [True]
        assert [row.body for row in (await take(backlog)).rows] == [b"1"]


async def test_rows_are_waited_for_while_some_of_them_go(tmp_path: Path) -> None:
    """Which of them are still owed is told a moment after they have gone."""
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"1")))
        ledger, bodies = buffer._ledger, []

        async def read() -> None:
            bodies.extend(await take_all(backlog))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                ledger.evictions_begun += 1
                tasks.start_soon(read)
                for _ in range(3):
                    await buffer.flush()
                assert bodies == []
                ledger.evictions_heard += 1

    assert bodies == [b"1"]
