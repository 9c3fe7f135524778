"""Items and what is wanted of them in, those that match or the story of the nearest miss out."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypedDict, TypeVar

from mockcollector.items import ReceivedItem
from mockcollector.neutral import shortened
from mockcollector.signals import TRAITS, Signal
from mockcollector.wanted_values import comparable, usable

_MAX_SHOWN = 300
_MAX_KEY_SHOWN = 80
Item = TypeVar("Item", bound=ReceivedItem)


class WantedOfAny(TypedDict, total=False):
    """What any item can be asked for.

    All that is wanted holds, or the item does not match. Each value may be the value itself, a
    compiled regular expression that is searched for in a string, or a function that says yes.
    A kind, a status code, a severity or a temporality may also be an SDK's enum or a name
    ("server", "error"). `attributes` and `resource` (the resource's attributes) name the keys that
    matter; others may be there. `scope` is the scope's name. Values match with their type: 1, 1.0
    and True are three values in OTLP.
    """

    scope: Any
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


class Wanted(WantedOfAny, total=False):
    """What a span must have.

    For each of `events` and `links` the span has one with all of it: `{"name": "exception",
    "attributes": {"exception.type": "E"}}`, `{"trace_id": …}`; others may be there.
    """

    trace_id: Any
    span_id: Any
    parent_span_id: Any
    name: Any
    kind: Any
    status_code: Any
    status_message: Any
    trace_state: Any
    flags: Any
    events: Sequence[Mapping[str, Any]]
    links: Sequence[Mapping[str, Any]]


class WantedLogRecord(WantedOfAny, total=False):
    """What a log record must have."""

    event_name: Any
    body: Any
    severity_number: Any
    severity_text: Any
    trace_id: Any
    span_id: Any
    time_unix_nano: Any
    observed_time_unix_nano: Any
    flags: Any


class WantedDataPoint(WantedOfAny, total=False):
    """What a data point must have; name, kind, unit and so on are those of its metric."""

    name: Any
    kind: Any
    unit: Any
    temporality: Any
    is_monotonic: Any
    value: Any
    count: Any
    sum: Any
    min: Any
    max: Any
    bucket_counts: Any
    explicit_bounds: Any
    time_unix_nano: Any
    start_time_unix_nano: Any
    flags: Any


WORDS: Mapping[Signal, tuple[str, ...]] = MappingProxyType(
    {
        Signal.TRACES: tuple(Wanted.__annotations__),
        Signal.LOGS: tuple(WantedLogRecord.__annotations__),
        Signal.METRICS: tuple(WantedDataPoint.__annotations__),
    }
)
"""What the items of a signal can be asked for."""


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()
"""Wanted as a value: the attribute must not be there."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing wanted: how to call it, what it should be, where to find it."""

    label: str
    expected: Any
    read: Callable[[ReceivedItem], Any]

    def holds(self, item: ReceivedItem) -> bool:
        """Whether the item has it."""
        return is_match(self.expected, self.read(item))


def criteria_of(signal: Signal, wanted: Mapping[str, Any]) -> list[Criterion]:
    """The single criteria.

    Raises TypeError for a word that no item of the signal has and for what nothing could equal,
    ValueError for a name that is none.
    """
    criteria = []
    for word, expected in wanted.items():
        if word not in WORDS[signal]:
            item, known = TRAITS[signal].item, ", ".join(WORDS[signal])
            raise TypeError(f"{word!r} cannot be asked of a {item}; these can: {known}")
        if word in {"attributes", "resource"}:
            if not isinstance(expected, Mapping):
                raise TypeError(f"{word} is a mapping of keys to values")
            make = _attribute if word == "attributes" else _resource
            criteria += [
                make(key, value if value is ABSENT else comparable(f"{word}[{key!r}]", value))
                for key, value in expected.items()
            ]
        elif word in _PARTS:
            criteria += _parts(word, expected)
        elif word == "scope":
            criteria.append(Criterion("scope", expected, lambda item: item.scope.name))
        elif expected is ABSENT:
            raise TypeError(f"{word} is always there: ABSENT is for attributes")
        elif word.endswith("_id") and isinstance(expected, str):
            criteria.append(Criterion(word, expected.lower(), _field(word)))
        else:
            criteria.append(Criterion(word, usable(signal, word, expected), _field(word)))
    return criteria


_PARTS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "events": frozenset({"name", "time_unix_nano", "attributes"}),
        "links": frozenset({"trace_id", "span_id", "trace_state", "flags", "attributes"}),
    }
)
"""Lists in a span, and what can be asked of what is in them."""


class _HasOne:
    """Says whether one of several events or links has all that is wanted."""

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self._wanted = wanted
        self.__name__ = f"one with {', '.join(f'{k} = {_show(v)}' for k, v in wanted.items())}"

    def __call__(self, parts: Sequence[Any]) -> bool:
        return any(all(self._holds(word, part) for word in self._wanted) for part in parts)

    def _holds(self, word: str, part: Any) -> bool:
        expected = self._wanted[word]
        if word == "attributes":
            return all(
                is_match(value, part.attributes.get(key, ABSENT)) for key, value in expected.items()
            )
        if word.endswith("_id") and isinstance(expected, str):
            expected = expected.lower()
        return is_match(expected, getattr(part, word))


