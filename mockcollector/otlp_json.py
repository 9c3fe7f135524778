"""The text of an OTLP/JSON body in, an official protobuf message and its unknown keys out.

Strict where the sources are: ProtoJSON, with OTLP's four deviations (OTLP specification, "JSON
Protobuf Encoding"): ids are hexadecimal, enums are integers and never names, unknown keys are
ignored, keys are lowerCamelCase only. Beyond that it refuses what a sender cannot mean: duplicate
keys, two members of one oneof, lone surrogates, a null inside a list.

The fields come from the official descriptors, so none can be forgotten here.
"""

import base64
import binascii
import functools
import json
import re
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple, NoReturn, TypeVar, overload

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mockcollector.rules import Refused, Violation

# One arrayValue or kvlistValue is a level. The specification names no limit; decision D5.
MAX_VALUE_DEPTH = 200
MAX_UNKNOWN_KEYS = 100
_ID_FIELDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_MAX_NUMBER_LENGTH = 400  # the longest exact double has about 320 digits
_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
_INTEGER_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}


M = TypeVar("M", bound=Message)


class _Number(str):
    """A JSON number as it was written: nothing is rounded before its field is known."""

    __slots__ = ()


class _Field(NamedTuple):
    """How to read one field."""

    name: str
    is_repeated: bool
    oneof: str | None
    adds_depth: bool
    scalar: Callable[[Any], Any] | None  # None: a message


class _Work(NamedTuple):
    """A JSON object yet to be read into its message."""

    source: Any
    target: Message
    path: str
    depth: int


class _WrongError(ValueError):
    """A value is not what its field holds; the text says what would be right."""


@overload
def decode_request(body: bytes) -> tuple[ExportTraceServiceRequest, tuple[str, ...]]: ...
@overload
def decode_request(body: bytes, kind: type[M]) -> tuple[M, tuple[str, ...]]: ...
def decode_request(
    body: bytes, kind: type[Message] = ExportTraceServiceRequest
) -> tuple[Message, tuple[str, ...]]:
    """Read a whole request of this kind; the second part lists the paths of unknown keys.

    They are at most 100. Raises `Refused` with status 400, naming the place.
    """
    message = kind()
    unknown: list[str] = []
    # A list of work instead of recursion: depth costs no stack.
    pending = deque([_Work(_parse(body), message, "", 0)])
    while pending:
        work = pending.popleft()
        if not isinstance(work.source, dict):
            _refuse(work.path or "the body", "must be an object")
        if work.depth > MAX_VALUE_DEPTH:
            raise Refused(400, f"values are nested deeper than {MAX_VALUE_DEPTH} levels")
        _read_object(work, pending, unknown)
    return message, tuple(unknown)


