"""What is taken for a search of the head in order, and what is given back of it."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest

from relay.config import DestinationConfig
from relay.deliver.batches import Batch
from relay.deliver.isolate.policy import (
    FAILURES_OF_ONE_HEAD,
    FAILURES_UNTIL_SEARCHED_AGAIN,
    ROWS_TO_SEARCH_IN_ORDER,
    Isolation,
)
from relay.deliver.parallel import Parallel
from relay.deliver.parked import Parked
from relay.deliver.sender import Attempt, BatchSender
from relay.model.records import BodyFlag, DestinationState, Encoding, Signal, StoredRow, Taken
from relay.upstream.outcomes import Blocked, Delivered, Outcome, Wait
from tests.unit.buffer.making import NOW_NS
from tests.unit.deliver.conftest import MemoryBacklog
from tests.unit.deliver.delivering import InProcess

pytestmark = pytest.mark.anyio
BROKEN = Wait("up answered 500", status=500, may_be_the_size=True)
REFUSED = Blocked("up answered 400: no", status=400, words="no")


class Upstream(InProcess):
    """Answers `outcome` to what holds a row of `bad`; everything if that is empty."""

    def __init__(self, outcome: Outcome, *bad: int) -> None:
        self.outcome = outcome
        self.bad = set(bad)
        self.sent: list[list[int]] = []

    async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
        held = [int(each["schemaUrl"]) for each in json.loads(b"[%b]" % batch.fragment)]
        self.sent.append(held)
        return self.outcome if not self.bad or self.bad & set(held) else Delivered(200)


@dataclass
class Backlog(MemoryBacklog):
    """Of metrics; other rows may come first, or all go, when something is given back."""

    signal: Signal = Signal.METRICS
    first: list[StoredRow] = field(default_factory=list)
    is_emptied: bool = False
    split_error: Exception | None = None

    @property
    def owed_items(self) -> int:
        return self.in_flight + len(self.owed)

    def statistics(self) -> "Backlog":
        return self

    def give_back(self, taken: Taken) -> None:
        super().give_back(taken)
        self.owed = [] if self.is_emptied else [*self.first, *self.owed]
        self.first = []

    async def take_newest(self, encoding: Encoding | None = None) -> None:
        """Nothing, as of metrics."""

    def park(self, taken: Taken, trace_ids: bytes) -> None:
        self.settle_with(taken, (), status=0, at_ns=NOW_NS)

    async def split(self, taken: Taken, spans: int) -> tuple[Taken, Taken]:
        if self.split_error is not None:
            raise self.split_error
        return await super().split(taken, spans)


class Case:
    """A backlog of so many rows, the first `taken` of them in flight and refused."""

    def __init__(self, upstream: Upstream, rows: int) -> None:
        terms = DestinationConfig(
            name="axiom",
            endpoint="http://127.0.0.1:1/v1/metrics",
            signal=Signal.METRICS,
            encoding="json",
        )
        self.upstream = upstream
        self.backlog = Backlog()
        self.backlog.add(*(made(number) for number in range(1, rows + 1)))
        self.sender = BatchSender(
            terms,
            self.backlog,  # type: ignore[arg-type]
            upstream,
            lambda _: {},
            now_ns=lambda: NOW_NS,
            monotonic=lambda: NOW_NS / 1e9,
            age_ns=None,
        )
        parked = Parked(self.sender, lambda: 0.5)
        self.isolation = Isolation(self.sender, parked, Parallel(self.sender, None))

    async def refused(self, count: int, outcome: Outcome) -> Attempt:
        """The head was sent with so many rows, which are still in flight."""
        taken = await self.backlog.take(max_bytes=10**9, max_items=count, one_encoding=False)
        assert taken is not None
        attempt = Attempt(taken, Encoding.JSON, self.sender.learnt, outcome)
        self.isolation.note_failed(attempt)
        return attempt

    @property
    def owed(self) -> list[int]:
        return [row.row for row in self.backlog.owed]


def made(number: int) -> StoredRow:
    body = b'{"schemaUrl":"%d","scopeMetrics":[]}' % number
    return StoredRow(number, NOW_NS, Encoding.JSON, BodyFlag.NONE, 1, body)


async def ask(case: Case, attempt: Attempt) -> Outcome | None:
    return await case.isolation.ask_another(attempt.taken)


async def isolate(case: Case, attempt: Attempt) -> Outcome | None:
    return await case.isolation.isolate(attempt)


Way = Callable[[Case, Attempt], Awaitable[Outcome | None]]
WAYS = pytest.mark.parametrize(
    ("way", "outcome"), [(ask, BROKEN), (isolate, REFUSED)], ids=["ask", "isolate"]
)


@WAYS
async def test_nothing_is_sent_where_others_are_first_by_now(way: Way, outcome: Outcome) -> None:
    case = Case(Upstream(outcome), 4)
    attempt = await case.refused(2, outcome)
    case.backlog.first = [made(0)]

    assert await way(case, attempt) is None
    assert (case.upstream.sent, case.owed, case.backlog.in_flight) == ([], [0, 1, 2, 3, 4], 0)


@WAYS
async def test_nothing_is_sent_where_nothing_is_owed_any_more(way: Way, outcome: Outcome) -> None:
    case = Case(Upstream(outcome), 4)
    attempt = await case.refused(2, outcome)
    case.backlog.is_emptied = True

    assert await way(case, attempt) is None
    assert (case.upstream.sent, case.owed, case.backlog.in_flight) == ([], [], 0)


@WAYS
@pytest.mark.parametrize(
    ("taken", "owed", "first"), [(2, 10, 5), (2, 16, 8), (2, 17, 8), (16, 40, 8), (20, 40, 10)]
)
async def test_head_is_searched_with_the_rows_that_come_next_sixteen_in_all(
    way: Way, outcome: Outcome, taken: int, owed: int, first: int
) -> None:
    case = Case(Upstream(outcome, 1), owed)
    attempt = await case.refused(taken, outcome)
    verdict = await way(case, attempt)

    searched = max(taken, min(owed, ROWS_TO_SEARCH_IN_ORDER))
    assert case.upstream.sent[0] == list(range(1, first + 1))
    assert max(max(sent) for sent in case.upstream.sent) == searched
    assert verdict == Delivered(200)
    assert case.owed == list(range(searched + 1, owed + 1))
    assert sorted(case.backlog.settled) == list(range(1, searched + 1))
    assert case.backlog.in_flight == 0


@WAYS
async def test_all_is_given_back_where_it_cannot_be_cut(way: Way, outcome: Outcome) -> None:
    case = Case(Upstream(outcome), 30)
    attempt = await case.refused(2, outcome)
    case.backlog.split_error = OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        await way(case, attempt)
    assert sorted(set(case.owed)) == list(range(1, 31))
    assert case.upstream.sent == []


def note(case: Case, attempt: Attempt, times: int = 1) -> None:
    for _ in range(times):
        case.isolation.note_failed(attempt)


async def searched_once(upstream: Upstream) -> tuple[Case, Attempt]:
    """A head that failed three times, of a destination that answers 500 to everything, and was
    searched for nothing; its rows are in flight again.
    """
    case = Case(upstream, 4)
    case.sender.status.enter(DestinationState.WAITING, "up answered 500")
    attempt = await case.refused(4, BROKEN)
    note(case, attempt)
    assert not case.isolation.is_due(attempt.taken)
    note(case, attempt)
    assert case.isolation.is_due(attempt.taken)
    assert await ask(case, attempt) == BROKEN
    assert case.backlog.in_flight == 0
    attempt = await case.refused(4, BROKEN)
    assert case.isolation.failures == FAILURES_OF_ONE_HEAD + 1
    assert not case.isolation.is_due(attempt.taken)
    return case, attempt


async def test_head_is_searched_again_after_sixteen_failures_more() -> None:
    case, attempt = await searched_once(Upstream(BROKEN))
    due_at = []
    while case.isolation.failures < 40:
        note(case, attempt)
        if case.isolation.is_due(attempt.taken):
            due_at.append(case.isolation.failures)

    first = FAILURES_OF_ONE_HEAD + FAILURES_UNTIL_SEARCHED_AGAIN
    assert due_at == [first, first + FAILURES_UNTIL_SEARCHED_AGAIN]


async def test_head_that_was_searched_while_it_was_refused_is_searched_after_sixteen_failures() -> (
    None
):
    case = Case(Upstream(REFUSED), 4)
    assert await isolate(case, await case.refused(4, REFUSED)) == REFUSED
    case.sender.status.enter(DestinationState.WAITING, "up answered 500")
    attempt = await case.refused(4, BROKEN)
    while not case.isolation.is_due(attempt.taken):
        note(case, attempt)

    assert case.isolation.failures == FAILURES_UNTIL_SEARCHED_AGAIN


async def test_head_is_searched_anew_once_something_has_passed() -> None:
    case, attempt = await searched_once(Upstream(BROKEN))
    case.sender.learnt.passed(attempt.taken, Encoding.JSON, 1.0)

    assert case.isolation.is_due(attempt.taken)


async def test_head_is_searched_anew_under_new_settings() -> None:
    case, attempt = await searched_once(Upstream(BROKEN))
    case.sender.update(case.sender.learnt.settings)

    assert case.isolation.is_due(attempt.taken)


async def test_another_head_is_searched_after_failures_of_its_own() -> None:
    case, attempt = await searched_once(Upstream(BROKEN))
    _, other = await case.backlog.split(attempt.taken, 1)
    attempt = replace(attempt, taken=other)
    due = []
    for _ in range(FAILURES_OF_ONE_HEAD):
        note(case, attempt)
        due.append(case.isolation.is_due(other))

    assert due == [False] * (FAILURES_OF_ONE_HEAD - 1) + [True]


async def test_failures_that_say_nothing_of_the_head_are_not_counted() -> None:
    case = Case(Upstream(BROKEN), 4)
    away = Wait("up is away", status=503)
    attempt = await case.refused(4, away)
    note(case, replace(attempt, outcome=None), 5)

    assert case.isolation.failures == 0


async def test_search_that_was_broken_off_is_begun_again_at_the_next_failure() -> None:
    away = Wait("up is away", status=503)
    case = Case(Upstream(away), 4)
    case.sender.status.enter(DestinationState.WAITING, "up answered 500")
    attempt = await case.refused(4, BROKEN)
    note(case, attempt, FAILURES_OF_ONE_HEAD - 1)
    assert await ask(case, attempt) == away
    attempt = await case.refused(4, BROKEN)

    assert case.isolation.is_due(attempt.taken)
