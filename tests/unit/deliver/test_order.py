"""Metrics arrive in the order in which they were kept, also where some of them are refused.

The upstream here is as Prometheus is: it takes all of a request or nothing, and refuses a point
that comes after a later one. The oracle: every good point is delivered exactly once, in order.
"""

import itertools
import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.config import DestinationConfig
from relay.deliver.batches import Batch
from relay.deliver.isolate.bisect import MOST_WITHOUT_EVIDENCE
from relay.model.records import DeadLetter, Encoding, Request, Signal
from relay.otlp import transcode
from relay.upstream.outcomes import Blocked, Delivered, Outcome, Wait
from tests.support.builders import to_body
from tests.support.examples import examples
from tests.unit.buffer.making import NOW_NS, piece, request
from tests.unit.deliver.delivering import Case, Clock, InProcess, delivering

pytestmark = pytest.mark.anyio
NO = Blocked("up answered 400: no", status=400, words="no")
LATE = Blocked("up answered 400: out of order", status=400, words="out of order sample")


def numbers_in(fragment: bytes) -> list[int]:
    return [
        int(point["timeUnixNano"])
        for entry in json.loads(fragment)["resourceMetrics"]
        for scope in entry["scopeMetrics"]
        for metric in scope["metrics"]
        for point in metric["gauge"]["dataPoints"]
    ]


def as_request(fragment: bytes, encoding: Encoding) -> bytes:
    if encoding is Encoding.PROTOBUF:
        fragment = transcode.to_json(fragment, Signal.METRICS)
    return b'{"resourceMetrics":[%b]}' % fragment


class Prometheus(InProcess):
    """Refuses what holds a bad point, or one that is older than the newest it has."""

    def __init__(self, bad: frozenset[int], answer: Outcome = NO) -> None:
        self.bad = bad
        self.answer = answer
        self.took: list[int] = []
        self.sent: list[list[int]] = []
        self.script: list[Outcome] = []
        self.away: Outcome | None = None

    async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
        found = numbers_in(as_request(batch.fragment, batch.encoding))
        self.sent.append(found)
        if self.script:
            return self.script.pop(0)
        if self.away is not None:
            return self.away
        if self.bad & set(found):
            return self.answer
        if self.took and found[0] < self.took[-1]:
            return LATE
        self.took += found
        return Delivered(200)


def made(row: range, encoding: Encoding) -> Request:
    points = [{"timeUnixNano": str(number), "asDouble": 1.0} for number in row]
    body = to_body(
        {"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": points}}]}]}
    )
    if encoding is Encoding.PROTOBUF:
        body = transcode.to_protobuf(body, Signal.METRICS)
    each = piece(body, spans=len(row), signal=Signal.METRICS, encoding=encoding)
    return request(each, received_ns=NOW_NS)


async def done_while_more_come(at: Case, number: int) -> int:
    """Points go on coming, from `number` on, as they do; the number of the next one."""
    with anyio.fail_after(30):
        while at.backlog.statistics().owed_items:
            await at.buffer.append(made(range(number, number + 1), Encoding.JSON))
            number += 1
            with anyio.move_on_after(0.05):
                await at.done()
    return number


@asynccontextmanager
async def case(
    state_dir: Path,
    rows: Sequence[range],
    upstream: Prometheus,
    *,
    most_sleeps: int = 10**9,
    back_after: int = 10**9,
    encoding: Literal["json", "auto"] = "json",
) -> AsyncIterator[Case]:
    terms = DestinationConfig(
        name="up",
        endpoint="http://127.0.0.1:1/v1/metrics",
        signal=Signal.METRICS,
        encoding=encoding,
    )
    clock = Clock(most_sleeps)

    async def sleep(seconds: float) -> None:
        if len(clock.sleeps) >= back_after:
            upstream.away = None
        await clock.sleep(seconds)

    encodings = (Encoding.JSON, Encoding.PROTOBUF if encoding == "auto" else Encoding.JSON)
    kept = [made(row, each) for row, each in zip(rows, itertools.cycle(encodings), strict=False)]
    async with delivering(state_dir, terms, kept, upstream, clock=clock, sleep=sleep) as at:
        yield at


def rows_of(count: int, per_row: int) -> list[range]:
    return [range(at, min(at + per_row, count)) for at in range(0, count, per_row)]


@given(
    count=st.integers(2, 40),
    per_row=st.integers(1, 12),
    bad=st.sets(st.integers(0, 39), max_size=6),
    encoding=st.sampled_from(("json", "auto")),
)
@example(count=8, per_row=8, bad={0, 1, 3}, encoding="json")  # 2 must not wait for 4 to pass
@settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_good_points_arrive_once_and_in_order_whatever_is_refused(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    per_row: int,
    bad: set[int],
    encoding: Literal["json", "auto"],
) -> None:
    culprits = frozenset(bad) & frozenset(range(count))
    upstream = Prometheus(culprits)
    rows = rows_of(count, per_row)
    state_dir = tmp_path_factory.mktemp("order")
    async with case(state_dir, rows, upstream, encoding=encoding) as at:
        end = await done_while_more_come(at, count)
        letters = await at.letters()

    assert upstream.took == [number for number in range(end) if number not in culprits]
    assert sorted(number for each in letters for number in numbers_of(each)) == sorted(culprits)
    assert {each.words for each in letters} <= {"no"}


