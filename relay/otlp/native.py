"""Whether the native pass over bodies is there: decided once, when this is imported.

`otlp-relay-native` is a distribution of its own, behind the extra `speed`. What it gives back is
what the Python path gives, byte for byte, or None where that has to decide: so everything works
without it. RELAY_PURE=1 turns it off.
"""

import importlib
import os
from typing import Any, Final

FORMAT: Final = 1
"""What passes between the two; the other side is `native/src/python.rs`."""


def _find() -> tuple[Any, str]:
    """The module, None where it is not to be used; and what is said of it."""
    if os.environ.get("RELAY_PURE", "0") not in ("", "0"):
        return None, "off (RELAY_PURE)"
    try:
        module = importlib.import_module("otlp_relay_native")
    except ModuleNotFoundError:
        return None, "not installed"
    except ImportError as error:
        return None, f"cannot be loaded: {error}"
    if module.FORMAT != FORMAT:
        theirs = f"otlp-relay-native {module.__version__} has format {module.FORMAT}"
        return None, f"of another version: {theirs}, this relay wants {FORMAT}"
    return module, "active"


_found: Final = _find()
MODULE: Final[Any] = _found[0]
"""`otlp_relay_native`, or None."""
STATE: Final = _found[1]
"""`active`, `not installed`, or why it is not used."""
