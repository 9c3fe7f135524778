"""What somebody who asks is told of three signals, by a real relay: in text and as JSON."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from mockcollector.server import MockCollector
from tests.support.builders import protobuf_twin, request, span
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


def states(relay: Relay) -> list[tuple[str, str, str]]:
    found = relay.get(f"/api/traces/{TRACE}")[1].get("destinations", [])
    return [(d["name"], d["signal"], d["state"]) for d in found]


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Relay]:
    """A relay that keeps three signals for `all` and traces for `plain`, and nobody takes any."""
    destinations: dict[str, dict[str, Any]] = {
        "all": {"endpoint": NOBODY, "signals": ALL},
        "plain": {"endpoint": NOBODY},
    }
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


def test_where_tells_of_the_log_records_of_a_trace_too(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        destinations: dict[str, dict[str, Any]] = {
            "all": {"endpoint": upstream.endpoint, "signals": ALL},
            "away": {"endpoint": NOBODY, "signals": ["logs"], "logs_endpoint": NOBODY},
            "plain": {"endpoint": upstream.endpoint},
        }
        with Relay(tmp_path, destinations) as relay:
            post_all(relay)
            wanted = [
                ("all", "traces", "delivered"),
                ("all", "logs", "delivered"),
                ("away", "logs", "waiting"),
                ("plain", "traces", "delivered"),
            ]
            eventually(lambda: states(relay) == wanted)
            found = relay.get(f"/api/traces/{TRACE}")[1]
            assert [(p["signal"], p["spans"]) for p in found["received"]] == [
                ("traces", 1),
                ("logs", 2),
            ]
            (entry,) = found["resourceLogs"]
            bodies = [r["body"]["stringValue"] for r in entry["scopeLogs"][0]["logRecords"]]
            assert bodies == ["first", "second"]
            assert len(found["resourceSpans"]) == 1
            shown = said(relay, "where", TRACE)
            told = document(relay, "where", TRACE)

            # Who asks for recent traces is shown no others than before.
            alone = logs("of a trace without spans", trace_id="f" * 32)
            assert relay.post(alone, path="/v1/logs")[0] == 200
            recent = relay.get("/api/traces")[1]["traces"]
            assert [each["trace_id"] for each in recent] == [TRACE]
        assert "a request of 1 span, json" in shown
        assert "a request of 2 log records, json" in shown
        assert "\n  delivered  spans to all (http" in shown
        assert "\n  delivered  log records to all (http" in shown
        assert "\n  waiting    log records for away (http" in shown
        assert "\n  delivered  spans to plain (http" in shown
        assert "log records to plain" not in shown
        assert not {"resourceSpans", "resourceLogs"} & told.keys()
        assert [piece["signal"] for piece in told["received"]] == ["traces", "logs"]
        at_rest = said(relay, "where", TRACE)
        assert "\n  delivered  log records to all (http" in at_rest
        assert "\n  waiting    log records for away (http" in at_rest


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[tuple[Relay, MockCollector]]:
    """A relay whose destination refused one item of each request, of three signals; a fourth dead
    letter is of ingest. `plain` gets traces only.
    """
    with MockCollector(script="partial=1:too long*") as upstream:
        destinations: dict[str, dict[str, Any]] = {
            "all": {"endpoint": upstream.endpoint, "signals": ALL},
            "plain": {"endpoint": NOBODY},
        }
        with Relay(tmp_path, destinations) as relay:
            post_all(relay)
            eventually(lambda: relay.status()["buffer"]["dead_letters"] == 4)
            yield relay, upstream


def test_dead_letters_name_their_signal_and_count_its_items(
    refused: tuple[Relay, MockCollector],
) -> None:
    relay, _upstream = refused
    shown = said(relay, "dead-letter list")
    lines = [line.split()[:5] for line in shown.splitlines()]
    assert ["DESTINATION", "SIGNAL", "REASON", "STATUS", "LETTERS"] in lines
    assert ["all", "logs", "upstream_partial", "200", "1"] in lines
    assert ["all", "metrics", "upstream_partial", "200", "1"] in lines
    assert ["ingest", "metrics", "time_missing", "-", "1"] in lines
    assert "4 dead letters, 2 data points, 1 log record, 1 span" in shown
    only = said(relay, "dead-letter list", "--signal", "logs")
    assert "1 dead letter, 1 log record\n" in only
    assert "metrics" not in only
    plain = said(relay, "dead-letter list", "--signal", "traces")
    assert "SIGNAL" not in plain
    assert "SPANS" in plain
    each = document(relay, "dead-letter list", "--all", "--signal", "metrics")["letters"]
    assert {one["signal"] for one in each} == {"metrics"}

    logs_letter = document(relay, "dead-letter list", "--all", "--signal", "logs")["letters"][0]
    told = said(relay, "dead-letter show", str(logs_letter["id"]))
    assert "items      1 of 2 log records\n" in told
    assert f"log records:\n    {TRACE} first\n    {TRACE} second\n" in told
    found = document(relay, "dead-letter show", str(logs_letter["id"]))
    assert found["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert "resourceSpans" not in found
    of_ingest = document(relay, "dead-letter list", "--all", "--destination", "ingest")["letters"]
    told = said(relay, "dead-letter show", str(of_ingest[0]["id"]))
    assert "metrics:\n    load\n" in told
    assert "trace id" not in told

    exported = said(relay, "dead-letter export", "--signal", "logs")
    assert all(line.startswith('{"resourceLogs":') for line in exported.splitlines())
    file = relay.folder / "letters.jsonl"
    wrote = said(relay, "dead-letter export", "--output", str(file))
    assert f"wrote 4 dead letters to {file}: " in wrote
    for part in ("1 for /v1/traces", "1 for /v1/logs", "2 for /v1/metrics"):
        assert part in wrote
    assert len(file.read_text().splitlines()) == 4
    assert relay.get("/api/dead-letters?signal=spans")[0] == 400


def test_dead_letters_are_replayed_to_who_gets_their_signal(
    refused: tuple[Relay, MockCollector],
) -> None:
    relay, upstream = refused
    stays = said(relay, "dead-letter replay", "--signal", "logs", "--to", "plain", code=1)
    assert "plain gets no logs; name another with --to" in stays
    upstream.script.clear()
    before = len(upstream.journal.log_records()), len(upstream.journal.data_points())
    sent = said(relay, "dead-letter replay", "--destination", "all")
    assert "replayed 3 dead letters: " in sent
    for part in ("1 span", "2 log records", "3 data points"):
        assert part in sent
    assert "which 3 of 6 items it refused" in sent
    eventually(lambda: len(upstream.journal.log_records()) == before[0] + 2)
    eventually(lambda: len(upstream.journal.data_points()) == before[1] + 3)
    stays = said(relay, "dead-letter replay", "--all", code=1)
    assert "no time: export it, correct it and post it again" in stays
    dropped = said(relay, "dead-letter discard", "--all", "--yes")
    assert "discarded 1 dead letter, 1 data point\n" in dropped


def test_replay_is_of_all_that_a_destination_gets_or_of_one_signal(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        destinations: dict[str, dict[str, Any]] = {
            "all": {"endpoint": upstream.endpoint, "signals": ALL},
            "plain": {"endpoint": upstream.endpoint},
        }
        with Relay(tmp_path, destinations) as relay:
            post_all(relay)
            nothing = [("all", of, 0) for of in ALL] + [("plain", "traces", 0)]

            def is_delivered() -> bool:
                found = relay.status()["destinations"]
                waiting = [(d["name"], d["signal"], d["waiting_spans"]) for d in found]
                return waiting == nothing

            eventually(is_delivered)
            journal = upstream.journal
            dry = ("replay", "--since", "1h", "--dry-run", "--to")
            shown = said(relay, *dry, "all")
            assert "1 span, 2 log records, 3 data points since" in shown
            assert "delta" not in shown
            assert "2 log records since" in said(relay, *dry, "all", "--signal", "logs")
            assert "1 span since" in said(relay, *dry, "plain")
            refused = said(relay, *dry, "plain", "--signal", "metrics", code=1)
            assert "plain takes no metrics, only traces" in refused
            of_trace = said(relay, "replay", "--to", "all", "--trace", TRACE, "--wait")
            assert f"1 span, 2 log records of trace {TRACE} will be sent to all" in of_trace
            assert "delta" not in of_trace
            assert (len(journal.log_records()), len(journal.data_points())) == (4, 3)
            told = document(relay, "replay", "--to", "all", "--since", "1h", "--signal", "metrics")
            assert (told["by_signal"], told["has_deltas"]) == ({"metrics": 3}, False)
            eventually(lambda: len(journal.data_points()) == 6)
            assert len(journal.log_records()) == 4


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_replay_of_delta_points_sends_nothing_unless_it_is_forced(
    tmp_path: Path, encoding: str
) -> None:
    data = {"dataPoints": [point(7)], "aggregationTemporality": 1, "isMonotonic": True}
    metric = {"name": "calls", "sum": data}
    deltas = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    with MockCollector() as upstream:
        all_signals: dict[str, Any] = {"endpoint": upstream.endpoint, "signals": ALL}
        with Relay(tmp_path, {"all": all_signals}) as relay:
            assert relay.post(metrics(point(1)), path="/v1/metrics")[0] == 200
            body, sort = json.dumps(deltas).encode(), "application/json"
            if encoding == "protobuf":
                body = protobuf_twin(deltas, ExportMetricsServiceRequest).SerializeToString()
                sort = "application/x-protobuf"
            assert relay.post(body, path="/v1/metrics", headers={"Content-Type": sort})[0] == 200
            assert relay.post(request(span(traceId=TRACE)))[0] == 200
            eventually(lambda: relay.destination("all", "metrics")["delivered_spans"] == 2)
            again = ("replay", "--to", "all", "--since", "1h", "--signal", "metrics")
            dry = said(relay, *again, "--dry-run")
            assert "delta points are among them: --force sends those too" in dry
            kept_back = said(relay, *again, code=1)
            assert "those that all had already count twice there" in kept_back
            assert "--force sends them all the same" in kept_back
            assert len(upstream.journal.data_points()) == 2
            assert "1 span since" in said(relay, *again[:-1], "traces")
            told = document(relay, *again, "--force")
            assert told["by_signal"] == {"metrics": 2}
            eventually(lambda: len(upstream.journal.data_points()) == 4)


def test_buffer_commands_count_and_choose_by_signal(waiting: Relay) -> None:
    checked = said(waiting, "buffer check")
    assert "3 rows are sound: 1 span, 2 log records, 3 data points, " in checked
    assert "; 1 dead letter\n" in checked
    lines = [line.split()[:3] for line in checked.splitlines()]
    assert ["DESTINATION", "SIGNAL", "OWED"] in lines
    assert ["all", "logs", "2"] in lines
    assert document(waiting, "buffer check")["by_signal"] == {"traces": 1, "logs": 2, "metrics": 3}

    exported = said(waiting, "buffer export", "--signal", "metrics").splitlines()
    assert [line[:20] for line in exported] == ['{"resourceMetrics":[']
    assert len(said(waiting, "buffer export").splitlines()) == 3
    copied = said(waiting, "buffer snapshot", str(waiting.folder / "copy.db"))
    assert "3 rows, 1 span, 2 log records, 3 data points, " in copied


def test_commands_on_a_destination_count_what_waits_by_signal(waiting: Relay) -> None:
    told = "1 span, 2 log records, 3 data points"
    assert f"all is paused; waiting for it: {told}" in said(waiting, "destination pause", "all")
    assert "waiting for it: 1 span\n" in said(waiting, "destination pause", "plain")


def test_what_holds_nothing_is_logged_with_its_signal(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        assert relay.post({"resourceLog": []}, path="/v1/logs")[0] == 200
        events = [json.loads(line) for line in relay.log().splitlines()]
    (event,) = [each for each in events if each["event"] == "request_held_nothing"]
    assert (event["signal"], event["level"]) == ("logs", "warning")
