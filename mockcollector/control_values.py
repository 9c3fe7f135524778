"""JSON of the control API in, what the journal and the script take out; and the way back."""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

from mockcollector.journal import Journal
from mockcollector.matching import ABSENT, Wanted
from mockcollector.received import ReceivedRequest, ReceivedSpan
from mockcollector.script import Script
from mockcollector.script_values import Answer, Ending

_WORDS = tuple(Wanted.__annotations__)
_NUMBERS = {"kind", "status_code"}
_ANSWER_FIELDS = {field.name: field.type for field in fields(Answer)}


class MistakeError(ValueError):
    """A question that cannot be understood; the message says what would be right."""


def read_wanted(body: Any) -> Wanted:
    """What a span must have, from a JSON object as `matching.Wanted` has it.

    `{"$pattern": "^a"}` is a regular expression, `{"$absent": true}` an attribute that must not be
    there, `{"$any": true}` any value. Raises MistakeError.
    """
    if not isinstance(body, dict):
        raise MistakeError("what is wanted of a span is a JSON object")
    wanted: dict[str, Any] = {}
    for word, value in body.items():
        if word not in _WORDS:
            raise MistakeError(f"{word!r} cannot be asked of a span; these can: {_listed(_WORDS)}")
        if word in {"attributes", "resource"}:
            if not isinstance(value, dict):
                raise MistakeError(f"{word} is an object of keys and values")
            wanted[word] = {key: _expected(item) for key, item in value.items()}
        else:
            wanted[word] = _expected(value)
    return cast("Wanted", wanted)


def read_query_wanted(pairs: Sequence[tuple[str, str]]) -> Wanted:
    """The same from a query: `attribute=KEY` or `attribute=KEY=VALUE`, `resource` likewise.

    VALUE is read as JSON where it is JSON (`3`, `true`, `"3"`), else it is the text itself.
    """
    wanted: dict[str, Any] = {}
    for word, text in pairs:
        if word in {"attribute", "resource"}:
            key, sign, value = text.partition("=")
            place = wanted.setdefault("attributes" if word == "attribute" else word, {})
            place[key] = _scalar(value) if sign else _is_there
        elif word in _WORDS and word != "attributes":
            wanted[word] = _scalar(text) if word in _NUMBERS else text
        else:
            known = [w for w in _WORDS if w != "attributes"]
            raise MistakeError(
                f"{word!r} cannot be asked of a span; these can: attribute, {_listed(known)}"
            )
    return cast("Wanted", wanted)


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
        answers = Script(item).left
        if len(answers) != 1:
            raise MistakeError(f"{item!r} is not one answer")
        return answers[0]
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
    for name, value in values.items():
        _check_type(name, value)
    return Answer(**values)


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
    }
    is_null = value is None and name in {"body", "content_type", "retry_after", "times"}
    if not is_null and (not isinstance(value, kinds[name]) or isinstance(value, bool)):
        raise MistakeError(f"{name} is not {' or '.join(kind.__name__ for kind in kinds[name])}")
    if name == "headers" and not all(isinstance(each, str) for each in value.values()):
        raise MistakeError("headers is an object of texts")


def span_record(span: ReceivedSpan) -> dict[str, Any]:
    """A span as JSON shows it; times are strings, since they do not fit a JavaScript number."""
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
        "attributes": _plain(span.attributes),
        "events": [
            {
                "name": event.name,
                "time_unix_nano": str(event.time_unix_nano),
                "attributes": _plain(event.attributes),
            }
            for event in span.events
        ],
        "links": [
            {
                "trace_id": link.trace_id,
                "span_id": link.span_id,
                "attributes": _plain(link.attributes),
            }
            for link in span.links
        ],
        "scope": {"name": span.scope.name, "version": span.scope.version},
        "resource": _plain(span.resource.attributes),
        "request_number": span.request_number,
        "is_accepted": span.is_accepted,
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
        "spans": request.span_count,
        "accepted_spans": request.accepted_spans,
        "unknown_keys": list(request.unknown_keys),
        "header_names": list(request.header_names),
        "status": request.status,
        "answer": request.answer,
        "reason": request.reason,
    }


def counts_record(journal: Journal) -> dict[str, Any]:
    """The journal's numbers."""
    counts = journal.counts
    return {
        "requests": counts.requests,
        "spans_accepted": counts.spans_accepted,
        "duplicate_spans": journal.duplicate_spans,
        "spans_refused": counts.spans_refused,
        "wire_bytes": counts.wire_bytes,
        "decoded_bytes": counts.decoded_bytes,
        "answers": counts.answers,
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
