"""Where the texts of a message are: which of its fields are texts, attributes, values or messages
that hold any. Told by the official descriptors for both encodings, so that a field that a newer
schema brings is not forgotten.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from relay.model.records import Encoding

_KEY_VALUE: Final = common_pb2.KeyValue.DESCRIPTOR
_ANY_VALUE: Final = common_pb2.AnyValue.DESCRIPTOR
# Of a metric the points are items of their own.
_POINTS: Final = {field.name for field in metrics_pb2.Metric.DESCRIPTOR.oneofs[0].fields}


@dataclass(frozen=True, slots=True)
class Plan:
    """The names of fields, as the encoding has them, and the plans of messages in them."""

    texts: tuple[str, ...] = ()
    lists_of_texts: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    singles: tuple[tuple[str, "Plan"], ...] = ()
    lists: tuple[tuple[str, "Plan"], ...] = ()

    def __bool__(self) -> bool:
        return bool(
            self.texts
            or self.lists_of_texts
            or self.attributes
            or self.values
            or self.singles
            or self.lists
        )


@cache
def plan_of(descriptor: Descriptor, encoding: Encoding) -> Plan:
    """The plan of a message of this type."""
    found: dict[str, list[Any]] = {}
    for field in descriptor.fields:
        name = field.camelcase_name if encoding is Encoding.JSON else field.name
        if field.type == FieldDescriptor.TYPE_STRING:
            found.setdefault("lists_of_texts" if field.is_repeated else "texts", []).append(name)
        elif field.message_type is _KEY_VALUE:
            found.setdefault("attributes", []).append(name)
        elif field.message_type is _ANY_VALUE:
            found.setdefault("values", []).append(name)
        elif field.message_type is not None:
            if descriptor is metrics_pb2.Metric.DESCRIPTOR and field.name in _POINTS:
                continue
            inner = plan_of(field.message_type, encoding)
            if inner:
                kind = "lists" if field.is_repeated else "singles"
                found.setdefault(kind, []).append((name, inner))
    return Plan(**{kind: tuple(each) for kind, each in found.items()})


RESOURCE: Final = resource_pb2.Resource.DESCRIPTOR
SCOPE: Final = common_pb2.InstrumentationScope.DESCRIPTOR
METRIC: Final = metrics_pb2.Metric.DESCRIPTOR
ITEMS: Final[Mapping[str, Descriptor]] = {
    "Span": trace_pb2.Span.DESCRIPTOR,
    "LogRecord": logs_pb2.LogRecord.DESCRIPTOR,
    "NumberDataPoint": metrics_pb2.NumberDataPoint.DESCRIPTOR,
    "HistogramDataPoint": metrics_pb2.HistogramDataPoint.DESCRIPTOR,
    "ExponentialHistogramDataPoint": metrics_pb2.ExponentialHistogramDataPoint.DESCRIPTOR,
    "SummaryDataPoint": metrics_pb2.SummaryDataPoint.DESCRIPTOR,
}
"""The types of items, by the names that both structs and official classes have."""
