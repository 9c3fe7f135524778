"""When another row is asked instead of the head, and what a search of the head is followed by."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from relay.config import DestinationConfig
from relay.deliver.batches import Batch
from relay.deliver.isolate.bisect import (
    MOST_BROKEN_IN_ORDER,
    MOST_FOR_AGE,
    MOST_WITHOUT_EVIDENCE,
)
from relay.deliver.isolate.policy import FAILURES_OF_ONE_HEAD, Isolation
from relay.deliver.learnt import PAUSE_SECONDS
from relay.deliver.parked import MOST, Parked
from relay.deliver.sender import Attempt, BatchSender
from relay.model.records import (
    BodyFlag,
    DestinationState,
    Encoding,
    ParkedSpan,
    Position,
    Signal,
    StoredRow,
    Taken,
)
from relay.otlp import transcode
from relay.upstream.outcomes import Blocked, Delivered, Outcome, Unsent, Wait
from tests.unit.buffer.making import NOW_NS
from tests.unit.deliver.conftest import MemoryBacklog
from tests.unit.deliver.delivering import InProcess

pytestmark = pytest.mark.anyio
TRACES, METRICS = Signal.TRACES, Signal.METRICS
BROKEN = Wait("up answered 500", status=500, may_be_the_size=True)
AWAY = Wait("up is away", status=503)
REFUSED = Blocked("up answered 400: no", status=400, words="no")
TOO_LARGE = Blocked("up answered 413", status=413)
DENIED = Blocked("up answered 401", status=401)
FIELD = {TRACES: "scopeSpans", METRICS: "scopeMetrics"}


def made(number: int, signal: Signal, encoding: Encoding = Encoding.JSON, items: int = 1) -> Any:
    body = b'{"schemaUrl":"%d","%b":[]}' % (number, FIELD[signal].encode())
    if encoding is Encoding.PROTOBUF:
        body = transcode.to_protobuf(body, signal)
    return StoredRow(number, NOW_NS, encoding, BodyFlag.NONE, items, body, signal=signal)


@dataclass
class Backlog(MemoryBacklog):
    """Tells what it owes, too."""

    @property
    def owed_items(self) -> int:
        return self.in_flight + len(self.owed)

    def statistics(self) -> "Backlog":
        return self


class Beside:
    """No further requests; how often they were closed."""

    def __init__(self) -> None:
        self.closed = 0
        self.error: Exception | None = None

    async def close(self) -> None:
        self.closed += 1
        if self.error is not None:
            raise self.error


class Case(InProcess):
    """A backlog whose upstream gives `answer` to the rows of a request; what it was sent."""

    def __init__(
        self,
        answer: Callable[[list[int], Encoding], Outcome] = lambda *_: Delivered(200),
        rows: int = 2,
        signal: Signal = TRACES,
        encoding: str = "json",
    ) -> None:
        terms = DestinationConfig(
            name="axiom",
            endpoint="http://127.0.0.1:1/v1/x",
            signal=signal,
            encoding=encoding,  # type: ignore[arg-type]
        )
        self.answer = answer
        self.signal = signal
        self.seconds = 0.0
        self.sent: list[list[int]] = []
        self.backlog = Backlog(signal=signal)
        self.add(*range(1, rows + 1))
        self.sender = BatchSender(
            terms,
            self.backlog,  # type: ignore[arg-type]
            self,
            lambda _: {},
            now_ns=lambda: NOW_NS,
            monotonic=lambda: self.seconds,
            age_ns=None,
        )
        self.parked = Parked(self.sender, lambda: 0.5)
        self.beside = Beside()
        self.isolation = Isolation(self.sender, self.parked, self.beside)  # type: ignore[arg-type]

    def add(self, *numbers: int, encoding: Encoding = Encoding.JSON, items: int = 1) -> None:
        self.backlog.add(*(made(number, self.signal, encoding, items) for number in numbers))

    async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
        text = batch.fragment
        if batch.encoding is Encoding.PROTOBUF:
            text = transcode.to_json(text, self.signal)
        held = [int(each["schemaUrl"]) for each in json.loads(b"[%b]" % text)]
        self.sent.append(held)
        return self.answer(held, batch.encoding)

    async def taken(self, count: int) -> Taken:
        taken = await self.backlog.take(max_bytes=10**9, max_items=count, one_encoding=False)
        assert taken is not None
        return taken

    async def failed(self, count: int, outcome: Outcome, **changes: Any) -> Attempt:
        """The head of so many items was sent, which are still in flight."""
        taken = await self.taken(count)
        attempt = replace(Attempt(taken, Encoding.JSON, self.sender.learnt, outcome), **changes)
        self.isolation.note_failed(attempt)
        return attempt

    async def isolated(self, count: int, outcome: Outcome = REFUSED, **changes: Any) -> Any:
        """What comes of a search of the head."""
        verdict = await self.isolation.isolate(await self.failed(count, outcome, **changes))
        assert self.backlog.in_flight == 0
        return verdict

    async def due(self, count: int, outcome: Outcome, times: int = 4) -> list[bool]:
        """Whether another row is due, each time that it is asked after three failures."""
        is_wait = isinstance(outcome, Wait)
        state = DestinationState.WAITING if is_wait else DestinationState.BLOCKED
        self.sender.status.enter(state, "")
        attempt = await self.failed(count, outcome)
        self.head = attempt.taken
        for _ in range(FAILURES_OF_ONE_HEAD - 1):
            assert not self.isolation.is_due(attempt.taken)
            self.isolation.note_failed(attempt)
        return [self.isolation.is_due(attempt.taken) for _ in range(times)]

    @property
    def owed(self) -> list[int]:
        return [row.row for row in self.backlog.owed]


def refuses(*bad: int, outcome: Outcome = REFUSED) -> Callable[[list[int], Encoding], Outcome]:
    """Refuses what holds one of these rows; everything if none is named."""
    return lambda held, _: outcome if not bad or set(bad) & set(held) else Delivered(200)


# --- another row instead ------------------------------------------------------------------------

EVERY_OTHER_TIME = [True, False, True, False]
NEVER = [False] * 4


@pytest.mark.parametrize(
    ("rows", "count", "due"), [(2, 1, EVERY_OTHER_TIME), (2, 2, EVERY_OTHER_TIME), (1, 1, NEVER)]
)
@pytest.mark.parametrize("outcome", [DENIED, BROKEN])
async def test_another_row_is_asked_every_other_time_where_there_is_one(
    rows: int, count: int, due: list[bool], outcome: Outcome
) -> None:
    assert await Case(rows=rows).due(count, outcome) == due


@pytest.mark.parametrize(
    ("items", "outcome", "due"),
    [(2, BROKEN, EVERY_OTHER_TIME), (1, BROKEN, NEVER), (2, DENIED, NEVER)],
)
async def test_parts_of_a_lone_row_are_asked_only_where_they_may_break_the_upstream(
    items: int, outcome: Outcome, due: list[bool]
) -> None:
    case = Case(rows=0)
    case.add(1, items=items)

    assert await case.due(items, outcome) == due


@pytest.mark.parametrize(("rows", "count", "is_due"), [(1, 1, False), (2, 2, True), (2, 1, True)])
async def test_lone_point_is_not_searched_for_nothing_could_pass_beside_it(
    rows: int, count: int, is_due: bool
) -> None:
    case = Case(rows=rows, signal=METRICS)

    assert await case.due(count, BROKEN, 1) == [is_due]


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(DENIED, DestinationState.WAITING), (BROKEN, DestinationState.BLOCKED)],
)
async def test_no_other_row_is_asked_where_the_state_is_not_of_the_refusal(
    outcome: Outcome, state: DestinationState
) -> None:
    case = Case()
    assert await case.due(1, outcome, 2) == [True, False]
    case.sender.status.enter(state)

    assert not case.isolation.is_due(case.head)


async def test_no_other_row_is_asked_where_nobody_has_answered() -> None:
    assert await Case().due(1, Blocked("no such host")) == NEVER


async def test_no_other_row_is_asked_where_nothing_more_can_be_parked() -> None:
    case = Case()
    places = map(Position, range(MOST))
    case.parked.items = {place: ParkedSpan(place, 1, "", b"") for place in places}

    assert await case.due(1, BROKEN) == NEVER


async def test_parts_are_sent_once_where_each_row_breaks_the_upstream() -> None:
    case = Case(refuses(1, 3, outcome=BROKEN), rows=3)
    attempt = await case.failed(2, BROKEN)
    verdict = await case.isolation.ask_another(attempt.taken)

    assert case.sent[:2] == [[3], [1]]
    assert [2] in case.sent
    assert 2 in case.backlog.settled
    assert verdict == BROKEN


async def test_points_of_either_encoding_are_searched_together() -> None:
    case = Case(refuses(1), rows=2, signal=METRICS)
    case.add(3, 4, encoding=Encoding.PROTOBUF)

    assert await case.isolated(1) == Delivered(200)
    assert sorted(case.backlog.settled) == [1, 2, 3, 4]


# --- a search -----------------------------------------------------------------------------------


async def test_requests_beside_it_have_ended_before_the_head_is_searched() -> None:
    case = Case(lambda *_: Delivered(200) if case.beside.closed else AWAY)
    assert await case.isolated(2) == Delivered(200)
    assert case.beside.closed == 1

    case = Case()
    case.beside.error = OSError("no task")
    with pytest.raises(OSError, match="no task"):
        await case.isolated(2)
    assert (case.owed, case.backlog.in_flight, case.sent) == ([1, 2], 0, [])


async def test_head_is_given_back_unsearched_where_something_else_is_wanted() -> None:
    case = Case()
    case.sender.is_paused = True

    assert await case.isolated(2) == REFUSED
    assert (case.owed, case.sent) == ([1, 2], [])


@pytest.mark.parametrize(("signal", "is_narrowed"), [(TRACES, False), (METRICS, True)])
async def test_head_is_searched_alone_out_of_order_and_where_less_is_to_be_sent(
    signal: Signal, is_narrowed: bool
) -> None:
    case = Case(rows=4, signal=signal)
    case.sender.learnt.limits.narrow(int(is_narrowed))

    assert await case.isolated(2) == Delivered(200)
    assert case.sent == [[1], [2]]
    assert case.owed == [3, 4]


@pytest.mark.parametrize(("outcome", "is_less"), [(TOO_LARGE, True), (REFUSED, False)])
async def test_less_is_sent_at_once_after_what_was_too_large(
    outcome: Outcome, is_less: bool
) -> None:
    case = Case(rows=4)
    limits = case.sender.learnt.limits
    before = limits.max_bytes

    assert await case.isolated(4, outcome) == Delivered(200)
    assert (limits.max_bytes < before) is is_less


async def test_parts_that_are_too_large_by_themselves_are_learnt_from() -> None:
    case = Case(lambda held, _: TOO_LARGE if len(held) > 2 else Delivered(200), rows=8)
    four = Taken(tuple(case.backlog.owed[:4]), ())

    assert await case.isolated(8, TOO_LARGE) == Delivered(200)
    assert case.sender.learnt.limits.is_too_large(four)


async def test_two_other_rows_are_asked_where_nothing_has_passed() -> None:
    case = Case(refuses(), rows=5)
    assert await case.isolated(1) == REFUSED
    assert case.sent == [[5], [4]]


async def test_points_are_searched_until_a_second_request_is_not_answered() -> None:
    timeout = Wait("no success within 30 s", may_be_the_size=True)
    case = Case(refuses(outcome=timeout), rows=8, signal=METRICS)
    attempt = await case.failed(8, timeout)

    assert await case.isolation.ask_another(attempt.taken) == timeout
    assert case.sent == [[1, 2, 3, 4], [1, 2]]
    assert (case.owed, case.backlog.in_flight) == ([*range(1, 9)], 0)


async def test_head_that_was_searched_in_vain_is_searched_again_with_proof_or_news_only() -> None:
    case = Case(refuses())
    assert await case.isolated(2) == REFUSED
    first = len(case.sent)
    assert case.sent[0] == [1]

    assert await case.isolated(2) == REFUSED
    assert (len(case.sent), case.owed) == (first, [1, 2])

    case.add(3, 4)  # more of it, and another: that is asked first
    assert await case.isolated(3) == REFUSED
    assert case.sent[first:] == [[4]]

    second = len(case.sent)
    case.sender.learnt.passed(Taken((), ()), Encoding.JSON, 0.0)
    assert await case.isolated(3) == REFUSED
    assert case.sent[second] == [1]


async def test_last_row_of_a_head_is_its_proof_where_no_other_is_owed() -> None:
    case = Case(refuses())
    assert await case.isolated(2) == REFUSED
    case.sent.clear()
    case.add(3)
    case.answer = refuses(1)

    assert await case.isolated(3) == Delivered(200)
    assert case.sent[:2] == [[3], [1]]
    assert [each.row for each in case.backlog.dead] == [1]


async def test_search_that_another_row_breaks_off_tells_nothing_of_how_much_passes() -> None:
    case = Case(lambda held, _: AWAY if held == [3] else REFUSED, rows=3)

    assert await case.isolated(2) == AWAY
    assert not case.sender.learnt.limits.is_narrowed


async def test_head_that_is_known_to_be_at_fault_is_searched_without_proof() -> None:
    case = Case(refuses())
    assert await case.isolated(2) == REFUSED
    case.sent.clear()
    case.answer = refuses(1, outcome=replace(REFUSED, about="content"))

    assert await case.isolated(2, replace(REFUSED, about="content")) == Delivered(200)
    assert case.sent == [[1], [2]]
    assert [each.row for each in case.backlog.dead] == [1]


async def test_lone_item_is_given_up_when_it_is_refused_once_more_after_a_pause() -> None:
    case = Case(refuses(), rows=1)
    case.sender.learnt.passed(Taken((), ()), Encoding.JSON, 0.0)
    assert await case.isolated(1) == REFUSED
    case.seconds = PAUSE_SECONDS

    assert await case.isolated(1) == Delivered(200)
    assert [each.row for each in case.backlog.dead] == [1]


@pytest.mark.parametrize(("outcome", "is_given_up"), [(REFUSED, False), (TOO_LARGE, True)])
async def test_lone_item_is_kept_without_any_success_unless_it_is_too_large(
    outcome: Outcome, is_given_up: bool
) -> None:
    case = Case(refuses(outcome=outcome), rows=1)
    assert await case.isolated(1, outcome) == outcome
    case.seconds = PAUSE_SECONDS

    assert await case.isolated(1, outcome) == (Delivered(200) if is_given_up else outcome)
    assert case.owed == ([] if is_given_up else [1])


async def test_search_ends_at_once_when_something_else_is_wanted() -> None:
    def answer(_held: list[int], _encoding: Encoding) -> Outcome:
        case.sender.is_paused = True
        return REFUSED

    case = Case(answer, rows=4)
    assert await case.isolated(4) is None
    assert (case.owed, case.sent) == ([1, 2, 3, 4], [[1, 2]])


async def test_part_of_which_nothing_is_for_the_upstream_is_settled_and_proves_nothing() -> None:
    case = Case(lambda held, _: REFUSED if 1 in held else Unsent())
    assert await case.isolated(2) == REFUSED
    assert (case.owed, case.backlog.settled, case.backlog.dead) == ([1], [2], [])


async def test_lone_item_is_kept_while_another_is_refused_as_well() -> None:
    """An upstream that has begun to refuse everything: an earlier success condemns nothing."""
    case = Case(refuses(), rows=2)
    case.sender.learnt.passed(Taken((), ()), Encoding.JSON, 0.0)
    for case.seconds in (0.0, PAUSE_SECONDS, 2 * PAUSE_SECONDS):
        assert await case.isolated(1) == REFUSED
    assert (case.owed, case.backlog.dead) == ([1, 2], [])


@pytest.mark.parametrize("items", [1, 2])
async def test_row_that_cannot_be_cut_is_not_given_up_at_once_for_one_of_its_items(
    items: int,
) -> None:
    known = replace(REFUSED, about="content")
    case = Case(refuses(outcome=known), rows=0)
    case.add(1, items=items)

    assert await case.isolated(items, known) == (Delivered(200) if items == 1 else known)
    assert case.owed == ([] if items == 1 else [1])


@pytest.mark.parametrize(
    ("denials", "sent", "dead"),
    [(1, [[3], [1], [1], [2]], []), (9, [[3], [1], [1], [1], [2], [1]], [1])],
)
async def test_item_denied_for_another_reason_is_asked_three_times_and_once_more_after_others(
    denials: int, sent: list[list[int]], dead: list[int]
) -> None:
    """One that passes meanwhile is delivered, and never sent again."""
    left = [DENIED] * denials
    case = Case(lambda held, _: left.pop() if left and 1 in held else Delivered(200), rows=3)
    attempt = await case.failed(2, DENIED)

    assert await case.isolation.ask_another(attempt.taken) == Delivered(200)
    assert case.sent == sent
    assert [each.row for each in case.backlog.dead] == dead
    assert sorted(case.backlog.settled) == [1, 2, 3]


async def test_points_are_cut_without_evidence_for_so_many_requests_only() -> None:
    case = Case(refuses(), rows=100, signal=METRICS)
    assert await case.isolated(100) == REFUSED
    assert len(case.sent) == MOST_WITHOUT_EVIDENCE

    case = Case(refuses(outcome=BROKEN), rows=16, signal=METRICS)
    attempt = await case.failed(16, BROKEN)
    assert await case.isolation.ask_another(attempt.taken) == BROKEN
    down_to_one = [8, 4, 2, 1]
    assert [len(held) for held in case.sent[:4]] == down_to_one
    assert len(case.sent) == len(down_to_one) + MOST_BROKEN_IN_ORDER


async def test_points_refused_in_vain_are_asked_by_turns_as_one_and_as_more() -> None:
    case = Case(refuses(), signal=METRICS)
    limits = case.sender.learnt.limits
    usual = limits.max_items
    for count, most in ((2, 1), (1, usual), (2, 1)):
        assert await case.isolated(count) == REFUSED
        assert limits.max_items == most

    limits.narrow(0)
    case.answer = refuses(1)
    case.sender.learnt.passed(Taken((), ()), Encoding.JSON, 0.0)
    assert await case.isolated(2) == REFUSED
    assert (case.backlog.settled, limits.max_items) == ([2], usual)


async def test_limit_that_an_earlier_search_left_is_not_lifted_by_one_out_of_order() -> None:
    case = Case()
    case.sender.learnt.limits.narrow(1)

    assert await case.isolated(2) == Delivered(200)
    assert case.sender.learnt.limits.is_narrowed


async def test_search_that_an_absence_breaks_off_goes_on_with_what_it_had_come_to() -> None:
    case = Case(refuses(outcome=AWAY), rows=8)
    assert await case.isolated(8) == AWAY
    assert case.sender.learnt.limits.max_items == 4

    case = Case(refuses(outcome=DENIED), rows=8)
    assert await case.isolated(8) == DENIED
    assert not case.sender.learnt.limits.is_narrowed


async def test_item_that_lacked_the_last_proof_is_given_up_by_the_next_search() -> None:
    case = Case(refuses(1))
    assert await case.isolated(2) == REFUSED
    assert (case.owed, case.backlog.dead) == ([1], [])
    case.add(3)

    assert await case.isolated(1) == Delivered(200)
    assert [each.row for each in case.backlog.dead] == [1]


async def test_what_is_refused_for_its_age_is_given_up_as_it_was_sent_after_so_many_requests() -> (
    None
):
    late = replace(REFUSED, about="series")
    case = Case(refuses(outcome=late), rows=255)

    assert await case.isolated(255, late) == Delivered(200)
    given_up = {(each.row, each.items) for each in case.backlog.dead}
    parts = [(held[0], len(held)) for held in case.sent]
    kept_whole = [part in given_up for part in parts if part[1] > 1]
    first = sum(part[1] > 1 for part in parts[: MOST_FOR_AGE - 1])
    assert kept_whole == [False] * first + [True] * (len(kept_whole) - first)
    assert any(kept_whole)
    assert sum(items for _, items in given_up) == 255


# --- the other encoding -------------------------------------------------------------------------


def only_protobuf(_held: list[int], encoding: Encoding) -> Outcome:
    return Delivered(200) if encoding is Encoding.PROTOBUF else REFUSED


@pytest.mark.parametrize(("rows", "count"), [(2, 2), (3, 1), (3, 2)])
async def test_other_encoding_is_searched_where_nothing_passes_in_one(
    rows: int, count: int
) -> None:
    tried: list[list[int]] = []

    def answer(held: list[int], encoding: Encoding) -> Outcome:
        if encoding is Encoding.PROTOBUF:
            tried.append(held)
        return only_protobuf(held, encoding)

    case = Case(answer, rows, encoding="auto")

    assert await case.isolated(count, alternative=Encoding.PROTOBUF) == Delivered(200)
    assert set(range(1, count + 1)) <= set(case.backlog.settled)
    # The head itself: nothing is known of that encoding yet. A lone one was just refused in it.
    assert tried[0] == ([1] if count > 1 else [3])
    assert case.sender.learnt.notes() == ["refuses JSON (400): sent as protobuf"]


@pytest.mark.parametrize(
    ("in_protobuf", "verdict", "owed", "dead"),
    [
        (Delivered(200), Delivered(200), [], []),
        (REFUSED, Delivered(200), [], [1]),
        (AWAY, AWAY, [1], []),
    ],
)
async def test_item_is_given_up_only_where_the_other_encoding_refuses_it_too(
    in_protobuf: Outcome, verdict: Outcome, owed: list[int], dead: list[int]
) -> None:
    def answer(held: list[int], encoding: Encoding) -> Outcome:
        if 1 not in held:
            return Delivered(200)
        return in_protobuf if encoding is Encoding.PROTOBUF else REFUSED

    case = Case(answer, rows=3, encoding="auto")
    assert await case.isolated(2, alternative=Encoding.PROTOBUF) == verdict
    assert ([each for each in case.owed if each < 3], case.backlog.settled.count(2)) == (owed, 1)
    assert [each.row for each in case.backlog.dead] == dead


async def test_other_encoding_of_a_lone_item_waits_until_it_is_refused_again() -> None:
    case = Case(only_protobuf, 1, encoding="auto")

    assert await case.isolated(1, alternative=Encoding.PROTOBUF) == REFUSED
    assert case.sent == []


async def test_other_encoding_is_not_searched_after_an_absence() -> None:
    case = Case(lambda *_: AWAY, encoding="auto")

    assert await case.isolated(2, alternative=Encoding.PROTOBUF) == AWAY
    assert case.sent == [[1]]


async def test_other_encoding_is_not_searched_where_others_are_first_by_now() -> None:
    case = Case(encoding="auto")

    def others_come(_held: list[int], encoding: Encoding) -> Outcome:
        assert encoding is Encoding.JSON
        if len(case.sent) == 1:
            case.add(0)
        return REFUSED

    case.answer = others_come
    assert await case.isolated(2, alternative=Encoding.PROTOBUF) == REFUSED
    assert case.owed == [0, 1, 2]
