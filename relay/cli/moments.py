"""Times and durations as people type them: `1h` ago, `2026-11-26T03:00`, `10s`."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Generic, TypeVar, cast

import click

from relay.model.errors import ConfigError
from relay.model.units import parse_duration

RULE: Final = 'a duration such as "1h" or "90m" ago, or a time such as "2026-11-26T03:00"'
WORDS: Final = {"beginning": "beginning", "end": "end", "now": "end"}
Value = TypeVar("Value")


class Typed(click.ParamType[Value, str | Value], Generic[Value]):
    """The type of an option whose text `parse` reads; what it raises is wrong usage."""

    def __init__(self, name: str, parse: Callable[[str], Value]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Value:
        """What was typed, read; a value that was read already as it is."""
        try:
            return self._parse(value) if isinstance(value, str) else cast("Value", value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


def parse_moment(text: str, *, now_ns: Callable[[], int] = time.time_ns) -> int:
    """Nanoseconds since 1970 of "1h" ago or of a time of ISO 8601; without an offset local time.

    Raises ConfigError with what would be right, also for a time to come.
    """
    now = now_ns()
    try:
        return max(now - int(parse_duration(text) * 1e9), 0)
    except ConfigError:
        pass  # then it is a time
    try:
        seconds = datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"must be {RULE}, not {text!r}") from None
    moment = max(int(seconds * 1e9), 0)
    if moment > now:
        raise ConfigError(f"{text} is in the future: give a time in the past")
    return moment


def _parse_start(text: str) -> str:
    """`beginning`, `end` or nanoseconds since 1970, as the admin API takes them."""
    if text in WORDS:
        return WORDS[text]
    try:
        return str(parse_moment(text))
    except ConfigError:
        raise ConfigError(f"must be beginning, end, now, {RULE}, not {text!r}") from None


DURATION = Typed("duration", parse_duration)
"""Seconds."""
MOMENT = Typed("time", parse_moment)
"""Nanoseconds since 1970."""
START = Typed("beginning|end|now|TIME", _parse_start)
"""Where a new destination begins."""
