"""The short form of a script in, answers out: `503*3,ok`, `429:retry-after=2`, `hang`, `401*`.

::

    script  = step *("," step)
    step    = what *(":" option) [ "*" [times] ]       no times: for ever
    what    = "ok" | status | "partial=" n | "hang" | "cut" | "cut-answer" | "reset"
            | "endless" ["=" bytes-per-second] | "chaos=" probability
            | an option that makes success special: "delay=" … "size=" …
    option  = "retry-after=" (text | "date+" seconds) | "type=" media-type | "body=" text
            | "header=" name "=" value | "message=" text | message
            | "delay=" seconds | "for=" seconds | "dribble=" seconds
            | "idle-close=" (seconds | "next") | "slow-read=" bytes-per-second | "size=" bytes
            | "coding=" coding
            | of chaos: "seed=" n | "faults=" what *("+" what)

A text that holds a comma or a colon stands in quotes, single or double; within them a backslash
takes the next character as it is.
"""

import difflib
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from mockcollector.script_values import Answer, Chaos, Coding, Ending, ScriptError, Step

_WORDS: dict[str, dict[str, Any]] = {
    "ok": {},
    "hang": {"ending": Ending.HANG},
    "cut": {"ending": Ending.CUT},
    "cut-answer": {"ending": Ending.CUT_ANSWER},
    "reset": {"ending": Ending.RESET},
    "endless": {"ending": Ending.ENDLESS},
}
_KNOWN = (
    "ok, a status (503), partial=N, delay=SECONDS, hang, cut, cut-answer, reset, endless, "
    "dribble=SECONDS, idle-close=SECONDS, slow-read=BYTES, size=BYTES, coding=gzip, chaos=0.2"
)
_QUOTES = "'\""
_UNITS = {"": 1, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3, "K": 1000, "M": 1000**2}
# After these a bare text would be the rest of what they say, cut off at a colon.
_TEXTS = {"body", "header", "type"}


def parse_script(text: str) -> list[Step]:
    """Read the short form. Raises `ScriptError` that names the wrong answer and the right ones."""
    if not text.strip():
        return []
    steps = [_parse_step(item.strip(), at) for at, item in enumerate(_split(text, ","), 1)]
    for at, step in enumerate(steps[:-1], 1):
        if step.times is None and step.for_seconds is None:
            raise ScriptError(f"answer {at} of the script is for ever: what follows is never given")
    return steps


