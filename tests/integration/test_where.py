"""`otlp-relay where` against a real relay: every way that a trace can go, told in its words."""

import json
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from mockcollector.server import MockCollector
from relay.buffer import owed_ranges
from relay.buffer.sqlite.types import EVICTED_STATUS
from tests.support.builders import protobuf_twin, request, span
from tests.support.relay_process import Relay, eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER = "1af7651916cd43dd8448eb211c80319c"
NOBODY = "http://127.0.0.1:1/v1/traces"


def where(relay: Relay, trace_id: str) -> str:
    """What the command tells of a trace that is known."""
    shown = relay.run("where", trace_id)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


def document(relay: Relay, trace_id: str) -> dict[str, Any]:
    shown = relay.run("where", trace_id, "--json")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return dict(json.loads(shown.stdout))


def states(relay: Relay, trace_id: str) -> dict[str, str]:
    status, found = relay.get(f"/api/traces/{trace_id}")
    return {d["name"]: d["state"] for d in found["destinations"]} if status == 200 else {}


def post(relay: Relay, *spans: dict[str, Any], agent: str = "sdk/1", **more: Any) -> None:
    assert relay.post(request(*spans, **more), headers={"User-Agent": agent})[0] == 200


@pytest.mark.proofs  # waits for a probe of the relay
def test_delivered_waiting_and_dead_are_told_with_when_and_why(tmp_path: Path) -> None:
    with (
        MockCollector() as there,
        MockCollector(script="413:this span is too long for us*") as picky,
        MockCollector(script="503:retry-after=60:come back later*") as busy,
    ):
        destinations = {
            "busy": {"endpoint": busy.endpoint},
            "picky": {"endpoint": picky.endpoint},
            "there": {"endpoint": there.endpoint},
        }
        with Relay(tmp_path, destinations) as relay:
            post(relay, span(traceId=TRACE), agent="tester/9")
            wanted = {"busy": "waiting", "picky": "set_aside", "there": "delivered"}
            eventually(lambda: states(relay, TRACE) == wanted)
            eventually(lambda: relay.destination("busy")["state"] == "waiting")
            text = where(relay, TRACE)
            found = {d["name"]: d for d in document(relay, TRACE)["destinations"]}

    assert f"trace {TRACE}\n" in text
    assert "from shop at 127.0.0.1, User-Agent tester/9: a request of 1 span, json" in text
    assert "kept       on disk, in row 1" in text
    assert f"delivered  to there ({there.endpoint}) at {found['there']['at']}: 200" in text
    assert f"waiting    for busy ({busy.endpoint}) since" in text
    assert "come back later" in text
    assert "the last response was 503" in text
    assert "it has accepted none since the start" in text
    assert f"dead       for picky at {found['picky']['at']}: 413" in text
    assert "too_large: this span is too long for us" in text
    (letter,) = found["picky"]["dead_letters"]
    assert f"`otlp-relay dead-letter show {letter}`" in text
    assert found["busy"]["tries"] >= 1


