"""Any relay of a fleet says where a trace is: by commands, the API and the page's lists."""

import json
import time
from pathlib import Path

from mockcollector.server import MockCollector
from tests.fleet.fleets import relay_of
from tests.fleet.test_end_to_end import post
from tests.support.kafka import Brokers
from tests.support.load import SIGNALS, arrived
from tests.support.relay_process import Relay, eventually


def listed(relay: Relay) -> list[str]:
    """The traces of the page's list, the newest first."""
    status, found = relay.get("/api/view/traces?limit=100")
    assert status == 200, found
    return [each["trace_id"] for each in found["traces"]]


def state_of(relay: Relay, trace: str) -> tuple[str, int]:
    """How a trace stands with the one destination, and the upstream's answer."""
    shown = relay.run("where", trace, "--json")
    assert shown.returncode == 0, shown.stderr
    found = [
        each for each in json.loads(shown.stdout)["destinations"] if each["signal"] == "traces"
    ]
    return found[0]["state"], found[0]["status"]


def delivered(ids: set[str], upstream: MockCollector) -> set[str]:
    """The traces among items of those ids, once the upstream has all of them."""
    eventually(lambda: ids <= arrived(upstream), seconds=60, what="all items")
    return {span.trace_id for span in upstream.journal.spans()}


def test_any_relay_says_where_a_trace_is_lists_it_and_sends_it_again(
    brokers: Brokers, tmp_path: Path
) -> None:
    with MockCollector() as upstream:
        keys = {"mock": {"endpoint": upstream.endpoint, "signals": SIGNALS}}
        fleet = {"name": "looking", "topic": "looking_spans", "topic_json": "looking_spans_json"}
        a = relay_of(brokers, tmp_path / "a", keys, **fleet)
        b = relay_of(brokers, tmp_path / "b", keys, **fleet)
        with a, b:
            sent = delivered(post(a, 3), upstream)
            for relay in (a, b):
                eventually(lambda r=relay: set(listed(r)) == sent, seconds=30)  # type: ignore[misc]
            assert sorted(listed(a)) == sorted(listed(b))
            trace = min(sent)
            for relay in (a, b):
                eventually(
                    lambda r=relay: state_of(r, trace) == ("delivered", 200),  # type: ignore[misc]
                    seconds=30,
                )
            status, recent = b.get("/api/traces")
            assert status == 200
            assert {each["trace_id"] for each in recent["traces"]} <= sent
            before = [span for span in upstream.journal.spans() if span.trace_id == trace]
            count = len(upstream.journal.spans())
            done = b.run("replay", "--to", "mock", "--trace", trace, "--wait")
            assert done.returncode == 0, done.stderr

            def came_again() -> bool:
                now = [span for span in upstream.journal.spans() if span.trace_id == trace]
                return len(now) == 2 * len(before)

            eventually(came_again, seconds=30)
            assert len(upstream.journal.spans()) == count + len(before)


def test_tail_shows_what_another_relay_takes_in(brokers: Brokers, tmp_path: Path) -> None:
    with MockCollector() as upstream:
        keys = {"mock": {"endpoint": upstream.endpoint, "signals": SIGNALS}}
        fleet = {"name": "tailing", "topic": "tailing_spans", "topic_json": "tailing_spans_json"}
        a = relay_of(brokers, tmp_path / "a", keys, **fleet)
        b = relay_of(brokers, tmp_path / "b", keys, **fleet)
        with a, b:
            sent = delivered(post(a), upstream)
            eventually(lambda: set(listed(b)) == sent, seconds=30)
            for signal in ("traces", "logs", "metrics"):  # each comes on a topic of its own
                tail = ("tail", "--last", "5", "--no-follow", "--json", "--signal", signal)
                eventually(lambda it=tail: len(b.run(*it).stdout.splitlines()) == 5)  # type: ignore[misc]
            status, calls = b.get("/api/genai")
            assert status == 200, calls
            assert calls["looked"]["rows"] > 0, calls
            assert calls["looked"]["is_complete"], calls


def test_replay_of_metrics_stops_before_delta_points(brokers: Brokers, tmp_path: Path) -> None:
    point = {"asInt": "1", "timeUnixNano": str(time.time_ns())}
    total = {"dataPoints": [point], "aggregationTemporality": 1, "isMonotonic": True}
    metrics = [{"scopeMetrics": [{"metrics": [{"name": "calls", "sum": total}]}]}]
    with MockCollector() as upstream:
        keys = {"mock": {"endpoint": upstream.endpoint, "signals": SIGNALS}}
        fleet = {"name": "deltas", "topic": "deltas_spans", "topic_json": "deltas_spans_json"}
        with relay_of(brokers, tmp_path / "a", keys, **fleet) as a:
            for _ in range(3):
                body = json.dumps({"resourceMetrics": metrics}).encode()
                assert a.post(body, path="/v1/metrics")[0] == 200
            eventually(lambda: a.owed("mock") == 0, seconds=60)
            refused = a.run("replay", "--to", "mock", "--since", "1h", "--signal", "metrics")
            assert refused.returncode != 0, refused.stdout
            assert "delta points are among them" in refused.stderr
            forced = a.run("replay", "--to", "mock", "--since", "1h", "--force", "--wait")
            assert forced.returncode == 0, forced.stderr
