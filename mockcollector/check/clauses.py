"""The sentences of the specifications that scenarios hold an exporter to, in our own words.

Read in OTLP 1.11.0 (opentelemetry-proto, docs/specification.md) and in OpenTelemetry 1.60.0
(opentelemetry-specification, specification/protocol/exporter.md and trace/sdk.md).
"""

import enum
from dataclasses import dataclass

OTLP = "OTLP 1.11.0"
EXPORTER = "OTLP Exporter 1.60.0"
SDK = "Trace SDK 1.60.0"


class Level(enum.StrEnum):
    """How binding a clause is. `ADVICE`: no specification says it, users suffer without it."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    ADVICE = "advice"


@dataclass(frozen=True, slots=True)
class Clause:
    """What a specification demands: where it stands, and what it says."""

    level: Level
    document: str
    section: str
    words: str

    @property
    def source(self) -> str:
        """Where it stands, for people."""
        return f"{self.document}, {self.section}" if self.document else "no specification"


VALID = Clause(
    Level.MUST,
    OTLP,
    "Binary Protobuf Encoding; JSON Protobuf Encoding",
    "A request is a POST of the signal's message with the Content-Type of its encoding; in JSON, "
    "keys are lowerCamelCase and enums are numbers.",
)
BASE_URL = Clause(
    Level.MUST,
    EXPORTER,
    "Endpoint URLs for OTLP/HTTP",
    "OTEL_EXPORTER_OTLP_ENDPOINT is a base: v1/traces, v1/logs or v1/metrics is added to it.",
)
SIGNAL_URL = Clause(
    Level.MUST,
    EXPORTER,
    "Endpoint URLs for OTLP/HTTP",
    "The endpoint of one signal is used as it is; only where it has no path, the path is /.",
)
HEADERS = Clause(
    Level.MUST,
    EXPORTER,
    "Configuration Options; Specifying headers via environment variables",
    "Headers come from a list of key=value pairs in the format of W3C Baggage, whose values are "
    "percent-encoded.",
)
OVERRIDE = Clause(
    Level.MUST,
    EXPORTER,
    "Configuration Options",
    "Each option can be overridden by that of the signal.",
)
COMPRESSION = Clause(
    Level.MUST,
    EXPORTER,
    "Configuration Options",
    "Compression gzip can be configured; the request then says Content-Encoding: gzip.",
)
TIMEOUT = Clause(
    Level.MUST,
    EXPORTER,
    "Configuration Options",
    "The timeout is the longest that the exporter waits for a batch; its variable is in "
    "milliseconds.",
)
TIMEOUT_DEFAULT = Clause(
    Level.MUST,
    EXPORTER,
    "Configuration Options",
    "The exporter waits for a batch at most for the timeout, 10 s by default.",
)
PATIENCE = Clause(
    Level.SHOULD,
    EXPORTER,
    "Configuration Options",
    "The exporter waits for a batch for the timeout, 10 s by default: what is answered sooner is "
    "no failure.",
)
USER_AGENT = Clause(
    Level.SHOULD,
    EXPORTER,
    "User Agent",
    "User-Agent names the exporter, its language and its version.",
)
RETRY_STATUS = Clause(
    Level.MUST,
    EXPORTER,
    "Retry (OTLP 1.11.0, Retryable Response Codes: SHOULD)",
    "429, 502, 503 and 504 are transient: the request is retried.",
)
SAME_DATA = Clause(
    Level.SHOULD,
    OTLP,
    "All Other Responses",
    "What is sent again is the same request: ids are not made anew.",
)
BACKOFF = Clause(
    Level.MUST,
    EXPORTER,
    "Retry (OTLP 1.11.0, OTLP/HTTP Throttling: SHOULD)",
    "Retries back off exponentially, with jitter.",
)
FINAL_STATUS = Clause(
    Level.MUST,
    OTLP,
    "Retryable Response Codes",
    "Every 4xx and 5xx but 429, 502, 503 and 504 is final: the request is not retried.",
)
RETRY_AFTER = Clause(
    Level.SHOULD,
    OTLP,
    "OTLP/HTTP Throttling",
    "Retry-After is honoured, whether it is a number of seconds or an HTTP-date.",
)
PARTIAL = Clause(
    Level.MUST,
    OTLP,
    "Partial Success",
    "A request that got a partial success is not retried.",
)
PARTIAL_SAID = Clause(
    Level.ADVICE,
    "",
    "",
    "The message of a partial success is told to the user: nothing else says that data was lost.",
)
REDIRECT = Clause(
    Level.SHOULD,
    OTLP,
    "All Other Responses",
    "Other responses are treated as HTTP says: a redirect is not a success (RFC 9110 15.4). It is "
    "followed, or the failure is told.",
)
CUT = Clause(
    Level.MUST,
    EXPORTER,
    "Retry (OTLP 1.11.0, All Other Responses: SHOULD)",
    "When the server disconnects without a response, the same request is sent again.",
)
HALF_ANSWER = Clause(
    Level.ADVICE,
    "",
    "",
    "A response that ends in its middle is no response: the request is sent again, or the failure "
    "is told.",
)
CONNECT = Clause(
    Level.MUST,
    EXPORTER,
    "Retry (OTLP 1.11.0, OTLP/HTTP Connection: SHOULD)",
    "When the server cannot be connected to, the connection is tried again.",
)
KEEP_ALIVE = Clause(
    Level.SHOULD,
    OTLP,
    "OTLP/HTTP Connection",
    "The connection is kept alive between requests.",
)
STALE = Clause(
    Level.MUST,
    EXPORTER,
    "Retry (OTLP 1.11.0, All Other Responses: SHOULD)",
    "A kept connection that the server closed meanwhile loses no request: it is sent again.",
)
RESPONSE_LIMIT = Clause(
    Level.MUST,
    OTLP,
    "OTLP/HTTP Response",
    "Responses are read up to a limit, 4 MiB by default, also after decompression; a larger one is "
    "a failure that is not retried, whatever its status.",
)
RESPONSE_GZIP = Clause(
    Level.MUST,
    OTLP,
    "OTLP/HTTP Response",
    "A client that sends Accept-Encoding: gzip understands a response in gzip.",
)
SUCCESS = Clause(
    Level.MUST,
    OTLP,
    "Full Success",
    "200 is success: the request is not sent again.",
)
SHUTDOWN = Clause(
    Level.MUST,
    SDK,
    "ForceFlush and Shutdown of span processors (and of their like for logs and metrics)",
    "What was ended before the shutdown is exported before it is over.",
)
TLS_CA = Clause(
    Level.MUST,
    EXPORTER,
    "Configuration Options",
    "OTEL_EXPORTER_OTLP_CERTIFICATE is the certificate that a server is verified against.",
)
TLS_VERIFY = Clause(
    Level.MUST,
    EXPORTER,
    "Configuration Options (RFC 9110 4.3.4)",
    "Nothing is sent to a server whose certificate cannot be verified.",
)
TLS_CLIENT = Clause(
    Level.MUST,
    EXPORTER,
    "Configuration Options",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY are what the client shows to a server "
    "that asks for it.",
)
