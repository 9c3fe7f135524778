"""Upstreams that some spans break, time and again, against a real buffer on disk.

The oracle throughout: what the upstream takes arrives once, what it does not take stays owed, and
nothing is ever set aside for a 5xx or a timeout.
"""

import itertools
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import structlog.testing

from relay.config import DestinationConfig
from relay.deliver import parked
from relay.deliver.batches import Batch
from relay.deliver.courier import Courier
from relay.deliver.isolate.bisect import MOST_UNANSWERED
from relay.deliver.sender import Attempt, BatchSender
from relay.model.records import DestinationState, Encoding
from relay.upstream.outcomes import Blocked, Delivered, Outcome, Wait
from tests.unit.buffer.making import NOW_NS, opened
from tests.unit.deliver.delivering import Clock
from tests.unit.deliver.test_bisect import (
    BAD_REQUEST,
    Case,
    Upstream,
    all_of,
    case,
    keep,
    names_of,
    numbered,
    refuses,
)

pytestmark = pytest.mark.anyio

SAID = "axiom answered 500 Internal Server Error: “boom”"
BOOM = Wait(f"{SAID}; it is tried again by itself", status=500, may_be_the_size=True, said=SAID)
TIMEOUT = Wait("axiom: no success within 30 s; it is tried again", may_be_the_size=True)
OUTCOMES = {
    "500": BOOM,
    "502": Wait("502", status=502, may_be_the_size=True),
    "504": Wait("504", status=504, may_be_the_size=True),
    "timeout": TIMEOUT,
}


async def until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    with anyio.fail_after(seconds):
        while not is_so():  # noqa: ASYNC110 - the courier has no event for each of its turns
            await anyio.sleep(0.002)


def owes(at: Case, spans: int) -> Callable[[], bool]:
    return lambda: at.backlog.statistics().owed_items == spans


def steps_around(at: Case, spans: int) -> Callable[[], bool]:
    """Whether just so many spans are owed, and others go before each of them."""
    return lambda: owes(at, spans)() and len(at.courier.status.parked) == spans


async def until_around(at: Case, spans: int) -> None:
    """Wait until just so many spans are owed and stepped around.

    The last of them may need one more row that passes; until that comes it holds up nobody.
    """

    def is_so() -> bool:
        return steps_around(at, spans)() or is_alone()

    def is_alone() -> bool:
        return owes(at, spans)() and at.courier.status.state is DestinationState.WAITING

    await until(is_so)
    while not steps_around(at, spans)():
        await keep(at.buffer, ["good"], {})
        await until(is_so)
    del at.upstream.took["good"]


@pytest.mark.parametrize("said", OUTCOMES)
@pytest.mark.parametrize(
    ("count", "per_row", "culprit"), [(64, 64, 41), (64, 1, 0), (100, 7, 99), (512, 100, 205)]
)
@pytest.mark.parametrize("encoding", ["json", "protobuf", "auto"])
async def test_culprit_is_stepped_around_and_delivered_once_it_is_taken(
    tmp_path: Path, said: str, count: int, per_row: int, culprit: int, encoding: str
) -> None:
    rows = [*numbered(count, per_row), ["last"]]
    bad = f"span-{culprit}"
    async with case(tmp_path, rows, refuses(bad, answer=OUTCOMES[said]), encoding=encoding) as at:
        await until_around(at, 1)

        assert at.upstream.took == all_of(rows) - Counter([bad])
        (around,) = at.courier.status.parked
        assert (around.items, len(around.trace_ids)) == (1, 16)
        assert around.said == (OUTCOMES[said].said or OUTCOMES[said].reason)
        assert around.next_try_ns > NOW_NS
        await until(lambda: at.courier.status.state is DestinationState.IDLE)
        assert at.courier.status.failing_since_ns == 0

        at.upstream.rule = refuses()
        at.courier.wake()
        await at.done()
        assert at.upstream.took == all_of(rows)
        await until(lambda: not at.courier.status.parked)
        assert await at.letters() == []


