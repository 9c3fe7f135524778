"""Destinations that get not every trace: real processes, sockets and disk."""

import os
import signal
from pathlib import Path
from typing import Any

from mockcollector.server import MockCollector
from relay.process.sample.probability import RatioSampler
from tests.support.builders import START, protobuf_twin, request, span
from tests.support.relay_process import Relay, eventually

Json = dict[str, Any]
PROTOBUF = {"Content-Type": "application/x-protobuf"}
ERROR: Json = {"code": 2}
KEEP = 'status == "ERROR" || duration > 2.0'
QUICK = {"startTimeUnixNano": START, "endTimeUnixNano": str(int(START) + 100_000_000)}


def chance(is_kept: bool) -> str:
    """A trace id that a ratio of 0.1 keeps, or leaves out."""
    sampler = RatioSampler(0.1)
    while True:
        trace_id = os.urandom(16).hex()
        if sampler.keeps(trace_id) == is_kept:
            return trace_id


def quick(trace_id: str, name: str, **members: Any) -> Json:
    return span(traceId=trace_id, spanId=os.urandom(8).hex(), name=name, **(QUICK | members))


def post(relay: Relay, *spans: Json, is_protobuf: bool = False) -> None:
    made = request(*spans)
    if is_protobuf:
        twin = protobuf_twin(made).SerializeToString()
        assert relay.post(twin, headers=PROTOBUF)[0] == 200
    else:
        assert relay.post(made)[0] == 200


def names_at(collector: MockCollector) -> list[str]:
    return sorted(each.name for each in collector.journal.spans())


def test_a_tenth_and_all_errors(tmp_path: Path) -> None:
    """The recipe of docs/processing.md."""
    lucky, unlucky, failed = chance(True), chance(False), chance(False)
    with MockCollector() as some, MockCollector() as everything:
        destinations: dict[str, Json] = {
            "everything": {"endpoint": everything.endpoint},
            "some": {
                "endpoint": some.endpoint,
                "sample": {"ratio": 0.1, "keep": KEEP, "wait": "3s"},
            },
        }
        with Relay(tmp_path, destinations) as relay:
            post(relay, quick(lucky, "lucky"), quick(unlucky, "unlucky"), quick(failed, "early"))
            eventually(lambda: len(everything.journal.spans()) == 3)
            post(relay, quick(failed, "error", status=ERROR), is_protobuf=True)
            eventually(lambda: len(some.journal.spans()) == 3)
            # The trace is remembered: what comes late is with it.
            post(relay, quick(failed, "late"), quick(unlucky, "late too"))
            eventually(lambda: len(some.journal.spans()) == 4)
            eventually(lambda: relay.destination("some")["held_spans"] == 0)
            found = relay.destination("some")
            _status, metrics = relay.get("/metrics", parse=False)
            shown = relay.run("status").stdout
            where = {each: relay.run("where", each).stdout for each in (unlucky, failed, lucky)}

        assert names_at(some) == ["early", "error", "late", "lucky"]
        assert names_at(everything) == ["early", "error", "late", "late too", "lucky", "unlucky"]
    states = {each.name: each.raw.trace_state for each in some.journal.spans()}
    assert states == {"lucky": "ot=th:e666", "early": "", "error": "", "late": ""}
    assert found["filtered_spans"] == {"sample": 2}
    assert found["delivered_spans"] == 4
    line = 'otlp_relay_filtered_spans_total{destination="some",signal="traces",step="sample"} 2.0'
    assert line in metrics
    assert "some: 2 sampled out" in shown
    # Told of each trace, though rows are settled as a whole.
    assert "sampled out (ratio 0.1)" in where[unlucky]
    assert "delivered  to everything" in where[unlucky]
    assert "delivered  to some" in where[failed]
    assert "delivered  to some" in where[lucky]


def test_a_ratio_alone_waits_for_nothing(tmp_path: Path) -> None:
    with MockCollector() as some:
        sample = {"endpoint": some.endpoint, "sample": {"ratio": 0.1}}
        with Relay(tmp_path, {"some": sample}) as relay:
            post(relay, quick(chance(True), "in"), quick(chance(False), "out"))
            eventually(lambda: names_at(some) == ["in"], seconds=5)
            assert relay.destination("some")["held_spans"] == 0


def test_a_test_trace_that_is_sampled_out_is_told_so_and_is_no_failure(tmp_path: Path) -> None:
    with MockCollector() as some:
        keys = {"endpoint": some.endpoint, "sample": {"ratio": 0}}
        with Relay(tmp_path, {"some": keys}) as relay:
            sent = relay.run("send-test-trace", "--wait", "20s")
    assert sent.returncode == 0
    assert "filtered   for some: sampled out (ratio 0)" in sent.stdout


def test_what_is_held_is_no_backlog_and_a_relay_that_stops_does_not_wait(tmp_path: Path) -> None:
    with MockCollector() as some:
        sample = {"ratio": 0, "keep": KEEP, "wait": "60s"}
        with Relay(tmp_path, {"some": {"endpoint": some.endpoint, "sample": sample}}) as relay:
            trace_id = chance(False)
            post(relay, *(quick(trace_id, "held") for _ in range(3)))
            held = eventually(lambda: (it := relay.destination("some"))["held_spans"] and it)
            assert (held["held_spans"], held["waiting_spans"]) == (3, 0)
            assert held["oldest_waiting_seconds"] == 0
            assert "some: 3 spans held for the rest of their traces" in relay.run("status").stdout
            where = relay.run("where", trace_id).stdout
            assert "held for the rest of its trace, 1m at most" in where
            sent = relay.run("send-test-trace", "--wait", "0.1s")
            assert sent.returncode == 1
            assert "held for the rest of its trace: follow it with --wait 65s" in sent.stdout
            doctor = relay.run("doctor")
            assert doctor.returncode == 0
            assert "some: idle, 0 spans waiting" in doctor.stdout
            eventually(lambda: relay.destination("some")["waiting_spans"] == 0)
            held_spans = relay.destination("some")["held_spans"]
            assert relay.stop() == 0
            relay.start()
            eventually(lambda: relay.destination("some")["held_spans"] == held_spans)
            # Another sample, or none, holds by its own rules at once.
            relay.write_config({"some": {"endpoint": some.endpoint}})
            relay.signal(signal.SIGHUP)
            eventually(lambda: len(names_at(some)) == held_spans)


def test_log_records_follow_their_trace(tmp_path: Path) -> None:
    lucky, unlucky, failed = chance(True), chance(False), chance(False)
    with MockCollector() as some:
        sample = {"ratio": 0.1, "keep": KEEP, "wait": "2s"}
        keys = {"endpoint": some.endpoint, "signals": ["traces", "logs", "metrics"]}
        with Relay(tmp_path, {"some": keys | {"sample": sample}}) as relay:
            records = [
                {"traceId": trace_id, "spanId": "b7ad6b7169203331", "body": {"stringValue": text}}
                for trace_id, text in ((lucky, "lucky"), (unlucky, "unlucky"), (failed, "failed"))
            ]
            alone = {"body": {"stringValue": "alone"}}
            logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [*records, alone]}]}]}
            assert relay.post(logs, path="/v1/logs")[0] == 200
            post(relay, quick(failed, "error", status=ERROR))
            eventually(lambda: len(some.journal.log_records()) == 3)
            eventually(lambda: relay.destination("some", "logs")["held_spans"] == 0)
            found = relay.destination("some", "logs")
        bodies = sorted(each.raw.body.string_value for each in some.journal.log_records())
    assert bodies == ["alone", "failed", "lucky"]
    assert found["filtered_spans"] == {"sample": 1}
