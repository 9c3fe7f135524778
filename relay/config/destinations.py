"""The struct of a destination, from its table or from the variables OTEL_EXPORTER_OTLP_*.

A secret that is not set, or a certificate's file that cannot be read, blocks the destination and
leaves the configuration usable; anything else that is wrong is a problem of the configuration.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import msgspec

from relay.config import DestinationConfig, IngestConfig, points_at, resolve_headers
from relay.config.keys import DESTINATION_KEYS
from relay.config.presets import TOKEN, Preset, find
from relay.config.sample_keys import check_wait, read_sample
from relay.config.secrets import escape, has_reference
from relay.config.signals import signals_of, view_of
from relay.config.tables import Reading, by_first_names, read_table
from relay.config.urls import parse_url
from relay.model.errors import ConfigError, SecretUnset
from relay.model.records import Signal

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
NAME_RULE = "use letters, digits, _ and -, starting with a letter or digit"
_SECRET_HEADER = re.compile(
    r"auth|token|key|secret|pass|cookie|credential|honeycomb-team", re.IGNORECASE
)
_MILLISECONDS = re.compile(r"0*[1-9][0-9]{0,11}", re.ASCII)
_SIGNAL_PATH = re.compile(r"(?:/v1/(?:traces|logs|metrics))+$")
_FILES = {"CERTIFICATE": "ca_file", "CLIENT_CERTIFICATE": "client_cert", "CLIENT_KEY": "client_key"}
_LONG = 20  # a value of this length is more likely a secret than the name of a data set
# What of its table are tables again.
TABLES = ("sample",)
ENDPOINT_KEYS = ("endpoint", "logs_endpoint", "metrics_endpoint")


class FoundDestination(NamedTuple):
    """A destination as it was found, not yet read."""

    name: str
    raw: object
    table: str  # its key in the file; empty where the file is the table
    where: str
    source: Path | None

    def key(self, name: str) -> str:
        """The key `name` of its table, as problems call it."""
        return f"{self.table}.{name}" if self.table else name


def read_destination(
    found: FoundDestination, ingest: IngestConfig, reading: Reading
) -> DestinationConfig | None:
    """The destination, blocked or not; None if it has a problem, which is noted."""
    problems_before = len(reading.problems)
    unset: list[ConfigError] = []
    try:
        found = found._replace(raw=by_first_names(found.raw, DESTINATION_KEYS))
    except ConfigError as error:
        _note(error, found, reading)
        return None
    fields = _read_keys(found, reading, unset)
    preset = find(fields["preset"]) if fields.get("preset") else None
    _check_pairs(found, fields, preset, reading)
    if len(reading.problems) > problems_before:
        return None
    signals = signals_of(fields, preset)
    if isinstance(found.raw, dict) and "sample" in found.raw:
        fields["sample"] = read_sample(
            found.raw["sample"], found.key("sample"), found.where, signals, reading
        )
    common = DestinationConfig(
        **{"endpoint": "", **fields, "signals": signals},
        name=found.name,
        source=found.source,
        folder=reading.resolver.folder,
        reload_reason="; ".join(error.message for error in unset),
    )
    written = frozenset(map(str, found.raw)) if isinstance(found.raw, dict) else frozenset[str]()
    views = []
    for signal in signals:
        try:
            view = view_of(common, signal, preset, written=written)
        except ConfigError as error:
            _note(error, found, reading)
            continue
        _check_view(view, preset, found, reading)
        check_wait(view, found.key("sample"), found.where, reading)
        views.append(view)
    if len(reading.problems) > problems_before:
        return None
    for view in views:
        if points_at(view, ingest.listen):
            reading.add(
                f'"{view.shown_endpoint}" is this relay itself',
                found.key("endpoint"),
                found.where,
                hint="name the upstream; apps are pointed at the relay, the relay at what is "
                "behind it",
            )
            return None
    _warn(views, found, reading)
    views = [_resolved(view, preset, found, reading) for view in views]
    first = views[0]
    return msgspec.structs.replace(first, by_signal=tuple(views)) if len(views) > 1 else first


def _read_keys(
    found: FoundDestination, reading: Reading, unset: list[ConfigError]
) -> dict[str, Any]:
    """The fields that the destination's own keys set, without those of the tables in it."""
    raw = found.raw
    if isinstance(raw, dict):
        raw = {key: value for key, value in raw.items() if key not in TABLES}
    return read_table(
        raw, DESTINATION_KEYS, found.table, found.where, reading, also_known=TABLES, unset=unset
    )


