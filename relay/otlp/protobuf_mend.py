"""A protobuf body that the parser refuses in; the same request with its flaws confined out.

One wrong byte makes the official parser refuse a whole request. Here the wire format is walked,
driven by the official descriptors, so that a flaw costs what it is in and no more:

- a text that is not UTF-8 keeps what is text of it; U+FFFD stands for the rest;
- an item that cannot be read, or that is nested too deeply, is taken out and rejected by itself. It
  is kept as the fields of it that can be read, with all of its bytes beside them as an attribute;
- what cannot be read of a resource, of a scope or of what a metric says of itself is left out.

A body whose entries and scopes cannot be told apart is no such request. Depth is a list here, with
a limit, and what may be looked at is counted: contents are hostile.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2

from relay.model.records import Encoding, Signal
from relay.otlp.json_values import Findings, Unreadable
from relay.otlp.protobuf import FORMER_SCOPES, unknown_numbers
from relay.otlp.protobuf_writer import delimited
from relay.otlp.signals import SignalWire

ORIGINAL: Final = "relay.original_bytes"
"""The attribute of an item that cannot be read, with the bytes that came."""

MOST_MESSAGES: Final = 100  # within the outermost and each other, as upb reads them
MOST_LOOKS: Final = 1_000_000  # at a field, or at whether bytes can be read: some 2 µs each

_ENTRY_TAG: Final = b"\x0a"
_SCOPE_TAG: Final = b"\x12"
_DELIMITED: Final = 2
_FIXED_BYTES: Final = {1: 8, 5: 4}
_MOST_VARINT_BYTES: Final = 10
_METRIC: Final = metrics_pb2.Metric.DESCRIPTOR
_TAGS_OF_A_RECORD: Final = 3

# Of a message: the two kinds of these classes have no type in common.
Descriptor = Any


class Torn(Exception):
    """The bytes are no such request, and nothing in them can be told apart."""


def mend(body: bytes, wire: SignalWire, findings: Findings) -> Message:
    """Read a request that the parser refuses; what is wrong with it is in `findings`.

    Raises Torn.
    """
    text = _Walk(wire, findings).envelope(body, _Spot(wire.request.DESCRIPTOR))
    try:
        return wire.request.FromString(text)
    except DecodeError:
        raise Torn from None


def read_former_scopes(message: Message, wire: SignalWire) -> None:
    """Read scopes that stand under their former number as such."""
    lists = wire.lists[Encoding.PROTOBUF]
    for entry in getattr(message, lists.entries):
        if not getattr(entry, lists.scopes) and FORMER_SCOPES in unknown_numbers(entry):
            _read_former_scopes(entry, _Walk(wire, Findings()))


def _read_former_scopes(entry: Message, walk: "_Walk") -> None:
    data = entry.SerializeToString()
    parts = []
    try:
        for field in walk.fields(data):
            part = data[field.start : field.end]
            if field.number == FORMER_SCOPES and field.wire_type == _DELIMITED:
                scope = delimited(_SCOPE_TAG, data[field.content : field.end])
                if walk.is_readable(scope, (_ENTRY_TAG,)):
                    part = scope
            parts.append(part)
    except Torn:  # a field that is not known here may be of a kind that is not read here
        return
    entry.ParseFromString(b"".join(parts))


class _Field(NamedTuple):
    """A field on the wire: its tag as it came, where it starts, its content, and where it ends."""

    number: int
    wire_type: int
    tag: bytes
    start: int
    content: int
    end: int


class _Spot(NamedTuple):
    """A message in the request: what it is, the tags that lead to it, and where it stands."""

    descriptor: Descriptor
    tags: tuple[bytes, ...] = ()
    place: tuple[int, ...] = ()
    path: str = ""

    def inner(self, field: _Field, number: int) -> "_Spot":
        """The message that a field of this one holds; of a list it is number `number`."""
        known = self.descriptor.fields_by_number[field.number]
        name = known.camelcase_name
        path = f"{self.path}.{name}" if self.path else name
        tags = (*self.tags, field.tag)
        if known.is_repeated:
            return _Spot(known.message_type, tags, (*self.place, number), f"{path}[{number}]")
        return _Spot(known.message_type, tags, self.place, path)


class _Walk:
    """One request, walked."""

    def __init__(self, wire: SignalWire, findings: Findings) -> None:
        self._findings = findings
        self._request = wire.request
        self._inner = _inner_fields(wire)
        self._looks = 0

    def envelope(self, content: bytes, spot: _Spot) -> bytes:
        """What can be read of a message around items. It calls itself as deep as items are."""
        since = len(self._findings.unreadable)
        leads_on = self._inner[spot.descriptor]
        around: list[bytes] = []
        inside: list[bytes] = []
        for field in self.fields(content):
            raw = content[field.start : field.end]
            if field.number not in leads_on or field.wire_type != _DELIMITED:
                around.append(self._around(raw, spot, field))
            elif self.is_readable(raw, spot.tags):
                inside.append(raw)
            else:
                inner = spot.inner(field, len(inside))
                inside.append(self._inside(content[field.content : field.end], inner))
        if spot.descriptor is _METRIC:
            for each in self._findings.unreadable[since:]:
                each.tree = b"".join((*around, each.tree))
        return b"".join((*around, *inside))

    def _inside(self, content: bytes, spot: _Spot) -> bytes:
        """What can be read of an item, or of what leads to some, as a field; empty if nothing."""
        if spot.descriptor not in self._inner:
            return self._item(content, spot)
        unreadable = self._findings.unreadable
        since = len(unreadable)
        try:
            return delimited(spot.tags[-1], self.envelope(content, spot))
        except Torn:
            if spot.descriptor is not _METRIC:
                raise
            # Its points cannot be told apart: it counts as one.
            metric = metrics_pb2.Metric()
            metric.gauge.data_points.add(attributes=[_original(content)])
            unreadable[since:] = [Unreadable(spot.place, spot.path, metric.SerializeToString())]
            return b""

    def _item(self, content: bytes, spot: _Spot) -> bytes:
        """The item as a field, with its texts mended; nothing if more is wrong with it."""
        text, is_whole = self._read(content, spot.descriptor, len(spot.tags))
        if is_whole and self.is_readable(text, spot.tags):
            return delimited(spot.tags[-1], text)
        attributes = bytes([spot.descriptor.fields_by_name["attributes"].number << 3 | _DELIMITED])
        original = delimited(attributes, _original(content).SerializeToString())
        if not self.is_readable(text + original, spot.tags):
            text = b""
        trace_id = getattr(GetMessageClass(spot.descriptor).FromString(text), "trace_id", b"")
        record = text + original
        for tag in reversed(spot.tags[_TAGS_OF_A_RECORD:]):  # of a point, its metric around it
            record = delimited(tag, record)
        self._findings.unreadable.append(
            Unreadable(spot.place, spot.path, record, trace_id=trace_id.hex())
        )
        return b""

    def _around(self, raw: bytes, spot: _Spot, field: _Field) -> bytes:
        """A field of an envelope that does not lead on to items, as far as it can be read."""
        if self.is_readable(raw, spot.tags):
            return raw
        text, is_whole = self._read(raw, spot.descriptor, len(spot.tags))
        if not self.is_readable(text, spot.tags):
            text, is_whole = b"", False
        if not is_whole:
            known = spot.descriptor.fields_by_number.get(field.number)
            name = known.camelcase_name if known else str(field.number)
            self._findings.warn_at("envelope_unreadable", f"{spot.path}.{name}")
        return text

    def _read(self, data: bytes, descriptor: Descriptor, depth: int) -> tuple[bytes, bool]:
        """The fields of a message that can be read, and whether these are all. UTF-8 is mended."""
        is_whole = True
        frames = [_Frame(descriptor, b"", 0, len(data))]
        while True:
            frame = frames[-1]
            if frame.at == frame.end:
                frames.pop()
                text = b"".join(frame.out)
                if not frames:
                    return text, is_whole
                frames[-1].out.append(delimited(frame.tag, text))
                continue
            try:
                field = self._field(data, frame.at, frame.end)
            except Torn:
                frame.at, is_whole = frame.end, False
                continue
            frame.at = field.end
            known = frame.descriptor.fields_by_number.get(field.number)
            if known is None or known.message_type is None or field.wire_type != _DELIMITED:
                text = self._leaf(data, field, known, frame.descriptor)
                frame.out.append(text)
                is_whole = is_whole and bool(text)
            elif depth + len(frames) <= MOST_MESSAGES:
                frames.append(_Frame(known.message_type, field.tag, field.content, field.end))
            else:
                is_whole = False

    def _leaf(
        self, data: bytes, field: _Field, known: FieldDescriptor | None, descriptor: Descriptor
    ) -> bytes:
        """A field that holds no message, as it can be read; empty if it cannot."""
        raw = data[field.start : field.end]
        if known is None or field.wire_type != _DELIMITED:
            return raw
        if known.type == FieldDescriptor.TYPE_STRING:
            return delimited(field.tag, self._text(data[field.content : field.end]))
        try:
            GetMessageClass(descriptor).FromString(raw)  # a list of numbers may be torn
        except DecodeError:
            return b""
        return raw

    def _text(self, raw: bytes) -> bytes:
        try:
            raw.decode()
        except UnicodeDecodeError:
            self._findings.warnings["utf8_broken"] += 1
            return raw.decode(errors="replace").encode()
        return raw

    def fields(self, data: bytes) -> Iterator[_Field]:
        at = 0
        while at < len(data):
            field = self._field(data, at, len(data))
            at = field.end
            yield field

    def _field(self, data: bytes, start: int, end: int) -> _Field:
        """The field that starts there. Raises Torn, also for groups: OTLP has none."""
        self._look()
        number, content = _varint(data, start, end)
        number, wire_type = number >> 3, number & 7
        tag = data[start:content]
        at = content
        if wire_type == _DELIMITED:
            length, content = _varint(data, at, end)
            at = content + length
        elif wire_type == 0:
            _, at = _varint(data, at, end)
        else:
            at += _FIXED_BYTES.get(wire_type, end)
        if not number or at > end:
            raise Torn
        return _Field(number, wire_type, tag, start, content, at)

    def is_readable(self, content: bytes, tags: tuple[bytes, ...]) -> bool:
        """Whether the official parser reads it where it stands, as deep as it is there."""
        self._look()
        for tag in reversed(tags):
            content = delimited(tag, content)
        try:
            self._request.FromString(content)
        except DecodeError as error:
            if "alloc" in str(error):
                raise MemoryError from None
            return False
        return True

    def _look(self) -> None:
        self._looks += 1
        if self._looks > MOST_LOOKS:
            raise Torn


class _Frame:
    """A message that is being read, from `at` to `end`; `out` are the fields that could be."""

    __slots__ = ("at", "descriptor", "end", "out", "tag")

    def __init__(self, descriptor: Descriptor, tag: bytes, at: int, end: int) -> None:
        self.descriptor = descriptor
        self.tag = tag
        self.at = at
        self.end = end
        self.out: list[bytes] = []


def _inner_fields(wire: SignalWire) -> dict[Descriptor, frozenset[int]]:
    """Of each message that is around items, the fields that lead on to them."""
    inner: dict[Descriptor, frozenset[int]] = {}
    descriptor: Descriptor = wire.request.DESCRIPTOR
    for name in wire.lists[Encoding.PROTOBUF]:
        field = descriptor.fields_by_name[name]
        inner[descriptor] = frozenset({field.number})
        descriptor = field.message_type
    if wire.signal is Signal.METRICS:
        kinds = descriptor.oneofs_by_name["data"].fields
        inner[descriptor] = frozenset(kind.number for kind in kinds)
        for kind in kinds:
            points = kind.message_type.fields_by_name["data_points"]
            inner[kind.message_type] = frozenset({points.number})
    return inner


def _original(content: bytes) -> KeyValue:
    return KeyValue(key=ORIGINAL, value=AnyValue(bytes_value=content))


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number that starts there, and where it ends. Raises Torn."""
    number = 0
    for index in range(at, min(end, at + _MOST_VARINT_BYTES)):
        byte = data[index]
        number |= (byte & 127) << 7 * (index - at)
        if byte < 128:
            return number, index + 1
    raise Torn