def test_rejected_span_is_told_with_its_reason_and_place(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        post(relay, span(traceId=TRACE, spanId="0" * 16), span(traceId=TRACE))
        text = where(relay, TRACE)

    assert "rejected" in text
    assert "span_id_zero at resourceSpans[0].scopeSpans[0].spans[0].spanId" in text
    assert "waiting    no destination is configured: the spans are kept" in text


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_id_as_the_app_wrote_it_is_found_and_said_so(tmp_path: Path, encoding: str) -> None:
    made = request(span(traceId="app_trace_001"), service="openrouter")
    body: Any = made if encoding == "json" else protobuf_twin(made).SerializeToString()
    kind = "application/json" if encoding == "json" else "application/x-protobuf"
    with Relay(tmp_path) as relay:
        assert relay.post(body, headers={"Content-Type": kind})[0] == 200
        text = where(relay, "app_trace_001")
        derived = document(relay, "app_trace_001")["trace_id"]
        again = where(relay, derived)

    assert f"{derived} is the id derived from app_trace_001, which is not a trace id" in text
    assert "received" in again
    assert "derived from" not in again


def test_id_that_was_refused_as_it_was_written_is_found(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        assert relay.post(request(span(traceId="order-4711")))[0] == 400
        text = where(relay, "order-4711")

    assert "trace_id_malformed at resourceSpans[0].scopeSpans[0].spans[0].traceId" in text


def test_dashes_and_upper_case_are_no_obstacle(tmp_path: Path) -> None:
    dashed = "0AF76519-16CD-43DD-8448-EB211C80319C"
    with Relay(tmp_path) as relay:
        post(relay, span(traceId=TRACE))

        assert f"trace {TRACE}" in where(relay, dashed)
        assert f"trace {TRACE}" in where(relay, TRACE.upper())


def test_unknown_trace_is_1_with_what_it_may_mean_and_no_id_is_2(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        nothing = relay.run("where", TRACE)
        post(relay, span(traceId=OTHER))
        shown = relay.run("where", TRACE)
        as_json = relay.run("where", TRACE, "--json")
        assert relay.run("where", " ").returncode == 2
        assert relay.run("where").returncode == 2

    assert (nothing.returncode, shown.returncode, as_json.returncode) == (1, 1, 1)
    assert "nothing has been received yet" in nothing.stdout
    assert "what is known reaches back to" in shown.stdout
    assert "never received" in shown.stdout
    assert json.loads(as_json.stdout)["known_since"]


def test_without_a_daemon_it_says_what_to_do(tmp_path: Path) -> None:
    shown = Relay(tmp_path).run("where", TRACE)

    assert shown.returncode == 1
    assert "otlp-relay serve" in shown.stderr


@pytest.mark.parametrize("ends", ["stopped", "killed"])
def test_files_of_a_relay_that_does_not_run_tell_it_too(tmp_path: Path, ends: str) -> None:
    with MockCollector() as there:
        destinations = {"away": {"endpoint": NOBODY}, "there": {"endpoint": there.endpoint}}
        with Relay(tmp_path, destinations) as relay:
            post(relay, span(traceId=TRACE), agent="tester/9")
            wanted = {"away": "waiting", "there": "delivered"}
            eventually(lambda: states(relay, TRACE) == wanted)
            # It may have been told of before it was on disk; each question has written what was
            # settled before it, and a kill within those 200 ms is right to deliver again.
            assert states(relay, TRACE) == wanted
            if ends == "stopped":
                assert relay.stop() == 0
            else:
                relay.kill()
            shown = relay.run("where", TRACE)
            nothing = relay.run("where", OTHER)
            relay.start()  # nothing of it is in the way
            assert states(relay, TRACE) == wanted

    assert shown.returncode == 0
    assert "no daemon is running; read from its files" in shown.stderr
    assert "User-Agent tester/9" in shown.stdout
    assert f"delivered  to there ({there.endpoint}) at" in shown.stdout
    assert f"waiting    for away ({NOBODY}) since" in shown.stdout
    assert shown.stdout.strip().endswith(": 200")
    assert (nothing.returncode, nothing.stdout.splitlines()[0]) == (
        1,
        f"nothing is known of trace {OTHER}",
    )


def test_files_tell_what_steps_make_of_a_trace_as_the_daemon_does(tmp_path: Path) -> None:
    keep = {"ratio": 0, "keep": 'status == "ERROR"', "wait": "10m"}
    with MockCollector() as upstream:
        steps: dict[str, dict[str, Any]] = {
            "changed": {"redact": {"keys": ["nothing"], "patterns": ["/GET/"]}},
            "filtered": {"match": 'name == "another"'},
            "held": {"sample": keep},
            "sampled": {"sample": {"ratio": 0}},
        }
        destinations = {name: {"endpoint": upstream.endpoint, **it} for name, it in steps.items()}
        with Relay(tmp_path, destinations) as relay:
            post(relay, span(traceId=TRACE, name="GET /cart"))
            wanted = dict.fromkeys(("filtered", "sampled"), "filtered")
            wanted |= {"changed": "delivered", "held": "waiting"}
            eventually(lambda: states(relay, TRACE) == wanted)
            running = document(relay, TRACE)["destinations"]
            assert relay.stop() == 0
            at_rest = document(relay, TRACE)["destinations"]
            text = where(relay, TRACE)

    told = ("name", "state", "filtered_by", "filtered_because", "changed_by", "held_seconds")
    assert [[each[key] for key in told] for each in at_rest] == [
        ["changed", "delivered", "", "", ["redact"], 0.0],
        ["filtered", "filtered", "match", "it does not match", [], 0.0],
        ["held", "waiting", "", "", [], 600.0],
        ["sampled", "filtered", "sample", "sampled out (ratio 0)", [], 0.0],
    ]
    assert [[each[key] for key in told] for each in running] == [
        [each[key] for key in told] for each in at_rest
    ]
    assert ": 200, changed by redact" in text
    assert "held for the rest of its trace, 10m at most; the relay is not running" in text


def test_what_has_gone_is_told_of_after_a_restart_and_holds_no_contents(tmp_path: Path) -> None:
    settings = '[buffer]\nkeep_delivered = "0s"'
    with MockCollector() as upstream:
        with Relay(tmp_path, {"up": {"endpoint": upstream.endpoint}}, settings=settings) as relay:
            post(relay, span(traceId=TRACE, name="a secret name"), agent="tester/9")
            eventually(lambda: relay.status()["buffer"]["rows"] == 0 and upstream.journal.spans())
            assert relay.stop() == 0
            assert b"a secret name" not in (relay.state_dir / "relay.db").read_bytes()
            relay.start()
            text = where(relay, TRACE)
            shown = relay.run("where", OTHER)

    assert "User-Agent tester/9" in text
    assert "gone       the data; what follows is from the history" in text
    assert "delivered  to up" in text
    assert ": 200" in text
    assert shown.returncode == 1


def test_paused_gone_from_the_configuration_and_added_later_are_told(tmp_path: Path) -> None:
    both = {"here": {"endpoint": NOBODY}, "left": {"endpoint": NOBODY}}
    with Relay(tmp_path, both) as relay:
        post(relay, span(traceId=TRACE))
        assert relay.run("destination pause", "here").returncode == 0
        relay.write_config({"here": both["here"], "new": {"endpoint": NOBODY}})
        assert relay.ask("POST", "/api/reload")[0] == 200
        text = where(relay, TRACE)

    assert f"waiting    for here ({NOBODY}) since" in text
    assert ": paused" in text
    assert "waiting    for left since" in text
    assert "it is no longer in the configuration" in text
    assert "not owed   to new: it was added later" in text


def test_what_gave_way_is_told_as_evicted(tmp_path: Path) -> None:
    with Relay(tmp_path, {"up": {"endpoint": NOBODY}}) as relay:
        post(relay, span(traceId=TRACE))
        assert relay.stop() == 0
        at_ns = time.time_ns()
        database = apsw.Connection(str(relay.state_dir / "relay.db"))
        with database:
            database.execute(
                "UPDATE destinations SET ranges = ?",
                (owed_ranges.encode(owed_ranges.open_from(2)),),
            )
            database.execute(
                "INSERT INTO deliveries VALUES (NULL, 'up', 1, 0, 2, 0, ?, ?)",
                (at_ns, EVICTED_STATUS),
            )
        database.close()
        relay.start()
        text = where(relay, TRACE)
        (found,) = document(relay, TRACE)["destinations"]

    assert f"evicted    undelivered for up at {found['at']}: space was short" in text
    assert (found["state"], found["status"]) == ("evicted", 0)


def test_requests_of_a_trace_that_fare_differently_are_told_one_by_one(tmp_path: Path) -> None:
    with MockCollector(script="ok,503*") as upstream:
        with Relay(tmp_path, {"up": {"endpoint": upstream.endpoint}}) as relay:
            post(relay, span(traceId=TRACE), service="first")
            eventually(lambda: states(relay, TRACE) == {"up": "delivered"})
            post(relay, span(traceId=TRACE), service="second")
            eventually(lambda: states(relay, TRACE) == {"up": "waiting"})
            lines = where(relay, TRACE).splitlines()

    at = next(number for number, line in enumerate(lines) if "from first" in line)
    assert lines[at + 1].strip().startswith("up: delivered at")
    assert "from second" in lines[at + 2]
    assert lines[at + 3].strip() == "up: waiting"


def test_partial_success_says_how_many_were_refused(tmp_path: Path) -> None:
    with MockCollector(script="partial=1:names are too long,ok*") as upstream:
        with Relay(tmp_path, {"up": {"endpoint": upstream.endpoint}}) as relay:
            post(relay, span(traceId=TRACE), span(traceId=TRACE))
            eventually(lambda: relay.status()["buffer"]["dead_letters"])
            text = where(relay, TRACE)

    assert "delivered  to up" in text
    assert "upstream_partial, 1 of 2 spans: 1 of 2 refused, not known which" in text
    assert "names are too long" in text
