"""Items that real receivers refuse among good ones: dead letters with their words."""

import json
import re
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.received import (
    HOUR,
    MINUTE,
    SECOND,
    Json,
    letters,
    lines_of,
    post,
    settle,
    to,
)
from tests.e2e.receivers import Receiver
from tests.e2e.tap import Tap
from tests.support.relay_process import Relay
from tests.unit.mockcollector.exchange import (
    attribute_json,
    logs_json,
    metrics_json,
    point_json,
    record_json,
    sum_json,
    twin,
)

pytestmark = pytest.mark.e2e


def gauges(name: str, times: list[int], value: float = 1) -> list[Json]:
    """A gauge for each time, numbered: each a series of its own."""
    return [
        {"name": f"{name}_{at}", "gauge": {"dataPoints": [point_json(value, timeUnixNano=str(t))]}}
        for at, t in enumerate(times)
    ]


def words_by_metric(relay: Relay, items: int, prefix: str) -> dict[str, str]:
    """By the name of each metric that begins so, why it is a dead letter."""
    words: dict[str, str] = {}
    for letter in letters(relay, items):
        _, whole = relay.get(f"/api/dead-letters/{letter['id']}")
        for name in re.findall(rf'"({prefix}\w*)"', json.dumps(whole)):
            words[name] = words.get(name, "") + letter["words"]
    return words


def test_prometheus_has_the_rest_where_some_points_are_late_repeated_old_or_broken(
    tmp_path: Path, relay_command: tuple[str, ...], prometheus: Receiver, service: str
) -> None:
    now = time.time_ns()
    stored = sum_json(point_json(5, timeUnixNano=str(now)), name=f"{service}_seen")
    late = sum_json(point_json(4, timeUnixNano=str(now - MINUTE)), name=f"{service}_seen")
    repeated = sum_json(point_json(6, timeUnixNano=str(now)), name=f"{service}_seen")
    broken = sum_json(
        point_json(1, timeUnixNano=str(now), attributes=[attribute_json("", intValue="1")]),
        name=f"{service}_broken",
    )
    good = gauges(f"{service}_good", [now] * 60, 7)
    old = gauges(f"{service}_old", [now - 3 * HOUR - at * SECOND for at in range(100)])
    mixed = [*good[:20], late, *old[:50], broken, *good[20:40], *old[50:], repeated, *good[40:]]
    endpoint = urlsplit(prometheus.endpoint)
    with (
        Tap(int(endpoint.port or 0)) as tap,
        Relay(tmp_path, to(prometheus, "prometheus", tap), executable=relay_command) as relay,
    ):
        post(relay, metrics_json(stored, service=service), "metrics")
        settle(relay)
        before = tap.requests()
        assert relay.post(metrics_json(*mixed, service=service), path="/v1/metrics")[0] == 200
        settle(relay)

        words = words_by_metric(relay, len(old) + 3, f"{service}_")
        assert words.keys() == {each["name"] for each in (*old, late, broken)}
        assert all("out of bounds" in words[each["name"]] for each in old)
        assert "out of order sample" in words[f"{service}_seen"]
        assert "duplicate sample for timestamp" in words[f"{service}_seen"]
        assert "label name is empty" in words[f"{service}_broken"]
        assert sum(letter["spans"] for letter in letters(relay)) == len(old) + 3
        assert tap.requests() - before <= 60
    samples = prometheus.samples(f'{{job="{service}",__name__!="target_info"}}', now / 1e9 + 1)
    found = {json.loads(labels)["__name__"]: value for labels, value in samples.items()}
    expected = {each["name"]: 7 for each in good} | {f"{service}_seen_total": 5}
    assert found == expected


@pytest.mark.parametrize("is_one_service", [True, False])
def test_backlog_of_hours_is_cut_at_the_age_that_prometheus_takes(
    tmp_path: Path,
    relay_command: tuple[str, ...],
    prometheus: Receiver,
    service: str,
    is_one_service: bool,
) -> None:
    """Of one service, `target_info` is one series: a newer point makes all older ones late."""
    now = time.time_ns()
    minutes = 180
    backlog = gauges(f"{service}_at", [now - at * MINUTE for at in reversed(range(minutes))], 3)
    newest = twin(metrics_json(*gauges(f"{service}_other", [now])), "metrics")
    assert prometheus.post(newest.SerializeToString())[0] == 200
    endpoint = urlsplit(prometheus.endpoint)
    with Tap(int(endpoint.port or 0)) as tap:
        destinations = to(prometheus, "prometheus", tap)
        paused = {"real": destinations["real"] | {"paused": True}}
        with Relay(tmp_path, paused, executable=relay_command) as relay:
            for at, each in enumerate(backlog):
                name = service if is_one_service else f"{service}_{at}"
                post(relay, metrics_json(each, service=name), "metrics")
            relay.write_config(destinations)
            relay.signal(signal.SIGHUP)
            settle(relay)
            words = words_by_metric(relay, minutes - 70, f"{service}_at")
        assert tap.requests() <= 30

    stored = prometheus.samples(
        f'count(last_over_time({{job=~"{service}(_.*)?",__name__=~".*_at_.*",__name__!="target_info"}}[4h]))',
        now / 1e9 + 1,
    )
    (count,) = stored.values()
    assert all("out of bounds" in each for each in words.values())
    assert len(words) + count == minutes
    assert 50 <= count <= 70  # it takes about an hour


def test_log_record_that_victoria_logs_refuses_is_a_dead_letter_and_the_others_are_there(
    tmp_path: Path, relay_command: tuple[str, ...], victoria_logs: Receiver, service: str
) -> None:
    now = time.time_ns()
    records = [
        record_json(timeUnixNano=str(now + at), body={"stringValue": f"line {at}"})
        for at in range(100)
    ]
    records[40]["severityNumber"] = -1
    endpoint = urlsplit(victoria_logs.endpoint)
    with (
        Tap(int(endpoint.port or 0)) as tap,
        Relay(tmp_path, to(victoria_logs, "victoria-logs", tap), executable=relay_command) as relay,
    ):
        body = logs_json(*records, service=service)
        assert relay.post(body, path="/v1/logs")[0] == 200
        settle(relay)
        (letter,) = letters(relay, 1)
        assert (letter["spans"], letter["status"]) == (1, 400)
        assert "severity" in letter["words"]
        assert tap.requests() <= 30

    # It keeps what stands before the record that it refuses, so some lines are there twice.
    found = {line["_msg"] for line in lines_of(victoria_logs, service, 99)}
    assert found == {f"line {at}" for at in range(100)} - {"line 40"}
