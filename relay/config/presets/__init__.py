"""The name of a backend goes in; what is known of it comes out.

Data and nothing else: the configuration fills gaps from it, the command line asks by it, the
connection test explains refusals with it, and the pages under docs/destinations are made of it.
What nobody saw at a source stands in `unconfirmed` and is shown as such.
"""

import difflib
from typing import Final

from relay.config.presets.collectors import COLLECTORS
from relay.config.presets.events import EVENTS
from relay.config.presets.llm import LLM
from relay.config.presets.openrouter import OPENROUTER
from relay.config.presets.preset import TOKEN, HeaderField, Preset, Refusal
from relay.config.presets.suites import SUITES
from relay.model.errors import ConfigError

__all__ = ["PRESETS", "TOKEN", "HeaderField", "Preset", "Refusal", "find"]

PRESETS: Final[dict[str, Preset]] = {
    each.name: each
    for each in (
        OPENROUTER,
        *sorted((*EVENTS, *SUITES, *COLLECTORS, *LLM), key=lambda preset: preset.name),
    )
}


def find(name: str) -> Preset:
    """The preset of this name, a sender's too. Raises ConfigError with the nearest name."""
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name.lower(), PRESETS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PRESETS)}"
    raise ConfigError(f"there is no preset {name[:40]!r}", hint=hint)
