"""Spans and requests with defaults, as dicts of OTLP/JSON; strategies for any of them; twins.

`protobuf_twin` turns such a dict into the official message by its own reading of the schema, and
`json_twin` turns one back: they share nothing with relay, so they cannot share a mistake.
"""

import base64
import json
import math
import re
import struct
import time
from typing import Any, overload

from google.protobuf.message import Message
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
# Of this day, as spans are: older ones come with a warning.
_MIDNIGHT = int(time.time()) // 86_400 * 86_400
START = f"{_MIDNIGHT}000000000"
END = f"{_MIDNIGHT}005000000"

Json = dict[str, Any]


def text_attribute(key: str, text: str) -> Json:
    """An attribute with a stringValue."""
    return {"key": key, "value": {"stringValue": text}}


def span(**members: Any) -> Json:
    """A valid span; `members` replace its own, and None takes one away."""
    made = {
        "traceId": TRACE_ID,
        "spanId": SPAN_ID,
        "name": "op",
        "kind": 2,
        "startTimeUnixNano": START,
        "endTimeUnixNano": END,
    } | members
    return {key: value for key, value in made.items() if value is not None}


def request(*spans: Json, service: str = "shop", scope: str = "lib", **entry: Any) -> Json:
    """A request with these spans under one resource and one scope; `entry` adds to the entry."""
    resource = {"attributes": [text_attribute("service.name", service)]} if service else {}
    scope_spans = {"scope": {"name": scope}, "spans": list(spans)}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope_spans]} | entry]}


def with_value(value: Any) -> Json:
    """A request with one span that has one attribute `k` of this AnyValue."""
    return request(span(attributes=[{"key": "k", "value": value}]))


def to_body(made: Any) -> bytes:
    """JSON as senders write it, without blanks."""
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()


def nested(levels: int, kind: str = "arrayValue") -> Json:
    """An AnyValue of that many levels of arrayValue or kvlistValue around an integer."""
    value: Json = {"intValue": "1"}
    for _ in range(levels):
        held: Json = value if kind == "arrayValue" else {"key": "k", "value": value}
        value = {kind: {"values": [held]}}
    return value


def spans_of(made: Json) -> list[Json]:
    """Every span of a request, in order."""
    return [
        found
        for entry in made.get("resourceSpans", [])
        for scope in entry.get("scopeSpans", [])
        for found in scope.get("spans", [])
    ]


# --- the protobuf twin ---------------------------------------------------------------------------


@overload
def protobuf_twin(made: Json) -> ExportTraceServiceRequest: ...


@overload
def protobuf_twin(made: Json, request: type[Message]) -> Any: ...


def protobuf_twin(made: Json, request: type[Message] = ExportTraceServiceRequest) -> Any:
    """The official message, a `request`, that says the same; unknown keys are left out.

    An id that is no hex becomes its text's bytes: protobuf can hold those.
    """
    message = request()
    _fill(message, made)
    return message


def _fill(message: Message, made: Json) -> None:
    for field in message.DESCRIPTOR.fields:
        item = made.get(field.camelcase_name)
        if item is None:
            continue
        if field.type == field.TYPE_MESSAGE:
            if field.is_repeated:
                for each in item:
                    _fill(getattr(message, field.name).add(), each)
            else:
                inner = getattr(message, field.name)
                inner.SetInParent()
                _fill(inner, item)
        elif field.is_repeated:
            getattr(message, field.name).extend(_scalar(field, each) for each in item)
        else:
            setattr(message, field.name, _scalar(field, item))


def _scalar(field: Any, item: Any) -> Any:
    if field.type == field.TYPE_BYTES:
        if not field.name.endswith("_id"):
            return base64.b64decode(item)
        return bytes.fromhex(item) if re.fullmatch("([0-9a-fA-F]{2})*", item) else item.encode()
    if field.type == field.TYPE_DOUBLE:
        return float(item)
    if field.type in (field.TYPE_STRING, field.TYPE_BOOL):
        return item
    return int(item)


def json_twin(message: Message) -> Json:
    """An official message in the normal form of OTLP/JSON: what is absent is not there."""
    made: Json = {}
    for field, held in message.ListFields():
        values = [_in_json(field, each) for each in (held if field.is_repeated else [held])]
        made[field.json_name] = values if field.is_repeated else values[0]
    return made


