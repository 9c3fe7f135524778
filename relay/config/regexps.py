"""Patterns as the configuration has them: RE2, whose time grows with the text and not beyond.

They look through texts as bytes in UTF-8: of a text, the library would count its characters anew
with each match. It is imported with the first pattern.
"""

from typing import Any, Final

from relay.model.errors import ConfigError

MOST_CHARACTERS: Final = 200
# What one compiled pattern may take: one that needs more is refused, since it is slow, too.
_MEMORY_BYTES: Final = 1024 * 1024
_OUR_MEMORY_BYTES: Final = 8 * 1024 * 1024


def compile_pattern(text: str, *, is_ours: bool = False) -> Any:
    """The pattern, compiled. Raises ConfigError with what is wrong in it.

    `is_ours`: made of several, and may be larger than one that somebody writes.
    """
    import re2  # type: ignore[import-untyped]

    if len(text) > MOST_CHARACTERS and not is_ours:
        raise ConfigError(f"is too long: a pattern has at most {MOST_CHARACTERS} characters")
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _OUR_MEMORY_BYTES if is_ours else _MEMORY_BYTES
    try:
        return re2.compile(text, options)
    except re2.error as error:
        words = error.args[0] if error.args else ""
        said = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
        raise ConfigError(
            f"is no pattern of RE2: {said}", hint="https://github.com/google/re2/wiki/Syntax"
        ) from None
