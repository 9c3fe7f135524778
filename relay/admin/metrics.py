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
    yield gauge("ready", "1 when a span could be kept now.", {"": float(status["ready"])})
    yield gauge("uptime_seconds", "Since the start.", {"": status["uptime_seconds"]})


def of_ingest(ingest: dict[str, Any]) -> Iterator[Metric]:
    """What came in, and what was refused."""
    yield counter("requests", "Requests by the status answered.", ingest["requests"], "status")
    yield counter("received_spans", "Spans decoded.", {"": ingest["received_spans"]})
    yield counter("received_bytes", "Body bytes, unzipped.", {"": ingest["received_bytes"]})
    yield counter("kept_spans", "Spans committed and acknowledged.", {"": ingest["kept_spans"]})
    yield counter("rejected_spans", "Spans refused, by reason.", ingest["rejected_spans"], "reason")
    yield counter("warnings", "Flaws that refuse nothing.", ingest["warnings"], "code")
    yield counter(
        "connections_closed",
        "Connections closed for passing a limit.",
        ingest["connections_closed"],
        "limit",
    )


def of_helper(helper: dict[str, Any]) -> Iterator[Metric]:
    """The process that decodes large bodies."""
    yield gauge("helper_resident_bytes", "Memory it holds.", {"": helper["resident_bytes"]})
    yield gauge("helper_waiting", "Bodies waiting for it or in hand.", {"": helper["waiting"]})
    yield counter("helper_jobs", "Bodies given to it.", {"": helper["jobs"]})
    yield counter("helper_restarts", "Times it was spawned anew.", {"": helper["restarts"]})
    yield counter("helper_failures", "Bodies it gave up.", helper["failures"], "reason")


def of_buffer(buffer: dict[str, Any]) -> Iterator[Metric]:
    """What lies on disk, and how long a commit takes."""
    yield gauge("buffer_bytes", "Database, WAL and reserve.", {"": buffer["bytes_on_disk"]})
    yield gauge("buffer_max_bytes", "The limit set.", {"": buffer["max_bytes"]})
    yield gauge("buffer_reserve_bytes", "Kept for a full disk.", {"": buffer["reserve_bytes"]})
    yield gauge(
        "buffer_owed_bytes",
        "On disk, of rows that some destination has not had.",
        {"": buffer["owed_bytes_on_disk"]},
    )
    if buffer["full_in_seconds"] is not None:
        yield gauge(
            "buffer_full_in_seconds",
            "At the rate of the last minutes; absent while it is not filling.",
            {"": buffer["full_in_seconds"]},
        )
    yield counter(
        "evicted_spans",
        "Spans that gave way for space undelivered, since ever.",
        buffer["evicted_spans"],
        "destination",
    )
    yield gauge("buffer_full", "1 while it takes nothing.", {"": float(buffer["is_full"])})
    yield gauge("buffer_rows", "Rows kept.", {"": buffer["rows"]})
    yield gauge("buffer_spans", "Spans kept.", {"": buffer["spans"]})
    yield gauge("buffer_writable", "1 when it takes spans.", {"": float(buffer["is_writable"])})
    yield gauge("dead_letters", "Dead letters kept.", {"": buffer["dead_letters"]})
    yield gauge(
        "dead_letters_by_destination",
        "Dead letters kept, by destination; ingest: spans refused on the way in.",
        buffer["dead_letters_by_destination"],
        "destination",
    )
    yield counter(
        "dead_letters_dropped",
        "Dead letters given up for space or age, ever.",
        {"": buffer["dead_letters_dropped"]},
    )
    yield counter("commits", "Transactions, each synced.", {"": buffer["commits"]})
    yield counter("commit_seconds", "Time in commits.", {"": buffer["commit_seconds_sum"]})
    yield gauge(
        "commit_seconds_recent",
        "Of the last 512 commits.",
        {"0.5": buffer["commit_seconds_p50"], "0.99": buffer["commit_seconds_p99"]},
        "quantile",
    )


def of_destinations(destinations: list[dict[str, Any]]) -> Iterator[Metric]:
    """What each destination has had, and what waits for it."""
    for name, text, key in (
        ("delivered_spans", "Spans that upstream took.", "delivered_spans"),
        ("refused_spans", "Spans that upstream refused in a partial success.", "refused_spans"),
        ("upstream_requests", "Requests sent.", "requests"),
    ):
        yield counter(name, text, {d["name"]: d[key] for d in destinations}, "destination")
    for name, text, key in (
        ("waiting_spans", "Spans owed and not delivered.", "waiting_spans"),
        ("waiting_bytes", "Their bytes, unzipped.", "waiting_bytes"),
        ("in_flight_spans", "Spans in the request now out.", "in_flight_spans"),
        (
            "stepped_around_spans",
            "Of those waiting: upstream fails at them each time and takes others, which go first.",
            "stepped_around_spans",
        ),
        (
            "oldest_undelivered_age_seconds",
            "How long the oldest owed span has waited.",
            "oldest_waiting_seconds",
        ),
    ):
        yield gauge(name, text, {d["name"]: d[key] for d in destinations}, "destination")
    yield gauge(
        "blocked",
        "1 when upstream refuses and somebody should look.",
        {d["name"]: float(d["state"] == "blocked") for d in destinations},
        "destination",
    )
    states = GaugeMetricFamily(
        "otlp_relay_destination_state",
        "1 for the state a destination is in.",
        labels=["destination", "state"],
    )
    for destination in destinations:
        for state in STATES:
            states.add_metric([destination["name"], state], float(destination["state"] == state))
    yield states
