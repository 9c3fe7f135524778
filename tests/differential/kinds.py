"""The kinds of disagreement that are documented, for each of the two receivers.

`words` is how the documents say it: for the relay docs/mockcollector.md, for the Collector what
its profile lists as `unconfirmed`. A test holds them together.
"""

import re
from dataclasses import dataclass
from typing import Final

from tests.differential.answers import Answer


@dataclass(frozen=True)
class Kind:
    """One kind: `ours` and `theirs` are found in what the mock and the receiver answered."""

    words: str
    ours: str = "^200 "
    theirs: str = "^200 "

    def holds(self, ours: Answer, theirs: Answer) -> bool:
        """Whether these two answers differ in that way."""
        return _is_found(self.ours, ours) and _is_found(self.theirs, theirs)


def _is_found(pattern: str, answer: Answer) -> bool:
    return re.search(pattern, f"{answer.status} {answer.message}", re.DOTALL) is not None


def _only_here(words: str, message: str) -> Kind:
    """The mock refuses the request for this, the receiver takes it, or some of it."""
    return Kind(words, f"^400 .*({message})")


def _only_there(words: str, message: str) -> Kind:
    """The mock takes the request, the receiver refuses it for this."""
    return Kind(words, theirs=f"^400 ({message})")


RELAY: Final = (
    Kind("a whole request for one invalid item", "^400 invalid (ids|log records|data points): "),
    _only_here("duplicate keys", "an object has the same key twice"),
    _only_here("ids of a wrong length", "must be (16|32) hexadecimal digits"),
    _only_here("enum names", "must be an integer, not an enum name"),
    _only_here("invalid UTF-8", r"the body is not UTF-8 at byte \d+"),
    _only_here("wrong wire types", r"the body is not an Export\w+Request in protobuf"),
    _only_here("half surrogates", "holds half of a surrogate pair"),
    _only_here("a second member of a oneof", "is a second member of the oneof"),
    _only_here(
        "values of a wrong JSON type",
        "must be (a string|a list|an object|an integer|a number|true or false|base64)",
    ),
    _only_here("out of range", "must be (between|a whole number|strings)|must fit a double"),
    Kind("a slash too many in the path", "^404 nothing is here", "^(200|400) "),
    Kind("`application/protobuf`", "^415 Content-Type is neither", "^(200|400|415) "),
)

COLLECTOR: Final = (
    _only_here("a key or a member of a oneof twice", "same key twice|second member of the oneof"),
    _only_here("invalid UTF-8", "the body is not (UTF-8|an Export)"),
    _only_here("half surrogates", "holds half of a surrogate pair"),
    _only_here("control characters in texts", "Invalid control character"),
    _only_here("enum names", "must be an integer, not an enum name"),
    _only_here("null in a list", "must be an object"),
    _only_here("anything after the end", "Extra data|followed by other data"),
    _only_here("some that is no JSON", "the body is not JSON: "),
    _only_there("wrong wire types", "proto: wrong wireType"),
    _only_there("groups among unknown fields", "unexpected EOF"),
    _only_there("it reads them, here they are unknown", ".*_(attributes_count|id|spans)"),
    _only_there(
        "1e2, 1000.0 or null for a number", "Read(Uint|Int)|ReadEnum|assertInteger|ReadObject"
    ),
    _only_there("numbers under unknown keys that are out of range", "readNumberAsString"),
    _only_there("null for bytes or a boolean", "ReadStringAsSlice|ReadBool"),
    _only_there("ids with escapes", r"ID\.UnmarshalJSON"),
    _only_there("base64 that is URL-safe, unpadded or has escapes", "base64"),
    Kind("500 there", "^(200|400) ", "^500 failed to marshal error message"),
    Kind("400 there, 404, 405 or 415 here", "^(404|405|415) ", "^400 (?!unsupported)"),
    Kind("307 there, 404 here", "^404 ", "^307 "),
)
