"""Times as people type them, `1h` ago or `2026-11-26T03:00`, in; nanoseconds since 1970 out."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import click

from relay.model.errors import ConfigError
from relay.model.units import parse_duration

RULE: Final = 'a duration such as "1h" or "90m" ago, or a time such as "2026-11-26T03:00"'
WORDS: Final = {"beginning": "beginning", "end": "end", "now": "end"}


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


class Moment(click.ParamType[int, str | int]):
    """A time: nanoseconds since 1970."""

    name = "time"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Nanoseconds since 1970."""
        if isinstance(value, int):
            return value
        try:
            return parse_moment(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class From(click.ParamType[str, str]):
    """Where a new destination begins, as the admin API takes it."""

    name = "beginning|end|now|TIME"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """`beginning`, `end` or nanoseconds since 1970."""
        if value in WORDS:
            return WORDS[value]
        try:
            return str(parse_moment(value))
        except ConfigError:
            self.fail(f"must be beginning, end, now, {RULE}, not {value!r}", param, ctx)