def _in_json(field: Any, item: Any) -> Any:
    if field.type == field.TYPE_MESSAGE:
        return json_twin(item)
    if field.type == field.TYPE_BYTES:
        return item.hex() if field.name.endswith("_id") else base64.b64encode(item).decode()
    if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
        return str(item)
    if field.type == field.TYPE_DOUBLE and not math.isfinite(item):
        return "NaN" if math.isnan(item) else "Infinity" if item > 0 else "-Infinity"
    return item


# --- strategies: valid requests in normal form ---------------------------------------------------

texts = st.text(st.characters(codec="utf-8"), max_size=12)
uint32s = st.integers(0, 2**32 - 1)
int32s = st.integers(-(2**31), 2**31 - 1)
times = st.one_of(
    st.integers(10**18, 19 * 10**17), st.integers(1, 2**64 - 1), st.just(2**64 - 1)
).map(str)


def _id(size: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=size, max_size=size).filter(any).map(bytes.hex)


def _some(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """Any subset of members, defaults left out, as the normal form has it."""
    return st.fixed_dictionaries({}, optional=members).map(
        lambda made: {key: item for key, item in made.items() if item not in ("", 0, [])}
    )


_doubles = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["NaN", "Infinity", "-Infinity"]),
)
_scalars = st.one_of(
    st.just({}),
    st.builds(lambda item: {"stringValue": item}, texts),
    st.builds(lambda item: {"boolValue": item}, st.booleans()),
    st.builds(lambda item: {"intValue": str(item)}, st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda item: {"doubleValue": item}, _doubles),
    st.builds(lambda item: {"bytesValue": base64.b64encode(item).decode()}, st.binary(max_size=9)),
)


def _lists(values: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    pairs = st.lists(_pair(values), max_size=3)
    return st.one_of(
        st.lists(values, max_size=3).map(
            lambda items: {"arrayValue": {"values": items} if items else {}}
        ),
        pairs.map(lambda items: {"kvlistValue": {"values": items} if items else {}}),
    )


def _pair(values: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({"key": texts.filter(bool), "value": values})


any_values = st.recursive(_scalars, _lists, max_leaves=6)
attribute_lists = st.lists(_pair(any_values), max_size=4, unique_by=lambda pair: pair["key"])
_attributed: dict[str, st.SearchStrategy[Any]] = {
    "attributes": attribute_lists,
    "droppedAttributesCount": uint32s,
}
events = _some(timeUnixNano=times, name=texts, **_attributed)
links = st.builds(
    lambda ids, more: ids | more,
    st.fixed_dictionaries({"traceId": _id(16), "spanId": _id(8)}),
    _some(traceState=texts, flags=uint32s, **_attributed),
)
spans = st.builds(
    lambda ids, more: ids | more,
    st.fixed_dictionaries({"traceId": _id(16), "spanId": _id(8)}),
    _some(
        traceState=texts,
        parentSpanId=_id(8),
        flags=uint32s,
        name=texts,
        kind=int32s,
        startTimeUnixNano=times,
        endTimeUnixNano=times,
        events=st.lists(events, max_size=2),
        droppedEventsCount=uint32s,
        links=st.lists(links, max_size=2),
        droppedLinksCount=uint32s,
        status=_some(message=texts, code=int32s),
        **_attributed,
    ),
)
_entity_refs = _some(
    schemaUrl=texts,
    type=texts,
    idKeys=st.lists(texts, max_size=2),
    descriptionKeys=st.lists(texts, max_size=2),
)
resources = _some(entityRefs=st.lists(_entity_refs, max_size=2), **_attributed)
_scopes = _some(name=texts, version=texts, **_attributed)


def _scope_spans() -> st.SearchStrategy[Json]:
    return st.builds(
        lambda filled, more: filled | more,
        st.fixed_dictionaries({"spans": st.lists(spans, min_size=1, max_size=3)}),
        _some(scope=_scopes, schemaUrl=texts),
    )


def _resource_spans() -> st.SearchStrategy[Json]:
    return st.builds(
        lambda filled, more: filled | more,
        st.fixed_dictionaries({"scopeSpans": st.lists(_scope_spans(), min_size=1, max_size=2)}),
        _some(resource=resources, schemaUrl=texts),
    )


# Valid requests in normal form: what comes out of the relay is equal to what went in.
requests = st.fixed_dictionaries({"resourceSpans": st.lists(_resource_spans(), max_size=3)})


def double_bytes(number: float) -> bytes:
    """The eight bytes of a double, so that NaN compares equal to itself."""
    return struct.pack("<d", number)
