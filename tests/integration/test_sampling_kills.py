"""Tail sampling under kill -9: traces in pieces, out of order, late, for two rules at once.

Every trace with a span worth keeping is whole at its destination, of the others exactly those whose
chance it is, and a destination without sampling has everything.
"""

import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from relay.process.sample.probability import RatioSampler
from tests.support.builders import END, START, protobuf_twin, request, span, text_attribute
from tests.support.relay_process import Relay, eventually

Json = dict[str, Any]
PROTOBUF = {"Content-Type": "application/x-protobuf"}
WAIT_SECONDS = 5.0
# Between what this test measures and what the relay does: commits and clocks.
MARGIN_SECONDS = 1.0
RULES: dict[str, Json] = {
    "errors": {"ratio": 0.25, "keep": 'status == "ERROR"'},
    "paid": {"ratio": 0.1, "keep": '"paid" in attributes && attributes["paid"]'},
}


@dataclass
class Trace:
    trace_id: str = field(default_factory=lambda: os.urandom(16).hex())
    spans: list[Json] = field(default_factory=list)
    kept_by: dict[str, list[float]] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)

    def must_be_whole_at(self, name: str) -> bool:
        """Whether something worth keeping came in time for each span of it."""
        most = WAIT_SECONDS - MARGIN_SECONDS
        return any(
            all(abs(kept - each) < most for each in self.times)
            for kept in self.kept_by.get(name, ())
        )


class Load:
    """Traces in pieces, shuffled; what was answered 200, and when."""

    def __init__(self, relay: Relay, seed: int) -> None:
        self.random = random.Random(seed)
        self.relay = relay
        self.traces: list[Trace] = []
        self._waiting: list[tuple[Trace, Json, str]] = []

    def make(self, traces: int) -> None:
        for _ in range(traces):
            trace = Trace()
            self.traces.append(trace)
            kind = self.random.choices(["", "errors", "paid"], [6, 1, 1])[0]
            count = self.random.randint(1, 5)
            marked = self.random.randrange(count)
            for n in range(count):
                made = span(
                    traceId=trace.trace_id,
                    spanId=os.urandom(8).hex(),
                    name=f"{n}",
                    startTimeUnixNano=START,
                    endTimeUnixNano=END,
                    attributes=[text_attribute("pad", "x" * 50)],
                )
                is_marked = n == marked and kind
                if is_marked and kind == "errors":
                    made["status"] = {"code": 2}
                elif is_marked:
                    made["attributes"].append({"key": "paid", "value": {"boolValue": True}})
                self._waiting.append((trace, made, kind if is_marked else ""))

    def post_all(self, *, requests: int, seconds: float) -> None:
        """Post what waits, in that many requests over about so long."""
        self.random.shuffle(self._waiting)
        size = -(-len(self._waiting) // requests)
        while self._waiting:
            part, self._waiting = self._waiting[:size], self._waiting[size:]
            made = request(*(each for _, each, _ in part))
            if self.random.random() < 0.5:
                twin = protobuf_twin(made).SerializeToString()
                status = self.relay.post(twin, headers=PROTOBUF)[0]
            else:
                status = self.relay.post(made)[0]
            assert status == 200
            now = time.monotonic()
            for trace, each, kept_by in part:
                trace.spans.append(each)
                trace.times.append(now)
                if kept_by:
                    trace.kept_by.setdefault(kept_by, []).append(now)
            time.sleep(seconds / requests)  # a load has a rate


@pytest.mark.proofs
@pytest.mark.parametrize("seed", [1, 2])
def test_no_kill_changes_what_is_decided(tmp_path: Path, seed: int) -> None:
    collectors = {name: MockCollector() for name in ("everything", *RULES)}
    for each in collectors.values():
        each.start()
    destinations: dict[str, Json] = {
        name: {"endpoint": each.endpoint} for name, each in collectors.items()
    }
    for name, rule in RULES.items():
        destinations[name]["sample"] = {**rule, "wait": f"{WAIT_SECONDS:g}s"}
    # Delivered rows go as soon as they may: a restart must find what it needs all the same.
    settings = '[buffer]\nkeep_delivered = "0s"\n'
    try:
        with Relay(tmp_path, destinations, settings=settings) as relay:
            load = Load(relay, seed)
            for _ in range(5):
                for _ in range(2):
                    load.make(200)
                    load.post_all(requests=12, seconds=1.0)
                time.sleep(load.random.random() * WAIT_SECONDS)  # any moment of the lag
                relay.kill()
                relay.start()
            eventually(
                lambda: all(
                    not (it["held_spans"] or it["waiting_spans"])
                    for it in map(relay.destination, destinations)
                ),
                seconds=60,
                what="everything decided and sent",
            )
            relay.stop()
    finally:
        for each in collectors.values():
            each.stop()
    check(load.traces, {name: ids_at(each) for name, each in collectors.items()})


def ids_at(collector: MockCollector) -> set[str]:
    return {each.span_id for each in collector.journal.spans()}


def check(traces: list[Trace], arrived: dict[str, set[str]]) -> None:
    every = {each["spanId"] for trace in traces for each in trace.spans}
    assert arrived["everything"] == every
    for name, rule in RULES.items():
        sampler, whole, chance, sent = RatioSampler(rule["ratio"]), 0, 0, 0
        for trace in traces:
            own = {each["spanId"] for each in trace.spans}
            there = own & arrived[name]
            if trace.must_be_whole_at(name):
                whole += 1
                assert there == own, (name, trace)
            elif sampler.keeps(trace.trace_id):
                assert there == own, (name, trace)
            elif name not in trace.kept_by:
                assert not there, (name, trace)
            if name not in trace.kept_by:
                chance += 1
                sent += bool(there)
        assert whole > 100  # else the load is too slow to prove anything
        expected = chance * rule["ratio"]
        assert abs(sent - expected) < 4.5 * (expected * (1 - rule["ratio"])) ** 0.5
