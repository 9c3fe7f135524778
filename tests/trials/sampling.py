"""Tail sampling under kill -9: traces in pieces, out of order, late, for two rules at once.

Every trace with a span worth keeping is whole at its destination, of the others exactly those whose
chance it is, and a destination without sampling has everything.
"""

import os
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mockcollector.server import MockCollector
from relay.process.sample.probability import RatioSampler
from tests.support.builders import END, START, protobuf_twin, request, span, text_attribute
from tests.support.relay_process import Relay, eventually
from tests.trials.rows import Counts, Row

Json = dict[str, Any]
PROTOBUF = {"Content-Type": "application/x-protobuf"}
WAIT_SECONDS = 5.0
# Between what this test measures and what the relay does: commits and clocks.
MARGIN_SECONDS = 1.0
RULES: dict[str, Json] = {
    "errors": {"ratio": 0.25, "keep": 'status == "ERROR"'},
    "paid": {"ratio": 0.1, "keep": '"paid" in attributes && attributes["paid"]'},
}
# Beside its sample one of them takes not every span; `keep` looks at those, too.
MATCHED, MATCH = "paid", 'name != "0"'
TRIAL = "sampling"


@dataclass
class Trace:
    """Its spans as they were answered with 200, when, and by which rules it is worth keeping."""

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
        self._posted = 0
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

    def post_all(self, *, requests: int, everything: MockCollector) -> None:
        """Post what waits, in that many requests, each when `everything` has the spans before."""
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
            self._posted += len(part)
            everything.journal.wait_for_spans(self._posted, timeout=30)


def trial(seed: int, times: int = 5) -> Row:
    """Killed so many times, at any moment of the lag."""
    names = ("everything", *RULES)
    with ExitStack() as stack:
        collectors = {name: stack.enter_context(MockCollector()) for name in names}
        destinations: dict[str, Json] = {
            name: {"endpoint": each.endpoint} for name, each in collectors.items()
        }
        for name, rule in RULES.items():
            destinations[name]["sample"] = {**rule, "wait": f"{WAIT_SECONDS:g}s"}
        destinations[MATCHED]["match"] = MATCH
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Delivered rows go as soon as they may: a restart must find what it needs all the same.
        settings = '[buffer]\nkeep_delivered = "0s"\n'
        with Relay(folder, destinations, settings=settings) as relay:
            load = Load(relay, seed)
            for _ in range(times):
                for _ in range(2):
                    load.make(200)
                    load.post_all(requests=12, everything=collectors["everything"])
                wait_for_decisions(relay, load.random)
                relay.kill()
                relay.start()
            eventually(
                lambda: all(
                    not (it["held_spans"] or it["waiting_spans"])
                    for it in map(relay.destination, destinations)
                ),
                seconds=90,
                what="everything decided and sent",
            )
            relay.stop()
        return sum(
            (judge(name, load.traces, ids_at(each)) for name, each in collectors.items()),
            Row(TRIAL),
        )


def wait_for_decisions(relay: Relay, chance: random.Random) -> None:
    """Until some part of what is held was decided, from nothing to everything."""
    held = relay.destination("errors")["held_spans"]
    left = held * (1.2 * chance.random() - 0.1)
    eventually(
        lambda: relay.destination("errors")["held_spans"] <= max(left, 0),
        seconds=10 * WAIT_SECONDS,
        what="a decision",
    )


def ids_at(collector: MockCollector) -> list[str]:
    return [each.span_id for each in collector.journal.spans()]


def judge(name: str, traces: Sequence[Trace], arrived: Sequence[str]) -> Row:
    """What became of every span for one destination, and what should not have."""
    rule = RULES.get(name, {"ratio": 1.0})
    sampler, there = RatioSampler(rule["ratio"]), set(arrived)
    problems, whole, chance, sent = [], 0, 0, 0
    delivered = filtered = sampled = lost = 0
    for trace in traces:
        every = {each["spanId"] for each in trace.spans}
        own = {each["spanId"] for each in trace.spans if name != MATCHED or each["name"] != "0"}
        found = own & there
        is_chosen = sampler.keeps(trace.trace_id)
        is_whole = trace.must_be_whole_at(name)
        whole += is_whole
        delivered += len(found)
        filtered += len(every - own)
        if is_whole or is_chosen:
            lost += len(own - found)
        else:
            sampled += len(own - found)
        if found and not is_chosen and name not in trace.kept_by:
            problems.append(f"{name}: a trace was sent that is neither chosen nor kept")
        if (every - own) & there:
            problems.append(f"{name}: a span was sent that does not match")
        if name not in trace.kept_by and own:
            chance += 1
            sent += bool(found)
    if name in RULES:
        expected = chance * rule["ratio"]
        if abs(sent - expected) > 4.5 * (expected * (1 - rule["ratio"])) ** 0.5:
            problems.append(f"{name}: {sent} of {chance} is no share of {rule['ratio']}")
        if whole < len(traces) // 20:
            problems.append(f"{name}: the load is too slow to prove anything")
    # How often what was in flight at a kill comes again is the business of other trials.
    again = len(arrived) - len(there)
    counts = Counts(
        acknowledged=delivered + filtered + sampled + lost,
        delivered=delivered,
        lost=lost,
        duplicates=again,
        bound=again,
        filtered=filtered,
        sampled=sampled,
    )
    return Row(TRIAL, {"traces": counts}, tuple(problems))