def _parse(body: bytes) -> Any:
    try:
        # From str, since json.loads would take UTF-16 from bytes.
        return json.loads(
            body.decode(),
            object_pairs_hook=_unique_keys,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise Refused(400, f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise Refused(400, "the body is nested too deep") from None
    except _WrongError as error:
        raise Refused(400, f"the body is not JSON as OTLP has it: {error}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise _WrongError("an object has the same key twice")
    return unique


def _refuse_constant(_name: str) -> NoReturn:
    raise _WrongError("NaN and Infinity must be strings")


def _refuse(path: str, description: str) -> NoReturn:
    raise Refused(400, f"{path}: {description}", violations=(Violation(path, description),))


def _read_object(work: _Work, pending: deque[_Work], unknown: list[str]) -> None:
    fields = _fields_of(work.target.DESCRIPTOR)
    members: set[str] = set()
    for key, value in work.source.items():
        path = f"{work.path}.{key}" if work.path else key
        field = fields.get(key)
        if field is None:
            if len(unknown) < MAX_UNKNOWN_KEYS:
                unknown.append(path)
            continue
        if value is None:
            continue  # ProtoJSON: null is the default of every field
        if field.oneof is not None:
            if field.oneof in members:
                _refuse(path, f"is a second member of the oneof {field.oneof!r}")
            members.add(field.oneof)
        try:
            _read_field(work, field, value, path, pending)
        except _WrongError as error:
            _refuse(path, str(error))


def _read_field(work: _Work, field: _Field, value: Any, path: str, pending: deque[_Work]) -> None:
    depth = work.depth + field.adds_depth
    if not field.is_repeated:
        if field.scalar is not None:
            setattr(work.target, field.name, field.scalar(value))
            return
        child: Message = getattr(work.target, field.name)
        child.SetInParent()  # {} is present, and distinct from absence
        pending.append(_Work(value, child, path, depth))
        return
    if not isinstance(value, list):
        raise _WrongError("must be a list")
    target = getattr(work.target, field.name)
    for index, item in enumerate(value):
        if field.scalar is not None:
            target.append(field.scalar(item))
        else:
            pending.append(_Work(item, target.add(), f"{path}[{index}]", depth))


@functools.cache
def _fields_of(descriptor: Descriptor) -> dict[str, _Field]:
    return {
        field.json_name: _Field(
            name=field.name,
            is_repeated=is_repeated(field),
            oneof=field.containing_oneof.name if field.containing_oneof else None,
            adds_depth=field.name in {"array_value", "kvlist_value"},
            scalar=_scalar_of(field),
        )
        for field in descriptor.fields
    }


def is_repeated(field: FieldDescriptor) -> bool:
    """Whether a field is a list."""
    # `is_repeated` is new in protobuf 6.30, and `label` goes.
    either: Any = field
    if hasattr(field, "is_repeated"):
        return bool(either.is_repeated)
    return bool(either.label == either.LABEL_REPEATED)


def _scalar_of(field: FieldDescriptor) -> Callable[[Any], Any] | None:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return None
    if field.type in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[field.type]
        is_enum = field.type == FieldDescriptor.TYPE_ENUM
        return functools.partial(_integer, low=low, high=high, is_enum=is_enum)
    if field.type == FieldDescriptor.TYPE_BYTES:
        size = _ID_FIELDS.get(field.name)
        return _base64 if size is None else functools.partial(_hexadecimal, size_bytes=size)
    return {
        FieldDescriptor.TYPE_STRING: _text,
        FieldDescriptor.TYPE_BOOL: _boolean,
        FieldDescriptor.TYPE_DOUBLE: _double,
    }[field.type]


def _text(value: Any) -> str:
    if not isinstance(value, str) or isinstance(value, _Number):
        raise _WrongError("must be a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _WrongError("holds half of a surrogate pair") from None
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _WrongError("must be true or false")
    return value


def _integer(value: Any, *, low: int, high: int, is_enum: bool) -> int:
    if is_enum and not isinstance(value, _Number):
        raise _WrongError("must be an integer, not an enum name")
    if not isinstance(value, str) or not _is_number(value):
        raise _WrongError("must be an integer")
    number = Decimal(value)
    if not low <= number <= high:
        raise _WrongError(f"must be between {low} and {high}")
    if number != int(number):
        raise _WrongError("must be a whole number")
    return int(number)


def _double(value: Any) -> float:
    if not isinstance(value, str):
        raise _WrongError("must be a number")
    if value in {"NaN", "Infinity", "-Infinity"}:
        return float(value)
    if not _is_number(value):
        raise _WrongError('must be a number, "NaN", "Infinity" or "-Infinity"')
    number = float(value)
    if number in {float("inf"), float("-inf")}:
        raise _WrongError("must fit a double")
    return number


def _is_number(text: str) -> bool:
    return len(text) <= _MAX_NUMBER_LENGTH and _NUMBER.fullmatch(text) is not None


def _hexadecimal(value: Any, *, size_bytes: int) -> bytes:
    text = _text(value)
    # bytes.fromhex alone would take blanks between the digits; empty is for the id check to judge.
    if text and (len(text) != 2 * size_bytes or not re.fullmatch("[0-9a-fA-F]+", text)):
        raise _WrongError(f"must be {2 * size_bytes} hexadecimal digits")
    return bytes.fromhex(text)


def _base64(value: Any) -> bytes:
    # ProtoJSON reads both alphabets, with and without padding.
    text = _text(value).translate({ord("-"): "+", ord("_"): "/"})
    bare = text.rstrip("=")
    if len(text) - len(bare) not in {0, -len(bare) % 4} or not _BASE64.fullmatch(bare):
        raise _WrongError("must be base64")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        raise _WrongError("must be base64") from None
