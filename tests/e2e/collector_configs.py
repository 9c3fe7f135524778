"""What a Collector is to do goes in; its configuration comes out, as JSON, which is YAML too."""

import json
from collections.abc import Mapping
from typing import Any

JAEGER = "http://jaeger:4318"  # its name on the network of the containers
# Soon again: a test waits for it. Nothing is given up before the test has ended.
RETRIES = {"initial_interval": "100ms", "max_interval": "500ms", "max_elapsed_time": "0s"}


def collector_config(
    exporter: Mapping[str, Any],
    *,
    asks: Mapping[str, Any] | None = None,
    listen: str = "0.0.0.0:4318",
) -> str:
    """A Collector that takes OTLP/HTTP and exports it.

    `asks` is an authenticator's name with its settings, one pair: who may send.
    """
    extensions = dict(asks or {})
    http: dict[str, Any] = {"endpoint": listen}
    for name in extensions:
        http["auth"] = {"authenticator": name}
    return json.dumps(
        {
            "extensions": extensions,
            "receivers": {"otlp": {"protocols": {"http": http}}},
            "exporters": {"otlp_http": {"retry_on_failure": RETRIES, **exporter}},
            "service": {
                "extensions": list(extensions),
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["otlp_http"]}},
            },
        }
    )


def to_jaeger(*, token: str = "", basic: str = "") -> str:
    """A Collector in front of Jaeger that asks for a bearer token, or for a `user:password`."""
    asks: dict[str, Any] = {}
    if token:
        asks = {"bearertokenauth": {"token": token}}
    elif basic:
        asks = {"basicauth": {"htpasswd": {"inline": basic}}}
    return collector_config({"endpoint": JAEGER}, asks=asks)


def to_port(
    port: int,
    listen_port: int,
    *,
    encoding: str = "proto",
    compression: str = "gzip",
    token: str = "",
) -> str:
    """A Collector on the network of this host that sends to `port` of it and shows `token`."""
    exporter: dict[str, Any] = {
        "endpoint": f"http://127.0.0.1:{port}",
        "encoding": encoding,
        "compression": compression,
    }
    if token:
        exporter["headers"] = {"Authorization": f"Bearer {token}"}
    return collector_config(exporter, listen=f"127.0.0.1:{listen_port}")