@pytest.mark.parametrize("other", [["b", "worse", "c"], ["worse", "c"]])
async def test_of_another_row_one_span_is_asked_since_each_row_may_hold_a_culprit(
    tmp_path: Path, other: list[str]
) -> None:
    rows = [["bad", "a"], other]
    broken = refuses("bad", "worse", answer=BOOM)
    async with case(tmp_path, rows, broken, encoding="json", max_batch_items=2) as at:
        await until(lambda: at.upstream.took["c"] == 1)
        assert at.upstream.sent[:4] == [frozenset(rows[0])] * 3 + [frozenset("c")]
        await until_around(at, 2)
        assert at.upstream.took == all_of(rows) - Counter(["bad", "worse"])


async def test_several_culprits_are_stepped_around_one_by_one(tmp_path: Path) -> None:
    rows = [*numbered(600, 30), ["last"]]
    culprits = [f"span-{number}" for number in (0, 1, 29, 30, 222, 598, 599)]
    async with case(tmp_path, rows, refuses(*culprits, answer=BOOM), encoding="json") as at:
        await until_around(at, len(culprits))
        assert at.upstream.took == all_of(rows) - Counter(culprits)
        await keep(at.buffer, ["more"], {})
        await until(lambda: at.upstream.took["more"] == 1)
        at.upstream.sent.clear()
        await until(lambda: len(at.upstream.sent) > 20)
        assert all(len(names) == 1 for names in at.upstream.sent)  # each alone

        at.upstream.rule = refuses()
        await at.done()
        assert at.upstream.took == all_of([*rows, ["more"]])
        assert await at.letters() == []


@pytest.mark.parametrize("seed", range(6))
async def test_upstream_that_answers_500_at_random_loses_nothing_and_condemns_nothing(
    tmp_path: Path, seed: int
) -> None:
    rows = numbered(300, 10)
    dice = random.Random(seed)

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        outcomes: list[Outcome] = [BOOM, BOOM, TIMEOUT, Wait("503", status=503), Delivered(200)]
        return dice.choice(outcomes)

    async with case(tmp_path, rows, rule, encoding="json") as at:
        await at.done()

        assert at.upstream.took == all_of(rows)
        assert await at.letters() == []


@pytest.mark.parametrize("turn", range(1, 40, 3))
async def test_upstream_that_breaks_amid_the_search_steps_around_the_culprit_only(
    tmp_path: Path, turn: int
) -> None:
    rows = [*numbered(40, 8), ["last"]]

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        is_broken = turn <= number < turn + 20
        return BOOM if is_broken or "span-11" in names else Delivered(200)

    async with case(tmp_path, rows, rule, encoding="json") as at:
        # What had to wait for a row that passes is owed a little longer.
        await keep(at.buffer, ["newest"], {})
        await until_around(at, 1)
        assert at.upstream.took == all_of([*rows, ["newest"]]) - Counter(["span-11"])
        assert await at.letters() == []


async def test_nothing_is_stepped_around_while_no_other_row_passes(tmp_path: Path) -> None:
    rows = numbered(400, 20)
    async with case(
        tmp_path, rows, refuses(*all_of(rows), answer=BOOM), encoding="json", most_sleeps=40
    ) as at:
        await at.clock.is_spent.wait()

        assert at.courier.status.state is DestinationState.WAITING
        assert at.courier.status.reason == BOOM.reason
        assert at.courier.status.parked == ()
        # Two other spans after every other pause, the head after the others; its parts once.
        assert len(at.upstream.sent) <= 40 * 3 // 2 + 12
        assert at.backlog.in_flight == ()


async def test_upstream_that_goes_away_before_the_search_is_not_sent_less(tmp_path: Path) -> None:
    rows = [*numbered(64, 8), ["last"]]

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        if number <= 3:
            return BOOM
        return Wait("503", status=503) if number <= 6 else Delivered(200)

    async with case(tmp_path, rows, rule, encoding="json") as at:
        await at.done()

        assert [len(names) for names in at.upstream.sent[:7]] == [65, 32, 16, 1, 8, 1, 8]
        assert at.upstream.took == all_of(rows)


