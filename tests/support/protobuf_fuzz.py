"""Protobuf bodies by the thousand: usual ones, odd ones, ones that are changed on the wire.

From the official descriptors and a seed. Hypothesis is too slow for a hundred thousand of them.
"""

import random
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from relay.model.records import Encoding, Signal
from relay.otlp.signals import WIRE
from tests.support.native_difference import NOW_NS

_KEYS: Final = (
    *("service.name", "host.name", "team", "deployment.environment", "http.route", "é", "k"),
    *(f"key.{number}" for number in range(60)),
)
_TEXTS: Final = ("", "a", "openrouter", "GET /", "é😀", "x" * 31, "y" * 140, "z" * 20_000, "\0")
_NUMBERS: Final = (0, 1, 2, 127, 128, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_DOUBLES: Final = (0.0, -0.0, 1.0, 1e300, 5e-324, float("nan"), float("inf"), float("-inf"))
_TIMES: Final = (
    *(0, 1, NOW_NS // 10**9, NOW_NS // 10**6, NOW_NS // 10**3, 946_684_799 * 10**9),
    *(NOW_NS - 8 * 86_400 * 10**9, NOW_NS + 2 * 3600 * 10**9, 2**63, 2**64 - 1),
)
_BITS: Final = {
    FieldDescriptor.TYPE_UINT32: (0, 2**32),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32),
    FieldDescriptor.TYPE_UINT64: (0, 2**64),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64),
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63),
}
_INSIDE: Final = frozenset(
    name for wire in WIRE.values() for name in wire.lists[Encoding.PROTOBUF]
) | {"data_points"}
_KINDS: Final = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
_MOST_DEPTH: Final = 14


