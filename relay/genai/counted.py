"""Out of all that was told, what is counted: each call once, though parents repeat what their calls
used, and log records, spans and metrics tell of the same ones.

Of a service and session one signal counts: log records, else spans, else metrics. The others only
add what it does not tell (a cost, a first token, tools). Where calls of a service come without a
session that choice is made for the whole service.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from relay.genai.call import TOKENS, Call
from relay.genai.steps import Step
from relay.model.records import Signal

_ORDER: Final = (Signal.LOGS, Signal.TRACES, Signal.METRICS)
_MOST_ANCESTORS: Final = 100
_CALLS: Final = frozenset({"call", "error"})
# What another signal may add, by the kind of a step or the name of an amount.
_ASPECTS: Final[Mapping[str, str]] = {
    "tool": "tools",
    "tool_error": "tools",
    "refusal": "refusals",
    "prompt": "prompts",
    "cost_usd": "cost",
    "latency_count": "latency",
    "latency_sum": "latency",
    "latency_max": "latency",
    "sessions_started": "sessions_started",
    "lines": "lines",
    "active_s": "active_s",
}
_OF_CALLS: Final = frozenset({*TOKENS, "calls", "errors"})


def counted(steps: Iterable[Step]) -> list[Step]:
    """The steps that count, oldest first. What was received twice counts once."""
    of: dict[Signal, list[Step]] = {signal: [] for signal in Signal}
    for step in dict.fromkeys(steps):
        of[step.signal].append(step)
    by_service: defaultdict[str, list[Step]] = defaultdict(list)
    for each in (of[Signal.LOGS], _spans(of[Signal.TRACES]), _points(of[Signal.METRICS])):
        for step in each:
            by_service[step.service].append(step)
    found = [step for own in by_service.values() for step in _of_service(own)]
    return sorted(found, key=lambda step: step.at_ns)


def _spans(spans: list[Step]) -> list[Step]:
    """Calls without those that only repeat what calls below them tell; tools with their outcome;
    all with the session and the user that others of their trace name.
    """
    by_id = {(step.trace_id, step.span_id): step for step in spans}
    repeating: set[tuple[str, str]] = set()
    failed: set[str] = set()
    known: dict[tuple[str, str, str], str] = {}
    for step in spans:
        if step.kind == "error" or (step.kind == "call" and step.call.has_tokens):
            repeating |= _ancestors(step, by_id)
        if step.kind == "outcome" and step.is_error:
            failed |= {step.tool_call_id, step.parent_id}
        for what in ("session", "user"):
            if named := getattr(step, what):
                known.setdefault((what, step.service, step.trace_id), named)
    found = []
    for step in spans:
        if step.kind in ("step", "outcome") or (step.trace_id, step.span_id) in repeating:
            continue
        whose = (step.service, step.trace_id)
        has_failed = step.kind == "tool" and bool({step.tool_call_id, step.span_id} & failed - {""})
        found.append(
            replace(
                step,
                session=step.session or known.get(("session", *whose), ""),
                user=step.user or known.get(("user", *whose), ""),
                is_error=step.is_error or has_failed,
            )
        )
    return found


def _ancestors(step: Step, by_id: Mapping[tuple[str, str], Step]) -> set[tuple[str, str]]:
    """The spans above a call that say they are the same."""
    found: set[tuple[str, str]] = set()
    above = by_id.get((step.trace_id, step.parent_id))
    for _level in range(_MOST_ANCESTORS):
        if above is None or above is step:
            break
        if above.kind == step.kind:
            found.add((above.trace_id, above.span_id))
        above = by_id.get((above.trace_id, above.parent_id))
    return found


def _points(points: list[Step]) -> list[Step]:
    """Of series that go on counting the newest point since each start; of tokens that are counted
    by a name of the sender's own not those by the conventions' name as well.
    """
    newest: dict[Any, Step] = {}
    for number, step in enumerate(points):
        key = (step.series, step.started_ns) if step.series else number
        if key not in newest or newest[key].at_ns < step.at_ns:
            newest[key] = step
    own = {
        step.service
        for step in newest.values()
        if any(name in TOKENS and kind != "convention" for name, kind, _number in step.amounts)
    }
    return [
        _with_amounts(step, lambda name, kind: kind != "convention" or name not in TOKENS)
        if step.service in own
        else step
        for step in newest.values()
    ]


def _with_amounts(step: Step, is_wanted: Any) -> Step:
    return replace(step, amounts=tuple(each for each in step.amounts if is_wanted(*each[:2])))


def _tells_calls(step: Step) -> bool:
    return step.kind in _CALLS or any(name in _OF_CALLS for name, _kind, _n in step.amounts)


def _of_service(steps: list[Step]) -> list[Step]:
    is_by_session = all(step.session for step in steps if _tells_calls(step))
    groups: defaultdict[str, list[Step]] = defaultdict(list)
    for step in steps:
        groups[step.session if is_by_session else ""].append(step)
    return [step for group in groups.values() for step in _of_group(group)]


def _of_group(steps: list[Step]) -> list[Step]:
    """The steps of the signal that counts, with what the others add."""
    by_signal = {signal: [step for step in steps if step.signal is signal] for signal in _ORDER}
    ranked = sorted(_ORDER, key=lambda signal: not any(map(_tells_calls, by_signal[signal])))
    best, *others = (by_signal[signal] for signal in ranked)
    found = _joined(best, [step for other in others for step in other])
    told = {_aspect for step in found for _aspect in _aspects_of(step)}
    for other in others:
        more = [step for each in other if (step := _adding(each, told))]
        if any(name == "cost_usd" for step in more for name, _kind, _number in step.amounts):
            found = [replace(step, has_cost_elsewhere=True) for step in found]
        told |= {aspect for step in more for aspect in _aspects_of(step)}
        found += more
    return found


def _aspects_of(step: Step) -> set[str]:
    names = {step.kind, *(name for name, _kind, _number in step.amounts)}
    found = {_ASPECTS[name] for name in names & _ASPECTS.keys()}
    if step.call.cost_usd is not None:
        found.add("cost")
    if step.latency_ms is not None and step.kind in ("call", "latency"):
        found.add("latency")
    return found


def _adding(step: Step, told: set[str]) -> Step | None:
    """What of a step of another signal is told by none before; None when it is nothing."""
    if step.kind == "usage":
        left = _with_amounts(step, lambda name, _kind: _ASPECTS.get(name, "") not in {*told, ""})
        return left if left.amounts else None
    return step if _ASPECTS.get(step.kind, "") not in {*told, ""} else None


def _joined(steps: Sequence[Step], others: Sequence[Step]) -> list[Step]:
    """Calls with what other signals tell of the same one, by the id of its response."""
    same = {
        step.call.response_id: step
        for step in reversed(others)
        if step.kind == "call" and step.call.response_id
    }
    return [
        _filled(step, same[step.call.response_id])
        if step.kind == "call" and step.call.response_id in same
        else step
        for step in steps
    ]


def _filled(step: Step, other: Step) -> Step:
    missing = {
        field.name: getattr(other.call, field.name)
        for field in fields(Call)
        if getattr(step.call, field.name) in (None, "", ())
    }
    return replace(
        step,
        call=replace(step.call, **missing),
        session=step.session or other.session,
        user=step.user or other.user,
        trace_id=step.trace_id or other.trace_id,
        span_id=step.span_id or other.span_id,
        latency_ms=other.latency_ms if step.latency_ms is None else step.latency_ms,
    )