async def test_lone_span_is_sent_after_every_pause(tmp_path: Path) -> None:
    async with case(
        tmp_path, [["one"]], refuses("one", answer=BOOM), encoding="json", most_sleeps=12
    ) as at:
        await at.clock.is_spent.wait()

        assert len(at.upstream.sent) == 12
        assert at.courier.status.state is DestinationState.WAITING
        await keep(at.buffer, ["two"], {})
        at.clock.most = 10**9
        at.courier.wake()
        await until_around(at, 1)
        assert at.upstream.took == Counter(["two"])


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("together", [BOOM, BAD_REQUEST])
async def test_span_refused_with_400_beside_one_that_breaks_is_set_aside_alone(
    tmp_path: Path, order: tuple[str, str], together: Outcome
) -> None:
    rows = [["x", *order, "y"], ["last"]]

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        if {"a", "b"} <= names:
            return together
        if "a" in names:
            return BOOM
        return BAD_REQUEST if "b" in names else Delivered(200)

    async with case(tmp_path, rows, rule, encoding="json") as at:
        await keep(at.buffer, ["more"], {})
        await until_around(at, 1)
        assert at.upstream.took == Counter(["x", "y", "last", "more"])
        (letter,) = await at.letters()
        assert (names_of(letter), letter.status) == (["b"], 400)


async def test_span_that_broke_it_once_and_was_refused_once_is_not_set_aside(
    tmp_path: Path,
) -> None:
    """One refusal and one 500 are less than the two refusals that condemn."""
    seen: Counter[str] = Counter()

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        if "a" not in names:
            return Delivered(200)
        if len(names) > 1:
            return BOOM
        seen["a"] += 1
        return BAD_REQUEST if seen["a"] == 4 else BOOM  # its last refusal before it is believed

    async with case(tmp_path, [["a", "x"], ["last"]], rule, encoding="json") as at:
        await until_around(at, 1)
        assert seen["a"] >= 4
        assert await at.letters() == []


@pytest.mark.parametrize("first", [[], [BOOM]])
@pytest.mark.parametrize("refusals", [1, 2, 3])
async def test_suspicion_that_it_breaks_the_upstream_is_none_that_it_is_refused(
    tmp_path: Path, first: list[Outcome], refusals: int
) -> None:
    script: list[Outcome] = [*first, *[BAD_REQUEST] * refusals]
    has_come = False

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        nonlocal has_come
        has_come |= "more" in names
        if "a" not in names:
            return Delivered(200)
        if not has_come:
            return BOOM
        return script.pop(0) if script else Delivered(200)

    async with case(tmp_path, [["a"], ["last"]], rule, encoding="json") as at:
        # It lacks only one more row that passes.
        await until(lambda: owes(at, 1)() and len(at.upstream.sent) > 20)
        await keep(at.buffer, ["more"], {})
        await at.done()

        assert at.upstream.took == Counter(["a", "last", "more"])
        assert await at.letters() == []


async def test_hanging_span_costs_a_bounded_number_of_timeouts(tmp_path: Path) -> None:
    rows = [*numbered(512, 512), ["last"]]
    waited: list[int] = []
    async with case(tmp_path, [], refuses(), encoding="json") as at:

        def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
            if not names & {"span-300", "span-301"}:
                return Delivered(200)
            waited.append(len(names))
            at.clock.now_ns += 30 * 10**9
            return TIMEOUT

        at.upstream.rule = rule
        for names in rows:
            await keep(at.buffer, names, {})
        await until_around(at, 2)

        assert at.upstream.took == all_of(rows) - Counter(["span-300", "span-301"])
        # Three of the head, a search each that is broken off and goes on from where it was.
        assert len(waited) <= 3 * (3 + MOST_UNANSWERED + 1)
        assert sum(size > 256 for size in waited) <= 4


