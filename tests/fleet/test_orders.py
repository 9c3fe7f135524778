"""What an operator orders at one relay holds for the fleet: pause, replay, remove, dead letters."""

import time

import anyio
import anyio.to_thread
import pytest

from relay.buffer.backlog_name import BacklogName
from relay.buffer.values import DeadLetterFilter, DeadLetterReplay
from relay.model.errors import BufferUnavailable
from relay.model.records import DeadLetter, Encoding, Health, Signal
from tests.fleet.making import (
    SECONDS,
    deliver_all,
    make_topics,
    now_request,
    numbers_of,
    running,
    settings_of,
    take,
)
from tests.support.kafka import Brokers
from tests.support.relay_process import eventually
from tests.unit.buffer.making import piece

pytestmark = pytest.mark.anyio
A, B = BacklogName("a"), BacklogName("b")


async def test_a_pause_holds_for_every_relay_and_after_a_restart(broker: Brokers) -> None:
    one = settings_of(broker)
    two = settings_of(broker, relay_id="r2", name=one.fleet.name)
    make_topics(one)
    async with running(one) as first, running(two) as second:
        a = first.readers.consumer(A)
        heard: list[bool] = []
        a.attach(Health, heard.append)
        await first.put(1)
        await take(a)
        await second.readers.set_paused("a", is_paused=True)
        await anyio.to_thread.run_sync(lambda: eventually(lambda: heard, seconds=SECONDS))
        assert heard == [True]
        assert a.is_paused
        await first.put(2)
        assert await a.take(max_bytes=1, max_items=1) is None
    async with running(one) as first:
        a = first.readers.consumer(A)
        await anyio.to_thread.run_sync(lambda: eventually(lambda: a.lanes, seconds=SECONDS))
        with anyio.move_on_after(1.0):
            await a.wait()
        assert not a.has_more
        await first.readers.set_paused("a", is_paused=False)
        assert sorted(await deliver_all(a, {1, 2})) == [1, 2]


async def test_a_replay_by_time_is_carried_out_by_whoever_has_the_partition(
    broker: Brokers,
) -> None:
    one = settings_of(broker)
    two = settings_of(broker, relay_id="r2", name=one.fleet.name)
    make_topics(one)
    async with running(one) as first, running(two) as second:
        a = first.readers.consumer(A)
        await first.put(1, 2)
        await deliver_all(a, {1, 2})
        since_ns = time.time_ns()
        await anyio.to_thread.run_sync(time.sleep, 0.05)  # clocks of milliseconds
        await first.put(*range(10, 30))
        await deliver_all(a, set(range(10, 30)))
        await first.readers.flush()
        kept = await second.readers.replays.since(since_ns, Signal.TRACES)
        dry = await second.readers.replays.owe(A, kept, is_dry_run=True)
        assert not a.has_more
        told = await second.readers.replays.owe(A, kept, is_dry_run=False)
        assert told == dry
        assert told is not None
        assert (kept.rows, told.rows) == (20, 20)
        assert sorted(await deliver_all(a, set(range(10, 30)))) == list(range(10, 30))
        await first.readers.flush()
    async with running(one) as first:  # and not once more after a restart
        a = first.readers.consumer(A)
        await first.put(99)
        assert await deliver_all(a, {99}) == [99]


async def test_a_removed_destination_is_owed_nothing(broker: Brokers) -> None:
    one = settings_of(broker)
    two = settings_of(broker, relay_id="r2", name=one.fleet.name)
    make_topics(one)
    async with running(one) as first:
        first.readers.consumer(B)
        a = first.readers.consumer(A)
        await first.put(1)
        a.give_back(await take(a))
        async with running(two) as second:
            b = second.readers.consumer(A)
            await anyio.to_thread.run_sync(lambda: eventually(lambda: b.lanes, seconds=SECONDS))
            with pytest.raises(BufferUnavailable, match="cannot be deleted"):
                await first.readers.remove("a")
        await first.readers.remove("a")
        assert A not in first.readers.consumers()


async def test_dead_letters_are_seen_replayed_and_discarded_by_another_relay(
    broker: Brokers,
) -> None:
    one = settings_of(broker)
    two = settings_of(broker, relay_id="r2", name=one.fleet.name)
    make_topics(one)
    made = now_request(piece(b"7", encoding=Encoding.PROTOBUF))
    async with running(one) as first, running(two) as second:
        a, b = first.readers.consumer(A), first.readers.consumer(B)
        await first.put(1, 2)
        for number in (1, 2):
            taken = await take(a, max_items=1)
            row = taken.rows[0]
            dead = DeadLetter("a", "upstream_refused", "no", 1, row.encoding, row.body, row=row.row)
            a.settle_with(taken, [dead], status=400, at_ns=number)
        await deliver_all(b, {1, 2})
        await first.readers.flush()
        letters = second.readers.dead_letters
        page = await letters.newest_first(DeadLetterFilter(destination="a"), 2**62)
        assert [each.letter_id for each in page.entries] == [2, 1]
        assert (await letters.oldest_first(DeadLetterFilter(reason="other"), 0)).entries == []
        replay = DeadLetterReplay(1, made, frozenset({"a"}), 10)
        assert await letters.replay([replay, replay]) == [1, 1]
        assert await letters.discard([2, 9]) == [2]
        assert await letters.newest() == []
        # One copy for each that was asked for, and none for the other destination.
        came = numbers_of(await take(a))
        while len(came) < 2:
            came += numbers_of(await take(a))
        assert came == [7, 7]
        await first.put(3)
        assert await deliver_all(b, {3}) == [3]
    async with running(one) as first:
        assert await first.readers.dead_letters.newest_id() == 0
