"""What counts: each call once, by the signal that tells most, with what others add."""

import json
from typing import Any

import pytest

from relay.genai.counted import counted
from relay.genai.items import logs_of
from relay.genai.rows import steps_of
from relay.genai.steps import Step
from relay.genai.summary import groups_of, summary_of
from relay.model.records import Signal
from relay.otlp.transcode import decode_entries
from tests.support.builders import Json, request, to_body
from tests.unit.genai.making import any_value, attributes, llm_span, rows_of, steps_in

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "tiny"}
USAGE = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 2}
AT = 1_767_225_600_000_000_000


def summary_in(*spans: Json, **around: str) -> dict[str, Any]:
    return summary_of(steps_in(*spans, **around))


def logs(*records: tuple[str, dict[str, Any]], service: str = "shop") -> list[Step]:
    made = [
        {"timeUnixNano": str(AT + at), "eventName": name, "attributes": attributes(values)}
        for at, (name, values) in enumerate(records)
    ]
    resource = {"attributes": attributes({"service.name": service})}
    body = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": made}]}]}
    return steps_of(rows_of(to_body(body), Signal.LOGS))


def points(
    name: str,
    *values: tuple[float, int, dict[str, Any]],
    temporality: int = 1,
    service: str = "shop",
    histogram: bool = False,
) -> list[Step]:
    """A metric: values, when (in s), and attributes; of a histogram the sum, of 2 values each."""
    made: list[Json] = [
        {"timeUnixNano": str(AT + at * 10**9), "startTimeUnixNano": str(AT)}
        | {"attributes": attributes(more)}
        | ({"sum": number, "count": "2"} if histogram else {"asDouble": number})
        for number, at, more in values
    ]
    kind = "histogram" if histogram else "sum"
    data: Json = {"dataPoints": made, "aggregationTemporality": temporality}
    if histogram:
        for point in made:
            point |= {"bucketCounts": ["2"]}
    else:
        data["isMonotonic"] = True
    resource = {"attributes": attributes({"service.name": service})}
    scope = {"metrics": [{"name": name, kind: data}]}
    body = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [scope]}]}
    return steps_of(rows_of(to_body(body), Signal.METRICS))


def spans(*made: Json, service: str = "shop") -> list[Step]:
    return steps_of(rows_of(to_body(request(*made, service=service)), Signal.TRACES))


@pytest.mark.parametrize(
    "operation", ["invoke_agent", "agent_step", "invoke_workflow", "framework"]
)
def test_wrapper_that_repeats_usage_is_not_counted(operation: str) -> None:
    found = summary_in(
        llm_span(CHAT | USAGE | {"gen_ai.operation.name": operation}, spanId="a" * 16),
        llm_span(CHAT | USAGE, spanId="b" * 16, parentSpanId="a" * 16),
        llm_span(CHAT | USAGE, spanId="c" * 16, parentSpanId="a" * 16),
    )

    assert (found["calls"], found["input_tokens"], found["output_tokens"]) == (2, 20, 4)


def test_call_that_holds_the_same_call_is_counted_once() -> None:
    found = summary_in(
        llm_span(CHAT | USAGE, spanId="a" * 16),
        llm_span({"traceloop.span.kind": "task"}, spanId="b" * 16, parentSpanId="a" * 16),
        llm_span(CHAT | USAGE, spanId="c" * 16, parentSpanId="b" * 16),
    )

    assert (found["calls"], found["input_tokens"]) == (1, 10)


def test_spans_that_are_their_own_parents_end_all_the_same() -> None:
    found = summary_in(
        llm_span(CHAT | USAGE, spanId="a" * 16, parentSpanId="b" * 16),
        llm_span({"traceloop.span.kind": "task"}, spanId="b" * 16, parentSpanId="a" * 16),
    )

    assert found["errors"] == 0


def test_costs_add_up_and_calls_without_one_are_counted_apart() -> None:
    found = summary_in(
        llm_span(CHAT | USAGE | {"gen_ai.usage.total_cost": 0.1}, spanId="a" * 16),
        llm_span(CHAT | USAGE | {"litellm.cost.total": 0.2}, spanId="b" * 16),
        llm_span(CHAT | USAGE | {"llm.cost.total": 1}, spanId="c" * 16),
        llm_span(CHAT | USAGE | {"operation.cost": "nothing"}, spanId="d" * 16),
    )

    assert (found["cost_usd"], found["calls_without_cost"]) == (1.3, 1)


def test_span_takes_session_and_user_from_its_trace() -> None:
    who = {"session.id": "s-1", "user.id": "u-1"}
    steps = steps_in(
        llm_span({"traceloop.span.kind": "workflow"} | who, spanId="a" * 16),
        llm_span(CHAT | USAGE, spanId="b" * 16, parentSpanId="a" * 16),
    )

    assert summary_of(steps)["sessions"] == ["s-1"]
    (row,) = groups_of(steps, "user")["groups"]
    assert (row["name"], row["calls"]) == ("u-1", 1)


def test_pending_double_of_a_running_span_is_not_counted() -> None:
    pending = CHAT | {"logfire.span_type": "pending_span"}

    assert summary_in(llm_span(pending, spanId="a" * 16))["calls"] == 0


