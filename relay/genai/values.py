"""Attributes as plain Python values, and numbers and texts out of whatever a sender made of them.

Nothing here raises: what cannot be read is not told (None, or an empty text).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET

from relay.otlp import messages
from relay.otlp.folding import MAX_PROTOBUF_LEVELS

Attributes = Mapping[str, Any]

_MOST_DIGITS: Final = 40
_MOST: Final = 2**63
_OPENING: Final = ("{", "[")


def attributes_of(items: Iterable[messages.KeyValue]) -> dict[str, Any]:
    """The attributes of an item by key; of two with one key the last. Empty values are left out."""
    found = {}
    for item in items:
        value = plain(item.value)
        if value is not None:
            found[item.key] = value
    return found


def plain(value: Any, levels: int = MAX_PROTOBUF_LEVELS) -> Any:
    """An AnyValue as text, bool, int, float, list or dict; None where it holds nothing.

    NaN and the infinities are None, too, and so is what lies deeper than `levels`. Bytes stay
    their base64 text.
    """
    if not isinstance(value, messages.AnyValue) or not levels:
        return None
    for simple in (value.stringValue, value.boolValue, value.bytesValue):
        if simple is not UNSET:
            return simple
    if value.intValue is not UNSET or value.doubleValue is not UNSET:
        return number_of(value.doubleValue if value.intValue is UNSET else value.intValue)
    if value.arrayValue is not UNSET:
        return [plain(each, levels - 1) for each in value.arrayValue.values]
    if value.kvlistValue is not UNSET:
        return {each.key: plain(each.value, levels - 1) for each in value.kvlistValue.values}
    return None


def number_of(value: Any) -> int | float | None:
    """The number that a value is, or that its text says; whole ones as int."""
    if isinstance(value, str) and len(value) <= _MOST_DIGITS:
        try:
            value = int(value) if value.strip().lstrip("+-").isdecimal() else float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not math.isfinite(value) or abs(value) > _MOST:
        return None
    return int(value) if value == int(value) else value


def count_of(value: Any) -> int | None:
    """A number of tokens; None for what is none."""
    found = number_of(value)
    return int(found) if found is not None and found >= 0 else None


def text_of(value: Any) -> str:
    """A value as text; a list or a dict as JSON, nothing as an empty text."""
    if isinstance(value, str):
        return value
    return "" if value is None else json_text(value)


def is_true(value: Any) -> bool | None:
    """Whether a value says true, as a boolean or as text; None where it says neither."""
    words = {"true": True, "false": False}
    return words.get(str(value).lower()) if isinstance(value, (bool, str)) else None


def json_text(value: Any) -> str:
    """A value as compact JSON."""
    try:
        return msgspec.json.encode(value).decode()
    except (RecursionError, ValueError, TypeError, msgspec.MsgspecError):
        return ""


def parsed(value: Any) -> Any:
    """What a text holds that is a JSON object or list; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in _OPENING:
        try:
            return msgspec.json.decode(value)
        except (RecursionError, ValueError, msgspec.MsgspecError):
            return value
    return value


def texts_of(value: Any) -> list[str]:
    """A list of texts, also where it came as JSON text or as one text alone."""
    found = parsed(value)
    if isinstance(found, list):
        return [text_of(each) for each in found if each is not None]
    return [text_of(found)] if found not in (None, "") else []


def first(attributes: Attributes, names: Iterable[str]) -> Any:
    """The value of the first of `names` that tells anything."""
    for name in names:
        value = attributes.get(name)
        if value is not None and value != "":
            return value
    return None


def first_number(
    attributes: Attributes,
    names: Iterable[str],
    read: Callable[[Any], int | float | None] = number_of,
) -> int | float | None:
    """What `read` makes of the first of `names` of which it makes anything."""
    for name in names:
        # Most are not there, and asking is what this room does most.
        if (value := attributes.get(name)) is not None and (found := read(value)) is not None:
            return found
    return None


def added(values: Iterable[float | None]) -> float | None:
    """The sum of those that were told; None when none was."""
    told = [value for value in values if value is not None]
    if all(isinstance(value, int) for value in told):
        return sum(told) if told else None
    return round(math.fsum(told), 12)


def nested(attributes: Attributes, prefix: str) -> list[Any]:
    """What flat keys such as `PREFIX.0.message.role` spell: the items in order of their number.

    A key that is both a value and the beginning of others keeps the others alone.
    """
    tree: dict[str, Any] = {}
    for key, value in attributes.items():
        if key.startswith(prefix + "."):
            at = tree
            *path, leaf = key[len(prefix) + 1 :].split(".", MAX_PROTOBUF_LEVELS)
            for name in path:
                if not isinstance(at.get(name), dict):
                    at[name] = {}
                at = at[name]
            if not isinstance(at.get(leaf), dict):
                at[leaf] = value
    found = _lists(tree)
    return found if isinstance(found, list) else []


def _lists(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree and all(key.isdecimal() and len(key) < 9 for key in tree):
        return [_lists(tree[key]) for key in sorted(tree, key=int)]
    return {key: _lists(value) for key, value in tree.items()}
