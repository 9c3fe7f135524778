"""The search line of the page: text to terms, and whether an item has them. Pure.

::

    checkout              in the name or the service, in any case; of a log record, in its text
    "two words"           likewise, as one
    service:shop          the service holds it          name:GET   the name (a record's event) does
    customer.tier=gold    an attribute of the item or its resource has exactly this value
    customer.tier=        there is such an attribute
    level:warn            a log record of this level or above
    error                 the span failed; a log record of level error or above
    >500ms   <2s          it took longer, or shorter, than that
    trace:ID, or 32 or 16 hexadecimal digits by themselves: a trace or a span by its id

A minus before a term turns it around. All terms must hold for one and the same item.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from relay.model.errors import ConfigError, RelayError
from relay.model.units import parse_duration

MOST_CHARACTERS: Final = 1000
MOST_TERMS: Final = 20
# The lowest severity number of each level (the data model of OpenTelemetry's logs).
LEVELS: Final = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17, "fatal": 21}
_HEX: Final = re.compile(r"[0-9a-fA-F]{16}(?:[0-9a-fA-F]{16})?")


class BadSearch(RelayError):
    """The search cannot be understood."""

    code = "bad_search"


@dataclass(frozen=True, slots=True)
class Item:
    """What a search looks at of a span or a log record. `duration_ns` is -1 where there is none."""

    service: str = ""
    name: str = ""
    text: str = ""
    trace_id: str = ""
    span_id: str = ""
    is_error: bool = False
    level: int = 0
    duration_ns: int = -1
    values: Mapping[str, str] = field(default_factory=dict)


Holds = Callable[[Item], bool]


@dataclass(frozen=True, slots=True)
class Term:
    """One term; `holds` is asked without its minus."""

    text: str
    holds: Holds
    is_turned: bool = False
    trace_id: str = ""

    def __call__(self, item: Item) -> bool:
        """Whether the item has it."""
        return self.holds(item) is not self.is_turned


@dataclass(frozen=True, slots=True)
class Query:
    """A search: every term must hold. Without terms every item does."""

    terms: tuple[Term, ...] = ()

    def __call__(self, item: Item) -> bool:
        """Whether the item is meant."""
        return all(term(item) for term in self.terms)

    @property
    def trace_id(self) -> str:
        """The trace that is named, if one is: whatever else is asked, it is of that one."""
        return next((each.trace_id for each in self.terms if each.trace_id), "")

    def __bool__(self) -> bool:
        return bool(self.terms)


def parse(text: str) -> Query:
    """The search that `text` says. Raises BadSearch with what would be right."""
    if len(text) > MOST_CHARACTERS:
        raise BadSearch(f"a search has at most {MOST_CHARACTERS} characters")
    words = _words(text)
    if len(words) > MOST_TERMS:
        raise BadSearch(f"a search has at most {MOST_TERMS} terms")
    return Query(tuple(_term(word) for word in words))


def _words(text: str) -> list[str]:
    """Split at white space outside double quotes; a quote that is never closed goes to the end."""
    lexer = shlex.shlex(text, punctuation_chars=False, posix=True)
    lexer.whitespace_split, lexer.quotes, lexer.commenters, lexer.escape = True, '"', "", ""
    try:
        return [word for word in lexer if word]
    except ValueError:
        return _words(text + '"')


def _term(word: str) -> Term:
    is_turned = len(word) > 1 and word.startswith("-")
    bare = word[1:] if is_turned else word
    digits = bare.removeprefix("trace:").lower()
    is_trace = not is_turned and len(digits) == 32 and bool(_HEX.fullmatch(digits))
    return Term(bare, _holds(bare), is_turned, digits if is_trace else "")


def _holds(word: str) -> Holds:
    if word == "error":
        return lambda item: item.is_error
    if word[0] in "<>":
        return _duration(word)
    if _HEX.fullmatch(word):
        return _id(word.lower())
    prefix, colon, rest = word.partition(":")
    if colon and rest and prefix in _PREFIXES:
        return _PREFIXES[prefix](rest)
    key, equals, value = word.partition("=")
    if equals and key:
        return _attribute(key, value)
    return _word(word)


def _word(word: str) -> Holds:
    wanted = word.casefold()
    return lambda item: any(
        wanted in text.casefold() for text in (item.name, item.service, item.text)
    )


def _service(word: str) -> Holds:
    wanted = word.casefold()
    return lambda item: wanted in item.service.casefold()


def _name(word: str) -> Holds:
    wanted = word.casefold()
    return lambda item: wanted in item.name.casefold()


def _level(word: str) -> Holds:
    least = LEVELS.get(word.lower())
    if least is None:
        raise BadSearch(f"level: takes {', '.join(LEVELS)}")
    return lambda item: item.level >= least


def _id(word: str) -> Holds:
    return lambda item: word in (item.trace_id, item.span_id)


def _attribute(key: str, value: str) -> Holds:
    if not value:
        return lambda item: key in item.values
    return lambda item: item.values.get(key) == value


def _duration(word: str) -> Holds:
    try:
        limit_ns = parse_duration(word[1:].removeprefix("=")) * 1e9
    except ConfigError as error:
        raise BadSearch(f"{word[0]} takes a duration: it {error.message}") from None
    if word[0] == ">":
        return lambda item: item.duration_ns > limit_ns
    return lambda item: 0 <= item.duration_ns < limit_ns


_PREFIXES: Final[Mapping[str, Callable[[str], Holds]]] = {
    "service": _service,
    "name": _name,
    "level": _level,
    "trace": lambda word: _id(word.lower()),
}
