"""What metrics count of models and agents, as steps of usage: sums, without single calls."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from relay.genai.call import Call, call_of, name_of
from relay.genai.items import PointItem
from relay.genai.senders import sender_of
from relay.genai.steps import Step, who
from relay.genai.values import is_true, json_text, text_of
from relay.model.records import Signal

# An amount is what it is of, a name where there are several (a tool, a kind), and a number.
Amount = tuple[str, str, float]


class _Tokens(NamedTuple):
    """A metric of tokens: the attribute that says which, and to what each of them adds."""

    attribute: str
    adds: Mapping[str, tuple[str, ...]]


_CONVENTION: Final = "gen_ai.client.token.usage"
_TOKENS: Final[Mapping[str, _Tokens]] = {
    "claude_code.token.usage": _Tokens(
        "type",
        {
            "input": ("input_tokens",),
            "cacheRead": ("input_tokens", "cache_read_tokens"),
            "cacheCreation": ("input_tokens", "cache_write_tokens"),
            "output": ("output_tokens",),
        },
    ),
    "cursor.token.usage": _Tokens(
        "cursor.token.type",
        {
            "input": ("input_tokens",),
            "cache_read": ("input_tokens", "cache_read_tokens"),
            "cache_creation": ("input_tokens", "cache_write_tokens"),
            "output": ("output_tokens",),
        },
    ),
    "codex.turn.token_usage": _Tokens(
        "token_type",
        {
            "input": ("input_tokens",),
            "cached_input": ("cache_read_tokens",),
            "cache_write_input": ("cache_write_tokens",),
            "output": ("output_tokens",),
            "reasoning_output": ("reasoning_tokens",),
        },
    ),
    "gemini_cli.token.usage": _Tokens(
        "type",
        {
            "input": ("input_tokens",),
            "tool": ("input_tokens",),
            "cache": ("cache_read_tokens",),
            "output": ("output_tokens",),
            "thought": ("output_tokens", "reasoning_tokens"),
        },
    ),
    _CONVENTION: _Tokens(
        "gen_ai.token.type", {"input": ("input_tokens",), "output": ("output_tokens",)}
    ),
}
_COSTS: Final = {
    "claude_code.cost.usage": 1.0,
    "cursor.cost.usage": 1.0,
    "gen_ai.usage.cost": 1.0,
    "codex.turn.cost_microusd": 1e-6,
}
_TOOLS: Final = {
    "codex.tool.call": "tool",
    "gemini_cli.tool.call.count": "function_name",
    "cursor.tool.calls": "cursor.tool.name",
    "copilot_chat.tool.call.count": "gen_ai.tool.name",
}
# Times of calls, and what makes milliseconds of them.
_DURATIONS: Final = {
    "gen_ai.client.operation.duration": 1000.0,
    "codex.api_request.duration_ms": 1.0,
}
# What else is counted: the name of the amount, and the attribute that tells kinds of it apart.
_COUNTS: Final = {
    "claude_code.session.count": ("sessions_started", ""),
    "claude_code.lines_of_code.count": ("lines", "type"),
    "claude_code.active_time.total": ("active_s", "type"),
    "gemini_cli.session.count": ("sessions_started", ""),
    "codex.thread.started": ("sessions_started", ""),
}


def point_steps(items: Iterable[PointItem], *, show_personal: bool = False) -> Iterator[Step]:
    """The steps that data points tell of; nothing of metrics that are nothing of GenAI."""
    for item in items:
        amounts = tuple(_amounts(item))
        if amounts:
            attributes = item.attributes
            call = call_of(attributes)
            name, around = item.metric.name, item.around
            # A series that goes on counting is told by all that a point is of.
            series = () if item.is_delta else (json_text([around.resource, name, attributes]),)
            yield Step(
                kind="usage",
                signal=Signal.METRICS,
                service=around.service,
                sender=sender_of(around.scope, around.service, name, attributes),
                at_ns=item.at_ns,
                started_ns=item.started_ns,
                call=Call(model_asked=call.model, provider=call.provider, agent=call.agent),
                amounts=amounts,
                series=series,
                **who(attributes, call, show_personal=show_personal),
            )


def _amounts(item: PointItem) -> Iterator[Amount]:
    name, attributes = item.metric.name, item.attributes
    value = item.number("asInt", "asDouble", "sum")
    count = item.number("count", "asInt", "asDouble") or 0
    if value is None:
        return
    if name in _TOKENS:
        of = _TOKENS[name]
        fields = of.adds.get(text_of(attributes.get(of.attribute)), ())
        # Who counts by a name of their own counts by the conventions' as well, the same tokens.
        prefix = "convention" if name == _CONVENTION else ""
        yield from ((field, prefix, value) for field in fields)
    elif name in _COSTS:
        yield "cost_usd", "", value * _COSTS[name]
    elif name in _DURATIONS:
        yield from _durations(item, count, value * _DURATIONS[name])
    elif name == "codex.api_request":
        yield ("errors" if is_true(attributes.get("success")) is False else "calls"), "", value
    elif name in _TOOLS:
        yield from _tools(text_of(attributes.get(_TOOLS[name])), count, attributes)
    elif name == "claude_code.code_edit_tool.decision":
        if attributes.get("decision") == "reject":
            yield "refusal", name_of(attributes, "tool"), value
    elif name in _COUNTS:
        amount, kind = _COUNTS[name]
        yield amount, text_of(attributes.get(kind))[:100], value


def _durations(item: PointItem, count: float, total_ms: float) -> Iterator[Amount]:
    """A histogram of times: of those that failed only how many."""
    is_of_conventions = item.metric.name == "gen_ai.client.operation.duration"
    if text_of(item.attributes.get("error.type")):
        yield "errors", "", count
        return
    if is_true(item.attributes.get("success")) is False:
        return
    if is_of_conventions:
        yield "calls", "", count
    yield "latency_count", "", count
    yield "latency_sum", "", total_ms
    longest = item.number("max")
    if longest is not None and item.number("sum"):
        yield "latency_max", "", longest * (1000.0 if is_of_conventions else 1.0)


def _tools(tool: str, count: float, attributes: Mapping[str, Any]) -> Iterator[Amount]:
    yield "tool", tool[:200], count
    if is_true(attributes.get("success")) is False:
        yield "tool_error", tool[:200], count
