"""The status document in, the Prometheus text of `/metrics` out.

One source for both, so that the page, `otlp-relay status` and the metrics cannot disagree.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector, CollectorRegistry

STATES = ("idle", "delivering", "waiting", "blocked", "paused")
COUNTER, GAUGE = CounterMetricFamily, GaugeMetricFamily
Kind = type[CounterMetricFamily] | type[GaugeMetricFamily]

# Each metric by name: where its value stands in the status document, and its help.
COUNTERS: Final = {
    "requests": ("ingest.requests", "Requests by response status."),
    "received_bytes": ("ingest.received_bytes", "Bytes of bodies, uncompressed."),
    "refused": (
        "ingest.refused",
        "Requests refused, by status, and connections that brought no HTTP/1.1, by kind.",
    ),
    "connections_closed": (
        "ingest.connections_closed",
        "Connections closed for exceeding a limit.",
    ),
    "helper_jobs": ("helper.jobs", "Large bodies given to the process that decodes them."),
    "helper_restarts": ("helper.restarts", "Restarts of the process that decodes large bodies."),
    "helper_failures": ("helper.failures", "Large bodies that could not be decoded, by reason."),
    "dead_letters_dropped": (
        "buffer.dead_letters_dropped",
        "Dead letters evicted for space or age.",
    ),
    "commits": ("buffer.commits", "Transactions, each synced."),
    "commit_seconds": ("buffer.commit_seconds_sum", "Seconds spent in commits."),
}
# Of each signal: where its value stands in that part of the document, and what it is counted by.
SIGNAL_COUNTERS: Final = {
    "received_spans": ("received", "Spans, log records and data points decoded.", ""),
    "kept_spans": ("kept", "Spans, log records and data points committed and acknowledged.", ""),
    "processed_spans": (
        "processed",
        "Items that [process] dropped or redacted before they were kept.",
        "step",
    ),
    "rejected_spans": ("rejected", "Spans, log records and data points refused.", "reason"),
    "warnings": ("warnings", "Flaws for which nothing is rejected.", "code"),
}
GAUGES: Final = {
    "ready": ("ready", "1 while what comes can be kept."),
    "uptime_seconds": ("uptime_seconds", "Seconds since the start."),
    "helper_resident_bytes": (
        "helper.resident_bytes",
        "Resident memory of the process that decodes large bodies.",
    ),
    "helper_waiting": ("helper.waiting", "Large bodies waiting to be decoded, or being decoded."),
    "buffer_bytes": ("buffer.bytes_on_disk", "Bytes on disk: database, WAL and reserve."),
    "buffer_max_bytes": ("buffer.max_bytes", "The limit that is set, max_size."),
    "buffer_reserve_bytes": ("buffer.reserve_bytes", "Bytes reserved for a full disk."),
    "buffer_owed_bytes": (
        "buffer.owed_bytes_on_disk",
        "Bytes on disk of rows that are owed to some destination.",
    ),
    "buffer_full_in_seconds": (
        "buffer.full_in_seconds",
        "Seconds until it is full at the present rate; absent while it is not filling.",
    ),
    "buffer_full": ("buffer.is_full", "1 while the buffer is full and accepts nothing."),
    "buffer_rows": ("buffer.rows", "Rows kept."),
    "buffer_spans": ("buffer.spans", "Spans, log records and data points kept."),
    "buffer_writable": ("buffer.is_writable", "1 while the buffer can be written to."),
    "dead_letters": ("buffer.dead_letters", "Dead letters kept."),
    "dead_letters_by_destination": (
        "buffer.dead_letters_by_destination",
        "Dead letters kept, by destination; ingest: refused on the way in.",
    ),
}
# Where the value is a number a label value, and the label is not `destination`.
LABELS: Final = {
    "requests": "status",
    "refused": "reason",
    "connections_closed": "limit",
    "helper_failures": "reason",
}
# Of each destination, likewise.
DESTINATION_COUNTERS: Final = {
    "delivered_spans": ("delivered_spans", "Spans or other items that the upstream accepted."),
    "refused_spans": (
        "refused_spans",
        "Spans or other items that the upstream refused, or that it was not sent.",
    ),
    "upstream_requests": ("requests", "Requests sent to the upstream."),
    "overflowed_traces": (
        "overflowed_traces",
        "Traces worth keeping whole, beyond those remembered by their ids: others go with them.",
    ),
}
DESTINATION_GAUGES: Final = {
    "waiting_spans": (
        "waiting_spans",
        "Spans or other items owed and not delivered yet, without those held.",
    ),
    "held_spans": (
        "held_spans",
        "Spans or other items that wait for the rest of their traces, as their sample asks.",
    ),
    "waiting_bytes": ("waiting_bytes", "Bytes of what waits, uncompressed."),
    "in_flight_spans": ("in_flight_spans", "Spans or other items in requests in flight."),
    "stepped_around_spans": (
        "stepped_around_spans",
        "Those of them that are parked: the upstream fails at them, others go first.",
    ),
    "oldest_undelivered_age_seconds": (
        "oldest_waiting_seconds",
        "Seconds that the oldest of it has waited.",
    ),
}


class _Document(Collector):
    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status, destinations = self._status, self._status["destinations"]
        signals = status["ingest"]["signals"]
        yield metric(
            GAUGE, "build_info", "Version of the relay.", {status["version"]: 1}, "version"
        )
        for kind, table in ((COUNTER, COUNTERS), (GAUGE, GAUGES)):
            for name, (place, text) in table.items():
                value = status
                for key in place.split("."):
                    value = value[key]
                if value is not None:
                    yield metric(kind, name, text, value, LABELS.get(name, "destination"))
        for name, (key, text, label) in SIGNAL_COUNTERS.items():
            yield of_signals(name, text, label, {s: d[key] for s, d in signals.items()})
        for kind, table in ((COUNTER, DESTINATION_COUNTERS), (GAUGE, DESTINATION_GAUGES)):
            for name, (key, text) in table.items():
                yield _by_destination(kind, name, text, {_key(d): d[key] for d in destinations})
        yield _by_destination(
            GAUGE,
            "blocked",
            "1 while the upstream refuses and somebody should look.",
            {_key(d): d["state"] == "blocked" for d in destinations},
        )
        yield _by_destination(
            GAUGE,
            "removed_waiting_spans",
            "Spans or other items owed to what left the configuration: put it back, or drop them.",
            {_key(each): each["waiting_spans"] for each in status["removed"]},
        )
        yield from _of_steps(destinations)
        yield _by_destination(
            COUNTER,
            "evicted_spans",
            "Undelivered spans, log records and data points evicted for space.",
            {
                (each["destination"], each["signal"]): each["items"]
                for each in status["buffer"]["evicted"]
            },
        )
        buffer = status["buffer"]
        yield metric(
            GAUGE,
            "commit_seconds_recent",
            "Seconds that the last 512 commits took.",
            {"0.5": buffer["commit_seconds_p50"], "0.99": buffer["commit_seconds_p99"]},
            "quantile",
        )
        states = GaugeMetricFamily(
            "otlp_relay_destination_state",
            "1 for the state that a destination is in.",
            labels=["destination", "signal", "state"],
        )
        for each in destinations:
            for state in STATES:
                states.add_metric([*_key(each), state], each["state"] == state)
        yield states


def _of_steps(destinations: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    """What the steps of destinations did; without a sample where there are none."""
    for name, text in (
        ("filtered_spans", "Items that were not for a destination, by the step that said so."),
        ("changed_spans", "Items that a step changed on their way."),
        ("failed_conditions", "Items for which the condition of a step could not be told."),
    ):
        family = CounterMetricFamily(
            f"otlp_relay_{name}", text, labels=["destination", "signal", "step"]
        )
        for each in destinations:
            for step, number in each[name].items():
                family.add_metric([*_key(each), step], number)
        yield family


def families(status: dict[str, Any]) -> Iterator[Metric]:
    """Every metric of one status document."""
    return _Document(status).collect()


def render(status: dict[str, Any]) -> tuple[bytes, str]:
    """The exposition of one status document, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Document(status))
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _key(destination: Mapping[str, Any]) -> tuple[str, str]:
    return destination["name"], destination["signal"]


def _by_destination(
    kind: Kind, name: str, text: str, values: Mapping[tuple[str, str], float]
) -> Metric:
    family = kind(f"otlp_relay_{name}", text, labels=["destination", "signal"])
    for labels, number in values.items():
        family.add_metric(labels, number)
    return family


def metric(
    kind: Kind,
    name: str,
    text: str,
    value: float | Mapping[str, float],
    label: str = "destination",
) -> Metric:
    """A single sample, or one a value of `label` where `value` is by that."""
    if not isinstance(value, Mapping):
        return kind(f"otlp_relay_{name}", text, value=value)
    family = kind(f"otlp_relay_{name}", text, labels=[label])
    for of, number in value.items():
        family.add_metric([of], number)
    return family


def of_signals(name: str, text: str, label: str, values: Mapping[str, Any]) -> Metric:
    """A counter with the label `signal`, and with `label` where there is one."""
    labels = ["signal", label] if label else ["signal"]
    family = CounterMetricFamily(f"otlp_relay_{name}", text, labels=labels)
    for signal, value in values.items():
        for of, number in value.items() if label else (("", value),):
            family.add_metric([signal, of] if label else [signal], number)
    return family
