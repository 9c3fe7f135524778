"""Logs and metrics through the relay to real receivers: they have what was sent."""

import json
import time
from pathlib import Path

import pytest

from mockcollector.signals import TRAITS, Signal
from tests.e2e import images
from tests.e2e.collector import Collector
from tests.e2e.containers import Ground
from tests.e2e.received import (
    ENCODINGS,
    NO_DETECTION,
    SIGNALS,
    Json,
    Kept,
    collector_config,
    fixture,
    items_of,
    letters,
    lines_of,
    nanoseconds,
    post,
    settle,
    to,
)
from tests.e2e.receivers import Receiver
from tests.support.builders import request as spans_request
from tests.support.builders import span
from tests.support.relay_process import Relay, eventually
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


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_collector_has_every_field_of_all_three_signals(
    tmp_path: Path, relay_command: tuple[str, ...], kept: Kept, encoding: str
) -> None:
    sent = {
        "traces": fixture("02_full_featured"),
        "logs": fixture("41_log_full.logs"),
        "metrics": fixture("50_metric_full.metrics"),
    }
    destinations = {"collector": kept.destination | {"encoding": encoding}}
    with Relay(tmp_path, destinations, settings=NO_DETECTION, executable=relay_command) as relay:
        for name, made in sent.items():
            path = TRAITS[Signal(name)].path
            body = twin(made, name).SerializeToString()
            media_type = {"Content-Type": "application/x-protobuf"}
            assert relay.post(body, path=path, headers=media_type)[0] == 200
        settle(relay)

        for name, made in sent.items():
            expected = items_of(made, name)
            assert kept.items(name, len(expected)) == expected


def test_collector_without_logs_gets_traces_and_metrics_at_once_and_logs_when_it_takes_them(
    tmp_path: Path, relay_command: tuple[str, ...], ground: Ground
) -> None:
    made = Collector(
        ground,
        images.ready("collector"),
        tmp_path / "collector",
        {"config.yaml": collector_config("traces", "metrics")},
    )
    kept = Kept(made)
    sent = {"traces": spans_request(span()), "logs": logs_json(), "metrics": metrics_json()}
    try:
        made.start()
        destinations = {"collector": kept.destination}
        with Relay(
            tmp_path, destinations, settings=NO_DETECTION, executable=relay_command
        ) as relay:
            for name, body in sent.items():
                assert relay.post(body, path=TRAITS[Signal(name)].path)[0] == 200

            def state_of(name: str) -> Json:
                told = relay.status()["destinations"]
                return next(each for each in told if each["signal"] == name)

            blocked = eventually(lambda: (s := state_of("logs"))["state"] == "blocked" and s)
            for name in ("traces", "metrics"):
                assert kept.items(name, 1) == items_of(sent[name], name)
            assert blocked["waiting_spans"] == 1
            assert "404" in json.dumps(blocked)

            made.write("config.yaml", collector_config(*SIGNALS))
            made.signal("SIGHUP")
            assert kept.items("logs", 1) == items_of(sent["logs"], "logs")
    finally:
        made.remove()


NAMES = {
    # A counter, a gauge and a histogram, as each of the two names them.
    "prometheus": ("orders_total", "room_celsius", "wait_seconds"),
    "victoria-metrics": ("orders", "room", "wait"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["prometheus", "victoria-metrics"])
def test_values_of_metrics_are_found_as_they_were_sent(
    tmp_path: Path,
    relay_command: tuple[str, ...],
    request: pytest.FixtureRequest,
    service: str,
    kind: str,
    encoding: str,
) -> None:
    real: Receiver = request.getfixturevalue(kind.replace("-", "_"))
    now = time.time_ns()
    attributes = [attribute_json("region", stringValue="eu")]
    at = {"timeUnixNano": str(now), "attributes": attributes}
    histogram = {
        "name": "wait",
        "unit": "s",
        "histogram": {
            "aggregationTemporality": 2,
            "dataPoints": [
                at
                | {
                    "count": "4",
                    "sum": 3.25,
                    "bucketCounts": ["1", "2", "1"],
                    "explicitBounds": [0.5, 1],
                }
            ],
        },
    }
    room = {"name": "room", "unit": "Cel", "gauge": {"dataPoints": [point_json(-3.5, **at)]}}
    made = metrics_json(sum_json(point_json(2**53, **at)), room, histogram, service=service)
    with Relay(tmp_path, to(real, kind), settings=NO_DETECTION, executable=relay_command) as relay:
        post(relay, made, "metrics", encoding)
        settle(relay)
        assert letters(relay) == []

    orders, celsius, wait = NAMES[kind]
    real.flush()
    label = "job" if kind == "prometheus" else '"service.name"'

    def value(name: str, **labels: str) -> list[float]:
        wanted = {label: service, "region": "eu"} | labels
        inside = ",".join(f'{key}="{text}"' for key, text in wanted.items())
        return list(real.samples(f"{name}{{{inside}}}", now / 1e9 + 1).values())

    assert eventually(lambda: value(orders)) == [2**53]
    assert value(celsius) == [-3.5]
    assert (value(f"{wait}_count"), value(f"{wait}_sum")) == ([4], [3.25])
    buckets = [value(f"{wait}_bucket", le=bound) for bound in ("0.5", "1", "+Inf")]
    assert buckets == [[1], [3], [4]]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_log_records_are_found_as_they_were_sent(
    tmp_path: Path,
    relay_command: tuple[str, ...],
    victoria_logs: Receiver,
    service: str,
    encoding: str,
) -> None:
    now = time.time_ns()
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    made = logs_json(
        record_json(
            timeUnixNano=str(now),
            severityText="INFO",
            body={"stringValue": "Grüße, 世界 🚀"},
            traceId=trace_id,
            spanId=span_id,
            attributes=[attribute_json("order.id", intValue=str(2**53 + 1))],
        ),
        # Without a time: that of its arrival at the relay is what it is dated by.
        {"body": {"stringValue": "undated"}, "severityNumber": 17},
        service=service,
    )
    with Relay(
        tmp_path,
        to(victoria_logs, "victoria-logs"),
        settings=NO_DETECTION,
        executable=relay_command,
    ) as relay:
        post(relay, made, "logs", encoding)
        arrived = time.time_ns()
        settle(relay)
        assert letters(relay) == []
    lines = {line["_msg"]: line for line in lines_of(victoria_logs, service, 2)}
    dated, undated = (lines[text] for text in ("Grüße, 世界 🚀", "undated"))
    assert (dated["trace_id"], dated["span_id"]) == (trace_id, span_id)
    assert (dated["order.id"], dated["severity_text"]) == (str(2**53 + 1), "INFO")
    assert undated["severity_number"] == "17"
    assert nanoseconds(dated["_time"]) == now
    assert now <= nanoseconds(undated["_time"]) <= arrived
