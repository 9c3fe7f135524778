"""Which keys each table has, which field each fills and how its value is read."""

from relay.config import patterns, step_keys
from relay.config.fields import (
    Key,
    attributes,
    boolean,
    duration,
    endpoint,
    file_path,
    headers,
    integer,
    list_of,
    listen_list,
    literal,
    one_of,
    own_endpoint,
    path,
    preset,
    proxy,
    read_by,
    readable_file,
    signals,
    signals_or_auto,
    size,
    token,
)

TOP_KEYS = {
    "state_dir": Key("state_dir", path),
    "destinations_dir": Key("destinations_dir", path),
    "destinations_from_env": Key("destinations_from_env", boolean),
}
INGEST_KEYS = {
    "listen": Key("listen", listen_list()),
    "max_body": Key("max_body_bytes", size(1)),
    "max_in_flight": Key("max_in_flight_bytes", size(1)),
    "tokens": Key("tokens", list_of(token)),
    "tokens_for": Key("tokens_for", one_of("all", "remote")),
    "allowed_hosts": Key("allowed_hosts", list_of(read_by(patterns.host_pattern))),
    "trusted_proxies": Key("trusted_proxies", list_of(read_by(patterns.network))),
    "grpc_hint": Key("grpc_hint", boolean),
    "signals": Key("signals", signals_or_auto),
    "malformed_ids": Key("malformed_ids", one_of("auto", "reject", "derive")),
    "cors_origins": Key("cors_origins", list_of(read_by(patterns.origin))),
    "tls_cert": Key("tls_cert", readable_file),
    "tls_key": Key("tls_key", readable_file),
}
ENRICH_KEYS = {
    "detect": Key("detect", list_of(one_of("host", "os", "env"))),
    "attributes": Key("attributes", attributes),
}
BUFFER_KEYS = {
    "max_size": Key("max_size_bytes", size(2**20)),
    "min_free": Key("min_free_bytes", size()),
    "keep_delivered": Key("keep_delivered_seconds", duration()),
    "history": Key("history_bytes", size()),
    "when_full": Key("when_full", one_of("refuse", "drop-oldest")),
    "sync": Key("sync", one_of("full", "normal")),
}
ADMIN_KEYS = {
    "listen": Key("listen", listen_list()),
    "health_listen": Key("health_listen", listen_list(may_be_empty=True)),
}
TELEMETRY_KEYS = {"traces_to": Key("traces_to", literal)}
DESTINATION_KEYS = {
    "endpoint": Key(
        "endpoint",
        endpoint,
        "URL for traces, taken as it is: nothing is appended.",
        also="traces_endpoint",
    ),
    "signals": Key("signals", signals, "What it gets, such as traces,logs,metrics."),
    "logs_endpoint": Key("logs_endpoint", own_endpoint, "URL for logs, if it does not follow."),
    "metrics_endpoint": Key(
        "metrics_endpoint", own_endpoint, "URL for metrics, if it does not follow."
    ),
    "headers": Key("headers", headers),
    "logs_headers": Key("logs_headers", headers),
    "metrics_headers": Key("metrics_headers", headers),
    "encoding": Key(
        "encoding",
        one_of("auto", "json", "protobuf"),
        "auto, json or protobuf; auto: as each batch was received.",
    ),
    "compression": Key(
        "compression",
        one_of("auto", "none", "gzip"),
        "auto, none or gzip; auto is none to this host, else gzip.",
    ),
    "timeout": Key(
        "timeout_seconds", duration(may_be_zero=False), "Time limit of one request, such as 30s."
    ),
    "ca_file": Key(
        "ca_file",
        file_path,
        "PEM file of the authorities to trust instead of the system's.",
        "FILE",
    ),
    "client_cert": Key(
        "client_cert", file_path, "PEM file of the certificate to show; needs --client-key.", "FILE"
    ),
    "client_key": Key("client_key", file_path, "PEM file of its private key.", "FILE"),
    "proxy": Key("proxy", proxy, "auto, none or a URL; auto is the environment's."),
    "max_batch_bytes": Key(
        "max_batch_bytes", size(1), "Largest body of one request, such as 4MiB."
    ),
    "max_batch_items": Key(
        "max_batch_items",
        integer(1, 1_000_000),
        "Most spans, log records or data points of one request.",
        "N",
        also="max_batch_spans",
    ),
    "temporality": Key(
        "temporality",
        one_of("any", "cumulative", "delta"),
        "Metrics it takes: any, cumulative or delta.",
    ),
    "concurrency": Key(
        "concurrency", integer(1, 4), "Requests at once while there is a backlog, 1 to 4.", "N"
    ),
    "hold": Key(
        "hold_seconds",
        duration(may_be_forever=True),
        "How long what it is owed is held while it fails and space is short, such as 24h.",
    ),
    "max_age": Key(
        "max_age_seconds",
        duration(may_be_zero=False, may_be_forever=True),
        "Age at which what is not delivered becomes a dead letter, such as 7d.",
    ),
    "special_doubles": Key(
        "special_doubles",
        one_of("keep", "string", "drop"),
        "NaN and Infinity: keep, string or drop.",
    ),
    "match": Key("match", step_keys.condition, "Condition in CEL; only items that match are sent."),
    "redact": Key("redact", step_keys.redact),
    "attributes": Key("attributes", step_keys.attributes),
    "paused": Key("paused", boolean),
    "preset": Key(
        "preset",
        preset,
        "Backend whose values fill in the rest: see `destination presets`.",
    ),
}
