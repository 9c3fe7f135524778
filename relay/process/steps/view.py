"""What a condition sees of an item: the variables of CEL, read from either encoding.

A value is read only where the condition names it. Variables of other signals than the item's are
empty, so that one condition can be about several signals.
"""

from binascii import a2b_base64
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, Final

from msgspec import UNSET

from relay.model.records import Encoding, Signal
from relay.otlp.opened import Group

Read = Callable[[Group, Any], Any]

KINDS: Final = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUSES: Final = ("UNSET", "OK", "ERROR")
_TYPES: Final = {
    "gauge": "gauge",
    "sum": "sum",
    "histogram": "histogram",
    "exponentialHistogram": "exponential_histogram",
    "exponential_histogram": "exponential_histogram",
    "summary": "summary",
}
_ABSENT: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("trace_id", "name", "kind", "status", "severity_text", "type", "unit"), ""),
    "duration": 0.0,
    "severity": 0,
    "body": None,
    "value": None,
}


def reader_of(
    variable: str, encoding: Encoding, signal: Signal, keys: Iterable[str] | None
) -> Read:
    """What reads a variable of an item; of a map only `keys`, None for all of them."""
    if variable == "signal":
        return lambda _group, _item: signal.word
    if variable in ("attributes", "resource"):
        return _reader_of_map(variable, encoding, keys)
    if variable == "scope":
        return _reader_of_scope(encoding, keys)
    own = _readers(encoding, signal).get(variable)
    if own is None:
        absent = _ABSENT[variable]
        return lambda _group, _item: absent
    return own


def _reader_of_map(variable: str, encoding: Encoding, keys: Iterable[str] | None) -> Read:
    value_of = json_value if encoding is Encoding.JSON else protobuf_value
    wanted = None if keys is None else frozenset(keys)

    def read(attributes: Iterable[Any]) -> dict[str, Any]:
        if wanted is None:
            return {each.key: value_of(each.value) for each in attributes}
        return {each.key: value_of(each.value) for each in attributes if each.key in wanted}

    if variable == "resource":
        return lambda group, _item: read(group.resource.attributes)
    return lambda _group, item: read(item.attributes)


def _reader_of_scope(encoding: Encoding, keys: Iterable[str] | None) -> Read:
    """The scope: its name, its version, and its attributes as a map in it."""
    value_of = json_value if encoding is Encoding.JSON else protobuf_value
    has_attributes = keys is None or "attributes" in keys

    def read(group: Group, _item: Any) -> dict[str, Any]:
        scope = group.scope
        if scope is None:
            return {"name": "", "version": "", "attributes": {}}
        found = {"name": scope.name, "version": scope.version}
        if has_attributes:
            found["attributes"] = {each.key: value_of(each.value) for each in scope.attributes}
        return found

    return read


def _readers(encoding: Encoding, signal: Signal) -> Mapping[str, Read]:
    """What reads the variables of a signal that are no maps."""
    is_json = encoding is Encoding.JSON
    if signal is Signal.METRICS:
        return _POINT_IN_JSON if is_json else _POINT_IN_PROTOBUF
    if signal is Signal.LOGS:
        return _RECORD_IN_JSON if is_json else _RECORD_IN_PROTOBUF
    return _SPAN_IN_JSON if is_json else _SPAN_IN_PROTOBUF


def _of_item(name: str) -> Read:
    read = attrgetter(name)
    return lambda _group, item: read(item)


def _of_metric(name: str) -> Read:
    read = attrgetter(name)
    return lambda group, _item: read(group.metric)


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if 0 <= number < len(words) else str(number)


def json_value(value: Any) -> Any:
    """An AnyValue of JSON as CEL takes it; None where it holds nothing, or lies too deep."""
    if value is UNSET:
        return None
    if value.stringValue is not UNSET:
        return value.stringValue
    if value.intValue is not UNSET:
        text = str(value.intValue)
        return None if text.startswith("@") else int(text)  # put aside by `opened`
    if value.doubleValue is not UNSET:
        return float(value.doubleValue)
    return value.boolValue if value.boolValue is not UNSET else _json_rest(value)


def _json_rest(value: Any) -> Any:
    if value.arrayValue is not UNSET:
        return [json_value(each) for each in value.arrayValue.values]
    if value.kvlistValue is not UNSET:
        return {each.key: json_value(each.value) for each in value.kvlistValue.values}
    return None if value.bytesValue is UNSET else a2b_base64(value.bytesValue)


def protobuf_value(value: Any) -> Any:
    """An AnyValue of protobuf, likewise."""
    if text := value.string_value:
        return text
    member = value.WhichOneof("value")
    if member == "array_value":
        return [protobuf_value(each) for each in value.array_value.values]
    if member == "kvlist_value":
        return {each.key: protobuf_value(each.value) for each in value.kvlist_value.values}
    return None if member in (None, "string_value_strindex") else getattr(value, member)


def _json_number(_group: Group, point: Any) -> Any:
    whole = getattr(point, "asInt", UNSET)
    if whole is not UNSET:
        return int(whole)
    number = getattr(point, "asDouble", UNSET)
    return None if number is UNSET else float(number)


def _protobuf_number(_group: Group, point: Any) -> Any:
    if not hasattr(point, "as_int"):
        return None
    member = point.WhichOneof("value")
    return None if member is None else getattr(point, member)


def _json_type(group: Group, _item: Any) -> str:
    metric = group.metric
    return next(
        (
            word
            for name, word in _TYPES.items()
            if hasattr(metric, name) and getattr(metric, name) is not UNSET
        ),
        "",
    )


_SPAN_IN_JSON: Final[Mapping[str, Read]] = {
    "trace_id": _of_item("traceId"),
    "name": _of_item("name"),
    "kind": lambda _group, span: _word(KINDS, span.kind),
    "status": lambda _group, span: _word(STATUSES, 0 if span.status is UNSET else span.status.code),
    "duration": lambda _group, span: (
        (int(span.endTimeUnixNano) - int(span.startTimeUnixNano)) / 1e9
    ),
}
_SPAN_IN_PROTOBUF: Final[Mapping[str, Read]] = {
    "trace_id": lambda _group, span: span.trace_id.hex(),
    "name": _of_item("name"),
    "kind": lambda _group, span: _word(KINDS, span.kind),
    "status": lambda _group, span: _word(STATUSES, span.status.code),
    "duration": lambda _group, span: (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
}
_RECORD_IN_JSON: Final[Mapping[str, Read]] = {
    "trace_id": _of_item("traceId"),
    "name": _of_item("eventName"),
    "severity": _of_item("severityNumber"),
    "severity_text": _of_item("severityText"),
    "body": lambda _group, record: json_value(record.body),
}
_RECORD_IN_PROTOBUF: Final[Mapping[str, Read]] = {
    "trace_id": lambda _group, record: record.trace_id.hex(),
    "name": _of_item("event_name"),
    "severity": _of_item("severity_number"),
    "severity_text": _of_item("severity_text"),
    "body": lambda _group, record: protobuf_value(record.body),
}
_POINT_IN_JSON: Final[Mapping[str, Read]] = {
    "name": _of_metric("name"),
    "unit": _of_metric("unit"),
    "type": _json_type,
    "value": _json_number,
}
_POINT_IN_PROTOBUF: Final[Mapping[str, Read]] = {
    "name": _of_metric("name"),
    "unit": _of_metric("unit"),
    "type": lambda group, _point: _TYPES.get(group.metric.WhichOneof("data") or "", ""),
    "value": _protobuf_number,
}
