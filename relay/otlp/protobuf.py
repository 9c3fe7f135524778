"""A request in OTLP protobuf in, the official messages and fragments for the disk out.

Unknown fields survive: what was parsed is what is serialised. Raises Refusal for what is no
request of its signal; the parser's own words may quote the body and are not passed on.

The envelopes have the same field numbers in every signal: 1 is a request's entries; of an entry
1 is the resource and 2 its scopes; of a scope 2 is its records (spans, log records, metrics).
"""

import math
import re
import sys
from collections.abc import Iterator, MutableSequence, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2

from relay.model.errors import Refusal, TooHeavy
from relay.model.records import BodyFlag, Encoding, Piece, Signal
from relay.otlp.cuts import SizedItem, group_items
from relay.otlp.data_points import points_of
from relay.otlp.json_values import Findings, Unreadable
from relay.otlp.protobuf_writer import delimited
from relay.otlp.resources import KnownResource, ResourceCache, know_protobuf
from relay.otlp.signals import SignalWire

# Looked up once: until Python 3.12 a member of an enum costs 50 ns each time.
_PROTOBUF: Final = Encoding.PROTOBUF
_METRICS: Final = Signal.METRICS
# Tag of AnyValue.double_value, and the top bytes of a double whose exponent is all ones. It may
# stand there by chance: whatever matches is looked at properly.
_MAYBE_SPECIAL: Final = re.compile(rb"\x21.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)
# A nested message costs its tag and a length.
_FRAME_BYTES: Final = 6
_NO_RESOURCE: Final = b""
FORMER_SCOPES: Final = 1000
"""The number of an entry's scopes until OTLP 0.15. Some senders never changed."""
_FORMER_TAG: Final = b"\xc2\x3e"

_TAKEN_OUT_SINGLY: Final = 64
_TOP_KEYS: Final = 10
# Of a message whose unknown fields are listed: each takes a microsecond, and two bytes.
_MOST_BYTES_LISTED: Final = 2048
# Tags of the envelopes from the outside in: entry, scope, record; a metric's kind; its points.
_ENTRY_TAG: Final = b"\x0a"
_SCOPE_TAG: Final = b"\x12"
_RECORD_TAG: Final = b"\x12"
_POINT_TAG: Final = b"\x0a"
_KIND_TAGS: Final = {
    field.name: bytes([field.number << 3 | 2])
    for field in metrics_pb2.Metric.DESCRIPTOR.oneofs_by_name["data"].fields
}

Place = tuple[int, ...]
"""Where something stands: its entry, scope, record and, of metrics, point."""


class ProtobufRequest:
    """A decoded request. Whoever takes records out says so with `changed`.

    `resources` stands parallel to `entries`. `records` are all spans, log records or metrics in
    order. `findings` holds flags for the pieces and warnings by code.
    """

    encoding: Final = Encoding.PROTOBUF
    body_bytes = 0
    """How long the body was; for who checks it."""

    def __init__(
        self,
        wire: SignalWire,
        message: Any,
        resources: list[KnownResource],
        findings: Findings,
        *,
        is_filled: bool,
    ) -> None:
        self.wire = wire
        self.lists = wire.lists[_PROTOBUF]
        self.message = message
        self.resources = resources
        self.findings = findings
        self.records = all_records(message, wire)
        self._is_filled = is_filled

    @property
    def entries(self) -> list[Any]:
        """The entries, in order."""
        return list(getattr(self.message, self.lists.entries))

    def changed(self) -> None:
        """Records were taken out."""
        self.records = all_records(self.message, self.wire)
        self._is_filled = False

    def count_items(self) -> int:
        """How many spans, log records or data points there are."""
        if self.wire.signal is _METRICS:
            return sum(len(points_of(metric)) for metric in self.records)
        return len(self.records)

    def fragment_of(self, index: int, scope: Any, record: Any) -> bytes:
        """A fragment with this record alone, its resource and scope around it."""
        entry = self.entries[index]
        alone = self.wire.request()
        around = getattr(alone, self.lists.entries).add(schema_url=entry.schema_url)
        if entry.HasField("resource"):
            around.resource.CopyFrom(entry.resource)
        inner = getattr(around, self.lists.scopes).add(schema_url=scope.schema_url)
        if scope.HasField("scope"):
            inner.scope.CopyFrom(scope.scope)
        getattr(inner, self.lists.records).add().CopyFrom(record)
        return alone.SerializeToString()

    def fragment_as_sent(self, unreadable: Unreadable) -> bytes:
        """A fragment with what could not be read alone, its resource and scope around it."""
        index, place, *_ = unreadable.place
        scope = getattr(self.entries[index], self.lists.scopes)[place]
        record = getattr(type(scope)(), self.lists.records).add()
        record.MergeFromString(unreadable.tree)
        return self.fragment_of(index, scope, record)

    def pieces(self, limit_bytes: int, resources: list[bytes] | None = None) -> tuple[Piece, ...]:
        """The request as fragments within the limit; none without items.

        `resources` are encoded resources to put in the place of its own, one an entry. What holds
        no item is left out. A single item that is larger than the limit stays whole.
        """
        if resources is not None:
            entries = getattr(self.message, self.lists.entries)
            for index, encoded in enumerate(resources):
                if encoded != self.resources[index].normal:
                    entries[index].resource.ParseFromString(encoded)
        self.drop_empty()
        items = self.count_items()
        if not items:
            return ()
        body = self.message.SerializeToString()
        if len(body) <= limit_bytes or items == 1:
            return (self._piece(body, items, self.records, range(len(self.resources))),)
        return self._cut(limit_bytes)

    def drop_empty(self) -> None:
        """Take out what holds no item. Unknown fields that go with it are told."""
        if self._is_filled:
            return
        entries = getattr(self.message, self.lists.entries)
        name = self.wire.lists[Encoding.JSON].entries
        empty = []
        for index, entry in enumerate(entries):
            if not self._keep_filled(entry, f"{name}[{index}]"):
                empty.append(index)
                self._tell_unknown(entry, f"{name}[{index}]")
        take_out(entries, empty)
        take_out(self.resources, empty)
        if not entries:
            fields = self._tell_unknown(self.message, "the request")
            self.findings.top_keys = (*[name][: len(empty)], *fields[:_TOP_KEYS])

    def _keep_filled(self, entry: Any, path: str) -> bool:
        """Take out of an entry what holds no item; whether there are scopes left."""
        scopes = getattr(entry, self.lists.scopes)
        empty = []
        for number, scope in enumerate(scopes):
            records = getattr(scope, self.lists.records)
            if self.wire.signal is _METRICS:
                take_out(records, [k for k, metric in enumerate(records) if not points_of(metric)])
            if not records:
                empty.append(number)
                name = self.wire.lists[Encoding.JSON].scopes
                self._tell_unknown(scope, f"{path}.{name}[{number}]")
        take_out(scopes, empty)
        return bool(scopes)

    def _tell_unknown(self, message: Message, path: str) -> list[str]:
        """Tell, and give back, the fields of a message that is left out and has no items."""
        if message.ByteSize() > _MOST_BYTES_LISTED:
            fields = ["many fields"] if discard_unknown(message) else []
        else:
            fields = [f"field {number}" for number in unknown_numbers(message)]
        for field in fields:
            self.findings.warn_at("unknown_key", f"{field} of {path}")
        return fields

    def _piece(
        self, body: bytes, items: int, records: Sequence[Any], resources: Sequence[int]
    ) -> Piece:
        distinct: dict[bytes, None] = {}
        if self.wire.signal is not _METRICS:
            # Of a log record without a trace that is nothing.
            distinct = dict.fromkeys([record.trace_id for record in records])
        services = dict.fromkeys([self.resources[index].service for index in resources])
        services.pop("", None)
        return Piece(
            encoding=_PROTOBUF,
            body=body,
            items=items,
            trace_ids=b"".join(distinct),
            services=tuple(services),
            flags=self.findings.flags,
            signal=self.wire.signal,
        )

    def _cut(self, limit_bytes: int) -> tuple[Piece, ...]:
        around, texts = self._take_apart()
        sized = [
            SizedItem(
                place,
                len(text) + _FRAME_BYTES,
                tuple(around[place[:level]].size_bytes for level in range(1, len(place))),
            )
            for place, text in texts.items()
        ]
        pieces: list[Piece] = []
        first = 0
        for group in group_items(sized, limit_bytes):
            places = [item.place for item in group]
            body = _join({place: texts[place] for place in places}, around)
            if not pieces:
                body += around[()].text  # what else the request holds: fields not known here
            # Of metrics no record is asked for.
            records = self.records[first : first + len(group)]
            resources = list(dict.fromkeys(place[0] for place in places))
            pieces.append(self._piece(body, len(group), records, resources))
            first += len(group)
        return tuple(pieces)

    def _take_apart(self) -> tuple[dict[Place, "_Around"], dict[Place, bytes]]:
        """What is around items, by place, and each item's bytes, in order."""
        # Of a copy the items are taken out: what is left are the envelopes, unknown fields too.
        envelopes = self.wire.request()
        envelopes.CopyFrom(self.message)
        around: dict[Place, _Around] = {}
        texts: dict[Place, bytes] = {}
        for i, entry in enumerate(getattr(envelopes, self.lists.entries)):
            for j, scope in enumerate(getattr(entry, self.lists.scopes)):
                for k, record in enumerate(getattr(scope, self.lists.records)):
                    if self.wire.signal is _METRICS:
                        for number, point in enumerate(points_of(record)):
                            texts[i, j, k, number] = point.SerializeToString()
                        around[i, j, k] = _around_points(record)
                    else:
                        texts[i, j, k] = record.SerializeToString()
                scope.ClearField(self.lists.records)
                around[i, j] = _Around(_SCOPE_TAG, scope.SerializeToString())
            entry.ClearField(self.lists.scopes)
            around[(i,)] = _Around(_ENTRY_TAG, entry.SerializeToString())
        envelopes.ClearField(self.lists.entries)
        around[()] = _Around(b"", envelopes.SerializeToString())
        return around, texts


class _Around(NamedTuple):
    """An envelope without what it holds. A metric holds its points in the message of its kind."""

    tag: bytes
    text: bytes
    kind_tag: bytes = b""
    kind_text: bytes = b""

    @property
    def size_bytes(self) -> int:
        """What it adds to a piece, framing included; never too small."""
        return len(self.text) + len(self.kind_text) + 2 * _FRAME_BYTES

    def around(self, held: list[bytes]) -> bytes:
        """The envelope as a field, with these fields in it."""
        content = b"".join(held)
        if self.kind_tag:
            # In one message: not every parser merges two of a oneof.
            content = delimited(self.kind_tag, self.kind_text + content)
        return delimited(self.tag, self.text + content)


def _around_points(metric: Any) -> _Around:
    """A metric without its points, which are taken out of it."""
    kind = metric.WhichOneof("data")
    if kind is None:
        return _Around(_RECORD_TAG, metric.SerializeToString())
    data = getattr(metric, kind)
    data.ClearField("data_points")
    kind_text = data.SerializeToString()
    metric.ClearField(kind)
    return _Around(_RECORD_TAG, metric.SerializeToString(), _KIND_TAGS[kind], kind_text)


def _join(texts: dict[Place, bytes], around: dict[Place, _Around]) -> bytes:
    """The items as a fragment, each envelope once around those that it holds."""
    depth = len(next(iter(texts)))
    tag = _RECORD_TAG if depth == len("isr") else _POINT_TAG
    fields = {place: [delimited(tag, text)] for place, text in texts.items()}
    for level in range(depth - 1, -1, -1):
        outer: dict[Place, list[bytes]] = {}
        for place, held in fields.items():
            outer.setdefault(place[:level], []).extend(held)
        if not level:
            break
        fields = {place: [around[place].around(held)] for place, held in outer.items()}
    return b"".join(outer[()])


def take_out(items: MutableSequence[Any], bad: list[int]) -> None:
    """Take out the items with these indices, which are in order."""
    if len(bad) <= _TAKEN_OUT_SINGLY:
        for index in reversed(bad):
            del items[index]
        return
    # Each deletion moves all that stands behind: with many of them it is cheaper to start anew.
    gone = set(bad)
    kept = [item for index, item in enumerate(items) if index not in gone]
    del items[:]
    items.extend(kept)


def is_filled(message: Any, wire: SignalWire) -> bool:
    """Whether everything in a request holds items, and there are some: as nearly always."""
    lists = wire.lists[_PROTOBUF]
    entries = getattr(message, lists.entries)
    for entry in entries:
        scopes = getattr(entry, lists.scopes)
        if not scopes:
            return False
        for scope in scopes:
            records = getattr(scope, lists.records)
            if not records:
                return False
            if wire.signal is _METRICS and not all(map(points_of, records)):
                return False
    return bool(entries)


def has_former_scopes(message: Any, wire: SignalWire) -> bool:
    """Whether an entry seems to have scopes under their number until OTLP 0.15, and no others."""
    lists = wire.lists[_PROTOBUF]
    return any(
        _FORMER_TAG in entry.SerializeToString()
        for entry in getattr(message, lists.entries)
        if not getattr(entry, lists.scopes)
    )


def discard_unknown(message: Message) -> bool:
    """Take out, at every depth, the fields that the schema does not know; whether there were any.

    It costs no object of Python a field.
    """
    before = message.ByteSize()
    message.DiscardUnknownFields()
    return message.ByteSize() != before


def unknown_numbers(message: Message) -> list[int]:
    """The numbers of a message's fields that its schema does not know; a microsecond each."""
    fields = UnknownFieldSet(message)
    return [fields[index].field_number for index in range(len(fields))]


def all_records(message: Any, wire: SignalWire) -> list[Any]:
    """Every span, log record or metric, in order."""
    lists = wire.lists[_PROTOBUF]
    return [
        record
        for entry in getattr(message, lists.entries)
        for scope in getattr(entry, lists.scopes)
        for record in getattr(scope, lists.records)
    ]


def _attribute_lists(message: Any, wire: SignalWire) -> Iterator[Sequence[common_pb2.KeyValue]]:
    """The attributes of everything in a request that has some."""
    lists = wire.lists[_PROTOBUF]
    for entry in getattr(message, lists.entries):
        if entry.HasField("resource"):
            yield entry.resource.attributes
        for scope in getattr(entry, lists.scopes):
            if scope.HasField("scope"):
                yield scope.scope.attributes
            for record in getattr(scope, lists.records):
                yield from _ATTRIBUTES[wire.signal](record)


def _of_span(span: Any) -> Iterator[Sequence[common_pb2.KeyValue]]:
    yield span.attributes
    for each in (*span.events, *span.links):
        yield each.attributes


def _of_log_record(record: Any) -> Iterator[Sequence[common_pb2.KeyValue]]:
    yield record.attributes


def _of_metric(metric: Any) -> Iterator[Sequence[common_pb2.KeyValue]]:
    yield metric.metadata
    for point in points_of(metric):
        yield point.attributes
        for exemplar in getattr(point, "exemplars", ()):  # a summary's points have none
            yield exemplar.filtered_attributes


_ATTRIBUTES: Final = {
    Signal.TRACES: _of_span,
    Signal.LOGS: _of_log_record,
    Signal.METRICS: _of_metric,
}


def parse(body: bytes, wire: SignalWire) -> Message:
    """The message as it was sent. Raises Refusal (400), and MemoryError as Python does."""
    try:
        return wire.request.FromString(body)
    except DecodeError as error:
        if "alloc" in str(error):
            raise MemoryError from None
        raise Refusal(_describe(str(error), wire)) from None


def settle(
    message: Message,
    body: bytes,
    cache: ResourceCache,
    wire: SignalWire,
    findings: Findings,
    *,
    is_filled: bool = False,
    most_values: int | None = None,
) -> ProtobufRequest:
    """What is known of a parsed request: its resources, more findings. `body` is its bytes.

    `is_filled` spares a look at what is empty.

    Raises TooHeavy when more than `most_values` would have to be looked at one by one.
    """
    resources = []
    for entry in getattr(message, wire.lists[_PROTOBUF].entries):
        known = _known(entry, cache)
        resources.append(known)
        for code, times in known.warnings.items():
            findings.warnings[code] += times
    if _MAYBE_SPECIAL.search(body) and has_special_double(message, wire, most_values):
        findings.flags |= BodyFlag.SPECIAL_DOUBLES
    return ProtobufRequest(wire, message, resources, findings, is_filled=is_filled)


def _describe(words: str, wire: SignalWire) -> str:
    lower = words.lower()
    if "utf" in lower:
        why = "a string is not UTF-8"
    elif "depth" in lower or "recursion" in lower:
        why = "it is nested too deeply: at most 100 messages"
    else:
        why = "its bytes are damaged, cut short, or another kind of message"
    return f"the body is not an {wire.request.DESCRIPTOR.name} in protobuf: {why}"


def _known(entry: Any, cache: ResourceCache) -> KnownResource:
    encoded = entry.resource.SerializeToString() if entry.HasField("resource") else _NO_RESOURCE
    known = cache.get(encoded)
    return known or cache.put(encoded, know_protobuf(entry.resource, encoded))


def has_special_double(message: Any, wire: SignalWire, most_values: int | None = None) -> bool:
    """Whether the value of any attribute, or a log's body, is NaN or an infinity.

    What a metric measured is data and not asked. Raises TooHeavy for more than `most_values`.
    """
    left = sys.maxsize if most_values is None else most_values
    values: list[common_pb2.AnyValue] = []
    if wire.signal is Signal.LOGS:
        values = [record.body for record in all_records(message, wire)]
    lists = _attribute_lists(message, wire)
    while True:
        for pairs in lists:
            left -= 1 + len(pairs)
            if left < 0:
                raise TooHeavy
            values.extend(pair.value for pair in pairs)
        if not values:
            return False
        value = values.pop()
        match value.WhichOneof("value"):
            case "double_value":
                if not math.isfinite(value.double_value):
                    return True
            case "array_value":
                left -= len(value.array_value.values)
                if left < 0:
                    raise TooHeavy
                values.extend(value.array_value.values)
            case "kvlist_value":
                lists = iter((value.kvlist_value.values,))
            case _:
                pass
