"""What an upstream finds too old is found by its time, and costs few requests and one letter."""

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest

from relay.config import DestinationConfig
from relay.deliver.batches import Batch
from relay.deliver.isolate.age import MOST_PROBES
from relay.model.records import DeadLetter, Request, Signal
from relay.upstream.outcomes import About, Blocked, Delivered, Outcome, Wait
from tests.support.builders import to_body
from tests.unit.buffer.making import NOW_NS, piece, request
from tests.unit.deliver.delivering import Case, Clock, InProcess, delivering

pytestmark = pytest.mark.anyio
COUNT = 64


def times_in(content: bytes) -> list[int]:
    return [
        int(record["timeUnixNano"])
        for entry in json.loads(content)["resourceLogs"]
        for scope in entry["scopeLogs"]
        for record in scope["logRecords"]
    ]


class Loki(InProcess):
    """Refuses all of a request that holds a record from before `oldest`."""

    def __init__(self, oldest: int, newest: int = 2**63, bad: frozenset[int] = frozenset()) -> None:
        self.oldest = oldest
        self.newest = newest
        self.bad = bad
        self.script: dict[int, Outcome] = {}  # what is answered to that request, whatever it holds
        self.then: dict[int, Callable[[], None]] = {}  # what happens meanwhile
        self.is_done = anyio.Event()  # something did
        self.took: list[int] = []
        self.requests = 0

    async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
        self.requests += 1
        if self.requests in self.then:
            self.then[self.requests]()
            self.is_done.set()
        times = times_in(batch.content)
        if self.requests in self.script:
            return self.script[self.requests]
        if min(times) < self.oldest:
            words = "entry too far behind"
            return Blocked("up answered 400", status=400, words=words, about="older")
        if max(times) > self.newest:
            words = "entry from the future"
            return Blocked("up answered 400", status=400, words=words, about="newer")
        if self.bad & set(times):
            return Blocked("up answered 400", status=400, words="no", about="content")
        self.took += times
        return Delivered(200)


async def letters_of(tmp_path: Path, upstream: Loki) -> list[DeadLetter]:
    """What becomes of records of the times 0 to 63 that does not arrive."""
    async with records_to(tmp_path, upstream) as at:
        await at.done()
        return await at.letters()


def records_to(
    tmp_path: Path, upstream: Loki, clock: Clock | None = None
) -> AbstractAsyncContextManager[Case]:
    kept = [records(range(COUNT))]
    return delivering(tmp_path, terms_of(Signal.LOGS), kept, upstream, clock=clock)


def terms_of(signal: Signal, match: str = "") -> DestinationConfig:
    endpoint = f"http://127.0.0.1:1/v1/{signal.word}"
    return DestinationConfig(
        name="up", endpoint=endpoint, signal=signal, encoding="json", match=match
    )


def records(times: range, text: str = "x") -> Request:
    made = [{"timeUnixNano": str(at), "body": {"stringValue": text}} for at in times]
    body = to_body({"scopeLogs": [{"logRecords": made}]})
    return request(piece(body, spans=len(times), signal=Signal.LOGS), received_ns=NOW_NS)


def late_in(letters: list[DeadLetter]) -> list[int]:
    return sorted(
        time for letter in letters for time in times_in(b'{"resourceLogs":[%b]}' % letter.body)
    )


@pytest.mark.parametrize("oldest", [1, 2, 3, 31, 32, 33, COUNT - 1])
async def test_records_that_are_too_old_are_one_dead_letter_and_the_others_arrive(
    tmp_path: Path, oldest: int
) -> None:
    upstream = Loki(oldest)
    (letter,) = await letters_of(tmp_path, upstream)

    assert sorted(set(upstream.took)) == list(range(oldest, COUNT))
    assert len(upstream.took) <= COUNT - oldest + 6  # what was asked about comes once more
    assert late_in([letter]) == list(range(oldest))
    assert letter.words == "entry too far behind"
    # The whole, a search by halves of the times, and the rest at once.
    assert upstream.requests <= 10


