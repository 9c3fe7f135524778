"""The one thread that writes: what waits for a turn of it, what is counted, and how it ends."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from relay.buffer.sqlite import writer
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.commands import Corrupt
from relay.buffer.sqlite.housekeeping import Housekeeping
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.quarantine import quarantined_files
from relay.buffer.sqlite.transactions import Transaction
from relay.model.counters import Counters
from relay.model.errors import BufferFull, BufferUnavailable
from tests.unit.buffer.making import deliver_all, eventually, noise, opened, piece, request

pytestmark = pytest.mark.anyio
MIB = 1 << 20


class Give(Transaction[int]):
    """Gives a number back."""

    def __init__(self, number: int, need_bytes: int = 0) -> None:
        self._number = number
        self._need_bytes = need_bytes

    @property
    def need_bytes(self) -> int:
        return self._need_bytes

    def run(self, file: LogFile, *, now_ns: int) -> int:
        return self._number


async def flush(buffer: Buffer) -> None:
    await buffer.flush()


async def transact(buffer: Buffer) -> None:
    await buffer._ledger.transact(Give(1))


async def append(buffer: Buffer) -> None:
    await buffer.append(request(piece()))


async def report(buffer: Buffer) -> None:
    waiter = buffer._ledger.new_waiter()
    buffer._ledger.commands.put(Corrupt(0, "a page", waiter))
    await waiter


@pytest.mark.parametrize(
    ("step", "ask"),
    [
        ("writer._commit_acks", flush),
        ("writer._run_transaction", transact),
        ("lifecycle.replace_reported", report),
    ],
)
async def test_whoever_waits_for_a_turn_in_which_the_writer_dies_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    ask: Callable[[Buffer], Any],
) -> None:
    def die(*_: object, **__: object) -> None:
        raise MemoryError("gone")

    async with opened(tmp_path) as buffer:
        owner, name = step.split(".")
        place: Any = buffer._writer if owner == "writer" else buffer._writer.lifecycle
        monkeypatch.setattr(place, name, die)
        with anyio.fail_after(30), pytest.raises(BufferUnavailable):
            await ask(buffer)


async def test_whoever_waits_behind_a_turn_in_which_the_writer_dies_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_begun, are_there = threading.Event(), threading.Event()
    refused: list[int] = []

    def die(*_: object) -> None:
        has_begun.set()
        are_there.wait(30)
        raise MemoryError("gone")

    async def ask(number: int) -> None:
        try:
            await (flush, transact, report, append)[number](buffer)
        except BufferUnavailable:
            refused.append(number)

    async with opened(tmp_path) as buffer:
        monkeypatch.setattr(buffer._writer, "_append", die)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, 3)
                await eventually(has_begun.is_set)
                for number in range(4):
                    tasks.start_soon(ask, number)
                await anyio.lowlevel.checkpoint()
                await eventually(lambda: buffer._ledger.commands.qsize() >= 4)
                are_there.set()
    assert sorted(refused) == [0, 1, 2, 3, 3]


async def test_each_of_several_transactions_gets_what_it_returned(tmp_path: Path) -> None:
    found: dict[int, int] = {}

    async def ask(number: int) -> None:
        found[number] = await buffer._ledger.transact(Give(number))

    async with opened(tmp_path) as buffer:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(ask, number)
    assert found == {number: number for number in range(5)}


async def test_delivered_rows_give_way_to_a_transaction(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size_bytes=4 * MIB, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        for number in range(20):
            await buffer.append(request(piece(noise(60_000, number))))
        await deliver_all(backlog)
        assert buffer.statistics().rows == 20
        assert await buffer._ledger.transact(Give(7, need_bytes=MIB)) == 7
        assert buffer.statistics().rows < 20
        with pytest.raises(BufferFull):
            await buffer._ledger.transact(Give(7, need_bytes=2 * MIB))


async def test_full_buffer_stays_full_until_something_goes_and_still_does_what_needs_no_room(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, max_size_bytes=4 * MIB, tail_bytes=0, flush_seconds=60.0) as buffer:
        backlog = buffer.consumer("a")
        with suppress(BufferFull):
            for number in range(100):
                await buffer.append(request(piece(noise(60_000, number))))
        for _ in range(3):
            await buffer.flush()
            assert buffer.statistics().is_full
        assert await buffer._ledger.transact(Give(7)) == 7
        assert buffer.statistics().is_full
        await deliver_all(backlog)  # which is not on disk before somebody needs the room
        await eventually(lambda: not buffer.statistics().is_full)
        await buffer.append(request(piece(noise(60_000))))


async def test_commits_are_counted_with_the_time_that_they_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1000.0)

    def later(*_: object, **__: object) -> int:
        clock.now += 0.25
        return 0

    counters = Counters()
    async with opened(tmp_path, counters=counters, flush_seconds=60.0) as buffer:
        monkeypatch.setattr(writer, "time", SimpleNamespace(monotonic=lambda: clock.now))
        commit = LogFile.commit

        def slow(*given: Any, **named: Any) -> None:
            later()
            commit(*given, **named)

        monkeypatch.setattr(LogFile, "commit", slow)
        monkeypatch.setattr(Give, "run", later)
        before = counters.commits
        for _ in range(2):
            await buffer.append(request(piece()))
        await buffer._ledger.transact(Give(0))

        assert counters.commits - before == 3
        assert list(counters.recent_commit_seconds)[-3:] == [0.25] * 3
        assert counters.commit_seconds_sum == sum(counters.recent_commit_seconds)


async def test_what_is_there_from_before_is_told_before_any_house_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece()))
    monkeypatch.setattr(Housekeeping, "step", lambda *_, **__: False)
    async with opened(tmp_path) as buffer:
        assert buffer.statistics().first_row == 1


async def test_value_that_cannot_be_costs_a_file_and_in_one_after_the_other_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meet(*_: object, **__: object) -> bool:
        raise ValueError("a number that is none")

    async with opened(tmp_path) as buffer:
        monkeypatch.setattr(Housekeeping, "step", meet)
        with anyio.fail_after(60), pytest.raises(ValueError, match="a number that is none"):
            await buffer.wait_failed()
    assert len(quarantined_files(tmp_path)) == 3


async def test_writer_keeps_no_process_from_ending(tmp_path: Path) -> None:
    """Its disk may hang for ever."""
    async with opened(tmp_path):
        writers = [each for each in threading.enumerate() if each.name == "buffer-writer"]
        assert [each.daemon for each in writers] == [True]
