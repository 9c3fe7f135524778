"""A plain body as `json_plain` has read it in; the official message out, by way of its bytes.

Setting the fields of messages one by one costs several times as much as writing bytes that the
official classes then read in C. Names, numbers and types of fields come from the descriptors.
"""

import functools
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from msgspec import UNSET
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from mockcollector.otlp_json import is_repeated
from mockcollector.signals import TRAITS, Request, Signal

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_pack64, _pack32 = struct.Struct("<Q").pack, struct.Struct("<I").pack
_pack_signed64, _pack_double = struct.Struct("<q").pack, struct.Struct("<d").pack
Write = Callable[[Any], bytes]


def build_message(read: Any, signal: Signal) -> Request:
    """The message of a request's structs."""
    message = TRAITS[signal].request()
    message.ParseFromString(_write_struct(_writers_of(message.DESCRIPTOR), read))
    return message


def as_float(content: Any) -> float:
    """A double that is kept as it was written (`Raw`), or an integer."""
    return float(content) if type(content) is int else float(bytes(content))


def _varint(value: int) -> bytes:
    if value < 128:
        return _BYTES[value]
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_BYTES = tuple(bytes((each,)) for each in range(128))


def _write_struct(writers: tuple[tuple[str, Write], ...], read: Any) -> bytes:
    parts = []
    for name, write in writers:
        value = getattr(read, name, UNSET)
        if value is not UNSET:
            parts.append(write(value))
    return b"".join(parts)


@functools.cache
def _writers_of(descriptor: Descriptor) -> tuple[tuple[str, Write], ...]:
    """For each field its key in JSON, and how its value is written, tag included."""
    return tuple((field.json_name, _writer_of(field)) for field in descriptor.fields)


def _writer_of(field: FieldDescriptor) -> Write:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _message_writer(field)
    write = _scalar_writer(field)
    if is_repeated(field):  # unpacked, which is read as well
        return lambda values: b"".join([write(each) for each in values])
    return write


def _tag(field: FieldDescriptor, wire_type: int) -> bytes:
    return _varint(field.number << 3 | wire_type)


def _message_writer(field: FieldDescriptor) -> Write:
    tag, inner = _tag(field, _LENGTH), field.message_type
    assert inner is not None  # noqa: S101 - it is a message
    if inner.full_name == KeyValue.DESCRIPTOR.full_name:
        return functools.partial(_write_attributes, tag)
    if inner.full_name == AnyValue.DESCRIPTOR.full_name:
        return lambda value: _delimited(tag, _write_value(value))

    def write(value: Any) -> bytes:
        writers = _writers_of(inner)
        if isinstance(value, list):
            return b"".join([_delimited(tag, _write_struct(writers, each)) for each in value])
        return _delimited(tag, _write_struct(writers, value))

    return write


def _scalar_writer(field: FieldDescriptor) -> Write:
    wire_type, pack = _PACKERS.get(field.type, (_VARINT, lambda value: _varint(int(value))))
    tag = _tag(field, wire_type)
    if wire_type == _LENGTH:
        return lambda value: _delimited(tag, pack(value))
    return lambda value: tag + pack(value)


_PACKERS: Mapping[int, tuple[int, Write]] = {
    FieldDescriptor.TYPE_STRING: (_LENGTH, str.encode),
    FieldDescriptor.TYPE_BYTES: (_LENGTH, bytes.fromhex),  # ids alone are plain
    FieldDescriptor.TYPE_FIXED64: (_FIXED64, lambda value: _pack64(int(value))),
    FieldDescriptor.TYPE_SFIXED64: (_FIXED64, lambda value: _pack_signed64(int(value))),
    FieldDescriptor.TYPE_DOUBLE: (_FIXED64, lambda value: _pack_double(as_float(value))),
    FieldDescriptor.TYPE_FIXED32: (_FIXED32, _pack32),
    FieldDescriptor.TYPE_SINT32: (_VARINT, lambda value: _varint(value << 1 ^ value >> 31)),
}


def _delimited(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


# common.proto: KeyValue.key 1, value 2; AnyValue's members 1 to 6; values of lists 1.


def _write_attributes(tag: bytes, attributes: Iterable[Any]) -> bytes:
    parts: list[bytes] = []
    for attribute in attributes:
        content = b"" if attribute.key is UNSET else _write_key(attribute.key)
        if attribute.value is not UNSET:
            value = _write_value(attribute.value)
            content += b"\x12" + _varint(len(value)) + value
        parts += (tag, _varint(len(content)), content)
    return b"".join(parts)


@functools.lru_cache(maxsize=4096)
def _write_key(key: str) -> bytes:
    return _delimited(b"\x0a", key.encode())


def _write_value(value: dict[str, Any]) -> bytes:
    for member, content in value.items():  # one at most
        if member == "stringValue":
            return _delimited(b"\x0a", content.encode())
        return _MEMBERS[member](content)
    return b""


def _write_array(content: Any) -> bytes:
    listed = [_delimited(b"\x0a", _write_value(each)) for each in _values(content)]
    return _delimited(b"\x2a", b"".join(listed))


def _write_kvlist(content: Any) -> bytes:
    listed = [_delimited(b"\x0a", _write_entry(each)) for each in _values(content)]
    return _delimited(b"\x32", b"".join(listed))


_MEMBERS: Mapping[str, Write] = {
    "boolValue": lambda content: b"\x10\x01" if content else b"\x10\x00",
    "intValue": lambda content: b"\x18" + _varint(int(content) & 0xFFFF_FFFF_FFFF_FFFF),
    "doubleValue": lambda content: b"\x21" + _pack_double(as_float(content)),
    "arrayValue": _write_array,
    "kvlistValue": _write_kvlist,
}


def _values(content: dict[str, Any]) -> list[Any]:
    values: list[Any] = content.get("values", [])
    return values


def _write_entry(entry: dict[str, Any]) -> bytes:
    key = _write_key(entry["key"]) if "key" in entry else b""
    return key + (_delimited(b"\x12", _write_value(entry["value"])) if "value" in entry else b"")
