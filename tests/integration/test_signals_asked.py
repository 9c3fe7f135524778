"""What somebody who asks is told of three signals, by a real relay: in text and as JSON."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import request, span
from tests.support.relay_process import Relay, eventually

ALL = ["traces", "logs", "metrics"]
TRACE = "0af7651916cd43dd8448eb211c80319c"
NOBODY = "http://127.0.0.1:1/v1/traces"
TIME = "1767225600000000000"


def logs(*texts: str, trace_id: str = TRACE) -> dict[str, Any]:
    records = [
        {"timeUnixNano": TIME, "body": {"stringValue": text}, "traceId": trace_id} for text in texts
    ]
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}


def metrics(*points: dict[str, Any], kind: str = "gauge") -> dict[str, Any]:
    metric = {"name": "load", kind: {"dataPoints": list(points)}}
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}


def point(value: float = 1.5, **more: Any) -> dict[str, Any]:
    return {"timeUnixNano": TIME, "asDouble": value} | more


def post_all(relay: Relay) -> None:
    """One span, two log records of its trace and three points; a point more is rejected."""
    assert relay.post(request(span(traceId=TRACE)))[0] == 200
    assert relay.post(logs("first", "second"), path="/v1/logs")[0] == 200
    rejected = point(timeUnixNano="0")
    body = metrics(point(1), point(2), point(3), rejected)
    assert relay.post(body, path="/v1/metrics")[0] == 200


def said(relay: Relay, command: str, *arguments: str, code: int = 0) -> str:
    """What a command prints; it ends with `code`."""
    shown = relay.run(command, *arguments)
    assert shown.returncode == code, shown.stdout + shown.stderr
    return shown.stdout + shown.stderr


def document(relay: Relay, command: str, *arguments: str) -> Any:
    shown = relay.run(command, *arguments, "--json")
    return json.loads(shown.stdout)


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Relay]:
    """A relay that keeps three signals for `all` and traces for `plain`, and nobody takes any."""
    destinations = {"all": {"endpoint": NOBODY, "signals": ALL}, "plain": {"endpoint": NOBODY}}
    with Relay(tmp_path, destinations) as relay:
        post_all(relay)
        yield relay


def test_status_has_a_line_for_each_signal_and_counts_items_by_name(waiting: Relay) -> None:
    shown = said(waiting, "status")
    assert "1 span, 2 log records, 3 data points kept, 1 rejected" in shown
    assert "rejected 1 data point: " in shown
    assert "6 items in 3 rows, " in shown
    assert "1 dead letter" in shown
    assert "6 items of it owed" in shown
    lines = [line.split()[:4] for line in shown.splitlines()]
    assert ["DESTINATION", "SIGNAL", "STATE", "WAITING"] in lines
    eventually(lambda: waiting.destination("plain")["state"] == "waiting")
    lines = [line.split()[:4] for line in said(waiting, "status").splitlines()]
    for name, of, number in (
        ("all", "traces", "1"),
        ("all", "logs", "2"),
        ("all", "metrics", "3"),
        ("plain", "traces", "1"),
    ):
        assert [name, of, "waiting", number] in lines


def test_status_names_no_signal_where_there_are_traces_alone(tmp_path: Path) -> None:
    with Relay(tmp_path, {"plain": {"endpoint": NOBODY}}) as relay:
        assert "0 spans kept, 0 rejected" in said(relay, "status")
        relay.post(request(span()))
        shown = said(relay, "status")
        assert "1 span kept" in shown
        assert "1 span in 1 row, " in shown
        assert "SIGNAL" not in shown
        assert "log record" not in shown
