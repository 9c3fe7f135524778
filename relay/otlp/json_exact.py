"""Reads a JSON body that the fast way refused: the same structs, or a Refusal with a path.

Here the rules of proto3 JSON and of OTLP are applied one by one, at ten times the cost: null is
a field's default, numbers may stand in quotes, unknown keys are ignored, the last of two members
wins. Leniencies are counted as warnings. Nothing here is trusted to be shallow or short: depth is
measured before anything recurses, and digits are counted before they become numbers.
"""

import json
import re
from collections.abc import Callable
from functools import reduce
from itertools import accumulate
from operator import or_
from typing import Any, Final, NoReturn, get_args, get_origin, get_type_hints

from msgspec import Raw, Struct, UnsetType

from relay.model.errors import Refusal
from relay.otlp import messages
from relay.otlp.json_numbers import read_double, read_whole
from relay.otlp.json_values import MOST_LEVELS, SPECIAL_DOUBLES, Findings, base64_normal
from relay.otlp.messages_metrics import Double
from relay.otlp.signals import TRACES, WIRE, SignalWire

# Four brackets a level at most (AnyValue, kvlistValue, values, KeyValue), and what is around them.
MOST_BRACKETS: Final = 4 * MOST_LEVELS + 20
MOST_PATH_CHARACTERS: Final = 400

SPAN_KINDS: Final = {
    f"SPAN_KIND_{name}": number
    for number, name in enumerate(
        ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
    )
}
STATUS_CODES: Final = {
    f"STATUS_CODE_{name}": number for number, name in enumerate(("UNSET", "OK", "ERROR"))
}
SEVERITIES: Final = {"SEVERITY_NUMBER_UNSPECIFIED": 0} | {
    f"SEVERITY_NUMBER_{name}{finer or ''}": 1 + 4 * step + max(0, finer - 1)
    for step, name in enumerate(("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"))
    for finer in (0, 2, 3, 4)
}
TEMPORALITIES: Final = {
    f"AGGREGATION_TEMPORALITY_{name}": number
    for number, name in enumerate(("UNSPECIFIED", "DELTA", "CUMULATIVE"))
}
# Bodies of other signals, by the key that gives them away at the top level.
OTHER_SIGNALS: Final = {
    "resourceLogs": "logs_body",
    "resource_logs": "logs_body",
    "resourceMetrics": "metrics_body",
    "resource_metrics": "metrics_body",
}

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_SURROGATES = re.compile("[\ud800-\udfff]")
_CAPITAL = re.compile("([A-Z])")

# A place in the body: the place around it, and a key or an index. Text is made on errors only.
Place = tuple[Any, str | int] | None


class _Number(str):
    """The text of a number that stood bare in the body."""

    __slots__ = ()


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("no JSON")


# Objects become tuples of pairs: their order counts where two members exclude each other.
_decoder = json.JSONDecoder(
    object_pairs_hook=tuple,
    parse_int=_Number,
    parse_float=_Number,
    parse_constant=_no_constant,
)


def read_request(body: bytes, findings: Findings, wire: SignalWire = TRACES) -> Any:
    """A whole request. Raises Refusal with status 400 that names a position or a path."""
    tree = _parse(body, "the body")
    if type(tree) is not tuple:
        name = wire.json_request_struct.__name__
        raise Refusal(f"the body must be a JSON object (an {name})")
    reader = _Reader(findings)
    request = reader.message(_REQUESTS[wire.signal], tree, None)
    reader.finish_values()
    return request


def read_resource(text: bytes, path: str, findings: Findings) -> messages.Resource:
    """A resource alone, as `read_request` does it; `path` names it."""
    tree = _parse(text, path)
    reader = _Reader(findings)
    if tree is None:
        return messages.Resource()
    resource: messages.Resource = reader.message(_RESOURCE, tree, (None, path))
    reader.finish_values()
    return resource


def _parse(body: bytes, name: str) -> Any:
    if not body:
        raise Refusal(f"{name} is empty: JSON needs at least {{}}")
    if body.startswith(b"\xef\xbb\xbf"):
        raise Refusal(f"{name} starts with a byte order mark: send UTF-8 without one")
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in body[:2]:
        raise Refusal(f"{name} is UTF-16 or UTF-32: JSON must be UTF-8")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Refusal(f"{name} is not UTF-8 at byte {error.start}") from None
    if count_brackets(body) > MOST_BRACKETS:
        raise Refusal(f"{name} is nested too deeply: at most {MOST_LEVELS} levels of values")
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise Refusal(f"{name} ends before its JSON is complete") from None
        raise Refusal(f"{name} is no valid JSON at character {error.pos}") from None
    except RecursionError:
        raise Refusal(f"{name} is nested too deeply") from None
    except ValueError:
        raise Refusal(f"{name} holds NaN or Infinity without quotes, which is no JSON") from None


