"""Each row of the table of outcomes, at once and mixed, against as many scripted collectors.

One relay, a destination for each fault, and a healthy one that must not notice. First every
upstream has its fault, then spans come, then, once each destination is in the state that its fault
asks for, all faults end. The oracle is that of every trial; where a fault condemns spans, exactly
those must be dead letters, with the upstream's status in them.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from mockcollector.rules import Check, Payload, Refused
from mockcollector.script import Script, cut, cut_answer, hang, ok, partial, refuse
from mockcollector.script_values import Answer, Ending
from mockcollector.server import MockCollector
from mockcollector.signals import Signal
from tests.support.load import MIXED, SIGNALS, LoadRequest, nth_request, signal_of
from tests.support.relay_process import eventually
from tests.trials.relays import Trial, only
from tests.trials.rows import Row

WELL = "well"
TIMEOUT_SECONDS = 1
# A healthy destination has every span within this, whatever the others do. (Its own rest between
# small requests is 10 ms; the rest is a machine with much to do.)
WELL_SECONDS = 5.0
# Where the time of a neighbour is judged, the load is paced: senders that post as soon as they are
# answered outrun the collectors, which are threads of this one process, and then those are judged.
# Requests a second of all senders, of five items each; and what part of them must be reached.
PER_SECOND, LEAST_SHARE = 40.0, 0.9
BLOCKED, WAITING, DELIVERED, AROUND = "blocked", "waiting", "delivered", "stepped around"


@dataclass(frozen=True)
class Fault:
    """What an upstream does.

    `answers` come first, then `default` until the faults end. `state` is what the destination comes
    to meanwhile: "blocked", "waiting", "delivered", when it gets over the fault by itself, or
    "stepped around", when only those items wait that the upstream cannot bear.
    """

    name: str
    state: str
    answers: tuple[Answer, ...] = ()
    default: Answer | None = None
    status: int = 0
    condemns: int = 0  # so many items of each signal, each by itself
    limit_bytes: int = 0  # more than that is a 413
    is_down: bool = False
    is_slamming: bool = False  # takes the connection and closes it at once
    dead_reason: str = ""


def _always(status: int, state: str, label: str = "", **options: object) -> Fault:
    answer = refuse(status, times=None, **options)
    return Fault(f"s{status}{label}", state, default=answer, status=status)


FAULTS: tuple[Fault, ...] = (
    *(_always(status, BLOCKED) for status in (401, 402, 403, 404, 405, 407, 409, 415)),
    *(_always(status, BLOCKED) for status in (400, 413, 422)),
    *(
        _always(status, BLOCKED, headers={"location": "http://127.0.0.1:1/elsewhere"})
        for status in (301, 302, 307, 308)
    ),
    *(_always(status, WAITING) for status in (408, 425, 429, 500, 501, 502, 503, 504, 507)),
    _always(429, WAITING, "-seconds", retry_after=3000),
    _always(503, WAITING, "-date", retry_after=timedelta(seconds=3000)),
    _always(502, WAITING, "-garbage", body=b"\x00\xff<html>" * 100, content_type="text/html"),
    _always(401, BLOCKED, "-garbage", body=b"{" * 5000, content_type="application/json"),
    Fault("refused", WAITING, is_down=True),
    Fault("slams", WAITING, is_slamming=True),
    Fault("hangs", WAITING, default=hang(times=None)),
    Fault("cut", WAITING, default=cut(times=None)),
    # Its status line was a success: the items are taken.
    Fault("cut-answer", DELIVERED, default=cut_answer(times=None)),
    Fault("slow", DELIVERED, default=ok(delay_seconds=0.2, times=None)),
    Fault(
        "odd-success",
        DELIVERED,
        default=ok(content_type="text/plain", body="fine", times=None),
    ),
    Fault("empty-success", DELIVERED, default=Answer(status=204, times=None)),
    Fault(
        "partial",
        DELIVERED,
        answers=(partial(2, "names too long"),),
        status=200,
        dead_reason="upstream_partial",
    ),
    Fault("culprit-400", DELIVERED, condemns=2, status=400, dead_reason="upstream_refused"),
    Fault("culprit-422", DELIVERED, condemns=1, status=422, dead_reason="upstream_refused"),
    Fault("breaks-500", AROUND, condemns=1, status=500),
    Fault("too-large", DELIVERED, limit_bytes=4000, status=413),
    Fault("mends-413", DELIVERED, answers=(refuse(413, times=2),)),
    Fault("mends-429", DELIVERED, answers=(refuse(429, retry_after=0, times=2),)),
)


@dataclass
class Upstream:
    """A collector with its fault, and how that ends."""

    fault: Fault
    collector: MockCollector
    condemned: set[str] = field(default_factory=set)
    _slammer: "Slammer | None" = None

    def begin(self) -> None:
        """From now on the fault is there."""
        fault, collector = self.fault, self.collector
        collector.script.replace(fault.answers)
        if fault.default is not None:
            collector.script.default = fault.default
        if fault.condemns or fault.limit_bytes:
            self._set_checks(self._check)
        if fault.is_down or fault.is_slamming:
            collector.stop()
        if fault.is_slamming:
            self._slammer = Slammer(collector.port)

    def end(self) -> None:
        """The upstream is well again; what it was to refuse for good stays so."""
        if self.fault.state == AROUND:
            self._set_checks()
        self.collector.script.clear()
        self.collector.script.default = ok(times=None)
        if self._slammer is not None:
            self._slammer.stop()
            self._slammer = None
        if not self.collector.is_running:
            self.collector.start()
        self.collector.release()

    def _set_checks(self, *checks: Check) -> None:
        rules = self.collector._app.rules
        for signal in Signal:
            rules[signal] = replace(rules[signal], checks=checks)

    def _check(self, payload: Payload) -> None:
        fault = self.fault
        if fault.limit_bytes and len(payload.body) > fault.limit_bytes:
            raise Refused(413, f"more than {fault.limit_bytes} bytes")
        if any(each.encode() in payload.body for each in self.condemned):
            raise Refused(fault.status, "an item of this batch has a bad name")


class Slammer:
    """Takes every connection and closes it before a byte was read."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                self._listener.accept()[0].close()

    def stop(self) -> None:
        """Listen no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def matrix(*, seed: int, requests: int = 12, items: int = 4) -> Row:
    """Every fault at once."""
    names = (WELL, *(fault.name for fault in FAULTS))
    keys = {"timeout": f"{TIMEOUT_SECONDS}s"}
    with Trial("fault matrix", seed, names=names, keys=keys) as trial:
        upstreams = {each.name: Upstream(each, trial.collectors[each.name]) for each in FAULTS}
        made = [
            nth_request(number, items, padding="x" * trial.random.randrange(300))
            for number in range(requests)
        ]
        ids = {each for request in made for each in request.ids}
        # Something of its kind is behind each: what is alone in the end only waits.
        early = [each for request in made[: -len(MIXED)] for each in request.ids]
        for upstream in upstreams.values():
            for signal in SIGNALS:
                own = [each for each in early if signal_of(each) == signal]
                upstream.condemned.update(trial.random.sample(own, upstream.fault.condemns))
            upstream.begin()
        try:
            _send(trial, made)
            _wait_for_states(trial)
        finally:
            for upstream in upstreams.values():
                upstream.end()
        trial.nudge()
        trial.wait_until_delivered(ids)
        row = trial.row(ids)
        problems = [p for upstream in upstreams.values() for p in _compare(trial, upstream)]
        return replace(row, problems=(*row.problems, *problems))


def _send(trial: Trial, made: list[LoadRequest]) -> None:
    """Post them all; the healthy destination has them soon."""
    for request in made:
        status, answer = trial.relay.send(request)
        if status != 200:
            trial.problems.append(f"answered {status}: {answer[:200]!r}")
    ids = {each for request in made for each in request.ids}
    began = time.monotonic()
    try:
        eventually(
            lambda: trial.recorders[WELL].holds(ids), seconds=WELL_SECONDS, what="the healthy one"
        )
    except AssertionError:
        left = ids - trial.recorders[WELL].ids
        seconds = time.monotonic() - began
        trial.problems.append(f"{WELL} misses {len(left)} items after {seconds:.1f} s")


def _wait_for_states(trial: Trial) -> None:
    """Until each destination is where its fault puts it."""
    faults = {fault.name: fault for fault in FAULTS}

    def astray() -> list[str]:
        return [
            f"{found['name']}, {found['signal']} is {found['state']}: {found['reason']}"
            for found in trial.relay.status()["destinations"]
            if found["name"] in faults and not _is_there(faults[found["name"]], found)
        ]

    try:
        eventually(lambda: not astray(), seconds=45, what="the states that faults ask for")
    except AssertionError:
        trial.problems += astray()


def _is_there(fault: Fault, found: dict[str, object]) -> bool:
    if fault.state == DELIVERED:
        return found["waiting_spans"] == 0
    if fault.state == AROUND:
        return found["waiting_spans"] == found["stepped_around_spans"] == fault.condemns
    if found["state"] != fault.state or not found["waiting_spans"]:
        return False
    return not fault.status or str(fault.status) in str(found["reason"])


def _compare(trial: Trial, upstream: Upstream) -> Iterable[str]:
    """Whether the dead letters of a destination are exactly those that its fault asks for."""
    fault = upstream.fault
    dead = trial.letters.get(fault.name, {})

    def expected(said: str) -> bool:
        return said.startswith(f"{fault.dead_reason} {fault.status} ")

    if fault.condemns and fault.dead_reason and dead.keys() != upstream.condemned:
        yield f"{fault.name}: dead are {sorted(dead)}, condemned were {sorted(upstream.condemned)}"
    if fault.dead_reason and not dead:
        yield f"{fault.name}: no dead letter"
    if not fault.dead_reason and dead:
        yield f"{fault.name}: dead without cause: {sorted(set(dead.values()))[:2]}"
    for said in sorted(set(dead.values())):
        if fault.dead_reason and not expected(said):
            yield f"{fault.name}: a dead letter says {said!r}"


_MIXED: tuple[Callable[[], Answer], ...] = (
    *(lambda status=status: refuse(status) for status in (401, 403, 404, 415, 429, 500, 503)),
    lambda: refuse(503, retry_after=0),
    lambda: refuse(429, retry_after=timedelta(seconds=1)),
    lambda: refuse(400),
    lambda: refuse(413),
    ok,
    ok,
    cut,
    cut_answer,
    lambda: ok(delay_seconds=0.05),
    lambda: partial(1, "one too many"),
    lambda: refuse(500, body=b"\xff" * 10, content_type="text/plain"),
)


def mixed(*, seed: int, waves: int = 12) -> Row:
    """Random faults in any order at two destinations at once, while spans come in."""
    with Trial("mixed faults", seed, keys={"timeout": f"{TIMEOUT_SECONDS}s"}) as trial:
        with trial.load(items=3) as load:
            for _ in range(waves):
                for collector in trial.collectors.values():
                    collector.script.add(
                        trial.random.choice(_MIXED)() for _ in range(trial.random.randrange(1, 6))
                    )
                load.wait_for_more(30)
                trial.nudge()
        for collector in trial.collectors.values():
            eventually(
                lambda script=collector.script: _is_used_up(trial, script),  # type: ignore[misc]
                seconds=60,
                what="the end of the script",
            )
        trial.nudge()
        trial.wait_until_delivered(load.acknowledged)
        trial.problems += only(load, {200})
        return trial.row(load.acknowledged)


def _is_used_up(trial: Trial, script: Script) -> bool:
    """Whether every answer was given; who waits is told to come again."""
    if not script.left:
        return True
    trial.nudge()
    return not any(map(trial.relay.owed, trial.names))


def away(status: int, *, seed: int, seconds: float) -> Row:
    """One upstream answers `status` for so long under a load of `PER_SECOND`, as peers were
    measured: the other one has everything in time.
    """
    with Trial(f"upstream says {status} for {seconds:g} s", seed) as trial:
        left, right = trial.names
        with trial.load(per_second=PER_SECOND) as load:
            load.wait_for_more(20)
            trial.collectors[left].script.default = refuse(status, times=None)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                load.wait_for_more(20)
                known = set(load.acknowledged)
                try:
                    eventually(
                        lambda known=known: trial.recorders[right].holds(known),  # type: ignore[misc]
                        seconds=WELL_SECONDS,
                    )
                except AssertionError:
                    trial.problems.append(
                        f"{right} is held up by {left}: it misses "
                        f"{len(known - trial.recorders[right].ids)} items after {WELL_SECONDS} s"
                    )
            trial.collectors[left].script.default = ok(times=None)
        if load.reached < PER_SECOND * LEAST_SHARE:
            trial.problems.append(
                f"the load came to {load.reached:.1f} requests a second of {PER_SECOND:g}: "
                "too slow to prove anything"
            )
        trial.nudge()
        trial.wait_until_delivered(load.acknowledged)
        trial.problems += only(load, {200})
        return trial.row(load.acknowledged)


def slow(*, seed: int, seconds: float) -> Row:
    """One upstream takes half a second for each request, under load."""
    with Trial("slow upstream", seed) as trial:
        left, _right = trial.names
        trial.collectors[left].script.default = Answer(
            delay_seconds=0.5, ending=Ending.ANSWER, times=None
        )
        # A batch is of one encoding: were they mixed, it would take hundreds of requests.
        with trial.load(kinds=[(signal, "json") for signal in SIGNALS]) as load:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                load.wait_for_more(50)
        trial.wait_until_delivered(load.acknowledged)
        trial.problems += only(load, {200})
        return trial.row(load.acknowledged)
