"""What is known of each backend, by its name: the files NAME.toml of this folder.

Data and nothing else: the configuration fills gaps from it, the command line asks by it, the
connection test explains refusals with it, and the pages under docs/destinations are made of it.
What nobody saw at a source stands in `unconfirmed` and is shown as such.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from relay.config.presets.preset import (
    TOKEN,
    HeaderField,
    KnownRefusal,
    Preset,
    SignalFacts,
    Temporality,
)
from relay.model.errors import ConfigError

__all__ = [
    "PRESETS",
    "TOKEN",
    "HeaderField",
    "KnownRefusal",
    "Preset",
    "SignalFacts",
    "Temporality",
    "find",
    "known_at",
]


def _read(file: Path) -> Preset:
    return msgspec.convert({"name": file.stem, **tomllib.loads(file.read_text("utf-8"))}, Preset)


PRESETS: Final = {
    preset.name: preset
    for preset in sorted(
        map(_read, Path(__file__).parent.glob("*.toml")),
        key=lambda preset: (not preset.is_sender, preset.name),
    )
}


def known_at(endpoint: str) -> Preset | None:
    """The backend that has this host and port for everybody; None if nobody knows."""
    place = urlsplit(endpoint).netloc.rpartition("@")[2]
    return next(
        (
            preset
            for preset in PRESETS.values()
            if any(urlsplit(url).netloc == place for url in preset.all_endpoints)
        ),
        None,
    )


def find(name: str) -> Preset:
    """The preset of this name, a sender's too. Raises ConfigError with the nearest name."""
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name.lower(), PRESETS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PRESETS)}"
    raise ConfigError(f"there is no preset {name[:40]!r}", hint=hint)
