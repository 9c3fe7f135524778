"""JSON fragment in, the same fragment out with its deep values replaced: text to text.

A level is one `arrayValue` or `kvlistValue`. JSON allows any number of them, the C++ and Python
protobuf parsers stop at 100 messages, which is 31 lists of keys and values in an attribute of a
span and 30 in one of an event: hence `MAX_PROTOBUF_LEVELS` (decision D5).

It works on the text, without recursion: decoding such a row can end in a RecursionError, and when
it does depends on the Python version and on how deep the caller stands in the stack. Normal form
makes that safe: names of members are the schema's own, and a quotation mark inside a string is
always escaped.
"""

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

Entries = TypeVar("Entries")

MAX_PROTOBUF_LEVELS = 30

# Strings are taken whole, so that what they hold is never mistaken for structure; the colon tells
# the name of a member from a value. Possessive, so that long strings cost no backtracking.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"(:)?|[{}\[\]]')
_CONTAINERS = (b'"arrayValue"', b'"kvlistValue"')
_OPEN = frozenset(b"{[")
_CLOSE = frozenset(b"}]")


def replace_below(fragment: bytes, levels: int, replace: Callable[[bytes], bytes]) -> bytes:
    """Give each outermost value that would open level `levels` + 1 to `replace` and put what
    comes back in its place. A value is the whole AnyValue, such as `{"kvlistValue":{…}}`.

    Raises ValueError if there are values to look into and the brackets do not pair.
    """
    if not any(name in fragment for name in _CONTAINERS):
        return fragment
    out: list[bytes] = []
    copied_to = 0
    starts: list[int] = []  # where each open bracket stands
    holders: list[int] = []  # how many brackets are open inside each AnyValue that holds a level
    folded = 0  # the same of the AnyValue that is being replaced; 0: none
    for token in _TOKEN.finditer(fragment):
        at = token.start()
        first = fragment[at]
        if first in _OPEN:
            starts.append(at)
        elif first in _CLOSE:
            if not starts:
                raise ValueError("brackets do not pair")
            depth = len(starts)
            start = starts.pop()
            if depth == folded:
                out += (fragment[copied_to:start], replace(fragment[start : at + 1]))
                copied_to = at + 1
                folded = 0
            elif holders and holders[-1] == depth:
                holders.pop()
        elif not folded and token[1] and token[0].startswith(_CONTAINERS):
            depth = len(starts)
            if holders and holders[-1] == depth:
                continue
            if len(holders) == levels:
                folded = depth
            else:
                holders.append(depth)
    if starts:
        raise ValueError("brackets do not pair")
    out.append(fragment[copied_to:])
    return b"".join(out)


def decode_without_depths(decode: Callable[[bytes], Entries], fragment: bytes) -> Entries:
    """What `decode` makes of the list of entries in `fragment`, where deep values do not matter.

    Those that it cannot go into are empty then. Raises what `decode` does.
    """
    try:
        return decode(b"[%b]" % fragment)
    except RecursionError:
        return decode(b"[%b]" % replace_below(fragment, MAX_PROTOBUF_LEVELS, lambda _: b"{}"))


def fold_for_protobuf(fragment: bytes) -> bytes:
    """Turn every value deeper than 30 levels into a `stringValue` that holds the JSON text of
    that AnyValue, so that nothing of it is lost (decision D5).
    """
    return replace_below(fragment, MAX_PROTOBUF_LEVELS, _as_string_value)


def _as_string_value(value: bytes) -> bytes:
    return b'{"stringValue":%b}' % msgspec.json.encode(value.decode())
