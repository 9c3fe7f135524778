"""The admin API of a real relay: where a trace is, what was refused and why."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mockcollector.server import MockCollector
from tests.support.builders import protobuf_twin, request, span
from tests.support.relay_process import COVERED, Relay, eventually

GOOD = "0af7651916cd43dd8448eb211c80319c"
# A run that was started in the background inherits Ctrl-C as ignored.
WATCH = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from relay.cli import main; main()"
)
OTHER = "1af7651916cd43dd8448eb211c80319c"


def trace(relay: Relay, trace_id: str) -> tuple[int, Any]:
    status, found = relay.get(f"/api/traces/{trace_id}")
    return status, found


def test_trace_is_told_with_its_spans_and_where_it_is_for_each_destination(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        destinations = {
            "there": {"endpoint": upstream.endpoint},
            "gone": {"endpoint": "http://127.0.0.1:1/v1/traces"},
        }
        with Relay(tmp_path, destinations) as relay:
            both = request(span(traceId=GOOD, name="mine"), span(traceId=OTHER, name="not mine"))
            assert relay.post(both, headers={"User-Agent": "tester/1"}) == (200, b"{}")
            upstream.journal.wait_for_spans(2)
            found = eventually(
                lambda: (
                    (document := relay.get(f"/api/traces/{GOOD}")[1])["destinations"][1]["state"]
                    == "delivered"
                    and document
                )
            )

            gone, there = found["destinations"]
            assert (gone["name"], gone["state"]) == ("gone", "waiting")
            assert "refused" in gone["reason"] or "cannot be reached" in gone["reason"]
            assert (there["status"], there["encoding"]) == (200, "json")
            (received,) = found["received"]
            assert received["user_agent"] == "tester/1"
            assert received["services"] == ["shop"]
            (entry,) = found["resourceSpans"]
            assert [s["name"] for s in entry["scopeSpans"][0]["spans"]] == ["mine"]


@pytest.mark.parametrize("come_in", ["json", "protobuf"])
def test_rejected_span_is_a_dead_letter_that_its_trace_tells_of(
    tmp_path: Path, come_in: str
) -> None:
    with Relay(tmp_path) as relay:
        bad = request(span(traceId=GOOD, spanId="0000000000000000"), span(traceId=GOOD))
        body: bytes | dict[str, object] = bad
        headers = {}
        if come_in == "protobuf":
            body = protobuf_twin(bad).SerializeToString()
            headers = {"Content-Type": "application/x-protobuf"}
        assert relay.post(body, headers=headers)[0] == 200
        status, found = trace(relay, GOOD)

        assert status == 200
        (letter,) = found["dead_letters"]
        assert letter["destination"] == "ingest"
        assert letter["reason"] == "span_id_zero"
        assert letter["path"] == "resourceSpans[0].scopeSpans[0].spans[0].spanId"
        assert relay.status()["buffer"]["dead_letters_by_destination"] == {"ingest": 1}
        assert relay.status()["ingest"]["rejected_spans"] == {"span_id_zero": 1}


def test_trace_that_is_unknown_is_said_so(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        assert trace(relay, GOOD)[0] == 404
        assert "nothing is known of trace xyz" in trace(relay, "xyz")[1]["error"]
        assert trace(relay, f"{GOOD}?spans=maybe")[0] == 400
        assert trace(relay, "%20")[0] == 400
        for limit in ("0", "1001", "1000000", "0000010000", "9" * 30, "\u0661"):
            assert relay.get(f"/api/traces?limit={quote(limit)}")[0] == 400, limit
        assert relay.get("/api/nothing")[0] == 404
        assert relay.get("/api/nothing", token="wrong")[0] == 401


def test_recent_traces_are_listed_newest_first(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        for trace_id in (GOOD, OTHER):
            assert relay.post(request(span(traceId=trace_id)))[0] == 200
        status, found = relay.get("/api/traces?limit=5")

        assert status == 200
        assert [each["trace_id"] for each in found["traces"]] == [OTHER, GOOD]


def test_senders_own_connection_test_is_shown_in_status(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        assert relay.status()["ingest"]["tested_by_sender_at"] is None
        assert relay.post(b"", headers={"X-Test-Connection": "true"}) == (200, b"{}")

        assert relay.status()["ingest"]["tested_by_sender_at"]
        assert "tested by sender" in relay.run("status").stdout


def test_times_in_milliseconds_are_told_to_the_sender_counted_and_shown(tmp_path: Path) -> None:
    odd = span(startTimeUnixNano=str(time.time_ns() // 10**6))
    with Relay(tmp_path) as relay:
        status, answer = relay.post(request(odd, span()))

        assert status == 200
        assert json.loads(answer)["partialSuccess"]["errorMessage"] == (
            "times that seem to be in milliseconds (1): OTLP wants nanoseconds since 1970"
        )
        assert relay.status()["ingest"]["warnings"] == {"time_in_milliseconds": 1}
        shown = relay.run("status").stdout
        assert "kept: 1 span with a time in milliseconds, where OTLP has nanoseconds" in shown
        assert "time_in_milliseconds" not in shown
        _, metrics = relay.get("/metrics", parse=False)
        assert 'code="time_in_milliseconds",signal="traces"} 1.0' in metrics


def test_partial_success_upstream_becomes_a_dead_letter_with_the_words(tmp_path: Path) -> None:
    with MockCollector(script="partial=1:names are too long,ok") as upstream:
        with Relay(tmp_path, {"mock": {"endpoint": upstream.endpoint}}) as relay:
            assert relay.post(request(span(traceId=GOOD), span(traceId=GOOD)))[0] == 200
            eventually(lambda: relay.destination("mock")["refused_spans"] == 1)
            letters = eventually(
                lambda: relay.status()["buffer"]["dead_letters_by_destination"].get("mock")
            )

            assert letters == 1
            assert relay.destination("mock")["waiting_spans"] == 0
            assert "names are too long" in relay.log()


def test_status_as_json_is_what_the_api_says(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        shown = relay.run("status", "--json")

        assert shown.returncode == 0
        assert json.loads(shown.stdout).keys() == relay.status().keys()


def test_status_without_a_daemon_says_what_to_do(tmp_path: Path) -> None:
    shown = Relay(tmp_path).run("status")

    assert shown.returncode == 1
    assert "otlp-relay serve" in shown.stderr


def test_status_tells_at_once_how_much_of_the_buffer_is_owed(tmp_path: Path) -> None:
    with Relay(tmp_path, {"gone": {"endpoint": "http://127.0.0.1:1/v1/traces"}}) as relay:
        assert relay.post(request(span(traceId=GOOD), span(traceId=OTHER)))[0] == 200

        status = relay.status()

        assert status["destinations"][0]["waiting_spans"] == 2
        assert status["buffer"]["owed_spans"] == 2
        assert "2 spans of it owed" in relay.run("status").stdout


def test_status_is_watched_over_a_restart_until_it_is_interrupted(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        watching = subprocess.Popen(
            [sys.executable, "-c", WATCH, "status", "--watch", "--json", "--config", relay.config],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=COVERED,
        )
        try:
            assert watching.stdout is not None
            assert watching.stderr is not None
            assert json.loads(watching.stdout.readline())["ready"]
            relay.kill()
            assert b"no response from the admin listener" in watching.stderr.readline()
            relay.start()
            relay.post(request(span(traceId=GOOD)))
            while not json.loads(watching.stdout.readline())["ingest"]["kept_spans"]:
                pass
            watching.send_signal(signal.SIGINT)
            assert watching.wait(10) == 0
        finally:
            watching.kill()
            watching.communicate()
