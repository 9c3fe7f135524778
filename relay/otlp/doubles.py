"""Rewrites a fragment without NaN and ±Infinity (decision D15).

They are legal OTLP, but some backends accept them and then fail to show the trace. A destination
that asks for it gets them as text, or not at all. Only rows that hold some are given here.

An attribute is dropped from its holder, whose `droppedAttributesCount` grows where it has one.
Inside an array or a list of keys and values, and where a value is a log's body, an empty value
stands in its place, so that positions and keys stay. What a metric measured is never touched.
"""

import re
from math import isfinite
from typing import Literal

import msgspec
from google.protobuf.message import Message
from msgspec import Struct
from opentelemetry.proto.common.v1 import common_pb2

from relay.model.records import Encoding, Signal
from relay.otlp import messages
from relay.otlp.folding import replace_below
from relay.otlp.transcode import (
    TranscodeError,
    decode_entries,
    describe_error,
    name_special,
    read_request,
)

DoublesMode = Literal["string", "drop"]

_MAX_COUNT = 2**32 - 1
_KEY_VALUE = common_pb2.KeyValue.DESCRIPTOR


def rewrite_special_doubles(
    fragment: bytes, encoding: Encoding, mode: DoublesMode, signal: Signal
) -> bytes:
    """Give the fragment with every NaN and ±Infinity as a string of its name, or dropped.

    In protobuf unknown fields survive; in JSON values of any depth do. Raises TranscodeError,
    and nothing else, when the fragment is not what this relay writes.
    """
    try:
        if encoding is Encoding.PROTOBUF:
            request = read_request(fragment, signal)
            _rewrite_message(request, mode)
            return request.SerializeToString()
        if mode == "string":
            return _JSON_MEMBER.sub(rb'"stringValue":"\1"', fragment)
        return _drop_from_json(fragment, signal)
    except TranscodeError:
        raise
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise TranscodeError(describe_error(encoding.name, error)) from None


# --- JSON: by text, since a value may be nested deeper than a decoder can go ---------------------
# Safe in normal form: a quotation mark inside a string is escaped, so nothing matches there.

_JSON_MEMBER = re.compile(rb'"doubleValue":"(NaN|-?Infinity)"')
_JSON_VALUE = re.compile(rb'\{"doubleValue":"(?:NaN|-?Infinity)"\}')
_NAMES = ("NaN", "Infinity", "-Infinity")
# A value with two members does not exist in normal form: it marks where a nested one was.
_MARK = b'{"arrayValue":{},"stringValue":"%d"}'
_MARKED = re.compile(rb'\{"arrayValue":\{\},"stringValue":"(\d+)"\}')


def _drop_from_json(fragment: bytes, signal: Signal) -> bytes:
    nested: list[bytes] = []

    def set_aside(value: bytes) -> bytes:
        nested.append(_JSON_VALUE.sub(b"{}", value))
        return _MARK % (len(nested) - 1)

    entries = decode_entries(replace_below(fragment, 0, set_aside), signal)
    for entry in entries:
        if entry.resource is not messages.NO_RESOURCE:
            resource = messages.decode_resource(entry.resource)
            _drop_from(resource)
            entry.resource = msgspec.Raw(messages.encode(resource))
        _drop_from(entry)
    return _MARKED.sub(lambda mark: nested[int(mark[1])], messages.encode(entries)[1:-1])


def _drop_from(record: Struct) -> None:
    """Drop what is special from the attributes of a struct and of all that it holds."""
    for name in record.__struct_fields__:
        value = getattr(record, name)
        match value:
            case [messages.KeyValue(), *_]:
                kept = [item for item in value if not _is_special(item.value)]
                setattr(record, name, kept)
                _count(record, "droppedAttributesCount", len(value) - len(kept))
            case [Struct(), *_]:
                for each in value:
                    _drop_from(each)
            case messages.AnyValue() if _is_special(value):
                setattr(record, name, messages.AnyValue())
            case Struct():
                _drop_from(value)
            case _:
                pass


def _is_special(value: messages.AnyValue | msgspec.UnsetType) -> bool:
    return isinstance(value, messages.AnyValue) and value.doubleValue in _NAMES


def _count(holder: Struct | Message, name: str, dropped: int) -> None:
    """Points and exemplars have no such count."""
    if dropped and hasattr(holder, name):
        setattr(holder, name, min(getattr(holder, name) + dropped, _MAX_COUNT))


# --- protobuf ------------------------------------------------------------------------------------


def _rewrite_message(message: Message, mode: DoublesMode) -> None:
    """Rewrite what is special in the attributes of a message and of all that it holds."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        items = value if field.is_repeated else [value]
        if field.message_type is _KEY_VALUE:
            before = len(items)
            for index in reversed(range(before)):
                if mode == "drop" and not isfinite(items[index].value.double_value):
                    del items[index]
            _count(message, "dropped_attributes_count", before - len(items))
            items = [item.value for item in items]
        for item in items:
            if isinstance(item, common_pb2.AnyValue):
                _rewrite_value(item, mode)
            else:
                _rewrite_message(item, mode)


def _rewrite_value(value: common_pb2.AnyValue, mode: DoublesMode) -> None:
    match value.WhichOneof("value"):
        case "double_value" if not isfinite(value.double_value):
            if mode == "string":
                value.string_value = str(name_special(value.double_value))
            else:
                value.ClearField("double_value")
        case "array_value":
            for item in value.array_value.values:
                _rewrite_value(item, mode)
        case "kvlist_value":
            for pair in value.kvlist_value.values:
                _rewrite_value(pair.value, mode)
        case _:
            pass