class ProtobufBodies:
    """Makes bodies. One in three has something odd in it, one in three a change on the wire."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._oddness = 0.0

    def body(self, signal: Signal) -> bytes:
        """One body of that signal."""
        rng = self._rng
        self._oddness = rng.choice((0.0, 0.002, 0.05))
        request = WIRE[signal].request()
        self._fill(request, 0)
        encoded: bytes = request.SerializeToString()
        change = rng.random()
        if change < 0.2:
            return self._rewrite(request, rng.choice((1.0, 0.1)))
        if change < 0.35 and encoded:
            return self._damage(encoded)
        return encoded

    def _odd(self) -> bool:
        return self._rng.random() < self._oddness

    def _fill(self, message: Any, depth: int) -> None:
        for field in self._fields(message, depth):
            count = self._count(field)
            if field.is_repeated:
                held = getattr(message, field.name)
                for _ in range(count):
                    if field.message_type:
                        self._fill(held.add(), depth + 1)
                    else:
                        held.append(self._scalar(field))
            elif count and field.message_type:
                inner = getattr(message, field.name)
                inner.SetInParent()
                # A metric without points is left to Python, and all that came with it.
                if not (self._odd() if field.name in _KINDS else self._rng.random() < 0.05):
                    self._fill(inner, depth + 1)
            elif count:
                setattr(message, field.name, self._scalar(field))

    def _fields(self, message: Any, depth: int) -> list[FieldDescriptor]:
        """The fields that may be set: of a oneof nearly always one."""
        rng = self._rng
        fields = list(message.DESCRIPTOR.fields)
        if message.DESCRIPTOR.oneofs_by_name.get("data"):
            kind = rng.choice(_KINDS)
            return [each for each in fields if each.name == kind or each.name not in _KINDS]
        if "value" not in message.DESCRIPTOR.oneofs_by_name:
            return fields
        members = [each for each in fields if each.containing_oneof]
        chosen = rng.choice(members[:4] * 3 + members[4:])
        if depth > _MOST_DEPTH and chosen.message_type:
            chosen = members[0]
        return [each for each in fields if each is chosen or not each.containing_oneof]

    def _count(self, field: FieldDescriptor) -> int:
        rng = self._rng
        if field.name in _INSIDE:
            return 0 if self._odd() else rng.choice((1, 1, 2, 5))
        if field.name in _KINDS or field.containing_oneof:
            return 0 if self._odd() else 1
        if field.is_repeated:
            return rng.choice((0, 1, 3)) if rng.random() < 0.98 else 40
        return int(rng.random() < 0.7 or field.name in _USUAL)

    def _scalar(self, field: FieldDescriptor) -> Any:
        rng = self._rng
        usual = _USUAL.get(field.name)
        if usual and not self._odd():
            return usual(rng)
        if "time_unix_nano" in field.name:
            return rng.choice(_TIMES)
        match field.type:
            case FieldDescriptor.TYPE_STRING:
                value: Any = rng.choice(_KEYS if field.name == "key" else _TEXTS[:-2])
            case FieldDescriptor.TYPE_BYTES:
                value = self._bytes(field.name)
            case FieldDescriptor.TYPE_DOUBLE:
                value = rng.choice(_DOUBLES) if self._odd() else rng.uniform(-1e6, 1e6)
            case FieldDescriptor.TYPE_BOOL:
                value = rng.random() < 0.5
            case kind:
                least, end = _BITS[kind]
                value = max(least, min(end - 1, rng.choice((*_NUMBERS, -1))))
        return value

    def _bytes(self, name: str) -> bytes:
        rng = self._rng
        size = 16 if name == "trace_id" else 8
        if name.endswith("_id"):
            return rng.choice((b"", bytes(size), b"\1" * 7, b"app_trace_001", rng.randbytes(size)))
        return rng.randbytes(rng.choice((0, 3, 200)))

    # --- on the wire -----------------------------------------------------------------------------

    def _damage(self, body: bytes) -> bytes:
        """Bytes changed, put in, taken out, or the end cut off."""
        rng = self._rng
        data = bytearray(body)
        for _ in range(rng.choice((1, 1, 1, 4))):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(4):
                case 0:
                    data[at : at + 1] = bytes([rng.randrange(256)])
                case 1:
                    data[at:at] = rng.randbytes(rng.choice((1, 2, 8)))
                case 2:
                    del data[at : at + rng.choice((1, 2, 8))]
                case _:
                    data = data[: max(1, at)]
        return bytes(data)

    def _rewrite(self, message: Message, share: float) -> bytes:
        """The same as other serialisers write it, or with fields that are not known yet."""
        rng = self._rng
        parts: list[bytes] = []
        for field, value in message.ListFields():
            values = value if field.is_repeated else [value]
            for each in values:
                if field.message_type:
                    inner = self._rewrite(each, share)
                    parts.append(_varint(field.number << 3 | 2) + _varint(len(inner)) + inner)
            if not field.message_type:
                alone = type(message)()
                if field.is_repeated:
                    getattr(alone, field.name).extend(value)
                else:
                    setattr(alone, field.name, value)
                parts.append(alone.SerializeToString())
        if rng.random() > 0.1 * share:
            return b"".join(parts)
        changes: tuple[Callable[[], None], ...] = (
            lambda: rng.shuffle(parts),
            lambda: parts.append(self._unknown()),
            lambda: parts.insert(0, self._unknown()),
            lambda: parts.append(self._default(message)),
            lambda: parts.insert(rng.randrange(len(parts) + 1), self._default(message)),
            lambda: parts.append(rng.choice(parts)) if parts else None,
        )
        rng.choice(changes)()
        return b"".join(parts)

    def _unknown(self) -> bytes:
        rng = self._rng
        number = rng.choice((17, 20, 100, 536_870_911, 1000, rng.randrange(1, 40)))
        kind, content = rng.choice(
            (
                (0, _varint(rng.choice(_NUMBERS))),
                (1, rng.randbytes(8)),
                (2, b"\3abc"),
                (2, b"\0"),
                (5, rng.randbytes(4)),
                (3, _varint(number << 3 | 4)),
                (0, b"\x80\0"),
            )
        )
        return _varint(number << 3 | kind) + content

    def _default(self, message: Message) -> bytes:
        """A field at its default, or as if in proto2."""
        field: Any = self._rng.choice(message.DESCRIPTOR.fields)
        if field.message_type or field.is_repeated:
            wire_type, content = 2, b"\0"
        else:
            wire_type, content = _DEFAULTS.get(field.type, (0, b"\0"))
        return _varint(field.number << 3 | wire_type) + content


_DEFAULTS: Final = {
    FieldDescriptor.TYPE_STRING: (2, b"\0"),
    FieldDescriptor.TYPE_BYTES: (2, b"\0"),
    FieldDescriptor.TYPE_FIXED64: (1, bytes(8)),
    FieldDescriptor.TYPE_SFIXED64: (1, bytes(8)),
    FieldDescriptor.TYPE_DOUBLE: (1, bytes(8)),
    FieldDescriptor.TYPE_FIXED32: (5, bytes(4)),
}
_USUAL: Final[dict[str, Callable[[random.Random], Any]]] = {
    "trace_id": lambda rng: rng.randbytes(16),
    "span_id": lambda rng: rng.randbytes(8),
    "parent_span_id": lambda rng: rng.choice((b"", rng.randbytes(8))),
    "key": lambda rng: rng.choice(_KEYS),
    "name": lambda rng: rng.choice(("GET /", "x" * 140)),
    "start_time_unix_nano": lambda rng: NOW_NS - rng.randrange(10**12),
    "end_time_unix_nano": lambda rng: NOW_NS + rng.randrange(10**9),
    "time_unix_nano": lambda rng: NOW_NS - rng.randrange(10**12),
    "observed_time_unix_nano": lambda rng: NOW_NS - rng.randrange(10**12),
    "as_int": lambda rng: rng.choice((0, -5, 70_000)),
    "string_value": lambda rng: rng.choice(_TEXTS),
}


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))
