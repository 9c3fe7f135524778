"""JSON text into a tree that keeps what Python's own would lose, and such a tree into text again.

Objects are tuples of pairs: their order counts where two members exclude each other. Numbers keep
their text. Nothing here is trusted to be shallow: depth is measured before anything recurses.
"""

import json
import re
from itertools import accumulate
from typing import Any, Final, NoReturn

from relay.model.errors import Refusal
from relay.otlp.json_values import MOST_LEVELS, Findings

# Four brackets a level at most (AnyValue, kvlistValue, values, KeyValue), and what is around them.
MOST_BRACKETS: Final = 4 * MOST_LEVELS + 20

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


class Number(str):
    """The text of a number that stood bare in the body."""

    __slots__ = ()


class _Text(str):
    """A part of the text that is written, ready."""

    __slots__ = ()


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("no JSON")


_decoder = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=Number, parse_float=Number, parse_constant=_no_constant
)


def parse(body: bytes, name: str, findings: Findings) -> Any:
    """The tree of a body. Raises Refusal (400) with a position, and with what to call the body.

    Bytes that are not UTF-8 become U+FFFD, with a warning (as decision D6).
    """
    if not body:
        raise Refusal(f"{name} is empty: JSON needs at least {{}}")
    if body.startswith(b"\xef\xbb\xbf"):
        raise Refusal(f"{name} starts with a byte order mark: send UTF-8 without one")
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in body[:2]:
        raise Refusal(f"{name} is UTF-16 or UTF-32: JSON must be UTF-8")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = body.decode(errors="replace")
        findings.warnings["utf8_broken"] += 1
    if count_brackets(body) > MOST_BRACKETS:
        raise Refusal(f"{name} is nested too deeply: at most {MOST_LEVELS} levels of values")
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise Refusal(f"{name} ends before its JSON is complete") from None
        raise Refusal(f"{name} is no valid JSON at character {error.pos}") from None
    except RecursionError:
        raise Refusal(f"{name} is nested too deeply") from None
    except ValueError:
        raise Refusal(f"{name} holds NaN or Infinity without quotes, which is no JSON") from None


def count_brackets(body: bytes) -> int:
    """How deep objects and lists are nested, texts left aside. Never too small a number."""
    opening = body.count(b"[") + body.count(b"{")
    if opening <= MOST_BRACKETS:
        return opening
    brackets = _STRINGS.sub(b"", body).translate(_STEPS, _NOT_BRACKETS)
    return max(accumulate(memoryview(brackets).cast("b")), default=0)


def write(tree: Any) -> bytes:
    """The text of a tree, as it was sent but for white space and escapes. Depth costs no stack."""
    parts: list[str] = []
    pending = [tree]
    while pending:
        part = pending.pop()
        if isinstance(part, Number | _Text):
            parts.append(part)
        elif isinstance(part, tuple):
            pending.append(_Text("}"))
            for index, (key, item) in reversed(list(enumerate(part))):
                pending += (item, _Text(f"{',' if index else ''}{json.dumps(key)}:"))
            pending.append(_Text("{"))
        elif isinstance(part, list):
            pending.append(_Text("]"))
            for index, item in reversed(list(enumerate(part))):
                pending += (item, _Text("," if index else ""))
            pending.append(_Text("["))
        else:
            parts.append(json.dumps(part))
    return "".join(parts).encode()
