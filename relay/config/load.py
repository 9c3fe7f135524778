"""The whole configuration, from a file and the environment, or every problem of it at once.

Order: the file named by --config, else by $OTLP_RELAY_CONFIG, else the first that exists of
$XDG_CONFIG_HOME/otlp-relay/relay.toml and /etc/otlp-relay/relay.toml. Beside it are the files of
destinations.d, a destination each. A secret that is not set blocks its destination only; anything
else that is wrong is a problem, and then nothing is used.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from relay.config import (
    GRPC_PORT,
    AdminConfig,
    BufferConfig,
    Config,
    DestinationConfig,
    EnrichConfig,
    IngestConfig,
    TelemetryConfig,
)
from relay.config.destinations import (
    NAME,
    NAME_RULE,
    FoundDestination,
    read_destination,
    with_environment,
)
from relay.config.fields import shown
from relay.config.fleet_keys import read_fleet
from relay.config.keys import (
    ADMIN_KEYS,
    BUFFER_KEYS,
    ENRICH_KEYS,
    INGEST_KEYS,
    TELEMETRY_KEYS,
    TOP_KEYS,
)
from relay.config.secrets import Resolver, read_text
from relay.config.step_keys import PROCESS_KEYS, with_key_file
from relay.config.steps import ProcessConfig
from relay.config.tables import ConfigProblems, Reading, printable, read_table
from relay.model.errors import ConfigError, SecretUnset
from relay.model.records import Signal
from relay.model.run_as_hint import DENIED, hint_for

SYSTEM_CONFIG: Final = Path("/etc/otlp-relay/relay.toml")
OURS: Final = "otlp-relay"
_TABLES = ("ingest", "enrich", "buffer", "admin", "telemetry", "fleet", "process", "destinations")


def load(
    path: str | Path | None,
    environ: Mapping[str, str],
    *,
    forgiven: type[SecretUnset] | None = None,
) -> Config:
    """Read the configuration; without any file, the defaults and the saved destinations.

    `forgiven` is what a command need not have, since only the daemon has it: such secrets of
    `[ingest]` become warnings.

    Raises ConfigProblems, a ConfigError that lists all that is wrong, each with file, key, value
    and what would be right, and never with a secret's value.
    """
    source = find(path, environ)
    folder = source.parent if source else _config_home(environ)
    reading = Reading(Resolver(environ, folder or Path("/")))
    raw = _read_toml(source, reading) if source else {}
    reading.forgiven = forgiven
    config = _read_config(raw, source, folder, environ, reading)
    if reading.problems or config is None:
        raise ConfigProblems(reading.problems)
    return with_key_file(config)


def find(path: str | Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file to read, absolute; None if none is named and none is there.

    Raises ConfigError for a named file that is absent and for a place that cannot be looked into.
    """
    named = str(path) if path is not None else environ.get("OTLP_RELAY_CONFIG", "")
    if path is not None or named:
        by = "named by --config" if path is not None else "named by $OTLP_RELAY_CONFIG"
        found = Path(named).absolute()
        if not named or not _exists(found):
            raise ConfigProblems([ConfigError(f"there is no such file, {by}", source=str(found))])
        return found
    return next(filter(_exists, usual_places(environ)), None)


def usual_places(environ: Mapping[str, str]) -> list[Path]:
    """Where the file is looked for that nobody names, the first first."""
    home = _config_home(environ)
    return [*([home / "relay.toml"] if home else []), SYSTEM_CONFIG]


def _exists(path: Path) -> bool:
    """Whether anything stands there: a link to nothing does, and is then an error to read."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the path cannot be used"
        hint = "name another by --config"
        if isinstance(error, PermissionError):
            hint = f"{hint_for(path)}, or {hint}"
        raise ConfigProblems(
            [ConfigError(f"cannot be looked at: {reason}", source=str(path), hint=hint)]
        ) from None
    return True


def _config_home(environ: Mapping[str, str]) -> Path | None:
    base = _xdg(environ, "XDG_CONFIG_HOME", ".config")
    return base / OURS if base else None


def _xdg(environ: Mapping[str, str], variable: str, below_home: str) -> Path | None:
    """A base folder of the XDG specification, which says to ignore one that is not absolute."""
    if environ.get(variable, "").startswith("/"):
        return Path(environ[variable])
    home = environ.get("HOME", "")
    return Path(home) / below_home if home.startswith("/") else None


def _read_toml(path: Path, reading: Reading) -> dict[str, Any]:
    """The tables of a file; on a problem, which is noted, none."""
    source = str(path)
    try:
        text = read_text(path)
    except ConfigError as error:
        hint = hint_for(path) if error.message == DENIED else None
        reading.add(f"cannot be read: {error.message}", "", source, hint=hint)
        return {}
    try:
        return tomllib.loads(text)
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        problem = f"is no TOML: {_toml_words(str(error), text)}"
    reading.add(problem, "", source)
    return {}


def _toml_words(words: str, text: str) -> str:
    """Tomllib's message with its place first: "line 3, column 7: Invalid value"."""
    match = re.fullmatch(r"(?s)(.*) \(at (line \d+, column \d+|end of document)\)", words)
    if match is None:
        return words
    end = f"line {text.count(chr(10)) + 1}, column {len(text) - text.rfind(chr(10))}"
    return f"{end if match[2] == 'end of document' else match[2]}: {match[1]}"