async def test_one_search_ends_after_so_many_timeouts_and_goes_on_later(tmp_path: Path) -> None:
    rows = [*numbered(512, 128), ["last"]]
    culprits = {f"span-{number}" for number in range(5, 512, 40)}
    of_a_turn: Counter[int] = Counter()
    async with case(tmp_path, [], refuses(), encoding="json") as at:

        def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
            if not names & culprits:
                return Delivered(200)
            of_a_turn[len(at.clock.sleeps)] += 1
            return TIMEOUT

        at.upstream.rule = rule
        for names in rows:
            await keep(at.buffer, names, {})
        await until_around(at, len(culprits))

        assert at.upstream.took == all_of(rows) - Counter(culprits)
        assert max(of_a_turn.values()) == MOST_UNANSWERED + 1


async def test_tries_alone_grow_seldom_and_change_nothing_for_the_others(tmp_path: Path) -> None:
    rows = [*numbered(64, 8), ["last"]]
    tries: list[tuple[int, int]] = []  # when it was said to be tried, and when it was

    def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
        if "span-9" not in names:
            return Delivered(200)
        if at.courier.status.parked:
            tries.append((at.courier.status.parked[0].next_try_ns, at.clock.now_ns))
        return BOOM

    async with case(tmp_path, rows, rule, encoding="json") as at:
        await until_around(at, 1)
        failures = at.courier.status.consecutive_failures
        await until(lambda: at.courier.status.parked[0].tries > 6)

        assert len(tries) > 6
        assert all(abs(was - said) < 10**9 for said, was in tries)

        pauses = [round(each) for each in at.clock.sleeps if each > 5]
        assert pauses[:6] == [60, 120, 240, 480, 600, 600]
        assert at.courier.status.state is DestinationState.IDLE
        assert at.courier.status.consecutive_failures == failures
        at.upstream.sent.clear()
        many = [f"more-{number}" for number in range(300)]
        await keep(at.buffer, many, {})
        await until(lambda: at.upstream.took["more-299"] == 1)
        assert frozenset(many) in at.upstream.sent  # in one piece


async def test_upstream_that_is_away_at_a_try_changes_nothing(tmp_path: Path) -> None:
    away = Wait("axiom refused the connection", retry_after_seconds=3000.0, status=503)
    async with case(
        tmp_path, [["a", "x"], ["last"]], refuses("a", answer=BOOM), encoding="json"
    ) as at:
        await until_around(at, 1)
        at.upstream.rule = refuses("a", answer=away)
        at.clock.sleeps.clear()
        await until(lambda: len(at.clock.sleeps) > 3)

        assert round(at.clock.sleeps[-1]) == 3000
        assert at.courier.status.state is DestinationState.IDLE
        assert at.courier.status.parked[0].said == SAID


async def test_it_is_not_tried_while_its_destination_is_in_trouble(tmp_path: Path) -> None:
    async with case(
        tmp_path, [["a", "x"], ["last"]], refuses("a", answer=BOOM), encoding="json"
    ) as at:
        await until_around(at, 1)
        at.upstream.rule = lambda *_: Wait("503", retry_after_seconds=90.0, status=503)
        await keep(at.buffer, ["more"], {})
        await until(lambda: at.courier.status.state is DestinationState.WAITING)
        at.upstream.sent.clear()
        await until(lambda: len(at.upstream.sent) > 10)
        assert set(at.upstream.sent) == {frozenset(["more"])}

        at.upstream.rule = refuses()
        await at.done()


async def test_pause_while_a_try_is_out_is_kept_to(tmp_path: Path) -> None:
    async with case(
        tmp_path, [["a", "x"], ["last"]], refuses("a", answer=BOOM), encoding="json"
    ) as at:
        await until_around(at, 1)
        at.upstream.gate = anyio.Event()
        at.courier.wake()
        await until(lambda: at.upstream.at_once == 1)
        at.courier.pause()
        await keep(at.buffer, ["more"], {})
        at.upstream.sent.clear()
        at.upstream.gate.set()
        await until(lambda: at.courier.status.state is DestinationState.PAUSED)
        assert at.upstream.sent == []

        at.courier.resume()
        await until(lambda: at.upstream.took["more"] == 1)


