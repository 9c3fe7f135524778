"""What a path that is not served was meant to be: the usual slips of exporters' settings. Pure."""

import re
from typing import Final

from relay.otlp.signals import LOGS, METRICS, TRACES
from relay.otlp.words import clean

OTHERS: Final = f"log records to {LOGS.path}, metrics to {METRICS.path}"
_MOST_CHARACTERS: Final = 100
_LOOK_CHARACTERS: Final = 500  # a path may be as long as all headers together
_SLASHES: Final = re.compile(r"/{2,}")
_BASE: Final = (
    "an endpoint for one signal alone is used as it is, so append the path to it, or set "
    "OTEL_EXPORTER_OTLP_ENDPOINT, to which exporters append it"
)
_DOUBLED: Final = (
    "it stands there twice: exporters append it to OTEL_EXPORTER_OTLP_ENDPOINT, which must be "
    "without it"
)
_SIGNAL: Final = "/v1/(?:traces|logs|metrics)"
# The first that is found in the path, in lower case, tells.
_SLIPS: Final = (
    (r"^/?$", _BASE),
    (rf"{_SIGNAL}/v1/", _DOUBLED),
    (rf"^{_SIGNAL}/?$", "paths are in lower case"),
    (rf"{_SIGNAL}/?$", "nothing stands before it here"),
    (r"^/opentelemetry\.proto\.", "that is gRPC's: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
    (r"^/api/v[12]/spans|^/api/traces", "that is Zipkin's or Jaeger's: use an OTLP exporter"),
    (r"^/v1(/(trace|spans?|otlp))?/?$|^/(otlp|traces?)/?$", _BASE),
)  # fmt: skip


def collapsed(path: str) -> str:
    """The path with one slash where several stand: bases that end with one make two of it."""
    return _SLASHES.sub("/", path)


def not_found(path: str) -> str:
    """What the sender of a request to `path` is told."""
    path = path[:_LOOK_CHARACTERS]
    shown = clean(path, _MOST_CHARACTERS)
    said = f"{shown} is not here: spans go by POST to {TRACES.path}, {OTHERS}"
    for slip, words in _SLIPS:
        if re.search(slip, path.lower()):
            return f"{said}; {words}"
    return said
