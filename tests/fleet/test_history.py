"""Any relay of a fleet says where a trace is, lists what came, and has a trace sent again."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka import member
from relay.buffer.kafka.history import FILE
from relay.buffer.kafka.records import Outgoing
from relay.buffer.values import FILTERED_STATUS, TraceDelivery, TracePlace
from relay.model.errors import BufferUnavailable
from relay.model.reasons import Reason
from relay.model.records import DeadLetter, Encoding, Signal
from tests.fleet.making import (
    SECONDS,
    Relay,
    fleet_on,
    make_topics,
    now_request,
    running,
    settings_of,
    take,
)
from tests.support.kafka import Brokers
from tests.support.relay_process import eventually
from tests.unit.buffer.making import piece, request, trace_id

pytestmark = pytest.mark.anyio
A = BacklogName("a")


async def knows(relay: Relay, count: int) -> None:
    """Return when the relay's history has so many records."""
    history = relay.readers.history
    assert history is not None

    def is_so() -> bool:
        found = [history.file.extent(signal, 1, 1 << 60)[0] for signal in Signal]
        return sum(found) == count

    await anyio.to_thread.run_sync(lambda: eventually(is_so, seconds=SECONDS))


async def where(relay: Relay, number: int) -> list[TracePlace]:
    """Where that trace is."""
    assert relay.readers.traces is not None
    return await relay.readers.traces.find(trace_id(number))


async def stands(relay: Relay, number: int, state: str) -> TraceDelivery:
    """How that trace stands with `a`, once it is so."""
    with anyio.fail_after(SECONDS):
        while True:
            found = [each for place in await where(relay, number) for each in place.deliveries]
            if [each.state for each in found] == [state]:
                return found[0]
            await anyio.lowlevel.checkpoint()


async def down(relay: Relay, **limits: int) -> list[bytes]:
    """The bodies of all rows of spans, from the newest down, step by step."""
    browse = relay.readers.browse
    assert browse is not None
    bodies: list[bytes] = []
    before = browse.last_row + 1
    while before:
        step: dict[str, Any] = {"most_rows": 7, "most_bytes": 1 << 20, **limits}
        found = await browse.rows_down(Signal.TRACES, before, **step)
        bodies += [row.body for row in found.rows]
        assert [row.row for row in found.rows] == sorted(
            (row.row for row in found.rows), reverse=True
        )
        before = found.before_row
    return bodies


async def put_at_last(relay: Relay, number: int) -> None:
    """Try until it is acknowledged; it may be there twice then."""
    is_there = False
    with anyio.fail_after(SECONDS):
        while not is_there:
            with suppress(BufferUnavailable):
                await relay.put(number)
                is_there = True


async def test_rows_come_from_the_newest_down_over_all_partitions(
    brokers: Brokers, tmp_path: Path
) -> None:
    settings = settings_of(brokers)
    make_topics(settings, replication=3)
    wanted = [b"%d" % number for number in range(40)]
    async with running(settings) as first:
        for number in range(40):
            encoding = Encoding.JSON if number % 2 else Encoding.PROTOBUF
            await first.put(number, encoding=encoding)
    # One that reads as they come may find a broker half a second late, and then the order is near.
    async with running(settings, tmp_path) as relay:
        await knows(relay, 40)
        assert await down(relay) == wanted[::-1]
        assert await down(relay, most_bytes=1, most_rows=50) == wanted[::-1]


async def test_a_relay_that_comes_later_has_the_same_order_and_goes_on_where_it_was(
    broker: Brokers, tmp_path: Path
) -> None:
    settings = fleet_on(broker)
    async with running(settings) as first:
        for number in range(30):
            await first.put(number)
    for _ in range(2):
        async with running(settings, tmp_path) as relay:
            await knows(relay, 30)
            assert await down(relay) == [b"%d" % number for number in range(29, -1, -1)]
    (tmp_path / FILE).write_bytes(b"no index at all" * 1000)
    async with running(settings, tmp_path) as relay:
        await knows(relay, 30)
        assert len(await down(relay)) == 30