def numbers_of(letter: DeadLetter) -> list[int]:
    return numbers_in(as_request(letter.body, letter.encoding))


async def test_search_of_one_point_takes_few_requests(tmp_path: Path) -> None:
    upstream = Prometheus(frozenset({17}))
    async with case(tmp_path, rows_of(64, 8), upstream) as at:
        await at.done()
    assert len(upstream.sent) <= 2 * math.log2(64) + 4


async def test_newer_points_are_no_probe_of_an_upstream_that_refuses(tmp_path: Path) -> None:
    """401 to the head time and again: spans would be asked for by the newest row then."""
    upstream = Prometheus(frozenset())
    upstream.script = [Blocked("up answered 401", status=401)] * 8
    async with case(tmp_path, rows_of(30, 10), upstream) as at:
        await at.done()

    assert upstream.sent == [list(range(30))] * 9
    assert upstream.took == list(range(30))


@pytest.mark.parametrize("status", [0, 500, 503])
async def test_upstream_that_is_away_gets_all_in_order_once_it_is_back(
    tmp_path: Path, status: int
) -> None:
    """Whatever is tried meanwhile."""
    upstream = Prometheus(frozenset())
    upstream.away = Wait("up is away", status=status, may_be_the_size=status != 503)
    async with case(tmp_path, rows_of(32, 8), upstream, back_after=9) as at:
        await at.done()
        assert await at.letters() == []

    assert upstream.took == list(range(32))


@pytest.mark.parametrize(
    ("rows", "bad", "encoding"),
    [
        (rows_of(32, 8), 9, "json"),
        (rows_of(16, 1), 0, "json"),
        (rows_of(16, 1), 5, "auto"),  # what comes next is of the other encoding
        ([range(4), range(4, 8)], 3, "auto"),
        ([range(5000)], 0, "json"),
    ],
)
async def test_point_that_breaks_its_upstream_stays_owed_and_the_others_arrive_in_order(
    tmp_path: Path, rows: list[range], bad: int, encoding: Literal["json", "auto"]
) -> None:
    broken = Wait("up answered 500", status=500, may_be_the_size=True)
    upstream = Prometheus(frozenset({bad}), broken)
    async with case(tmp_path, rows, upstream, encoding=encoding) as at:
        with anyio.fail_after(30):
            while at.backlog.statistics().owed_items > 1:  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.002)
        assert await at.letters() == []
        assert [each.items for each in at.courier.status.parked] == [1]

    assert upstream.took == [number for number in range(rows[-1].stop) if number != bad]


async def test_point_that_breaks_an_upstream_is_found_though_all_was_broken_at_first(
    tmp_path: Path,
) -> None:
    """A search while the upstream answered 500 to everything has found nothing."""
    broken = Wait("up answered 500", status=500, may_be_the_size=True)
    upstream = Prometheus(frozenset({0}), broken)
    upstream.away = broken
    async with case(tmp_path, rows_of(16, 1), upstream, back_after=30) as at:
        with anyio.fail_after(30):
            while at.backlog.statistics().owed_items > 1:  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.002)
        assert [each.items for each in at.courier.status.parked] == [1]

    assert upstream.took == list(range(1, 16))


async def test_upstream_that_refuses_all_is_blocked_after_few_requests(tmp_path: Path) -> None:
    upstream = Prometheus(frozenset(range(2000)))
    async with case(tmp_path, rows_of(2000, 100), upstream, most_sleeps=3) as at:
        with anyio.fail_after(30):
            await at.clock.is_spent.wait()
        assert at.courier.status.state == "blocked"
        assert await at.letters() == []
    assert len(upstream.sent) <= 100


async def test_search_without_evidence_ends_after_so_many_refusals(tmp_path: Path) -> None:
    upstream = Prometheus(frozenset(range(2000)))
    async with case(tmp_path, rows_of(2000, 100), upstream, most_sleeps=1) as at:
        with anyio.fail_after(30):
            await at.clock.is_spent.wait()
    assert len(upstream.sent) == 1 + MOST_WITHOUT_EVIDENCE  # the batch, and what was sent of it


async def test_upstream_that_finds_all_of_it_too_large_is_blocked_and_costs_no_point(
    tmp_path: Path,
) -> None:
    """The point that is sent alone is not all that is owed."""
    upstream = Prometheus(frozenset(range(16)), Blocked("up answered 413", status=413))
    async with case(tmp_path, rows_of(16, 4), upstream, most_sleeps=12) as at:
        with anyio.fail_after(30):
            await at.clock.is_spent.wait()
        assert at.courier.status.state == "blocked"
        assert await at.letters() == []
    assert [0] in upstream.sent


async def test_first_points_that_are_all_bad_hold_up_nothing_for_ever(tmp_path: Path) -> None:
    upstream = Prometheus(frozenset(range(5, 20)))
    async with case(tmp_path, [range(5)], upstream) as at:
        await at.done()
        for row in (range(5, 20), range(20, 25)):
            await at.buffer.append(made(row, Encoding.JSON))
        with anyio.fail_after(30):
            while upstream.took[-1] != 24:  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.002)
    assert upstream.took == [*range(5), *range(20, 25)]
