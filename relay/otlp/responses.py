"""Bodies of our responses to senders (`upstream_response` reads those of upstreams).

They are exactly what OTLP/HTTP demands: 200 with the signal's response, everything else with a
google.rpc.Status, in the encoding of the request.
"""

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess

from relay.model.records import Encoding, SenderResponse, Signal
from relay.otlp.signals import WIRE, SignalWire
from relay.otlp.words import cut

MAX_MESSAGE_BYTES = 1024
"""A sender reads at most 4 MiB of a response; our own words take no more than this of it."""


def encode_response(
    response: SenderResponse, encoding: Encoding, signal: Signal = Signal.TRACES
) -> bytes:
    """Give the body that says `response`: OTLP/HTTP's success, partial success or Status.

    `signal` is that of the request: each names rejected items in its own way.

    A message of more than 1 KB is cut at a character's border and ends in an ellipsis.
    """
    if response.status == 200 and not response.rejected_items and not response.message:
        return b"{}" if encoding is Encoding.JSON else b""
    message = cut(response.message, MAX_MESSAGE_BYTES)
    if response.status == 200:
        return _encode_partial(response.rejected_items, message, encoding, WIRE[signal])
    return _encode_status(response.grpc_code, message, encoding)


def _encode_partial(rejected: int, message: str, encoding: Encoding, wire: SignalWire) -> bytes:
    if encoding is Encoding.PROTOBUF:
        counted = {wire.rejected[encoding]: rejected}
        partial = wire.partial(error_message=message, **counted)
        return wire.response(partial_success=partial).SerializeToString()
    # int64 is a string in JSON; a field at its default is left out.
    fields: dict[str, str] = {}
    if rejected:
        fields[wire.rejected[encoding]] = str(rejected)
    if message:
        fields["errorMessage"] = message
    return msgspec.json.encode({"partialSuccess": fields})


def _encode_status(grpc_code: int, message: str, encoding: Encoding) -> bytes:
    if encoding is Encoding.PROTOBUF:
        # The first two fields of google.rpc.Status, int32 code and string message, have the
        # numbers and the wire types of this message's; a third dependency is not worth them.
        status = ExportTracePartialSuccess(rejected_spans=grpc_code, error_message=message)
        return status.SerializeToString()
    fields: dict[str, int | str] = {"code": grpc_code} if grpc_code else {}
    return msgspec.json.encode({**fields, "message": message})