async def test_refusal_at_a_try_makes_it_the_head_again(tmp_path: Path) -> None:
    async with case(
        tmp_path, [["a", "x"], ["last"]], refuses("a", answer=BOOM), encoding="json"
    ) as at:
        await until_around(at, 1)
        at.upstream.rule = refuses("a")
        at.courier.wake()
        await at.done()

        assert await at.dead() == Counter(["a"])
        await until(lambda: not at.courier.status.parked)


async def test_max_age_sets_aside_what_was_stepped_around_too_long(tmp_path: Path) -> None:
    async with case(
        tmp_path,
        [["a", "x"], ["last"]],
        refuses("a", answer=BOOM),
        encoding="json",
        max_age_seconds=1800.0,
    ) as at:
        await at.done()

        (letter,) = await at.letters()
        assert (names_of(letter), letter.reason) == (["a"], "too_old")
        await until(lambda: not at.courier.status.parked)


async def test_wake_tries_at_once_also_while_a_try_is_out(tmp_path: Path) -> None:
    async with case(
        tmp_path, [["a", "x"], ["last"]], refuses("a", answer=BOOM), encoding="json"
    ) as at:
        await until_around(at, 1)
        at.clock.most = 0  # from now on nothing wakes it by itself
        await until(at.clock.is_spent.is_set)
        at.clock.now_ns -= 30 * 10**9  # that rest has only begun
        at.upstream.sent.clear()
        at.upstream.gate = anyio.Event()
        at.courier.wake()
        assert [each.next_try_ns for each in at.courier.status.parked] == [at.clock.now_ns]
        await until(lambda: at.upstream.at_once == 1)
        at.courier.wake()
        at.upstream.gate.set()
        await until(lambda: len(at.upstream.sent) == 2)
        assert at.upstream.sent == [frozenset("a")] * 2

        at.upstream.rule = refuses()
        at.courier.resume()
        await at.done()


async def test_what_comes_is_sent_at_once_while_a_span_waits_for_its_next_try(
    tmp_path: Path,
) -> None:
    async with case(
        tmp_path, [["a", "x"], ["last"]], refuses("a", answer=BOOM), encoding="json"
    ) as at:
        await until_around(at, 1)
        at.clock.most = 0  # from now on no time passes
        await until(at.clock.is_spent.is_set)
        await keep(at.buffer, ["more"], {})
        await until(lambda: at.upstream.took["more"] == 1)


async def test_hanging_tries_take_a_tenth_of_the_time(tmp_path: Path) -> None:
    rows = [*numbered(40, 4), ["last"]]
    culprits = [f"span-{number}" for number in range(0, 40, 4)]
    async with case(tmp_path, rows, refuses(*culprits, answer=BOOM), encoding="json") as at:
        await until_around(at, 10)

        def rule(names: frozenset[str], number: int, batch: Batch) -> Outcome:
            at.clock.now_ns += 30 * 10**9
            return TIMEOUT

        at.upstream.rule = rule
        at.courier.wake()
        at.upstream.sent.clear()
        began_ns = at.clock.now_ns
        await until(lambda: len(at.upstream.sent) >= 12)
        seconds = (at.clock.now_ns - began_ns) / 1e9

        assert seconds >= 11 * 30 * parked.SHARE
        assert len({*at.upstream.sent[:10]}) == 10  # each in its turn


async def test_beyond_the_most_that_are_stepped_around_it_waits_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parked, "MOST", 2)
    rows = [*numbered(30, 3), ["last"]]
    culprits = ["span-1", "span-10", "span-20"]
    async with case(tmp_path, rows, refuses(*culprits, answer=BOOM), encoding="json") as at:
        await until(lambda: len(at.courier.status.parked) == 2)
        await until(lambda: at.courier.status.state is DestinationState.WAITING)
        sent = len(at.upstream.sent)
        await until(lambda: len(at.upstream.sent) > sent + 20)
        assert len(set(at.upstream.sent[sent + 5 :])) == 1  # the head, nothing else
        assert len(at.courier.status.parked) == 2
        assert at.upstream.took["span-21"] == 0

        at.upstream.rule = refuses()
        at.courier.wake()
        await at.done()
        assert at.upstream.took == all_of(rows)


