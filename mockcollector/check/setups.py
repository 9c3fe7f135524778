"""What one run of the command meets: its environment, and the collector of each signal."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from mockcollector.script_values import Answer


class Urls(enum.StrEnum):
    """How the command is told where to send."""

    SIGNAL = "signal"  # the endpoint of each signal is the usual path of a collector of its own
    BASE = "base"  # OTEL_EXPORTER_OTLP_ENDPOINT alone: one collector for all
    PATH = "path"  # the endpoint of each signal has an unusual path
    ROOT = "root"  # the endpoint of each signal has no path at all


class Tls(enum.StrEnum):
    """Whom the collector's certificate is of, and what it asks of its clients."""

    NONE = "none"
    KNOWN = "known"  # issued by the authority that the command is told
    STRANGE = "strange"  # issued by another
    ELSEWHERE = "elsewhere"  # issued by the right one for another host
    CLIENT = "client"  # as KNOWN, and clients must have a certificate, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One run. `{signal}` in texts of `script` and `environ` is the signal's name.

    `prefix` is the path of the base URL with `Urls.BASE`. With `is_late` the collectors do not
    listen before the command has surely tried. `limit_seconds`: when the command is ended, for each
    signal that it sends.
    """

    name: str
    script: tuple[Answer, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    urls: Urls = Urls.SIGNAL
    prefix: str = ""
    tls: Tls = Tls.NONE
    is_late: bool = False
    limit_seconds: float = 20.0


PATH = "/tenants/7/in"
"""The path that is unusual: of the endpoint of a signal, and behind the base URL."""

# Short, so that a command that flushes nothing is soon done; what a scenario sets goes over these.
QUICK: Mapping[str, str] = {
    "OTEL_BSP_SCHEDULE_DELAY": "100",
    "OTEL_BLRP_SCHEDULE_DELAY": "100",
}
# Batches of one item, so that there are several requests.
SINGLE: Mapping[str, str] = {
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1",
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "1",
}
