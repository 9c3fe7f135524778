"""A session as a timeline: what was asked, the calls, the tools, and what went wrong, in order."""

from collections.abc import Sequence
from typing import Any, Final

from relay.genai.call import TOKENS
from relay.genai.steps import Step
from relay.genai.summary import summary_of
from relay.model.units import iso

MOST_ENTRIES: Final = 1000
_SHOWN: Final = ("prompt", "call", "error", "tool", "refusal")


def timeline_of(steps: Sequence[Step], session: str) -> dict[str, Any] | None:
    """A session's summary and what happened in it, of steps that `counted` gave.

    None where none is of it.
    """
    own = [step for step in steps if step.session == session]
    if not own:
        return None
    shown = [step for step in own if step.kind in _SHOWN]
    return {
        **summary_of(own),
        "session": session,
        "started_at": iso(min(step.at_ns for step in own)),
        "ended_at": iso(max(step.at_ns for step in own)),
        # The newest are worth most where there are too many.
        "entries": [_entry(step) for step in shown[-MOST_ENTRIES:]],
        "entries_left_out": max(len(shown) - MOST_ENTRIES, 0),
    }


def _entry(step: Step) -> dict[str, Any]:
    call = step.call
    entry: dict[str, Any] = {
        "at": iso(step.at_ns),
        "kind": step.kind,
        "is_error": step.is_error or step.kind == "error",
        "latency_ms": step.latency_ms,
        "trace_id": step.trace_id,
        "span_id": step.span_id,
        "text": step.text,
    }
    if step.kind in ("call", "error"):
        entry |= {"model": call.model, "provider": call.provider, "agent": call.agent}
        entry |= {name: getattr(call, name) for name in TOKENS}
        entry |= {"cost_usd": call.cost_usd, "first_token_ms": call.first_token_ms}
        entry |= {"finish": list(call.finish), "error": call.error}
    elif step.tool:
        entry |= {"tool": step.tool, "error": call.error}
    return entry
