"""The short form of a script in, answers out: `503*3,ok`, `429:retry-after=2`, `hang`, `401*`.

::

    script  = answer *("," answer)
    answer  = what *(":" option) [ "*" [times] ]       no times: for ever
    what    = "ok" | status | "partial=" n | "delay=" seconds | "hang" | "cut" | "cut-answer"
    option  = "retry-after=" (text | "date+" seconds) | "delay=" seconds | "type=" media-type
            | "body=" text | "header=" name "=" value | message
"""

import difflib
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from mockcollector.script_values import Answer, Ending, ScriptError

_WORDS: dict[str, dict[str, Any]] = {
    "ok": {},
    "hang": {"ending": Ending.HANG},
    "cut": {"ending": Ending.CUT},
    "cut-answer": {"ending": Ending.CUT_ANSWER},
}
_KNOWN = "ok, a status (503), partial=N, delay=SECONDS, hang, cut, cut-answer"


def parse_script(text: str) -> list[Answer]:
    """Read the short form. Raises `ScriptError` that names the wrong answer and the right ones."""
    if not text.strip():
        return []
    answers = [_parse_answer(item.strip(), at) for at, item in enumerate(text.split(","), 1)]
    for at, answer in enumerate(answers[:-1], 1):
        if answer.times is None:
            raise ScriptError(f"answer {at} of the script is for ever: what follows is never given")
    return answers


def _parse_answer(item: str, at: int) -> Answer:
    try:
        without_times, times = _split_times(item)
        what, *options = without_times.split(":")
        fields = _parse_what(what.strip())
        for option in options:
            _parse_option(option.strip(), fields)
        return Answer(**fields, times=times)
    except ScriptError as error:
        raise ScriptError(f"answer {at} of the script, {item!r}: {error}") from None


def _split_times(item: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.*?)\*\s*(\d*)", item)
    if match is None:
        # The count may also stand right after what it counts: 503*3:retry-after=1.
        match = re.fullmatch(r"([a-z0-9=.-]+)\*(\d*)(:.*)", item)
        if match is None:
            return item, 1
        return match[1] + match[3], int(match[2]) if match[2] else None
    return match[1], int(match[2]) if match[2] else None


def _parse_what(what: str) -> dict[str, Any]:
    if what in _WORDS:
        return dict(_WORDS[what])
    if re.fullmatch(r"\d{3}", what):
        return {"status": int(what)}
    name, sign, value = what.partition("=")
    if sign and name == "partial":
        return {"rejected_spans": _whole(value)}
    if sign and name == "delay":
        return {"delay_seconds": _seconds(value)}
    near = difflib.get_close_matches(what, _WORDS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ScriptError(f"{hint}an answer is one of: {_KNOWN}; a text cannot hold a comma")


def _parse_option(option: str, fields: dict[str, Any]) -> None:
    name, sign, value = option.partition("=")
    if not sign or not re.fullmatch("[a-z-]+", name):
        if "message" in fields:
            raise ScriptError("has two messages; a message cannot hold a colon")
        fields["message"] = option
        return
    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "retry-after": ("retry_after", _retry_after),
        "delay": ("delay_seconds", _seconds),
        "type": ("content_type", str),
        "body": ("body", str),
        "message": ("message", str),
        "header": ("headers", lambda text: fields.get("headers", {}) | _header(text)),
    }
    if name not in readers:
        near = difflib.get_close_matches(name, readers, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ScriptError(f"{hint}an option is one of: {', '.join(readers)}")
    key, read = readers[name]
    fields[key] = read(value)


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise ScriptError(f"{text!r} is not a whole number")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        raise ScriptError(f"{text!r} is not a number of seconds")
    return float(text)


def _retry_after(text: str) -> str | timedelta:
    if text.startswith("date+"):
        return timedelta(seconds=_seconds(text.removeprefix("date+")))
    return text  # as it stands: wrong ones are worth testing, too


def _header(text: str) -> dict[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ScriptError("a header is written header=NAME=VALUE")
    return {name: value}
