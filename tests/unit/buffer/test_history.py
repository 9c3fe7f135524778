"""What is remembered of rows that have gone: who sent them and what became of them, in bounds."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import anyio
import pytest

from relay.buffer.settings import MIB
from relay.buffer.sqlite import schema
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.schema import fetch, fetch_value
from relay.buffer.sqlite.space import history
from relay.buffer.sqlite.space.retention import Retention
from relay.buffer.sqlite.transactions import Transaction
from relay.buffer.sqlite.types import EVICTED_STATUS, Totals
from relay.buffer.values import TraceDelivery
from relay.model.records import Taken
from tests.unit.buffer.making import (
    NOW_NS,
    SETTINGS,
    deliver_all,
    eventually,
    noise,
    opened,
    piece,
    request,
    take,
    trace_id,
)

pytestmark = pytest.mark.anyio

HOUR_NS = 3600 * 10**9


class Call(Transaction[object]):
    """Runs what it is given in the writer's thread."""

    def __init__(self, call: Callable[[LogFile], object]) -> None:
        self._call = call

    def run(self, file: LogFile, *, now_ns: int) -> object:
        return self._call(file)


class Upkeep(Call):
    """What makes its transactions itself."""

    is_upkeep: ClassVar[bool] = True


async def number_of(buffer: Buffer, table: str) -> int:
    return int(
        await buffer._reader.ask(lambda it: fetch_value(it, f"SELECT count(*) FROM {table}"))  # noqa: S608
    )


async def deliveries_of(buffer: Buffer, number: int) -> tuple[TraceDelivery, ...]:
    (place,) = await buffer.traces.find(trace_id(number))
    return place.deliveries


async def test_row_that_has_gone_is_still_told_of_with_sender_and_delivery(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"secret prompt", traces=(1,)), agent="sdk/1"))
        await deliver_all(backlog, at_ns=NOW_NS + 7)
        await eventually(lambda: buffer.statistics().rows == 0)
        (place,) = await buffer.traces.find(trace_id(1))
    async with opened(tmp_path) as buffer:
        (later,) = await buffer.traces.find(trace_id(1))

        assert await buffer.read_rows([1]) == []
    assert (place.user_agent, place.services, place.items) == ("sdk/1", ("shop",), 1)
    assert place.received_ns == NOW_NS
    assert place.deliveries == (TraceDelivery("a", "delivered", NOW_NS + 7, 200),)
    assert not place.is_kept
    # Nobody asked for the destination in the second process, and it is told of all the same.
    assert later == place


async def test_nothing_of_the_contents_is_in_the_history(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"secret prompt")))
        await deliver_all(backlog)
        await eventually(lambda: buffer.statistics().rows == 0)
        rows = await buffer._reader.ask(lambda it: fetch(it, "SELECT * FROM history"))

    assert len(rows) == 1
    assert b"secret" not in b"".join(each for each in rows[0] if isinstance(each, bytes))


async def test_zero_remembers_nothing_and_forgets_what_was(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(traces=(1,))))
        await deliver_all(backlog)
        await eventually(lambda: buffer.statistics().rows == 0)
        assert await buffer.traces.find(trace_id(1))
    async with opened(tmp_path, keep_delivered_seconds=0, history_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(traces=(2,))))
        await deliver_all(backlog)
        await eventually(lambda: buffer.statistics().rows == 0)
        while await number_of(buffer, "history"):
            await buffer.flush()

        assert await buffer.traces.find(trace_id(1)) == []
        assert await buffer.traces.find(trace_id(2)) == []
        assert await number_of(buffer, "traces") == 0


class Count(Transaction[list[int]]):
    """How many rows there are in each table that tells of rows."""

    def run(self, file: LogFile, *, now_ns: int) -> list[int]:
        return [
            int(fetch_value(file.connection, f"SELECT count(*) FROM {table}"))  # noqa: S608
            for table in ("history", "traces", "deliveries")
        ]


async def fill(buffer: Buffer, count: int, *, first: int = 1, step_ns: int = 2 * 10**9) -> None:
    """So many rows that are delivered and gone at once, a delivery each."""
    backlog = buffer.consumer("a")
    for number in range(first, first + count):
        await buffer.append(request(piece(traces=(number,)), agent=f"agent {number}"))
        await deliver_all(backlog, at_ns=NOW_NS + number * step_ns)
        await buffer.flush()
    await eventually(lambda: buffer.statistics().rows == 0)


async def test_oldest_is_forgotten_first_when_history_is_over_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_TRIM_ROWS", 5)
    monkeypatch.setattr(history, "_LOOK_SECONDS", 0.0)
    async with opened(tmp_path, keep_delivered_seconds=0, history_bytes=6000) as buffer:
        await fill(buffer, 60)
        house = buffer._writer._house
        with anyio.fail_after(30):
            while int(str(await buffer._ledger.transact(Call(house._history.used_bytes)))) > 6000:
                await buffer.flush()
        counts = await buffer._ledger.transact(Count())

        assert await buffer.traces.find(trace_id(1)) == []
        assert (await deliveries_of(buffer, 60))[0].state == "delivered"
        # One of each a row: they are forgotten together.
        assert 15 <= counts[0] < 55
        assert counts == [counts[0]] * 3
        used = await buffer._ledger.transact(Call(house._history.used_bytes))
        assert isinstance(used, int)
        assert 3000 < used <= 6000
    async with opened(tmp_path, keep_delivered_seconds=0, history_bytes=6000) as buffer:
        house = buffer._writer._house
        again = await buffer._ledger.transact(Call(house._history.used_bytes))
        assert again == used


