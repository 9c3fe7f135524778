"""Spans and log records out of kept rows, each with what is said of it elsewhere in its row."""

import time
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from relay.model.records import Encoding, Signal, StoredRow
from relay.otlp import messages, transcode
from relay.otlp.messages import AnyValue, KeyValue
from relay.otlp.resources import SERVICE_NAME
from relay.otlp.signals import WIRE
from relay.otlp.transcode import TranscodeError
from relay.view.query import LEVELS, Item

_LEVEL_WORDS: Final = {
    "warning": "warn",
    "critical": "fatal",
    "err": "error",
    "information": "info",
}
_TURN_SECONDS: Final = 0.001
_ERROR: Final = 2  # of a span's status codes


@dataclass(slots=True)
class Source:
    """What several items have in common: a resource and a scope."""

    resource: messages.Resource
    scope: messages.InstrumentationScope

    @property
    def service(self) -> str:
        """The resource's service.name; empty without one."""
        attributes = self.resource.attributes
        return next((text_of(each.value) for each in attributes if each.key == SERVICE_NAME), "")


class Placed(NamedTuple):
    """A span, log record or metric: number `number` (from 0) of row `row`."""

    row: int
    number: int
    source: Source
    service: str
    record: Any


class Turns:
    """Gives the event loop its turn, between two pieces of what a thread computes.

    The thread would keep the interpreter for 5 ms each time the loop wants it. But where the loop
    is busy it does not get it back at once: so it keeps it for about a millisecond.
    """

    def __init__(self) -> None:
        self._ends = time.monotonic() + _TURN_SECONDS

    def give(self) -> None:
        """If it is time."""
        if time.monotonic() >= self._ends:
            time.sleep(0)
            self._ends = time.monotonic() + _TURN_SECONDS


def each_in_turn(
    rows: Iterable[StoredRow], wanted: Mapping[int, Container[str]] | None = None
) -> Iterator[tuple[StoredRow, list[Placed]]]:
    """Each row with its items, as `items_of` says; the event loop has its turn in between."""
    turns = Turns()
    for row in rows:
        yield row, items_of(row, None if wanted is None else wanted[row.row])
        turns.give()


def items_of(row: StoredRow, wanted: Container[str] | None = None) -> list[Placed]:
    """Every span, log record or metric of a row, or the spans alone of the traces that are
    `wanted`; none where the row cannot be read.
    """
    lists = WIRE[row.signal].lists[Encoding.JSON]
    resources: dict[bytes, messages.Resource] = {}
    found: list[Placed] = []
    count = 0
    for entry in _entries(row):
        text = bytes(entry.resource)
        resource = resources.get(text)
        if resource is None:
            resource = resources[text] = _resource(text)
        for scope in getattr(entry, lists.scopes):
            source = Source(resource, scope.scope or messages.InstrumentationScope())
            service = source.service
            records = getattr(scope, lists.records)
            found += [
                Placed(row.row, number, source, service, record)
                for number, record in enumerate(records, count)
                if wanted is None or record.traceId in wanted
            ]
            count += len(records)
    return found


def _entries(row: StoredRow) -> list[Any]:
    try:
        if row.encoding is Encoding.PROTOBUF:
            return transcode.read_entries(row.body, row.signal)
        return transcode.decode_entries(row.body, row.signal)
    except (TranscodeError, ValueError, RecursionError, msgspec.MsgspecError):
        return []


def _resource(text: bytes) -> messages.Resource:
    try:
        return messages.decode_resource(text)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return messages.Resource()


def text_of(value: AnyValue | UnsetType) -> str:
    """A value as text: strings as they are, lists and objects as JSON, nothing as nothing."""
    plain = plain_of(value)
    if isinstance(plain, str):
        return plain
    return "" if plain is None else msgspec.json.encode(plain).decode()


def plain_of(value: AnyValue | UnsetType) -> Any:
    """A value as JSON has it; 64-bit integers as numbers, bytes as base64, None for nothing."""
    if value is UNSET:
        return None
    if value.arrayValue is not UNSET:
        return [plain_of(each) for each in value.arrayValue.values]
    if value.kvlistValue is not UNSET:
        return {each.key: plain_of(each.value) for each in value.kvlistValue.values}
    if value.intValue is not UNSET:
        return int(value.intValue)
    scalars = (value.stringValue, value.boolValue, value.doubleValue, value.bytesValue)
    return next((each for each in scalars if each is not UNSET), None)


class Attributes(Mapping[str, str]):
    """Attributes as text by key, those of the item before those of its resource.

    Made text when they are asked for: a search rarely looks at the long ones.
    """

    def __init__(self, *lists: list[KeyValue]) -> None:
        self._lists = lists

    @cached_property
    def _by_key(self) -> dict[str, AnyValue | UnsetType]:
        return {each.key: each.value for own in reversed(self._lists) for each in own}

    def __getitem__(self, key: str) -> str:
        return text_of(self._by_key[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_key)

    def __len__(self) -> int:
        return len(self._by_key)


def as_item(placed: Placed, signal: Signal) -> Item:
    """What a search looks at of it."""
    record = placed.record
    values = Attributes(record.attributes, placed.source.resource.attributes)
    if signal is Signal.LOGS:
        level = level_of(record)
        return Item(
            service=placed.service,
            name=record.eventName,
            text=text_of(record.body),
            trace_id=record.traceId,
            span_id=record.spanId,
            is_error=level >= LEVELS["error"],
            level=level,
            values=values,
        )
    begin, end = int(record.startTimeUnixNano), int(record.endTimeUnixNano)
    return Item(
        service=placed.service,
        name=record.name,
        trace_id=record.traceId,
        span_id=record.spanId,
        is_error=is_error(record),
        duration_ns=end - begin if end >= begin > 0 else -1,
        values=values,
    )


def is_error(span: messages.Span) -> bool:
    """Whether its status says so."""
    return span.status is not UNSET and span.status.code == _ERROR


def level_of(record: Any) -> int:
    """The severity number of a log record; where it has none, by its text."""
    word = record.severityText.lower()
    return record.severityNumber or LEVELS.get(_LEVEL_WORDS.get(word, word), 0)


def level_word(number: int) -> str:
    """The level that a severity number is of; empty where it is of none."""
    return next((word for word, least in reversed(LEVELS.items()) if number >= least), "")
