"""Globs on the keys of attributes: * is any text, ? one character, in any case of letters."""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from relay.config.regexps import compile_pattern

_REMEMBERED_KEYS: Final = 10_000


def compile_globs(globs: Iterable[str]) -> Callable[[str], bool]:
    """Whether one of `globs` is of a key; each key is looked at once, as long as it is remembered.

    Without any glob none is.
    """
    each = [re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".") for glob in globs]
    if not each:
        return lambda _key: False
    pattern: Any = compile_pattern(f"(?is)^(?:{'|'.join(each)})$", is_ours=True)
    known: dict[str, bool] = {}

    def is_named(key: str) -> bool:
        found = known.get(key)
        if found is None:
            if len(known) >= _REMEMBERED_KEYS:
                known.clear()
            found = known[key] = pattern.search(key.encode()) is not None
        return found

    return is_named