def _read_config(
    raw: dict[str, Any],
    source: Path | None,
    folder: Path | None,
    environ: Mapping[str, str],
    reading: Reading,
) -> Config | None:
    where = str(source) if source else "defaults"
    simple = {key: value for key, value in raw.items() if key not in _TABLES}
    top = read_table(simple, TOP_KEYS, "", where, reading, also_known=_TABLES)
    problems_before = len(reading.problems)
    unset: list[ConfigError] = []
    ingest = IngestConfig(
        **read_table(raw.get("ingest"), INGEST_KEYS, "ingest", where, reading, unset=unset)
    )
    enrich = EnrichConfig(**read_table(raw.get("enrich"), ENRICH_KEYS, "enrich", where, reading))
    buffer = BufferConfig(**read_table(raw.get("buffer"), BUFFER_KEYS, "buffer", where, reading))
    telemetry = TelemetryConfig(
        **read_table(raw.get("telemetry"), TELEMETRY_KEYS, "telemetry", where, reading)
    )
    admin = AdminConfig(**read_table(raw.get("admin"), ADMIN_KEYS, "admin", where, reading))
    reading.forgive_or_note(unset)
    # Else a default would be compared.
    if len(reading.problems) == problems_before and not unset:
        _check_listeners(ingest, admin, where, reading)
    if source:
        _warn_of_secrets(raw, source, reading)

    saved = top.pop("destinations_dir", None) or (folder / "destinations.d" if folder else None)
    found = _tables_of(raw.get("destinations"), source, where, reading)
    found += _saved_destinations(saved, reading)
    if top.get("destinations_from_env"):
        found = with_environment(found, environ, reading)
    destinations = [
        read_destination(destination, ingest, reading) for destination in _unique(found, reading)
    ]
    _check_telemetry(telemetry, destinations, where, reading)
    state_dir = top.pop("state_dir", None) or _default_state_dir(environ)
    if state_dir is None:
        reading.add(
            "has no default without $HOME", "state_dir", where, hint="set it, or $STATE_DIRECTORY"
        )
        return None
    return Config(
        state_dir=state_dir,
        says_signals=_says_signals(raw.get("ingest"), *(each.raw for each in found)),
        ingest=ingest,
        enrich=enrich,
        buffer=buffer,
        admin=admin,
        telemetry=telemetry,
        process=_read_process(raw, where, reading),
        fleet=read_fleet(raw.get("fleet"), where, reading),
        destinations=tuple(d for d in destinations if d is not None),
        destinations_dir=saved,
        source=source,
        warnings=tuple(reading.warnings),
        **top,
    )


def _says_signals(*tables: object) -> bool:
    return any(isinstance(table, dict) and "signals" in table for table in tables)


def _warn_of_secrets(raw: dict[str, Any], source: Path, reading: Reading) -> None:
    """Warn of secrets that stand in a file which others can read."""
    if reading.has_literal(raw.get("ingest"), "tokens"):
        reading.warn_if_exposed(source, "a token")
    fleet = raw.get("fleet")
    if isinstance(fleet, dict) and reading.has_literal(fleet.get("sasl"), "password"):
        reading.warn_if_exposed(source, "a password")


def _read_process(raw: dict[str, Any], where: str, reading: Reading) -> ProcessConfig:
    return ProcessConfig(**read_table(raw.get("process"), PROCESS_KEYS, "process", where, reading))


def _check_telemetry(
    telemetry: TelemetryConfig,
    destinations: list[DestinationConfig | None],
    where: str,
    reading: Reading,
) -> None:
    """Whether there is a destination that takes the relay's own spans, where one is named."""
    name = telemetry.traces_to
    if not name or None in destinations:
        return  # one that cannot be read is a problem already, and may be the one that is meant
    named = [each for each in destinations if each is not None and each.name == name]
    if not named:
        reading.add(
            f"no destination is called {shown(name)}",
            "telemetry.traces_to",
            where,
            hint=f"write [destinations.{printable(name)}], or leave the line out",
        )
    elif Signal.TRACES not in named[0].signals:
        reading.add(f"{name} gets no traces", "telemetry.traces_to", where)