def _note(error: ConfigError, found: FoundDestination, reading: Reading) -> None:
    """A problem of the key that the error names."""
    key = error.key or ""
    message = error.message.removeprefix(f"{key}: ")
    reading.add(message, found.key(key), found.where, hint=error.hint)


def _resolved(
    view: DestinationConfig, preset: Preset | None, found: FoundDestination, reading: Reading
) -> DestinationConfig:
    """The view, blocked if one of its secrets is not set."""
    try:
        headers = resolve_headers(view, reading.resolver.environ)
    except SecretUnset as error:
        return msgspec.structs.replace(view, blocked_reason=error.message)
    if preset is not None:
        _warn_of_prefixes(headers, preset, view, found, reading)
    return view


def _check_view(
    view: DestinationConfig, preset: Preset | None, found: FoundDestination, reading: Reading
) -> None:
    """What the preset leaves to the user must be there."""
    if preset is None:
        return
    word = view.signal.word
    given = {name.lower(): value.reveal() for name, value in view.headers.items()}
    key = "headers" if word == preset.default_signals[0] else f"{word}_headers"
    for header in preset.headers_of(word):
        value = given.get(header.name.lower(), "")
        if TOKEN in value or (header.is_required and not value):
            is_general = header in preset.headers
            reading.add(
                f'preset {preset.name} needs header {header.name} = "{header.template}", '
                f"{TOKEN} being: {header.asks}",
                found.key("headers" if is_general else key),
                found.where,
                hint=f"it is found at: {header.found_at}" if header.found_at else None,
            )


def _warn_of_prefixes(
    headers: Mapping[str, str],
    preset: Preset,
    view: DestinationConfig,
    found: FoundDestination,
    reading: Reading,
) -> None:
    """A token without its Bearer or Basic is the commonest reason of a refusal."""
    values = {name.lower(): value for name, value in headers.items()}
    for header in preset.headers_of(view.signal.word):
        value = values.get(header.name.lower())
        if value is not None and not value.lower().startswith(header.prefix.lower()):
            warning = (
                f"{found.where}: {found.key('headers')}.{header.name} does not begin with "
                f'"{header.prefix}", and {preset.name} wants "{header.template}"'
            )
            if warning not in reading.warnings:
                reading.warnings.append(warning)


def _check_pairs(
    found: FoundDestination, fields: Mapping[str, Any], preset: Preset | None, reading: Reading
) -> None:
    """What must be there, and what goes together."""
    if not isinstance(found.raw, dict):
        return
    given = {name for name, value in found.raw.items() if value != ""}
    missing_endpoint = "endpoint" not in found.raw and not all(
        f"{signal.word}_endpoint" in given for signal in signals_of(dict(fields), preset)
    )
    endpoint = fields.get("endpoint", "")
    is_left_open = preset is not None and any(f"{{{n}}}" in endpoint for n in preset.placeholders)
    if preset is not None and (is_left_open or (missing_endpoint and preset.placeholders)):
        names = " and ".join(preset.placeholders)
        fault = f"still has {{{names}}} in it" if is_left_open else "is missing"
        urls = " or ".join(f'"{url}"' for url in preset.all_endpoints)
        reading.add(
            f"{fault}: preset {preset.name} cannot know the {names}",
            found.key("endpoint"),
            found.where,
            hint=f"write the whole URL: {urls}",
        )
    elif missing_endpoint and "preset" not in given:
        reading.add(
            "is missing",
            found.key("endpoint"),
            found.where,
            hint='write the whole URL, such as "https://collector.example:4318/v1/traces"',
        )
    pair = {"client_cert", "client_key"}
    for missing in pair - given if pair & given else ():
        reading.add(
            "is missing: client_cert and client_key go together", found.key(missing), found.where
        )


