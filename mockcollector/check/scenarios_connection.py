"""Scenarios of connections and of time: cut, refused, slow, never-ending, and the shutdown."""

from mockcollector.check import clauses
from mockcollector.check.evidence import Evidence, Finding, Scenario, failed, not_applicable, passed
from mockcollector.check.judges import (
    all_arrives,
    is_not_retried,
    is_retried,
    needs_a_request,
    of_several,
    tells_of_failure,
)
from mockcollector.check.setups import SINGLE, Setup
from mockcollector.script import cut, cut_answer, endless, hang, ok, reset

TIMEOUT_SECONDS = 2.0
_DEFAULT_SECONDS = 10.0
_DRIP_BYTES_PER_SECOND = 1000  # over 4 MiB only after an hour
_ENDING_SECONDS = 1.5
_LATEST = 1.75  # times the timeout: a busy machine is late, and a retry may be within it


def gives_up_after(seconds: float) -> "_GivesUp":
    """Whether the exporter leaves an exchange that does not end, after about so many seconds."""
    return _GivesUp(seconds)


class _GivesUp:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, evidence: Evidence) -> Finding:
        return needs_a_request(self._judge)(evidence)

    def _judge(self, evidence: Evidence) -> Finding:
        first = evidence.wire.attempts[0]
        waited = evidence.wire.seconds - first.at
        left = first.lasted if "left" in first.request.answer else None
        # Where the command was ended by us, its connection closed with it.
        is_ours = evidence.wire.was_ended and left is not None and left > waited - _ENDING_SECONDS
        if left is None or is_ours:
            return failed(f"still waiting after {waited:.1f} s")
        words = f"given up after {left:.1f} s"
        if left > self._seconds * _LATEST:
            return failed(f"{words}, not {self._seconds:g} s")
        return passed(words)


def _half_answer(evidence: Evidence) -> Finding | None:
    return passed("sent again") if evidence.wire.again else None


@needs_a_request
def _leaves_endless_answer(evidence: Evidence) -> Finding:
    wire = evidence.wire
    waited = wire.seconds - wire.attempts[0].at
    latest = _DEFAULT_SECONDS * _LATEST * (1 + bool(wire.elsewhere))
    if not wire.was_ended and waited <= latest:
        return passed(f"the command ended {waited:.1f} s after its request")
    if wire.elsewhere:
        return not_applicable("several signals hang together: check them one by one")
    return failed(f"still reading after {waited:.1f} s")


def _keeps_connection(evidence: Evidence) -> Finding:
    wire = evidence.wire
    words = f"{len(wire.attempts)} requests on {wire.connections} connections"
    if wire.connections < len(wire.attempts):
        return passed(words)
    if wire.is_parallel:
        return not_applicable(f"{words}, at the same time")
    return failed(words)


def _loses_nothing(evidence: Evidence) -> Finding:
    kept = evidence.others.get(KEPT.name)
    if kept is None or kept.connections == len(kept.attempts):
        return not_applicable("it does not use a connection again")
    return all_arrives(evidence)


SINGLES = Setup(name="singles", environ=SINGLE)
# Slow enough that requests which are sent at the same time are seen to be.
KEPT = Setup(name="keep-alive", script=(ok(delay_seconds=0.3, times=None),), environ=SINGLE)
SCENARIOS = (
    Scenario(
        "keep-alive",
        "the connection is kept between requests",
        clauses.KEEP_ALIVE,
        KEPT,
        of_several(_keeps_connection),
    ),
    Scenario(
        "stale-connection",
        "a kept connection that has died loses nothing",
        clauses.STALE,
        Setup(name="stale-connection", script=(ok(closes_at_next=True),), environ=SINGLE),
        of_several(_loses_nothing),
    ),
    Scenario(
        "cut",
        "a request whose connection closes is sent again",
        clauses.CUT,
        Setup(name="cut", script=(cut(),)),
        is_retried,
    ),
    Scenario(
        "reset",
        "so is one whose connection is reset",
        clauses.CUT,
        Setup(name="reset", script=(reset(),)),
        is_retried,
    ),
    Scenario(
        "cut-response",
        "a response that ends in its middle is noticed",
        clauses.HALF_ANSWER,
        Setup(name="cut-response", script=(cut_answer(),)),
        tells_of_failure(_half_answer),
    ),
    Scenario(
        "late-server",
        "a server that is up only later gets it all",
        clauses.CONNECT,
        Setup(name="late-server", is_late=True),
        all_arrives,
    ),
    Scenario(
        "slow-response",
        "a response after 3 s is waited for",
        clauses.PATIENCE,
        Setup(name="slow-response", script=(ok(delay_seconds=3.0),)),
        is_not_retried,
    ),
    Scenario(
        "timeout",
        "OTEL_EXPORTER_OTLP_TIMEOUT=2000 is two seconds",
        clauses.TIMEOUT,
        Setup(
            name="timeout",
            script=(hang(),),
            environ={"OTEL_EXPORTER_OTLP_TIMEOUT": f"{TIMEOUT_SECONDS * 1000:.0f}"},
            limit_seconds=12,
        ),
        gives_up_after(TIMEOUT_SECONDS),
    ),
    Scenario(
        "endless-response",
        "a response that never ends is left",
        clauses.TIMEOUT_DEFAULT,
        Setup(
            name="endless-response",
            script=(endless(bytes_per_second=_DRIP_BYTES_PER_SECOND),),
            limit_seconds=19,
        ),
        _leaves_endless_answer,
    ),
    Scenario(
        "shutdown",
        "the shutdown exports what is left",
        clauses.SHUTDOWN,
        Setup(
            name="shutdown",
            script=(ok(delay_seconds=0.5, times=None),),
            environ={**SINGLE, "OTEL_BSP_SCHEDULE_DELAY": "60000"},
        ),
        all_arrives,
    ),
)
