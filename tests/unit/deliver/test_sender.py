"""What is taken for a request, and what becomes of it when something else is wanted."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import anyio
import pytest

from relay.config import DestinationConfig
from relay.deliver.batches import Batch
from relay.deliver.left_out import Why
from relay.deliver.sender import BatchSender
from relay.model.errors import SecretUnset
from relay.model.reasons import Reason
from relay.model.records import StoredRow
from relay.upstream.outcomes import Delivered, Outcome, Unsent
from tests.unit.buffer.making import NOW_NS
from tests.unit.deliver.conftest import MemoryBacklog, make_row, make_settings, taken_of
from tests.unit.deliver.delivering import InProcess

pytestmark = pytest.mark.anyio
HOUR_NS = 3600 * 10**9


class Upstream(InProcess):
    """Takes everything."""

    def __init__(self) -> None:
        self.requests = 0

    async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
        self.requests += 1
        return Delivered(200)


def sender_of(
    backlog: MemoryBacklog,
    age_ns: Callable[[StoredRow], int] | None = None,
    resolve: Callable[[DestinationConfig], dict[str, str]] = lambda _: {},
    **terms: Any,
) -> BatchSender:
    settings: Any = make_settings(**terms)
    assert isinstance(settings, DestinationConfig)
    return BatchSender(
        settings,
        backlog,  # type: ignore[arg-type]
        Upstream(),
        resolve,
        now_ns=lambda: NOW_NS,
        monotonic=lambda: 0.0,
        age_ns=age_ns,
    )


def received(seconds_ago: float) -> StoredRow:
    return replace(make_row(), received_ns=NOW_NS - int(seconds_ago * 1e9))


@pytest.mark.parametrize(
    ("seconds_ago", "is_old"), [(59, False), (60, False), (61, True), (-61, False)]
)
async def test_age_is_told_by_the_clock_where_no_buffer_knows_better(
    backlog: MemoryBacklog, seconds_ago: float, is_old: bool
) -> None:
    sender = sender_of(backlog, max_age_seconds=60.0)
    assert sender.is_old(received(seconds_ago)) is is_old
    assert not sender_of(backlog).is_old(received(seconds_ago))


async def test_rows_are_given_back_where_their_age_cannot_be_told(backlog: MemoryBacklog) -> None:
    def age_ns(_row: StoredRow) -> int:
        raise OSError("no clock")

    backlog.add(make_row(1), make_row(2))
    with pytest.raises(OSError, match="no clock"):
        await sender_of(backlog, age_ns, max_age_seconds=60.0).take()
    assert ([row.row for row in backlog.owed], backlog.in_flight) == ([1, 2], 0)


def old_up_to(number: int) -> Callable[[StoredRow], int]:
    return lambda row: HOUR_NS if row.row <= number else 0


async def test_what_is_young_enough_is_taken_after_what_is_too_old(backlog: MemoryBacklog) -> None:
    backlog.add(*(make_row(number) for number in range(1, 6)))
    taken = await sender_of(backlog, old_up_to(2), max_age_seconds=60.0).take()

    assert taken is not None
    assert [row.row for row in taken.rows] == [3, 4, 5]
    assert [(letter.row, letter.items) for letter in backlog.dead] == [(1, 2)]
    assert (backlog.settled, backlog.owed, backlog.in_flight) == ([1, 2], [], 3)
    assert backlog.statuses == [0, 0]  # as of nothing that an upstream has answered


async def test_what_is_too_old_is_given_back_where_it_cannot_be_settled(
    backlog: MemoryBacklog,
) -> None:
    backlog.add(*(make_row(number) for number in range(1, 6)))
    backlog.settle_errors = [OSError("no disk")]
    with pytest.raises(OSError, match="no disk"):
        await sender_of(backlog, old_up_to(2), max_age_seconds=60.0).take()

    assert [row.row for row in backlog.owed] == [1, 2, 3, 4, 5]
    assert (backlog.settled, backlog.dead, backlog.in_flight) == ([], [], 0)


async def test_what_is_too_old_is_set_aside_by_as_much_as_the_settings_allow(
    backlog: MemoryBacklog,
) -> None:
    """What an upstream takes at once is no matter where nothing is sent."""
    backlog.add(*(make_row(number) for number in range(1, 6)))
    sender = sender_of(backlog, old_up_to(5), max_age_seconds=60.0)
    sender.learnt.limits.narrow(1)

    assert await sender.take() is None
    assert [letter.items for letter in backlog.dead] == [1, 4]


@pytest.mark.parametrize("wanted", ["is_stopping", "is_nudged"])
async def test_no_more_is_taken_after_what_is_too_old_when_something_else_is_wanted(
    backlog: MemoryBacklog, wanted: str
) -> None:
    def age_ns(row: StoredRow) -> int:
        setattr(sender, wanted, True)
        return HOUR_NS if row.row == 1 else 0

    sender = sender_of(backlog, age_ns, max_age_seconds=60.0)
    backlog.add(make_row(1), make_row(2))
    assert sender.may_go_on

    assert await sender.take() is None
    assert [letter.row for letter in backlog.dead] == [1]
    assert ([row.row for row in backlog.owed], backlog.in_flight) == ([2], 0)


async def test_others_get_their_turn_while_much_is_too_old(backlog: MemoryBacklog) -> None:
    backlog.add(*(make_row(number) for number in range(1, 101)))
    sender = sender_of(backlog, old_up_to(100), max_age_seconds=60.0, max_batch_items=1)

    async def stop() -> None:
        sender.is_stopping = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop)
        assert await sender.take() is None
    assert len(backlog.owed) > 90


async def test_nothing_counts_as_delivered_that_was_not(backlog: MemoryBacklog) -> None:
    sender = sender_of(backlog)
    sent = await sender.send(taken_of(make_row()))
    for attempt in (replace(sent, outcome=None), replace(sent, batch=None)):
        with pytest.raises(TypeError, match="only what was delivered"):
            await sender.settle(attempt)
    with pytest.raises(TypeError, match="only what was refused"):
        await sender.give_up(sent)
    assert (backlog.settled, backlog.dead) == ([], [])


async def test_what_is_left_out_as_a_whole_is_settled_as_of_no_answer(
    backlog: MemoryBacklog,
) -> None:
    why = Why(Reason.TEMPORALITY, "not for this one")
    sender = sender_of(backlog, encoding="json")
    backlog.add(make_row(1, b'{"scopeSpans":[{"spans":[{"name":"x"}]}]}'))
    taken = await sender.take()
    assert taken is not None
    attempt = await sender.send(taken, judges=[lambda *_: [why]])
    assert attempt.outcome == Unsent()
    await sender.settle(attempt)

    upstream: Any = sender.upstream
    assert (upstream.requests, backlog.statuses) == (0, [0])
    assert [(each.reason, each.words) for each in backlog.dead] == [tuple(why[:2])]
    assert (sender.status.refused_items, sender.status.last_status) == (1, 0)


@pytest.mark.parametrize("hint", ["", "write the token into that file"])
async def test_reason_for_a_missing_secret_says_what_to_do_or_when_it_is_tried_again(
    backlog: MemoryBacklog, hint: str
) -> None:
    def resolve(_settings: DestinationConfig) -> dict[str, str]:
        raise SecretUnset("the token is not set", hint=hint)

    sender = sender_of(backlog, resolve=resolve)
    blocked = (await sender.send(taken_of(make_row()))).refusal

    assert blocked is not None
    assert blocked == sender.unset_secret()
    then = hint or "it is retried automatically, and at once on a reload"
    assert blocked.reason == f"axiom: the token is not set; {then}"


async def test_nothing_is_sent_once_it_was_cut_off(backlog: MemoryBacklog) -> None:
    sender = sender_of(backlog)
    upstream: Any = sender.upstream
    assert (await sender.send(taken_of(make_row()))).outcome == Delivered(200)
    sender.cut_off()

    assert (await sender.send(taken_of(make_row()))).outcome is None
    assert (upstream.requests, sender.status.in_flight_items) == (1, 0)
