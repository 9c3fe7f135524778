"""How one value of a JSON tree is read: what its field takes, and what is said where it is none.

Whatever is given here stands in a tree of `json_tree`; numbers and texts may stand for each other
as proto3 JSON has it.
"""

import re
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from relay.otlp.json_numbers import read_double, read_whole
from relay.otlp.json_values import SPECIAL_DOUBLES, Findings, base64_normal

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
_SURROGATES = re.compile("[\ud800-\udfff]")

# A place in the body: the place around it, and a key or an index. Text is made on errors only.
Place = tuple[Any, str | int] | None


def render(place: Place) -> str:
    """The path as text: `resourceSpans[0].scopeSpans[1].spans[2].name`."""
    parts: list[str] = []
    while place is not None:
        place, step = place
        parts.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    path = "".join(reversed(parts)).removeprefix(".")
    return path if len(path) <= MOST_PATH_CHARACTERS else path[:MOST_PATH_CHARACTERS] + "…"


def indices(place: Place) -> tuple[int, ...]:
    """The indices of the lists around a place, from the outermost in."""
    found = []
    while place is not None:
        place, step = place
        if isinstance(step, int):
            found.append(step)
    return tuple(reversed(found))


class Misfit(Exception):
    """A value is not what its field takes. Says what would be right, never what was there."""

    def __init__(self, place: Place, expected: str) -> None:
        self.place = place
        self.expected = expected
        super().__init__()

    def __str__(self) -> str:
        return f"{render(self.place)} must be {self.expected}"


class Reading(Protocol):
    """What reads a tree: leniencies are told to its findings."""

    findings: Findings


Read = Callable[[Any, Any, Place], Any]
"""Reads a value that stands at a place; the first argument is what reads the tree."""


def read_text(_reader: Reading, item: Any, place: Place) -> str:
    """A text, whole pairs of surrogates only."""
    if type(item) is not str:
        raise Misfit(place, "a string")
    # JavaScript writes half a pair where text was cut within an emoji (decision D6).
    return item if item.isascii() else _SURROGATES.sub("\ufffd", item)


def read_boolean(_reader: Reading, item: Any, place: Place) -> bool:
    """True or false, no text and no number."""
    if type(item) is not bool:
        raise Misfit(place, "true or false")
    return item


def _whole(low: int, high: int, name: str, kind: type[int | str] = int) -> Read:
    expected = f"{name}: an integer of {low} … {high}"

    def read(_reader: Reading, item: Any, place: Place) -> int | str:
        if not isinstance(item, str):
            raise Misfit(place, expected)
        try:
            return kind(read_whole(item, low, high))
        except ValueError:
            raise Misfit(place, expected) from None

    return read


read_int32 = _whole(-(2**31), 2**31 - 1, "an int32")
read_uint32 = _whole(0, 2**32 - 1, "a uint32")
read_int64 = _whole(-(2**63), 2**63 - 1, "an int64", str)
read_time = _whole(0, 2**64 - 1, "nanoseconds since 1970", str)
read_count = _whole(0, 2**64 - 1, "a uint64", str)


def read_number(reader: Reading, item: Any, place: Place) -> str | float:
    """An int64, as text; a number that is none is a double, as SDKs in JavaScript have it.

    Those write an integer of any size bare. Other forms are read likewise, with a warning.
    """
    try:
        return str(read_int64(reader, item, place))
    except Misfit as misfit:
        try:
            number = read_double(item) if isinstance(item, str) else None
        except ValueError:
            number = None
        if number is None:
            raise misfit from None
    if type(item) is str or not number.is_integer():
        reader.findings.warn_at("int_as_double", render(place))
    return number


def read_special_or_double(_reader: Reading, item: Any, place: Place) -> float | str:
    """A double, or the name of one that JSON has no number for."""
    expected = 'a number, or "NaN", "Infinity", "-Infinity"'
    if not isinstance(item, str):
        raise Misfit(place, expected)
    if type(item) is str and item in SPECIAL_DOUBLES:
        return item
    try:
        return read_double(item)
    except ValueError:
        raise Misfit(place, expected) from None


def read_bytes(_reader: Reading, item: Any, place: Place) -> str:
    """Bytes as standard padded base64."""
    with suppress(TypeError, ValueError):
        if type(item) is list:  # of integers, as where nobody took care of an array of bytes
            return b64encode(bytes(read_whole(each, 0, 255) for each in item)).decode()
        if type(item) is str:
            return base64_normal(item)
    raise Misfit(place, "base64, standard or URL-safe, or integers of 0 … 255")


def read_enum(names: dict[str, int]) -> Read:
    """How an enum is read: any int32 (decision D14), or a name, with a warning (decision D3)."""

    def read(reader: Reading, item: Any, place: Place) -> Any:
        if type(item) is str and item in names:
            reader.findings.warnings["enum_name"] += 1
            return names[item]
        try:
            return read_int32(reader, item, place)
        except Misfit:
            raise Misfit(place, "an integer, the number of the enum's value") from None

    return read
