"""Whatever attributes hold, nothing raises, and what comes out is bounded JSON."""

import json
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.genai.counted import counted
from relay.genai.items import points_of
from relay.genai.metric_steps import point_steps
from relay.genai.names import FLAT, NAMES
from relay.genai.rows import steps_of
from relay.genai.steps import Step
from relay.genai.summary import BY, groups_of, summary_of
from relay.genai.timeline import timeline_of
from relay.model.records import Signal
from relay.otlp import messages_metrics
from tests.support.builders import SPAN_ID, TRACE_ID, Json, request, span, to_body
from tests.unit.genai.making import attributes, facts_in, rows_of, trace_in

KNOWN = sorted(
    {name for names in NAMES.values() for name in names}
    | {
        f"{prefix}.{rest}"
        for prefixes in FLAT.values()
        for prefix in prefixes
        for rest in ("0", "0.message", "0.message.role", "0.message.content.0.x", "1.role", "x", "")
    }
    | {"span.type", "event.name", "event.kind", "success", "decision", "prompt", "type"}
)
EVENTS = [
    "gen_ai.choice",
    "gen_ai.user.message",
    "gen_ai.content.prompt",
    "gen_ai.client.inference.operation.details",
    "claude_code.api_request",
    "claude_code.tool_decision",
    "codex.sse_event",
    "codex.api_request",
    "gemini_cli.api_response",
    "gemini_cli.tool_call",
]
WORDS = st.text(max_size=20) | st.sampled_from(
    [
        *("chat", "LLM", "execute_tool", "generation", "true", "reject", "user@example.com"),
        *("response.completed", "[[[[", "[]"),
        '{"messages":[{"role":"user","content":[{"type":"image_url","image_url":7}]}]}',
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
)
KEYS = st.text(max_size=5) | st.sampled_from(
    [
        *("type", "role", "content", "parts", "text", "name", "id", "arguments", "image_url"),
        *("url", "data", "message", "messages", "tool_calls", "function", "choices", "response"),
        *("result", "source", "inlineData", "functionCall", "thought", "completion"),
    ]
)
TREES = st.recursive(
    SCALARS, lambda kids: st.lists(kids, max_size=3) | st.dictionaries(KEYS, kids, max_size=4)
)
VALUES = TREES | TREES.map(json.dumps)
ATTRIBUTES = st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=12), VALUES, max_size=8)
usual = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


def check_documents(steps: list[Step]) -> None:
    documents: list[Any] = [summary_of(steps), *(groups_of(steps, by) for by in BY)]
    documents += [timeline_of(steps, step.session) for step in steps]
    assert len(json.dumps(documents, allow_nan=False)) < 100_000


@usual
@given(
    ATTRIBUTES,
    st.lists(st.tuples(st.sampled_from(EVENTS), ATTRIBUTES), max_size=3),
    st.sampled_from(["", "ai", "openrouter", "com.anthropic.claude_code.tracing"]),
    st.sampled_from(["op", "claude_code.llm_request", "claude_code.tool"]),
    VALUES,
)
def test_any_span_has_a_panel_or_none(
    values: dict[str, Any],
    events: list[tuple[str, dict[str, Any]]],
    scope: str,
    name: str,
    body: Any,
) -> None:
    told = [{"name": each, "attributes": attributes(more)} for each, more in events]
    made = span(name=name, attributes=attributes(values), events=told)
    logs = [
        {
            "traceId": TRACE_ID,
            "spanId": SPAN_ID,
            "eventName": each,
            "body": attributes({"": body})[0]["value"],
            "attributes": attributes(more),
        }
        for each, more in events
    ]
    trace = trace_in(made, logs=logs, scope=scope)

    panel = trace.panel(SPAN_ID, show_personal=True)
    json.dumps([panel, facts_in(trace)], allow_nan=False)
    for side in ("prompt", "completion"):
        for message in panel[side] if panel else ():
            for number, part in enumerate(message["parts"]):
                whole = trace.part(SPAN_ID, side, message["number"], number)
                assert whole is not None
                assert part["kind"] == "media" or whole.startswith(part["text"])
    rows = rows_of(to_body(request(made, scope=scope)), Signal.TRACES)
    check_documents(counted(steps_of(rows, show_personal=True)))


@usual
@given(st.lists(st.tuples(st.sampled_from(EVENTS), ATTRIBUTES), min_size=1, max_size=4))
def test_any_log_record_is_read(events: list[tuple[str, dict[str, Any]]]) -> None:
    records: list[Json] = [
        {"eventName": name, "timeUnixNano": "1", "attributes": attributes(values)}
        for name, values in events
    ]
    made = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    steps = steps_of(rows_of(to_body(made), Signal.LOGS), show_personal=True)

    assert len(steps) <= len(events)
    check_documents(counted(steps))


METRICS = [
    "claude_code.token.usage",
    "claude_code.cost.usage",
    "codex.turn.token_usage",
    "codex.api_request",
    "codex.tool.call",
    "gen_ai.client.token.usage",
    "gen_ai.client.operation.duration",
    "claude_code.lines_of_code.count",
]


@usual
@given(
    st.sampled_from(METRICS),
    st.dictionaries(
        st.sampled_from(["type", "token_type", "gen_ai.token.type", "error.type", "model", "tool"]),
        SCALARS | st.sampled_from(["input", "output", "cacheRead"]),
        max_size=4,
    ),
    SCALARS,
    st.sampled_from(["sum", "histogram", "gauge", "summary", "exponentialHistogram"]),
    st.integers(0, 2),
)
def test_any_point_is_read(
    name: str, values: dict[str, Any], number: Any, kind: str, temporality: int
) -> None:
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    value = number if is_number else "NaN"
    members = {"sum": value, "count": "3", "max": value}
    if kind in ("sum", "gauge"):
        members = {"asDouble": value}
    elif kind == "summary":
        members = {"sum": value if is_number else 0.5}
    point = {"timeUnixNano": "5", "attributes": attributes(values)} | members
    data: Json = {"dataPoints": [point]}
    if kind not in ("gauge", "summary"):
        data["aggregationTemporality"] = temporality
    made = [{"scopeMetrics": [{"metrics": [{"name": name, kind: data}]}]}]
    entries = msgspec.json.decode(to_body(made), type=list[messages_metrics.ResourceMetrics])

    check_documents(counted(point_steps(points_of(entries))))
