"""The struct of a destination, from its table or from the variables OTEL_EXPORTER_OTLP_*.

A secret that is not set, or a certificate's file that cannot be read, blocks the destination and
leaves the configuration usable; anything else that is wrong is a problem of the configuration.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from relay.config import DestinationConfig, IngestConfig, points_at, resolve_headers
from relay.config.fields import DESTINATION_KEYS, parse_url
from relay.config.presets import TOKEN, Preset, find
from relay.config.secrets import Secret, escape, has_reference
from relay.config.tables import Reading, read_table
from relay.model.errors import ConfigError, SecretUnset

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
NAME_RULE = "use letters, digits, _ and -, starting with a letter or digit"
_SECRET_HEADER = re.compile(
    r"auth|token|key|secret|pass|cookie|credential|honeycomb-team", re.IGNORECASE
)
_LONG = 20  # a value of this length is more likely a secret than the name of a data set
_OF_PRESETS = ("encoding", "compression", "max_batch_bytes", "max_batch_spans", "max_age")


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
    fields = read_table(found.raw, DESTINATION_KEYS, found.table, found.where, reading, unset=unset)
    _check_pairs(found, reading)
    preset = find(fields["preset"]) if fields.get("preset") else None
    if preset is not None and isinstance(found.raw, dict):
        fill_in(fields, found.raw, preset)
        _check_preset(fields, preset, found, reading)
    if len(reading.problems) > problems_before:
        return None
    destination = DestinationConfig(
        **{"endpoint": "", **fields},
        name=found.name,
        source=found.source,
        folder=reading.resolver.folder,
        reload_reason="; ".join(error.message for error in unset),
    )
    if points_at(destination, ingest.listen):
        reading.add(
            f'"{destination.shown_endpoint}" is this relay itself',
            found.key("endpoint"),
            found.where,
            hint="name the upstream; apps are pointed at the relay, the relay at what is behind it",
        )
        return None
    _warn(destination, found, reading)
    try:
        headers = resolve_headers(destination, reading.resolver.environ)
    except SecretUnset as error:
        return msgspec.structs.replace(destination, blocked_reason=error.message)
    if preset is not None:
        _warn_of_prefixes(headers, preset, found, reading)
    return destination


def fill_in(fields: dict[str, Any], written: Mapping[str, Any], preset: Preset) -> None:
    """Put into `fields` what the preset knows and the table `written` does not say itself.

    An endpoint with placeholders is left out, and so are headers that hold what only the user
    has. Names of headers are compared as HTTP does, without case.
    """
    if "endpoint" not in written and not preset.placeholders:
        fields["endpoint"] = preset.endpoint
    for key in _OF_PRESETS:
        field = DESTINATION_KEYS[key].field
        known = getattr(preset, field)
        if key not in written and known is not None:
            fields[field] = known
    headers: dict[str, Secret] = fields.get("headers", {})
    given = {name.lower() for name in headers}
    fixed = {
        each.name: Secret(escape(each.template))
        for each in preset.headers
        if each.is_fixed and each.name.lower() not in given
    }
    if fixed:
        fields["headers"] = {**headers, **fixed}


def _check_preset(
    fields: dict[str, Any], preset: Preset, found: FoundDestination, reading: Reading
) -> None:
    """What the preset leaves to the user must be there."""
    raw = found.raw if isinstance(found.raw, dict) else {}
    endpoint = fields.get("endpoint", "")
    is_left_open = any(f"{{{name}}}" in endpoint for name in preset.placeholders)
    if is_left_open or ("endpoint" not in raw and preset.placeholders):
        names = " and ".join(preset.placeholders)
        fault = f"still has {{{names}}} in it" if is_left_open else "is missing"
        urls = " or ".join(f'"{url}"' for url in preset.all_endpoints)
        reading.add(
            f"{fault}: preset {preset.name} cannot know the {names}",
            found.key("endpoint"),
            found.where,
            hint=f"write the whole URL: {urls}",
        )
    if "headers" in raw and "headers" not in fields:
        return  # they have a problem of their own
    given = {name.lower(): value.reveal() for name, value in fields.get("headers", {}).items()}
    for header in preset.headers:
        value = given.get(header.name.lower(), "")
        if TOKEN in value or (header.is_required and not value):
            reading.add(
                f'preset {preset.name} needs header {header.name} = "{header.template}", '
                f"{TOKEN} being: {header.asks}",
                found.key("headers"),
                found.where,
                hint=f"it is found at: {header.found_at}" if header.found_at else None,
            )


def _warn_of_prefixes(
    headers: Mapping[str, str], preset: Preset, found: FoundDestination, reading: Reading
) -> None:
    """A token without its Bearer or Basic is the commonest reason of a refusal."""
    values = {name.lower(): value for name, value in headers.items()}
    for header in preset.headers:
        value = values.get(header.name.lower())
        if value is not None and not value.lower().startswith(header.prefix.lower()):
            reading.warnings.append(
                f"{found.where}: {found.key('headers')}.{header.name} does not begin with "
                f'"{header.prefix}", and {preset.name} wants "{header.template}"'
            )


def _check_pairs(found: FoundDestination, reading: Reading) -> None:
    """What must be there, and what goes together."""
    if not isinstance(found.raw, dict):
        return
    given = {name for name, value in found.raw.items() if value != ""}
    if "endpoint" not in found.raw and "preset" not in given:
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


def _warn(destination: DestinationConfig, found: FoundDestination, reading: Reading) -> None:
    if destination.source is not None and isinstance(found.raw, dict) and _has_literal(found.raw):
        reading.warn_if_exposed(destination.source, "a secret")
    if not destination.endpoint:
        return
    url = urlsplit(destination.endpoint)
    place = f"{found.where}: {found.key('endpoint')}: {destination.shown_endpoint}"
    if url.port == 4317:
        reading.warnings.append(f"{place} is the port of gRPC; OTLP over HTTP is mostly on 4318")
    if url.path in {"", "/"}:
        reading.warnings.append(f"{place} has no path, and none is added: mostly it is /v1/traces")
    if url.scheme == "http" and destination.headers and not destination.is_loopback:
        reading.warnings.append(f"{place} is not https: headers and spans travel in the clear")


def _has_literal(raw: dict[str, Any]) -> bool:
    """Whether a text that is likely a secret stands in the table itself."""
    headers = raw.get("headers") or {}
    if any(
        not has_reference(value) and (_SECRET_HEADER.search(name) or len(value) >= _LONG)
        for name, value in headers.items()
    ):
        return True
    urls = [raw.get("endpoint", ""), raw.get("proxy", "")]
    return any(("@" in url or "?" in url) and not has_reference(url) for url in urls)


def with_environment(
    found: list[FoundDestination], environ: Mapping[str, str], reading: Reading
) -> list[FoundDestination]:
    """The destinations and, made of OTEL_EXPORTER_OTLP_*, one named env.

    The rules are those of the OTLP exporter specification: the variable for traces wins over the
    general one, an empty one counts as unset, only the general endpoint is a base.
    """
    where = "the environment (destinations_from_env)"
    try:
        table = _table_of_environment(environ)
    except ConfigError as error:
        reading.add(error.message, "", where, hint=error.hint)
        return found
    if table is None:
        reading.warnings.append(
            "destinations_from_env is true, but neither OTEL_EXPORTER_OTLP_ENDPOINT nor "
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set"
        )
        return found
    return [*found, FoundDestination("env", table, "destinations.env", where, None)]


def _table_of_environment(environ: Mapping[str, str]) -> dict[str, Any] | None:
    """The variables as a table of a destination; None without an endpoint.

    Raises ConfigError, which repeats no header's value.
    """
    endpoint = _endpoint_of(environ)
    if endpoint is None:
        return None
    table: dict[str, Any] = {"endpoint": escape(endpoint), "encoding": "protobuf"}
    variable, value = _variable(environ, "HEADERS")
    if value:
        table["headers"] = {
            name: escape(content) for name, content in _header_pairs(variable, value)
        }
    variable, value = _variable(environ, "PROTOCOL")
    if value.lower() == "grpc":
        raise ConfigError(
            f"{variable} is grpc, and this relay speaks no gRPC",
            hint='set it to "http/protobuf" or "http/json" and the endpoint to that port',
        )
    if value:
        if value.lower() not in {"http/protobuf", "http/json"}:
            raise ConfigError(f'{variable} must be "http/protobuf" or "http/json", not {value!r}')
        table["encoding"] = value.lower().removeprefix("http/")
    variable, value = _variable(environ, "COMPRESSION")
    if value:
        if value.lower() not in {"none", "gzip"}:
            raise ConfigError(f'{variable} must be "gzip" or "none", not {value!r}')
        table["compression"] = value.lower()
    _, value = _variable(environ, "CERTIFICATE")
    if value:
        table["ca_file"] = escape(str(Path(value).absolute()))
    return table


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """Name and value of the variable that counts: that for traces, if it is not empty."""
    for variable in (f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        if value := environ.get(variable, "").strip():
            return variable, value
    return f"OTEL_EXPORTER_OTLP_{name}", ""


def _endpoint_of(environ: Mapping[str, str]) -> str | None:
    variable, url = _variable(environ, "ENDPOINT")
    if not url:
        return None
    try:
        parts = parse_url(url)
    except ConfigError as error:
        raise ConfigError(f"{variable} {error.message}") from None
    if variable.endswith("TRACES_ENDPOINT"):
        return urlunsplit(parts._replace(path=parts.path or "/"))
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/v1/traces"))


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
