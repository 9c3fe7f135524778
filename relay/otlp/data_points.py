"""Where the data points of a metric are, in either encoding's form of it."""

from collections.abc import MutableSequence
from typing import Any, Final

from msgspec import UNSET
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from relay.otlp.messages_metrics import Metric as JsonMetric

METRIC_KINDS: Final = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
"""The members of a metric's oneof `data`, as JSON spells them."""


def points_of(metric: Metric) -> MutableSequence[Any]:
    """The points of a metric in protobuf; an empty list where its kind is not known."""
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind else []


def json_points_of(metric: JsonMetric) -> list[Any]:
    """The points of a metric in JSON; an empty list where its kind is not known."""
    for kind in METRIC_KINDS:
        data = getattr(metric, kind)
        if data is not UNSET:
            points: list[Any] = data.dataPoints
            return points
    return []
