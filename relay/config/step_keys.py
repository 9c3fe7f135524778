"""Which keys the tables of steps have, and how each is read.

Patterns, globs and conditions are taken as they are: a dollar is a dollar there.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from relay.config import Config, DestinationConfig
from relay.config.conditions import compile_condition
from relay.config.fields import Faults, Key, Reader, list_of, nearest, one_of, shown
from relay.config.named_patterns import NAMED
from relay.config.regexps import compile_pattern
from relay.config.secrets import Resolver
from relay.config.steps import AttributesConfig, RedactConfig
from relay.model.errors import ConfigError

KEY_FILE: Final = "redaction-key"
MASK: Final = "[redacted]"
MOST_GLOBS: Final = 100
MOST_PATTERNS: Final = 20
_MOST_CHARACTERS: Final = 200
_WRITTEN: Final = re.compile(r"/(.*)/", re.DOTALL)


def custom_pattern(written: str) -> str | None:
    """The pattern between slashes; None for a name."""
    found = _WRITTEN.fullmatch(written)
    return found[1] if found else None


def condition(value: object, _resolver: Resolver) -> str:
    """A condition in CEL. The empty string is none."""
    if not isinstance(value, str):
        raise ConfigError(f"must be a string, not {shown(value)}")
    if value:
        compile_condition(value)
    return value


def _glob(value: object, _resolver: Resolver) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f'must be a key, such as "gen_ai.*.messages", not {shown(value)}')
    if len(value) > _MOST_CHARACTERS:
        raise ConfigError(f"is too long: at most {_MOST_CHARACTERS} characters")
    return value


def _pattern(value: object, _resolver: Resolver) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"must be a string, not {shown(value)}")
    custom = custom_pattern(value)
    if custom is None:
        if value not in NAMED:
            hint = f"{nearest(value, list(NAMED))}; a pattern of your own stands between slashes"
            raise ConfigError(f"there is no pattern {shown(value)}", hint=hint)
        return value
    compiled = compile_pattern(custom)
    if compiled.search("") is not None:
        raise ConfigError("matches an empty text, so it is everywhere", hint="ask for more of it")
    if compiled.search(MASK) is not None:
        raise ConfigError(f"matches {MASK}, which is put in the place of what is found")
    return value


def _at_most(read: Reader, most: int) -> Reader:
    def reader(value: object, resolver: Resolver) -> Any:
        found = list_of(read)(value, resolver)
        if len(found) > most:
            raise ConfigError(f"has more than {most} entries")
        return found

    return reader


def _names(value: object, _resolver: Resolver) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ConfigError('must be a table such as { "old.name" = "new.name" }')
    for old, new in value.items():
        if not isinstance(new, str) or not new or not old:
            raise ConfigError(f"must be a name for {shown(old)}, not {shown(new)}")
    return dict(value)


def _values(value: object, resolver: Resolver) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError('must be a table such as { team = "shop" }')
    found: dict[str, Any] = {}
    for key, each in value.items():
        is_number = isinstance(each, int | float) and not isinstance(each, bool)
        if not key or not isinstance(each, str | bool | int | float):
            hint = "put a name with dots in quotes" if isinstance(each, dict) else None
            words = f"must be a string, a number, true or false for {shown(key)}"
            raise ConfigError(words, hint=hint)
        if is_number and isinstance(each, int) and not -(2**63) <= each < 2**63:
            raise ConfigError(f"has a number of more than 64 bits for {shown(key)}")
        found[key] = resolver.expand(each) if isinstance(each, str) else each
    return found


def table_of(keys: Mapping[str, Key], make: Callable[..., Any]) -> Reader:
    """What `make` makes of the fields of a table. Raises Faults with every entry that is wrong."""

    def read(value: object, resolver: Resolver) -> Any:
        if not isinstance(value, dict):
            raise ConfigError(f"must be a table of {', '.join(keys)}")
        fields, faults = {}, []
        for name, each in value.items():
            if name not in keys:
                hint = nearest(name, list(keys))
                faults.append((name, ConfigError("there is no such key", hint=hint)))
                continue
            try:
                fields[keys[name].field] = keys[name].read(each, resolver)
            except Faults as error:
                faults += [(f"{name}{at}", fault) for at, fault in error.entries]
            except ConfigError as error:
                faults.append((name, error))
        if faults:
            raise Faults(faults)
        return make(**fields)

    return read


REDACT_KEYS: Final = {
    "keys": Key("keys", _at_most(_glob, MOST_GLOBS)),
    "patterns": Key("patterns", _at_most(_pattern, MOST_PATTERNS)),
    "with": Key("replace_with", one_of("mask", "hash", "drop")),
}
ATTRIBUTES_KEYS: Final = {
    "set": Key("set", _values),
    "rename": Key("rename", _names),
    "delete": Key("delete", _at_most(_glob, MOST_GLOBS)),
}
redact = table_of(REDACT_KEYS, RedactConfig)
attributes = table_of(ATTRIBUTES_KEYS, AttributesConfig)
PROCESS_KEYS: Final = {"drop": Key("drop", condition), "redact": Key("redact", redact)}


def with_key_file(config: Config) -> Config:
    """The configuration with the place of the key of hashes wherever one may be needed."""
    path = config.state_dir / KEY_FILE
    process = config.process
    return replace(
        config,
        process=replace(process, redact=_keyed(process.redact, path)),
        destinations=tuple(_keyed_destination(each, path) for each in config.destinations),
    )


def _keyed_destination(destination: DestinationConfig, path: Path) -> DestinationConfig:
    return replace(
        destination,
        redact=_keyed(destination.redact, path),
        by_signal=tuple(_keyed_destination(each, path) for each in destination.by_signal),
    )


def _keyed(redact_config: RedactConfig, path: Path) -> RedactConfig:
    is_needed = redact_config and redact_config.replace_with == "hash"
    return replace(redact_config, key_file=path) if is_needed else redact_config
