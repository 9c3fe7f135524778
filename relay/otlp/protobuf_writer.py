"""Structs of OTLP/JSON in, the same records in protobuf's wire format out, for every signal.

Attributes and values, most of every body, are written by hand; messages field by field from the
official descriptors, so that no field number stands here twice. Filling the official classes takes
three times as long; the tests hold the bytes equal to what those serialise. A tag is field number
<< 3 | wire type (0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes). Fields stand in the
order of their numbers.
"""

import functools
import struct
from binascii import a2b_base64, unhexlify
from collections.abc import Callable, Iterable
from math import inf, nan
from typing import Any, Final, get_args, get_type_hints

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import astuple

from relay.otlp import messages
from relay.otlp.folding import MAX_PROTOBUF_LEVELS
from relay.otlp.signals import SignalWire

Write = Callable[[Any], bytes]

_SPECIAL_DOUBLES = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}
_pack_double = struct.Struct("<d").pack


def _write_varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


_SHORT_VARINTS = tuple(_write_varint(number) for number in range(2048))
_USUAL_BYTES: Final = 256  # of a text or an attribute


def _varint(number: int) -> bytes:
    return _SHORT_VARINTS[number] if number < 2048 else _write_varint(number)


def _signed(number: int) -> bytes:
    """An int32, an int64 or an enum: negative ones take ten bytes. ValueError out of range."""
    if 0 <= number < 2048:
        return _SHORT_VARINTS[number]
    if not -(2**63) <= number < 2**63:
        raise ValueError("more than 64 bits")
    return _write_varint(number & 2**64 - 1)


def _uint64(number: str | int) -> bytes:
    value = int(number)
    if not 0 <= value < 2**64:
        raise ValueError("not within 64 bits")
    return _varint(value)


def _double(value: float | str) -> bytes:
    if isinstance(value, str):
        special = _SPECIAL_DOUBLES.get(value)
        value = float(value) if special is None else special
    return _pack_double(value)


def delimited(tag: bytes, payload: bytes) -> bytes:
    """A field that says its length: a text, bytes or a message."""
    length = len(payload)
    return tag + (_SHORT_VARINTS[length] if length < 2048 else _write_varint(length)) + payload


_TEXTS: Final[dict[int, Write]] = {
    FieldDescriptor.TYPE_STRING: str.encode,
    FieldDescriptor.TYPE_BYTES: unhexlify,  # the ids: bytes as values are in AnyValue only
}
# How numbers are written by type: wire type, and what encodes one.
_NUMBERS: Final[dict[int, tuple[int, Write]]] = {
    FieldDescriptor.TYPE_ENUM: (0, _signed),
    FieldDescriptor.TYPE_INT32: (0, _signed),
    FieldDescriptor.TYPE_SINT32: (0, lambda it: _varint(2 * it if it >= 0 else -2 * it - 1)),
    FieldDescriptor.TYPE_UINT32: (0, _varint),
    FieldDescriptor.TYPE_UINT64: (0, _uint64),
    FieldDescriptor.TYPE_BOOL: (0, lambda it: b"\1" if it else b"\0"),
    FieldDescriptor.TYPE_FIXED32: (5, lambda it: it.to_bytes(4, "little")),
    FieldDescriptor.TYPE_FIXED64: (1, lambda it: int(it).to_bytes(8, "little")),
    FieldDescriptor.TYPE_SFIXED64: (1, lambda it: int(it).to_bytes(8, "little", signed=True)),
    FieldDescriptor.TYPE_DOUBLE: (1, _double),
}


def write_entries(entries: Iterable[Struct], wire: SignalWire) -> bytes:
    """Give the entries of one signal as encoded fields of a request, one after the other.

    Raises ValueError or OverflowError for what is not in normal form, msgspec.MsgspecError for an
    unreadable resource, and RecursionError for a value deeper than protobuf can have it.
    """
    write = _message(wire.entry, wire.request.DESCRIPTOR.fields[0].message_type)
    return b"".join([delimited(b"\x0a", write(entry)) for entry in entries])


@functools.cache
def _message(record: type[Struct], descriptor: Descriptor) -> Write:
    """What writes such a struct as the message that `descriptor` tells of."""
    kinds = get_type_hints(record)
    fields = []
    for field in sorted(descriptor.fields, key=lambda field: field.number):
        kind = kinds[field.camelcase_name]
        has_presence = UnsetType in get_args(kind)
        # Minus zero is false, and yet no default.
        is_double = field.type == FieldDescriptor.TYPE_DOUBLE and not field.is_repeated
        is_shown_by_truth = not (has_presence or is_double)
        write_field = _field(kind, field, has_presence=has_presence)
        place = record.__struct_fields__.index(field.camelcase_name)
        fields.append((place, is_shown_by_truth, write_field))

    def write(message: Struct) -> bytes:
        out = []
        values = astuple(message)
        for place, is_shown_by_truth, write_field in fields:
            value = values[place]
            if value or not (is_shown_by_truth or value is UNSET):
                out.append(write_field(value))
        return b"".join(out)

    return write


def _field(kind: Any, field: FieldDescriptor, *, has_presence: bool) -> Write:
    """What writes this field from a value that may be other than its default."""
    tag = _varint(field.number << 3 | 2)
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        while get_args(kind):  # of a list its items, of a union what is not UNSET
            kind = get_args(kind)[0]
        return _nested(kind, field, tag)
    if field.type in _TEXTS:
        encode = _TEXTS[field.type]
        if field.is_repeated:
            return lambda texts: b"".join([delimited(tag, encode(text)) for text in texts])
        return _text_writer(_heads(tag), encode)
    wire_type, write = _NUMBERS[field.type]
    if field.is_repeated:  # packed
        return lambda numbers: delimited(tag, b"".join([write(number) for number in numbers]))
    tag = _varint(field.number << 3 | wire_type)
    if not has_presence and wire_type == 1:
        return _eight_bytes(tag, field, write)
    return lambda value: tag + write(value)