def _check_listeners(
    ingest: IngestConfig, admin: AdminConfig, where: str, reading: Reading
) -> None:
    """Rules between keys, each of which is right by itself."""
    for address in ingest.listen:
        if not address.is_loopback and not ingest.tokens:
            reading.add(
                f'is open to others with "{address}", and there are no tokens',
                "ingest.listen",
                where,
                hint='set tokens, such as tokens = ["${env:RELAY_TOKEN}"], or listen on localhost',
            )
    for address in admin.listen:
        if not address.is_loopback:
            reading.add(
                f'must be loopback, not "{address}"',
                "admin.listen",
                where,
                hint="from elsewhere use an SSH tunnel or a reverse proxy",
            )
    _check_addresses(ingest, admin, where, reading)
    if (ingest.tls_cert is None) != (ingest.tls_key is None):
        missing = "tls_key" if ingest.tls_key is None else "tls_cert"
        reading.add("is missing: tls_cert and tls_key go together", f"ingest.{missing}", where)
    if ingest.max_in_flight_bytes < ingest.max_body_bytes:
        reading.add(
            "must be at least max_body, or no such body is ever taken",
            "ingest.max_in_flight",
            where,
        )
    if ingest.tokens_for != "all" and not ingest.tokens:
        reading.add("does nothing without tokens", "ingest.tokens_for", where)


def _check_addresses(
    ingest: IngestConfig, admin: AdminConfig, where: str, reading: Reading
) -> None:
    """No two listeners may want one address."""
    taken = dict.fromkeys(ingest.listen, "ingest")
    for key, addresses in (("listen", admin.listen), ("health_listen", admin.health_listen)):
        for address in addresses:
            if address.port and address in taken:
                words = f'"{address}" is what {taken[address]} listens on'
                reading.add(words, f"admin.{key}", where)
        taken |= dict.fromkeys(addresses, "admin")
    if ingest.grpc_hint and any(address.port == GRPC_PORT for address in ingest.listen):
        reading.add(
            f"needs port {GRPC_PORT}, which ingest.listen names",
            "ingest.grpc_hint",
            where,
            hint="turn it off: gRPC exporters are told there what to do in any case",
        )


def _default_state_dir(environ: Mapping[str, str]) -> Path | None:
    by_systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if by_systemd.startswith("/"):
        return Path(by_systemd)
    base = _xdg(environ, "XDG_STATE_HOME", ".local/state")
    return base / OURS if base else None


def _tables_of(
    raw: object, source: Path | None, where: str, reading: Reading
) -> list[FoundDestination]:
    """`[destinations.NAME]` of the configuration."""
    if raw is None:
        return []
    if not isinstance(raw, dict):
        reading.add("must be tables: [destinations.NAME]", "destinations", where)
        return []
    return [
        FoundDestination(name, table, f"destinations.{name}", where, source)
        for name, table in raw.items()
    ]


def _saved_destinations(folder: Path | None, reading: Reading) -> list[FoundDestination]:
    """One destination of each file NAME.toml; names that begin with a dot are editors' files."""
    if folder is None:
        return []
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        hint = hint_for(folder) if isinstance(error, PermissionError) else None
        words = f"cannot be listed: {error.strerror}"
        reading.add(words, "destinations_dir", str(folder), hint=hint)
        return []
    found = []
    for name in names:
        if name.endswith(".toml") and not name.startswith("."):
            path = folder / name
            problems_before = len(reading.problems)
            table = _read_toml(path, reading)
            if len(reading.problems) == problems_before:
                stem = name.removesuffix(".toml")
                found.append(FoundDestination(stem, table, "", str(path), path))
    return found


def _unique(found: list[FoundDestination], reading: Reading) -> list[FoundDestination]:
    """Sorted by name, each name once and sound; others are noted."""
    by_name: dict[str, FoundDestination] = {}
    for destination in found:
        if NAME.fullmatch(destination.name) is None:
            reading.add(
                f"invalid name {destination.name!r}: {NAME_RULE}",
                destination.table or "file name",
                destination.where,
            )
        elif destination.name in by_name:
            other = by_name[destination.name]
            reading.add(
                f"the name {destination.name!r} is taken already, in {other.where}",
                destination.table,
                destination.where,
                hint="rename or remove one of the two",
            )
        else:
            by_name[destination.name] = destination
    return [by_name[name] for name in sorted(by_name)]
