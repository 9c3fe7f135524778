"""Where the data points of a metric in protobuf are; in JSON `messages_metrics` tells."""

from collections.abc import MutableSequence
from typing import Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric


def points_of(metric: Metric) -> MutableSequence[Any]:
    """The points of a metric, of whatever kind; an empty list where it is not known."""
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind else []