def _eight_bytes(tag: bytes, field: FieldDescriptor, write: Write) -> Write:
    """What writes this number, and nothing for zero."""
    if field.type == FieldDescriptor.TYPE_FIXED64:  # the times of every item
        return lambda text: tag + number.to_bytes(8, "little") if (number := int(text)) else b""
    zero = bytes(8)
    return lambda value: b"" if (encoded := write(value)) == zero else tag + encoded


def _text_writer(heads: tuple[bytes, ...], encode: Write) -> Write:
    def write(text: str) -> bytes:
        raw = encode(text)
        length = len(raw)
        return heads[length] + raw if length < _USUAL_BYTES else delimited(heads[0][:-1], raw)

    return write


def _nested(kind: Any, field: FieldDescriptor, tag: bytes) -> Write:
    """What writes one message, or a list of them, inside another."""
    if kind is messages.KeyValue:
        heads = _heads(tag)
        return lambda items: b"".join(_write_attributes(heads, items, 0))
    if kind is messages.AnyValue:
        return lambda value: delimited(tag, _write_value(value, 0))
    if kind is Raw:
        write_resource = _message(messages.Resource, field.message_type)
        return lambda text: (
            b""
            if text is messages.NO_RESOURCE
            else delimited(tag, write_resource(messages.decode_resource(text)))
        )
    write = _message(kind, field.message_type)
    if field.is_repeated:
        return lambda items: b"".join([delimited(tag, write(item)) for item in items])
    return lambda item: delimited(tag, write(item))


def _text(tag: bytes, text: str) -> bytes:
    return delimited(tag, text.encode()) if text else b""


# Attribute keys as encoded `key` fields. Keys of a usual length recur and are remembered.
_KEY_FIELDS: Final[dict[str, bytes]] = {}


def _key_field(key: str) -> bytes:
    field = _text(b"\x0a", key)
    if len(key) <= 64:
        if len(_KEY_FIELDS) >= 4096:
            _KEY_FIELDS.clear()
        _KEY_FIELDS[key] = field
    return field


@functools.cache
def _heads(tag: bytes) -> tuple[bytes, ...]:
    """A tag with each of the usual lengths behind it."""
    return tuple(tag + length for length in _SHORT_VARINTS[:_USUAL_BYTES])


_VALUE_HEADS: Final = _heads(b"\x12")
_TEXT_HEADS: Final = _heads(b"\x0a")


def _write_attributes(
    heads: tuple[bytes, ...], items: list[messages.KeyValue], level: int
) -> list[bytes]:
    """Pieces to be joined: making each attribute a whole by itself takes longer."""
    out: list[bytes] = []
    for item in items:
        key, value = item.key, item.value
        try:
            body = _KEY_FIELDS[key]
        except KeyError:
            body = _key_field(key)
        if value is not UNSET:
            text = value.stringValue
            if text is not UNSET:
                raw = text.encode()
                size = len(raw)
                both = size + len(body)
                if both < 124 and not item.keyStrindex:
                    # Nine of ten attributes: all four lengths take one byte.
                    out += (heads[both + 4], body, _VALUE_HEADS[size + 2], _TEXT_HEADS[size], raw)
                    continue
                encoded = delimited(b"\x0a", raw)
            elif value.intValue is not UNSET:
                number = int(value.intValue)
                is_short = 0 <= number < 2048
                encoded = b"\x18" + (_SHORT_VARINTS[number] if is_short else _signed(number))
                if not item.keyStrindex and len(body) < 108:
                    size = len(encoded)
                    out += (heads[size + len(body) + 2], body, _VALUE_HEADS[size], encoded)
                    continue
            else:
                encoded = _write_value(value, level)
            body = b"%b\x12%b%b" % (body, _varint(len(encoded)), encoded)
        if item.keyStrindex:
            body += b"\x18" + _signed(item.keyStrindex)
        is_usual = len(body) < _USUAL_BYTES
        out.append(heads[len(body)] + body if is_usual else delimited(heads[0][:-1], body))
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
        return b"\x21" + _double(value.doubleValue)
    if value.arrayValue is not UNSET or value.kvlistValue is not UNSET:
        return _write_container(value, level + 1)
    if value.bytesValue is not UNSET:
        return delimited(b"\x3a", a2b_base64(value.bytesValue, strict_mode=True))
    if value.stringValueStrindex is not UNSET:
        return b"\x40" + _signed(value.stringValueStrindex)
    return b""


def _write_container(value: messages.AnyValue, level: int) -> bytes:
    if level > MAX_PROTOBUF_LEVELS:
        # The same as when the decoder gives up: the caller folds and tries once more.
        raise RecursionError
    if value.arrayValue is not UNSET:
        parts = [delimited(b"\x0a", _write_value(item, level)) for item in value.arrayValue.values]
        return delimited(b"\x2a", b"".join(parts))
    assert value.kvlistValue is not UNSET  # noqa: S101 - the caller saw one of the two
    items = value.kvlistValue.values
    return delimited(b"\x32", b"".join(_write_attributes(_TEXT_HEADS, items, level)))