async def test_what_a_search_finds_beyond_the_most_is_sent_again_in_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parked, "MOST", 1)
    rows = [["a", "x", "b", "y"], ["last"]]
    async with case(tmp_path, rows, refuses("a", "b", answer=BOOM), encoding="json") as at:
        await until(lambda: owes(at, 2)() and len(at.courier.status.parked) == 1)
        at.upstream.rule = refuses()
        at.courier.wake()
        await at.done()
        assert at.upstream.took == all_of(rows)


async def test_lanes_leave_it_alone(tmp_path: Path) -> None:
    rows = [*numbered(400, 10), ["last"]]
    async with case(
        tmp_path,
        rows,
        refuses("span-137", answer=BOOM),
        encoding="json",
        concurrency=4,
        max_batch_items=20,
    ) as at:
        await until_around(at, 1)
        assert at.upstream.took == all_of(rows) - Counter(["span-137"])
        at.upstream.sent.clear()
        for names in numbered(400, 10):
            await keep(at.buffer, [f"more-{name}" for name in names], {})
        await until_around(at, 1)
        assert all(names == {"span-137"} for names in at.upstream.sent if "span-137" in names)


async def test_after_a_stop_all_is_owed_in_its_turn(tmp_path: Path) -> None:
    async with case(
        tmp_path, [["a", "x"], ["last"]], refuses("a", answer=BOOM), encoding="json"
    ) as at:
        await until_around(at, 1)
        before = at.backlog.has_more
        await at.courier.stop()

        assert (before, at.backlog.has_more) == (False, True)
        assert at.courier.status.parked == ()
        assert at.backlog.in_flight == ()


