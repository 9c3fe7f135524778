"""One relay's consumers on a real broker: what is taken, settled, split, parked, committed."""

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.records import Outgoing
from relay.model.errors import BufferUnavailable
from relay.model.reasons import Reason
from relay.model.records import DeadLetter, Encoding, Signal
from tests.fleet.making import (
    SECONDS,
    deliver_all,
    fleet_on,
    flip_a_bit_of_the_commit,
    has_read,
    now_request,
    numbers_of,
    running,
    take,
)
from tests.support.builders import protobuf_twin, span
from tests.support.builders import request as made_request
from tests.support.kafka import Brokers
from tests.unit.buffer.making import piece

pytestmark = pytest.mark.anyio
A, B = BacklogName("a"), BacklogName("b")


async def test_everything_arrives_at_every_destination_once(broker: Brokers) -> None:
    settings = fleet_on(broker)
    async with running(settings) as relay:
        a, b = relay.readers.consumer(A), relay.readers.consumer(B)
        await relay.put(*range(300))
        came = await deliver_all(a, set(range(300)))
        others = await deliver_all(b, set(range(300)))

    assert sorted(came) == sorted(others) == list(range(300))


async def test_a_restart_hands_out_what_was_not_settled_and_nothing_else(broker: Brokers) -> None:
    settings = fleet_on(broker)
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        await relay.put(*range(100))
        first = await take(a, max_items=30)
        held = await take(a, max_items=10)
        kept = set(numbers_of(held))
        done = set(numbers_of(first))
        a.settle(first, status=200, at_ns=1)
        rest = set(range(100)) - kept - done
        last = set(await deliver_all(a, rest))
        assert not last & kept
        a.give_back(held)
        await relay.readers.flush()
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        came = await deliver_all(a, kept)
        assert not a.has_more

    assert sorted(came) == sorted(kept)


async def test_a_batch_has_one_encoding_unless_both_are_asked_for(broker: Brokers) -> None:
    settings = fleet_on(broker)
    async with running(settings) as relay:
        a, b = relay.readers.consumer(A), relay.readers.consumer(B)
        await relay.put(1, 2, 3)
        await relay.put(4, 5, 6, encoding=Encoding.JSON)
        came: list[int] = []
        while len(came) < 6:
            taken = await take(a)
            assert len({row.encoding for row in taken.rows}) == 1
            came += numbers_of(taken)
        await has_read(b, 6)
        both = await take(b, one_encoding=False)

    assert sorted(came) == [1, 2, 3, 4, 5, 6]
    assert {row.encoding for row in both.rows} == set(Encoding)


async def test_a_dead_letter_is_written_before_what_it_is_about_is_settled(
    broker: Brokers,
) -> None:
    settings = fleet_on(broker)
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        await relay.put(7)
        taken = await take(a)
        row = taken.rows[0]
        dead = DeadLetter("a", "upstream_refused", "no", 1, row.encoding, row.body, row=row.row)
        a.settle_with(taken, [dead], status=400, at_ns=1)
        await relay.readers.flush()
    async with running(settings) as relay:
        relay.readers.consumer(A)
        letters = await relay.readers.dead_letters.newest()

    assert [(each.letter_id, each.letter.body, each.letter.words) for each in letters] == [
        (1, b"7", "no")
    ]


