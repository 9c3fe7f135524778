"""Whether the native pass over bodies is there: decided once, when this is imported.

`otlp-relay-native` is a distribution of its own, behind the extra `speed`. What it gives back is
what the Python path gives, byte for byte, or None where that has to decide: so everything works
without it. RELAY_PURE=1 turns it off.
"""

import importlib
import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

FORMAT: Final = 3
"""Of what passes between the two; the other side's is in `native/src/python.rs`."""


SWITCH: Final = "RELAY_PURE"
"""The variable that turns it off."""
ACTIVE: Final = "active"
NOT_INSTALLED: Final = "not installed"


class Found(NamedTuple):
    """The module, None where it is not to be used, and what people are told of it."""

    module: Any
    state: str


def find(environ: Mapping[str, str]) -> Found:
    """The native pass, if it is installed, fits this relay and is not switched off."""
    if environ.get(SWITCH, "0") not in ("", "0"):
        return Found(None, f"off: {SWITCH} is set")
    try:
        module = importlib.import_module("otlp_relay_native")
    except ModuleNotFoundError:
        return Found(None, NOT_INSTALLED)
    except ImportError as error:
        return Found(None, f"off: otlp-relay-native cannot be loaded: {error}")
    if module.FORMAT != FORMAT:
        theirs = f"otlp-relay-native {module.__version__} is of another version of the relay"
        return Found(None, f"off: {theirs} (format {module.FORMAT}, wanted {FORMAT})")
    return Found(module, ACTIVE)


_found: Final = find(os.environ)
MODULE: Final[Any] = _found.module
"""`otlp_relay_native`, or None."""
STATE: Final = _found.state
"""`active`, `not installed`, or `off` with the reason: a key of the status."""


def describe(state: str) -> str:
    """A state in words, with what to do."""
    if state == ACTIVE:
        return "active: bodies are prepared by otlp-relay-native"
    if state == NOT_INSTALLED:
        return "not installed: the relay is several times as fast with otlp-relay[speed]"
    return state
