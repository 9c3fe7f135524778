"""Our answers byte for byte."""

import json

import pytest
from google.protobuf import json_format
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from relay.model.records import Encoding, SenderResponse
from relay.otlp.responses import encode_response
from relay.otlp.signals import WIRE, SignalWire

JSON, PROTOBUF = Encoding.JSON, Encoding.PROTOBUF


@pytest.mark.parametrize(
    ("answer", "as_json", "as_protobuf"),
    [
        (SenderResponse(), b"{}", b""),
        (
            SenderResponse(message="odd"),
            b'{"partialSuccess":{"errorMessage":"odd"}}',
            b"\x0a\x05\x12\x03odd",
        ),
        (
            SenderResponse(rejected_items=300, message="bad"),
            b'{"partialSuccess":{"rejectedSpans":"300","errorMessage":"bad"}}',
            b"\x0a\x08\x08\xac\x02\x12\x03bad",
        ),
        (
            SenderResponse(rejected_items=3),
            b'{"partialSuccess":{"rejectedSpans":"3"}}',
            b"\x0a\x02\x08\x03",
        ),
        (
            SenderResponse(status=400, grpc_code=3, message="unexpected EOF"),
            b'{"code":3,"message":"unexpected EOF"}',
            b"\x08\x03\x12\x0eunexpected EOF",
        ),
        (
            SenderResponse(status=503, grpc_code=14, message="full"),
            b'{"code":14,"message":"full"}',
            b"\x08\x0e\x12\x04full",
        ),
        (SenderResponse(status=500, message="why"), b'{"message":"why"}', b"\x12\x03why"),
    ],
)
def test_encode_response_writes_exactly_these_bytes(
    answer: SenderResponse, as_json: bytes, as_protobuf: bytes
) -> None:
    assert encode_response(answer, JSON) == as_json
    assert encode_response(answer, PROTOBUF) == as_protobuf


@given(st.text(max_size=40), st.integers(1, 16))
def test_encode_response_writes_a_status_that_the_official_class_reads(
    text: str, code: int
) -> None:
    body = encode_response(SenderResponse(status=400, grpc_code=code, message=text), PROTOBUF)

    assert Status.FromString(body) == Status(code=code, message=text)


@given(st.text(max_size=40), st.integers(0, 2**63 - 1))
def test_encode_response_writes_a_response_that_the_official_class_reads(
    text: str, rejected: int
) -> None:
    answer = SenderResponse(message=text, rejected_items=rejected)
    partial = ExportTraceServiceResponse.FromString(
        encode_response(answer, PROTOBUF)
    ).partial_success
    as_json = json.loads(encode_response(answer, JSON)).get("partialSuccess", {})

    assert (partial.rejected_spans, partial.error_message) == (rejected, text)
    assert as_json.get("errorMessage", "") == text
    assert as_json.get("rejectedSpans", "0") == str(rejected)


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("status", [200, 400])
def test_encode_response_cuts_the_message_at_a_character_border(
    encoding: Encoding, shift: int, status: int
) -> None:
    text = "x" * shift + "😀" * 400
    body = encode_response(SenderResponse(status=status, message=text, grpc_code=3), encoding)
    start = body.index(b"\xf0\x9f\x98\x80") - shift
    message = body[start:].removesuffix(b'"}').removesuffix(b'"}}').removesuffix(b'"').decode()

    assert message.endswith("😀…")
    assert text.startswith(message[:-1])
    assert 1020 < len(message.encode()) <= 1024


def test_encode_response_keeps_a_message_of_just_1024_bytes() -> None:
    text = "x" * 1024

    assert json.loads(encode_response(SenderResponse(message=text), JSON)) == {
        "partialSuccess": {"errorMessage": text}
    }


def test_encode_response_survives_a_message_that_utf8_cannot_hold() -> None:
    for encoding in Encoding:
        assert b"cut ?" in encode_response(
            SenderResponse(status=400, message="cut \ud83d"), encoding
        )


@pytest.mark.parametrize("wire", WIRE.values(), ids=lambda wire: wire.path)
def test_each_signal_counts_rejected_items_under_its_own_name(wire: SignalWire) -> None:
    response = SenderResponse(rejected_items=7, message="why")

    as_json = json.loads(encode_response(response, JSON, wire.signal))
    official = wire.response.FromString(encode_response(response, PROTOBUF, wire.signal))

    name = {"/v1/traces": "Spans", "/v1/logs": "LogRecords", "/v1/metrics": "DataPoints"}[wire.path]
    assert as_json == {"partialSuccess": {f"rejected{name}": "7", "errorMessage": "why"}}
    assert json_format.MessageToDict(official) == as_json
