"""Attributes as the page shows them: in order, long ones cut, with where to fetch them whole. Pure.

A value is always given as text, and its type beside it: JavaScript would round 64-bit integers.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import UNSET, UnsetType

from relay.otlp.messages import AnyValue, KeyValue
from relay.view.items import text_of

MOST_CHARACTERS: Final = 1000
MOST_SHOWN: Final = 256  # attributes of one item, span event or link
_TYPES: Final = {
    "stringValue": "string",
    "intValue": "int",
    "doubleValue": "double",
    "boolValue": "bool",
    "bytesValue": "bytes",
    "arrayValue": "array",
    "kvlistValue": "kvlist",
}


def shown_value(value: AnyValue | UnsetType, path: str) -> dict[str, Any]:
    """A value: `size` counts characters of the whole; `at` is there where it was cut."""
    text = text_of(value)
    shown: dict[str, Any] = {"type": type_of(value), "value": text[:MOST_CHARACTERS]}
    if len(text) > MOST_CHARACTERS:
        shown |= {"size": len(text), "at": path}
    return shown


def shown_attributes(
    attributes: Sequence[KeyValue], path: str, added: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Attributes in the order sent; `by_relay` stands at those that `added` has just so."""
    return [
        {"key": each.key[:MOST_CHARACTERS], **shown_value(each.value, f"{path}/{number}")}
        | ({"by_relay": True} if _is_added(each, added or {}) else {})
        for number, each in enumerate(attributes[:MOST_SHOWN])
    ]


def _is_added(attribute: KeyValue, added: Mapping[str, str]) -> bool:
    key = attribute.key
    return key.startswith("relay.") or (key in added and added[key] == text_of(attribute.value))


def type_of(value: AnyValue | UnsetType) -> str:
    """What kind of value it is; `empty` without any."""
    if value is UNSET:
        return "empty"
    return next(
        (word for name, word in _TYPES.items() if getattr(value, name) is not UNSET), "empty"
    )


def value_at(item: Any, path: Iterable[str]) -> AnyValue | None:
    """The value that `at` names, from the item on; None where there is none."""
    for step in path:
        if isinstance(item, list):
            number = int(step) if step.isascii() and step.isdigit() and len(step) < 9 else -1
            item = item[number] if 0 <= number < len(item) else None
        elif step in ("attributes", "events", "links", "body", "resource", "scope"):
            item = getattr(item, step, None)
        else:
            return None
        if item is None or item is UNSET:
            return None
    if isinstance(item, KeyValue):
        item = item.value
    return item if isinstance(item, AnyValue) else None
