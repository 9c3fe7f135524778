"""Structs of OTLP/JSON in, the same spans in protobuf's wire format out.

Written by hand, since filling the official classes takes three times as long; the tests hold the
bytes equal to what those classes serialise. A tag is field number << 3 | wire type (0 varint,
1 eight bytes, 2 length and bytes, 5 four bytes). Fields stand in the order of their numbers.
"""

import struct
from binascii import a2b_base64, unhexlify
from collections.abc import Iterable
from math import inf, nan

from msgspec import UNSET

from relay.otlp import messages
from relay.otlp.folding import MAX_PROTOBUF_LEVELS

UNSET_RESOURCE = messages.ResourceSpans().resource
_SPECIAL_DOUBLES = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}
_pack_double = struct.Struct("<d").pack
_pack_fixed32 = struct.Struct("<I").pack


def _write_varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


_SHORT_VARINTS = tuple(_write_varint(number) for number in range(2048))


def _varint(number: int) -> bytes:
    return _SHORT_VARINTS[number] if number < 2048 else _write_varint(number)


def _signed(number: int) -> bytes:
    """An int32, an int64 or an enum: negative ones take ten bytes. ValueError out of range."""
    if 0 <= number < 2048:
        return _SHORT_VARINTS[number]
    if not -(2**63) <= number < 2**63:
        raise ValueError("more than 64 bits")
    return _write_varint(number & 2**64 - 1)


def delimited(tag: bytes, payload: bytes) -> bytes:
    """A field that says its length: a text, bytes or a message."""
    return tag + _varint(len(payload)) + payload


def _text(tag: bytes, text: str) -> bytes:
    return delimited(tag, text.encode()) if text else b""


def _count(tag: bytes, number: int) -> bytes:
    return tag + _varint(number) if number else b""


def _fixed32(tag: bytes, number: int) -> bytes:
    return tag + _pack_fixed32(number) if number else b""


def _fixed64(tag: bytes, number: str | int) -> bytes:
    value = int(number)
    return tag + value.to_bytes(8, "little") if value else b""


def _id(tag: bytes, text: str) -> bytes:
    return delimited(tag, unhexlify(text)) if text else b""


def write_entries(entries: Iterable[messages.ResourceSpans]) -> bytes:
    """Give the entries as encoded `resource_spans` fields, one after the other.

    Raises ValueError or OverflowError for what is not in normal form, msgspec.MsgspecError for an
    unreadable resource, and RecursionError for a value deeper than protobuf can have it.
    """
    return b"".join([delimited(b"\x0a", _write_resource_spans(entry)) for entry in entries])


def _write_resource_spans(entry: messages.ResourceSpans) -> bytes:
    out: list[bytes] = []
    if entry.resource is not UNSET_RESOURCE:
        out.append(delimited(b"\x0a", _write_resource(messages.decode_resource(entry.resource))))
    out += [delimited(b"\x12", _write_scope_spans(scope)) for scope in entry.scopeSpans]
    out.append(_text(b"\x1a", entry.schemaUrl))
    return b"".join(out)


def _write_resource(resource: messages.Resource) -> bytes:
    out = _write_attributes(b"\x0a", resource.attributes, 0)
    out.append(_count(b"\x10", resource.droppedAttributesCount))
    for ref in resource.entityRefs:
        parts = [_text(b"\x0a", ref.schemaUrl), _text(b"\x12", ref.type)]
        parts += [delimited(b"\x1a", key.encode()) for key in ref.idKeys]
        parts += [delimited(b"\x22", key.encode()) for key in ref.descriptionKeys]
        out.append(delimited(b"\x1a", b"".join(parts)))
    return b"".join(out)


def _write_scope_spans(scope_spans: messages.ScopeSpans) -> bytes:
    out: list[bytes] = []
    scope = scope_spans.scope
    if scope is not UNSET:
        parts = [_text(b"\x0a", scope.name), _text(b"\x12", scope.version)]
        parts += _write_attributes(b"\x1a", scope.attributes, 0)
        parts.append(_count(b"\x20", scope.droppedAttributesCount))
        out.append(delimited(b"\x0a", b"".join(parts)))
    out += [delimited(b"\x12", _write_span(span)) for span in scope_spans.spans]
    out.append(_text(b"\x1a", scope_spans.schemaUrl))
    return b"".join(out)