def count_brackets(body: bytes) -> int:
    """How deep objects and lists are nested, texts left aside. Never too small a number."""
    opening = body.count(b"[") + body.count(b"{")
    if opening <= MOST_BRACKETS:
        return opening
    brackets = _STRINGS.sub(b"", body).translate(_STEPS, _NOT_BRACKETS)
    return max(accumulate(memoryview(brackets).cast("b")), default=0)


class _Misfit(Exception):
    """A value is not what its field takes. Says what would be right, never what was there."""


Read = Callable[["_Reader", Any, Place], Any]


class _Shape:
    """A message: the struct it becomes, and how each of its keys is read, by its type there."""

    def __init__(self, struct: type[Struct]) -> None:
        self.struct = struct
        self.fields = {
            name: _BY_NAME.get(name) or _read_as(kind)
            for name, kind in get_type_hints(struct, include_extras=True).items()
        }
        self.snake = _snake_names(struct)


def _snake_names(struct: type[Struct]) -> frozenset[str]:
    names = struct.__struct_fields__
    return frozenset(snake for name in names if (snake := snake_case(name)) != name)


def snake_case(name: str) -> str:
    """The name of a field as proto files spell it, which is not valid in OTLP/JSON."""
    return _CAPITAL.sub(lambda found: "_" + found[0].lower(), name)


