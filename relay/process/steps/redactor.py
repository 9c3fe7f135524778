"""Finds what must not be seen in keys and texts, and puts something else in its place. Pure.

Each match in the original text is replaced, those of all patterns alike; matches that overlap are
replaced together. With "drop", what is left is looked through again, since it has moved together.
Looking costs a bounded time: a text that holds more matches than that is replaced as a whole.
"""

import hmac
import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from relay.config.named_patterns import NAMED, Check
from relay.config.regexps import compile_pattern
from relay.config.step_keys import MASK, custom_pattern
from relay.config.steps import With
from relay.process.steps.globs import compile_globs

# Looks at one text: so many, and one more for so many bytes; of a pattern that looks ahead as
# far as it likes, at most so many.
LOOKS: Final = 32
BYTES_A_LOOK: Final = 32
LOOKS_OF_CUSTOM: Final = 256
# Rounds over what is left after "drop"; then nothing is left.
ROUNDS: Final = 8
_REMEMBERED_KEYS: Final = 10_000
_LETTERS: Final = str.maketrans("0123456789abcdef", "ghijklmnopqrstuv")
_LOOKS_AT_ENDS: Final = re.compile(r"\^|\$|\\[AzZBC]")


class _Pattern(NamedTuple):
    compiled: Any
    check: Check | None
    most: int


class TooMany(Exception):
    """A text holds more matches than are looked at one by one."""


class Redactor:
    """What `redact` asks for, compiled. `key` is that of the hashes, empty where none are made.

    Raises ConfigError for a pattern that is none.
    """

    def __init__(
        self, keys: Iterable[str], patterns: Sequence[str], replace_with: With, key: bytes
    ) -> None:
        self.replace_with = replace_with
        self._key = key
        self._is_named = compile_globs(keys)
        self._patterns = [_compiled(each) for each in patterns]
        self._any = _any_of(patterns)
        self.may_join = not any(
            _LOOKS_AT_ENDS.search(custom) for each in patterns if (custom := custom_pattern(each))
        )
        """Whether several texts with a NUL in between may be looked through at once."""
        self._known: dict[str, tuple[bool, str]] = {}

    @property
    def has_patterns(self) -> bool:
        """Whether texts are looked through at all."""
        return self._any is not None

    def key(self, key: str) -> tuple[bool, str]:
        """Whether one of the globs is of `key`, in any case of letters; and the key as it may be
        seen.
        """
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _REMEMBERED_KEYS:
                self._known.clear()
            found = self._known[key] = (self._is_named(key), self.text(key))
        return found

    def is_in(self, text: bytes) -> bool:
        """Whether a pattern may be in `text`: a check is not asked."""
        return self._any is not None and self._any.search(text) is not None

    def replacement(self, value: bytes) -> bytes:
        """What stands in the place of `value`."""
        if self.replace_with == "drop":
            return b""
        if self.replace_with == "mask":
            return MASK.encode()
        digest = hmac.new(self._key, value, sha256).hexdigest()
        # Letters alone: no pattern for numbers finds anything in it.
        return f"[hash:{digest[:24].translate(_LETTERS)}]".encode()

    def text(self, text: str) -> str:
        """`text` with every match replaced."""
        before = text.encode()
        after = self.raw(before)
        return text if after is before else after.decode(errors="replace")

    def raw(self, text: bytes) -> bytes:
        """Likewise of bytes, whatever they are; the same object where nothing was found."""
        for _ in range(ROUNDS):
            if not self.is_in(text):
                return text
            try:
                spans = _merged(self._spans(text))
            except TooMany:
                return self.replacement(text)
            if not spans:
                return text
            parts: list[bytes] = []
            at = 0
            for start, end in spans:
                parts += (text[at:start], self.replacement(text[start:end]))
                at = end
            text = b"".join((*parts, text[at:]))
            if self.replace_with != "drop":
                return text
        return b""

    def _spans(self, text: bytes) -> list[tuple[int, int]]:
        """Where the matches are. Raises TooMany."""
        found: list[tuple[int, int]] = []
        looks = LOOKS + len(text) // BYTES_A_LOOK
        for pattern in self._patterns:
            at, own = 0, 0
            while at <= len(text) and (match := pattern.compiled.search(text, at)) is not None:
                start, end = match.span()
                looks, own = looks - 1, own + 1
                if looks < 0 or own > pattern.most:
                    raise TooMany
                if start == end:
                    at = end + 1
                elif _is_meant(pattern, text, start, end):
                    found.append((start, end))
                    at = end
                else:
                    at = start + 1  # another may begin inside what is none
        return found


def _is_meant(pattern: _Pattern, text: bytes, start: int, end: int) -> bool:
    if pattern.check is None:
        return True
    before = text[max(start - 8, 0) : start].decode(errors="replace")[-2:]
    after = text[end : end + 8].decode(errors="replace")[:2]
    return pattern.check(text[start:end].decode(errors="replace"), before, after)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _compiled(written: str) -> _Pattern:
    custom = custom_pattern(written)
    if custom is not None:
        return _Pattern(compile_pattern(custom), None, LOOKS_OF_CUSTOM)
    named = NAMED[written]
    return _Pattern(compile_pattern(named.pattern), named.check, 2**31)


def _any_of(patterns: Sequence[str]) -> Any:
    """One pattern that is where any of them is; None without any."""
    sources = [custom_pattern(each) or NAMED[each].pattern for each in patterns]
    joined = "|".join(f"(?:{each})" for each in sources)
    return compile_pattern(joined, is_ours=True) if sources else None