async def test_buffer_without_any_history_uses_nothing_for_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        used = buffer._writer._house._history.used_bytes
        assert await buffer._ledger.transact(Call(used)) == 0
        backlog = buffer.consumer("a")
        await buffer.append(request(piece()))
        await deliver_all(backlog)
        await buffer.flush()
        assert await buffer._ledger.transact(Call(used)) == history.DELIVERY_BYTES
    async with opened(tmp_path) as buffer:
        used = buffer._writer._house._history.used_bytes
        assert await buffer._ledger.transact(Call(used)) == history.DELIVERY_BYTES


async def test_history_is_forgotten_in_steps_of_so_many_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a row's are: a step holds up whoever waits for the disk."""
    monkeypatch.setattr(history, "_TRIM_BYTES", 600)
    async with opened(tmp_path, keep_delivered_seconds=0, history_bytes=20_000) as buffer:
        await fill(buffer, 40)
        before = await buffer._ledger.transact(Count())
        make_room = buffer._writer._house._history.make_room
        assert await buffer._ledger.transact(Upkeep(make_room)) is True
        after = await buffer._ledger.transact(Count())
        bytes_a_row = (await number_of_bytes(buffer)) // after[0]

    gone = before[0] - after[0]
    assert 600 // bytes_a_row <= gone <= 600 // bytes_a_row + 1
    assert before == [40] * 3
    assert after == [after[0]] * 3


async def number_of_bytes(buffer: Buffer) -> int:
    """What the rows that are remembered use, about."""
    sizes = (
        "SELECT sum(length(parts) + ifnull(length(ids), 0)) + count(*) * 40 FROM history"
        " LEFT JOIN traces ON traces.row = history.row"
    )
    return int(await buffer._reader.ask(lambda it: fetch_value(it, sizes)))


async def test_row_that_is_still_owed_keeps_its_ids_and_deliveries_when_later_ones_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_TRIM_ROWS", 5)
    monkeypatch.setattr(history, "_LOOK_SECONDS", 0.0)
    async with opened(tmp_path, keep_delivered_seconds=0, history_bytes=4000) as buffer:
        slow = buffer.consumer("slow")
        await buffer.append(request(piece(traces=(1,))))
        held = await take(slow)
        a = buffer.consumer("a", start="beginning")
        await deliver_all(a, at_ns=NOW_NS)
        for number in range(2, 60):
            await buffer.append(request(piece(traces=(number,))))
            await deliver_all(a, at_ns=NOW_NS + number * 2 * 10**9)
            await deliver_all(slow, at_ns=NOW_NS + number * 2 * 10**9)
            await buffer.flush()
        await eventually(lambda: buffer.statistics().rows == 1)
        states = [each.state for each in await deliveries_of(buffer, 1)]

        assert await buffer.traces.find(trace_id(2)) == []
        assert states == ["delivered", "waiting"]
        slow.give_back(held)


async def test_rows_that_gave_way_are_told_as_evicted(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(traces=(1,))))
        backlog.settle(await take(backlog), status=EVICTED_STATUS, at_ns=NOW_NS + 3)

        assert await deliveries_of(buffer, 1) == (
            TraceDelivery("a", "evicted", NOW_NS + 3, EVICTED_STATUS),
        )


async def test_what_was_sent_again_is_told_by_its_newest_delivery(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(traces=(1,))))
        backlog.settle(taken := await take(backlog), status=400, at_ns=NOW_NS)
        await buffer.flush()
        backlog.owe(taken.ranges, history_sums(taken))
        backlog.settle(await take(backlog), status=200, at_ns=NOW_NS + 10**10)

        assert [each.state for each in await deliveries_of(buffer, 1)] == ["delivered"]


def history_sums(taken: Taken) -> Totals:
    """Sums of what was taken, for `owe`."""
    rows = taken.rows
    return Totals(len(rows), sum(r.items for r in rows), sum(len(r.body) for r in rows))


async def test_deliveries_of_long_ago_become_one_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_SWEEP_SECONDS", 0.0)
    now = [NOW_NS]
    async with opened(tmp_path, clock_ns=lambda: now[0]) as buffer:
        backlog = buffer.consumer("a")
        for number in range(1, 61):
            await buffer.append(request(piece(traces=(number,))))
            await deliver_all(backlog, at_ns=NOW_NS + number * 2 * 10**9)
            await buffer.flush()
        assert await number_of(buffer, "deliveries") == 60
        now[0] += 2 * HOUR_NS
        while await number_of(buffer, "deliveries") > 4:
            await buffer.append(request(piece()))
            await deliver_all(backlog, at_ns=now[0])
            await buffer.flush()

        (first,) = await deliveries_of(buffer, 1)
        (last,) = await deliveries_of(buffer, 60)
    assert first.state == "delivered"
    assert NOW_NS + 2 * 10**9 <= first.at_ns < NOW_NS + 61 * 10**9
    assert last.at_ns == NOW_NS + 120 * 10**9


