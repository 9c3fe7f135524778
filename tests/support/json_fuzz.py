"""JSON bodies by the thousand: usual ones, odd ones, ones that are changed as trees or as text.

From the structs of the schema and a seed. A tree is made of objects as lists of pairs (a key may
come twice), lists, texts, and whatever else stands in the body as it is.
"""

import json
import random
from base64 import b64encode
from functools import cache
from typing import Any, Final, get_args, get_origin, get_type_hints

from msgspec import Raw, UnsetType

from relay.model.records import Encoding, Signal
from relay.otlp import messages, messages_metrics
from relay.otlp.json_scalars import SEVERITIES, SPAN_KINDS, STATUS_CODES, TEMPORALITIES
from relay.otlp.signals import WIRE
from tests.support.native_difference import NOW_NS


class Bare(str):
    """What stands in the body as it is: a number, a literal, anything."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object."""


_KEYS: Final = (
    *("service.name", "host.name", "team", "deployment.environment", "http.route", "", "k"),
    *("gen_ai.prompt", "gen_ai.usage.input_tokens", "deployment.environment.name", "os.type"),
    *(f"llm.input_messages.{number}.message.content" for number in range(100)),
)
_ESCAPED_KEYS: Final = ("é", 'quo"ted', "sla/sh", "service\tname")
_CHAT: Final = json.dumps({"messages": [{"role": "user", "content": 'Say "hé😀"\n\tC:\\x /y'}] * 9})
_TEXTS: Final = (
    *("", "a", "openrouter", "GET /", "é😀", "x" * 31, "y" * 140, "z" * 3000, "\0", "\x1f\x7f"),
    *('a"b', "back\\slash", "\b\f\n\r\t", "</script>", "\u2028", "</\\/>", "\ufffd", "e+7"),
    *(_CHAT, json.dumps(_CHAT), "tail\\", '"', "\\\\", "NaN", "null", ',"stringValue":'),
)
_LITERALS: Final = ("0", "1", "-1", "2.5", "4294967296", "1e3", "true", "false", "null")
_INT64: Final = (-(2**63), 2**63 - 1)
_RANGES: Final = {messages.Int32: (-(2**31), 2**31 - 1), messages.UInt32: (0, 2**32 - 1)}
_ODD_NUMBERS: Final = (
    *("-0", "00", "01", "+1", "1.", ".5", "1.0", "1e3", "1E+2", "-", "", " 1", "1 ", "0x10", "1_0"),
    *("2.5", "1e400", "-1e400", "1e-400", "NaN", "1e00005", "9" * 30, "9" * 320, "1." + "0" * 310),
    *("0." + "0" * 300 + "1", "1e+0005", "\u0661"),
)
_DOUBLES: Final = (
    *("0.0", "-0.0", "0", "1", "1.5", "5e-324", "1.7976931348623157e308", "1e16", "1e15", "1e-5"),
    *("1e-6", "0.00001", "0.000001", "0.000012", "123456789012345", "1234567890123456", "0.1"),
    *("12345678.90123", "100.0", "100.10", "9007199254740993", "1e21", "1E5", "1.0e+5", "2.50e-7"),
    *("1234567890.12345", "0.30000000000000004", "10000000000000000000000", "-7.25", "-3", "4.0"),
)
_TIMES: Final = (
    *(0, 1, NOW_NS // 10**9, NOW_NS // 10**6, NOW_NS // 10**3, 946_684_799 * 10**9),
    *(NOW_NS - 8 * 86_400 * 10**9, NOW_NS + 2 * 3600 * 10**9, 2**63, 2**64 - 1),
)
_ENUMS: Final = {
    "kind": tuple(SPAN_KINDS),
    "code": tuple(STATUS_CODES),
    "severityNumber": tuple(SEVERITIES),
    "aggregationTemporality": tuple(TEMPORALITIES),
}
_ID_BYTES: Final = {"traceId": 16, "spanId": 8, "parentSpanId": 8}
_VALUES: Final = get_type_hints(messages.AnyValue)
_INSIDE: Final = {name for wire in WIRE.values() for name in wire.lists[Encoding.JSON]} | {
    "dataPoints"
}
_UNKNOWN: Final = (
    "newer",
    "trace_id",
    "resource_spans",
    "dropped_attributes_count",
    "a.b",
    "x" * 41,
)
_KNOWN: Final = ("attributes", "name", "values", "key", "value", "intValue", "spans", "dataPoints")
_SLICES: Final = (
    *("null", "{}", "[]", '""', "0", "-1", "1e999", '"\\ud800"', '"\\u0000"', "\\", '"', "{", "}"),
    *("[", "]", ",", ":", "\xe9", "\0", "\n", " ", '{"stringValue":"x"}', "true", "\\u00e9", "\\/"),
)
_MOST_DEPTH: Final = 6


@cache
def _fields(struct: Any) -> dict[str, Any]:
    return get_type_hints(struct, include_extras=True)


class JsonBodies:
    """Makes bodies. One in two is changed somewhere, as a tree or as text."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._oddness = 0.0
        self._is_compact = True

    def body(self, signal: Signal) -> bytes:
        """One body of that signal."""
        rng = self._rng
        self._oddness = rng.choice((0.0, 0.0, 0.001, 0.02, 0.2))
        self._is_compact = rng.random() < 0.7
        tree = self._message(WIRE[signal].json_request_struct, 0)
        for _ in range(rng.choice((0, 0, 0, 1, 2))):
            self._change_tree(tree)
        text = self._text(tree).encode(errors="surrogatepass")
        for _ in range(rng.choice((0, 0, 0, 0, 1, 1, 3))):
            text = self.change_text(text)
        return text

    def change_text(self, text: bytes) -> bytes:
        """The text with something else, more or less in one place."""
        rng = self._rng
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice((0, 0, 1, 1, 2, 10)))
        change = rng.random()
        if change < 0.05:
            return text[:at]
        if change < 0.3:
            return text[:at] + text[end:]
        if change < 0.6:
            return text[:at] + rng.choice(_SLICES).encode("latin-1") + text[end:]
        if change < 0.8:
            return text[:at] + rng.randbytes(1) + text[end:]
        return text[:at] + text[at : at + rng.choice((1, 20, 200))] + text[at:]

    # --- values, by their types ------------------------------------------------------------------

    def _is_odd(self) -> bool:
        return self._rng.random() < self._oddness

    def _message(self, struct: Any, depth: int) -> Any:
        rng = self._rng
        if struct is messages.AnyValue:
            return self._value(depth)
        pairs = Pairs()
        presence = rng.choice((0.3, 0.7, 1.0))
        kinds = _fields(struct)
        data = rng.choice(messages_metrics.DATA) if struct is messages_metrics.Metric else ""
        number = rng.choice(("asInt", "asDouble")) if "asInt" in kinds else ""
        for name, kind in kinds.items():
            if name == "keyStrindex" and not self._is_odd():
                continue
            is_one_of = name in (*messages_metrics.DATA, "asInt", "asDouble")
            if is_one_of and name not in (data, number) and not self._is_odd():
                continue
            usual = (*_ID_BYTES, *_INSIDE, "name", "key", "value", data, number)
            chance = 0.98 if name in usual or "imeUnixNano" in name else presence
            if rng.random() < chance:
                pairs.append((name, self._member(name, kind, depth, is_link="traceState" in kinds)))
        if self._is_odd():
            pairs.insert(rng.randint(0, len(pairs)), (rng.choice(_UNKNOWN), self._anything(0)))
        if pairs and self._is_odd():
            pairs.append((rng.choice(pairs)[0], self._anything(0)))
        if rng.random() < 0.1:
            rng.shuffle(pairs)
        return pairs

    def _member(self, name: str, kind: Any, depth: int, *, is_link: bool) -> Any:
        rng = self._rng
        if self._is_odd():
            return rng.choice((Bare("null"), self._anything(0), Pairs(), []))
        if name in _ID_BYTES:
            return self._id(name, is_link=is_link)
        if "imeUnixNano" in name:
            return self._time()
        if name in _ENUMS and rng.random() < 0.05:
            return rng.choice(_ENUMS[name])
        if kind is Raw:
            return self._message(messages.Resource, depth + 1)
        return self._of_kind(name, kind, depth)

    def _of_kind(self, name: str, kind: Any, depth: int) -> Any:
        rng = self._rng
        kinds = [each for each in get_args(kind) if each is not UnsetType]
        if get_origin(kind) is list:
            (of,) = get_args(kind)
            most = 3 if depth < 6 else 1
            count = rng.choice((0, 1, 1, 2, most))
            if name in _INSIDE:
                count = rng.choice((0, 1, 2, 3)) if rng.random() < 0.1 else rng.choice((1, 1, 2))
            if of is messages.KeyValue:
                count = rng.choice((0, 1, 2, 3, 8, 40)) if rng.random() < 0.2 else rng.randint(0, 5)
            return [self._of_kind(name, of, depth + 1) for _ in range(count)]
        if kind is bool or bool in kinds:
            return Bare(rng.choice(("true", "false")))
        if float in kinds or kind is float:
            return self._double()
        if kind in _RANGES or int in kinds:
            wide = _INT64 if name == "asInt" else (0, 2**64 - 1)
            low, high = _RANGES.get(kind, wide)
            return self._integer(low, high, most_quoted=0.02 if kind in _RANGES else 0.5)
        if kind is str or str in kinds:
            return self._word(name)
        struct = next((each for each in (kind, *kinds) if hasattr(each, "__struct_fields__")), None)
        return self._message(struct, depth + 1)

    def _word(self, name: str) -> str:
        rng = self._rng
        if name == "key":
            keys = _ESCAPED_KEYS if rng.random() < 0.003 else _KEYS
            return rng.choice(keys[:7] if rng.random() < 0.1 else keys)
        return rng.choice(_TEXTS) if rng.random() < 0.5 else f"t{rng.randrange(10**6)}"

    def _id(self, name: str, *, is_link: bool) -> str:
        rng = self._rng
        size = _ID_BYTES[name]
        good = rng.choice(("0af7651916cd43dd", "b7ad6b7169203331", "00f067aa0ba902b7")) * (
            size // 8
        )
        if rng.random() < 0.3:
            good = rng.randbytes(size).hex()
        roll = rng.random() * (8 if is_link else 4)
        if roll < 0.05:
            return good.upper()
        if roll < 0.1:
            return "0" * 2 * size
        if roll < 0.15 or (name == "parentSpanId" and roll < 2):
            return ""
        if roll < 0.2:
            return rng.choice((good[:-1], good + "0", "app_trace_001", " " + good[1:], "é" * size))
        return good

    def _time(self) -> Any:
        rng = self._rng
        number = NOW_NS - rng.randrange(10**14)
        if rng.random() < 0.1:
            number = rng.choice(_TIMES)
        return str(number) if rng.random() < 0.8 else Bare(number)

    def _integer(self, low: int, high: int, *, most_quoted: float = 0.5) -> Any:
        rng = self._rng
        number = rng.randrange(4)
        if rng.random() < 0.2:
            number = rng.choice((low, high, 127, 128, 257, max(low, -1), rng.randint(low, high)))
        text = str(number)
        if self._is_odd():
            text = rng.choice((*_ODD_NUMBERS, str(low - 1), str(high + 1)))
        return text if rng.random() < most_quoted else Bare(text)

    def _double(self) -> Any:
        rng = self._rng
        text = rng.choice(_DOUBLES)
        if rng.random() < 0.4:
            number = rng.uniform(-1, 1) * 10 ** rng.uniform(-12, 24)
            text = rng.choice((repr(number), f"{number:.3f}", f"{number:.17g}", f"{number:.0f}"))
        if rng.random() < 0.05:
            return rng.choice(("NaN", "Infinity", "-Infinity"))
        if self._is_odd():
            text = rng.choice(_ODD_NUMBERS)
        return text if rng.random() < 0.03 else Bare(text)

    def _value(self, depth: int) -> Any:
        rng = self._rng
        roll = rng.random()
        made: Any
        if roll < 0.5 or depth > _MOST_DEPTH + 8:
            name, made = "stringValue", self._word("")
        elif roll < 0.7:
            name, made = "intValue", self._integer(*_INT64)
        elif roll < 0.8:
            name, made = "doubleValue", self._double()
        elif roll < 0.86:
            name, made = "boolValue", Bare(rng.choice(("true", "false")))
        elif roll < 0.9:
            text = b64encode(rng.randbytes(rng.randrange(9))).decode()
            name, made = "bytesValue", text[: len(text) - (rng.random() < 0.02)]
        elif roll < 0.93:
            return Pairs()
        else:
            name = rng.choice(("arrayValue", "kvlistValue"))
            made = self._message(
                messages.ArrayValue if name == "arrayValue" else messages.KeyValueList, depth + 2
            )
            for _ in range(rng.choice((0, 0, 0, 0, 3, 28, 40)) if rng.random() < 0.02 else 0):
                made = Pairs([("values", [Pairs([("arrayValue", made)])])])
        pairs = Pairs([(name, made)])
        if self._is_odd():
            pairs.append((rng.choice((*_VALUES, *_UNKNOWN)), self._anything(0)))
            rng.shuffle(pairs)
        return pairs

    def _anything(self, depth: int) -> Any:
        rng = self._rng
        roll = rng.random()
        if roll < 0.2 or depth > 3:
            return rng.choice(_TEXTS)
        if roll < 0.4:
            return Bare(rng.choice(_LITERALS))
        if roll < 0.45:
            return Bare(rng.choice((*_ODD_NUMBERS, "[" * 60 + "]" * 60, '"\\ud800"', '"\\x"')))
        if roll < 0.7:
            return [self._anything(depth + 1) for _ in range(rng.randrange(3))]
        keys = (*_UNKNOWN, *_KNOWN)
        return Pairs((rng.choice(keys), self._anything(depth + 1)) for _ in range(rng.randrange(3)))

    # --- changes, and text -----------------------------------------------------------------------

    def _change_tree(self, tree: Any) -> None:
        """Change one thing somewhere below."""
        rng = self._rng
        holders: list[Any] = []
        pending = [tree]
        while pending:
            each = pending.pop()
            if isinstance(each, list) and each:
                holders.append(each)
                pending += [item[1] for item in each] if isinstance(each, Pairs) else each
        if not holders:
            return
        holder = rng.choice(holders)
        at = rng.randrange(len(holder))
        match rng.randrange(5), isinstance(holder, Pairs):
            case 0, _:
                del holder[at]
            case 1, _:
                holder.insert(rng.randint(0, len(holder)), holder[at])
            case 2, True:
                holder[at] = (rng.choice((*_UNKNOWN, *_KNOWN)), holder[at][1])
            case 3, True:
                holder[at] = (holder[at][0], Bare("null"))
            case _, True:
                holder[at] = (holder[at][0], self._anything(0))
            case _:
                holder[at] = self._anything(0)

    def _text(self, tree: Any) -> str:
        if isinstance(tree, Bare):
            return str(tree)
        if isinstance(tree, str):
            return self._quoted(tree)
        if isinstance(tree, Pairs):
            pairs = (
                f"{self._quoted(k)}{self._blank()}:{self._blank()}{self._text(v)}" for k, v in tree
            )
            return "{" + self._blank() + f"{self._blank()},{self._blank()}".join(pairs) + "}"
        items = (self._text(each) + self._blank() for each in tree)
        return "[" + self._blank() + f",{self._blank()}".join(items) + "]"

    def _blank(self) -> str:
        return "" if self._is_compact else self._rng.choice(("", "", " ", "\n", "\t\r "))

    def _quoted(self, text: str) -> str:
        rng = self._rng
        quoted = json.dumps(text, ensure_ascii=rng.random() < 0.3)
        if rng.random() < 0.1:
            quoted = quoted.replace("/", "\\/")
        if self._is_odd() and len(text) < 20:
            quoted = '"' + "".join(f"\\u{ord(each) & 0xFFFF:04X}" for each in text) + '"'
        return quoted
