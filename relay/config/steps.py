"""What the tables of a destination ask to be done to items, as frozen structs.

`config.step_keys` reads them, `relay.process.steps` does it.
"""

from pathlib import Path
from typing import Literal

from msgspec import Struct

With = Literal["mask", "hash", "drop"]
Scalar = str | bool | int | float


class RedactConfig(Struct, frozen=True, kw_only=True):
    """`redact`: what must not be seen. Without keys and patterns it does nothing."""

    keys: tuple[str, ...] = ()
    """Globs on keys of attributes, at any depth."""
    patterns: tuple[str, ...] = ()
    """Names of patterns, and patterns of RE2 between slashes, for every text."""
    replace_with: With = "mask"
    """What stands in its place: a word, a hash that is equal for what is equal, or nothing."""
    key_file: Path = Path()
    """Where the key of the hashes is, or is made; no key of the table."""

    def __bool__(self) -> bool:
        return bool(self.keys or self.patterns)


class AttributesConfig(Struct, frozen=True, kw_only=True):
    """`attributes`: what is reshaped, in the order delete, rename, set."""

    set: dict[str, Scalar] = {}
    """Attributes of the resource, over what the sender has."""
    rename: dict[str, str] = {}
    """New names by old ones."""
    delete: tuple[str, ...] = ()
    """Globs on keys."""

    def __bool__(self) -> bool:
        return bool(self.set or self.rename or self.delete)


class ProcessConfig(Struct, frozen=True, kw_only=True):
    """`[process]`: what is done before anything is kept, so that it never reaches the disk."""

    drop: str = ""
    """A condition in CEL; what it is true of is not kept. Empty: nothing is dropped."""
    redact: RedactConfig = RedactConfig()
    """What is redacted for everybody."""

    def __bool__(self) -> bool:
        return bool(self.drop or self.redact)