def test_log_record_and_span_of_one_call_count_once_and_add_to_each_other() -> None:
    record = (
        "gen_ai.client.inference.operation.details",
        CHAT | USAGE | {"gen_ai.response.id": "r-1"},
    )
    span = llm_span(
        CHAT | USAGE | {"gen_ai.response.id": "r-1", "session.id": "s-1", "user.id": "u-1"}
    )

    steps = counted([*logs(record), *spans(span)])

    found = summary_of(steps)
    assert (found["calls"], found["input_tokens"], found["source"]) == (1, 10, "logs")
    assert found["latency_ms"] == {"count": 1, "sum": 5, "max": 5}
    assert (found["sessions"], found["users"]) == (["s-1"], ["u-1"])


def test_two_services_with_one_session_both_count() -> None:
    span = llm_span(CHAT | USAGE | {"session.id": "s-1"})
    record = ("gen_ai.client.inference.operation.details", CHAT | USAGE | {"session.id": "s-1"})

    found = summary_of(counted([*logs(record, service="a"), *spans(span, service="b")]))

    assert found["calls"] == 2


def test_delta_sums_add_up_and_of_cumulative_ones_the_newest_counts() -> None:
    told = [(5.0, 1, {"type": "input"}), (8.0, 2, {"type": "input"})]

    delta = summary_of(counted(points("claude_code.token.usage", *told)))
    cumulative = summary_of(counted(points("claude_code.token.usage", *told, temporality=2)))

    assert delta["input_tokens"] == 13
    assert cumulative["input_tokens"] == 8
    assert delta["calls"] is None


def test_histogram_of_tokens_tells_their_sum_and_one_of_times_the_calls() -> None:
    own = {"token_type": "input", "model": "tiny"}
    steps = [
        *points("codex.turn.token_usage", (50.0, 1, own), histogram=True),
        *points("gen_ai.client.operation.duration", (3.0, 1, {}), histogram=True),
        *points("gen_ai.client.operation.duration", (9.0, 1, {"error.type": "x"}), histogram=True),
    ]

    found = summary_of(counted(steps))

    assert (found["input_tokens"], found["calls"], found["errors"]) == (50, 2, 2)
    assert found["latency_ms"] == {"count": 2, "sum": 3000, "max": None}
    assert found["calls_without_cost"] == 2


def test_tokens_under_two_names_of_metrics_count_once() -> None:
    own = points("gemini_cli.token.usage", (5.0, 1, {"type": "input"}))
    convention = {"gen_ai.token.type": "input"}
    both = points("gen_ai.client.token.usage", (5.0, 1, convention), histogram=True)

    assert summary_of(counted([*own, *both]))["input_tokens"] == 5
    assert summary_of(counted(both))["input_tokens"] == 5


def test_metrics_without_a_session_do_not_count_beside_log_records_with_one() -> None:
    call = {"event.kind": "response.completed", "input_token_count": "5", "conversation.id": "c"}
    steps = [
        *logs(("codex.sse_event", call)),
        *points("codex.turn.token_usage", (5.0, 1, {"token_type": "input"}), histogram=True),
    ]

    found = summary_of(counted(steps))

    assert (found["calls"], found["input_tokens"], found["sessions"]) == (1, 5, ["c"])


def test_cost_of_a_metric_belongs_to_its_session() -> None:
    def call(session: str) -> tuple[str, dict[str, Any]]:
        counts = {"event.kind": "response.completed", "input_token_count": 5}
        return ("codex.sse_event", counts | {"conversation.id": session})

    steps = [
        *logs(call("a"), call("b")),
        *points("codex.turn.cost_microusd", (250.0, 1, {"conversation.id": "a"})),
    ]

    found = summary_of(counted(steps))

    assert (found["cost_usd"], found["calls_without_cost"]) == (0.00025, 1)


def test_nothing_at_all_is_no_calls() -> None:
    found = summary_of([])

    assert (found["calls"], found["cost_usd"], found["source"]) == (0, None, None)


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"attributes": attributes({"event.name": "a"}), "eventName": "b"}, "a"),
        ({"eventName": "b", "body": {"stringValue": "c"}}, "b"),
        ({"eventName": "event otel/src/x.rs:92", "body": {"stringValue": "c"}}, "c"),
        ({"body": any_value({"c": 1})}, ""),
    ],
)
def test_log_record_is_named_by_its_attribute_then_its_field_then_its_body(
    record: Json, name: str
) -> None:
    """A field that is a source line, as Rust writes it, is no name."""
    body = to_body([{"scopeLogs": [{"logRecords": [record]}]}])

    (item,) = logs_of(decode_entries(body[1:-1], Signal.LOGS))

    assert item.name == name


def test_any_number_of_names_gives_a_document_of_bounded_size() -> None:
    many = [
        llm_span(
            CHAT
            | USAGE
            | {
                "gen_ai.request.model": f"model {number}" + "x" * 10_000,
                "session.id": f"session {number}" + "x" * 10_000,
                "user.id": f"user {number}",
            },
            spanId=f"{number + 1:016x}",
        )
        for number in range(1500)
    ]
    steps = steps_in(*many)

    found = summary_of(steps) | groups_of(steps, "session")

    assert found["calls"] == 1500
    assert len(found["sessions"]) == len(found["models"]) == 1000
    assert (len(found["groups"]), found["groups_left_out"]) == (200, 1300)
    assert len(json.dumps(found)) < 1_000_000
