"""Fragment in one encoding in, the same items as a fragment in the other encoding out.

    to_protobuf   JSON text ─msgspec─▶ structs ─protobuf_writer─▶ bytes
    to_json       bytes ─official classes─▶ messages ─▶ structs ─msgspec─▶ JSON text

Both are lossless for every field of the schema, for which messages and members of a oneof are
set, and for empty values. What cannot be kept: unknown fields of protobuf have no form in JSON,
NaN loses its sign and payload there, and JSON deeper than 30 levels is folded (decision D5).
"""

import functools
from binascii import b2a_base64
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import isfinite
from typing import Any, ClassVar, Final, get_args, get_type_hints

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from msgspec import UNSET, Raw, Struct, UnsetType
from opentelemetry.proto.common.v1 import common_pb2

from relay.model.errors import RelayError
from relay.model.records import Signal
from relay.otlp import messages, native
from relay.otlp.folding import fold_for_protobuf
from relay.otlp.protobuf_writer import write_entries
from relay.otlp.signals import WIRE

Read = Callable[[Any], Any]

_DECODERS: Final[dict[Signal, Callable[[bytes], list[Any]]]] = {
    wire.signal: msgspec.json.Decoder(list[wire.entry]).decode  # type: ignore[name-defined]
    for wire in WIRE.values()
}


class TranscodeError(RelayError, ValueError):
    """A kept fragment cannot be read as what it is said to be."""

    code: ClassVar[str] = "transcode_error"


def decode_entries(fragment: bytes, signal: Signal) -> list[Any]:
    """The entries of a JSON fragment as structs. Raises what msgspec raises, and RecursionError."""
    return _DECODERS[signal](b"[%b]" % fragment)


def to_protobuf(fragment: bytes, signal: Signal) -> bytes:
    """Turn comma-joined entries in normal form into encoded fields of a request.

    What would lie deeper than 30 levels becomes a string of its JSON text (decision D5). Raises
    TranscodeError, and nothing else, when the fragment is not what this relay writes. The native
    pass does what it vouches for.
    """
    if native.MODULE is not None:
        made: bytes | None = native.MODULE.to_protobuf(fragment, signal)
        if made is not None:
            return made
    try:
        try:
            return write_entries(decode_entries(fragment, signal), WIRE[signal])
        except RecursionError:
            return write_entries(decode_entries(fold_for_protobuf(fragment), signal), WIRE[signal])
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise TranscodeError(describe_error("JSON", error)) from None


def to_json(fragment: bytes, signal: Signal) -> bytes:
    """Turn encoded fields of a request into comma-joined entries, in normal form: lower-case
    hexadecimal ids of whatever length, 64-bit numbers as strings, defaults left out.

    Raises TranscodeError, and nothing else, when the fragment is not readable protobuf. The native
    pass does what it vouches for.
    """
    if native.MODULE is not None:
        made: bytes | None = native.MODULE.to_json(fragment, signal)
        if made is not None:
            return made
    return messages.encode(_entries_of(fragment, signal))[1:-1]


def read_entries(fragment: bytes, signal: Signal) -> list[Any]:
    """The entries of a protobuf fragment as structs. Raises as `to_json`.

    By way of JSON where the native pass makes it: that takes a fifth of the time.
    """
    if native.MODULE is not None:
        made: bytes | None = native.MODULE.to_json(fragment, signal)
        if made is not None:
            with suppress(RecursionError, msgspec.MsgspecError):
                return decode_entries(made, signal)
    return _entries_of(fragment, signal)


def _entries_of(fragment: bytes, signal: Signal) -> list[Any]:
    wire = WIRE[signal]
    request = read_request(fragment, signal)
    entries = wire.request.DESCRIPTOR.fields[0]
    read = _message(wire.entry, entries.message_type)
    return [read(entry) for entry in getattr(request, entries.name)]


def read_request(fragment: bytes, signal: Signal) -> Message:
    """A protobuf fragment as a request of the official class.

    Raises TranscodeError when it is none, and MemoryError where there is not enough.
    """
    try:
        return WIRE[signal].request.FromString(fragment)
    except DecodeError as error:
        if "alloc" in str(error):
            raise MemoryError from None
        raise TranscodeError(describe_error("protobuf", error)) from None


