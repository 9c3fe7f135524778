"""What the collector takes and refuses, over real sockets."""

import gzip
import http.client
import json
import socket
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from mockcollector import MockCollector, partial
from tests.support.fixtures import Fixture, fixtures_of
from tests.unit.mockcollector.exchange import (
    JSON,
    PROTOBUF,
    request_json,
    request_proto,
    send,
    span_json,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Where the collector is stricter than a relay must be, with the status that it answers.
STRICTER = {"15_enum_names": 400, "18_invalid_ids_mixed": 400, "27_invalid_utf8": 400}


@pytest.mark.parametrize("fixture", fixtures_of("traces"), ids=str)
def test_fixture_is_answered_as_the_specification_says(
    collector: MockCollector, fixture: Fixture
) -> None:
    status = STRICTER.get(fixture.name, fixture.expected["status"])
    reply = send(collector, fixture.body, headers=JSON)

    assert reply.status == status, reply.body
    assert len(collector.journal.spans()) == (fixture.expected["accepted"] if status == 200 else 0)
    if status != 200:
        assert reply.json()["code"] == 3
        assert reply.json()["message"]


def test_json_success_is_an_empty_object(collector: MockCollector) -> None:
    reply = send(collector, request_json())

    assert (reply.status, reply.body) == (200, b"{}")
    assert reply.headers["content-type"] == "application/json"
    assert "date" in reply.headers


def test_protobuf_success_is_no_bytes(collector: MockCollector) -> None:
    reply = send(collector, request_proto())

    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["content-type"] == "application/x-protobuf"
    assert collector.journal.spans()[0].name == "span 1"


def test_empty_protobuf_body_is_an_empty_request(collector: MockCollector) -> None:
    assert send(collector, b"", headers=PROTOBUF).status == 200


def test_empty_json_body_is_refused(collector: MockCollector) -> None:
    assert send(collector, b"", headers=JSON).status == 400


def test_partial_success_in_protobuf_reads_with_the_official_classes() -> None:
    with MockCollector(script=[partial(2, "bad names")]) as collector:
        reply = send(collector, request_proto(3))

    response = ExportTraceServiceResponse.FromString(reply.body)
    assert response.partial_success.rejected_spans == 2
    assert response.partial_success.error_message == "bad names"


def test_warning_in_json_leaves_rejected_spans_out() -> None:
    with MockCollector(script=[partial(0, "look here")]) as collector:
        reply = send(collector, request_json())

    assert reply.json() == {"partialSuccess": {"errorMessage": "look here"}}


def test_refusal_in_protobuf_is_a_status_with_field_violations(collector: MockCollector) -> None:
    request = request_proto(2)
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = bytes(16)

    reply = send(collector, request)

    assert (reply.status, reply.headers["content-type"]) == (400, "application/x-protobuf")
    status = status_pb2.Status.FromString(reply.body)
    assert status.code == 3
    detail = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(detail)
    assert detail.field_violations[0].field == "resourceSpans[0].scopeSpans[0].spans[1].traceId"


def test_long_status_message_keeps_its_length_in_protobuf() -> None:
    with MockCollector(script=f"503:{'x' * 300}") as collector:
        reply = send(collector, request_proto())

    assert status_pb2.Status.FromString(reply.body).message == "x" * 300


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE", "PATCH", "OPTIONS"])
def test_method_other_than_post_is_405_with_allow(collector: MockCollector, method: str) -> None:
    reply = send(collector, request_json(), method=method)

    assert (reply.status, reply.headers["allow"], reply.json()["code"]) == (405, "POST", 12)
    assert collector.journal.counts.spans_accepted == 0


@pytest.mark.parametrize("path", ["/", "/v1/traces/", "/v1/profiles", "//v1/traces"])
def test_unknown_path_is_404(collector: MockCollector, path: str) -> None:
    reply = send(collector, request_json(), path=path)

    assert (reply.status, reply.json()["code"]) == (404, 12)


def test_query_is_ignored_and_recorded(collector: MockCollector) -> None:
    assert send(collector, request_json(), path="/v1/traces?a=b").status == 200
    assert collector.journal.requests()[0].query == "a=b"


def test_path_can_be_another(collector: MockCollector) -> None:
    with MockCollector(path="/traces/otlp/v0.9") as other:
        assert other.endpoint.endswith("/traces/otlp/v0.9")
        assert send(other, request_json(), path="/traces/otlp/v0.9").status == 200
        assert send(other, request_json()).status == 404


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/protobuf", "application/json; charset=utf-16", "json", ""],
)
def test_wrong_content_type_is_415_in_json(
    collector: MockCollector, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}

    reply = send(collector, json.dumps(request_json()).encode(), headers=headers)

    assert (reply.status, reply.headers["content-type"]) == (415, "application/json")
    assert reply.json()["code"] == 3


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;"]
)
def test_content_type_may_have_charset_and_any_case(
    collector: MockCollector, content_type: str
) -> None:
    assert send(collector, b"{}", headers={"Content-Type": content_type}).status == 200


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("coding", PACKERS)
def test_compressed_body_is_unpacked(collector: MockCollector, coding: str) -> None:
    plain = json.dumps(request_json()).encode()
    packed = PACKERS[coding](plain)

    reply = send(collector, packed, headers=JSON | {"Content-Encoding": coding})

    assert reply.status == 200
    request = collector.journal.requests()[0]
    assert (request.wire_bytes, request.decoded_bytes) == (len(packed), len(plain))
    assert request.body == plain
    assert request.content_encoding == coding.lower()


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_members_are_one_body(collector: MockCollector, coding: str) -> None:
    plain = json.dumps(request_json()).encode()
    packed = PACKERS[coding](plain[:50]) + PACKERS[coding](plain[50:])

    assert send(collector, packed, headers=JSON | {"Content-Encoding": coding}).status == 200
    assert collector.journal.requests()[0].body == plain


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-5],
        lambda _: b"",
        lambda _: b"rubbish that is no archive",
        lambda packed: packed + b"more",
        lambda packed: packed[:12] + bytes([packed[12] ^ 0xFF]) + packed[13:],
    ],
    ids=["cut", "empty", "rubbish", "followed", "flipped"],
)
def test_damaged_compression_is_400(collector: MockCollector, coding: str, damage: Any) -> None:
    packed = damage(PACKERS[coding](json.dumps(request_json()).encode()))

    reply = send(collector, packed, headers=JSON | {"Content-Encoding": coding})

    assert reply.status == 400
    assert reply.json()["code"] == 3


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "snappy", "x-unknown"])
def test_unknown_coding_is_415_with_accept_encoding(collector: MockCollector, coding: str) -> None:
    reply = send(collector, b"{}", headers=JSON | {"Content-Encoding": coding})

    assert (reply.status, reply.headers["accept-encoding"]) == (415, "gzip, deflate, zstd")