async def test_two_records_that_are_too_old_are_one_dead_letter(tmp_path: Path) -> None:
    upstream = Loki(COUNT)
    async with delivering(tmp_path, terms_of(Signal.LOGS), [records(range(2))], upstream) as at:
        await at.done()
        (letter,) = await at.letters()

    assert (late_in([letter]), upstream.requests) == ([0, 1], 2)


@pytest.mark.parametrize("oldest", [1, 31, 33, COUNT - 1])
async def test_records_of_several_rows_that_are_too_old_are_found_behind_steps_too(
    tmp_path: Path, oldest: int
) -> None:
    upstream = Loki(oldest)
    kept = [records(range(at, at + 16), "y" if at == 16 else "x") for at in range(0, COUNT, 16)]
    terms = terms_of(Signal.LOGS, match="body != 'y'")
    async with delivering(tmp_path, terms, kept, upstream) as at:
        await at.done()
        letters = await at.letters()
        assert at.courier.status.filtered_items == {"match": 16}

    wanted = set(range(COUNT)) - set(range(16, 32))
    assert set(upstream.took) == {at for at in wanted if at >= oldest}
    assert set(late_in(letters)) == {at for at in wanted if at < oldest}
    assert {each.words for each in letters} == {"entry too far behind"}
    assert upstream.requests <= 10


async def test_records_that_are_all_too_new_are_one_dead_letter_at_once(tmp_path: Path) -> None:
    upstream = Loki(0, newest=-1)
    (letter,) = await letters_of(tmp_path, upstream)

    assert (upstream.took, late_in([letter])) == ([], list(range(COUNT)))
    assert letter.words == "entry from the future"
    assert upstream.requests == 2  # the whole, and the oldest alone


@pytest.mark.parametrize("newest", [0, 1, 31, 62])
async def test_records_of_which_some_are_too_new_are_set_aside_alone(
    tmp_path: Path, newest: int
) -> None:
    upstream = Loki(0, newest=newest)
    letters = await letters_of(tmp_path, upstream)

    assert sorted(set(upstream.took)) == list(range(newest + 1))
    assert late_in(letters) == list(range(newest + 1, COUNT))


@pytest.mark.parametrize("number", range(2, 10))
async def test_search_that_is_broken_off_begins_anew_and_loses_nothing(
    tmp_path: Path, number: int
) -> None:
    upstream = Loki(31)
    upstream.script[number] = Wait("up is away", status=503)
    letters = await letters_of(tmp_path, upstream)

    assert sorted(set(upstream.took)) == list(range(31, COUNT))
    assert late_in(letters) == list(range(31))
    assert {each.words for each in letters} == {"entry too far behind"}


async def test_upstream_that_is_away_in_the_middle_of_a_search_is_asked_nothing_more(
    tmp_path: Path,
) -> None:
    upstream = Loki(31)
    upstream.script = dict.fromkeys(range(3, 100), Wait("up is away", status=503))
    async with records_to(tmp_path, upstream, Clock(1)) as at:
        with anyio.fail_after(30):
            await at.clock.is_spent.wait()
        assert upstream.requests == 3
        assert at.courier.status.state == "waiting"


@pytest.mark.parametrize("number", [1, 2, 4])
async def test_search_ends_with_the_request_under_way_when_something_else_is_wanted(
    tmp_path: Path, number: int
) -> None:
    upstream = Loki(31)
    async with records_to(tmp_path, upstream) as at:
        upstream.then[number] = at.courier.pause
        with anyio.fail_after(30):
            await upstream.is_done.wait()
            while at.courier.status.state != "paused":  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.002)
        assert upstream.requests == number
        assert at.courier.status.in_flight_items == 0
        at.courier.resume()
        await at.done()
    assert set(upstream.took) == set(range(31, COUNT))


