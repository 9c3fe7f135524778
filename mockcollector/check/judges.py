"""Judges that several scenarios share: evidence in, a finding out.

A judge never passes an exporter for what did not happen: where nothing arrived it has failed, and
where the command was ended before it came to this signal nothing is said.
"""

import functools
from collections.abc import Callable

from mockcollector.check.evidence import Evidence, Finding, Judge, failed, not_applicable, passed
from mockcollector.signals import TRAITS, Signal

# What is told for certain in spite of a busy machine, and of clocks that show whole seconds.
_EARLY_SECONDS = 0.3
_HAMMERING_SECONDS = 0.05


def needs_a_request(judge: Judge) -> Judge:
    """The judge for where something arrived; else it is said why not."""

    @functools.wraps(judge)
    def judged(evidence: Evidence) -> Finding:
        wire = evidence.wire
        if wire.attempts:
            return judge(evidence)
        # What befell another signal may have ended the command before it came to this one.
        if wire.elsewhere and wire.exit_code != evidence.plain.exit_code:
            return not_applicable(
                "the command ended before it came to this signal: check it with one signal alone"
            )
        return failed("nothing arrived")

    return judged


@needs_a_request
def is_retried(evidence: Evidence) -> Finding:
    """The first request failed in a way that is no fault of its own."""
    wire = evidence.wire
    if not wire.again:
        return failed("it was not sent again")
    if not any(each.request.accepted_count for each in wire.again):
        return failed(f"it was sent again {_times(len(wire.again))}, and never accepted")
    if sum(each.status == 200 for each in wire.again) > 1:
        return failed("it was accepted, and sent again all the same")
    return passed(f"sent again after {wire.gaps[0]:.1f} s and accepted")


@needs_a_request
def is_not_retried(evidence: Evidence) -> Finding:
    """The first request was answered once and for all."""
    again = evidence.wire.again
    if again:
        return failed(f"it was sent again {_times(len(again))}")
    return passed("not sent again")


def waits(seconds: float) -> Judge:
    """Whether the first retry comes no sooner than it was asked to."""

    @needs_a_request
    def judged(evidence: Evidence) -> Finding:
        gaps = evidence.wire.gaps
        if not gaps:
            return failed("it was not sent again at all")
        words = f"sent again after {gaps[0]:.1f} s, asked for {seconds:g} s"
        return passed(words) if gaps[0] >= seconds - _EARLY_SECONDS else failed(words)

    return judged


@needs_a_request
def backs_off(evidence: Evidence) -> Finding:
    """Whether three retries come at growing intervals."""
    gaps = evidence.wire.gaps
    shown = ", ".join(f"{gap:.2f} s" for gap in gaps)
    if not gaps:
        return not_applicable("it was not sent again at all")
    if max(gaps) < _HAMMERING_SECONDS:
        return failed(f"sent again without a pause: {shown}")
    if len(gaps) < 3:
        return not_applicable(f"too few retries to tell: {shown}")
    if max(gaps[1:]) < gaps[0] * 1.15:
        return failed(f"the pauses do not grow: {shown}")
    return passed(f"pauses of {shown}")


@needs_a_request
def sends_the_same(evidence: Evidence) -> Finding:
    """Whether what is retried has the ids that it had."""
    wire, plain = evidence.wire, evidence.plain
    if wire.again:
        return passed("the same data was sent again")
    if wire.sent > plain.sent:
        items = TRAITS[evidence.signal].items
        return failed(f"{wire.sent} different {items} came, and without the failure {plain.sent}")
    return not_applicable("nothing was sent again")


@needs_a_request
def all_arrives(evidence: Evidence) -> Finding:
    """Whether as much was accepted as in the run without faults.

    Of data points it is any: how many there are changes from one collection to the next.
    """
    traits = TRAITS[evidence.signal]
    got, wanted = evidence.wire.accepted, evidence.plain.accepted
    if evidence.signal is Signal.METRICS:
        return passed(f"{got} accepted") if got else failed("none was accepted")
    words = f"{got} of {traits.counted(wanted)} accepted"
    return passed(words) if got >= wanted else failed(words)


def of_several(judge: Judge) -> Judge:
    """The judge for where the command makes several requests of the signal."""

    @needs_a_request
    def judged(evidence: Evidence) -> Finding:
        if len({each.key for each in evidence.wire.attempts}) < 2 and _sends_few(evidence):
            return not_applicable("the command makes one request of this signal only")
        return judge(evidence)

    return judged


def _sends_few(evidence: Evidence) -> bool:
    singles = evidence.others.get("singles")
    return singles is None or len({each.key for each in singles.attempts}) < 2


def tells(text: str) -> Judge:
    """Whether the command's output has this text, in which {signal} is the signal."""

    @needs_a_request
    def judged(evidence: Evidence) -> Finding:
        if evidence.wire.says(text.replace("{signal}", evidence.signal)):
            return passed("the message was printed")
        return failed("the message was not in the output of the command")

    return judged


def if_offered(header: str, text: str, judge: Judge) -> Judge:
    """The judge for exporters whose request has a header with this text in it."""

    @needs_a_request
    def judged(evidence: Evidence) -> Finding:
        first = evidence.wire.first
        value = (first.request.header(header) if first else None) or ""
        if text not in value.lower():
            return not_applicable(f"its requests do not say {header}: {text}")
        return judge(evidence)

    return judged


def tells_of_failure(judge: Callable[[Evidence], Finding | None]) -> Judge:
    """What `judge` finds; where it finds nothing, whether the failure was told at all.

    An exporter that tells of no failure, not even of a 400, cannot be judged by what it prints.
    """

    @needs_a_request
    def judged(evidence: Evidence) -> Finding:
        found = judge(evidence)
        if found is not None:
            return found
        if _tells(evidence, evidence.wire.output, evidence.wire.exit_code):
            return passed("the failure was told")
        final = evidence.others.get("final-400")
        if final is None or not _tells(evidence, final.output, final.exit_code):
            return not_applicable("the command tells of no failure, not even of a 400")
        return failed("taken for a success: nothing was printed, as it is for a 400")

    return judged


def _tells(evidence: Evidence, output: str, exit_code: int | None) -> bool:
    """Whether this run ended otherwise than the plain one, or printed lines of another kind."""
    plain = evidence.plain
    if exit_code != plain.exit_code:
        return True
    return len(output.splitlines()) > len(plain.output.splitlines())


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
