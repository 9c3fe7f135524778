"""Builders for the tests of GenAI: attributes from plain values, spans as the relay keeps them."""

from typing import Any

from relay.genai.counted import counted
from relay.genai.items import SpanItem
from relay.genai.panel import TraceItems
from relay.genai.rows import steps_of
from relay.genai.steps import Step, span_steps
from relay.model.records import Encoding, Signal, StoredRow
from relay.process.prepare import Prepare, PrepareSettings
from relay.view.genai_facts import facts_of
from tests.support.builders import SPAN_ID, Json, request, span, to_body
from tests.support.fixtures import FOLDER

BIG = 10**9


def any_value(value: Any) -> Json:
    """A plain value as AnyValue."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_value(each) for each in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": attributes(value)}}
    return {} if value is None else {"stringValue": value}


def attributes(values: dict[str, Any]) -> list[Json]:
    """Plain values as the attributes of an item."""
    return [{"key": key, "value": any_value(value)} for key, value in values.items()]


def llm_span(values: dict[str, Any], **members: Any) -> Json:
    """A span that took 5 ms, with these attributes."""
    return span(attributes=attributes(values), **members)


def rows_of(body: bytes, signal: Signal, encoding: Encoding = Encoding.JSON) -> list[StoredRow]:
    """The rows that the relay keeps of a body."""
    checked = Prepare(PrepareSettings()).check(body, encoding, signal=signal)
    return [
        StoredRow(number, 0, piece.encoding, piece.flags, piece.items, piece.body, signal=signal)
        for number, piece in enumerate(checked.request.pieces(BIG), 1)
    ]


def steps_in(*spans: Json, service: str = "shop", scope: str = "lib") -> list[Step]:
    """What is counted of some spans."""
    body = to_body(request(*spans, service=service, scope=scope))
    return counted(steps_of(rows_of(body, Signal.TRACES)))


def trace_in(*spans: Json, logs: list[Json] | None = None, **around: str) -> TraceItems:
    """Spans and the log records of their trace, as the page reads them."""
    document: dict[str, Any] = request(*spans, **around)
    if logs:
        document["resourceLogs"] = [{"scopeLogs": [{"logRecords": logs}]}]
    return TraceItems.of(document)


def facts_in(trace: TraceItems) -> dict[str, Any]:
    """What a list says of a trace."""
    return facts_of(span_steps(trace.spans.values()))


def panel_in(values: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The panel of a span with these attributes; `events`, `logs` and the scope may be given."""
    around: Any = {key: more.pop(key) for key in ("service", "scope", "logs") if key in more}
    found = trace_in(llm_span(values, **more), **around).panel(SPAN_ID)
    assert found is not None
    return found


def item_in(values: dict[str, Any], **around: Any) -> SpanItem:
    """A span with these attributes."""
    return trace_in(llm_span(values), **around).spans[SPAN_ID]


def fixture_rows(name: str) -> list[StoredRow]:
    """The rows of a fixture, by the beginning of its name."""
    (path,) = [path for path in FOLDER.glob(f"{name}*") if not path.name.endswith(".expect.json")]
    signal = next((each for each in Signal if f".{each.word}." in path.name), Signal.TRACES)
    return rows_of(path.read_bytes(), signal)