def _parts(word: str, expected: Any) -> list[Criterion]:
    if not isinstance(expected, Sequence) or not all(isinstance(e, Mapping) for e in expected):
        raise TypeError(f"{word} is a list of mappings, such as [{{'attributes': {{…}}}}]")
    for each in expected:
        for key, value in each.items():
            if key not in _PARTS[word]:
                known = ", ".join(sorted(_PARTS[word]))
                raise TypeError(f"{key!r} cannot be asked of {word}; these can: {known}")
            for value_of in value.values() if isinstance(value, Mapping) else (value,):
                if value_of is not ABSENT:
                    comparable(f"{word}: {key}", value_of)
    return [
        Criterion(f"{word}[{at}]", _HasOne(each), _field(word)) for at, each in enumerate(expected)
    ]


def _field(name: str) -> Callable[[ReceivedItem], Any]:
    return lambda item: getattr(item, name)


def _attribute(key: str, expected: Any) -> Criterion:
    # One attribute is read, none is kept: a search must not unpack all that there is.
    return Criterion(f"attributes[{key!r}]", expected, lambda item: item.attribute(key, ABSENT))


def _resource(key: str, expected: Any) -> Criterion:
    return Criterion(
        f"resource[{key!r}]", expected, lambda item: item.resource.attributes.get(key, ABSENT)
    )


def is_match(expected: Any, actual: Any) -> bool:
    """Whether a value is what was wanted: by pattern, by function, or equal with equal types."""
    if type(expected) is str:  # as nearly always, and for each of thousands of items
        return type(actual) is str and actual == expected
    if expected is ABSENT or actual is ABSENT:
        return expected is actual
    if isinstance(expected, re.Pattern):
        return isinstance(actual, str) and expected.search(actual) is not None
    if callable(expected):
        return bool(expected(actual))
    return _is_same(expected, actual)


def _is_same(expected: Any, actual: Any) -> bool:
    if isinstance(expected, Sequence) and not isinstance(expected, str | bytes):
        return (
            isinstance(actual, list)
            and len(actual) == len(expected)
            and all(map(_is_same, expected, actual))
        )
    if isinstance(expected, Mapping):
        return (
            isinstance(actual, dict)
            and actual.keys() == expected.keys()
            and all(_is_same(value, actual[key]) for key, value in expected.items())
        )
    # An IntEnum counts as the integer it is.
    if isinstance(expected, int) and not isinstance(expected, bool):
        return type(actual) is int and actual == expected
    if isinstance(expected, float):
        is_both_nan = expected != expected and actual != actual  # noqa: PLR0124 - NaN
        return isinstance(actual, float) and (actual == expected or is_both_nan)
    return type(actual) is type(expected) and bool(actual == expected)


def find(signal: Signal, items: Sequence[Item], wanted: Mapping[str, Any]) -> list[Item]:
    """The items that have all that is wanted, in order of arrival."""
    criteria = criteria_of(signal, wanted)
    return [item for item in items if all(criterion.holds(item) for criterion in criteria)]


def describe_miss(signal: Signal, items: Sequence[ReceivedItem], wanted: Mapping[str, Any]) -> str:
    """Why nothing matches: what was wanted, and the item that has most of it, with what differs."""
    criteria, word = criteria_of(signal, wanted), TRAITS[signal].item
    lines = [f"no {word} has", *(f"  {c.label} = {_show(c.expected)}" for c in criteria)]
    if not items:
        return "\n".join([*lines, f"no {word} arrived at all"])
    nearest = max(items, key=lambda item: sum(criterion.holds(item) for criterion in criteria))
    differing = [criterion for criterion in criteria if not criterion.holds(nearest)]
    right = len(criteria) - len(differing)
    lines.append(f"the nearest of {len(items)} has {right} of {len(criteria)}: {nearest!r}")
    for criterion in differing:
        actual = criterion.read(nearest)
        found = "it is absent" if actual is ABSENT else f"found {_show(actual)}"
        lines.append(f"  {criterion.label}: wanted {_show(criterion.expected)}, {found}")
    for kind, attributes in (
        ("attributes", nearest.attributes),
        ("resource", nearest.resource.attributes),
    ):
        if any(criterion.label.startswith(f"{kind}[") for criterion in differing):
            keys = ", ".join(shortened(key, _MAX_KEY_SHOWN) for key in sorted(attributes))
            lines.append(f"  its {kind}: {keys or 'none'}")
    return "\n".join(lines)


def _show(value: Any) -> str:
    if isinstance(value, re.Pattern):
        return f"/{value.pattern}/"
    if callable(value):
        name = getattr(value, "__name__", "the function")
        return name if isinstance(value, _HasOne) else f"what {name} says yes to"
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}… ({len(text)} characters)"
