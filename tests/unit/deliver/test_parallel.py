"""Requests beside the courier's own, and rows that come to hand when they are not to be sent."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from relay.config import DestinationConfig
from relay.deliver.batches import Batch
from relay.deliver.courier import Courier
from relay.model.records import StoredRow, Taken
from relay.upstream.outcomes import Blocked, Delivered, Outcome, Wait
from tests.unit.deliver.conftest import note_closed
from tests.unit.deliver.test_courier import Clock, ScriptedUpstream, world

pytestmark = pytest.mark.anyio

Settings = Callable[..., DestinationConfig]
Row = Callable[..., StoredRow]


class Gated:
    """Takes from `backlog` as many times as it is let."""

    def __init__(self, backlog: Any, takes: int) -> None:
        self.backlog = backlog
        self.takes = takes
        self.gate = anyio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backlog, name)

    async def take(self, **limits: Any) -> Taken | None:
        self.takes -= 1
        if self.takes < 0:
            await self.gate.wait()
        taken: Taken | None = await self.backlog.take(**limits)
        return taken


@contextlib.asynccontextmanager
async def two_at_once(
    settings: DestinationConfig, consumer: Gated
) -> AsyncIterator[tuple[Courier, ScriptedUpstream, ScriptedUpstream]]:
    """A courier with a request beside its own, both to upstreams that hang."""
    own, beside = ScriptedUpstream(anyio.Event()), ScriptedUpstream(anyio.Event())
    courier = Courier(
        settings, consumer, own, lambda _: {}, make_upstream=lambda _: beside, pace_seconds=0
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(courier.run)
        await anyio.wait_all_tasks_blocked()
        yield courier, own, beside
        tasks.cancel_scope.cancel()


async def test_stop_gives_back_what_hangs_in_every_request(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(*(row(number, spans=2) for number in (1, 2, 3)))
    consumer = Gated(backlog, takes=2)
    async with two_at_once(settings(concurrency=2, max_batch_items=2), consumer) as at:
        courier, own, beside = at
        assert (len(own.sent), len(beside.sent), backlog.in_flight) == (1, 1, 2)

        with anyio.fail_after(5):
            await courier.stop()

        assert (backlog.in_flight, len(backlog.owed), backlog.settled) == (0, 3, [])
        assert courier.status.consecutive_failures == courier.status.in_flight_items == 0
        assert own.is_closed
        assert beside.is_closed


@pytest.mark.parametrize(
    ("first", "most_items", "is_more_than_one"),
    [((1, 10), 4, 0), ((1, 10), 3, 0), ((2, 10), 4, 1), ((1, 20), 4, 1), ((1, 19), 4, 0)],
)
async def test_requests_are_made_beside_it_once_half_of_what_one_may_hold_was_taken(
    settings: Settings,
    row: Row,
    backlog: Any,
    first: tuple[int, int],
    most_items: int,
    is_more_than_one: int,
) -> None:
    """Of spans or of bytes: the next row may have been too large for the other half."""
    spans, size = first
    backlog.add(row(1, b"x" * size, spans=spans), row(2, b"x" * 39, spans=4))
    terms = settings(concurrency=2, max_batch_items=most_items, max_batch_bytes=40)
    async with two_at_once(terms, Gated(backlog, takes=9)) as at:
        _courier, own, beside = at
        assert (len(own.sent), len(beside.sent)) == (1, is_more_than_one)


async def test_nothing_more_is_sent_beside_it_while_it_waits(
    settings: Settings, row: Row, backlog: Any
) -> None:
    """An upstream that is away for one of several connections gets no flood over the others."""
    backlog.add(*(row(number, spans=2) for number in range(1, 7)))
    failing, passing, clock = anyio.Event(), anyio.Event(), Clock()
    beside = ScriptedUpstream(passing, Delivered(200))

    class Away(ScriptedUpstream):
        async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
            await super().send(batch, headers)
            return Wait("away")

    courier = Courier(
        settings(concurrency=2, max_batch_items=2),
        backlog,
        Away(failing),
        lambda _: {},
        make_upstream=lambda _: beside,
        sleep=clock.sleep,
        pace_seconds=0,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(courier.run)
        await anyio.wait_all_tasks_blocked()
        failing.set()
        await anyio.wait_all_tasks_blocked()
        assert (courier.status.state, len(beside.sent)) == ("waiting", 1)
        passing.set()
        await anyio.wait_all_tasks_blocked()
        assert (len(beside.sent), backlog.settled, beside.is_closed) == (1, [2], True)
        tasks.cancel_scope.cancel()


async def test_requests_beside_it_are_no_more_than_the_settings_say_and_leave_others_their_turn(
    settings: Settings, row: Row, backlog: Any
) -> None:
    """Upstreams that answer at once, as one in memory does."""
    backlog.add(*(row(number, spans=2) for number in range(1, 101)))
    made: list[ScriptedUpstream] = []

    def make(_: DestinationConfig) -> ScriptedUpstream:
        made.append(ScriptedUpstream())
        return made[-1]

    own = ScriptedUpstream(anyio.Event())
    terms = settings(concurrency=3, max_batch_items=2)
    courier = Courier(terms, backlog, own, lambda _: {}, make_upstream=make, pace_seconds=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(courier.run)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    assert (len(own.sent), sum(len(each.sent) for each in made)) == (1, 99)
    assert len(made) == 2
    assert all(len(each.sent) > 30 for each in made)  # by turns


async def test_requests_beside_it_close_their_connections_when_it_is_cancelled(
    settings: Settings, row: Row, backlog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backlog.add(*(row(number, spans=2) for number in (1, 2, 3)))
    consumer = Gated(backlog, takes=2)
    async with two_at_once(settings(concurrency=2, max_batch_items=2), consumer) as at:
        closed = note_closed(monkeypatch, at[2])
    assert closed.is_set()
    assert (backlog.in_flight, len(backlog.owed)) == (0, 3)


async def test_one_request_at_a_time_is_made_where_no_other_connection_can_be(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(*(row(number, spans=2) for number in (1, 2, 3)))
    async with world(settings(concurrency=2, max_batch_items=2), backlog) as at:
        assert (at.state, backlog.settled, len(at.upstream.sent)) == ("idle", [1, 2, 3], 3)


@pytest.mark.parametrize("takes", [0, 1])
async def test_rows_that_come_to_hand_after_the_grace_of_a_stop_are_not_sent(
    settings: Settings, row: Row, backlog: Any, takes: int
) -> None:
    backlog.add(*(row(number, spans=2) for number in (1, 2, 3)))
    consumer = Gated(backlog, takes=takes)
    async with two_at_once(settings(concurrency=2, max_batch_items=2), consumer) as at:
        courier, own, beside = at
        with anyio.fail_after(5):
            async with anyio.create_task_group() as stopping:
                stopping.start_soon(courier.stop)
                for _ in range(10):  # turns of the event loop, until no grace is left
                    await anyio.lowlevel.checkpoint()
                consumer.gate.set()

        assert (len(own.sent), len(beside.sent)) == (takes, 0)
        assert (backlog.in_flight, len(backlog.owed), backlog.settled) == (0, 3, [])


async def test_rows_taken_under_settings_of_before_do_not_go_over_their_connection(
    settings: Settings, row: Row, backlog: Any
) -> None:
    backlog.add(*(row(number, spans=2) for number in (1, 2, 3)))
    consumer = Gated(backlog, takes=1)
    async with two_at_once(settings(concurrency=2, max_batch_items=2), consumer) as at:
        courier, own, beside = at
        courier.update(settings("http://127.0.0.1:2/v1/traces"))
        consumer.gate.set()
        await anyio.wait_all_tasks_blocked()

        assert (len(own.sent), len(beside.sent)) == (1, 0)
        assert beside.is_closed
        assert backlog.in_flight == 1


async def test_search_begins_once_what_was_sent_beside_has_ended(
    settings: Settings, row: Row, backlog: Any
) -> None:
    """What passes beside it says nothing of the parts that are sent one by one."""
    backlog.add(*(row(number, spans=2) for number in (1, 2, 3)))
    refused, passing = anyio.Event(), anyio.Event()
    no = Blocked("up answered 400", status=400, words="no")

    class Refuses(ScriptedUpstream):
        async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
            await super().send(batch, headers)
            return no

    own, beside = Refuses(refused), ScriptedUpstream(passing)
    courier = Courier(
        settings(concurrency=2, max_batch_items=2),
        Gated(backlog, takes=2),
        own,
        lambda _: {},
        make_upstream=lambda _: beside,
        pace_seconds=0,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(courier.run)
        await anyio.wait_all_tasks_blocked()
        refused.set()
        await anyio.wait_all_tasks_blocked()
        assert (len(own.sent), len(beside.sent)) == (2, 1)  # the other encoding was tried, too
        passing.set()
        with anyio.fail_after(5):
            while len(own.sent) < 3:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