class _Reader:
    """Reads one tree. Values within values wait in a list, so that depth costs no stack."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self._pending: list[tuple[messages.AnyValue, str, Any, Place, int]] = []
        self._level = 0

    def message(self, shape: _Shape, tree: Any, place: Place) -> Any:
        """The struct of `shape`. The last of duplicate keys wins; null takes a key away."""
        if type(tree) is not tuple:
            self.refuse(place, "an object")
        members: dict[str, Any] = {}
        for key, item in tree:
            read = shape.fields.get(key)
            if read is None:
                self._ignore(shape.snake, key, place)
            elif item is None:
                members.pop(key, None)
            else:
                members[key] = self.field(read, item, (place, key))
        return shape.struct(**members)

    def field(self, read: Read, item: Any, place: Place) -> Any:
        """One value, or a Refusal that names its place."""
        try:
            return read(self, item, place)
        except _Misfit as misfit:
            self.refuse(place, str(misfit))

    def _ignore(self, snake_names: frozenset[str], key: str, place: Place) -> None:
        warnings = self.findings.warnings
        if place is None and key in OTHER_SIGNALS:
            warnings[OTHER_SIGNALS[key]] += 1
        elif key in snake_names:
            warnings["snake_case"] += 1

    def refuse(self, place: Place, expected: str) -> NoReturn:
        """Raise the Refusal for what stands at `place`."""
        raise Refusal(f"{render(place)} must be {expected}")

    def items(self, read: Read, tree: Any, place: Place) -> list[Any]:
        """A list, each of its items read."""
        if type(tree) is not list:
            raise _Misfit("a list")
        return [self.field(read, item, (place, index)) for index, item in enumerate(tree)]

    def value(self, tree: Any, place: Place) -> messages.AnyValue:
        """An AnyValue. Of several members the last one wins (decision D13)."""
        if type(tree) is not tuple:
            raise _Misfit("an object with one member such as stringValue")
        chosen, item = "", None
        for key, candidate in tree:
            if key not in _MEMBERS:
                self._ignore(_ANY_VALUE_SNAKE, key, place)
            elif candidate is not None:
                chosen, item = key, candidate
                if key in _SCALARS:
                    item = self.field(_SCALARS[key], candidate, (place, key))
            elif key == chosen:
                chosen = ""
        value = messages.AnyValue()
        if chosen in _SCALARS:
            setattr(value, chosen, item)
        elif chosen:
            self._pending.append((value, chosen, item, (place, chosen), self._level + 1))
        return value

    def finish_values(self) -> None:
        """Read what waits: lists and maps within values, whatever they hold in turn."""
        while self._pending:
            value, member, tree, place, self._level = self._pending.pop()
            if self._level > MOST_LEVELS:
                self.refuse(
                    place, f"nested at most {MOST_LEVELS} levels of arrayValue and kvlistValue"
                )
            if member == "arrayValue":
                value.arrayValue = self.message(_ARRAY_VALUE, tree, place)
            else:
                value.kvlistValue = self.message(_KEY_VALUE_LIST, tree, place)
        self._level = 0


def render(place: Place) -> str:
    """The path as text: `resourceSpans[0].scopeSpans[1].spans[2].name`."""
    parts: list[str] = []
    while place is not None:
        place, step = place
        parts.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    path = "".join(reversed(parts)).removeprefix(".")
    return path if len(path) <= MOST_PATH_CHARACTERS else path[:MOST_PATH_CHARACTERS] + "…"


def _text(_reader: _Reader, item: Any, _place: Place) -> str:
    if type(item) is not str:
        raise _Misfit("a string")
    # JavaScript writes half a pair where text was cut within an emoji (decision D6).
    return item if item.isascii() else _SURROGATES.sub("\ufffd", item)


def _boolean(_reader: _Reader, item: Any, _place: Place) -> bool:
    if type(item) is not bool:
        raise _Misfit("true or false")
    return item


def _whole(low: int, high: int, name: str, kind: type[int | str] = int) -> Read:
    expected = f"{name}: an integer of {low} … {high}"

    def read(_reader: _Reader, item: Any, _place: Place) -> int | str:
        if not isinstance(item, str):
            raise _Misfit(expected)
        try:
            return kind(read_whole(item, low, high))
        except ValueError:
            raise _Misfit(expected) from None

    return read


_int32 = _whole(-(2**31), 2**31 - 1, "an int32")
_uint32 = _whole(0, 2**32 - 1, "a uint32")
_int64 = _whole(-(2**63), 2**63 - 1, "an int64", str)
_time = _whole(0, 2**64 - 1, "nanoseconds since 1970", str)


def _double(_reader: _Reader, item: Any, _place: Place) -> float | str:
    expected = 'a number, or "NaN", "Infinity", "-Infinity"'
    if not isinstance(item, str):
        raise _Misfit(expected)
    if type(item) is str and item in SPECIAL_DOUBLES:
        return item
    try:
        return read_double(item)
    except ValueError:
        raise _Misfit(expected) from None


def _bytes(_reader: _Reader, item: Any, _place: Place) -> str:
    if type(item) is not str:
        raise _Misfit("a string of base64")
    try:
        return base64_normal(item)
    except ValueError:
        raise _Misfit("base64, standard or URL-safe") from None


def _enum(names: dict[str, int]) -> Read:
    def read(reader: _Reader, item: Any, place: Place) -> Any:
        if type(item) is str and item in names:
            reader.findings.warnings["enum_name"] += 1
            return names[item]
        try:
            return _int32(reader, item, place)
        except _Misfit:
            raise _Misfit("an integer, the number of the enum's value") from None

    return read


def _many(read: Read) -> Read:
    return lambda reader, item, place: reader.items(read, item, place)


def _raw_resource(reader: _Reader, item: Any, place: Place) -> Raw:
    resource = reader.message(_RESOURCE, item, place)
    reader.finish_values()
    return Raw(messages.encode(resource))


_SCALARS: Final[dict[str, Read]] = {
    "stringValue": _text,
    "boolValue": _boolean,
    "intValue": _int64,
    "doubleValue": _double,
    "bytesValue": _bytes,
    "stringValueStrindex": _int32,
}
_MEMBERS: Final = {*_SCALARS, "arrayValue", "kvlistValue"}
_ANY_VALUE_SNAKE: Final = _snake_names(messages.AnyValue)
# Members whose type does not tell how they are read.
_BY_NAME: Final = {
    "kind": _enum(SPAN_KINDS),
    "code": _enum(STATUS_CODES),
    "severityNumber": _enum(SEVERITIES),
    "aggregationTemporality": _enum(TEMPORALITIES),
    "asInt": _int64,
}
_BY_TYPE: Final[dict[Any, Read]] = {
    bool: _boolean,
    Double: _double,
    str: _text,
    messages.Int32: _int32,
    messages.UInt32: _uint32,
    messages.Int64: _time,
    messages.AnyValue: _Reader.value,
    Raw: _raw_resource,
}


def _read_as(kind: Any) -> Read:
    """How a member of this type is read."""
    known = _BY_TYPE.get(kind)
    if known:
        return known
    if get_origin(kind) is list:
        return _many(_read_as(*get_args(kind)))
    if UnsetType in get_args(kind):
        return _read_as(reduce(or_, [each for each in get_args(kind) if each is not UnsetType]))
    shape = _Shape(kind)
    return lambda reader, item, place: reader.message(shape, item, place)


_RESOURCE = _Shape(messages.Resource)
_ARRAY_VALUE = _Shape(messages.ArrayValue)
_KEY_VALUE_LIST = _Shape(messages.KeyValueList)
_REQUESTS = {signal: _Shape(wire.json_request_struct) for signal, wire in WIRE.items()}
