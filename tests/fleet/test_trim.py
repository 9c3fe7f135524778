"""What every destination has had is deleted from the brokers where that is asked for; never what
one of them may still be owed.
"""

import anyio.to_thread
import pytest

from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.orders import Order
from relay.buffer.kafka.places import row_of
from relay.buffer.kafka.trim import Trim
from relay.model.records import Encoding, OwedRange, Position, Signal
from tests.fleet.making import Relay, deliver_all, fleet_on, numbers_of, running, take
from tests.support.kafka import Brokers
from tests.support.relay_process import eventually

pytestmark = pytest.mark.anyio
A, B = BacklogName("a"), BacklogName("b")


def trim_of(relay: Relay, keep_seconds: float = 0.0) -> Trim:
    readers = relay.readers
    return Trim(relay.settings, keep_seconds, readers.consumers, readers.control.orders)


async def test_what_every_destination_has_had_goes_and_what_one_is_owed_stays(
    broker: Brokers,
) -> None:
    settings = fleet_on(broker, partitions=1)
    topic = settings.rows_topic(Signal.TRACES, Encoding.PROTOBUF), 0
    async with running(settings) as relay:
        a, b = relay.readers.consumer(A), relay.readers.consumer(B, "beginning")
        await relay.put(*range(20))
        await deliver_all(a, set(range(20)))
        had = await take(b, max_items=5)
        b.settle(had, status=200, at_ns=1)
        await relay.readers.flush()
        trim = trim_of(relay)
        assert await trim.look() == {}  # the first look only sees who there is
        assert (await trim.look())[topic] == len(had.rows)

        rest = set(range(20)) - set(numbers_of(had))
        assert set(await deliver_all(b, rest)) == rest
        await relay.readers.flush()
        assert (await trim.look())[topic] == 20
        assert await trim.look() == {}  # there is no more to delete
        assert b.statistics().owed_rows == 0
        assert b.evicted_items == 0


async def test_what_is_young_stays_though_all_have_had_it(broker: Brokers) -> None:
    settings = fleet_on(broker, partitions=1)
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        await relay.put(*range(5))
        await deliver_all(a, set(range(5)))
        await relay.readers.flush()
        trim = trim_of(relay, keep_seconds=3600.0)
        await trim.look()
        assert await trim.look() == {}


async def test_what_is_ordered_again_stays_until_that_is_done(broker: Brokers) -> None:
    settings = fleet_on(broker, partitions=1)
    topic = settings.rows_topic(Signal.TRACES, Encoding.PROTOBUF), 0
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        await relay.put(*range(10))
        await deliver_all(a, set(range(10)))
        await relay.readers.flush()
        row = row_of(Signal.TRACES, Encoding.PROTOBUF, 0, 4)
        # Of a destination that no relay serves: nobody carries it out.
        ranges = (OwedRange(Position(row), Position(row + 2)),)
        await relay.readers.control.order("x", Order(BacklogName("gone"), ranges))
        trim = trim_of(relay)
        await trim.look()
        assert (await trim.look())[topic] == 4


async def test_a_group_that_is_new_is_looked_at_twice_before_anything_goes(
    broker: Brokers,
) -> None:
    settings = fleet_on(broker, partitions=1)
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        await relay.put(*range(3))
        await deliver_all(a, set(range(3)))
        await relay.readers.flush()
        trim = trim_of(relay)
        await trim.look()
        relay.readers.consumer(B, "beginning")
        lanes = relay.readers.consumers()
        await anyio.to_thread.run_sync(lambda: eventually(lambda: lanes[B].lanes, seconds=40))
        await relay.readers.flush()
        assert await trim.look() == {}
        assert await trim.look() == {}  # and then it is owed all there is
