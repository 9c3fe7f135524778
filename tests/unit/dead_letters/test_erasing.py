"""Erasing dead letters: free pages go back to the file system, and the write-ahead log is cut."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import anyio
import apsw
import pytest

from relay.buffer.sqlite import dead_letter_transactions
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.dead_letter_transactions import CutLog, Discard, ReturnPages
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.transactions import Transaction
from tests.unit.buffer.making import (
    a_letter,
    deliver_all,
    eventually,
    noise,
    opened,
    piece,
    request,
    trace_id,
)

pytestmark = pytest.mark.anyio


async def set_aside(buffer: Buffer, *bodies: bytes) -> list[int]:
    """A letter of each body; their ids."""
    letters = [replace(a_letter(trace_id(1)), body=body) for body in bodies]
    buffer.consumer("a").changed((), letters)
    await buffer.flush()
    return [each.letter_id for each in await buffer.dead_letters.newest()][::-1]


async def test_free_pages_are_returned_in_steps_or_all_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        ids = await set_aside(buffer, noise(13 << 20), noise(13 << 20))
        await buffer._ledger.transact(Discard(ids[:1]))
        left = await buffer._ledger.transact(ReturnPages())
        assert 0 < left < (13 << 20) // 4096
        assert await buffer._ledger.transact(ReturnPages()) < left
        await buffer._ledger.transact(Discard(ids[1:]))
        assert await buffer._ledger.transact(ReturnPages(at_once=True)) == 0


async def test_pages_that_are_few_are_returned_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as buffer:
        await buffer._ledger.transact(Discard(await set_aside(buffer, noise(900_000))))
        free = await buffer._reader.ask(lambda it: it.pragma("freelist_count"))
        monkeypatch.setattr(dead_letter_transactions, "_VACUUM_PAGES", 1)
        monkeypatch.setattr(dead_letter_transactions, "_LAST_PAGES", free - 1)
        assert await buffer._ledger.transact(ReturnPages()) == free - 1
        assert await buffer._ledger.transact(ReturnPages()) == 0


async def test_pages_are_returned_in_steps_until_these_take_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    class Steps(ReturnPages):
        def __init__(self, *, at_once: bool) -> None:
            asked.append(at_once)
            super().__init__(at_once=at_once)

    async with opened(tmp_path) as buffer:
        ids = await set_aside(buffer, noise(900_000))
        await buffer.dead_letters.discard(ids, erases=True)
        seconds = itertools.count(1000.0, 5.0)
        clock = SimpleNamespace(monotonic=lambda: next(seconds))
        monkeypatch.setattr(dead_letter_transactions, "time", clock)
        monkeypatch.setattr(dead_letter_transactions, "ReturnPages", Steps)
        monkeypatch.setattr(dead_letter_transactions, "_VACUUM_PAGES", 1)
        monkeypatch.setattr(dead_letter_transactions, "_LAST_PAGES", 0)
        assert await buffer.dead_letters.finish_erasing() == ""

    assert asked == [False, False, False, False, True]


async def test_log_is_not_cut_while_somebody_reads_and_is_after_that(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        (number,) = await set_aside(buffer, b"{}")
        reading = apsw.Connection(str(tmp_path / "relay.db"), flags=apsw.SQLITE_OPEN_READONLY)
        reading.execute("BEGIN")
        reading.execute("SELECT * FROM dead_letters").fetchall()
        await buffer._ledger.transact(Discard([number], erases=True))
        assert await buffer._ledger.transact(CutLog()) is False

        reading.execute("COMMIT")
        assert await buffer._ledger.transact(CutLog()) is True
        reading.close()


async def test_log_that_is_being_read_is_cut_after_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = apsw.Connection(":memory:")
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        reading.close()

    async with opened(tmp_path) as buffer:
        ids = await set_aside(buffer, b"{}")
        reading = apsw.Connection(str(tmp_path / "relay.db"), flags=apsw.SQLITE_OPEN_READONLY)
        reading.execute("BEGIN; SELECT * FROM dead_letters").fetchall()
        await buffer.dead_letters.discard(ids, erases=True)
        monkeypatch.setattr(dead_letter_transactions, "_ERASE_SECONDS", 10.0)
        until = SimpleNamespace(sleep=pause, move_on_after=anyio.move_on_after)
        monkeypatch.setattr(dead_letter_transactions, "anyio", until)
        assert await buffer.dead_letters.finish_erasing() == ""

    assert pauses == [dead_letter_transactions._RETRY_SECONDS]


class SecureDelete(Transaction[int]):
    """How deleted bytes are overwritten: 2 is where that costs no write of its own."""

    def run(self, file: LogFile, *, now_ns: int) -> int:
        return int(file.connection.pragma("secure_delete"))


async def test_other_rows_are_deleted_as_fast_as_before_something_was_erased(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        ids = await set_aside(buffer, b"{}")
        assert await buffer._ledger.transact(SecureDelete()) == 2
        await buffer.dead_letters.discard(ids, erases=True)
        assert await buffer._ledger.transact(SecureDelete()) == 2


@pytest.mark.parametrize("erases", [False, True])
async def test_what_is_known_of_its_row_goes_with_a_letter_that_is_erased_alone(
    tmp_path: Path, erases: bool
) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        await buffer.append(request(piece(traces=(1,))))
        await deliver_all(buffer.consumer("a"))
        await eventually(lambda: buffer.statistics().rows == 0)
        (number,) = await set_aside(buffer, b"{}")
        named = {"erases": True} if erases else {}
        assert await buffer.dead_letters.discard([number], **named) == [number]

        assert bool(await buffer.traces.find(trace_id(1))) is not erases
