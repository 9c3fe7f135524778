"""What the configuration says, as frozen structs with every default; `config.load` makes them.

A stage gets its struct, never the whole. Sizes are bytes and durations seconds, as the names of
the fields say; the keys that people write are in `config.keys` and `docs/configuration.md`.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct

from relay.config.fleet import FleetConfig
from relay.config.presets import Temporality
from relay.config.sample import SampleConfig
from relay.config.secrets import Resolver, Secret, mask_url, read_text
from relay.config.steps import AttributesConfig, ProcessConfig, RedactConfig
from relay.config.urls import split_url
from relay.model import hosts
from relay.model.errors import ConfigError, SecretUnset
from relay.model.records import Signal

MIB = 2**20
GRPC_PORT = 4317  # where exporters speak OTLP/gRPC unless told otherwise
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # a token of RFC 9110, 5.6.2
_EXAMPLES = 'for example "localhost:4318", "0.0.0.0:4318" or "[::]:4318"'
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")


class ListenAddress(NamedTuple):
    """A host and a port to listen on. Port 0 lets the system choose.

    "localhost" stands for 127.0.0.1 and, where there is one, ::1; the listener resolves it.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return hosts.joined(self.host, self.port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach it; a name other than localhost counts as not."""
        return hosts.is_loopback(self.host)

    @property
    def reachable(self) -> "ListenAddress":
        """What to connect to for what is listened on."""
        address = hosts.ip_of(self.host)
        if not hosts.is_wildcard(self.host) and self.host != "localhost":
            return self
        host = "::1" if address is not None and address.version == 6 else "127.0.0.1"
        return ListenAddress(host, self.port)

    @classmethod
    def parse(cls, text: str) -> "ListenAddress":
        """Read "host:port" or "[v6]:port". Raises ConfigError with what would be right."""
        host, colon, port = text.rpartition(":")
        if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise ConfigError('must be "host:port", with a port from 0 to 65535', hint=_EXAMPLES)
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            is_host = hosts.ip_of(host) is not None and ":" in host
        elif ":" in host:
            raise ConfigError("needs brackets around its IPv6 address", hint=_EXAMPLES)
        else:
            is_host = _HOST_NAME.fullmatch(host) is not None
        if not is_host:
            raise ConfigError("must name a host", hint=_EXAMPLES)
        return cls(host.lower(), int(port))


class IngestConfig(Struct, frozen=True, kw_only=True):
    """`[ingest]`: where spans are taken, from whom and how much at a time."""

    listen: tuple[ListenAddress, ...] = (ListenAddress("localhost", 4318),)
    """Addresses to listen on; without tokens, loopback only."""
    max_body_bytes: int = 64 * MIB
    """Largest body, before and after decompression; above it 413."""
    max_in_flight_bytes: int = 128 * MIB
    """Bytes of requests not yet answered, unzipped ones included; above it 503."""
    tokens: tuple[Secret, ...] = ()
    """Bearer tokens, any of which a sender must show; none: no sender is asked."""
    tokens_for: Literal["all", "remote"] = "all"
    """Who must show one; remote: those who are not on this host."""
    allowed_hosts: tuple[str, ...] = ()
    """More names by which senders without a token may call the relay; "*" for any."""
    trusted_proxies: tuple[hosts.IpNetwork, ...] = ()
    """Peers whose X-Forwarded-For or Forwarded tells the sender's address, for display only."""
    grpc_hint: bool = False
    """Listen on port 4317 too, to tell gRPC exporters that they must speak HTTP."""
    signals: tuple[Signal, ...] | None = None
    """What is taken; None: what some destination wants, and everything where there is none."""
    malformed_ids: Literal["auto", "reject", "derive"] = "auto"
    """What becomes of ids that are not hex of the right length; auto derives for OpenRouter."""
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may post spans: "https://*.example.org" too, "*" for any."""
    tls_cert: Path | None = None
    """PEM file of the certificate chain; with tls_key it makes the listener https."""
    tls_key: Path | None = None
    """PEM file of its private key."""


class EnrichConfig(Struct, frozen=True, kw_only=True):
    """`[enrich]`: the resource attributes added where the sender has none."""

    detect: tuple[Literal["host", "os", "env"], ...] = ("host", "os")
    """What is found out of this host, for senders on this host only; env is the daemon's own
    OTEL_RESOURCE_ATTRIBUTES."""
    attributes: dict[str, str] = {}
    """Attributes for every sender."""


class BufferConfig(Struct, frozen=True, kw_only=True):
    """`[buffer]`: what may be kept on disk, how long and how surely."""

    max_size_bytes: int = 1024 * MIB
    """Database, write-ahead log and reserve together."""
    min_free_bytes: int = 256 * MIB
    """Space left on the file system below which nothing more is taken: 503."""
    keep_delivered_seconds: float = 3600.0
    """How long delivered spans stay for replay and `where`; 0 deletes at once."""
    history_bytes: int = 64 * MIB
    """What may be remembered, for `where`, of spans that have gone; 0 remembers nothing."""
    when_full: Literal["refuse", "drop-oldest"] = "refuse"
    """At max_size: answer 503, or drop the oldest."""
    sync: Literal["full", "normal"] = "full"
    """full survives the crash of the host, normal that of the process."""


class AdminConfig(Struct, frozen=True, kw_only=True):
    """`[admin]`: health, metrics and the control API."""

    listen: tuple[ListenAddress, ...] = (ListenAddress("127.0.0.1", 4380),)
    """Addresses to listen on, loopback only."""
    health_listen: tuple[ListenAddress, ...] = ()
    """Addresses that others may reach, for probes: /healthz and /readyz, nothing else."""


class TelemetryConfig(Struct, frozen=True, kw_only=True):
    """`[telemetry]`: what the relay tells of itself beside its metrics and its log."""

    traces_to: str = ""
    """Name of the destination that gets the relay's own spans; empty: there are none."""


class DestinationConfig(Struct, frozen=True, kw_only=True):
    """`[destinations.NAME]`, or a file of `destinations.d`: one upstream.

    The one struct of a destination: couriers, exchanges and the connection test go by it as it is.
    Its headers are templates, since secrets may change while it stands: `resolve_headers`.

    The last six fields are not keys: they tell what a view of it is for, where it was read and
    why it cannot be used.
    """

    name: str
    """Its name in commands, metrics and the buffer."""
    endpoint: str
    """The URL for traces as it is, nothing appended; empty only if its secret is not set."""
    signals: tuple[Signal, ...] = (Signal.TRACES,)
    """What it gets of what is kept."""
    logs_endpoint: str = ""
    """The URL for logs as it is; empty: by the preset, or as `endpoint` with its path replaced."""
    metrics_endpoint: str = ""
    """The URL for metrics, likewise."""
    headers: dict[str, Secret] = {}
    """Templates of header values, by name; `resolve_headers` fills in the secrets."""
    logs_headers: dict[str, Secret] = {}
    """Laid over `headers` in requests with logs; an empty value removes one."""
    metrics_headers: dict[str, Secret] = {}
    """Likewise with metrics."""
    encoding: Literal["auto", "json", "protobuf"] = "auto"
    """auto: as each batch came in."""
    temporality: Temporality = "any"
    """Which sums and histograms it takes; others become dead letters before they are sent."""
    compression: Literal["auto", "none", "gzip"] = "auto"
    """auto: none to loopback, else gzip."""
    timeout_seconds: float = 30.0
    """Deadline of one exchange; the time that its body needs is added."""
    ca_file: Path | None = None
    """PEM file of the authorities to trust; none: those of the system."""
    client_cert: Path | None = None
    """PEM file of the certificate to show; needs client_key."""
    client_key: Path | None = None
    """PEM file of its private key."""
    proxy: str = "auto"
    """auto: the environment's, for what is not loopback; else none, or a URL."""
    max_batch_bytes: int = 4 * MIB
    """Largest body of one request, before compression."""
    max_batch_items: int = 8192
    """Most spans, log records or data points of one request."""
    concurrency: int = 1
    """Requests at once while there is a backlog, 1 to 4."""
    hold_seconds: float | None = 86_400.0
    """How long a failing destination's spans stay when space is short; None for ever."""
    max_age_seconds: float | None = None
    """Age at which undelivered spans become dead letters; None never."""
    special_doubles: Literal["keep", "string", "drop"] = "keep"
    """What becomes of NaN and Infinity in attributes."""
    match: str = ""
    """A condition in CEL; what does not match is not owed to it. Empty: everything does."""
    redact: RedactConfig = RedactConfig()
    """What it must not see."""
    attributes: AttributesConfig = AttributesConfig()
    """Attributes that are set, renamed or deleted for it."""
    sample: SampleConfig = SampleConfig()
    """Which traces it gets; a table of its own."""
    paused: bool = False
    """Keep what it is owed, send nothing."""
    preset: str | None = None
    """Name of the preset that filled in what was not written; None for none."""

    signal: Signal = Signal.TRACES
    """What this view of it is for: endpoint, headers and limits are those of this signal."""
    by_signal: tuple["DestinationConfig", ...] = ()
    """A view for each of `signals`; `views` has them."""
    source: Path | None = None
    """The file it was read from; None for the environment."""
    folder: Path = Path("/")
    """Where relative paths of its secrets start."""
    blocked_reason: str = ""
    """Why nothing could be sent when it was read; empty if it could."""
    reload_reason: str = ""
    """The part of it that only a reload can mend."""

    def __repr__(self) -> str:
        return f"DestinationConfig(name={self.name!r}, endpoint={self.shown_endpoint!r})"

    @property
    def shown_endpoint(self) -> str:
        """The endpoint for people: userinfo and query masked."""
        return mask_url(self.endpoint)

    @property
    def views(self) -> tuple["DestinationConfig", ...]:
        """The destination as each of its signals sees it: one queue and one courier each."""
        return self.by_signal or (self,)

    def view_of(self, signal: Signal) -> "DestinationConfig | None":
        """The destination as that signal sees it; None if it gets nothing of it."""
        return next((view for view in self.views if view.signal is signal), None)

    @property
    def problem(self) -> str:
        """Why nothing can be sent, or not every signal; empty if all can."""
        reasons = {view.signal.word: view.blocked_reason for view in self.views}
        if len(set(reasons.values())) == 1:
            return self.blocked_reason
        return "; ".join(f"{word}: {reason}" for word, reason in reasons.items() if reason)

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is this machine by its spelling, without asking DNS."""
        return hosts.is_this_machine(split_url(self.endpoint).hostname or "")

    @property
    def has_steps(self) -> bool:
        """Whether anything is done to its items between the buffer and the request."""
        return bool(self.match or self.redact or self.attributes) or self.is_sampled

    @property
    def is_sampled(self) -> bool:
        """Whether it gets not all of this view's signal. Metrics are no parts of traces."""
        return self.sample.is_on and self.signal is not Signal.METRICS

    @property
    def header_names(self) -> tuple[str, ...]:
        """The headers as configured, for status before the first request."""
        return tuple(self.headers)


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration, as `config.load` read it."""

    state_dir: Path
    """Folder of the buffer and the admin token; $STATE_DIRECTORY or below $XDG_STATE_HOME."""
    ingest: IngestConfig = IngestConfig()
    """`[ingest]`."""
    enrich: EnrichConfig = EnrichConfig()
    """`[enrich]`."""
    buffer: BufferConfig = BufferConfig()
    """`[buffer]`."""
    admin: AdminConfig = AdminConfig()
    """`[admin]`."""
    telemetry: TelemetryConfig = TelemetryConfig()
    """`[telemetry]`."""
    fleet: FleetConfig | None = None
    """`[fleet]`; None: one relay, whose log is SQLite."""
    process: ProcessConfig = ProcessConfig()
    """`[process]`."""
    destinations: tuple[DestinationConfig, ...] = ()
    """`[destinations.NAME]` and destinations_dir, in the order of their names."""
    destinations_dir: Path | None = None
    """Folder of saved destinations; by default destinations.d beside the configuration."""
    destinations_from_env: bool = False
    """Whether OTEL_EXPORTER_OTLP_* make a destination named env."""

    says_signals: bool = False
    """Whether any key says what is taken; files of versions that knew spans alone do not."""
    source: Path | None = None
    """The file it was read from; None if there is none."""
    warnings: tuple[str, ...] = ()
    """What works and yet somebody should look at."""

    def destination(self, name: str) -> DestinationConfig | None:
        """The destination of that name, if there is one."""
        return next((each for each in self.destinations if each.name == name), None)

    @property
    def taken_signals(self) -> tuple[Signal, ...]:
        """What ingest takes: as it is set, or what some destination wants."""
        if self.ingest.signals is not None:
            return self.ingest.signals
        wanted = {signal for each in self.destinations for signal in each.signals}
        return tuple(sorted(wanted or Signal))

    @property
    def looked_back_seconds(self) -> float:
        """How old rows may be that a restart looks at again, to know what was decided by them: as
        old as one that is decided now, and what was known of it when it came.
        """
        samples = [each.sample for each in self.destinations if each.sample.keeps_whole]
        return max((2 * sample.wait_seconds for sample in samples), default=0.0)

    @property
    def destination_problems(self) -> dict[str, str]:
        """Why destinations cannot send now, by name."""
        return {d.name: d.problem for d in self.destinations if d.problem}


def resolve_headers(
    destination: DestinationConfig, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The headers with their secrets, files read anew; for the courier before each probe.

    Raises SecretUnset with the reason, which names no value, while anything that the destination
    needs is absent: a secret, a certificate's file, or what only a reload can mend.
    """
    if destination.reload_reason:
        raise SecretUnset(destination.reload_reason)
    for key in ("ca_file", "client_cert", "client_key"):
        path: Path | None = getattr(destination, key)
        if path is not None:
            try:
                read_text(path)
            except ConfigError as error:
                raise SecretUnset(f"{key} {path} cannot be read: {error.message}") from None
    resolver = Resolver(os.environ if environ is None else environ, destination.folder)
    resolved = {}
    for name, template in destination.headers.items():
        value = resolver.expand(template.reveal())
        if fault := header_value_fault(value):
            raise SecretUnset(f"the value of header {name} {fault}")
        resolved[name] = value
    return resolved


def header_value_fault(value: str) -> str | None:
    """What is wrong with a header value, without showing it; None if it may be sent.

    RFC 9110, 5.5: visible characters of latin-1 with blanks and tabs between them.
    """
    if any(character in value for character in "\r\n\0"):
        return "has a line break or a NUL in it"
    if value != value.strip(" \t"):
        return "begins or ends with a blank"
    if any(ord(c) > 0xFF or (ord(c) < 0x20 and c != "\t") or ord(c) == 0x7F for c in value):
        return "has a character that no header can carry"
    return None


def points_at(destination: DestinationConfig, listen: Iterable[ListenAddress]) -> bool:
    """Whether the endpoint is one of these addresses of ours, without asking any name server."""
    if not destination.endpoint:
        return False
    url = urlsplit(destination.endpoint)
    port = url.port or (443 if url.scheme == "https" else 80)
    host = url.hostname or ""
    return any(port == own.port and hosts.leads_to(host, own.host) for own in listen)


def _needs_restart(old: FleetConfig | None, new: FleetConfig | None) -> bool:
    return old != new and (old is None or new is None or old.needs_restart(new))


def changes_needing_restart(old: Config, new: Config) -> list[str]:
    """The keys whose change a reload cannot take up."""
    checks = {
        "state_dir": old.state_dir != new.state_dir,
        "ingest.listen": old.ingest.listen != new.ingest.listen,
        "ingest.grpc_hint": old.ingest.grpc_hint != new.ingest.grpc_hint,
        "ingest.tls_cert": (old.ingest.tls_cert is None) != (new.ingest.tls_cert is None),
        "fleet": _needs_restart(old.fleet, new.fleet),
        "buffer.sync": old.buffer.sync != new.buffer.sync,
        "admin.listen": old.admin.listen != new.admin.listen,
        "admin.health_listen": old.admin.health_listen != new.admin.health_listen,
        "telemetry.traces_to": old.telemetry.traces_to != new.telemetry.traces_to,
    }
    return [key for key, is_changed in checks.items() if is_changed]
