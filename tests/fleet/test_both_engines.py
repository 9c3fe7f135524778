"""What couriers rely on holds for the consumers of both engines: SQLite and Kafka."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio
import anyio.lowlevel
import pytest

from relay.buffer.api import Consumer
from relay.buffer.backlog_name import BacklogName
from relay.buffer.values import StoredDeadLetter
from relay.model.records import DeadLetter, Encoding, Piece, Signal, Taken
from tests.fleet.making import (
    fleet_on,
    has_read,
    now_request,
    numbers_of,
    running,
    take,
)
from tests.support.kafka import Brokers
from tests.unit.buffer.making import eventually, opened, piece

pytestmark = pytest.mark.anyio
BODY = b",".join(b'{"resource":{},"scopeSpans":[{"spans":[{"n":%d}]}]}' % n for n in range(4))


class Engine(Protocol):
    """A log, open."""

    async def append(self, made: Piece) -> None:
        """Keep a request of one piece, in a row of its own."""
        ...

    def consumer(self, signal: Signal = Signal.TRACES) -> Consumer:
        """That of destination `a`."""
        ...

    async def flush(self) -> None:
        """Return when what was settled is safe."""
        ...

    async def letters(self) -> list[StoredDeadLetter]:
        """Its dead letters."""
        ...


Open = Callable[[], AbstractAsyncContextManager[Engine]]


@dataclass
class _Engine:
    keep: Callable[[Piece], object]
    of: Callable[[Signal], Consumer]
    safe: Callable[[], object]
    dead: Callable[[], object]

    async def append(self, made: Piece) -> None:
        await self.keep(made)  # type: ignore[misc]

    def consumer(self, signal: Signal = Signal.TRACES) -> Consumer:
        return self.of(signal)

    async def flush(self) -> None:
        await self.safe()  # type: ignore[misc]

    async def letters(self) -> list[StoredDeadLetter]:
        return await self.dead()  # type: ignore[misc,no-any-return]


@pytest.fixture(params=["sqlite", "kafka"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the log of this test, again and again."""
    if request.param == "sqlite":

        @asynccontextmanager
        async def on_disk() -> AsyncIterator[Engine]:
            async with opened(tmp_path) as buffer:
                yield _Engine(
                    lambda made: buffer.append(now_request(made)),
                    lambda signal: buffer.consumer("a", signal=signal),
                    buffer.flush,
                    buffer.dead_letters.newest,
                )

        return on_disk
    broker: Brokers = request.getfixturevalue("broker")
    settings = fleet_on(broker, partitions=1)

    @asynccontextmanager
    async def on_kafka() -> AsyncIterator[Engine]:
        async with running(settings) as relay:
            yield _Engine(
                lambda made: relay.append(now_request(made)),
                lambda signal: relay.readers.consumer(BacklogName("a", signal)),
                relay.readers.flush,
                relay.readers.dead_letters.newest,
            )

    return on_kafka


async def put(engine: Engine, *numbers: int, signal: Signal = Signal.TRACES) -> None:
    """Keep a row for each number."""
    for number in numbers:
        body = b"%d" % number
        await engine.append(piece(body, encoding=Encoding.PROTOBUF, signal=signal))


async def take_rows(consumer: Consumer, count: int) -> list[int]:
    """The next so many rows, settled."""
    found: list[int] = []
    while len(found) < count:
        taken = await take(consumer, max_items=count - len(found))
        found += numbers_of(taken)
        consumer.settle(taken, status=200, at_ns=1)
    return found


async def test_rows_come_in_their_order_and_each_to_one_hand(reopen: Open) -> None:
    async with reopen() as engine:
        a = engine.consumer()
        await put(engine, 1, 2, 3, 4)
        await has_read(a, 4)
        first = await take(a, max_items=2)
        second = await take(a, max_items=1)
        assert numbers_of(first) == [1, 2]
        assert numbers_of(second) == [3]
        a.give_back(first)
        assert numbers_of(await take(a, max_items=1)) == [1]


async def test_at_least_one_row_is_taken_however_large(reopen: Open) -> None:
    async with reopen() as engine:
        a = engine.consumer()
        await put(engine, 1, 2)
        taken = await a.take(max_bytes=0, max_items=0) or await take(a, max_items=0)
        assert numbers_of(taken) == [1]


async def test_what_is_settled_stays_so_and_the_rest_is_owed_again(reopen: Open) -> None:
    async with reopen() as engine:
        a = engine.consumer()
        await put(engine, 1, 2, 3)
        held = await take(a, max_items=1)
        assert await take_rows(a, 1) == [2]
        await engine.flush()
        assert numbers_of(held) == [1]
    async with reopen() as engine:
        a = engine.consumer()
        assert await take_rows(a, 2) == [1, 3]
        assert not a.has_more


