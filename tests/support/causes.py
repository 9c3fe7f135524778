"""Why a span did not arrive, which command says so, and in which words: the one table of it.

`tests/integration/test_causes.py` stages each row for real, and the page on troubleshooting must
have a section for each cause with the same words.
"""

from typing import NamedTuple


class Cause(NamedTuple):
    """One way to go wrong.

    `section` is a heading of docs/troubleshooting.md; several rows may share one. `command` is what
    to type behind `otlp-relay`, with TRACE for the id; each of `words` is in what it prints.
    """

    key: str
    section: str
    command: str
    words: tuple[str, ...]


CAUSES = [
    Cause(
        "path",
        "The app posts to a wrong path",
        "doctor",
        ("404 /v1/trace ", "spans go by POST to /v1/traces"),
    ),
    Cause(
        "base without a path",
        "The app posts to a wrong path",
        "doctor",
        ("404 / ", "append the path to it"),
    ),
    Cause(
        "doubled by the app",
        "The path stands there twice",
        "doctor",
        ("404 /v1/traces/v1/traces", "it stands there twice"),
    ),
    Cause(
        "doubled endpoint",
        "The path stands there twice",
        "doctor",
        ("the path of the endpoint has /v1/traces twice", "did you mean"),
    ),
    Cause(
        "grpc on 4318",
        "The app speaks gRPC",
        "doctor",
        ("a gRPC exporter connected", "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
    ),
    Cause(
        "grpc on 4317",
        "The app speaks gRPC",
        "doctor",
        ("a gRPC exporter connected", "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
    ),
    Cause(
        "token of the app",
        "A token is wrong",
        "doctor",
        ("403 /v1/traces", "unknown token in Authorization"),
    ),
    Cause(
        "token of the upstream",
        "A token is wrong",
        "doctor",
        ("401 Unauthorized", "no such key", "Authorization"),
    ),
    Cause(
        "secret",
        "A token is wrong",
        "doctor",
        ("secret ${env:NO_SUCH_TOKEN} is not set", "then restart it"),
    ),
    Cause(
        "data set",
        "A header of the vendor is missing",
        "doctor",
        ("the header X-Axiom-Dataset is not set", "set the header X-Axiom-Dataset"),
    ),
    Cause(
        "json",
        "The upstream takes no JSON",
        "doctor",
        ("refuses JSON, not protobuf", 'set encoding = "protobuf"'),
    ),
    Cause(
        "milliseconds",
        "The clock or its unit is wrong",
        "doctor",
        ("1 span with a time in milliseconds, where OTLP has nanoseconds",),
    ),
    Cause(
        "year ahead",
        "The clock or its unit is wrong",
        "doctor",
        ("1 span with a time more than an hour ahead: set the sender's clock",),
    ),
    Cause("tls to plain", "TLS fails", "doctor", ("use http:// in the endpoint",)),
    Cause("unknown authority", "TLS fails", "doctor", ("set ca_file to its authority",)),
    Cause("other name", "TLS fails", "doctor", ("is for another name than",)),
    Cause("expired", "TLS fails", "doctor", ("has expired",)),
    Cause(
        "tls from the app",
        "TLS fails",
        "doctor",
        ("TLS was spoken to a listener without a certificate", "use http://"),
    ),
    Cause(
        "proxy",
        "A variable names a wrong proxy",
        "doctor",
        ("HTTP_PROXY", 'proxy = "none"'),
    ),
    Cause(
        "large request",
        "The request is too large",
        "doctor",
        ("413 /v1/traces", "ingest.max_body", "send smaller batches"),
    ),
    Cause(
        "large span",
        "The request is too large",
        "where TRACE",
        ("dead ", "413", "too_large"),
    ),
    Cause(
        "nothing sent",
        "Nothing was sent, or it was sampled out in the app",
        "doctor",
        ("no request was kept since the start", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:"),
    ),
    Cause(
        "sampled out",
        "Nothing was sent, or it was sampled out in the app",
        "where 00-TRACE-b7ad6b7169203331-00",
        ("sampled out in the app: its traceparent ends in -00",),
    ),
    Cause(
        "paused",
        "The destination is paused",
        "where TRACE",
        ("paused by command", "`otlp-relay destination resume up` sends it"),
    ),
    Cause(
        "paused in a file",
        "The destination is paused",
        "where TRACE",
        ("paused by `paused = true` in", "remove that line, then reload"),
    ),
    Cause(
        "behind",
        "It waits behind another batch",
        "where TRACE",
        ("behind an earlier batch, which up does not accept", "next try at"),
    ),
    Cause(
        "id",
        "The id is invalid",
        "where order-4711",
        ("rejected ", "trace_id_malformed", "otlp-relay dead-letter show 1"),
    ),
    Cause(
        "port of the admin listener",
        "The app sends to a wrong port",
        "doctor",
        ("404 /v1/traces", "this is the admin listener", "set OTEL_EXPORTER_OTLP_ENDPOINT=http://"),
    ),
    Cause(
        "not running",
        "The relay does not run",
        "doctor",
        ("none is running, so nothing is accepted", "`otlp-relay serve` starts one"),
    ),
    Cause(
        "disk",
        "The disk is full",
        "doctor",
        ("running, but it keeps nothing", "the file system is full: make room on it"),
    ),
    Cause("evicted", "It was evicted", "where TRACE", ("evicted ", "space was short")),
    Cause(
        "partial success",
        "The upstream refused a part of it",
        "where TRACE",
        ("upstream_partial, 1 of 2 spans", "names are too long"),
    ),
    Cause(
        "rate limit",
        "The upstream limits the rate",
        "where TRACE",
        ("429", "slow down", "next try at"),
    ),
    Cause(
        "removed",
        "The destination was taken out of the configuration",
        "doctor",
        ("gone from the configuration", "`otlp-relay destination remove old --drop-waiting`"),
    ),
]
