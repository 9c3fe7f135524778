"""Sizes, durations and times: text such as "64MiB" or "1h30m" to numbers, and back again."""

import re
import time
from fractions import Fraction
from typing import Final

from relay.model.errors import ConfigError

FOREVER: Final = "forever"

_SIZE_UNITS: Final = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_DURATION_UNITS: Final = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
# SQLite's integers end here, and no disk is larger.
MAX_SIZE_BYTES: Final = 2**63 - 1
# A century: longer is "forever", and sums of it and a clock still fit in 64 bits of nanoseconds.
MAX_DURATION_SECONDS: Final = 36_500 * 86_400

# Digits are bounded: a number of a million digits would cost minutes before it is refused.
_FRACTIONS: Final = (("ns", 1), ("µs", 1e3), ("ms", 1e6), ("s", 1e9))
_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,20})?"
_SIZE = re.compile(rf"({_NUMBER}) ?([a-z]{{0,3}})", re.IGNORECASE)
_DURATION_PART = re.compile(rf"({_NUMBER}) ?(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern} ?)+")

SIZE_RULE: Final = 'a size such as "64MiB", "10MB" or a whole number of bytes'
DURATION_RULE: Final = 'a duration with its unit such as "30s", "1h30m" or "7d"'


def parse_size(value: object) -> int:
    """Bytes of "64MiB", "10MB", "1.5 GiB" or of a whole number of bytes.

    Units may be in any case; KiB, MiB, GiB, TiB count by 1024, kB, MB, GB, TB by 1000. A
    fraction of a byte is cut off. Raises ConfigError with what would be right.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is None or match[2].lower() not in _SIZE_UNITS:
            raise ConfigError(f"must be {SIZE_RULE}")
        size = int(Fraction(match[1]) * _SIZE_UNITS[match[2].lower()])
    if not 0 <= size <= MAX_SIZE_BYTES:
        raise ConfigError("must be at least 0 and less than 8EiB")
    return size


def parse_duration(value: object) -> float:
    """Seconds of "30s", "250ms", "1h30m" or "7d"; "0s" is 0.

    A bare number is refused: it could mean seconds or milliseconds. Raises ConfigError with what
    would be right.
    """
    if not isinstance(value, str) or _DURATION.fullmatch(value) is None:
        raise ConfigError(f"must be {DURATION_RULE}")
    parts = _DURATION_PART.findall(value)
    seconds = sum((Fraction(number) * _DURATION_UNITS[unit] for number, unit in parts), Fraction(0))
    if seconds > MAX_DURATION_SECONDS:
        raise ConfigError("must not be longer than 36500d")
    return float(seconds)


def format_size(size_bytes: int) -> str:
    """The shortest text that `parse_size` reads back as exactly this many bytes."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return f"{size_bytes}B"


def format_duration(seconds: float) -> str:
    """A text in the largest unit that `parse_duration` reads back, to the millisecond."""
    milliseconds = round(seconds * 1000)
    for unit, factor in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % factor == 0 and (milliseconds or unit == "s"):
            return f"{milliseconds // factor}{unit}"
    return f"{milliseconds}ms"


def about_bytes(size: float) -> str:
    """A size for people, rounded, in its natural unit, such as 12.3 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def about_duration(seconds: float) -> str:
    """A duration for people, rounded, in at most two units, such as 4 min 10 s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def three_figures(ns: float) -> str:
    """A duration of nanoseconds with as much of it as people compare, such as 12.0 ms or 2.00 s."""
    if ns >= 99.95e9:
        return about_duration(ns / 1e9)
    unit, size = next((each for each in _FRACTIONS if ns < each[1] * 999.5), _FRACTIONS[-1])
    value = ns / size
    digits = 0 if size == 1 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {unit}"


def iso(ns: int) -> str | None:
    """Nanoseconds since the epoch as RFC 3339 in UTC, to the millisecond; None for 0."""
    if not ns:
        return None
    seconds, rest = divmod(ns, 1_000_000_000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{rest // 1_000_000:03d}Z"
