"""What a courier is told: frozen settings in, small facts derived from them out."""

from dataclasses import dataclass, field
from typing import Literal

from relay.upstream.routes import is_loopback_host, split_url

ENCODINGS = ("auto", "json", "protobuf")

EncodingChoice = Literal["auto", "json", "protobuf"]
CompressionChoice = Literal["auto", "none", "gzip"]
SpecialDoubles = Literal["keep", "string", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSettings:
    """One destination, as the daemon derives it from the configuration.

    `endpoint` is the traces URL, used as it is. `proxy` is `auto`, `none` or a URL. Headers are
    not here: the courier resolves them by a function, since they hold secrets that may change.
    """

    name: str
    endpoint: str = field(repr=False)  # may hold a password
    encoding: EncodingChoice = "auto"
    compression: CompressionChoice = "auto"
    timeout_seconds: float = 30.0
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    proxy: str = field(default="auto", repr=False)
    max_batch_bytes: int = 4 * 1024 * 1024
    max_batch_spans: int = 8192
    concurrency: int = 1  # requests in flight at most, while there is a backlog
    hold_seconds: float | None = 86_400.0  # None: rows are held for it for ever
    max_age_seconds: float | None = None  # older rows are set aside instead of sent
    special_doubles: SpecialDoubles = "keep"
    paused: bool = False
    blocked_reason: str = ""  # what only a reload can mend: nothing is tried until then
    header_names: tuple[str, ...] = ()  # as configured, for status before the first request

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is this machine by its spelling, without asking DNS."""
        return is_loopback_host(split_url(self.endpoint).hostname or "")