@pytest.mark.parametrize("bad", [{63}, {31, 63}, {32, 40}, {62, 63}])
async def test_records_that_are_refused_for_something_else_are_told_apart(
    tmp_path: Path, bad: set[int]
) -> None:
    upstream = Loki(20, bad=frozenset(bad))
    letters = await letters_of(tmp_path, upstream)

    assert sorted(set(upstream.took)) == sorted(set(range(20, COUNT)) - bad)
    words = {time: each.words for each in letters for time in late_in([each])}
    assert words == dict.fromkeys(range(20), "entry too far behind") | dict.fromkeys(bad, "no")


async def test_records_that_are_refused_no_more_once_they_are_alone_all_arrive(
    tmp_path: Path,
) -> None:
    """One of no time among them: what has none is not of before all others."""
    upstream = Loki(0)
    upstream.script[1] = Blocked("up answered 400", status=400, words="old", about="older")

    assert await letters_of(tmp_path, upstream) == []
    assert set(upstream.took) == set(range(COUNT))


# --- points -------------------------------------------------------------------------------------

MINUTE_NS = 60 * 10**9


class Prometheus(InProcess):
    """Refuses all of a request that holds a point from before `oldest`, or before the last one of
    its series.
    """

    def __init__(self, oldest: int) -> None:
        self.oldest = oldest
        self.last: dict[str, int] = {}
        self.took: set[int] = set()
        self.requests = 0
        self.meanwhile: Callable[[], Awaitable[object]] | None = None  # during the first request

    async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
        self.requests += 1
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        points = points_in(batch.content)
        last = dict(self.last)
        for series, time in points:
            if time < max(self.oldest, last.get(series, 0)):
                words = "out of bounds" if time < self.oldest else "out of order sample"
                return Blocked("up answered 400", status=400, words=words, about="older")
            last[series] = time
        self.last = last
        self.took.update(time for _, time in points)
        return Delivered(200)


def points_in(content: bytes) -> list[tuple[str, int]]:
    return [
        (point["attributes"][0]["value"]["stringValue"], int(point["timeUnixNano"]))
        for entry in json.loads(content)["resourceMetrics"]
        for scope in entry["scopeMetrics"]
        for metric in scope["metrics"]
        for point in metric["gauge"]["dataPoints"]
    ]


async def points_set_aside(
    tmp_path: Path, upstream: Prometheus, times: list[int], series: int
) -> set[int]:
    """What becomes of points of these times, of so many series in turn, that does not arrive."""
    async with delivering(
        tmp_path, terms_of(Signal.METRICS), [points(times, series)], upstream
    ) as at:
        await at.done()
        letters = await at.letters()
    return points_in_letters(letters)


def points(times: list[int], series: int) -> Request:
    """At these times, of so many series in turn."""
    made = [
        {
            "timeUnixNano": str(time),
            "asDouble": 1.5,
            "attributes": [{"key": "s", "value": {"stringValue": str(at % series)}}],
        }
        for at, time in enumerate(times)
    ]
    body = to_body({"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": made}}]}]})
    return request(piece(body, spans=len(times), signal=Signal.METRICS), received_ns=NOW_NS)


def points_in_letters(letters: list[DeadLetter]) -> set[int]:
    assert {letter.words for letter in letters} <= {"out of bounds", "out of order sample"}
    bodies = [b'{"resourceMetrics":[%b]}' % letter.body for letter in letters]
    return {time for each in bodies for _, time in points_in(each)}


@pytest.mark.parametrize("series", [1, 7])
@pytest.mark.parametrize("minutes", [10, 30, 59, 61, 90, 150])
async def test_points_of_the_last_hours_are_sent_from_a_time_on_until_that_is_taken(
    tmp_path: Path, minutes: int, series: int
) -> None:
    """A step may cost points that would have been taken: a ninth of an hour, a quarter before."""
    times = [NOW_NS - at * MINUTE_NS for at in range(180, -1, -1)]
    upstream = Prometheus(NOW_NS - minutes * MINUTE_NS)
    late = await points_set_aside(tmp_path, upstream, times, series)

    assert upstream.took == {time for time in times if time >= min(upstream.took)}
    assert late == set(times) - upstream.took
    step = 7 if minutes < 60 else 30
    assert upstream.oldest <= min(upstream.took) < upstream.oldest + step * MINUTE_NS
    assert upstream.requests <= 14


