"""Real receivers of logs and metrics: they keep what is sent, and the mock answers as they do."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mockcollector import MockCollector
from tests.e2e import images
from tests.e2e.collector import STORAGE, Collector
from tests.e2e.containers import Ground
from tests.e2e.receivers import (
    PROMETHEUS,
    VICTORIA_LOGS,
    VICTORIA_METRICS,
    Kind,
    Receiver,
)
from tests.support.relay_process import eventually
from tests.unit.mockcollector.exchange import (
    attribute_json,
    logs_json,
    metrics_json,
    point_json,
    record_json,
    send,
    sum_json,
    twin,
)

pytestmark = pytest.mark.e2e

MINUTE, HOUR = 60_000_000_000, 3_600_000_000_000
Make = Callable[[Kind], Receiver]


@pytest.fixture
def receiver(ground: Ground, tmp_path: Path) -> Make:
    def make(kind: Kind) -> Receiver:
        return Receiver(ground, images.ready(kind.image), kind, tmp_path)

    return make


def gauge(name: str, *points: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": name, "gauge": {"dataPoints": list(points)}} | fields


@pytest.mark.parametrize(
    ("kind", "name"), [(PROMETHEUS, "orders_total"), (VICTORIA_METRICS, "orders")],
    ids=["prometheus", "victoria-metrics"],
)  # fmt: skip
def test_metrics_are_kept_and_found(receiver: Make, kind: Kind, name: str) -> None:
    now = time.time_ns()
    point = point_json(
        250, timeUnixNano=str(now), attributes=[attribute_json("region", stringValue="eu")]
    )
    with receiver(kind) as real:
        message = twin(metrics_json(sum_json(point)), "metrics")
        assert real.post(message.SerializeToString()) == (200, b"")
        real.flush()

        def found() -> dict[str, float]:
            return real.samples(name, now / 1e9 + 1)

        samples = eventually(found, what=f"{name} in {kind.image}")
        assert list(samples.values()) == [250]
        assert '"region": "eu"' in next(iter(samples))


def test_logs_are_kept_and_found(receiver: Make) -> None:
    record = record_json(timeUnixNano=str(time.time_ns()), body={"stringValue": "order paid"})
    with receiver(VICTORIA_LOGS) as real:
        message = twin(logs_json(record), "logs")
        assert real.post(message.SerializeToString()) == (200, b"")
        real.flush()
        (line,) = eventually(lambda: real.lines("order"), what="the line in VictoriaLogs")

    assert line["_msg"] == "order paid"
    assert line["service.name"] == "shop"


def test_collector_keeps_all_three_in_a_file(collector: Callable[..., Collector]) -> None:
    made = collector(
        f"""\
receivers: {{otlp: {{protocols: {{http: {{endpoint: "0.0.0.0:4318"}}}}}}}}
exporters: {{file: {{path: {STORAGE}/all.json}}}}
service:
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
    logs: {{receivers: [otlp], exporters: [file]}}
    metrics: {{receivers: [otlp], exporters: [file]}}
"""
    )
    where = urlsplit(made.endpoint)
    address = MockCollector(host=str(where.hostname), port=where.port or 0)  # not started
    for signal, body in (("logs", logs_json()), ("metrics", metrics_json())):
        assert send(address, body, path=f"/v1/{signal}").status == 200

    def kept() -> list[dict[str, Any]]:
        file = made.storage / "all.json"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines] if len(lines) == 2 else []

    found = eventually(kept, what="two lines in the Collector's file")
    assert {next(iter(line)) for line in found} == {"resourceLogs", "resourceMetrics"}


def points_at(at: int, value: int = 1, name: str = "orders") -> dict[str, Any]:
    return metrics_json(sum_json(point_json(value, timeUnixNano=str(at)), name=name))


def times(now: int) -> list[dict[str, Any]]:
    """Samples that fit and that do not, one request each."""
    return [
        points_at(now),
        points_at(now),
        points_at(now, value=2),
        points_at(now - MINUTE),
        points_at(now - 50 * MINUTE, name="late"),
        points_at(now - 70 * MINUTE, name="older"),
        points_at(0, name="older"),
        points_at(now + 20 * MINUTE),
    ]


def contents(now: int) -> list[dict[str, Any]]:
    """What has no translation, each beside what has one."""
    point = point_json(timeUnixNano=str(now))
    exponential = {"timeUnixNano": str(now), "count": "3", "scale": 0}
    coarse = {"timeUnixNano": str(now), "scale": -5}
    bad = [
        {"name": "none"},
        gauge("", point),
        gauge("%%", point),
        sum_json(point | {"attributes": [attribute_json("", intValue="1")]}),
        sum_json(name="d", aggregationTemporality=1),
        sum_json(point, name="u", aggregationTemporality=0),
        sum_json(point | {"exemplars": [{"timeUnixNano": "1"}]}),
        *(
            {
                "name": "e",
                "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [each]},
            }
            for each in (exponential, coarse)
        ),
    ]
    good = sum_json(point, name="good")
    return [*(metrics_json(good, each) for each in bad), metrics_json(*bad[:5])]


def test_mock_answers_as_the_real_prometheus_does(receiver: Make) -> None:
    now = time.time_ns()
    with receiver(PROMETHEUS) as real, MockCollector(profile="prometheus") as mock:
        for made in [*times(now), *contents(now)]:
            body = twin(made, "metrics")
            reply = send(mock, body, path=PROMETHEUS.path)
            assert (reply.status, reply.body) == real.post(body.SerializeToString()), made
        good = real.samples("good_total", now / 1e9 + 1)

    assert good == {}  # nothing is stored beside what is refused


@pytest.mark.parametrize(
    ("kind", "made"), [(VICTORIA_METRICS, metrics_json()), (VICTORIA_LOGS, logs_json())],
    ids=["metrics", "logs"],
)  # fmt: skip
def test_mock_refuses_json_as_the_real_victoria_does(
    receiver: Make, kind: Kind, made: dict[str, Any]
) -> None:
    body = json.dumps(made).encode()
    with receiver(kind) as real, MockCollector(profile=kind.image) as mock:
        reply = send(mock, made, path=kind.path)
        assert (reply.status, reply.body) == real.post(body, "application/json")