def _write_span(span: messages.Span) -> bytes:
    out = [
        _id(b"\x0a", span.traceId),
        _id(b"\x12", span.spanId),
        _text(b"\x1a", span.traceState),
        _id(b"\x22", span.parentSpanId),
        _text(b"\x2a", span.name),
        b"\x30" + _signed(span.kind) if span.kind else b"",
        _fixed64(b"\x39", span.startTimeUnixNano),
        _fixed64(b"\x41", span.endTimeUnixNano),
    ]
    out += _write_attributes(b"\x4a", span.attributes, 0)
    out.append(_count(b"\x50", span.droppedAttributesCount))
    out += [delimited(b"\x5a", _write_event(event)) for event in span.events]
    out.append(_count(b"\x60", span.droppedEventsCount))
    out += [delimited(b"\x6a", _write_link(link)) for link in span.links]
    out.append(_count(b"\x70", span.droppedLinksCount))
    if span.status is not UNSET:
        out.append(delimited(b"\x7a", _write_status(span.status)))
    out.append(_fixed32(b"\x85\x01", span.flags))
    return b"".join(out)


def _write_status(status: messages.Status) -> bytes:
    code = b"\x18" + _signed(status.code) if status.code else b""
    return _text(b"\x12", status.message) + code


def _write_event(event: messages.Event) -> bytes:
    out = [_fixed64(b"\x09", event.timeUnixNano), _text(b"\x12", event.name)]
    out += _write_attributes(b"\x1a", event.attributes, 0)
    out.append(_count(b"\x20", event.droppedAttributesCount))
    return b"".join(out)


def _write_link(link: messages.Link) -> bytes:
    out = [
        _id(b"\x0a", link.traceId),
        _id(b"\x12", link.spanId),
        _text(b"\x1a", link.traceState),
    ]
    out += _write_attributes(b"\x22", link.attributes, 0)
    out += (_count(b"\x28", link.droppedAttributesCount), _fixed32(b"\x35", link.flags))
    return b"".join(out)


class _KeyFields(dict[str, bytes]):
    """Attribute keys as encoded `key` fields. Keys of a usual length recur and are remembered."""

    def __missing__(self, key: str) -> bytes:
        field = _text(b"\x0a", key)
        if len(key) <= 64:
            if len(self) >= 4096:
                self.clear()
            self[key] = field
        return field


_KEY_FIELDS = _KeyFields()


def _write_attributes(tag: bytes, items: list[messages.KeyValue], level: int) -> list[bytes]:
    out: list[bytes] = []
    for item in items:
        body = _KEY_FIELDS[item.key]
        value = item.value
        if value is not UNSET:
            if value.stringValue is not UNSET:
                raw = value.stringValue.encode()
                length = len(raw)
                if length + len(body) < 124 and not item.keyStrindex:
                    # Nine of ten attributes: all four lengths take one byte.
                    total = length + len(body) + 4
                    parts = (tag, total, body, length + 2, length, raw)
                    out.append(b"%b%c%b\x12%c\x0a%c%b" % parts)
                    continue
            encoded = _write_value(value, level)
            body = b"%b\x12%b%b" % (body, _varint(len(encoded)), encoded)
        if item.keyStrindex:
            body += b"\x18" + _signed(item.keyStrindex)
        out.append(b"%b%b%b" % (tag, _varint(len(body)), body))
    return out


def _write_value(value: messages.AnyValue, level: int) -> bytes:  # noqa: PLR0911 - one a member
    if value.stringValue is not UNSET:
        raw = value.stringValue.encode()
        return b"\x0a" + _varint(len(raw)) + raw
    if value.intValue is not UNSET:
        return b"\x18" + _signed(int(value.intValue))
    if value.boolValue is not UNSET:
        return b"\x10\x01" if value.boolValue else b"\x10\x00"
    if value.doubleValue is not UNSET:
        return b"\x21" + _pack_double(_double(value.doubleValue))
    if value.arrayValue is not UNSET or value.kvlistValue is not UNSET:
        return _write_container(value, level + 1)
    if value.bytesValue is not UNSET:
        return delimited(b"\x3a", a2b_base64(value.bytesValue, strict_mode=True))
    if value.stringValueStrindex is not UNSET:
        return b"\x40" + _signed(value.stringValueStrindex)
    return b""


def _write_container(value: messages.AnyValue, level: int) -> bytes:
    if level > MAX_PROTOBUF_LEVELS:
        # The same as when the decoder gives up: the caller folds and comes again.
        raise RecursionError
    if value.arrayValue is not UNSET:
        parts = [delimited(b"\x0a", _write_value(item, level)) for item in value.arrayValue.values]
        return delimited(b"\x2a", b"".join(parts))
    assert value.kvlistValue is not UNSET  # noqa: S101 - the caller saw one of the two
    return delimited(b"\x32", b"".join(_write_attributes(b"\x0a", value.kvlistValue.values, level)))


def _double(value: float | str) -> float:
    if isinstance(value, str):
        special = _SPECIAL_DOUBLES.get(value)
        return float(value) if special is None else special
    return value