def parse_bytes(text: str) -> int:
    """`65536`, `64KiB`, `6MiB`: a number of bytes. Raises `ScriptError`."""
    match = re.fullmatch(r"(\d{1,12})\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise ScriptError(f"{text!r} is not a number of bytes, such as 65536, 64KiB or 6MiB")
    return int(match[1]) * _UNITS[match[2].upper()]


def _split(text: str, separator: str) -> Iterator[str]:
    """The pieces between separators that do not stand in quotes; quotes stay."""
    piece, quote = "", ""
    characters = iter(text)
    for each in characters:
        if quote:
            piece += each
            if each == "\\":
                piece += next(characters, "")
            elif each == quote:
                quote = ""
        elif each == separator:
            yield piece
            piece = ""
        else:
            # A quote opens a value; within a word (can't) it is a character.
            if each in _QUOTES and (not piece.strip() or piece[-1] in "=:,"):
                quote = each
            piece += each
    if quote:
        raise ScriptError(f"the quote {quote} is not closed")
    yield piece


def _unquoted(text: str) -> str:
    if text[:1] not in _QUOTES or not text:
        return text
    inner = re.fullmatch(rf"{text[0]}((?:\\.|[^\\{text[0]}])*){text[0]}", text, re.DOTALL)
    if inner is None:
        raise ScriptError(f"nothing may follow the closing quote in {text}")
    return re.sub(r"\\(.)", r"\1", inner[1], flags=re.DOTALL)


def _parse_step(item: str, at: int) -> Step:
    try:
        without_times, times = _split_times(item)
        what, *options = (piece.strip() for piece in _split(without_times, ":"))
        fields = _parse_what(what)
        is_chaos = "probability" in fields
        before = what.partition("=")[0]
        for option in options:
            before = _parse_option(option, fields, before, is_chaos=is_chaos)
        if "for_seconds" in fields:
            if item != without_times:
                raise ScriptError("it has both a number of times and for=SECONDS")
            times = None
        elif is_chaos and item == without_times:
            times = None
        return Chaos(**fields, times=times) if is_chaos else Answer(**fields, times=times)
    except ScriptError as error:
        raise ScriptError(f"answer {at} of the script, {item!r}: {error}") from None


def _split_times(item: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.*?)\*\s*(\d*)", item, re.DOTALL)
    if match is None:
        # The count may also stand right after what it counts: 503*3:retry-after=1.
        match = re.fullmatch(r"([a-z0-9=.-]+)\*(\d*)(:.*)", item, re.DOTALL)
        if match is None:
            return item, 1
        return match[1] + match[3], int(match[2]) if match[2] else None
    return match[1], int(match[2]) if match[2] else None


def _parse_what(what: str) -> dict[str, Any]:
    if what in _WORDS:
        return dict(_WORDS[what])
    if re.fullmatch(r"\d+", what):
        if len(what) != 3:
            raise ScriptError(f"status {what} is not between 200 and 599")
        return {"status": int(what)}
    name, sign, value = what.partition("=")
    fields: dict[str, Any] = {}
    if sign and name == "partial":
        return {"rejected_spans": _whole(value)}
    if sign and name == "chaos":
        return {"probability": _seconds(value)}
    if sign and name == "endless":
        return {"ending": Ending.ENDLESS, "bytes_per_second": parse_bytes(value)}
    if sign and name in _FAULTS:
        key, read = _FAULTS[name]
        fields[key] = read(value)
        return _spread(fields)
    near = difflib.get_close_matches(name if sign else what, [*_WORDS, *_FAULTS, "chaos"], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ScriptError(
        f"{hint}an answer is one of: {_KNOWN}; a text with a comma or colon needs quotes"
    )


def _parse_option(option: str, fields: dict[str, Any], before: str, *, is_chaos: bool) -> str:
    """Read one option into `fields`; its name out, for what may follow it."""
    name, sign, value = option.partition("=")
    if not sign or not re.fullmatch("[A-Za-z][A-Za-z_-]*", name):
        if before in _TEXTS:
            raise ScriptError(f"what holds a colon needs quotes: {before}='…:…'")
        if "message" in fields or is_chaos:
            raise ScriptError("what holds a colon needs quotes, and there is one message at most")
        fields["message"] = _unquoted(option)
        return "message"
    readers = (_CHAOS | {"for": _FAULTS["for"]}) if is_chaos else _OPTIONS
    if name not in readers:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), readers, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ScriptError(
            f"{hint}an option is one of: {', '.join(readers)}; a message with = needs quotes"
        )
    key, read = readers[name]
    if key == "headers":
        fields[key] = fields.get(key, {}) | _header(value)
    else:
        fields[key] = read(_unquoted(value))
    _spread(fields)
    return name


def _spread(fields: dict[str, Any]) -> dict[str, Any]:
    if fields.get("idle_close_seconds") == "next":
        del fields["idle_close_seconds"]
        fields["closes_at_next"] = True
    return fields


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise ScriptError(f"{text!r} is not a whole number")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        raise ScriptError(f"{text!r} is not a number, such as 2 or 0.5")
    return float(text)


def _idle_close(text: str) -> float | str:
    return text if text == "next" else _seconds(text)


def _retry_after(text: str) -> str | timedelta:
    if text.startswith("date+"):
        return timedelta(seconds=_seconds(text.removeprefix("date+")))
    return text  # as it stands: wrong ones are worth testing, too


def _coding(text: str) -> Coding:
    if text not in set(Coding):
        raise ScriptError(f"a coding is one of: {', '.join(Coding)}")
    return Coding(text)


def _header(text: str) -> dict[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ScriptError("a header is written header=NAME=VALUE")
    return {name: _unquoted(value)}


def _faults(text: str) -> list[Answer]:
    return [Answer(**_parse_what(what.strip())) for what in text.split("+")]


_FAULTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "delay": ("delay_seconds", _seconds),
    "for": ("for_seconds", _seconds),
    "dribble": ("dribble_seconds", _seconds),
    "idle-close": ("idle_close_seconds", _idle_close),
    "slow-read": ("read_bytes_per_second", parse_bytes),
    "size": ("size_bytes", parse_bytes),
    "coding": ("coding", _coding),
}
_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "retry-after": ("retry_after", _retry_after),
    "type": ("content_type", str),
    "body": ("body", str),
    "message": ("message", str),
    "header": ("headers", str),
    **_FAULTS,
}
_CHAOS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "seed": ("seed", _whole),
    "faults": ("faults", _faults),
}