async def test_another_relay_knows_what_waits_and_when_it_was_delivered(
    brokers: Brokers, tmp_path: Path
) -> None:
    one = settings_of(brokers)
    two = settings_of(brokers, relay_id="r2", name=one.fleet.name)
    make_topics(one, 1, replication=3)
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    async with (
        running(one, tmp_path / "1") as first,
        running(two, tmp_path / "2") as second,
    ):
        a = first.readers.consumer(A)
        await first.append(now_request(piece(b"1", traces=(70_001,))))
        held = await take(a)
        b = second.readers.consumer(A)
        await knows(second, 1)
        assert not b.lanes
        await first.readers.flush()
        assert (await stands(second, 70_001, "waiting")).at_ns == 0
        assert (await stands(first, 70_001, "waiting")).is_in_flight
        a.settle(held, status=202, at_ns=1_800_000_000_000_000_000)
        assert (await stands(first, 70_001, "delivered")).status == 202
        seen = await stands(second, 70_001, "delivered")
        assert (seen.status, seen.at_ns) == (202, 1_800_000_000_000_000_000)
        browse = second.readers.browse
        assert browse is not None
        rows = await browse.rows_of_traces(frozenset([trace_id(70_001)]), 1, browse.last_row)
        lines = await browse.deliveries(rows)
        assert [each.state for each in lines[trace_id(70_001)]] == ["delivered"]


