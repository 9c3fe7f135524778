"""What a journal accepted in, a document that is the same in every run out; and golden files of it.

What differs from run to run is left out or made the same: ids, times, the order of arrival, how
items were spread over requests, and attributes that name a process or a machine. A span holds its
children, so the shape of a trace stays; siblings and traces are in the order of their contents.
"""

import difflib
import fnmatch
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mockcollector.items import (
    ReceivedDataPoint,
    ReceivedItem,
    ReceivedLogRecord,
    ReceivedResource,
    ReceivedScope,
    ReceivedSpan,
)
from mockcollector.journal import Journal
from mockcollector.signals import Signal

VARIES = "(varies)"
DEFAULT_VARYING = (
    "container.*",
    "host.*",
    "os.*",
    "process.*",
    "service.instance.id",
    "telemetry.*.version",
    "thread.*",
)
"""Attributes of which only it is said that they are there; patterns in which * is anything."""
_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")
_TEMPORALITIES = ("unspecified", "delta", "cumulative")


def snapshot(journal: Journal, *, varying: Sequence[str] = ()) -> dict[str, Any]:
    """All that was accepted, normalised. `varying` adds to `DEFAULT_VARYING`.

    Only signals that came are in it. The same span that came twice is in it once.
    """
    made = _Maker((*DEFAULT_VARYING, *varying))
    spans = [item for item in journal.items(Signal.TRACES, {}) if isinstance(item, ReceivedSpan)]
    records = [
        item for item in journal.items(Signal.LOGS, {}) if isinstance(item, ReceivedLogRecord)
    ]
    points = [
        item for item in journal.items(Signal.METRICS, {}) if isinstance(item, ReceivedDataPoint)
    ]
    names = {span.span_id: span.name for span in spans}
    document = {
        "traces": made.traces(spans, names),
        "logs": _sorted(made.log_record(each, names) for each in records),
        "metrics": _sorted(made.data_point(each) for each in points),
    }
    return {signal: items for signal, items in document.items() if items}


def to_text(document: dict[str, Any]) -> str:
    """The document as a golden file holds it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def assert_snapshot(
    journal: Journal, path: Path, *, is_update: bool = False, varying: Sequence[str] = ()
) -> None:
    """Compare with the golden file; with `is_update` write it instead.

    Raises AssertionError with the difference, or where there is no such file yet.
    """
    text = to_text(snapshot(journal, varying=varying))
    if is_update:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    if not path.exists():
        raise AssertionError(
            f"there is no snapshot {path}: write it with --mock-collector-update\n{text}"
        )
    golden = path.read_text(encoding="utf-8")
    if golden != text:
        difference = difflib.unified_diff(
            golden.splitlines(), text.splitlines(), str(path), "what arrived", lineterm="", n=4
        )
        words = (
            "what arrived is not what the snapshot holds; if it is right, write it with"
            " --mock-collector-update"
        )
        raise AssertionError("\n".join([words, *difference]))


class _Maker:
    """Makes documents of items, with what varies hidden."""

    def __init__(self, varying: Sequence[str]) -> None:
        self._varying = varying

    def traces(self, spans: Iterable[ReceivedSpan], names: dict[str, str]) -> list[Any]:
        """A list of roots for each trace; a span whose parent did not come is a root."""
        distinct = {(span.trace_id, span.span_id): span for span in spans}
        children: dict[tuple[str, str], list[ReceivedSpan]] = {}
        roots: dict[str, list[ReceivedSpan]] = {}
        for span in distinct.values():
            parent = (span.trace_id, span.parent_span_id)
            if parent in distinct and span.parent_span_id != span.span_id:
                children.setdefault(parent, []).append(span)
            else:
                roots.setdefault(span.trace_id, []).append(span)

        def tree(span: ReceivedSpan) -> dict[str, Any]:
            document = self._span(span, names)
            below = _sorted(tree(c) for c in children.get((span.trace_id, span.span_id), []))
            return document | ({"children": below} if below else {})

        return _sorted(_sorted(tree(span) for span in each) for each in roots.values())

    def _span(self, span: ReceivedSpan, names: dict[str, str]) -> dict[str, Any]:
        parent = {}
        if span.parent_span_id and span.parent_span_id not in names:
            parent = {"parent": "elsewhere"}
        return _filled(
            {
                "name": span.name,
                "kind": _word(_KINDS, span.kind),
                **parent,
                "status": _word(_STATUSES, span.status_code) if span.status_code else "",
                "status_message": span.status_message,
                "trace_state": span.raw.trace_state,
                "attributes": self._attributes(span.attributes),
                "events": [
                    _filled({"name": each.name, "attributes": self._attributes(each.attributes)})
                    for each in span.events
                ],
                "links": _sorted(
                    _filled(
                        {
                            "to": names.get(each.span_id, "elsewhere"),
                            "attributes": self._attributes(each.attributes),
                        }
                    )
                    for each in span.links
                ),
                **self._place(span),
            }
        )

    def log_record(self, record: ReceivedLogRecord, names: dict[str, str]) -> dict[str, Any]:
        """One log record; the span that it belongs to by its name."""
        return _filled(
            {
                "event_name": record.event_name,
                "body": _plain(record.body),
                "severity": record.severity_number or "",
                "severity_text": record.severity_text,
                "span": names.get(record.span_id, "elsewhere") if record.span_id else "",
                "attributes": self._attributes(record.attributes),
                **self._place(record),
            }
        )

    def data_point(self, point: ReceivedDataPoint) -> dict[str, Any]:
        """One data point with what is said of its metric."""
        temporality = point.temporality
        return _filled(
            {
                "name": point.name,
                "kind": point.kind,
                "unit": point.unit,
                "temporality": "" if temporality is None else _word(_TEMPORALITIES, temporality),
                "is_monotonic": point.is_monotonic,
                "attributes": self._attributes(point.attributes),
                "value": point.value,
                "count": point.count,
                "sum": point.sum,
                "bucket_counts": point.bucket_counts,
                **self._place(point),
            }
        )

    def _place(self, item: ReceivedItem) -> dict[str, Any]:
        scope: ReceivedScope = item.scope
        resource: ReceivedResource = item.resource
        return {
            "scope": " ".join(filter(None, (scope.name, scope.version))),
            "resource": self._attributes(resource.attributes),
        }

    def _attributes(self, attributes: dict[str, Any]) -> dict[str, Any]:
        return {
            key: VARIES if self._is_varying(key) else _plain(attributes[key])
            for key in sorted(attributes)
        }

    def _is_varying(self, key: str) -> bool:
        return any(fnmatch.fnmatchcase(key, pattern) for pattern in self._varying)


def _plain(value: Any) -> Any:
    """The value as JSON can hold it; of bytes it is the hexadecimal digits."""
    match value:
        case bytes():
            return value.hex()
        case float() if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124 - NaN
            return str(value)
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case _:
            return value


def _filled(document: dict[str, Any]) -> dict[str, Any]:
    """The document without what is not there."""
    return {key: value for key, value in document.items() if value not in ("", None, [], {})}


def _sorted(documents: Iterable[Any]) -> list[Any]:
    return sorted(documents, key=json.dumps)


def _word(words: Sequence[str], number: int) -> str:
    return words[number] if 0 <= number < len(words) else str(number)
