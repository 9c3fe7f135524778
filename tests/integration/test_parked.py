"""One span that its upstream answers 500 to for ever, with a real relay: the others go on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mockcollector.rules import Check, Payload, Refused
from mockcollector.server import MockCollector
from mockcollector.signals import Signal
from tests.support.builders import request, span
from tests.support.relay_process import Relay, eventually

pytestmark = pytest.mark.proofs
BAD, GOOD = "0bad7651916cd43dd8448eb211c80319", "0fee7651916cd43dd8448eb211c80319"
BAD_SPAN = "0bad000000000001"


def set_checks(collector: MockCollector, *checks: Check) -> None:
    traces = collector._app.rules[Signal.TRACES]
    collector._app.rules[Signal.TRACES] = replace(traces, checks=checks)


@contextmanager
def fragile_collector() -> Iterator[MockCollector]:
    """Answers 500 to any request that holds the span."""

    def check(payload: Payload) -> None:
        if BAD_SPAN.encode() in payload.body or bytes.fromhex(BAD_SPAN) in payload.body:
            raise Refused(500, "list index out of range")

    with MockCollector() as collector:
        set_checks(collector, check)
        yield collector


def post(relay: Relay, *spans: dict[str, Any]) -> None:
    assert relay.post(request(*spans))[0] == 200


def is_stepped_around(relay: Relay) -> bool:
    found = relay.destination("up")
    return (found["state"], found["waiting_spans"], found["stepped_around_spans"]) == ("idle", 1, 1)


def where(relay: Relay, trace_id: str) -> str:
    shown = relay.run("where", trace_id)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


def test_span_that_is_answered_500_holds_up_no_other_and_arrives_once_it_is_taken(
    tmp_path: Path,
) -> None:
    with (
        fragile_collector() as upstream,
        Relay(tmp_path, {"up": {"endpoint": upstream.endpoint}}) as relay,
    ):
        post(relay, span(traceId=GOOD), span(traceId=BAD, spanId=BAD_SPAN), span(traceId=GOOD))
        eventually(lambda: relay.destination("up")["state"] == "waiting")
        for number in range(20):
            post(relay, span(name=f"early-{number}"))
        eventually(lambda: is_stepped_around(relay), seconds=45)
        names = {each.name for each in upstream.journal.spans()}
        assert names >= {f"early-{number}" for number in range(20)}
        assert len(upstream.journal.by_trace(GOOD)) == 2

        (warning,) = relay.destination("up")["warnings"]
        said = "up answered 500 Internal Server Error: “list index out of range”"
        assert warning.startswith(f"1 span parked: {said}, each time while others pass;")
        assert "retried alone, next in " in warning
        assert f"up: {warning.partition(', next')[0]}" in relay.run("status").stdout
        assert (
            'otlp_relay_stepped_around_spans{destination="up",signal="traces"} 1.0'
            in relay.get("/metrics", parse=False)[1]
        )
        text = where(relay, BAD)
        assert f": {said}\n" in text
        assert "1 span parked so that others pass: retried alone, next at 20" in text
        assert "`otlp-relay destination resume up`" in text
        assert f"delivered  to up ({upstream.endpoint})" in where(relay, GOOD)
        assert "waiting" not in where(relay, GOOD)

        relay.kill()
        relay.start()
        eventually(lambda: relay.destination("up")["state"] == "waiting")
        post(relay, span(name="late"), span(name="later"))
        eventually(lambda: is_stepped_around(relay), seconds=45)
        assert upstream.journal.by_name("late")

        set_checks(upstream)
        assert relay.run("destination resume", "up").returncode == 0
        eventually(lambda: relay.destination("up")["waiting_spans"] == 0)
        assert [each.name for each in upstream.journal.by_trace(BAD)]
        assert relay.destination("up")["warnings"] == []
        assert "delivered  to up" in where(relay, BAD)
        assert relay.status()["buffer"]["dead_letters"] == 0
        log = relay.log()
        assert log.count("span_stepped_around") == 2
        assert log.count("span_got_through") == 1
