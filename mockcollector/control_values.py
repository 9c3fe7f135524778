"""JSON of the control API in, what the journal and the script take out; and the way back."""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from mockcollector.items import ReceivedDataPoint, ReceivedItem, ReceivedLogRecord, ReceivedSpan
from mockcollector.matching import ABSENT, WORDS
from mockcollector.received import ReceivedRequest
from mockcollector.records import item_counts, shown_headers, wire_record
from mockcollector.script import Script
from mockcollector.script_values import Answer, Coding, Ending
from mockcollector.signals import TRAITS, Signal

# In a query everything else is a text as it stands; a metric's kind is one, too.
_NUMBERS = {
    Signal.TRACES: {"kind", "status_code"},
    Signal.LOGS: {"severity_number", "time_unix_nano", "observed_time_unix_nano", "flags"},
    Signal.METRICS: set(WORDS[Signal.METRICS]) - {"name", "kind", "unit", "scope"},
}
# With their defaults: what is None there may be null.
_ANSWER_FIELDS = {field.name: field.default for field in fields(Answer)} | {"times": None}


class MistakeError(ValueError):
    """A question that cannot be understood; the message says what would be right."""


def read_wanted(signal: Signal, body: Any) -> dict[str, Any]:
    """What an item must have, from a JSON object with the words of `matching`.

    `{"$pattern": "^a"}` is a regular expression, `{"$absent": true}` an attribute that must not be
    there, `{"$any": true}` any value. Raises MistakeError.
    """
    if not isinstance(body, dict):
        raise MistakeError(f"what is wanted of a {TRAITS[signal].item} is a JSON object")
    wanted: dict[str, Any] = {}
    for word, value in body.items():
        if word not in WORDS[signal]:
            raise _unknown_word(signal, word, WORDS[signal])
        if word in {"attributes", "resource"}:
            if not isinstance(value, dict):
                raise MistakeError(f"{word} is an object of keys and values")
            wanted[word] = {key: _expected(item) for key, item in value.items()}
        elif word in {"events", "links"}:
            wanted[word] = _expected_parts(word, value)
        else:
            wanted[word] = _expected(value)
    return wanted


