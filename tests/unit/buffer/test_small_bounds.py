"""Single numbers and single steps of the engine: names of files, timers, room, who is told what."""

import asyncio
import queue
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from relay.buffer.backlog_name import BacklogName
from relay.buffer.settings import MIB, BufferSettings
from relay.buffer.sqlite import replay_query
from relay.buffer.sqlite.append_timeout import AppendTimeout, stalled
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.commands import Flush
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.space.hold_timers import DEFAULT_HOLD_NS, HoldTimers
from relay.buffer.sqlite.space.space import COMMIT_FACTOR, COMMIT_OVERHEAD_BYTES, Space
from relay.buffer.values import DeadLetterFilter, KeptRows
from relay.model.counters import Counters
from relay.model.errors import BufferFull, BufferUnavailable
from relay.model.records import DeadLetter, Encoding, Health, OwedRange, Position, Signal
from tests.unit.buffer.making import (
    NOW_NS,
    SETTINGS,
    Clocks,
    deliver_all,
    eventually,
    opened,
    piece,
    request,
)

pytestmark = pytest.mark.anyio
SECOND = 10**9
TRACES, LOGS, METRICS = Signal


# -- files ------------------------------------------------------------------------------------


def test_name_of_what_is_quarantined_has_the_next_number_that_is_free(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    names = []
    for suffix in ("", "-wal", "", "-wal"):
        name = directory.free_name("corrupt-x").name
        (tmp_path / f"{name}{suffix}").touch()
        names.append(name)

    first = "relay.db.corrupt-x"
    assert names == [first, f"{first}.2", f"{first}.3", f"{first}.4"]


@pytest.mark.parametrize(("lost", "rows"), [(1, "rows 2 ("), (3, "rows 2–4 (")])  # noqa: RUF001
async def test_rows_lost_with_an_older_copy_are_named_by_their_first_and_last(
    tmp_path: Path, lost: int, rows: str
) -> None:
    async with opened(tmp_path / "state") as buffer:
        buffer.consumer("a")
        await buffer.append(request(piece()))
    shutil.copyfile(tmp_path / "state/relay.db", tmp_path / "older")
    async with opened(tmp_path / "state") as buffer:
        for _ in range(lost):
            await buffer.append(request(piece()))
    shutil.copyfile(tmp_path / "older", tmp_path / "state/relay.db")  # the same inode
    for _ in range(2):  # it is told once, and once again what is left
        async with opened(tmp_path / "state") as buffer:
            page = await buffer.dead_letters.oldest_first(DeadLetterFilter(), 0)
            assert buffer.statistics().rows == 1

    (found,) = [each.letter for each in page.entries]
    assert rows in found.words
    assert f"({lost} item" in found.words
    assert (found.destination, found.affected, found.row) == ("a", lost, 2)


# -- who is told ------------------------------------------------------------------------------


async def test_end_of_the_writer_wakes_the_loop_that_waits_for_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.get_running_loop().set_debug(True)  # then no other thread may touch what is the loop's
    buffer = Buffer(tmp_path, SETTINGS, Counters())
    buffer.open()

    def die() -> None:
        raise MemoryError("gone")

    async def wait() -> None:
        with pytest.raises(MemoryError):
            await buffer.wait_failed()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            monkeypatch.setattr(buffer._writer, "_keep_house", die)
            buffer._ledger.commands.put(Flush())
    await buffer.close()


async def test_two_who_close_a_buffer_that_nobody_used_both_return(tmp_path: Path) -> None:
    asyncio.get_running_loop().set_debug(True)
    buffer = Buffer(tmp_path, SETTINGS, Counters())
    buffer.open()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(buffer.close)
            tasks.start_soon(buffer.close)


async def test_each_who_is_refused_gets_an_error_of_its_own() -> None:
    ledger = Ledger(SETTINGS, Counters(), lambda: NOW_NS)
    ledger.is_open = True
    first, second, done = (ledger.new_waiter() for _ in range(3))
    done.set_result(None)
    ledger.refuse([first, done, second], BufferFull("no room", hint="make some"))
    errors = [await caught(each) for each in (first, second)]

    assert errors[0] is not errors[1]
    for error in errors:
        assert isinstance(error, BufferFull)
        assert (error.message, error.hint) == ("no room", "make some")
    third = ledger.new_waiter()
    ledger.refuse([third], ValueError("other"))
    assert isinstance(await caught(third), ValueError)


async def caught(waiter: "asyncio.Future[None]") -> BaseException:
    with pytest.raises(Exception) as found:  # noqa: PT011 - which one is what is asked
        await waiter
    return found.value


async def test_nothing_is_asked_before_it_is_open_nor_after_its_end() -> None:
    ledger = Ledger(SETTINGS, Counters(), lambda: NOW_NS)

    def refused() -> str:
        with pytest.raises(BufferUnavailable) as found:
            ledger.new_waiter()
        return found.value.message

    def known() -> tuple[bool, bool]:
        return ledger.is_usable, ledger.is_bound

    assert (known(), refused()) == ((False, False), "the buffer is closed")
    ledger.is_open = True
    assert known() == (True, False)
    assert ledger.bind() is ledger.bind() is asyncio.get_running_loop()
    assert known() == (True, True)
    ledger.is_closing = True
    assert (known(), refused()) == ((False, True), "the buffer is closed")
    ledger.is_closing, ledger.death = False, MemoryError()
    assert (known(), refused()) == ((False, True), "the buffer's writer has died")


def test_before_there_is_a_loop_news_goes_to_the_writer_at_once() -> None:
    ledger = Ledger(SETTINGS, Counters(), lambda: NOW_NS)
    letter = DeadLetter("a", "other", "no", 1, Encoding.JSON, b"")
    ledger.changed([letter, letter])
    assert ledger.counters.dead_letters["other"] == 2
    with pytest.raises(queue.Empty):
        ledger.commands.get_nowait()  # it is not open
    ledger.is_open = True
    ledger.changed()
    assert ledger.commands.get_nowait() == Flush()


class Loop:
    """An event loop whose time is set."""

    def __init__(self) -> None:
        self.now = 100.0
        self.planned: list[tuple[float, object, tuple[object, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: object, *arguments: object) -> None:
        self.planned.append((seconds, call, arguments))

    def run(self) -> None:
        ((_, call, arguments),) = self.planned
        self.planned = []
        call(*arguments)  # type: ignore[operator]


def test_news_is_written_a_moment_later_by_one_timer_unless_a_commit_took_it() -> None:
    ledger, loop = Ledger(SETTINGS, Counters(), lambda: NOW_NS), Loop()
    ledger._loop = loop  # type: ignore[assignment]
    ledger.is_open = True

    def written(*, is_news: bool) -> bool:
        if is_news:
            ledger.pending.update("a", (), is_paused=True)
        for _ in range(3):
            ledger.changed()
        assert [seconds for seconds, *_ in loop.planned] == [SETTINGS.flush_seconds]
        loop.run()
        ledger.pending.take()
        return not ledger.commands.empty() and ledger.commands.get_nowait() == Flush()

    assert written(is_news=True)
    assert not written(is_news=False)
    assert written(is_news=True)
    ledger.is_closing = True
    assert not written(is_news=True)
    assert ledger.commands.empty()


class Waiter:
    """A future of that loop."""

    def __init__(self, loop: Loop) -> None:
        self.error: BaseException | None = None
        self.is_done = False
        self._loop = loop

    def get_loop(self) -> Loop:
        return self._loop

    def done(self) -> bool:
        return self.is_done

    def set_exception(self, error: BaseException) -> None:
        self.error, self.is_done = error, True


def test_requests_are_refused_in_their_order_once_patience_is_over() -> None:
    loop = Loop()
    waiters: list[Any] = [Waiter(loop) for _ in range(3)]
    first, answered, last = waiters
    timeout = AppendTimeout(7.5)

    def refused_at(now: float) -> list[bool]:
        loop.now = now
        loop.run()
        return [isinstance(each.error, BufferUnavailable) for each in waiters]

    timeout.watch(first)
    timeout.watch(answered)
    answered.is_done = True
    loop.now += 1
    timeout.watch(last)
    assert len(loop.planned) == 1  # one timer for all
    assert 0 < loop.planned[0][0] <= 1
    assert refused_at(107.25) == [False, False, False]
    assert refused_at(107.5) == [True, False, False]
    assert "within 8 s; retry" in str(first.error)
    for each in (first, answered):
        del timeout.since[each]
    assert refused_at(108.5) == [True, False, True]
    timeout.since.clear()
    loop.run()
    assert loop.planned == []  # nobody waits: no timer
    timeout.watch(last)
    assert len(loop.planned) == 1


def test_stall_is_told_in_whole_seconds() -> None:
    assert stalled(6.4) == "the disk has not finished a write for 6 s"


# -- room -------------------------------------------------------------------------------------


def space_of(tmp_path: Path, **settings: int) -> Space:
    """As if measured: nothing kept, no reserve missing, a GiB free."""
    made = replace(BufferSettings(min_free_bytes=0), **settings)  # type: ignore[arg-type]
    space = Space(StateDirectory(tmp_path), made)
    space.free_bytes = 1024 * MIB
    space.reserve.bytes = made.reserve_bytes
    return space


def need(size: int) -> int:
    return size * COMMIT_FACTOR + COMMIT_OVERHEAD_BYTES


def test_room_shrinks_by_all_that_is_used_and_by_what_was_written_since(tmp_path: Path) -> None:
    space = space_of(tmp_path, max_size_bytes=256 * MIB)
    assert space.room_bytes == 224 * MIB
    space.database_bytes, space.wal_bytes, space.written_bytes = 50 * MIB, 20 * MIB, 4 * MIB
    assert space.room_bytes == 150 * MIB
    space.free_bytes = 100 * MIB
    assert space.room_bytes == 96 * MIB
    assert not space.needs_disk((96 * MIB - COMMIT_OVERHEAD_BYTES) // 2)
    assert space.needs_disk((96 * MIB - COMMIT_OVERHEAD_BYTES) // 2 + 1)


def test_it_is_low_with_less_than_an_eighth_or_sixteen_mebibytes(tmp_path: Path) -> None:
    def is_low(size: int, used: int) -> bool:
        space = space_of(tmp_path, max_size_bytes=size * MIB)
        space.database_bytes = used
        return space.is_low

    assert not is_low(64, 40 * MIB)  # a quarter of it is the reserve
    assert is_low(64, 40 * MIB + 1)
    assert not is_low(1024, (1024 - 32 - 16) * MIB)
    assert is_low(1024, (1024 - 32 - 16) * MIB + 1)


def test_it_may_fit_when_every_row_has_gone(tmp_path: Path) -> None:
    space = space_of(tmp_path, max_size_bytes=64 * MIB)
    space.database_bytes = 48 * MIB
    size = (48 * MIB - COMMIT_OVERHEAD_BYTES) // COMMIT_FACTOR
    assert need(size) == 48 * MIB
    assert space.may_ever_fit(size)
    assert not space.may_ever_fit(size + 1)
    space.free_bytes, space.freelist_bytes = MIB, 2 * MIB
    assert space.may_ever_fit((51 * MIB - COMMIT_OVERHEAD_BYTES) // COMMIT_FACTOR) is False
    assert space.may_ever_fit(size)


# -- holds ------------------------------------------------------------------------------------


def holds_of(clocks: Clocks) -> HoldTimers:
    return HoldTimers(clocks.wall, clocks.uptime)


def test_times_of_failing_and_holds_are_taken_up_from_disk() -> None:
    holds = holds_of(Clocks())
    holds.load({"failing_seconds:a": 5, "hold_seconds:a": 60, "hold_seconds:b": -1, "other": 3})
    holds.load({"failing_seconds:a": 50, "hold_seconds:a": 1})  # what is known stays
    holds.load({"failing_seconds:c": 2})
    assert holds.counters() == {
        "failing_seconds:a": 5,
        "hold_seconds:a": 60,
        "failing_seconds:b": 0,
        "hold_seconds:b": -1,
        "failing_seconds:c": 2,
        "hold_seconds:c": DEFAULT_HOLD_NS // SECOND,
    }


def test_hold_is_written_down_in_seconds_that_are_not_too_few() -> None:
    holds = holds_of(Clocks())
    health = {"a": Health(0, 10 * SECOND + 1, NOW_NS), "b": Health(0, 10 * SECOND, NOW_NS)}
    holds.look(health, health, set())
    counters = holds.counters()
    assert (counters["hold_seconds:a"], counters["hold_seconds:b"]) == (11, 10)


def test_who_is_not_asked_for_any_more_is_forgotten() -> None:
    holds = holds_of(Clocks())
    health = {name: Health(0, SECOND, NOW_NS) for name in ("a", "b")}
    holds.look(health, health, set())
    holds.look(["b"], health, set())
    assert holds.counters().keys() == {"failing_seconds:b", "hold_seconds:b"}


def test_drop_oldest_spares_those_who_are_well_and_those_who_hold_for_ever() -> None:
    holds = holds_of(Clocks())
    health = {
        "well": Health(0, SECOND, NOW_NS),
        "unproven": Health(0, SECOND, 0),
        "ill": Health(NOW_NS, 3600 * SECOND, 0),
        "for_ever": Health(NOW_NS, None, 0),
    }
    holds.look(health, health, {"ill", "unproven", "for_ever"})
    assert holds.evictable(drops_oldest=False) == []
    assert holds.evictable(drops_oldest=True) == [frozenset({"ill"})]


def test_signal_that_nobody_sends_any_more_says_nothing_of_the_others_of_its_destination() -> None:
    clocks = Clocks()
    holds = holds_of(clocks)
    left = BacklogName("well", LOGS).text
    health = {"well": Health(0, SECOND, 0), "ill": Health(NOW_NS, SECOND, 0)}
    holds.look(["well", left, "ill"], health, {left, "ill"})
    clocks.pass_seconds(2)
    holds.look(["well", left, "ill"], health, {left, "ill"})
    assert holds.evictable(drops_oldest=False) == [frozenset({"ill"})]


# -- what can be sent again -------------------------------------------------------------------


async def test_rows_since_a_time_and_those_that_have_gone_are_found_by_small_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_query, "_STEP_ROWS", 2)
    monkeypatch.setattr(replay_query, "_HISTORY_ROWS", 2)
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        logs = buffer.consumer("a", signal=LOGS)
        for number in range(1, 6):
            of = LOGS if number == 3 else TRACES
            made = piece(spans=number, signal=of)
            await buffer.append(request(made, received_ns=NOW_NS + number))
        await deliver_all(backlog)
        await deliver_all(logs)
        await eventually(lambda: buffer.statistics().rows == 0)
        for number in range(6, 12):
            of = LOGS if number == 8 else TRACES
            when = NOW_NS + (0 if number == 10 else number)
            await buffer.append(request(piece(signal=of), received_ns=when))
        found = await buffer.replays.since(NOW_NS + 2, TRACES)
        found_logs = await buffer.replays.since(NOW_NS + 4, LOGS)
        again = await buffer.replays.owe(BacklogName("a"), found, is_dry_run=True)

    assert found == KeptRows(
        (OwedRange(Position(6), Position(10)), OwedRange(Position(11), Position(12))),
        looked_to=11,
        kept_since_ns=NOW_NS,
        gone_rows=3,
        gone_items=2 + 4 + 5,
        rows=4,
    )
    assert found_logs == KeptRows(
        (OwedRange(Position(8), Position(9)),), looked_to=11, kept_since_ns=NOW_NS, rows=1
    )
    assert again is not None
    assert again.rows == 0  # all of it is owed already
