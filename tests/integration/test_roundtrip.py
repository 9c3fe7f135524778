"""Every field of the schema survives the whole way, whatever encoding comes in and goes out.

check → enrich (with nothing to add) → pieces → batch, with the official protobuf classes as the
oracle and the mock collector's own reading of JSON: neither shares code with the relay.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    SummaryDataPoint,
)

from mockcollector.otlp_json import decode_request
from relay.config import DestinationConfig
from relay.deliver.batches import make_batch
from relay.model.records import Encoding, StoredRow
from relay.otlp.signals import METRICS, TRACES, WIRE, SignalWire
from relay.otlp.split import slice_items
from relay.process.prepare import Prepare, PrepareSettings
from tests.support.builders import json_twin, protobuf_twin, requests, to_body
from tests.support.examples import examples
from tests.support.otlp_messages import messages_of

SETTINGS = DestinationConfig(name="up", endpoint="http://127.0.0.1:1/v1/traces")
NO_RECORDED_VALUE = 1
ID_BYTES = {"trace_id": 16, "span_id": 8}


def way(
    body: bytes,
    came_in: Encoding,
    goes_out: Encoding,
    wire: SignalWire,
    *,
    limit_bytes: int,
    most_items: int,
) -> Iterator[bytes]:
    """The bodies of the requests to an upstream, for a request body as it came in.

    It is cut on the way in at `limit_bytes`, and on the way out at `most_items`.
    """
    prepare = Prepare(PrepareSettings(malformed_ids="reject"))
    checked = prepare.check(body, came_in, signal=wire.signal)
    for number, piece in enumerate(checked.request.pieces(limit_bytes), 1):
        for first in range(0, piece.items, most_items):
            count = min(most_items, piece.items - first)
            part = slice_items(piece.body, piece.encoding, first, count, wire.signal)
            row = StoredRow(
                number, 0, piece.encoding, piece.flags, count, part, first, signal=wire.signal
            )
            yield make_batch([row], goes_out, SETTINGS, gzips=False).content


def read(body: bytes, encoding: Encoding, wire: SignalWire) -> Any:
    """A body as an independent reader takes it."""
    if encoding is Encoding.PROTOBUF:
        return wire.request.FromString(body)
    message, unknown = decode_request(body, wire.request)
    assert not unknown
    return message


def items_in(message: Any, wire: SignalWire) -> Iterator[bytes]:
    """Each item with all that it is within, as bytes that compare: cutting may repeat these."""
    entries, scopes, records = wire.lists[Encoding.PROTOBUF]
    for entry in getattr(message, entries):
        for scope in getattr(entry, scopes):
            for record in getattr(scope, records):
                for item in points_in(record) if wire is METRICS else [record]:
                    alone: Any = wire.request()
                    one = getattr(alone, entries).add(schema_url=entry.schema_url)
                    within = getattr(one, scopes).add(schema_url=scope.schema_url)
                    for source, copy, name in ((entry, one, "resource"), (scope, within, "scope")):
                        if source.HasField(name):
                            getattr(copy, name).CopyFrom(getattr(source, name))
                    getattr(within, records).add().CopyFrom(item)
                    yield alone.SerializeToString(deterministic=True)


def points_in(metric: Any) -> Iterator[Message]:
    """The metric once for each of its points, with that point alone."""
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points if kind else ():
        alone: Any = Metric()
        alone.CopyFrom(metric)
        del getattr(alone, kind).data_points[:]
        getattr(alone, kind).data_points.add().CopyFrom(point)
        yield alone


def make_valid(message: Any) -> None:
    """What senders may not do, and what the relay mends or leaves out for that, is taken away."""
    for name in ID_BYTES.keys() & message.DESCRIPTOR.fields_by_name.keys():
        held = getattr(message, name)
        if len(held) != ID_BYTES[name] or not any(held):
            message.ClearField(name)
    if (mend := MENDS.get(type(message))) is not None:
        mend(message)
    for field, held in message.ListFields():
        if field.message_type is not None:
            for each in held if field.is_repeated else [held]:
                make_valid(each)


def without_index(message: Any) -> None:
    """Indices are for profiles."""
    if isinstance(message, KeyValue):
        message.ClearField("key_strindex")
    elif message.WhichOneof("value") == "string_value_strindex":
        message.Clear()


def with_name(message: Any) -> None:
    message.name = message.name or "m"


def with_time(message: Any) -> None:
    message.time_unix_nano = message.time_unix_nano or 1


def with_either_time(message: Any) -> None:
    if not message.observed_time_unix_nano:
        with_time(message)


def with_value(message: Any) -> None:
    if message.WhichOneof("value") is None:
        message.as_int = 0


def with_value_and_time(message: Any) -> None:
    with_time(message)
    if message.WhichOneof("value") is None:
        message.flags |= NO_RECORDED_VALUE


MENDS: dict[type[Message], Callable[[Any], None]] = {
    AnyValue: without_index,
    KeyValue: without_index,
    LogRecord: with_either_time,
    Metric: with_name,
    Exemplar: with_value,
    NumberDataPoint: with_value_and_time,
    HistogramDataPoint: with_time,
    ExponentialHistogramDataPoint: with_time,
    SummaryDataPoint: with_time,
}


def valid_messages(wire: SignalWire) -> st.SearchStrategy[Any]:
    """Valid requests in normal form: what comes out of the relay is equal to what went in."""
    if wire is TRACES:
        return requests.map(protobuf_twin)

    def mended(message: Any) -> Any:
        make_valid(message)
        return message

    return messages_of(wire.request.DESCRIPTOR).map(mended)


@pytest.mark.parametrize("goes_out", list(Encoding))
@pytest.mark.parametrize("came_in", list(Encoding))
@pytest.mark.parametrize("wire", WIRE.values(), ids=[wire.items for wire in WIRE.values()])
@given(data=st.data(), limit_bytes=st.sampled_from([1, 300, 10**6]), most_items=st.integers(1, 5))
@settings(max_examples=examples(50), deadline=None)
def test_request_arrives_field_for_field(
    wire: SignalWire,
    came_in: Encoding,
    goes_out: Encoding,
    data: st.DataObject,
    limit_bytes: int,
    most_items: int,
) -> None:
    sent = data.draw(valid_messages(wire))
    body = to_body(json_twin(sent)) if came_in is Encoding.JSON else sent.SerializeToString()
    bodies = way(body, came_in, goes_out, wire, limit_bytes=limit_bytes, most_items=most_items)
    arrived = [read(each, goes_out, wire) for each in bodies]

    found = [item for each in arrived for item in items_in(each, wire)]
    assert found == list(items_in(sent, wire))
