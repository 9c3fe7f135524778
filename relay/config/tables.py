"""From a TOML table to the fields of a struct, while every problem is noted."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from relay.config.fields import Faults, Key, nearest
from relay.config.secrets import Resolver, has_reference
from relay.model.errors import ConfigError, RelayError, SecretUnset


class ConfigProblems(ConfigError):
    """The configuration cannot be used: all that is wrong with it."""

    def __init__(self, problems: Iterable[ConfigError]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(one_line(problem) for problem in self.problems))


def problems_of(error: ConfigError) -> tuple[ConfigError, ...]:
    """Each thing that is wrong: those of ConfigProblems, else the error itself."""
    return error.problems if isinstance(error, ConfigProblems) else (error,)


def one_line(problem: RelayError) -> str:
    """A problem with its hint in one line of text."""
    line = f"{problem.message} ({problem.hint})" if problem.hint else problem.message
    return " ".join(line.split())


class Reading:
    """What is gathered while one configuration is read."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self.problems: list[ConfigError] = []
        self.warnings: list[str] = []
        self.forgiven: type[SecretUnset] | None = None

    def add(self, message: str, key: str, source: str, *, hint: str | None = None) -> None:
        """Note a problem."""
        self.problems.append(ConfigError(message, key=key, source=source, hint=hint))

    def forgive_or_note(self, unset: Iterable[ConfigError]) -> None:
        """Secrets that have no value here: problems, or warnings where that is forgiven."""
        for problem in unset:
            if self.forgiven is not None and isinstance(problem, self.forgiven):
                self.warnings.append(f"{problem.message}; only the daemon may have it")
            else:
                self.problems.append(problem)

    def warn_if_exposed(self, path: Path, what: str) -> None:
        """Warn where everybody on this host can read the secret that stands in this file."""
        try:
            is_exposed = bool(path.stat().st_mode & 0o004)
        except OSError:
            return
        warning = (
            f"{path}: {what} stands in it and every user of this host can read it: "
            f"chmod o-r it, or use ${{env:…}}, ${{file:…}} or ${{credential:…}}"
        )
        if is_exposed and warning not in self.warnings:
            self.warnings.append(warning)

    @staticmethod
    def has_literal(table: object, key: str) -> bool:
        """Whether a string of this list stands in the file itself."""
        value = table.get(key) if isinstance(table, dict) else None
        items = value if isinstance(value, list) else [value]
        return any(isinstance(item, str) and not has_reference(item) for item in items)


def read_table(
    raw: object,
    keys: Mapping[str, Key],
    table: str,
    source: str,
    reading: Reading,
    *,
    also_known: Iterable[str] = (),
    unset: list[ConfigError] | None = None,
) -> dict[str, Any]:
    """The fields that the table sets, by name; keys without a fault only.

    A secret that is not set goes to `unset` where that is given, else it is a problem as others.
    """
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        reading.add("must be a table", table, source)
        return {}
    unset = reading.problems if unset is None else unset
    fields = {}
    for name, value in raw.items():
        key = f"{table}.{name}" if table else name
        if name not in keys:
            hint = nearest(name, [*keys, *also_known])
            reading.add("there is no such key", printable(key), source, hint=hint)
            continue
        try:
            fields[keys[name].field] = keys[name].read(value, reading.resolver)
        except ConfigError as error:
            faults = error.entries if isinstance(error, Faults) else [("", error)]
            for entry, fault in faults:
                inner = f"{key}.{entry}" if entry and not entry.startswith("[") else key + entry
                located = type(fault)(
                    fault.message, key=printable(inner), source=source, hint=fault.hint
                )
                (unset if isinstance(fault, SecretUnset) else reading.problems).append(located)
    return fields


def by_first_names(raw: object, keys: Mapping[str, Key]) -> object:
    """A table with each key under its first name. Raises ConfigError where both names stand."""
    if not isinstance(raw, dict):
        return raw
    first = {key.also: name for name, key in keys.items() if key.also}
    for other, name in first.items():
        if other in raw and name in raw:
            raise ConfigError(f"is the same key as {name}: leave one out", key=other)
    return {first.get(name, name): value for name, value in raw.items()}


def printable(key: str) -> str:
    """A key that is safe to print: a TOML key may hold anything."""
    return key if re.fullmatch(r"[ -~]{1,200}", key) else repr(key[:200])
