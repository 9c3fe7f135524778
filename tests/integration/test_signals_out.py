"""Logs and metrics on their way out, against vendors as the mock collector knows them.

A real buffer, couriers and sockets; what arrived is told by the mock's journal.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog.testing

from mockcollector.server import MockCollector
from relay.buffer.sqlite.buffer import Buffer
from relay.config import DestinationConfig
from relay.deliver.courier import Courier
from relay.model.records import DeadLetter, Encoding, Signal
from relay.otlp.transcode import to_protobuf
from relay.upstream.exchange import Upstream
from tests.support.builders import to_body
from tests.unit.buffer.making import opened, piece, request

pytestmark = pytest.mark.anyio

SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS
Json = dict[str, Any]


def number(series: str, at_ns: int, value: float = 1.0, name: str = "load", **more: Any) -> Json:
    """A gauge with one point."""
    point = {
        "attributes": [{"key": "series", "value": {"stringValue": series}}],
        "timeUnixNano": str(at_ns),
        "asDouble": value,
    }
    return {"name": name, "gauge": {"dataPoints": [point]}} | more


def total(name: str, temporality: int, at_ns: int) -> Json:
    """A sum with one point."""
    point = {"timeUnixNano": str(at_ns), "asDouble": 1.0}
    made = {"dataPoints": [point], "aggregationTemporality": temporality}
    return {"name": name, "sum": made}


def metrics(*made: Json) -> bytes:
    """A fragment of a request."""
    return to_body({"scopeMetrics": [{"metrics": list(made)}]})


def logs(*times_ns: int, stream: str = "shop", text: str = "") -> bytes:
    """A fragment with a record for each time."""
    records = [
        {"timeUnixNano": str(at), "body": {"stringValue": text or str(at)}} for at in times_ns
    ]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": stream}}]}
    return to_body({"resource": resource, "scopeLogs": [{"logRecords": records}]})


class Case:
    """A courier under way."""

    def __init__(self, buffer: Buffer, signal: Signal, courier: Courier) -> None:
        self.buffer = buffer
        self.signal = signal
        self.courier = courier
        self.backlog = buffer.consumer("up", signal=signal)

    async def keep(self, fragment: bytes, items: int, encoding: Encoding = Encoding.JSON) -> None:
        if encoding is Encoding.PROTOBUF:
            fragment = to_protobuf(fragment, self.signal)
        made = piece(fragment, spans=items, signal=self.signal, encoding=encoding)
        await self.buffer.append(request(made, received_ns=time.time_ns()))

    async def done(self) -> None:
        """Nothing is owed any more."""
        await self.until(lambda: not self.backlog.statistics().owed_items)

    async def until(self, is_so: Callable[[], bool]) -> None:
        with anyio.fail_after(30):
            while not is_so():  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.002)

    async def letters(self) -> list[DeadLetter]:
        await self.buffer.flush()
        return [stored.letter for stored in await self.buffer.dead_letters.newest(1000)]


@asynccontextmanager
async def delivering(
    state_dir: Path,
    collector: MockCollector,
    signal: Signal,
    kept: Iterable[tuple[bytes, int]] = (),
    *,
    encoding: Encoding = Encoding.JSON,
    **changes: Any,
) -> AsyncIterator[Case]:
    """What is kept is owed before the courier starts."""
    terms = DestinationConfig(
        name="up",
        endpoint=collector.endpoint_of(signal.word),
        signal=signal,
        signals=(signal,),
        **changes,
    )
    async with opened(state_dir) as buffer:
        backlog = buffer.consumer("up", signal=signal)
        courier = Courier(
            terms, backlog, Upstream(terms), lambda _: {}, pace_seconds=0, age_ns=buffer.age_ns
        )
        at = Case(buffer, signal, courier)
        for fragment, items in kept:
            await at.keep(fragment, items, encoding)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(courier.run)
            yield at
            await courier.stop()


def requests(collector: MockCollector) -> list[tuple[str, int]]:
    """Encoding and status of every request, in order."""
    return [(str(r.encoding), r.status or 0) for r in collector.journal.requests()]


def points(collector: MockCollector) -> list[tuple[str, int]]:
    """Name and time of every point that was taken, in order."""
    return [(each.name, each.time_unix_nano) for each in collector.journal.data_points()]


# Words that mean content


@pytest.mark.parametrize("encoding", Encoding)
async def test_point_that_prometheus_answers_500_to_is_set_aside_and_the_others_arrive(
    tmp_path: Path, encoding: Encoding
) -> None:
    now = time.time_ns()
    bad = number("bad", now)
    bad["gauge"]["dataPoints"][0]["attributes"].append({"key": "", "value": {"stringValue": "x"}})
    fragment = metrics(number("a", now), bad, number("b", now))
    with MockCollector(profile="prometheus") as collector:
        async with delivering(
            tmp_path,
            collector,
            Signal.METRICS,
            [(fragment, 3)],
            preset="prometheus",
            encoding=encoding,
        ) as at:
            await at.done()
            (letter,) = await at.letters()

        assert (letter.items, letter.reason, letter.status) == (1, "upstream_refused", 500)
        assert letter.words == "label name is empty"
        assert len(points(collector)) == 2
        assert at.courier.status.delivered_items == 2


async def test_lone_point_of_bad_content_does_not_wait_for_others_to_pass(tmp_path: Path) -> None:
    fragment = metrics(number("a", time.time_ns(), name="%%"))
    with MockCollector(profile="prometheus") as collector:
        async with delivering(
            tmp_path, collector, Signal.METRICS, [(fragment, 1)], preset="prometheus"
        ) as at:
            await at.done()
            (letter,) = await at.letters()

        assert "resulted in empty name" in letter.words
        assert requests(collector) == [("json", 500)]


async def test_500_without_words_that_mean_content_waits(tmp_path: Path) -> None:
    fragment = metrics(number("a", time.time_ns()))
    with MockCollector(profile="prometheus", script="500:on fire*") as collector:
        async with delivering(
            tmp_path, collector, Signal.METRICS, [(fragment, 1)], preset="prometheus"
        ) as at:
            await at.until(lambda: at.courier.status.state == "waiting")
            assert "on fire" in at.courier.status.reason
            assert not await at.letters()


@pytest.mark.parametrize(
    ("profile", "signal"),
    [("victoria-metrics", Signal.METRICS), ("victoria-logs", Signal.LOGS)],
)
async def test_auto_turns_to_protobuf_where_words_say_that_json_is_not_supported(
    tmp_path: Path, profile: str, signal: Signal
) -> None:
    now = time.time_ns()
    made = metrics(number("a", now)) if signal is Signal.METRICS else logs(now)
    with MockCollector(profile=profile) as collector:
        async with delivering(tmp_path, collector, signal, [(made, 1)]) as at:
            await at.done()
            await at.keep(made, 1)
            await at.done()
            warnings = at.courier.status.warnings

        assert requests(collector) == [("json", 400), ("protobuf", 200), ("protobuf", 200)]
        assert warnings == ["refuses JSON (400): sent as protobuf"]


async def test_encoding_is_remembered_though_the_first_batch_is_refused_for_its_content(
    tmp_path: Path,
) -> None:
    """Else each batch with a bad point would be searched in an encoding that nobody takes."""
    now = time.time_ns()
    fragment = metrics(number("a", now), number("b", now, name=""))
    with MockCollector(profile="victoria-metrics") as collector:
        async with delivering(
            tmp_path, collector, Signal.METRICS, [(fragment, 2)], preset="victoria-metrics"
        ) as at:
            await at.done()
            (letter,) = await at.letters()

        assert "missing metric name" in letter.words
        assert [encoding for encoding, _ in requests(collector)].count("json") == 1
        assert len(points(collector)) == 1


# Temporality


@pytest.mark.parametrize("encoding", Encoding)
async def test_points_of_the_other_temporality_are_dead_letters_and_the_rest_is_sent(
    tmp_path: Path, encoding: Encoding
) -> None:
    now = time.time_ns()
    fragment = metrics(
        total("delta", 1, now),
        total("cumulative", 2, now),
        total("unspecified", 0, now),
        number("a", now),
        total("delta too", 1, now),
    )
    with MockCollector(profile="prometheus") as collector:
        with structlog.testing.capture_logs() as lines:
            async with delivering(
                tmp_path,
                collector,
                Signal.METRICS,
                [(fragment, 5), (metrics(total("delta", 1, now)), 1)],
                temporality="cumulative",
                max_batch_items=5,
                encoding=encoding,
            ) as at:
                await at.done()
                letters = await at.letters()
                status = at.courier.status

        assert [name for name, _ in points(collector)] == ["cumulative", "load"]
        assert requests(collector) == [(str(encoding.name.lower()), 200)]
        other = (
            "up takes only cumulative; set OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="
            "cumulative at the sender"
        )
        unspecified = (
            "up takes only cumulative, and the sender does not say which this is "
            "(aggregationTemporality is unspecified); correct the sender"
        )
        found = Counter((each.words, each.items) for each in letters)
        assert found == {(other, 2): 1, (other, 1): 1, (unspecified, 1): 1}
        assert {(each.reason, each.status) for each in letters} == {("temporality", 0)}
        assert (status.delivered_items, status.refused_items, status.state) == (2, 4, "idle")
        assert status.warnings == [other, unspecified]
        events = Counter(each["event"] for each in lines)
        assert (events["spans_set_aside"], events["spans_set_aside_again"]) == (2, 1)


async def test_delta_alone_is_taken_where_a_destination_wants_it(tmp_path: Path) -> None:
    now = time.time_ns()
    fragment = metrics(total("delta", 1, now), total("cumulative", 2, now))
    with MockCollector() as collector:
        async with delivering(
            tmp_path, collector, Signal.METRICS, [(fragment, 2)], temporality="delta"
        ) as at:
            await at.done()
            (letter,) = await at.letters()

        assert [name for name, _ in points(collector)] == ["delta"]
        assert letter.words.endswith("TEMPORALITY_PREFERENCE=delta at the sender")


async def test_points_of_the_other_temporality_wait_with_the_rest_of_their_batch(
    tmp_path: Path,
) -> None:
    """What is set aside is settled with what was sent: nothing is set aside twice."""
    now = time.time_ns()
    fragment = metrics(total("delta", 1, now), total("cumulative", 2, now))
    with MockCollector(script="503,200*") as collector:
        async with delivering(
            tmp_path, collector, Signal.METRICS, [(fragment, 2)], temporality="cumulative"
        ) as at:
            await at.done()
            assert len(await at.letters()) == 1
        assert at.courier.status.delivered_items == 1


# Refusals by age

STEP_NS = 15 * SECOND_NS


def scrape(at_ns: int, series: int) -> tuple[bytes, int]:
    """A point of each of so many series."""
    return metrics(*(number(f"s{each}", at_ns, name=f"m{each}") for each in range(series))), series


@pytest.mark.parametrize("encoding", Encoding)
async def test_backlog_of_an_hour_that_prometheus_refuses_costs_few_requests(
    tmp_path: Path, encoding: Encoding
) -> None:
    """Two hours of an outage: it takes what is not older than an hour."""
    now = time.time_ns()
    kept = [scrape(now - at * STEP_NS, 10) for at in range(480, 0, -1)]
    with MockCollector(profile="prometheus") as collector:
        async with delivering(
            tmp_path,
            collector,
            Signal.METRICS,
            [(metrics(number("other", now)), 1)],
            preset="prometheus",
            max_batch_items=500,
            encoding=encoding,
        ) as at:
            await at.done()  # another sender's point, of a series of its own below
            at.courier.pause()
            for fragment, items in kept:
                await at.keep(fragment, items, encoding)
            at.courier.resume()
            await at.done()
            letters = await at.letters()

        asked = len(requests(collector)) - 1
        batches = 10
        assert asked <= 3 * batches + 40, asked
        good = {(each.name, each.time_unix_nano) for each in collector.journal.data_points()}
        late = sum(each.items for each in letters)
        assert {each.reason for each in letters} == {"upstream_refused"}
        assert len(good) + late == 4801
        wanted = {(f"m{s}", now - at * STEP_NS) for s in range(10) for at in range(1, 239)}
        assert len(wanted - good) <= 0.03 * len(wanted)
        assert not {each for each in good if each[1] < now - HOUR_NS - 60 * SECOND_NS}


async def test_points_too_far_in_the_future_are_set_aside_in_bulk(tmp_path: Path) -> None:
    now = time.time_ns()
    kept = [scrape(now + HOUR_NS + at * STEP_NS, 10) for at in range(40)]
    with MockCollector(profile="prometheus") as collector:
        async with delivering(
            tmp_path, collector, Signal.METRICS, kept, preset="prometheus", encoding=Encoding.JSON
        ) as at:
            await at.done()
            letters = await at.letters()

        assert len(requests(collector)) <= 4
        assert sum(each.items for each in letters) == 400
        assert "too far in the future" in letters[0].words
        assert points(collector) == []


@pytest.mark.parametrize("encoding", Encoding)
async def test_log_records_that_are_too_old_for_loki_cost_few_requests(
    tmp_path: Path, encoding: Encoding
) -> None:
    now = time.time_ns()
    week = 7 * 24 * HOUR_NS
    times = range(now - week - HOUR_NS, now - week - 60 * SECOND_NS, SECOND_NS)
    old = [(logs(*times), len(times))]
    new = [(logs(*(now - each * SECOND_NS for each in range(500, 0, -1))), 500)]
    with MockCollector(profile="loki") as collector:
        async with delivering(
            tmp_path, collector, Signal.LOGS, [*old, *new], preset="loki", encoding=encoding
        ) as at:
            await at.done()
            letters = await at.letters()

        assert len(requests(collector)) <= 25
        assert sum(each.items for each in letters) == 3540
        assert {each.time_unix_nano for each in collector.journal.log_records()} >= {
            now - each * SECOND_NS for each in range(500, 0, -1)
        }


async def test_records_too_far_behind_their_stream_cost_a_bounded_number_of_requests(
    tmp_path: Path,
) -> None:
    """Of one stream they are late, of the other they are not: the good ones are kept by Loki."""
    now = time.time_ns()
    late = [now - 3 * HOUR_NS + at * SECOND_NS for at in range(1000)]
    with MockCollector(profile="loki") as collector:
        async with delivering(
            tmp_path, collector, Signal.LOGS, [(logs(now), 1)], preset="loki"
        ) as at:
            await at.done()
            await at.keep(logs(*late), 1000)
            await at.keep(logs(*late, stream="other"), 1000)
            await at.done()
            letters = await at.letters()

        assert len(requests(collector)) <= 160
        assert sum(each.items for each in letters) >= 1000
        taken = Counter(
            each.resource.attributes["service.name"] for each in collector.journal.log_records()
        )
        assert taken["shop"] == 1
        assert taken["other"] >= 1000