async def test_it_is_logged_once_when_stepped_around_and_once_when_it_got_through(
    tmp_path: Path,
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with case(
            tmp_path, [["a", "x"], ["last"]], refuses("a", answer=BOOM), encoding="json"
        ) as at:
            await until(lambda: any(each.tries > 2 for each in at.courier.status.parked))
            at.upstream.rule = refuses()
            await at.done()
    told = [each for each in logs if each["event"] in ("span_stepped_around", "span_got_through")]
    first, second = told
    assert first["reason"].startswith(f"{SAID}, each time while others pass; it stays owed")
    assert (first["event"], first["spans"], len(first["trace"])) == ("span_stepped_around", 1, 32)
    assert (second["event"], second["trace"]) == ("span_got_through", first["trace"])


@pytest.mark.parametrize("outcome", [BOOM, TIMEOUT])
async def test_cancelled_at_any_await_it_leaves_nothing_in_flight_and_all_owed(
    tmp_path: Path, outcome: Wait
) -> None:
    """One courier after the other is cancelled a little later, the last one after it was done."""
    rows = [*numbered(60, 10), ["last"]]
    clock = Clock(10**9)
    most_around = 0

    async def sleep(seconds: float) -> None:
        clock.now_ns += int(seconds * 1e9)
        await anyio.lowlevel.checkpoint()

    upstream = Upstream(refuses("span-33", "span-50", answer=outcome))
    settings = DestinationConfig(name="axiom", endpoint="http://127.0.0.1:1/", encoding="json")
    async with opened(tmp_path, clock_ns=lambda: clock.now_ns) as buffer:
        backlog = buffer.consumer("axiom")
        for names in rows:
            await keep(buffer, names, {})
        kept = [*rows]
        for steps in itertools.count(0, 7):
            if steps > 400 and most_around == 2:
                break
            courier = Courier(
                settings,
                backlog,
                upstream,
                lambda _: {},
                now_ns=lambda: clock.now_ns,
                monotonic=lambda: clock.now_ns / 1e9,
                sleep=sleep,
                random=lambda: 0.5,
                pace_seconds=0.0,
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(courier.run)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                most_around = max(most_around, len(courier.status.parked))
                tasks.cancel_scope.cancel()
            assert backlog.in_flight == ()
            owed = sum(map(len, kept)) - sum(upstream.took.values())
            assert backlog.statistics().owed_items == owed
            # Nobody is there to try it: it is handed out again.
            taken = await backlog.take(max_bytes=1 << 30, max_items=8192, one_encoding=False)
            assert taken is not None
            assert taken.items == owed
            backlog.give_back(taken)
            # Large enough to be cut in a thread.
            kept.append([f"more-{steps}", f"most-{steps}"])
            await keep(buffer, kept[-1], dict.fromkeys(kept[-1], 40_000))
        assert not {"span-33", "span-50"} & upstream.took.keys()
        assert set(upstream.took.values()) == {1}
        assert not await buffer.dead_letters.newest(10)


async def test_state_stays_blocked_by_a_wrong_token_at_a_try(tmp_path: Path) -> None:
    unauthorized = Blocked("axiom answered 401", status=401, words="no")
    async with case(
        tmp_path, [["a", "x"], ["last"]], refuses("a", answer=BOOM), encoding="json"
    ) as at:
        await until_around(at, 1)
        at.upstream.rule = refuses("a", answer=unauthorized)
        at.courier.wake()
        await until(lambda: at.courier.status.state is DestinationState.BLOCKED)
        assert at.courier.status.parked == ()
        at.upstream.rule = refuses()
        await at.done()
        assert await at.letters() == []


async def test_wake_sends_what_is_parked_at_once_even_after_a_try_that_hung(tmp_path: Path) -> None:
    """A try that hangs is not repeated for ten times as long; somebody who asks need not wait."""
    rows = [*numbered(16, 4), ["last"]]

    async with case(tmp_path, rows, refuses("span-5", answer=BOOM), encoding="json") as at:
        await until_around(at, 1)
        clock = at.clock

        def hang(names: frozenset[str], _number: int, _batch: Batch) -> Outcome:
            if "span-5" not in names:
                return Delivered(200)
            clock.now_ns += 60 * 10**9
            clock.most = len(clock.sleeps) + 1  # the courier stays in its next rest
            return TIMEOUT

        at.upstream.rule = hang
        await clock.is_spent.wait()
        assert clock.sleeps[-1] == pytest.approx(540)  # ten times the minute that it hung
        clock.now_ns -= 540 * 10**9  # that rest has only begun
        at.upstream.rule = refuses()
        woken_ns = clock.now_ns
        at.courier.wake()
        await at.done()

        assert at.upstream.took == all_of(rows)
        assert clock.now_ns - woken_ns < 10**9


class WholeTraces:
    """What is to be kept of traces, as `deliver.whole_traces` is told."""

    scout = None

    def __init__(self) -> None:
        self.pinned: list[bytes] = []
        self.seen: list[object] = []

    def pin(self, trace_ids: bytes) -> None:
        self.pinned.append(trace_ids)

    async def look_at(self, rows: object) -> None:
        self.seen.append(rows)


async def test_trace_of_what_is_tried_again_is_kept_whole_whatever_was_forgotten(
    tmp_path: Path,
) -> None:
    """It was to be sent once: a sampler that forgot it meanwhile must not filter it."""
    settings = DestinationConfig(name="axiom", endpoint="http://127.0.0.1:1/", encoding="json")
    now_ns, whole = NOW_NS, WholeTraces()
    async with opened(tmp_path, clock_ns=lambda: NOW_NS) as buffer:
        backlog = buffer.consumer("axiom")
        await keep(buffer, ["a"], {})
        sender = BatchSender(
            settings,
            backlog,
            Upstream(refuses()),
            lambda _: {},
            now_ns=lambda: NOW_NS,
            monotonic=lambda: now_ns / 1e9,
            age_ns=None,
            whole=whole,  # type: ignore[arg-type]
        )
        around = parked.Parked(sender, lambda: 0.5)
        taken = await sender.take()
        assert taken is not None
        refused = Attempt(taken, Encoding.JSON, sender.learnt, BAD_REQUEST)
        await around.park(refused)
        (span,) = around.items.values()
        await around.retry()
        assert whole.pinned == []

        now_ns += 61 * 10**9
        await around.retry()
        assert whole.pinned == [span.trace_ids]
        assert whole.seen == [taken.rows]  # it may have been owed before anybody looked
        assert backlog.statistics().owed_items == 0