def _warn(views: Sequence[DestinationConfig], found: FoundDestination, reading: Reading) -> None:
    source = views[0].source
    if source is not None and isinstance(found.raw, dict) and _has_literal(found.raw):
        reading.warn_if_exposed(source, "a secret")
    for view in views:
        url = urlsplit(view.endpoint)
        if not url.netloc:
            continue
        place = f"{found.where}: {found.key('endpoint')}: {view.shown_endpoint}"
        if url.port == 4317:
            reading.warnings.append(
                f"{place} is the port of gRPC; OTLP over HTTP is mostly on 4318"
            )
        if url.path in {"", "/"}:
            reading.warnings.append(
                f"{place} has no path, and none is added: mostly it is /v1/{view.signal.word}"
            )
        if url.scheme == "http" and view.headers and not view.is_loopback:
            what = "spans" if view.signal is Signal.TRACES else view.signal.word
            reading.warnings.append(f"{place} is not https: headers and {what} travel in the clear")


def _has_literal(raw: dict[str, Any]) -> bool:
    """Whether a text that is likely a secret stands in the table itself."""
    tables = [raw.get(key) or {} for key in ("headers", "logs_headers", "metrics_headers")]
    if any(
        not has_reference(value) and (_SECRET_HEADER.search(name) or len(value) >= _LONG)
        for headers in tables
        for name, value in headers.items()
    ):
        return True
    urls = [raw.get(key, "") for key in (*ENDPOINT_KEYS, "proxy")]
    return any(("@" in url or "?" in url) and not has_reference(url) for url in urls)


def with_environment(
    found: list[FoundDestination], environ: Mapping[str, str], reading: Reading
) -> list[FoundDestination]:
    """The destinations and, made of OTEL_EXPORTER_OTLP_*, one named env.

    The rules are those of the OTLP exporter specification: the variable for a signal wins over the
    general one, an empty one counts as unset, only the general endpoint is a base. Logs and metrics
    are for it only where they have an endpoint of their own: applications have the general one for
    whatever they make.
    """
    where = "the environment (destinations_from_env)"
    try:
        table = _table_of_environment(environ, reading.warnings)
    except ConfigError as error:
        reading.add(error.message, "", where, hint=error.hint)
        return found
    if table is None:
        reading.warnings.append(
            "destinations_from_env is true, but neither OTEL_EXPORTER_OTLP_ENDPOINT nor that of a "
            "signal, such as OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, is set"
        )
        return found
    return [*found, FoundDestination("env", table, "destinations.env", where, None)]


def _table_of_environment(environ: Mapping[str, str], warnings: list[str]) -> dict[str, Any] | None:
    """The variables as a table of a destination; None without an endpoint.

    Raises ConfigError, which repeats no header's value.
    """
    endpoints = _endpoints_of(environ, warnings)
    if not endpoints:
        return None
    first, *others = endpoints
    table: dict[str, Any] = {
        "signals": [signal.word for signal in endpoints],
        "encoding": "protobuf",
        **{_endpoint_key(signal): escape(url) for signal, url in endpoints.items()},
    }
    headers = table["headers"] = _headers_of(environ, first)
    for signal in others:
        own = _headers_of(environ, signal)
        table[f"{signal.word}_headers"] = dict.fromkeys(headers.keys() - own.keys(), "") | own
    for signal in endpoints:
        variable, value = _variable(environ, "PROTOCOL", signal)
        if value.lower() == "grpc":
            raise ConfigError(
                f"{variable} is grpc, and this relay speaks no gRPC",
                hint='set it to "http/protobuf" or "http/json" and the endpoint to that port',
            )
    variable, value = _variable(environ, "PROTOCOL", first)
    if value:
        if value.lower() not in {"http/protobuf", "http/json"}:
            raise ConfigError(f'{variable} must be "http/protobuf" or "http/json", not {value!r}')
        table["encoding"] = value.lower().removeprefix("http/")
    variable, value = _variable(environ, "COMPRESSION", first)
    if value:
        if value.lower() not in {"none", "gzip"}:
            raise ConfigError(f'{variable} must be "gzip" or "none", not {value!r}')
        table["compression"] = value.lower()
    variable, value = _variable(environ, "TIMEOUT", first)
    if value:
        if not _MILLISECONDS.fullmatch(value):
            raise ConfigError(f"{variable} must be milliseconds, such as 10000, not {value!r}")
        table["timeout"] = f"{value}ms"
    return table | _files_of_environment(environ, first)