async def test_what_no_dead_letter_could_be_written_of_stays_owed(
    broker: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = fleet_on(broker)
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        await relay.put(7)
        taken = await take(a)
        row = taken.rows[0]

        async def refuse(_records: Sequence[Outgoing]) -> list[tuple[int, int]]:
            raise BufferUnavailable("away")

        monkeypatch.setattr(relay.bridge, "send", refuse)
        dead = DeadLetter("a", "upstream_refused", "no", 1, row.encoding, row.body, row=row.row)
        a.settle_with(taken, [dead], status=400, at_ns=1)
        assert not a.has_more
    async with running(settings) as relay:
        assert numbers_of(await take(relay.readers.consumer(A))) == [7]
        assert await relay.readers.dead_letters.newest_id() == 0


async def test_a_row_that_was_split_is_owed_in_part_after_a_restart(broker: Brokers) -> None:
    settings = fleet_on(broker)
    body = b",".join(b'{"resource":{},"scopeSpans":[{"spans":[{"n":%d}]}]}' % n for n in range(3))
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        await relay.append(now_request(piece(body, encoding=Encoding.JSON, spans=3)))
        left, right = await a.split(await take(a), 1)
        assert (left.items, right.items) == (1, 2)
        a.settle(left, status=200, at_ns=1)
        a.give_back(right)
        await relay.readers.flush()
    async with running(settings) as relay:
        taken = await take(relay.readers.consumer(A))

    assert [(row.first_item, row.items) for row in taken.rows] == [(1, 2)]
    assert b'"n":1' in taken.rows[0].body
    assert b'"n":0' not in taken.rows[0].body


async def test_what_is_parked_is_handed_out_to_who_asks_for_it_alone(broker: Brokers) -> None:
    settings = fleet_on(broker)
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        await relay.put(1)
        taken = await take(a)
        a.park(taken, b"")
        await relay.put(2)
        assert numbers_of(await take(a)) == [2]
        again = await a.take_parked(taken.ranges[0].start)
        assert again is not None
        assert numbers_of(again) == [1]
        a.give_back(again)
        assert numbers_of(await take(a)) == [1]


async def test_the_newest_row_is_taken_alone(broker: Brokers) -> None:
    settings = fleet_on(broker, partitions=1)
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        await relay.put(1, 2, 3)
        await has_read(a, 3)
        newest = await a.take_newest()
        assert newest is not None
        assert numbers_of(newest) == [3]
        assert numbers_of(await take(a)) == [1, 2]


async def test_points_go_out_one_request_at_a_time_in_their_order(broker: Brokers) -> None:
    settings = fleet_on(broker, partitions=1)
    metrics = BacklogName("a", Signal.METRICS)
    async with running(settings) as relay:
        a = relay.readers.consumer(metrics)
        for number in range(3):
            body = b"%d" % number
            made = piece(body, encoding=Encoding.PROTOBUF, signal=Signal.METRICS)
            await relay.append(now_request(made))
        came: list[int] = []
        while len(came) < 3:
            taken = await take(a, max_items=1)
            assert not a.has_more
            assert await a.take_newest() is None
            came += numbers_of(taken)
            a.settle(taken, status=200, at_ns=1)

    assert came == [0, 1, 2]


async def test_a_record_for_one_destination_is_nothing_to_the_others(broker: Brokers) -> None:
    settings = fleet_on(broker)
    async with running(settings) as relay:
        a, b = relay.readers.consumer(A), relay.readers.consumer(B)
        await relay.append(now_request(piece(b"1", encoding=Encoding.PROTOBUF)), only="b")
        await relay.put(2)
        assert await deliver_all(a, {2}) == [2]
        assert sorted(await deliver_all(b, {1, 2})) == [1, 2]


async def test_foreign_records_are_delivered_and_what_is_no_otlp_is_a_dead_letter(
    broker: Brokers,
) -> None:
    settings = fleet_on(broker)
    topic = settings.rows_topic(Signal.TRACES, Encoding.PROTOBUF)
    whole = protobuf_twin(made_request(span())).SerializeToString()
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        await relay.bridge.send([Outgoing(topic, each) for each in (b"nonsense", whole, None)])
        taken = await take(a)
        assert [(row.items, row.body) for row in taken.rows] == [(1, whole)]
        a.settle(taken, status=200, at_ns=1)
        with anyio.fail_after(SECONDS):
            while not relay.counters.dead_letters or a.has_more:
                assert await a.take(max_bytes=1, max_items=1) is None
                await anyio.lowlevel.checkpoint()
            await relay.readers.flush()
            while not (letters := await relay.readers.dead_letters.newest()):
                await anyio.lowlevel.checkpoint()

    assert [(each.letter.destination, each.letter.reason) for each in letters] == [
        ("", Reason.BODY_UNREADABLE)
    ]
    assert letters[0].letter.body == b"nonsense"


async def test_commits_that_nobody_can_read_owe_everything_from_the_offset_on(
    broker: Brokers,
) -> None:
    settings = fleet_on(broker, partitions=1)
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        await relay.put(0, 1, 2, 3, 4, 5)
        await has_read(a, 6)
        held = await take(a, max_items=2)
        a.settle(await take(a, max_items=2), status=200, at_ns=1)
        a.give_back(held)
        await relay.readers.flush()
    topic = settings.rows_topic(Signal.TRACES, Encoding.PROTOBUF)
    assert flip_a_bit_of_the_commit(settings, A, topic) == 0
    async with running(settings) as relay:
        came = await deliver_all(relay.readers.consumer(A), set(range(6)))

    assert sorted(came) == [0, 1, 2, 3, 4, 5]
