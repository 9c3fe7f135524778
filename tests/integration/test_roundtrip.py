"""Every field of the schema survives the whole way, whatever encoding comes in and goes out.

check → enrich (with nothing to add) → pieces → batch, with the official protobuf classes as the
oracle and the mock collector's own reading of JSON: neither shares code with the relay.
"""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mockcollector.otlp_json import decode_request
from relay.config import DestinationConfig
from relay.deliver.batches import make_batch
from relay.model.records import Encoding, StoredRow
from relay.process.prepare import Prepare, PrepareSettings
from tests.support.builders import protobuf_twin, requests, to_body
from tests.support.examples import examples

SETTINGS = DestinationConfig(name="up", endpoint="http://127.0.0.1:1/v1/traces")


def way(body: bytes, came_in: Encoding, goes_out: Encoding, limit_bytes: int) -> bytes:
    """The body of the request to an upstream, for a request body as it came in."""
    checked = Prepare(PrepareSettings(malformed_ids="reject")).check(body, came_in)
    rows = [
        StoredRow(number, 0, piece.encoding, piece.flags, piece.items, piece.body)
        for number, piece in enumerate(checked.request.pieces(limit_bytes), 1)
    ]
    if not rows:  # nothing was kept, so there is nothing to send
        return b"{}" if goes_out is Encoding.JSON else b""
    return make_batch(rows, goes_out, SETTINGS, gzips=False).content


def read(body: bytes, encoding: Encoding) -> ExportTraceServiceRequest:
    """A body as an independent reader takes it."""
    if encoding is Encoding.PROTOBUF:
        return ExportTraceServiceRequest.FromString(body)
    return decode_request(body)[0]


def flat(message: ExportTraceServiceRequest) -> list[bytes]:
    """Each span with its scope and resource, as bytes that compare: cutting may repeat these."""
    found = []
    for entry in message.resource_spans:
        for scope in entry.scope_spans:
            for span in scope.spans:
                alone = ExportTraceServiceRequest()
                one = alone.resource_spans.add(schema_url=entry.schema_url)
                if entry.HasField("resource"):
                    one.resource.CopyFrom(entry.resource)
                within = one.scope_spans.add(schema_url=scope.schema_url)
                if scope.HasField("scope"):
                    within.scope.CopyFrom(scope.scope)
                within.spans.add().CopyFrom(span)
                found.append(alone.SerializeToString(deterministic=True))
    return found


@pytest.mark.parametrize("goes_out", list(Encoding))
@pytest.mark.parametrize("came_in", list(Encoding))
@given(request=requests, limit_bytes=st.sampled_from([1, 300, 10**6]))
@settings(max_examples=examples(150), deadline=None)
def test_request_arrives_field_for_field(
    came_in: Encoding, goes_out: Encoding, request: dict[str, Any], limit_bytes: int
) -> None:
    twin = protobuf_twin(request)
    body = to_body(request) if came_in is Encoding.JSON else twin.SerializeToString()
    arrived = read(way(body, came_in, goes_out, limit_bytes), goes_out)

    assert flat(arrived) == flat(twin)
