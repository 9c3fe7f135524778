"""Values of a plain OTLP/JSON body in; nothing out, or `DeclinedError`.

Only what surely keeps the rules of `otlp_json` and `validity` passes here.
"""

from collections.abc import Iterable
from typing import Any

from msgspec import UNSET, Raw

_MAX_DEPTH = 20
_SAFE_DIGITS = 18  # so many fit 64 bits with a sign
_SHORT_FLOAT, _SAFE_FLOAT, _SAFE_INTEGER = 30, 1e300, 2**53


class DeclinedError(Exception):
    """Not as plain as that."""


def check_optional_ids(holder: Any) -> None:
    """The ids of a log record, a link or an exemplar: of their length, or none."""
    for text, digits in ((holder.traceId, 32), (holder.spanId, 16)):
        if text and (len(text) != digits or 2 * len(bytes.fromhex(text)) != digits):
            raise DeclinedError


def check_times(*times: Any) -> None:
    """Nanoseconds as a number or a text, or none."""
    for time in times:
        if type(time) is str:
            # 19 digits are today's nanoseconds; below 2**64 for sure.
            if not (len(time) == 19 and time.isdecimal() and time.isascii() and time[0] == "1"):
                _check_integer(time, least=0)
        elif time is not UNSET and not 0 <= time < 2**64:
            raise DeclinedError


def unsigned(number: Any) -> int:
    """A count, as a number or a text; 0 where there is none."""
    if number is UNSET:
        return 0
    if type(number) is str:
        _check_integer(number, least=0)
    elif not 0 <= number < 2**64:
        raise DeclinedError
    return int(number)


def check_signed(number: Any) -> None:
    """A number or a text that fits 64 bits."""
    if type(number) is str:
        _check_integer(number, least=-(2**63))
    elif not -(2**63) <= number < 2**63:
        raise DeclinedError


def check_doubles(*doubles: Any) -> None:
    """Numbers, or none."""
    for double in doubles:
        if double is not UNSET and not is_double(double):
            raise DeclinedError


def is_double(content: Any) -> bool:
    """Whether it is a float of usual length and size, or an integer that a double holds."""
    if type(content) is Raw:  # as it was written
        written = bytes(content)
        return len(written) < _SHORT_FLOAT and abs(float(written)) < _SAFE_FLOAT
    return type(content) is int and abs(content) < _SAFE_INTEGER


def _check_integer(text: str, least: int) -> None:
    if (
        len(text) > _SAFE_DIGITS
        or not text.isascii()
        or str(int(text)) != text
        or int(text) < least
    ):
        raise DeclinedError


def check_attributes(attributes: Iterable[Any], depth: int = 0) -> None:
    """Each key with one value, or none."""
    for attribute in attributes:
        value = attribute.value
        if value is UNSET or (len(value) == 1 and type(value.get("stringValue")) is str):
            continue  # as nearly all are
        check_value(value, depth)


def check_value(value: Any, depth: int) -> None:
    """One AnyValue, read without its type."""
    if depth > _MAX_DEPTH or type(value) is not dict or len(value) > 1:
        raise DeclinedError
    for member, content in value.items():
        if member == "arrayValue":
            for item in _listed(content):
                check_value(item, depth + 1)
        elif member == "kvlistValue":
            for item in _listed(content):
                _check_entry(item, depth + 1)
        elif not _is_scalar(member, content):
            raise DeclinedError


def _is_scalar(member: str, content: Any) -> bool:
    kind = type(content)
    if member == "stringValue":
        return kind is str
    if member == "boolValue":
        return kind is bool
    if member == "intValue":
        if kind is not str and kind is not int:
            return False
        check_signed(content)
        return True
    return member == "doubleValue" and is_double(content)


def _listed(content: Any) -> list[Any]:
    if type(content) is not dict or not content.keys() <= {"values"}:
        raise DeclinedError
    values = content.get("values", [])
    if type(values) is not list:
        raise DeclinedError
    return values


def _check_entry(item: Any, depth: int) -> None:
    if type(item) is not dict or not item.keys() <= {"key", "value"}:
        raise DeclinedError
    if type(item.get("key", "")) is not str:
        raise DeclinedError
    check_value(item.get("value", {}), depth)