async def test_points_of_the_last_hours_that_are_all_too_old_are_set_aside(tmp_path: Path) -> None:
    times = [NOW_NS - at * MINUTE_NS for at in range(90, 0, -1)]
    upstream = Prometheus(NOW_NS)
    assert await points_set_aside(tmp_path, upstream, times, 3) == set(times)
    assert upstream.took == set()
    assert upstream.requests <= 14


@pytest.mark.parametrize(("oldest", "most"), [(1, 12), (5, 12), (31, 12), (62, 18)])
async def test_points_of_long_ago_are_asked_about_by_series_that_were_not_asked(
    tmp_path: Path, oldest: int, most: int
) -> None:
    """What passes makes earlier ones of its series late: those are set aside with the others."""
    times = [NOW_NS - (1000 - at) * MINUTE_NS for at in range(64)]
    upstream = Prometheus(times[oldest])
    late = await points_set_aside(tmp_path, upstream, times, 16)

    assert upstream.took | late == set(times)
    assert not upstream.took & late
    assert late >= set(times[:oldest])
    # Of each series that was asked about and passed no more than its four points.
    assert len(late) <= oldest + 6 * 3
    assert upstream.requests <= most


async def test_points_that_are_all_young_are_not_sent_twice_as_a_whole(tmp_path: Path) -> None:
    times = [NOW_NS - at * MINUTE_NS for at in range(45, 0, -1)]
    upstream = Prometheus(times[1])

    assert await points_set_aside(tmp_path, upstream, times, 3) == set(times[:5])
    assert upstream.took == set(times[5:])
    assert upstream.requests == 2  # the whole, and all but a ninth


async def test_points_that_came_meanwhile_are_not_set_aside_with_those_that_are_too_old(
    tmp_path: Path,
) -> None:
    times = [NOW_NS - at * MINUTE_NS for at in range(30, 0, -1)]
    upstream = Prometheus(times[-1] + 1)
    async with delivering(tmp_path, terms_of(Signal.METRICS), [], upstream) as at:
        upstream.meanwhile = lambda: at.buffer.append(points([times[-1] + 1], 1))
        await at.buffer.append(points(times, 3))
        await at.done()
        letters = await at.letters()

    assert points_in_letters(letters) == set(times)
    assert upstream.took == {times[-1] + 1}


async def test_points_of_long_ago_are_asked_about_though_more_come_meanwhile(
    tmp_path: Path,
) -> None:
    """In order they are searched together with what comes next, which was not in the request."""
    times = [NOW_NS - (1000 - at) * MINUTE_NS for at in range(64)]
    upstream = Prometheus(times[20])
    clock = Clock()
    async with delivering(tmp_path, terms_of(Signal.METRICS), [], upstream, clock=clock) as at:
        upstream.meanwhile = lambda: at.buffer.append(points([NOW_NS], 1))
        await at.buffer.append(points(times, 16))
        await at.done()
        letters = await at.letters()
        assert clock.sleeps == []

    late = points_in_letters(letters)
    assert upstream.took | late == {*times, NOW_NS}
    assert set(times[:20]) <= late
    assert upstream.requests <= 18


async def test_points_that_are_refused_for_something_else_end_the_search_by_age(
    tmp_path: Path,
) -> None:
    """Each tells nothing of the others, so there is an end to asking."""
    sizes = []

    class Odd(InProcess):
        async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
            sizes.append(batch.items)
            about: About = "older" if batch.items > 1 else "content"
            return Blocked("up answered 400", status=400, words="no", about=about)

    kept = [points([NOW_NS - (1000 - at) * MINUTE_NS for at in range(64)], 64)]
    async with delivering(tmp_path, terms_of(Signal.METRICS), kept, Odd()) as at:
        await at.done()

    assert sizes[: MOST_PROBES + 2] == [64, *[1] * MOST_PROBES, 64]
