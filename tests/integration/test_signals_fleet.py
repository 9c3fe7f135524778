"""A destination of several signals, with a real relay: none of them holds up another."""

import signal
from pathlib import Path
from typing import Any

from mockcollector import profiles
from mockcollector.server import MockCollector
from tests.support.builders import request, span
from tests.support.relay_process import Relay, eventually

ALL = ["traces", "logs", "metrics"]


def record(text: str) -> dict[str, Any]:
    one = {"timeUnixNano": "1767225600000000000", "body": {"stringValue": text}}
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [one]}]}]}


def gauge(name: str) -> dict[str, Any]:
    point = {"timeUnixNano": "1767225600000000000", "asDouble": 1.5}
    metric = {"name": name, "gauge": {"dataPoints": [point]}}
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}


def post(relay: Relay, made: dict[str, Any], path: str = "/v1/traces") -> None:
    assert relay.post(made, path=path)[0] == 200


def entry(relay: Relay, of: str, name: str = "up") -> dict[str, Any]:
    entries = relay.status()["destinations"]
    return next((e for e in entries if (e["name"], e["signal"]) == (name, of)), {})


def is_at(relay: Relay, of: str, **wanted: Any) -> bool:
    found = entry(relay, of)
    return all(found.get(key) == value for key, value in wanted.items())


def test_traces_and_metrics_flow_while_logs_are_blocked_by_404(tmp_path: Path) -> None:
    with (
        MockCollector(profile=profiles.build("otel-collector", logs=False)) as upstream,
        Relay(tmp_path, {"up": {"endpoint": upstream.endpoint, "signals": ALL}}) as relay,
    ):
        post(relay, record("first"), "/v1/logs")
        eventually(lambda: is_at(relay, "logs", state="blocked"))
        for number in range(5):
            post(relay, request(span(name=f"span-{number}")))
            post(relay, gauge(f"metric-{number}"), "/v1/metrics")
        eventually(lambda: is_at(relay, "traces", delivered_spans=5))
        eventually(lambda: is_at(relay, "metrics", delivered_spans=5))

        assert len(upstream.journal.spans()) == 5
        assert [each.name for each in upstream.journal.data_points()] == [
            f"metric-{number}" for number in range(5)
        ]
        blocked = entry(relay, "logs")
        assert (blocked["state"], blocked["waiting_spans"]) == ("blocked", 1)
        assert "404" in blocked["reason"]
        eventually(lambda: is_at(relay, "traces", state="idle"))  # after its rest
        metrics = relay.get("/metrics", parse=False)[1]
        for line in (
            'otlp_relay_blocked{destination="up",signal="logs"} 1.0',
            'otlp_relay_blocked{destination="up",signal="traces"} 0.0',
            'otlp_relay_delivered_spans_total{destination="up",signal="metrics"} 5.0',
            'otlp_relay_waiting_spans{destination="up",signal="logs"} 1.0',
            'otlp_relay_destination_state{destination="up",signal="logs",state="blocked"} 1.0',
        ):
            assert line in metrics
        assert '"signal": "logs"' in relay.log()


def test_pause_and_resume_are_of_all_signals_of_a_destination(tmp_path: Path) -> None:
    with (
        MockCollector() as upstream,
        Relay(tmp_path, {"up": {"endpoint": upstream.endpoint, "signals": ALL}}) as relay,
    ):
        assert relay.run("destination pause", "up").returncode == 0
        post(relay, request(span()))
        post(relay, record("a"), "/v1/logs")
        eventually(lambda: all(is_at(relay, of, state="paused") for of in ALL))
        assert relay.run("destination resume", "up").returncode == 0
        eventually(lambda: is_at(relay, "traces", delivered_spans=1))
        eventually(lambda: is_at(relay, "logs", delivered_spans=1))


def test_signal_that_is_taken_away_is_sent_no_more_and_said_to_wait(tmp_path: Path) -> None:
    with MockCollector() as other, MockCollector() as upstream:
        upstream.stop()
        both = {"endpoint": upstream.endpoint, "signals": ["traces", "logs"]}
        second = {"endpoint": other.endpoint, "signals": ["traces", "logs"]}
        with Relay(tmp_path, {"up": both, "second": second}) as relay:
            post(relay, record("owed"), "/v1/logs")
            eventually(lambda: is_at(relay, "logs", state="waiting"))

            relay.write_config({"up": both | {"signals": ["traces"]}, "second": second})
            relay.signal(signal.SIGHUP)
            eventually(lambda: relay.log().count("reloaded") == 1)
            upstream.restart()
            post(relay, record("later"), "/v1/logs")
            post(relay, request(span()))
            upstream.journal.wait_for_spans(1)
            eventually(lambda: len(other.journal.log_records()) == 2)
            assert not upstream.journal.log_records()
            assert not entry(relay, "logs")
            (removed,) = relay.status()["removed"]
            drop = "destination remove up --signal logs --drop-waiting"
            assert (removed["name"], removed["signal"], removed["waiting_spans"]) == (
                "up",
                "logs",
                1,
            )
            assert removed["drop_command"] == f"otlp-relay {drop}"
            assert (
                f"up (logs): gone from the configuration, 1 log record waiting: `otlp-relay {drop}`"
                in relay.run("status").stdout
            )

            relay.write_config({"up": both, "second": second})
            relay.signal(signal.SIGHUP)
            eventually(lambda: relay.log().count("reloaded") == 2)
            post(relay, record("again"), "/v1/logs")
            eventually(lambda: len(upstream.journal.log_records()) == 2)
            assert [each.body for each in upstream.journal.log_records()] == ["owed", "again"]


def test_what_waits_of_a_signal_that_was_taken_away_can_be_dropped_alone(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        both = {"endpoint": upstream.endpoint, "signals": ["traces", "logs"]}
        with Relay(tmp_path, {"up": both | {"paused": True}}) as relay:
            post(relay, record("owed"), "/v1/logs")
            post(relay, request(span()))
            drop = ("destination remove", "up", "--signal", "logs", "--drop-waiting")
            refused = relay.run(*drop)
            assert refused.returncode == 1
            assert "logs of up is still in" in refused.stderr

            relay.write_config({"up": both | {"signals": ["traces"]}})
            assert relay.run(*drop).returncode == 0
            assert relay.status()["removed"] == []
            upstream.journal.wait_for_spans(1)
            assert not upstream.journal.log_records()


def test_signal_that_is_added_begins_as_a_new_destination_does(tmp_path: Path) -> None:
    """At the beginning where nobody was owed it before: what was kept meanwhile is not lost."""
    with MockCollector() as upstream:
        traces = {"endpoint": upstream.endpoint}
        with Relay(tmp_path) as relay:
            post(relay, record("before"), "/v1/logs")
            relay.write_config({"up": traces})
            relay.signal(signal.SIGHUP)
            eventually(lambda: is_at(relay, "traces", state="idle"))
            assert not entry(relay, "logs")
            relay.write_config({"up": traces | {"signals": ["traces", "logs"]}})
            relay.signal(signal.SIGHUP)
            eventually(lambda: len(upstream.journal.log_records()) == 1)
            assert upstream.journal.counts.log_records_accepted == 1