async def test_another_relay_knows_what_was_filtered_what_set_aside_and_what_never_owed(
    broker: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that comes later is owed the minute before it, too; here that would be everything.
    monkeypatch.setattr(member, "_BEGIN_MARGIN_MS", 0)
    one = settings_of(broker)
    two = settings_of(broker, relay_id="r2", name=one.fleet.name)
    make_topics(one, 1)
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    async with (
        running(one, tmp_path / "1") as first,
        running(two, tmp_path / "2") as second,
    ):
        a = first.readers.consumer(A)
        for number in (1, 2, 3):
            await first.append(now_request(piece(b"%d" % number, traces=(90_000 + number,))))
        for status in (FILTERED_STATUS, 400, 200):
            taken = await take(a, max_items=1)
            dead = []
            if status == 400:
                row = taken.rows[0]
                dead = [
                    DeadLetter(
                        "a",
                        Reason.UPSTREAM_REFUSED,
                        "no",
                        1,
                        row.encoding,
                        row.body,
                        trace_ids=trace_id(90_002),
                        row=row.row,
                    )
                ]
            a.settle_with(taken, dead, status=status, at_ns=5)
        second.readers.consumer(A)
        await stands(second, 90_001, "filtered")
        assert (await stands(second, 90_003, "delivered")).at_ns == 5
        assert (await stands(second, 90_002, "set_aside")).status == 400
        with anyio.fail_after(SECONDS):
            while not [each for each in await where(second, 90_002) if each.dead_letter]:
                await anyio.lowlevel.checkpoint()
        second.readers.consumer(BacklogName("late"), "end")
        with anyio.fail_after(SECONDS):
            while True:
                (place,) = await where(second, 90_003)
                states = {each.destination: each.state for each in place.deliveries}
                if states == {"a": "delivered", "late": "not_owed"}:
                    break
                await anyio.lowlevel.checkpoint()


async def test_what_is_known_of_a_trace_are_its_sender_and_all_its_rows(
    broker: Brokers, tmp_path: Path
) -> None:
    settings = fleet_on(broker)
    async with running(settings, tmp_path) as relay:
        await relay.append(request(piece(b"1", traces=(5, 6))), request(piece(b"2", traces=(6,))))
        await relay.append(request(piece(b"3", traces=(6,), signal=Signal.LOGS)))
        await knows(relay, 3)
        found = await where(relay, 6)
        assert [each.signal.word for each in found] == ["traces", "traces", "logs"]
        assert {(each.sender_address, each.services) for each in found} == {
            ("192.0.2.7", ("shop",))
        }
        rows = await relay.readers.read_rows([each.row for each in found])
        assert {row.body for row in rows} == {b"1", b"2", b"3"}
        index = relay.readers.traces
        assert index is not None
        assert {each.trace_id for each in await index.recent()} == {trace_id(5), trace_id(6)}
        assert {(each.name, each.signal.word) for each in await index.services()} == {
            ("shop", "traces"),
            ("shop", "logs"),
        }
        assert await index.count_kept(frozenset([trace_id(6)])) == 3
        assert await where(relay, 7) == []


async def test_a_trace_is_sent_again_and_nothing_else_of_its_rows(
    broker: Brokers, tmp_path: Path
) -> None:
    settings = fleet_on(broker, 1)
    ids = [trace_id(80_001), trace_id(80_002)]
    span = b'{"traceId":"%s","spanId":"00000000000000%02d","name":"n"}'
    spans = b",".join(span % (ids[at % 2].hex().encode(), at) for at in range(1, 5))
    body = b'{"resource":{},"scopeSpans":[{"scope":{},"spans":[%s]}]}' % spans
    async with running(settings, tmp_path) as relay:
        a = relay.readers.consumer(A)
        made = piece(body, spans=4, traces=(80_001, 80_002))
        await relay.append(now_request(made))
        a.settle(await take(a), status=200, at_ns=1)
        await relay.readers.flush()
        await knows(relay, 1)
        kept = await relay.readers.replays.of_trace(ids[0], Signal.TRACES)
        assert kept.rows == 1
        again = await relay.readers.replays.owe(A, kept, is_dry_run=True)
        assert again is not None
        assert (again.rows, again.items) == (1, 2)
        await relay.readers.replays.owe(A, kept, is_dry_run=False)
        numbers = set[int]()
        with anyio.fail_after(SECONDS):
            while len(numbers) < 2:
                taken = await take(a)
                for start, end in taken.ranges:
                    last = end.item if end and end.row == start.row else 4
                    numbers |= set(range(start.item, last))
                a.settle(taken, status=200, at_ns=2)
        assert numbers == {1, 3}
        assert not a.has_more


async def test_a_broker_that_dies_keeps_no_record_from_being_found(
    own_brokers: Brokers, tmp_path: Path
) -> None:
    settings = settings_of(own_brokers)
    make_topics(settings, replication=3)
    async with running(settings, tmp_path) as relay:
        await relay.put(*range(20))
        await knows(relay, 20)
        await anyio.to_thread.run_sync(own_brokers.kill, 2)
        for number in range(20, 40):
            await put_at_last(relay, number)
        with anyio.fail_after(SECONDS):
            while set(await down(relay)) != {b"%d" % number for number in range(40)}:
                await anyio.lowlevel.checkpoint()
        await anyio.to_thread.run_sync(own_brokers.restart, 2)
        await put_at_last(relay, 40)
        with anyio.fail_after(SECONDS):
            while (await down(relay))[0] != b"40":
                await anyio.lowlevel.checkpoint()


async def test_a_record_that_no_relay_wrote_is_found_by_its_trace(
    broker: Brokers, tmp_path: Path
) -> None:
    settings = fleet_on(broker)
    span = b'{"traceId":"%s","spanId":"00000000000000aa","name":"n","startTimeUnixNano":"1"}'
    span %= trace_id(95_001).hex().encode()
    value = b'{"resourceSpans":[{"scopeSpans":[{"spans":[%s]}]}]}' % span
    topic = settings.rows_topic(Signal.TRACES, Encoding.JSON)
    async with running(settings, tmp_path) as relay:
        await relay.bridge.send([Outgoing(topic, b"no OTLP"), Outgoing(topic, value)])
        await knows(relay, 1)
        (place,) = await where(relay, 95_001)
        assert (place.items, place.sender_address) == (1, "")
        (row,) = await relay.readers.read_rows([place.row])
        assert trace_id(95_001).hex().encode() in row.body