def describe_error(encoding: str, error: Exception) -> str:
    """Say what could not be read, by the kind of error and its path: never a value."""
    path = str(error).rpartition(" - at ")[2] if isinstance(error, msgspec.MsgspecError) else ""
    where = f" at {path}" if path.startswith("`$") else ""
    return f"the kept {encoding} cannot be read{where} ({type(error).__name__})"


@functools.cache
def _message(record: type[Struct], descriptor: Descriptor) -> Read:
    """What reads a message that `descriptor` tells of into such a struct."""
    kinds = get_type_hints(record)
    fields = {
        field: (field.camelcase_name, _field(kinds[field.camelcase_name], field))
        for field in descriptor.fields
    }

    def read(message: Message) -> Struct:
        # Only fields that are set: zero where there is no presence is the struct's default.
        values = {}
        for field, value in message.ListFields():
            name, convert = fields[field]
            values[name] = convert(value)
        return record(**values)

    return read


def _field(kind: Any, field: FieldDescriptor) -> Read:
    while get_args(kind):  # of a list its items, of a union what is not UNSET
        kind = get_args(kind)[0]
    if kind is messages.KeyValue:
        return _read_attributes
    read = _item(kind, field)
    return (lambda values: list(map(read, values))) if field.is_repeated else read


def _item(kind: Any, field: FieldDescriptor) -> Read:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if kind is messages.AnyValue:
            return _read_value
        if kind is Raw:
            read_resource = _message(messages.Resource, field.message_type)
            return lambda resource: Raw(messages.encode(read_resource(resource)))
        return _message(kind, field.message_type)
    return _SCALARS.get(field.type, _as_it_is)


def _as_it_is(value: Any) -> Any:
    return value


def _read_attributes(items: Iterable[common_pb2.KeyValue]) -> list[messages.KeyValue]:
    out: list[messages.KeyValue] = []
    for item in items:
        source = item.value
        value: messages.AnyValue | UnsetType = UNSET
        # A member that is not at its default tells at once which one is set; asking takes longer.
        if text := source.string_value:
            value = messages.AnyValue(stringValue=text)
        elif number := source.int_value:
            value = messages.AnyValue(intValue=str(number))
        elif item.HasField("value"):
            value = _read_value(source)
        out.append(messages.KeyValue(item.key, value, item.key_strindex))
    return out


def _read_value(value: common_pb2.AnyValue) -> messages.AnyValue:
    member = value.WhichOneof("value")
    return messages.AnyValue() if member is None else _READERS[member](value)


def _read_array(value: common_pb2.AnyValue) -> messages.AnyValue:
    values = [_read_value(item) for item in value.array_value.values]
    return messages.AnyValue(arrayValue=messages.ArrayValue(values))


def _read_kvlist(value: common_pb2.AnyValue) -> messages.AnyValue:
    values = _read_attributes(value.kvlist_value.values)
    return messages.AnyValue(kvlistValue=messages.KeyValueList(values))


def _read_bytes(value: common_pb2.AnyValue) -> messages.AnyValue:
    return messages.AnyValue(bytesValue=b2a_base64(value.bytes_value, newline=False).decode())


_READERS: dict[str, Callable[[common_pb2.AnyValue], messages.AnyValue]] = {
    "string_value": lambda value: messages.AnyValue(stringValue=value.string_value),
    "bool_value": lambda value: messages.AnyValue(boolValue=value.bool_value),
    "int_value": lambda value: messages.AnyValue(intValue=str(value.int_value)),
    "double_value": lambda value: messages.AnyValue(doubleValue=name_special(value.double_value)),
    "array_value": _read_array,
    "kvlist_value": _read_kvlist,
    "bytes_value": _read_bytes,
    "string_value_strindex": lambda value: messages.AnyValue(
        stringValueStrindex=value.string_value_strindex
    ),
}


def name_special(value: float) -> float | str:
    """NaN and the infinities by the names that JSON has for them; the encoder writes null."""
    return value if isfinite(value) else _SPECIAL[str(value)]


_SPECIAL: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_SCALARS: Final[dict[int, Read]] = {
    FieldDescriptor.TYPE_BYTES: bytes.hex,  # the ids: bytes as values are in AnyValue only
    FieldDescriptor.TYPE_FIXED64: str,
    FieldDescriptor.TYPE_SFIXED64: str,
    FieldDescriptor.TYPE_UINT64: str,
    FieldDescriptor.TYPE_DOUBLE: name_special,
}