def _endpoint_key(signal: Signal) -> str:
    return "endpoint" if signal is Signal.TRACES else f"{signal.word}_endpoint"


def _headers_of(environ: Mapping[str, str], signal: Signal) -> dict[str, str]:
    variable, value = _variable(environ, "HEADERS", signal)
    return {name: escape(content) for name, content in _header_pairs(variable, value)}


def _files_of_environment(environ: Mapping[str, str], signal: Signal) -> dict[str, str]:
    """The certificates. A client's is a pair."""
    found = {name: _variable(environ, name, signal) for name in _FILES}
    pair = ("CLIENT_CERTIFICATE", "CLIENT_KEY")
    for one, other in (pair, pair[::-1]):
        if found[one][1] and not found[other][1]:
            raise ConfigError(f"{found[one][0]} is set, and no {found[other][0]}: both are needed")
    return {
        _FILES[name]: escape(str(Path(value).absolute()))
        for name, (_, value) in found.items()
        if value
    }


def _variable(environ: Mapping[str, str], name: str, signal: Signal) -> tuple[str, str]:
    """Name and value of the variable that counts: that for the signal, if it is not empty."""
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.name}_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        if value := environ.get(variable, "").strip():
            return variable, value
    return f"OTEL_EXPORTER_OTLP_{name}", ""


def _endpoints_of(environ: Mapping[str, str], warnings: list[str]) -> dict[Signal, str]:
    """The URL of each signal that has one of its own; of traces by the general one, too."""
    found = {}
    for signal in Signal:
        variable, url = _variable(environ, "ENDPOINT", signal)
        is_general = variable == "OTEL_EXPORTER_OTLP_ENDPOINT"
        if not url or (is_general and signal is not Signal.TRACES):
            continue
        try:
            parts = parse_url(url)
        except ConfigError as error:
            raise ConfigError(f"{variable} {error.message}") from None
        if is_general:
            found[signal] = _with_path(parts, variable, warnings)
        else:
            found[signal] = urlunsplit(parts._replace(path=parts.path or "/"))
    return found


def _with_path(parts: SplitResult, variable: str, warnings: list[str]) -> str:
    """The URL for traces by the general one."""
    path = parts.path.rstrip("/")
    base = _SIGNAL_PATH.sub("", path)
    if base != path:
        warnings.append(
            f"{variable} is a base, to which /v1/traces is appended, and it ends in "
            f"{path.removeprefix(base)} already: taken as if it did not. For a whole URL there is "
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
        )
    return urlunsplit(parts._replace(path=f"{base}/v1/traces"))


def _header_pairs(variable: str, value: str) -> list[list[str]]:
    """`k1=v1,k2=v2` as in W3C Baggage: trimmed, percent-decoded, split at the first = only."""
    pairs = []
    for number, item in enumerate(value.split(","), start=1):
        if not item.strip():
            continue
        name, equals, content = item.partition("=")
        if not equals:
            raise ConfigError(
                f"entry {number} of {variable} has no =",
                hint='write "name=value,name=value", a comma in a value as %2C',
            )
        try:
            pairs.append([unquote(part.strip(), errors="strict") for part in (name, content)])
        except UnicodeDecodeError:
            raise ConfigError(f"entry {number} of {variable} is not UTF-8 once decoded") from None
    return pairs