def _expected_parts(word: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise MistakeError(f"{word} is a list of objects")
    return [
        {
            key: {name: _expected(each) for name, each in item.items()}
            if key == "attributes" and isinstance(item, dict)
            else _expected(item)
            for key, item in part.items()
        }
        for part in value
    ]


def _unknown_word(signal: Signal, word: str, known: Sequence[str]) -> MistakeError:
    item = TRAITS[signal].item
    return MistakeError(f"{word!r} cannot be asked of a {item}; these can: {_listed(known)}")


def read_query_wanted(signal: Signal, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The same from a query: `attribute=KEY` or `attribute=KEY=VALUE`, `resource` likewise.

    VALUE is read as JSON where it is JSON (`3`, `true`, `"3"`), else it is the text itself.
    """
    wanted: dict[str, Any] = {}
    for word, text in pairs:
        if word in {"attribute", "resource"}:
            key, sign, value = text.partition("=")
            place = wanted.setdefault("attributes" if word == "attribute" else word, {})
            place[key] = _scalar(value) if sign else _is_there
        elif word in WORDS[signal] and word != "attributes":
            wanted[word] = _scalar(text) if word in _NUMBERS[signal] else text
        else:
            known = [w for w in WORDS[signal] if w != "attributes"]
            raise _unknown_word(signal, word, ["attribute", *known])
    return wanted


def _is_there(value: Any) -> bool:
    return value is not ABSENT


def _scalar(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if value is None else value


def _expected(value: Any) -> Any:
    if not isinstance(value, dict) or not any(key.startswith("$") for key in value):
        return value
    match value:
        case {"$pattern": str(pattern), **rest} if not rest:
            try:
                return re.compile(pattern)
            except re.error as error:
                raise MistakeError(f"the pattern {pattern!r}: {error}") from None
        case {"$absent": True, **rest} if not rest:
            return ABSENT
        case {"$any": True, **rest} if not rest:
            return _is_there
    raise MistakeError('a special value is {"$pattern": …}, {"$absent": true} or {"$any": true}')


def read_answers(body: Mapping[str, Any]) -> tuple[list[Answer] | str, Answer | None]:
    """The answers of `{"script": TEXT}` or `{"answers": [{…}]}`, and those of `default` if given.

    An answer is an object with the fields of `Answer`. Raises MistakeError or ScriptError.
    """
    if not body.keys() <= {"script", "answers", "default"} or {"script", "answers"} <= body.keys():
        raise MistakeError('a script is {"script": "503*3,ok"} or {"answers": [{"status": 503}]}')
    default = body.get("default")
    new_default = None if default is None else _read_answer(default)
    if "answers" not in body:
        text = body.get("script", "")
        if not isinstance(text, str):
            raise MistakeError("script is a text; for a list of objects use answers")
        return text, new_default
    if not isinstance(body["answers"], list):
        raise MistakeError("answers is a list of objects")
    return [_read_answer(item) for item in body["answers"]], new_default


def _read_answer(item: Any) -> Answer:
    if isinstance(item, str):
        steps = Script(item).left
        if len(steps) != 1 or not isinstance(steps[0], Answer):
            raise MistakeError(f"{item!r} is not one answer")
        return steps[0]
    if not isinstance(item, dict):
        raise MistakeError("an answer is an object or a short text")
    unknown = item.keys() - _ANSWER_FIELDS.keys()
    if unknown:
        raise MistakeError(f"{min(unknown)!r} is not one of {_listed(_ANSWER_FIELDS)}")
    values = dict(item)
    if "ending" in values:
        if values["ending"] not in set(Ending):
            raise MistakeError(f"ending is one of {_listed(tuple(Ending))}")
        values["ending"] = Ending(values["ending"])
    if values.get("coding") is not None:
        if values["coding"] not in set(Coding):
            raise MistakeError(f"coding is one of {_listed(tuple(Coding))}")
        values["coding"] = Coding(values["coding"])
    for name, value in values.items():
        _check_type(name, value)
    return Answer(**values)


_KIND_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "an object",
    list: "a list",
    bool: "true or false",
}


def _check_type(name: str, value: Any) -> None:
    """Raise MistakeError for what only breaks once it is answered."""
    kinds: dict[str, tuple[type, ...]] = {
        "status": (int,),
        "message": (str,),
        "rejected_spans": (int,),
        "body": (str, dict, list),
        "content_type": (str,),
        "headers": (dict,),
        "retry_after": (int, float, str),
        "delay_seconds": (int, float),
        "times": (int,),
        "ending": (str,),
        "for_seconds": (int, float),
        "read_bytes_per_second": (int,),
        "dribble_seconds": (int, float),
        "size_bytes": (int,),
        "coding": (str,),
        "idle_close_seconds": (int, float),
        "closes_at_next": (bool,),
        "bytes_per_second": (int,),
    }
    is_null = value is None and _ANSWER_FIELDS[name] is None
    is_bool = isinstance(value, bool) and bool not in kinds[name]
    if not is_null and (not isinstance(value, kinds[name]) or is_bool):
        raise MistakeError(f"{name} is {' or '.join(_KIND_NAMES[kind] for kind in kinds[name])}")
    if name == "headers" and not all(isinstance(each, str) for each in value.values()):
        raise MistakeError("headers is an object of texts")


def item_record(item: ReceivedItem) -> dict[str, Any]:
    """An item as JSON shows it; times are strings, since they do not fit a JavaScript number."""
    match item:
        case ReceivedSpan():
            own = _span_fields(item)
        case ReceivedLogRecord():
            own = _log_record_fields(item)
        case ReceivedDataPoint():
            own = _data_point_fields(item)
        case _:
            own = {}
    return {
        **own,
        "attributes": _plain(item.attributes),
        "scope": {"name": item.scope.name, "version": item.scope.version},
        "scope_attributes": _plain(item.scope.attributes),
        "scope_schema_url": item.scope.schema_url,
        "resource": _plain(item.resource.attributes),
        "resource_schema_url": item.resource.schema_url,
        "request_number": item.request_number,
        "is_accepted": item.is_accepted,
    }


def _log_record_fields(record: ReceivedLogRecord) -> dict[str, Any]:
    return {
        "time_unix_nano": str(record.time_unix_nano),
        "observed_time_unix_nano": str(record.observed_time_unix_nano),
        "severity_number": record.severity_number,
        "severity_text": record.severity_text,
        "body": _plain(record.body),
        "event_name": record.event_name,
        "trace_id": record.trace_id,
        "span_id": record.span_id,
        "flags": record.flags,
        "dropped_attributes_count": record.raw.dropped_attributes_count,
    }


def _data_point_fields(point: ReceivedDataPoint) -> dict[str, Any]:
    return {
        "name": point.name,
        "description": point.metric.description,
        "unit": point.unit,
        "kind": point.kind,
        "temporality": point.temporality,
        "is_monotonic": point.is_monotonic,
        "start_time_unix_nano": str(point.start_time_unix_nano),
        "time_unix_nano": str(point.time_unix_nano),
        "value": _plain(point.value),
        "count": point.count,
        "sum": _plain(point.sum),
        "min": _plain(point.min),
        "max": _plain(point.max),
        "bucket_counts": point.bucket_counts,
        "explicit_bounds": _plain(point.explicit_bounds),
        "flags": point.flags,
    }


def _span_fields(span: ReceivedSpan) -> dict[str, Any]:
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "name": span.name,
        "kind": span.kind,
        "start_time_unix_nano": str(span.start_time_unix_nano),
        "end_time_unix_nano": str(span.end_time_unix_nano),
        "status_code": span.status_code,
        "status_message": span.status_message,
        "flags": span.flags,
        "dropped_attributes_count": span.raw.dropped_attributes_count,
        "trace_state": span.raw.trace_state,
        "dropped_events_count": span.raw.dropped_events_count,
        "dropped_links_count": span.raw.dropped_links_count,
        "events": [
            {
                "name": event.name,
                "time_unix_nano": str(event.time_unix_nano),
                "attributes": _plain(event.attributes),
                "dropped_attributes_count": event.dropped_attributes_count,
            }
            for event in span.events
        ],
        "links": [
            {
                "trace_id": link.trace_id,
                "span_id": link.span_id,
                "trace_state": link.trace_state,
                "flags": link.flags,
                "attributes": _plain(link.attributes),
            }
            for link in span.links
        ],
    }


def request_record(request: ReceivedRequest) -> dict[str, Any]:
    """A request as JSON shows it, without header values and body."""
    return {
        "number": request.number,
        "received_unix_nano": str(request.received_unix_nano),
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "encoding": request.encoding,
        "content_encoding": request.content_encoding,
        "wire_bytes": request.wire_bytes,
        "decoded_bytes": request.decoded_bytes,
        **wire_record(request),
        **item_counts(request),
        "unknown_keys": list(request.unknown_keys),
        "flaws": list(request.flaws),
        "header_names": list(request.header_names),
        "status": request.status,
        "answer": request.answer,
        "reason": request.reason,
    }


def whole_request_record(request: ReceivedRequest, secret_names: Sequence[str]) -> dict[str, Any]:
    """A request with its decoded body and its headers; null is the value of a secret one.

    Secret are `secret_names` and what is named like one. A body in JSON is shown as text, another
    in base64; it is null where it was given up for space.
    """
    is_text = request.encoding == "json"
    body = request.body if request.is_complete else None
    return {
        **request_record(request),
        "headers": [list(header) for header in shown_headers(request, secret_names)],
        "body_text": body.decode(errors="replace") if body is not None and is_text else None,
        "body_base64": None if body is None or is_text else base64.b64encode(body).decode(),
    }


def script_record(script: Script) -> dict[str, Any]:
    """What is yet to be answered, in words; `times` null is for ever."""
    left = [{"answer": str(answer), "times": answer.times} for answer in script.left]
    return {"left": left, "default": str(script.default)}


def _plain(value: Any) -> Any:
    """An attribute value in JSON: bytes as {"$bytes": base64}, special doubles as texts."""
    match value:
        case bytes():
            return {"$bytes": base64.b64encode(value).decode()}
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
    return value


def _listed(words: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(words)
