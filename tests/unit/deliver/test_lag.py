"""Rows are handed out when they have waited, and what was looked at by then is known."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from relay.buffer.backlog_name import BacklogName
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.uptime import uptime_ns
from relay.deliver.lag import _RETRY_SECONDS, AHEAD, Lag
from relay.model.errors import BufferUnavailable
from relay.model.records import Signal, StoredRow
from tests.unit.buffer.making import (
    Clocks,
    deliver_all,
    eventually,
    opened,
    piece,
    request,
    take_all,
)

pytestmark = pytest.mark.anyio
WAIT = 30.0


class Case:
    """A consumer with a lag, by a clock that is set."""

    def __init__(self, buffer: Buffer, clocks: Clocks, signal: Signal, leader: Lag | None) -> None:
        self.buffer = buffer
        self.clocks = clocks
        self.signal = signal
        self.backlog: Backlog = buffer.consumer("a", signal=signal)
        self.seen: list[bytes] = []
        self.needed_ns = 0
        self.lag = Lag(
            self.backlog.look_ahead,
            WAIT,
            age_ns=buffer.age_ns,
            watch=self.watch,
            needed_since=self.need,
            leader=leader,
            now_ns=clocks.uptime,
        )

    async def watch(self, rows: Sequence[tuple[StoredRow, int]]) -> None:
        self.seen += [row.body for row, _received_ns in rows]

    def need(self, since_ns: int) -> None:
        self.needed_ns = since_ns

    async def append(self, *bodies: bytes) -> None:
        for body in bodies:
            made = request(piece(body, signal=self.signal), received_ns=self.clocks.now_ns)
            await self.buffer.append(made)

    async def read(self, *bodies: bytes) -> None:
        """Those were seen, in any case."""
        await eventually(lambda: self.seen[-len(bodies) :] == list(bodies))

    async def counts(self, rows: int) -> None:
        """So many were seen."""
        await eventually(lambda: len(self.seen) == rows)

    async def after(self, seconds: float) -> list[bytes]:
        """What may be taken so long from now."""
        self.clocks.pass_seconds(seconds)
        self.lag.free(self.clocks.uptime())
        return await take_all(self.backlog)


@asynccontextmanager
async def lagging(
    state_dir: Path, clocks: Clocks, signal: Signal = Signal.TRACES, before: Sequence[bytes] = ()
) -> AsyncIterator[Case]:
    async with opened(state_dir, clock_ns=clocks.wall, uptime=clocks.uptime) as buffer:
        buffer.consumer("a", signal=signal)
        for body in before:
            await buffer.append(request(piece(body, signal=signal), received_ns=clocks.now_ns))
        case = Case(buffer, clocks, signal, None)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(case.lag.run, buffer.browse, BacklogName("a", signal))
            yield case
            case.lag.end()


async def test_a_row_is_handed_out_when_it_has_waited_and_no_earlier(tmp_path: Path) -> None:
    async with lagging(tmp_path, Clocks()) as case:
        await case.append(b"1")
        await case.read(b"1")
        assert await case.after(29) == []
        assert case.lag.held_items == 1
        await case.append(b"2")
        await case.read(b"1", b"2")
        assert await case.after(1.5) == [b"1"]
        assert await case.after(27) == [b"1"]
        assert await case.after(1.5) == [b"1", b"2"]
        assert case.lag.held_items == 0


async def test_a_row_that_becomes_due_between_the_look_and_the_wait_is_handed_out(
    tmp_path: Path,
) -> None:
    async with lagging(tmp_path, Clocks()) as case:
        await case.append(b"1")
        await case.read(b"1")
        await eventually(lambda: case.lag.held_items == 1)
        due_ns = case.lag._held[0].last_ns + int(WAIT * 1e9)
        moments = [due_ns - 1]
        case.lag.now_ns = lambda: moments.pop() if moments else due_ns + 1
        case.backlog.wake()
        await eventually(lambda: case.lag.held_items == 0)
        assert await take_all(case.backlog) == [b"1"]


async def test_it_wakes_by_itself_when_a_row_is_due(tmp_path: Path) -> None:
    with capture_logs() as logged:
        await one_row_in_its_time(tmp_path)
    assert [each for each in logged if each["event"] == "lag_failed"] == []


async def one_row_in_its_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        lag = Lag(backlog.look_ahead, 0.3, age_ns=buffer.age_ns, now_ns=uptime_ns)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lag.run, buffer.browse, BacklogName("a", Signal.TRACES))
            began = uptime_ns()
            await buffer.append(request(piece(b"1")))
            with anyio.fail_after(10):
                await backlog.wait()
            assert uptime_ns() - began >= 0.3e9
            assert await take_all(backlog) == [b"1"]
            lag.end()


async def test_what_waits_is_seen_before_anything_of_it_is_handed_out(tmp_path: Path) -> None:
    clocks = Clocks()
    async with lagging(tmp_path, clocks) as case:
        await case.append(b"1")
        await case.read(b"1")
        clocks.pass_seconds(20)
        await case.append(b"2")
        assert await case.after(11) == ([b"1"] if case.seen == [b"1", b"2"] else [])


async def test_a_restart_waits_for_what_is_left_of_the_time_and_sees_the_lag_again(
    tmp_path: Path,
) -> None:
    clocks = Clocks()
    async with lagging(tmp_path, clocks) as case:
        await case.append(b"1")
        clocks.pass_seconds(20)
        await case.append(b"2")
        await case.read(b"1", b"2")
    async with lagging(tmp_path, clocks) as case:
        await case.read(b"1", b"2")
        assert await case.after(11) == [b"1"]
        assert await case.after(20) == [b"1", b"2"]


async def test_a_restart_sees_again_what_was_handed_out_up_to_a_wait_before(
    tmp_path: Path,
) -> None:
    clocks = Clocks()
    async with lagging(tmp_path, clocks) as case:
        await case.append(b"old")
        clocks.pass_seconds(20)
        await case.append(b"near")
        clocks.pass_seconds(15)
        await case.append(b"owed")
        await case.read(b"old", b"near", b"owed")
        case.lag.free(case.clocks.uptime())
        clocks.pass_seconds(16)
        case.lag.free(case.clocks.uptime())
        assert await deliver_all(case.backlog) == 2
        await case.buffer.flush()
    async with lagging(tmp_path, clocks) as case:
        await case.read(b"owed")
        assert case.seen == [b"near", b"owed"]
        await case.append(b"new")
        await case.read(b"new")
        assert case.seen == [b"near", b"owed", b"new"]


@pytest.mark.parametrize("count", [1, 2, 70, 130])
async def test_a_restart_sees_again_all_that_was_handed_out_of_late(
    tmp_path: Path, count: int
) -> None:
    clocks = Clocks()
    before = [b"%d" % number for number in range(count)]
    async with lagging(tmp_path, clocks, before=before) as case:
        await case.counts(count)
        assert await case.after(31) == before
        await deliver_all(case.backlog)
        await case.append(b"owed")
        await case.buffer.flush()
    clocks.pass_seconds(-15)
    async with lagging(tmp_path, clocks) as case:
        await case.read(b"owed")
        assert sorted(case.seen) == sorted([*before, b"owed"])


async def test_rows_of_nearly_one_moment_are_handed_out_together(tmp_path: Path) -> None:
    async with lagging(tmp_path, Clocks()) as case:
        await case.append(b"1")
        await case.read(b"1")
        case.clocks.pass_seconds(0.3)
        await case.append(b"2")
        await case.read(b"2")
        await eventually(lambda: case.lag.held_items == 2)
        assert await case.after(29.8) == []
        assert await case.after(0.3) == [b"1", b"2"]


async def test_nothing_is_polled_while_nothing_comes(tmp_path: Path) -> None:
    async with lagging(tmp_path, Clocks()) as case:
        looks = 0

        def now_ns() -> int:
            nonlocal looks
            looks += 1
            return case.clocks.uptime()

        await case.append(b"1")
        await case.read(b"1")
        await eventually(lambda: case.lag.held_items == 1)
        case.lag.now_ns = now_ns
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert looks <= 2


async def test_a_destination_that_is_behind_lets_it_read_no_further(tmp_path: Path) -> None:
    clocks = Clocks()
    async with lagging(tmp_path, clocks) as case:
        for n in range(10):
            await case.append(b"%d" % n)
            await case.counts(min(n + 1, 7))
            clocks.pass_seconds(11)
        # Nothing was taken: it stands still 66 seconds on, and hands out what it knows all of.
        assert AHEAD * WAIT == 60
        freed = await take_all(case.backlog)
        assert freed == [b"%d" % n for n in range(len(freed))]
        assert len(freed) in (4, 5)  # as the clock was when it looked last
        since_ns = clocks.uptime() - int((110 + WAIT) * 1e9)
        assert case.needed_ns == pytest.approx(since_ns, abs=2e9)
        # It goes on as things are settled.
        await deliver_all(case.backlog)
        await case.read(b"9")


async def test_what_is_owed_again_of_long_ago_keeps_nothing_waiting(tmp_path: Path) -> None:
    clocks = Clocks()
    async with lagging(tmp_path, clocks) as case:
        await case.append(b"1")
        await case.read(b"1")
        assert await case.after(31) == [b"1"]
        await deliver_all(case.backlog)
        await case.buffer.flush()
    async with lagging(tmp_path, clocks, before=[b"2"]) as case:
        replays = case.buffer.replays
        kept = await replays.since(0, Signal.TRACES)
        key = next(iter(case.buffer.consumers()))
        assert await replays.owe(key, kept, is_dry_run=False) is not None
        await case.read(b"2")
        assert await take_all(case.backlog) == [b"1"]
        assert not case.lag.has_seen(1)
        assert case.lag.has_seen(2)
        assert await case.after(31) == [b"1", b"2"]


async def test_what_is_settled_frees_nothing_that_still_waits(tmp_path: Path) -> None:
    async with lagging(tmp_path, Clocks()) as case:
        await case.append(b"1")
        await case.read(b"1")
        case.clocks.pass_seconds(20)
        await case.append(b"2")
        await case.read(b"1", b"2")
        assert await case.after(11) == [b"1"]
        assert await deliver_all(case.backlog) == 1
        await case.append(b"3")
        await case.read(b"3")
        with anyio.fail_after(5):
            await eventually(lambda: case.lag.held_items == 2)
        assert await take_all(case.backlog) == []


async def test_the_end_of_a_lag_hands_out_everything(tmp_path: Path) -> None:
    async with lagging(tmp_path, Clocks(), before=[b"1"]) as case:
        await case.read(b"1")
        assert await take_all(case.backlog) == []
        case.lag.end()
        assert await take_all(case.backlog) == [b"1"]


async def test_a_lag_that_follows_another_waits_until_that_one_has_looked(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clock_ns=clocks.wall, uptime=clocks.uptime) as buffer:
        buffer.consumer("a")
        spans = Case(buffer, clocks, Signal.TRACES, None)
        logs = Case(buffer, clocks, Signal.LOGS, spans.lag)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(logs.lag.run, buffer.browse, BacklogName("a", Signal.LOGS))
            await logs.append(b"log")
            await logs.read(b"log")
            assert await logs.after(31) == []
            tasks.start_soon(spans.lag.run, buffer.browse, BacklogName("a", Signal.TRACES))
            await eventually(lambda: logs.backlog.has_more)
            assert await take_all(logs.backlog) == [b"log"]
            logs.lag.end()
            assert spans.lag.followers == []
            await logs.append(b"next")  # it was woken just before, and holds nothing any more
            await eventually(lambda: logs.backlog.statistics().owed_items == 2)
            assert await take_all(logs.backlog) == [b"log", b"next"]
            spans.lag.end()


class Slow(Case):
    """Does not come to the end of looking at what is `late`, for now."""

    gate: anyio.Event

    async def watch(self, rows: Sequence[tuple[StoredRow, int]]) -> None:
        await super().watch(rows)
        if b"late" in self.seen:
            await self.gate.wait()


async def test_a_lag_that_follows_another_waits_while_that_one_is_behind(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clock_ns=clocks.wall, uptime=clocks.uptime) as buffer:
        spans = Slow(buffer, clocks, Signal.TRACES, None)
        spans.gate = anyio.Event()
        logs = Case(buffer, clocks, Signal.LOGS, spans.lag)
        async with anyio.create_task_group() as tasks:
            for each in (spans, logs):
                tasks.start_soon(each.lag.run, buffer.browse, BacklogName("a", each.signal))
            await spans.append(b"early")
            await spans.read(b"early")
            await eventually(lambda: spans.lag.held_items == 1)
            clocks.pass_seconds(10)
            await spans.append(b"late")
            await logs.append(b"log")
            await spans.read(b"late")
            await eventually(lambda: logs.lag.held_items == 1)
            assert await logs.after(35) == []
            spans.gate.set()
            await eventually(lambda: logs.backlog.has_more)
            assert await take_all(logs.backlog) == [b"log"]
            logs.lag.end()
            spans.lag.end()


@pytest.mark.parametrize("error", [ValueError("a mistake"), BufferUnavailable("no disk")])
async def test_an_exception_of_what_looks_lets_nothing_through_and_is_tried_again_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr("relay.deliver.lag.anyio.sleep", sleep)
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        tries = 0

        async def watch(_rows: object) -> None:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise error

        lag = Lag(backlog.look_ahead, 0.01, age_ns=buffer.age_ns, watch=watch, now_ns=uptime_ns)
        await buffer.append(request(piece(b"1")))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lag.run, None, BacklogName("a", Signal.TRACES))
            with anyio.fail_after(10):
                await backlog.wait()
            assert (tries, sleeps) == (3, [_RETRY_SECONDS] * 2)
            lag.end()
