"""What one item tells of what models and agents did: a step, small, without contents.

Contents and names of persons are read only where they are asked for.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from relay.genai.call import Call, call_of, name_of, shown_user
from relay.genai.contents import DETAILS
from relay.genai.items import LogItem, SpanItem
from relay.genai.kinds import CLAUDE, CODEX, GEMINI, Adds, kind_of
from relay.genai.names import NAMES
from relay.genai.values import first, is_true, number_of, text_of
from relay.model.records import Signal

Kind = Literal["call", "error", "tool", "outcome", "refusal", "prompt", "latency", "step", "usage"]

NO_CALL: Final = Call()
_TEXT_CHARACTERS: Final = 500
_REDACTED: Final = frozenset({"", "<REDACTED>", "[REDACTED]"})
_REFUSALS: Final = frozenset({"reject", "rejected", "deny", "denied", "abort", "cancel"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of an agent. Names that nobody told are empty.

    `kind`: a "call" that was answered or an "error" in its stead; a "tool" that was used, its
    "outcome" where another span tells it, or a "refusal" of it; a "prompt" of a person; a
    "latency" told apart from its call; a "step" around others; or "usage", what a metric counted.
    `amounts` are of usage alone; `text` only where it was asked for.
    """

    kind: Kind
    signal: Signal
    service: str
    sender: str = ""
    session: str = ""
    user: str = ""
    person: str = ""
    at_ns: int = 0
    trace_id: str = ""
    span_id: str = ""
    parent_id: str = ""
    call: Call = NO_CALL
    tool: str = ""
    tool_call_id: str = ""
    is_error: bool = False
    latency_ms: float | None = None
    has_contents: bool = False
    text: str = ""
    amounts: tuple[tuple[str, str, float], ...] = ()
    series: tuple[Any, ...] = ()
    started_ns: int = 0
    has_cost_elsewhere: bool = False  # another signal tells it for several calls together


def span_steps(items: Iterable[SpanItem], *, show_personal: bool = False) -> Iterator[Step]:
    """The steps that spans tell of; nothing of those that are nothing of GenAI."""
    for item in items:
        kind = kind_of(item)
        if kind is not None:
            yield _span_step(item, kind.kind, kind.adds, show_personal=show_personal)


def _span_step(item: SpanItem, kind: Any, adds: Adds | None, *, show_personal: bool) -> Step:
    attributes = item.attributes
    call = call_of(attributes, latency_ms=item.latency_ms, adds=adds)
    is_error = item.has_failed or is_true(attributes.get("success")) is False
    if kind == "call" and is_error and not call.has_tokens:
        kind = "error"
    return Step(
        kind=kind,
        signal=Signal.TRACES,
        service=item.around.service,
        sender=item.sender,
        at_ns=item.started_ns,
        trace_id=item.span.traceId,
        span_id=item.span.spanId,
        parent_id=item.span.parentSpanId,
        call=call,
        tool=(name_of(attributes, "tool") or item.span.name) if kind == "tool" else "",
        tool_call_id=name_of(attributes, "tool_call_id"),
        is_error=is_error,
        latency_ms=call.latency_ms,
        has_contents=_has_contents(attributes) or _has_prompt(attributes),
        **who(attributes, call, show_personal=show_personal),
    )


def log_steps(items: Iterable[LogItem], *, show_personal: bool = False) -> Iterator[Step]:
    """The steps that log records tell of, one each at most."""
    for item in items:
        name = item.name
        if item.sender == "claude-code" and "." not in name:
            name = f"claude_code.{name}"  # its records bear the name without the prefix
        read = _LOGS.get(name)
        found = read(item) if read else None
        if found is not None:
            kind, call, more = found
            yield Step(
                kind=kind,
                signal=Signal.LOGS,
                service=item.around.service,
                sender=item.sender,
                at_ns=item.at_ns,
                trace_id=item.record.traceId,
                span_id=item.record.spanId,
                call=call,
                **more,
                **who(item.attributes, call, show_personal=show_personal),
            )


_Found = tuple[Kind, Call, dict[str, Any]] | None