async def test_landing_twice_changes_nothing(reopen: Open) -> None:
    async with reopen() as engine:
        a = engine.consumer()
        await put(engine, 1)
        taken = await take(a)
        a.give_back(taken)
        a.settle(taken, status=200, at_ns=1)
        again = await take(a)
        assert numbers_of(again) == [1]
        a.settle(again, status=200, at_ns=1)
        a.give_back(again)
        assert not a.has_more


async def test_the_halves_of_a_batch_land_each_by_itself(reopen: Open) -> None:
    async with reopen() as engine:
        a = engine.consumer()
        await engine.append(piece(BODY, spans=4))
        one, three = await a.split(await take(a), 1)
        assert (one.items, three.items) == (1, 3)
        a.settle(one, status=200, at_ns=1)
        a.give_back(three)
        again = await take(a)
        assert [(row.first_item, row.items) for row in again.rows] == [(1, 3)]
        with pytest.raises(ValueError, match="single"):
            await a.split(one, 1)


async def test_what_is_parked_comes_to_who_asks_for_it_until_it_is_unparked(reopen: Open) -> None:
    async with reopen() as engine:
        a = engine.consumer()
        await put(engine, 1, 2)
        first = await take(a, max_items=1)
        place = first.ranges[0].start
        a.park(first, b"")
        assert await take_rows(a, 1) == [2]
        assert not a.has_more
        parked = await a.take_parked(place)
        assert parked is not None
        a.park(parked, b"")
        a.unpark()
        assert await take_rows(a, 1) == [1]
        assert await a.take_parked(place) is None


async def test_the_newest_row_is_the_last_that_would_be_taken(reopen: Open) -> None:
    async with reopen() as engine:
        a = engine.consumer()
        await put(engine, 1, 2, 3)
        await has_read(a, 3)
        newest = await a.take_newest()
        assert newest is not None
        assert numbers_of(newest) == [3]
        assert await a.take_newest(Encoding.JSON) is None


async def test_points_are_one_request_at_a_time(reopen: Open) -> None:
    async with reopen() as engine:
        a = engine.consumer(Signal.METRICS)
        await put(engine, 1, 2, signal=Signal.METRICS)
        first = await take(a, max_items=1)
        assert not a.has_more
        assert await a.take(max_bytes=1, max_items=1) is None
        assert await a.take_newest() is None
        a.settle(first, status=200, at_ns=1)
        assert numbers_of(first) + await take_rows(a, 1) == [1, 2]


async def test_a_take_that_was_cancelled_leaves_nothing_in_flight(reopen: Open) -> None:
    async with reopen() as engine:
        a = engine.consumer()
        await put(engine, 1)
        a.give_back(await take(a))
        taken = None
        with anyio.CancelScope() as scope:
            scope.cancel()
            taken = await a.take(max_bytes=1, max_items=1)
        if taken is not None:  # it was there without waiting
            a.give_back(taken)
        assert await take_rows(a, 1) == [1]


async def test_statistics_tell_what_is_owed_and_what_is_in_flight(reopen: Open) -> None:
    async with reopen() as engine:
        a = engine.consumer()
        await engine.append(piece(BODY, spans=4))
        await engine.append(piece(BODY, spans=4))
        await has_read(a, 2)
        taken: Taken = await take(a, max_items=4)
        told = a.statistics()
        assert (told.owed_rows, told.in_flight_items) == (2, 4)
        assert told.oldest_owed_ns > 0
        a.settle(taken, status=200, at_ns=1)
        told = a.statistics()
        assert (told.owed_rows, told.in_flight_items) == (1, 0)
        # Of what a fleet's relay has not read yet it knows the rows, and guesses the items.
        await eventually(lambda: a.statistics().owed_items == 4)
        assert (await take(a)).items == 4
        assert not a.has_more


async def test_a_dead_letter_is_there_when_what_it_is_about_is_settled(reopen: Open) -> None:
    async with reopen() as engine:
        a = engine.consumer()
        await put(engine, 1)
        taken = await take(a)
        row = taken.rows[0]
        dead = DeadLetter("a", "upstream_refused", "no", 1, row.encoding, row.body, row=row.row)
        a.settle_with(taken, [dead], status=400, at_ns=1)
        await engine.flush()
    async with reopen() as engine:
        assert not engine.consumer().has_more
        (letter,) = await engine.letters()
        assert (letter.letter.words, letter.letter.body) == ("no", b"1")
