"""Upstreams that refuse some spans, or everything for a while, against a real buffer on disk.

The oracle throughout: every span is delivered exactly once or is a dead letter, and a span that
the upstream would have taken is never a dead letter.
"""

import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.buffer import Buffer
from relay.config import DestinationConfig
from relay.deliver.batches import Batch
from relay.model.records import DeadLetter, DestinationState, Encoding, Request, Taken
from relay.otlp.transcode import TranscodeError
from relay.upstream.outcomes import Blocked, Delivered, Outcome, Wait
from tests.support.builders import request as otlp
from tests.support.builders import span, to_body
from tests.support.examples import examples
from tests.unit.buffer.making import NOW_NS, piece, request
from tests.unit.deliver import delivering
from tests.unit.deliver.delivering import Clock, InProcess

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
BAD_REQUEST = Blocked("axiom answered 400: no", status=400, words="no")

# What an upstream says to these spans, at this request, of so many bytes.
Rule = Callable[[frozenset[str], int, Batch], Outcome | Exception]


class Upstream(InProcess):
    """Answers by a rule, and knows what it took."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.took: Counter[str] = Counter()
        self.sent: list[frozenset[str]] = []
        self.bytes: list[int] = []
        self.encodings: list[Encoding] = []
        self.at_once = 0
        self.most_at_once = 0
        self.gate: anyio.Event | None = None

    async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
        names = names_in(batch)
        self.sent.append(frozenset(names))
        self.bytes.append(batch.size)
        self.encodings.append(batch.encoding)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.gate is not None:
                await self.gate.wait()
            outcome = self.rule(frozenset(names), len(self.sent), batch)
        finally:
            self.at_once -= 1
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, Delivered):
            self.took.update(names)
        return outcome


def names_in(batch: Batch) -> list[str]:
    whole = b"".join((batch.content, *batch.rest))
    if batch.encoding is Encoding.JSON:
        entries = json.loads(whole)["resourceSpans"]
        return [
            one["name"]
            for entry in entries
            for scope in entry["scopeSpans"]
            for one in scope["spans"]
        ]
    message = ExportTraceServiceRequest.FromString(whole)
    return [
        one.name
        for entry in message.resource_spans
        for scope in entry.scope_spans
        for one in scope.spans
    ]


class Case(delivering.Case):
    """A courier under way to an upstream that answers by a rule."""

    def __init__(self, at: delivering.Case, upstream: Upstream) -> None:
        super().__init__(at.buffer, at.terms, at.courier, at.clock)
        self.upstream = upstream

    async def dead(self) -> Counter[str]:
        return Counter(name for letter in await self.letters() for name in names_of(letter))


def names_of(letter: DeadLetter) -> list[str]:
    if letter.encoding is Encoding.JSON:
        content = b'{"resourceSpans":[%b]}' % letter.body
    else:
        content = letter.body
    batch = Batch(
        encoding=letter.encoding, content=content, parts=(letter.body,), items=letter.items, rows=1
    )
    return names_in(batch)


@asynccontextmanager
async def case(
    state_dir: Path,
    rows: Iterable[Sequence[str]],
    rule: Rule,
    *,
    most_sleeps: int = 10**9,
    sizes: Mapping[str, int] | None = None,
    received_ns: Callable[[int], int] = lambda _: NOW_NS,
    **changes: object,
) -> AsyncIterator[Case]:
    terms = DestinationConfig(
        name="axiom",
        endpoint="http://127.0.0.1:1/v1/traces",
        **changes,  # type: ignore[arg-type]
    )
    upstream = Upstream(rule)
    kept = [made(names, sizes or {}, received_ns(number)) for number, names in enumerate(rows)]
    clock = Clock(most_sleeps)
    async with delivering.delivering(state_dir, terms, kept, upstream, clock=clock) as at:
        yield Case(at, upstream)


async def keep(buffer: Buffer, names: Sequence[str], sizes: Mapping[str, int]) -> None:
    await buffer.append(made(names, sizes))


def made(names: Sequence[str], sizes: Mapping[str, int], received_ns: int = NOW_NS) -> Request:
    spans = []
    for name in names:
        one = span(name=name)
        one["attributes"] = [{"key": "k", "value": {"stringValue": "x" * sizes.get(name, 10)}}]
        spans.append(one)
    body = to_body(otlp(*spans)["resourceSpans"])[1:-1]
    return request(piece(body, spans=len(names)), received_ns=received_ns)


def refuses(*culprits: str, answer: Outcome | Exception = BAD_REQUEST) -> Rule:
    """Refuses every request that holds one of them."""
    bad = frozenset(culprits)
    return lambda names, _number, _batch: answer if names & bad else Delivered(200)


def numbered(count: int, per_row: int) -> list[list[str]]:
    names = [f"span-{number}" for number in range(count)]
    return [names[at : at + per_row] for at in range(0, count, per_row)]


def all_of(rows: Iterable[Sequence[str]]) -> Counter[str]:
    return Counter(name for names in rows for name in names)


@pytest.mark.parametrize(("count", "per_row"), [(64, 64), (64, 1), (100, 7), (512, 100)])
@pytest.mark.parametrize("answer", [400, 422])
@pytest.mark.parametrize("encoding", ["json", "protobuf", "auto"])
async def test_search_sets_aside_the_culprit_only(
    tmp_path: Path, count: int, per_row: int, answer: int, encoding: str
) -> None:
    rows = numbered(count, per_row)
    words = Blocked("axiom refuses", status=answer, words="span-41 is bad")
    async with case(tmp_path, rows, refuses("span-41", answer=words), encoding=encoding) as at:
        await at.done()

        (letter,) = await at.letters()
        assert names_of(letter) == ["span-41"]
        assert (letter.reason, letter.status, letter.words) == (
            "upstream_refused",
            answer,
            "span-41 is bad",
        )
        assert (letter.items, letter.affected, len(letter.trace_ids)) == (1, 1, 16)
        assert at.upstream.took + Counter(["span-41"]) == all_of(rows)
        assert at.clock.sleeps == []
        assert at.courier.status.state is DestinationState.IDLE
        assert at.courier.status.refused_items == 1


@pytest.mark.parametrize("count", [1, 2, 5, 20])
async def test_search_for_k_culprits_costs_k_log_n_requests(tmp_path: Path, count: int) -> None:
    spans = 2048
    rows = numbered(spans, 256)
    culprits = [f"span-{number * spans // count}" for number in range(count)]
    async with case(tmp_path, rows, refuses(*culprits), encoding="json") as at:
        await at.done()

        assert await at.dead() == Counter(culprits)
        assert at.upstream.took == all_of(rows) - Counter(culprits)
        assert len(at.upstream.sent) <= count * (2 * math.log2(spans) + 1) + 8


async def test_rows_that_cannot_be_cut_condemn_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = Backlog.split

    async def split_between_rows(self: Backlog, taken: Taken, spans: int) -> tuple[Taken, Taken]:
        if len(taken.rows) == 1:
            raise TranscodeError("a row that cannot be read")
        return await split(self, taken, spans)

    monkeypatch.setattr(Backlog, "split", split_between_rows)
    rows = numbered(600, 3)
    bad = [names for number, names in enumerate(rows) if number % 5 in (0, 3)]
    async with case(tmp_path, rows, refuses(*(names[0] for names in bad))) as at:
        await at.done()

        assert await at.dead() == all_of(bad)


@st.composite
def any_batch(draw: st.DrawFn) -> tuple[list[list[str]], set[str]]:
    """Rows, and which of their spans are refused: at most half of them.

    Not drawn in the test itself: a draw that is given up there is an exception of a task that
    nobody asks for, which asyncio reports from the garbage collector.
    """
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=8))
    names = [f"span-{number}" for number in range(sum(sizes))]
    rows = [names[sum(sizes[:at]) : sum(sizes[: at + 1])] for at in range(len(sizes))]
    return rows, draw(st.sets(st.sampled_from(names), max_size=len(names) // 2))


@settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batch=any_batch(), encoding=st.sampled_from(["json", "protobuf", "auto"]))
async def test_search_finds_any_culprits_among_any_rows(
    tmp_path_factory: pytest.TempPathFactory,
    batch: tuple[list[list[str]], set[str]],
    encoding: str,
) -> None:
    rows, culprits = batch
    names = [name for row in rows for name in row]
    rule = refuses(*culprits)
    async with case(tmp_path_factory.mktemp("state"), rows, rule, encoding=encoding) as at:
        # What is owed last may need a row after it as evidence.
        await keep(at.buffer, ["good"], {})
        with anyio.fail_after(20):
            while at.backlog.statistics().owed_items:
                if at.courier.status.state is DestinationState.BLOCKED:
                    await keep(at.buffer, ["good"], {})
                await anyio.sleep(0.002)

        dead = await at.dead()
        assert not set(dead) - culprits
        assert at.upstream.took.keys() - {"good"} == set(names) - culprits
        assert set(at.upstream.took.values()) - {1} <= {at.upstream.took["good"]}
        assert set(dead) == culprits


@pytest.mark.parametrize("turn", range(1, 26))
async def test_upstream_that_recovers_in_the_middle_of_a_search_condemns_nothing(
    tmp_path: Path, turn: int
) -> None:
    rows = numbered(40, 8)

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        return BAD_REQUEST if number < turn else Delivered(200)

    async with case(tmp_path, rows, rule, encoding="json") as at:
        await at.done()

        assert await at.letters() == []
        assert at.upstream.took == all_of(rows)


@pytest.mark.parametrize("turn", range(1, 26))
async def test_upstream_that_breaks_in_the_middle_of_a_search_condemns_the_culprit_only(
    tmp_path: Path, turn: int
) -> None:
    rows = numbered(40, 8)

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        is_broken = turn <= number < turn + 60
        return BAD_REQUEST if is_broken or "span-11" in names else Delivered(200)

    async with case(tmp_path, rows, rule, encoding="json") as at:
        await at.done()

        assert await at.dead() == Counter(["span-11"])
        assert at.upstream.took == all_of(rows) - Counter(["span-11"])


async def test_upstream_that_refuses_everything_keeps_everything_and_is_probed_seldom(
    tmp_path: Path,
) -> None:
    rows = numbered(2000, 100)

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        return BAD_REQUEST

    async with case(tmp_path, rows, rule, encoding="json", most_sleeps=60) as at:
        with anyio.fail_after(30):
            await at.clock.is_spent.wait()

        assert at.courier.status.state is DestinationState.BLOCKED
        assert at.courier.status.reason == BAD_REQUEST.reason
        assert at.backlog.statistics().owed_items == 2000
        assert await at.letters() == []
        # One search, then about two requests a probe.
        assert len(at.upstream.sent) < 60 * 3 + 30


async def test_last_row_is_sent_alone_as_the_proof_where_no_other_is_owed(tmp_path: Path) -> None:
    rows = [["a"], ["b", "c", "d"]]
    async with case(tmp_path, rows, refuses(*"abcdef"), encoding="json", most_sleeps=1) as at:
        with anyio.fail_after(30):
            await at.clock.is_spent.wait()
        await keep(at.buffer, ["e", "f"], {})
        at.upstream.sent.clear()
        at.courier.wake()
        with anyio.fail_after(30):
            while len(at.upstream.sent) < 2:  # noqa: ASYNC110 - no event
                await anyio.sleep(0.002)
        assert at.upstream.sent[:2] == [frozenset("abcdef"), frozenset("ef")]


async def test_lone_span_that_is_refused_is_kept_without_evidence(tmp_path: Path) -> None:
    async with case(tmp_path, [["one"]], refuses("one"), encoding="json", most_sleeps=20) as at:
        with anyio.fail_after(30):
            await at.clock.is_spent.wait()

        assert await at.letters() == []
        assert at.backlog.statistics().owed_items == 1
        assert at.courier.status.state is DestinationState.BLOCKED


async def test_lone_span_is_set_aside_when_another_came_and_passed(tmp_path: Path) -> None:
    async with case(tmp_path, [["one"]], refuses("one"), encoding="json") as at:
        with anyio.fail_after(30):
            while at.courier.status.state is not DestinationState.BLOCKED:  # noqa: ASYNC110 - no event
                await anyio.sleep(0.002)
        await keep(at.buffer, ["two"], {})
        await at.done()

        assert await at.dead() == Counter(["one"])
        assert at.upstream.took == Counter(["two"])


async def test_lone_span_after_a_success_is_set_aside_at_its_second_refusal(
    tmp_path: Path,
) -> None:
    async with case(tmp_path, [["good"]], refuses("one"), encoding="json") as at:
        await at.done()
        await keep(at.buffer, ["one"], {})
        await at.done()

        assert await at.dead() == Counter(["one"])
        assert len(at.clock.sleeps) >= 1


async def test_lone_span_is_set_aside_only_when_the_other_encoding_refuses_it_once_more(
    tmp_path: Path,
) -> None:
    """In protobuf the upstream refuses at first, and takes the span just before it is given up."""

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        is_taken = "one" not in names or (batch.encoding is Encoding.PROTOBUF and number > 5)
        return Delivered(200) if is_taken else BAD_REQUEST

    async with case(tmp_path, [["good"]], rule, encoding="auto") as at:
        await at.done()
        await keep(at.buffer, ["one"], {})
        await at.done()

        assert await at.letters() == []
        assert at.upstream.took == Counter(["good", "one"])
        tried = [Encoding.JSON, Encoding.PROTOBUF]
        assert at.upstream.encodings == [Encoding.JSON, *tried, *tried, Encoding.PROTOBUF]


@pytest.mark.parametrize("status", [200, 401, 403, 404, 409])
async def test_head_that_alone_is_refused_with_another_status_is_found_after_three_failures(
    tmp_path: Path, status: int
) -> None:
    rows = numbered(30, 10)
    answer = Blocked(f"axiom answered {status}", status=status, words="not this one")
    async with case(tmp_path, rows, refuses("span-3", answer=answer), encoding="json") as at:
        await at.done()

        (letter,) = await at.letters()
        assert (names_of(letter), letter.status) == (["span-3"], status)
        assert at.upstream.took == all_of(rows) - Counter(["span-3"])
        assert len(at.clock.sleeps) >= 3


@pytest.mark.parametrize(("status", "settled"), [(200, 0), (299, 0), (300, 300)])
async def test_what_a_2xx_refused_is_not_settled_as_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, settled: int
) -> None:
    """Else `where` would say that it has arrived."""
    answer = Blocked(f"axiom answered {status}: “no”", status=status, words="no")
    rows = numbered(30, 10)
    async with case(tmp_path, rows, refuses("span-3", answer=answer), encoding="json") as at:
        statuses: list[int] = []
        real = Backlog.settle_with

        def settle_with(
            self: Backlog, taken: Taken, dead: Sequence[DeadLetter], *, status: int, at_ns: int
        ) -> None:
            statuses.extend(status for _ in dead)
            real(self, taken, dead, status=status, at_ns=at_ns)

        monkeypatch.setattr(Backlog, "settle_with", settle_with)
        await at.done()

        assert await at.dead() == Counter(["span-3"])
        assert statuses == [settled]


async def test_lone_row_is_sent_at_every_probe(tmp_path: Path) -> None:
    answer = Blocked("axiom answered 401", status=401, words="no")
    async with case(
        tmp_path, [["one"]], refuses("one", answer=answer), encoding="json", most_sleeps=12
    ) as at:
        with anyio.fail_after(30):
            await at.clock.is_spent.wait()

        assert len(at.upstream.sent) == 12


async def test_wrong_token_condemns_nothing_and_all_arrives_with_the_right_one(
    tmp_path: Path,
) -> None:
    rows = numbered(30, 10)
    is_right = False

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        return Delivered(200) if is_right else Blocked("401", status=401)

    async with case(tmp_path, rows, rule, encoding="json", most_sleeps=40) as at:
        with anyio.fail_after(30):
            await at.clock.is_spent.wait()
        assert await at.letters() == []
        is_right = True
        at.courier.wake()
        await at.done()

        assert at.upstream.took == all_of(rows)


def limited(limit_bytes: int) -> Rule:
    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        if batch.size > limit_bytes:
            return Blocked("axiom answered 413", status=413, words="too large")
        return Delivered(200)

    return rule


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
async def test_413_splits_and_what_passed_is_remembered(tmp_path: Path, encoding: str) -> None:
    rows = numbered(600, 20)
    sizes = {name: 2000 for names in rows for name in names}
    async with case(tmp_path, rows, limited(100_000), encoding=encoding, sizes=sizes) as at:
        await at.done()
        assert await at.letters() == []
        assert at.upstream.took == all_of(rows)
        too_large = [size for size in at.upstream.bytes if size > 100_000]
        at.upstream.bytes.clear()

        for _ in range(10):
            await keep(at.buffer, [f"more-{at.clock.now_ns}"] * 20, {})
        await at.done()

        assert 1 <= len(too_large) <= 12
        assert at.clock.sleeps == []


async def test_413_of_one_row_is_split_inside_it(tmp_path: Path) -> None:
    rows = numbered(40, 40)
    sizes = dict.fromkeys(rows[0], 1000)
    async with case(tmp_path, rows, limited(10_000), encoding="json", sizes=sizes) as at:
        await at.done()

        assert await at.letters() == []
        assert at.upstream.took == all_of(rows)


async def test_single_span_that_is_too_large_is_set_aside(tmp_path: Path) -> None:
    rows = numbered(20, 5)
    async with case(
        tmp_path, rows, limited(20_000), encoding="json", sizes={"span-7": 30_000}
    ) as at:
        await at.done()

        (letter,) = await at.letters()
        assert (names_of(letter), letter.reason, letter.status) == (["span-7"], "too_large", 413)
        assert at.upstream.took == all_of(rows) - Counter(["span-7"])


async def test_limit_of_a_preset_holds_inside_a_row(tmp_path: Path) -> None:
    rows = numbered(100, 100)

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        return Delivered(200)

    async with case(tmp_path, rows, rule, encoding="json", max_batch_items=30) as at:
        await at.done()

        assert [len(names) for names in at.upstream.sent] == [30, 30, 30, 10]
        assert at.upstream.took == all_of(rows)


async def test_half_batches_follow_a_timeout_and_grow_again(tmp_path: Path) -> None:
    rows = numbered(160, 1)

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        if len(names) > 10 and number < 12:
            return Wait("504", status=504, may_be_the_size=True)
        return Delivered(200)

    async with case(tmp_path, rows, rule, encoding="json") as at:
        await at.done()

        sizes = [len(names) for names in at.upstream.sent]
        # After the third failure another row is asked; it passes, so halves go at once.
        assert sizes[:5] == [160, 80, 40, 1, 10]
        assert at.courier.status.parked == ()
        assert max(sizes[12:], default=20) >= 20
        assert at.upstream.took == all_of(rows)
        assert await at.letters() == []


@pytest.mark.filterwarnings("ignore")
async def test_exception_of_ours_sets_aside_what_it_comes_from(tmp_path: Path) -> None:
    rows = numbered(40, 10)
    rule = refuses("span-22", answer=KeyError("secret-of-a-body"))
    async with case(tmp_path, rows, rule, encoding="json") as at:
        await at.done()

        (letter,) = await at.letters()
        assert (names_of(letter), letter.reason, letter.status) == (["span-22"], "relay_error", 0)
        assert letter.words.startswith("KeyError at ")
        assert "secret-of-a-body" not in letter.words
        assert at.upstream.took == all_of(rows) - Counter(["span-22"])


async def test_what_is_older_than_max_age_is_set_aside_unsent(tmp_path: Path) -> None:
    rows = numbered(60, 10)
    hour_ns = 3600 * 10**9

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        return Delivered(200)

    async with case(
        tmp_path,
        rows,
        rule,
        encoding="json",
        max_age_seconds=3600.0,
        received_ns=lambda number: NOW_NS - (2 * hour_ns if number < 4 else 0),
    ) as at:
        await at.done()

        letters = await at.letters()
        assert {(letter.reason, letter.status) for letter in letters} == {("too_old", 0)}
        assert sum(letter.items for letter in letters) == 40
        assert letters[0].words == (
            "received 2h ago, and axiom is sent nothing older than 1h (max_age)"
        )
        assert at.upstream.took == all_of(rows[4:])
        assert all(not names & set(all_of(rows[:4])) for names in at.upstream.sent)


async def test_lanes_open_only_while_there_is_a_backlog(tmp_path: Path) -> None:
    rows = numbered(400, 10)

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        return Delivered(200)

    async with case(tmp_path, rows, rule, encoding="json", concurrency=3, max_batch_items=20) as at:
        at.upstream.gate = anyio.Event()
        with anyio.fail_after(10):
            while at.upstream.at_once < 3:  # noqa: ASYNC110 - a double of the upstream
                await anyio.sleep(0.002)
        at.upstream.gate.set()
        await at.done()
        assert at.upstream.most_at_once == 3
        assert at.upstream.took == all_of(rows)

        at.upstream.most_at_once = 0
        await keep(at.buffer, ["last"], {})
        await at.done()
        assert at.upstream.most_at_once == 1


async def test_failure_in_a_lane_loses_nothing(tmp_path: Path) -> None:
    rows = numbered(400, 10)

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        if number % 5 == 3:
            return Wait("503", status=503)
        return BAD_REQUEST if "span-137" in names else Delivered(200)

    async with case(tmp_path, rows, rule, encoding="json", concurrency=4, max_batch_items=20) as at:
        await at.done()

        assert await at.dead() == Counter(["span-137"])
        assert at.upstream.took == all_of(rows) - Counter(["span-137"])


async def test_413_to_all_that_is_owed_costs_the_one_span_that_it_is(tmp_path: Path) -> None:
    """Though nothing has passed before; a single success would not say that it is not too large."""
    answer = Blocked("axiom answered 413", status=413, words="too large")
    rule = refuses("span-0", answer=answer)
    async with case(tmp_path, numbered(1, 1), rule, encoding="json") as at:
        await at.done()
        (letter,) = await at.letters()

    assert (names_of(letter), letter.reason, letter.status) == (["span-0"], "too_large", 413)


@pytest.mark.parametrize("count", [1, 2, 9])
async def test_span_that_only_one_encoding_cannot_carry_is_sent_in_the_other(
    tmp_path: Path, count: int
) -> None:
    """Both encodings refuse the batch for one span. Only that one becomes a dead letter, not those
    that are refused in JSON and would pass in protobuf.
    """
    bad = {f"span-{number}" for number in range(count)}

    def rule(names: frozenset[str], _number: int, batch: Batch) -> Outcome:
        is_bad = names & bad and batch.encoding is Encoding.JSON
        return BAD_REQUEST if is_bad or "span-30" in names else Delivered(200)

    rows = [*numbered(40, 8), ["last"]]
    async with case(tmp_path, rows, rule, encoding="auto") as at:
        await at.done()
        assert at.upstream.took == all_of(rows) - Counter(["span-30"])
        assert await at.dead() == Counter(["span-30"])