def test_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_413() -> None:
    body = json.dumps(request_json()).encode()
    with MockCollector(max_body_bytes=len(body)) as collector:
        assert send(collector, body, headers=JSON).status == 200
        reply = send(collector, body + b" ", headers=JSON)
        assert (reply.status, reply.json()["code"]) == (413, 8)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_unpacked_body_over_the_limit_is_413(coding: str) -> None:
    body = json.dumps(request_json()).encode()
    headers = JSON | {"Content-Encoding": coding}
    with MockCollector(max_body_bytes=len(body)) as collector:
        assert send(collector, PACKERS[coding](body), headers=headers).status == 200
        bomb = PACKERS[coding](body + b" " * 1_000_000)
        assert send(collector, bomb, headers=headers).status == 413


def test_chunked_body_over_the_limit_is_413() -> None:
    with MockCollector(max_body_bytes=1000) as collector:
        connection = http.client.HTTPConnection(collector.host, collector.port, timeout=10)
        connection.request(
            "POST", "/v1/traces", iter([b" " * 600, b" " * 600]), JSON, encode_chunked=True
        )
        assert connection.getresponse().status == 413
        connection.close()


def test_announced_length_over_the_limit_is_413_before_the_body_comes() -> None:
    with (
        MockCollector(max_body_bytes=1000) as collector,
        socket.create_connection((collector.host, collector.port), timeout=10) as connection,
    ):
        connection.sendall(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1001\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_deflate_is_one_stream_only(collector: MockCollector) -> None:
    packed = zlib.compress(b"{") + zlib.compress(b"}")

    assert send(collector, packed, headers=JSON | {"Content-Encoding": "deflate"}).status == 400


def test_bad_link_id_in_protobuf_is_refused(collector: MockCollector) -> None:
    for trace_bytes, span_bytes in ((16, 7), (15, 8)):
        request = request_proto()
        link = request.resource_spans[0].scope_spans[0].spans[0].links.add()
        link.trace_id, link.span_id = b"\1" * trace_bytes, b"\1" * span_bytes
        assert send(collector, request).status == 400


def test_connection_serves_on_after_413(collector: MockCollector) -> None:
    with MockCollector(max_body_bytes=1000) as small:
        connection = http.client.HTTPConnection(small.host, small.port, timeout=10)
        connection.request("POST", "/v1/traces", b" " * 300_000, JSON)
        assert connection.getresponse().read()
        connection.request("POST", "/v1/traces", b"{}", JSON)
        assert connection.getresponse().status == 200
        connection.close()


def test_expect_100_continue_is_honoured(collector: MockCollector) -> None:
    with socket.create_connection((collector.host, collector.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{}")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_missing_required_header_is_401_with_its_name() -> None:
    with MockCollector(required_headers={"Authorization": "Bearer right"}) as collector:
        reply = send(collector, request_json())

    assert (reply.status, reply.json()["code"]) == (401, 16)
    assert reply.headers["www-authenticate"] == "Bearer"
    assert "Authorization" in reply.json()["message"]


def test_wrong_required_header_is_403_and_nothing_tells_the_values() -> None:
    with MockCollector(required_headers={"X-Key": "right-secret"}) as collector:
        reply = send(collector, request_json(), headers=JSON | {"x-key": "wrong-secret"})
        request = collector.journal.requests()[0]

    assert (reply.status, reply.json()["code"]) == (403, 7)
    told = f"{reply.body!r} {request!r} {request.reason}"
    assert "X-Key" in told
    assert "secret" not in told


def test_right_headers_pass_in_any_case_and_order() -> None:
    required = {"Authorization": "Bearer right", "X-Dataset": None}
    headers = JSON | {"x-dataset": "anything", "authorization": "Bearer right"}
    with MockCollector(required_headers=required) as collector:
        assert send(collector, request_json(), headers=headers).status == 200
        assert send(collector, request_json(), headers=JSON | {"x-dataset": "a"}).status == 401


def test_required_header_sent_twice_is_403() -> None:
    with (
        MockCollector(required_headers={"X-Key": "right"}) as collector,
        socket.create_connection((collector.host, collector.port), timeout=10) as connection,
    ):
        connection.sendall(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"X-Key: right\r\nX-Key: other\r\nContent-Length: 2\r\n\r\n{}"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 403 ")


def test_headers_are_judged_before_the_body() -> None:
    with MockCollector(required_headers={"X-Key": "k"}, max_body_bytes=10) as collector:
        assert send(collector, b"no json" * 10, headers=JSON).status == 401


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("traceId", "0" * 32),
        ("traceId", ""),
        ("traceId", None),
        ("traceId", "abc"),
        ("traceId", "zz" * 16),
        ("traceId", " " + "a" * 31),
        ("spanId", "0" * 16),
        ("spanId", ""),
        ("spanId", "a" * 32),
        ("parentSpanId", "0" * 16),
        ("parentSpanId", "a" * 8),
        ("links", [{"traceId": "abcd", "spanId": ""}]),
    ],
)
def test_bad_id_refuses_the_whole_batch_with_its_place(
    collector: MockCollector, field: str, value: Any
) -> None:
    bad = span_json(2, **{field: value})

    reply = send(collector, request_json(span_json(1), bad))

    assert reply.status == 400
    assert f"spans[1].{field}" in reply.json()["details"][0]["fieldViolations"][0]["field"]
    assert collector.journal.spans() == []


@pytest.mark.parametrize(("trace_bytes", "span_bytes"), [(15, 8), (16, 7), (0, 8), (17, 8)])
def test_bad_id_in_protobuf_refuses_the_whole_batch(
    collector: MockCollector, trace_bytes: int, span_bytes: int
) -> None:
    request = request_proto(2)
    span = request.resource_spans[0].scope_spans[0].spans[1]
    span.trace_id, span.span_id = b"\1" * trace_bytes, b"\1" * span_bytes

    assert send(collector, request).status == 400


def test_many_bad_ids_are_counted_and_a_few_named(collector: MockCollector) -> None:
    spans = [span_json(number, traceId="0" * 32) for number in range(1, 10)]

    reply = send(collector, request_json(*spans))

    assert len(reply.json()["details"][0]["fieldViolations"]) == 5
    assert "and 4 more" in reply.json()["message"]


def test_links_may_have_empty_and_zero_ids(collector: MockCollector) -> None:
    links = [{"traceId": "", "spanId": ""}, {"traceId": "0" * 32, "spanId": "0" * 16}]

    assert send(collector, request_json(span_json(links=links))).status == 200


def test_unknown_keys_are_ignored_and_recorded(collector: MockCollector) -> None:
    span = span_json(trace_id="x", events=[{"name": "e", "extra": {"deep": 1}}])

    assert send(collector, request_json(span, resourceLogs=[])).status == 200
    assert collector.journal.requests()[0].unknown_keys == (
        "resourceLogs",
        "resourceSpans[0].scopeSpans[0].spans[0].trace_id",
        "resourceSpans[0].scopeSpans[0].spans[0].events[0].extra",
    )


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x0a\xff", b"{}"])
def test_undecodable_protobuf_is_400(collector: MockCollector, body: bytes) -> None:
    reply = send(collector, body, headers=PROTOBUF)

    assert reply.status == 400
    assert status_pb2.Status.FromString(reply.body).code == 3


def test_bad_request_does_not_disturb_the_next_on_its_connection(
    collector: MockCollector,
) -> None:
    connection = http.client.HTTPConnection(collector.host, collector.port, timeout=10)
    statuses = []
    for body in (b"{", b"[]", b"{}", b"\xff", b"{}"):
        connection.request("POST", "/v1/traces", body, JSON)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()

    assert statuses == [400, 400, 200, 400, 200]


def test_sender_that_leaves_amid_its_body_is_recorded(collector: MockCollector) -> None:
    with socket.create_connection((collector.host, collector.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 200\r\n\r\n{"
        )
        # A reset, so that the collector cannot take it for a half-closed connection.
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    collector.journal.wait_for_requests(1, settled=True)
    assert collector.journal.requests()[0].answer == "client left"


def test_official_message_survives_the_way_through(collector: MockCollector) -> None:
    request = request_proto(3)

    send(collector, request)

    received = collector.journal.requests()[0].message
    assert isinstance(received, ExportTraceServiceRequest)
    assert received == request