def _call(adds: Adds) -> Callable[[LogItem], _Found]:
    """A record that is a call where it has counts."""

    def read(item: LogItem) -> _Found:
        call = call_of(item.attributes, adds=adds)
        return "call", call, {"latency_ms": call.latency_ms}

    return read


def _codex_event(item: LogItem) -> _Found:
    """A chunk of a stream; the last one comes twice, and one of the two has the counts."""
    if item.attributes.get("event.kind") != "response.completed":
        return None
    call = call_of({**item.attributes, "duration_ms": None}, adds=CODEX)
    return ("call", call, {}) if call.has_tokens else None


def _codex_request(item: LogItem) -> _Found:
    """An attempt, which has the time of the call that it became, or an error."""
    call = call_of(item.attributes)
    status = number_of(item.attributes.get("http.response.status_code"))
    has_failed = is_true(item.attributes.get("success")) is False
    if has_failed or (status is not None and not 200 <= status < 300):
        return "error", call, {"is_error": True}
    return "latency", call, {"latency_ms": call.latency_ms}


def _details(item: LogItem) -> _Found:
    """The conventions' record of a call. Gemini CLI sends one beside its own, and for requests."""
    call = call_of(item.attributes)
    if item.sender == "gemini-cli" or not call.has_tokens:
        return None
    return "call", call, {"has_contents": _has_contents(item.attributes)}


def _error(item: LogItem) -> _Found:
    return "error", call_of(item.attributes), {"is_error": True}


def _tool(item: LogItem) -> _Found:
    attributes = item.attributes
    call = call_of(attributes)
    more = _tool_names(item)
    if text_of(attributes.get("decision")) in _REFUSALS:
        return "refusal", call, more
    is_error = is_true(attributes.get("success")) is False
    return "tool", call, more | {"is_error": is_error, "latency_ms": call.latency_ms}


def _decision(item: LogItem) -> _Found:
    is_refusal = text_of(item.attributes.get("decision")) in _REFUSALS
    return ("refusal", call_of(item.attributes), _tool_names(item)) if is_refusal else None


def _tool_names(item: LogItem) -> dict[str, Any]:
    return {each: name_of(item.attributes, each) for each in ("tool", "tool_call_id")}


def _prompt(item: LogItem) -> _Found:
    return "prompt", call_of(item.attributes), {"has_contents": _has_prompt(item.attributes)}


_LOGS: Final[dict[str, Callable[[LogItem], _Found]]] = {
    "claude_code.api_request": _call(CLAUDE),
    "claude_code.api_error": _error,
    "claude_code.tool_result": _tool,
    "claude_code.tool_decision": _decision,
    "claude_code.user_prompt": _prompt,
    "codex.sse_event": _codex_event,
    "codex.websocket_event": _codex_event,
    "codex.api_request": _codex_request,
    "codex.websocket_request": _codex_request,
    "codex.tool_result": _tool,
    "codex.tool_decision": _decision,
    "codex.user_prompt": _prompt,
    "gemini_cli.api_response": _call(GEMINI),
    "gemini_cli.api_error": _error,
    "gemini_cli.tool_call": _tool,
    "gemini_cli.user_prompt": _prompt,
    "cursor.api.request": _call(CLAUDE),
    "cursor.api.error": _error,
    DETAILS: _details,
}


def who(attributes: dict[str, Any], call: Call, *, show_personal: bool) -> dict[str, Any]:
    """Session and user; who that is and what was said only where it is asked for."""
    person, text = "", ""
    if show_personal:
        person = text_of(attributes.get("user.email"))[:_TEXT_CHARACTERS]
        texts = (*NAMES["tool_arguments"], "prompt", "response", "error.message", "error")
        text = text_of(first(attributes, texts))[:_TEXT_CHARACTERS]
    user = shown_user(call.user, show_personal=show_personal)
    return {"session": call.session, "user": user, "person": person, "text": text}


def _has_prompt(attributes: dict[str, Any]) -> bool:
    """Whether what a person typed is there, and not only that they did."""
    return text_of(first(attributes, ("prompt", "user_prompt"))) not in _REDACTED


def _has_contents(attributes: dict[str, Any]) -> bool:
    return any(
        key.startswith(("gen_ai.input.", "gen_ai.prompt", "llm.input_messages", "ai.prompt"))
        for key in attributes
    )