async def test_deliveries_of_nothing_that_is_known_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_SWEEP_SECONDS", 0.0)
    monkeypatch.setattr(history, "_LOOK_SECONDS", 0.0)
    now = [NOW_NS]
    settings = replace(SETTINGS, keep_delivered_seconds=0, history_bytes=0)
    async with opened(tmp_path, settings, clock_ns=lambda: now[0]) as buffer:
        slow = buffer.consumer("slow")
        await buffer.append(request(piece(traces=(1,))))
        held = await take(slow)  # it keeps the oldest row, and with it what is older than others
        a = buffer.consumer("a", start="beginning")
        await deliver_all(a, at_ns=NOW_NS)
        for number in range(2, 30):
            await buffer.append(request(piece(traces=(number,))))
            for backlog in (a, slow):
                await deliver_all(backlog, at_ns=NOW_NS + number * 61 * 10**9)
            await buffer.flush()
        await eventually(lambda: buffer.statistics().rows == 1)
        assert await number_of(buffer, "deliveries") > 50
        now[0] += 2 * HOUR_NS
        with anyio.fail_after(30):
            while await number_of(buffer, "deliveries") > 1:
                await buffer.flush()

        assert [each.state for each in await deliveries_of(buffer, 1)] == ["delivered", "waiting"]
        slow.give_back(held)


async def test_history_gives_way_before_rows_but_for_its_last_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    make_room = Retention.make_room

    async with opened(tmp_path, max_size_bytes=4 * MIB, tail_bytes=0) as buffer:
        limit = buffer.settings.history_limit_bytes

        def watched(self: Retention, file: LogFile) -> int:
            used.append(buffer._writer._house._history.used_bytes(file))
            return make_room(self, file)

        monkeypatch.setattr(Retention, "make_room", watched)
        backlog = buffer.consumer("a")
        for number in range(1, 400):
            await buffer.append(
                request(piece(noise(40_000, number), traces=(number,)), agent="x" * 4000)
            )
            await deliver_all(backlog, at_ns=NOW_NS + number * 2 * 10**9)

        assert buffer.statistics().disk_bytes <= 4 * MIB
        assert await number_of(buffer, "history") > 0
    assert len(used) > 3
    assert max(used) <= limit // 8


def test_schema_says_what_a_remembered_row_holds(tmp_path: Path) -> None:

    with sqlite3.connect(tmp_path / "x") as connection:
        for step in schema._STEPS:
            connection.executescript(step)
        columns = [each[1] for each in connection.execute("PRAGMA table_info(history)")]
    assert columns == ["row", "received_ns", "encoding", "spans", "parts", "signal"]


async def test_destination_from_the_beginning_does_not_wait_for_what_has_gone(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(traces=(1,))))
        await deliver_all(backlog)
        await eventually(lambda: buffer.statistics().rows == 0)
        buffer.consumer("b", start="beginning")

        assert [each.state for each in await deliveries_of(buffer, 1)] == ["delivered", "not_owed"]


async def test_deliveries_that_do_not_touch_stay_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_SWEEP_SECONDS", 0.0)
    now = [NOW_NS]
    async with opened(tmp_path, clock_ns=lambda: now[0]) as buffer:
        backlog = buffer.consumer("a")
        for number in range(1, 5):
            await buffer.append(request(piece(traces=(number,))))
        taken = [await take(backlog, max_items=1) for _ in range(4)]
        for index, status in ((1, 400), (0, 200), (2, 200), (3, 200)):
            at_ns = NOW_NS + 2 * 10**9 * (1 + (3 if index == 3 else 0))
            backlog.settle(taken[index], status=status, at_ns=at_ns)
            await buffer.flush()
        assert await number_of(buffer, "deliveries") == 4
        now[0] += 2 * HOUR_NS
        with anyio.fail_after(30):
            while await number_of(buffer, "deliveries") > 3:  # the last two touch
                await buffer.append(request(piece()))
        states = [(await deliveries_of(buffer, number))[0].state for number in range(1, 5)]

    assert states == ["delivered", "set_aside", "delivered", "delivered"]


async def test_history_comes_down_to_its_budget_while_nothing_else_happens(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0, row_bytes=1) as buffer:
        backlog = buffer.consumer("a")
        for _ in range(3):
            await buffer.append(request(*[piece(b"{}") for _ in range(500)]))
        await deliver_all(backlog)
        await eventually(lambda: buffer.statistics().rows == 0)
        before = await number_of(buffer, "history")
        buffer.reload(replace(buffer.settings, history_bytes=100_000))

        history = buffer._writer._house._history
        await eventually(lambda: history._bytes <= 100_000, seconds=20)
        after = await number_of(buffer, "history")
    assert before == 1500
    assert 0 < after < 1100
