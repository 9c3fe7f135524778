"""Spans and what is wanted of them in, those that match or the story of the nearest miss out."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict, Unpack

from mockcollector.received import ReceivedSpan

_MAX_SHOWN = 300


class Wanted(TypedDict, total=False):
    """What a span must have. All of it holds, or the span does not match.

    Each value may be the value itself, a compiled regular expression that is searched for in a
    string, or a function that says yes. `attributes` and `resource` (the resource's attributes)
    name the keys that matter; others may be there. `scope` is the scope's name.
    Values match with their type: 1, 1.0 and True are three values in OTLP.
    """

    trace_id: Any
    span_id: Any
    parent_span_id: Any
    name: Any
    kind: Any
    status_code: Any
    status_message: Any
    scope: Any
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


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
    read: Callable[[ReceivedSpan], Any]

    def holds(self, span: ReceivedSpan) -> bool:
        """Whether the span has it."""
        return is_match(self.expected, self.read(span))


def criteria_of(wanted: Wanted) -> list[Criterion]:
    """The single criteria. Raises TypeError for a word that no span has."""
    criteria = []
    for word, expected in wanted.items():
        if word not in Wanted.__annotations__:
            known = ", ".join(Wanted.__annotations__)
            raise TypeError(f"{word!r} cannot be asked of a span; these can: {known}")
        if word == "attributes":
            criteria += [_attribute(key, value) for key, value in wanted["attributes"].items()]
        elif word == "resource":
            criteria += [_resource(key, value) for key, value in wanted["resource"].items()]
        elif word == "scope":
            criteria.append(Criterion("scope", expected, lambda span: span.scope.name))
        elif word.endswith("_id") and isinstance(expected, str):
            criteria.append(Criterion(word, expected.lower(), _field(word)))
        else:
            criteria.append(Criterion(word, expected, _field(word)))
    return criteria


def _field(name: str) -> Callable[[ReceivedSpan], Any]:
    return lambda span: getattr(span, name)


def _attribute(key: str, expected: Any) -> Criterion:
    return Criterion(
        f"attributes[{key!r}]", expected, lambda span: span.attributes.get(key, ABSENT)
    )


def _resource(key: str, expected: Any) -> Criterion:
    return Criterion(
        f"resource[{key!r}]", expected, lambda span: span.resource.attributes.get(key, ABSENT)
    )


def is_match(expected: Any, actual: Any) -> bool:
    """Whether a value is what was wanted: by pattern, by function, or equal with equal types."""
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
    # An IntEnum such as the SDK's kinds counts as the integer it is.
    if isinstance(expected, int) and not isinstance(expected, bool):
        return type(actual) is int and actual == expected
    if isinstance(expected, float):
        is_both_nan = expected != expected and actual != actual  # noqa: PLR0124 - NaN
        return isinstance(actual, float) and (actual == expected or is_both_nan)
    return type(actual) is type(expected) and bool(actual == expected)


def find(spans: Sequence[ReceivedSpan], **wanted: Unpack[Wanted]) -> list[ReceivedSpan]:
    """The spans that have all that is wanted, in order of arrival."""
    criteria = criteria_of(wanted)
    return [span for span in spans if all(criterion.holds(span) for criterion in criteria)]


def describe_miss(spans: Sequence[ReceivedSpan], wanted: Wanted) -> str:
    """Why nothing matches: what was wanted, and the span that has most of it, with what differs."""
    criteria = criteria_of(wanted)
    lines = ["no span has", *(f"  {c.label} = {_show(c.expected)}" for c in criteria)]
    if not spans:
        return "\n".join([*lines, "no span arrived at all"])
    nearest = max(spans, key=lambda span: sum(criterion.holds(span) for criterion in criteria))
    differing = [criterion for criterion in criteria if not criterion.holds(nearest)]
    right = len(criteria) - len(differing)
    lines.append(f"the nearest of {len(spans)} has {right} of {len(criteria)}: {nearest!r}")
    for criterion in differing:
        actual = criterion.read(nearest)
        found = "it is absent" if actual is ABSENT else f"found {_show(actual)}"
        lines.append(f"  {criterion.label}: wanted {_show(criterion.expected)}, {found}")
    for kind, attributes in (
        ("attributes", nearest.attributes),
        ("resource", nearest.resource.attributes),
    ):
        if any(criterion.label.startswith(f"{kind}[") for criterion in differing):
            lines.append(f"  its {kind}: {', '.join(sorted(attributes)) or 'none'}")
    return "\n".join(lines)


def _show(value: Any) -> str:
    if isinstance(value, re.Pattern):
        return f"/{value.pattern}/"
    if callable(value):
        return f"what {getattr(value, '__name__', 'the function')} says yes to"
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}… ({len(text)} characters)"
