"""The status document in, the Prometheus text of `/metrics` out.

One source for both, so that the page, `otlp-relay status` and the metrics cannot disagree.
"""

from collections.abc import Iterator
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector, CollectorRegistry

STATES = ("idle", "delivering", "waiting", "blocked", "paused")


class _Document(Collector):
    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        yield from of_daemon(self._status)
        yield from of_ingest(self._status["ingest"])
        yield from of_helper(self._status["helper"])
        yield from of_buffer(self._status["buffer"])
        yield from of_destinations(self._status["destinations"])


def render(status: dict[str, Any]) -> tuple[bytes, str]:
    """The exposition of one status document, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Document(status))
    return generate_latest(registry), CONTENT_TYPE_LATEST


def counter(name: str, text: str, values: dict[str, float], label: str | None = None) -> Metric:
    """A counter, with one sample a label value, or a single one without a label."""
    family = CounterMetricFamily(f"otlp_relay_{name}", text, labels=[label] if label else [])
    for value, number in values.items():
        family.add_metric([value] if label else [], number)
    return family


def gauge(name: str, text: str, values: dict[str, float], label: str | None = None) -> Metric:
    """A gauge, likewise."""
    family = GaugeMetricFamily(f"otlp_relay_{name}", text, labels=[label] if label else [])
    for value, number in values.items():
        family.add_metric([value] if label else [], number)
    return family


def of_daemon(status: dict[str, Any]) -> Iterator[Metric]:
    """What the process says of itself."""
    build = GaugeMetricFamily("otlp_relay_build_info", "Version of the relay.", labels=["version"])
    build.add_metric([status["version"]], 1)
    yield build
    yield gauge("ready", "1 while spans can be kept.", {"": float(status["ready"])})
    yield gauge("uptime_seconds", "Seconds since the start.", {"": status["uptime_seconds"]})


def of_ingest(ingest: dict[str, Any]) -> Iterator[Metric]:
    """What came in, and what was refused."""
    yield counter("requests", "Requests by response status.", ingest["requests"], "status")
    yield counter("received_spans", "Spans decoded.", {"": ingest["received_spans"]})
    yield counter(
        "received_bytes", "Bytes of bodies, uncompressed.", {"": ingest["received_bytes"]}
    )
    yield counter("kept_spans", "Spans committed and acknowledged.", {"": ingest["kept_spans"]})
    yield counter("rejected_spans", "Spans refused, by reason.", ingest["rejected_spans"], "reason")
    yield counter(
        "warnings", "Flaws for which nothing is rejected, by code.", ingest["warnings"], "code"
    )
    yield counter(
        "connections_closed",
        "Connections closed for exceeding a limit.",
        ingest["connections_closed"],
        "limit",
    )


def of_helper(helper: dict[str, Any]) -> Iterator[Metric]:
    """The process that decodes large bodies."""
    yield gauge(
        "helper_resident_bytes",
        "Resident memory of the process that decodes large bodies.",
        {"": helper["resident_bytes"]},
    )
    yield gauge(
        "helper_waiting",
        "Large bodies waiting to be decoded, or being decoded.",
        {"": helper["waiting"]},
    )
    yield counter(
        "helper_jobs", "Large bodies given to the process that decodes them.", {"": helper["jobs"]}
    )
    yield counter(
        "helper_restarts",
        "Restarts of the process that decodes large bodies.",
        {"": helper["restarts"]},
    )
    yield counter(
        "helper_failures",
        "Large bodies that could not be decoded, by reason.",
        helper["failures"],
        "reason",
    )


def of_buffer(buffer: dict[str, Any]) -> Iterator[Metric]:
    """What lies on disk, and how long a commit takes."""
    yield gauge(
        "buffer_bytes", "Bytes on disk: database, WAL and reserve.", {"": buffer["bytes_on_disk"]}
    )
    yield gauge("buffer_max_bytes", "The limit that is set, max_size.", {"": buffer["max_bytes"]})
    yield gauge(
        "buffer_reserve_bytes", "Bytes reserved for a full disk.", {"": buffer["reserve_bytes"]}
    )
    yield gauge(
        "buffer_owed_bytes",
        "Bytes on disk of rows that are owed to some destination.",
        {"": buffer["owed_bytes_on_disk"]},
    )
    if buffer["full_in_seconds"] is not None:
        yield gauge(
            "buffer_full_in_seconds",
            "Seconds until it is full at the present rate; absent while it is not filling.",
            {"": buffer["full_in_seconds"]},
        )
    yield counter(
        "evicted_spans",
        "Undelivered spans evicted for space.",
        buffer["evicted_spans"],
        "destination",
    )
    yield gauge(
        "buffer_full",
        "1 while the buffer is full and accepts nothing.",
        {"": float(buffer["is_full"])},
    )
    yield gauge("buffer_rows", "Rows kept.", {"": buffer["rows"]})
    yield gauge("buffer_spans", "Spans kept.", {"": buffer["spans"]})
    yield gauge(
        "buffer_writable", "1 while the buffer accepts spans.", {"": float(buffer["is_writable"])}
    )
    yield gauge("dead_letters", "Dead letters kept.", {"": buffer["dead_letters"]})
    yield gauge(
        "dead_letters_by_destination",
        "Dead letters kept, by destination; ingest: spans refused on the way in.",
        buffer["dead_letters_by_destination"],
        "destination",
    )
    yield counter(
        "dead_letters_dropped",
        "Dead letters evicted for space or age.",
        {"": buffer["dead_letters_dropped"]},
    )
    yield counter("commits", "Transactions, each synced.", {"": buffer["commits"]})
    yield counter("commit_seconds", "Seconds spent in commits.", {"": buffer["commit_seconds_sum"]})
    yield gauge(
        "commit_seconds_recent",
        "Seconds that the last 512 commits took.",
        {"0.5": buffer["commit_seconds_p50"], "0.99": buffer["commit_seconds_p99"]},
        "quantile",
    )


def of_destinations(destinations: list[dict[str, Any]]) -> Iterator[Metric]:
    """What each destination has had, and what waits for it."""
    for name, text, key in (
        ("delivered_spans", "Spans that the upstream accepted.", "delivered_spans"),
        ("refused_spans", "Spans that the upstream refused in a partial success.", "refused_spans"),
        ("upstream_requests", "Requests sent to the upstream.", "requests"),
    ):
        yield counter(name, text, {d["name"]: d[key] for d in destinations}, "destination")
    for name, text, key in (
        ("waiting_spans", "Spans owed and not delivered yet.", "waiting_spans"),
        ("waiting_bytes", "Bytes of the waiting spans, uncompressed.", "waiting_bytes"),
        ("in_flight_spans", "Spans in requests in flight.", "in_flight_spans"),
        (
            "stepped_around_spans",
            "Waiting spans that are parked: the upstream fails at them, others go first.",
            "stepped_around_spans",
        ),
        (
            "oldest_undelivered_age_seconds",
            "Seconds that the oldest owed span has waited.",
            "oldest_waiting_seconds",
        ),
    ):
        yield gauge(name, text, {d["name"]: d[key] for d in destinations}, "destination")
    yield gauge(
        "blocked",
        "1 while the upstream refuses and somebody should look.",
        {d["name"]: float(d["state"] == "blocked") for d in destinations},
        "destination",
    )
    states = GaugeMetricFamily(
        "otlp_relay_destination_state",
        "1 for the state that a destination is in.",
        labels=["destination", "state"],
    )
    for destination in destinations:
        for state in STATES:
            states.add_metric([destination["name"], state], float(destination["state"] == state))
    yield states
