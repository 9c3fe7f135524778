"""A value that a test wants in; the value that OTLP has for it out, or what would be right.

An SDK's enums and names of numbers mean what OTLP's numbers mean; a value that nothing can ever
equal is an error, since a test that looks for it would say "absent" of what is there.
"""

import enum
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mockcollector.neutral import shortened
from mockcollector.signals import Signal

_KINDS = {"unspecified": 0, "internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_STATUS_CODES = {"unset": 0, "ok": 1, "error": 2}
_TEMPORALITIES = {"unspecified": 0, "delta": 1, "cumulative": 2}
_LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")
_SEVERITIES = {"unspecified": 0} | {
    f"{name}{step or ''}": 4 * level + 1 + max(0, step - 1)
    for level, name in enumerate(_LEVELS)
    for step in (0, 2, 3, 4)
}
_NAMED: Mapping[tuple[Signal, str], Mapping[str, int]] = {
    (Signal.TRACES, "kind"): _KINDS,
    (Signal.TRACES, "status_code"): _STATUS_CODES,
    (Signal.LOGS, "severity_number"): _SEVERITIES,
    (Signal.METRICS, "temporality"): _TEMPORALITIES,
}


def usable(signal: Signal, word: str, value: Any) -> Any:
    """What is wanted of `word` as it can be compared. Raises TypeError or ValueError."""
    if value is None or isinstance(value, re.Pattern):
        return value
    names = _NAMED.get((signal, word))
    if names is not None and not isinstance(value, bool):
        if isinstance(value, enum.Enum):
            # By name: the API's SpanKind counts from 0, OTLP's from 1.
            value = value.name
        if isinstance(value, str):
            name = value.lower()
            for prefix in ("span_kind_", "status_code_", "severity_number_"):
                name = name.removeprefix(prefix)
            name = name.removeprefix("aggregation_temporality_")
            if name not in names:
                raise ValueError(f"{word} is a number or one of {', '.join(names)}")
            return names[name]
    if isinstance(value, enum.Enum) and not isinstance(value, str | int):
        raise TypeError(f"{word} is wanted as an enum that means nothing in OTLP: {value!r}")
    return comparable(word, value)


def comparable(word: str, value: Any) -> Any:
    """The value, if something that arrived could equal it. Raises TypeError."""
    if callable(value) or isinstance(value, str | bytes | bool | int | float | re.Pattern):
        return value
    if value is None:
        return value
    if isinstance(value, Mapping):
        for key, each in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{word} has a key that is not a text: {key!r}")
            comparable(f"{word}[{key!r}]", each)
        return value
    if isinstance(value, Sequence):
        for each in value:
            comparable(word, each)
        return value
    shown = shortened(repr(value), 80)
    raise TypeError(
        f"nothing in OTLP can equal the {type(value).__name__} wanted of {word}: {shown}"
    )
