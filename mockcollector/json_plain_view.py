"""A plain body as `json_plain` has read it in; what reads like its official message out.

To look at an item whether it is the one that a test waits for, nothing need be made of its request:
a field is read when it is asked for. Names and types of fields come from the descriptors.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from msgspec import UNSET
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from mockcollector.json_plain_message import as_float
from mockcollector.otlp_json import is_repeated

Read = Callable[[Any], Any]
_NOTHING: dict[str, Any] = {}


class PlainView:
    """A struct, or a value as a dict, with the fields, `WhichOneof` and `HasField` of a message."""

    __slots__ = ("DESCRIPTOR", "_readers", "_struct")

    def __init__(self, struct: Any, descriptor: Descriptor) -> None:
        self._struct = struct
        self.DESCRIPTOR = descriptor
        self._readers = _readers_of(descriptor)

    def __getattr__(self, name: str) -> Any:
        """A field by its name in protobuf. Raises AttributeError where the message has none."""
        try:
            read = self._readers[name]
        except KeyError:
            raise AttributeError(name) from None
        return read(self._struct)

    def HasField(self, name: str) -> bool:  # noqa: N802 - the official name
        """Whether the field was there."""
        field = self.DESCRIPTOR.fields_by_name[name]
        return _member(self._struct, field.json_name) is not UNSET

    def WhichOneof(self, name: str) -> str | None:  # noqa: N802 - the official name
        """The name of the member that was there."""
        for key, member in _members_of(self.DESCRIPTOR, name):
            if _member(self._struct, key) is not UNSET:
                return member
        return None


class _Attribute:
    """A KeyValue: there are so many of them that they are read by hand."""

    __slots__ = ("_value", "key")

    def __init__(self, key: Any, value: Any) -> None:
        self.key = "" if key is UNSET else key
        self._value = value

    @property
    def value(self) -> PlainView:
        """Its value, empty where there is none."""
        content = _NOTHING if self._value is UNSET else self._value
        return PlainView(content, AnyValue.DESCRIPTOR)


def _member(struct: Any, key: str) -> Any:
    return struct.get(key, UNSET) if type(struct) is dict else getattr(struct, key, UNSET)


@functools.cache
def _members_of(descriptor: Descriptor, oneof: str) -> tuple[tuple[str, str], ...]:
    """Of each member its key in JSON, and its name."""
    return tuple((each.json_name, each.name) for each in descriptor.oneofs_by_name[oneof].fields)


@functools.cache
def _readers_of(descriptor: Descriptor) -> dict[str, Read]:
    return {field.name: _reader_of(field) for field in descriptor.fields}


def _reader_of(field: FieldDescriptor) -> Read:
    key, convert = field.json_name, _converter_of(field)
    if field.message_type and field.message_type.full_name == KeyValue.DESCRIPTOR.full_name:
        return lambda struct: _attributes_of(_member(struct, key))
    if is_repeated(field):

        def read_list(struct: Any) -> Any:
            values = _member(struct, key)
            return () if values is UNSET else [convert(each) for each in values]

        return read_list
    default = None if field.type == FieldDescriptor.TYPE_MESSAGE else field.default_value

    def read(struct: Any) -> Any:
        value = _member(struct, key)
        if value is not UNSET:
            return convert(value)
        return convert(_NOTHING) if default is None else default

    return read


def _attributes_of(values: Any) -> Sequence[_Attribute]:
    if not values or values is UNSET:
        return ()
    if type(values[0]) is dict:  # those of a kvlistValue
        return [_Attribute(each.get("key", UNSET), each.get("value", UNSET)) for each in values]
    return [_Attribute(each.key, each.value) for each in values]


def _converter_of(field: FieldDescriptor) -> Read:
    inner = field.message_type
    if inner is None:
        return _CONVERTERS.get(field.type, int)
    return lambda each: PlainView(each, inner)


_CONVERTERS: Mapping[int, Read] = {
    FieldDescriptor.TYPE_BYTES: bytes.fromhex,  # ids alone are plain
    FieldDescriptor.TYPE_DOUBLE: as_float,
    FieldDescriptor.TYPE_STRING: str,
    FieldDescriptor.TYPE_BOOL: bool,
}
