"""Every answer of the HTTP edge, in both encodings, over real sockets."""

import gzip
import json
import zlib
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from structlog.testing import capture_logs

from relay.model.errors import BufferFull, BufferUnavailable, Refusal
from relay.model.records import Encoding, SenderResponse, Signal
from relay.otlp.signals import WIRE
from tests.support.edge_server import OWN_ID, Edge, Reply, Settings, chunked, post, running_edge

JSON, PROTOBUF = "application/json", "application/x-protobuf"


@pytest.fixture
def edge() -> Iterator[Edge]:
    with running_edge() as edge:
        yield edge


@pytest.fixture
def guarded() -> Iterator[Edge]:
    with running_edge(tokens=("first-token", "second-token")) as edge:
        yield edge


@pytest.fixture(params=[JSON, PROTOBUF])
def media_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def status_code(reply: Reply, media_type: str = JSON) -> tuple[int, str]:
    """Code and message of the google.rpc.Status in the answer, which must be in `media_type`."""
    assert reply.headers["content-type"] == media_type
    if media_type == JSON:
        status = json.loads(reply.body)
        return status["code"], status["message"]
    assert reply.body[0] == 0x08  # field 1, varint
    assert reply.body[2] == 0x12  # field 2, text
    length, at = (reply.body[3], 4)
    if length & 0x80:
        length, at = (length & 0x7F) | reply.body[4] << 7, 5
    assert len(reply.body) == at + length
    return reply.body[1], reply.body[at:].decode()


def test_ingest_answers_the_empty_success_when_all_is_kept(edge: Edge) -> None:
    json_reply = edge.ask(post(b'{"resourceSpans":[]}'))
    protobuf_reply = edge.ask(post(b"\x0a\x00", content_type=PROTOBUF))

    assert (json_reply.status, json_reply.body) == (200, b"{}")
    assert json_reply.headers["content-type"] == JSON
    assert (protobuf_reply.status, protobuf_reply.body) == (200, b"")
    assert protobuf_reply.headers["content-type"] == PROTOBUF
    assert [(b, e) for b, e, _ in edge.acceptor.received] == [
        (b'{"resourceSpans":[]}', Encoding.JSON),
        (b"\x0a\x00", Encoding.PROTOBUF),
    ]
    assert edge.counters.requests == {200: 2}
    assert edge.counters.received_bytes == 22


def test_ingest_passes_partial_success_on_in_the_senders_encoding(edge: Edge) -> None:
    edge.acceptor.answer = SenderResponse(message="why", rejected_items=3)

    as_json = edge.ask(post())
    as_protobuf = edge.ask(post(b"", content_type=PROTOBUF))

    assert as_json.status == as_protobuf.status == 200
    assert json.loads(as_json.body) == {
        "partialSuccess": {"rejectedSpans": "3", "errorMessage": "why"}
    }
    assert as_protobuf.body == b"\x0a\x07\x08\x03\x12\x03why"


def test_ingest_passes_a_warning_on_without_a_count(edge: Edge) -> None:
    edge.acceptor.answer = SenderResponse(message="odd")

    reply = edge.ask(post())

    assert json.loads(reply.body) == {"partialSuccess": {"errorMessage": "odd"}}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Refusal("all 2 spans rejected"), 400, 3),
        (Refusal("the helper gave up", status=413, grpc_code=8), 413, 8),
        (BufferFull(), 503, 14),
        (BufferUnavailable(), 503, 14),
    ],
)
def test_ingest_answers_with_the_status_of_what_accept_raises(
    edge: Edge, media_type: str, error: Exception, status: int, code: int
) -> None:
    edge.acceptor.answer = error

    reply = edge.ask(post(content_type=media_type))

    assert reply.status == status
    assert status_code(reply, media_type)[0] == code
    assert reply.headers.get("retry-after") == ("1" if status == 503 else None)


def test_ingest_answers_500_and_logs_no_text_of_the_error_when_there_is_a_bug(
    edge: Edge, media_type: str
) -> None:
    edge.acceptor.answer = ValueError("a prompt that somebody wrote")

    with capture_logs() as events:
        reply = edge.ask(post(content_type=media_type))

    assert reply.status == 500
    assert status_code(reply, media_type)[0] == 13
    (event,) = [e for e in events if e["event"] == "request_failed"]
    assert event["error"] == "ValueError"
    assert "in __call__" in event["frames"]
    assert "prompt" not in str(events) + str(reply)
    assert edge.counters.requests == {500: 1}


def test_ingest_answers_503_when_memory_runs_out(edge: Edge, media_type: str) -> None:
    """500 is final for a sender, and a shortage passes."""
    edge.acceptor.answer = MemoryError()

    with capture_logs() as events:
        reply = edge.ask(post(content_type=media_type))

    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert status_code(reply, media_type)[0] == 14
    assert "out_of_memory" in [each["event"] for each in events]


def test_ingest_sends_no_interim_answer_to_an_http_1_0_client(edge: Edge) -> None:
    request = post(b"{}", "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    head, _, body = request.partition(b"\r\n\r\n")
    with edge.connect() as client:
        client.send(head + b"\r\n\r\n")
        reply = client.ask(body)

    assert reply.status == 200


def test_ingest_takes_one_value_that_stands_there_twice_as_one(edge: Edge) -> None:
    again = edge.ask(post(b"{}", "Content-Type: application/json"))
    other = edge.ask(post(b"{}", "Content-Type: application/x-protobuf"))

    assert (again.status, other.status) == (200, 415)


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("path", [
    "/v1/traces", "/v1/traces/", "/v1/traces?a=b", "/v1/%74races", "//v1/traces", "/v1//traces//",
])  # fmt: skip
def test_ingest_takes_post_and_put_on_the_path(edge: Edge, method: str, path: str) -> None:
    assert edge.ask(post(method=method, path=path)).status == 200


@pytest.mark.parametrize("path", ["/v1/trace", "/x//v1/traces", "/api", "/V1/TRACES"])
def test_ingest_answers_404_elsewhere(edge: Edge, media_type: str, path: str) -> None:
    reply = edge.ask(post(path=path, content_type=media_type))

    code, message = status_code(reply, media_type)
    assert (reply.status, code) == (404, 12)
    assert "/v1/traces" in message
    assert message.startswith(path.replace("//", "/"))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/", "append the path"),
        ("/v1", "append the path"),
        ("/v1/trace", "append the path"),
        ("/v1/traces/v1/traces", "stands there twice"),
        ("/V1/Traces", "lower case"),
        ("/otlp/v1/traces", "nothing stands before it"),
        ("/api/v2/spans", "OTLP exporter"),
        ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "http/protobuf"),
    ],
)
def test_ingest_says_of_the_usual_slips_what_was_meant(edge: Edge, path: str, words: str) -> None:
    assert words in status_code(edge.ask(post(path=path)))[1]


def test_ingest_repeats_a_path_only_as_far_as_it_is_fit_to_be_read(edge: Edge) -> None:
    message = status_code(edge.ask(post(path="/%1B%5B2J%C2%9B" + "x" * 5000)))[1]

    assert message.isprintable()
    assert len(message) < 300


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/metrics", "OTEL_METRICS_EXPORTER=none"),
        ("/v1/logs", "OTEL_LOGS_EXPORTER=none"),
        ("/v1development/profiles", "profiles"),
    ],
)
def test_ingest_says_how_to_switch_other_signals_off(edge: Edge, path: str, words: str) -> None:
    edge.ingest.reload(Settings(), tokens=(), signals=[Signal.TRACES])

    reply = edge.ask(post(path=path))

    assert reply.status == 404
    assert words in status_code(reply)[1]
    assert edge.acceptor.received == []


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs", "/v1/metrics"])
@pytest.mark.parametrize("shape", ["{}", "{}/", "/{}"])
def test_ingest_takes_each_signal_at_its_path_and_answers_in_its_words(
    edge: Edge, path: str, shape: str, media_type: str
) -> None:
    wire = next(wire for wire in WIRE.values() if wire.path == path)
    edge.acceptor.answer = SenderResponse(rejected_items=3, message="why")

    reply = edge.ask(post(path=shape.format(path), content_type=media_type))

    assert (reply.status, edge.acceptor.signals) == (200, [wire.signal])
    if media_type == Encoding.JSON.media_type:
        said = json.loads(reply.body)["partialSuccess"]
        assert said == {wire.rejected[Encoding.JSON]: "3", "errorMessage": "why"}
    else:
        partial = wire.response.FromString(reply.body).partial_success  # type: ignore[attr-defined]
        assert getattr(partial, wire.rejected[Encoding.PROTOBUF]) == 3


def test_ingest_with_a_destination_for_logs_alone_says_how_to_switch_traces_off(
    edge: Edge,
) -> None:
    edge.ingest.reload(Settings(), tokens=(), signals=[Signal.LOGS])

    reply = edge.ask(post(path="/v1/traces"))

    assert reply.status == 404
    assert "OTEL_TRACES_EXPORTER=none" in status_code(reply)[1]
    assert edge.ask(post(path="/v1/logs")).status == 200


@pytest.mark.parametrize("path", ["/", "/v1/traces"])
@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
def test_ingest_answers_405_with_allow_to_other_methods(
    edge: Edge, media_type: str, path: str, method: str
) -> None:
    reply = edge.ask(post(b"", path=path, method=method, content_type=media_type))

    assert reply.status == 405
    assert status_code(reply, media_type)[0] == 12
    assert reply.headers["allow"] == "POST, PUT"


def test_ingest_answers_head_without_a_body(edge: Edge) -> None:
    with edge.connect() as client:
        head = client.send(post(b"", method="HEAD")).read(is_head=True)
        after = client.ask(post())

    assert (head.status, after.status) == (405, 200)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/json ;x=y",
        "application/protobuf",
        "application/X-Protobuf; messageType=x",
    ],
)
def test_ingest_tolerates_case_parameters_and_the_alias(edge: Edge, content_type: str) -> None:
    reply = edge.ask(post(content_type=content_type))

    is_json = "json" in content_type.lower()
    assert reply.status == 200
    assert reply.headers["content-type"] == (JSON if is_json else PROTOBUF)


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/jsonp", "json", ""])
def test_ingest_answers_415_in_json_to_unknown_types(edge: Edge, content_type: str | None) -> None:
    reply = edge.ask(post(content_type=content_type))

    assert reply.status == 415
    assert status_code(reply)[0] == 3
    assert "accept-encoding" not in reply.headers
    assert edge.acceptor.received == []


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "gzip, identity", "snappy", "x"])
def test_ingest_answers_415_and_what_it_takes_to_unknown_codings(
    edge: Edge, media_type: str, coding: str
) -> None:
    reply = edge.ask(post(b"{}", f"Content-Encoding: {coding}", content_type=media_type))

    assert reply.status == 415
    assert status_code(reply, media_type)[0] == 3
    assert reply.headers["accept-encoding"] == "gzip, deflate, zstd"


def test_ingest_answers_415_when_the_coding_stands_there_twice(edge: Edge) -> None:
    reply = edge.ask(post(b"{}", "Content-Encoding: identity", "Content-Encoding: identity"))

    assert reply.status == 415


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip"])
def test_ingest_unzips_gzip_in_any_case(edge: Edge, coding: str) -> None:
    reply = edge.ask(post(gzip.compress(b'{"a":1}'), f"Content-Encoding: {coding}"))

    assert reply.status == 200
    assert edge.acceptor.bodies == [b'{"a":1}']
    assert edge.counters.received_bytes == 7


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_ingest_takes_a_body_that_says_it_is_not_compressed(edge: Edge, coding: str) -> None:
    assert edge.ask(post(b"{}", f"Content-Encoding: {coding}")).status == 200
    assert edge.acceptor.bodies == [b"{}"]


def test_ingest_unzips_deflate_and_zstd(edge: Edge) -> None:
    deflated = edge.ask(post(zlib.compress(b"one"), "Content-Encoding: deflate"))
    # a frame of one raw block: "two" (RFC 8878, sections 3.1.1.1 and 3.1.1.2)
    frame = bytes.fromhex("28b52ffd 20 03 190000") + b"two"
    zstd = edge.ask(post(frame, "Content-Encoding: zstd"))

    assert (deflated.status, zstd.status) == (200, 200)
    assert edge.acceptor.bodies == [b"one", b"two"]


@pytest.mark.parametrize("body", [b"no gzip at all", gzip.compress(b"x" * 999, mtime=0)[:-9], b""])
def test_ingest_answers_400_to_bad_gzip_and_nothing_reaches_accept(
    edge: Edge, media_type: str, body: bytes
) -> None:
    reply = edge.ask(post(body, "Content-Encoding: gzip", content_type=media_type))

    assert reply.status == 400
    assert status_code(reply, media_type)[0] == 3
    assert edge.acceptor.received == []


def test_ingest_answers_413_to_a_gzip_bomb(edge: Edge, media_type: str) -> None:
    bomb = gzip.compress(bytes(20_000_000))

    reply = edge.ask(post(bomb, "Content-Encoding: gzip", content_type=media_type))

    assert len(bomb) < Settings().max_body_bytes
    assert reply.status == 413
    assert status_code(reply, media_type)[0] == 8
    assert edge.acceptor.received == []
    assert edge.ingest.in_flight_bytes == 0


def test_ingest_takes_a_body_of_exactly_the_limit_and_not_one_byte_more(edge: Edge) -> None:
    limit = Settings().max_body_bytes

    assert edge.ask(post(bytes(limit))).status == 200
    assert edge.ask(post(bytes(limit + 1))).status == 413
    assert edge.ask(chunked(bytes(limit))).status == 200
    assert edge.ask(chunked(bytes(limit), b"x")).status == 413
    assert edge.ask(post(gzip.compress(bytes(limit)), "Content-Encoding: gzip")).status == 200
    assert edge.ask(post(gzip.compress(bytes(limit + 1)), "Content-Encoding: gzip")).status == 413


def test_ingest_tests_of_the_connection_are_empty_requests(edge: Edge) -> None:
    header = "X-Test-Connection: true"
    replies = [
        edge.ask(post(b"", header, content_type=None)),
        edge.ask(post(b"{}", header, content_type="text/plain")),
        edge.ask(post(b"", header)),
        edge.ask(post(b"{}", header, content_type=PROTOBUF)),
    ]

    assert [(r.status, r.body) for r in replies] == [(200, b"{}")] * 3 + [(200, b"")]
    assert edge.acceptor.bodies == [b"{}", b"{}", b"{}", b""]
    assert all(sender.is_connection_test for _, _, sender in edge.acceptor.received)


def test_ingest_takes_no_other_body_of_unknown_type_as_a_test(edge: Edge) -> None:
    reply = edge.ask(post(b'{"a":1}', "X-Test-Connection: true", content_type=None))

    assert reply.status == 415
    assert edge.ask(post(b"{}", "X-Test-Connection: false", content_type=None)).status == 415
    assert edge.acceptor.received == []


def test_ingest_asks_for_a_token_and_refuses_a_wrong_one(guarded: Edge, media_type: str) -> None:
    missing = guarded.ask(post(content_type=media_type))
    basic = guarded.ask(post(b"{}", "Authorization: Basic eDp5", content_type=media_type))
    wrong = guarded.ask(post(b"{}", "Authorization: Bearer first", content_type=media_type))
    right = guarded.ask(post(b"{}", "Authorization: bearer second-token"))

    assert (missing.status, status_code(missing, media_type)[0]) == (401, 16)
    assert missing.headers["www-authenticate"] == "Bearer"
    assert basic.status == 401
    assert (wrong.status, status_code(wrong, media_type)[0]) == (403, 7)
    assert right.status == 200
    assert len(guarded.acceptor.received) == 1


def test_ingest_uses_new_tokens_after_a_reload(guarded: Edge) -> None:
    guarded.ingest.reload(Settings(), tokens=["third-token"], signals=Signal)

    assert guarded.ask(post(b"{}", "Authorization: Bearer first-token")).status == 403
    assert guarded.ask(post(b"{}", "Authorization: Bearer third-token")).status == 200


def test_ingest_answers_401_before_the_body_is_sent(guarded: Edge) -> None:
    with guarded.connect() as client:
        reply = client.ask(post(b"", length=10_000))
        after = client.ask(bytes(10_000) + post(b"{}", "Authorization: Bearer first-token"))

    assert (reply.status, after.status) == (401, 200)
    assert guarded.acceptor.bodies == [b"{}"]


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ({"path": "/nowhere", "method": "GET"}, 404),
        ({"method": "GET"}, 405),
        ({"content_type": "text/plain"}, 401),
    ],
)
def test_ingest_checks_path_then_method_then_token(
    guarded: Edge, first: dict[str, str], status: int
) -> None:
    """A request that is wrong in every way is told the first thing that is wrong."""
    reply = guarded.ask(post(bytes(90_000), "Content-Encoding: br", **first))  # type: ignore[arg-type]

    assert reply.status == status


def test_ingest_checks_type_then_coding_then_length(edge: Edge) -> None:
    too_long = bytes(90_000)

    assert edge.ask(post(too_long, "Content-Encoding: br", content_type="x/y")).status == 415
    assert "accept-encoding" in edge.ask(post(too_long, "Content-Encoding: br")).headers
    assert edge.ask(post(too_long, "Content-Encoding: gzip")).status == 413


@pytest.mark.parametrize(
    "hops", [OWN_ID, f"other, {OWN_ID}", f"{OWN_ID},other", ",".join(["other"] * 33), "x" * 5000]
)
def test_ingest_answers_508_when_spans_come_back(edge: Edge, media_type: str, hops: str) -> None:
    reply = edge.ask(post(b"{}", f"otlp-relay-hops: {hops}", content_type=media_type))

    code, message = status_code(reply, media_type)
    assert (reply.status, code) == (508, 9)
    assert message.startswith("loop: ")
    assert edge.acceptor.received == []


def test_ingest_takes_spans_that_came_through_other_relays(edge: Edge) -> None:
    hops = ",".join(f"{OWN_ID}-{n}" for n in range(32))

    assert edge.ask(post(b"{}", f"otlp-relay-hops: {hops}")).status == 200


def test_ingest_answers_503_and_closes_when_stopping(edge: Edge, media_type: str) -> None:
    edge.ingest.close()

    with edge.connect() as client:
        reply = client.ask(post(content_type=media_type))

        assert reply.status == 503
        assert status_code(reply, media_type)[0] == 14
        assert reply.headers["retry-after"] == "1"
        assert reply.headers["connection"] == "close"
        assert client.is_closed()


def test_ingest_knows_local_senders_and_those_behind_a_proxy(edge: Edge) -> None:
    edge.ask(post(b"{}", "User-Agent: " + "u" * 300))
    direct = edge.acceptor.sender
    edge.ask(post(b"{}", "X-Forwarded-For: 127.0.0.1"))
    proxied = edge.acceptor.sender

    assert (direct.address, direct.is_local, direct.user_agent) == ("127.0.0.1", True, "u" * 256)
    assert (proxied.address, proxied.is_local) == ("127.0.0.1", False)


def test_ingest_ignores_preflights_when_cors_is_off(edge: Edge) -> None:
    reply = edge.ask(preflight("https://app.example"))

    assert reply.status == 405
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert "access-control-allow-origin" not in edge.ask(post(b"{}", "Origin: https://a.b")).headers


def test_ingest_answers_preflights_before_the_token_when_cors_is_on() -> None:
    settings = Settings(cors_origins=("https://app.example",))
    with running_edge(settings=settings, tokens=("t",)) as edge:
        allowed = edge.ask(preflight("https://app.example"))
        refused = edge.ask(preflight("https://evil.example"))
        odd = edge.ask(preflight("https://app.example", "x;y"))
        posted = edge.ask(post(b"{}", "Origin: https://app.example", "Authorization: Bearer t"))
        missing = edge.ask(post(b"{}", "Origin: https://app.example"))

        (noted,) = [e for e in edge.ingest.refusals.last_hour() if e["reason"] == "cors"]

    assert (noted["times"], "https://evil.example" in noted["message"]) == (1, True)
    assert allowed.status == 204
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert allowed.headers["access-control-allow-methods"] == "POST, PUT"
    assert allowed.headers["access-control-allow-headers"] == "authorization, content-type"
    assert allowed.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in refused.headers
    assert odd.headers["access-control-allow-headers"] == (
        "authorization, content-encoding, content-type"
    )
    assert posted.headers["access-control-allow-origin"] == "https://app.example"
    assert missing.status == 401  # and the page may read why
    assert missing.headers["access-control-allow-origin"] == "https://app.example"


def test_ingest_allows_every_origin_with_credentials_when_told_so() -> None:
    """A literal `*` is refused to a request with credentials, as `sendBeacon` makes them."""
    with running_edge(settings=Settings(cors_origins=("*",))) as edge:
        replies = (edge.ask(preflight("https://a.b")), edge.ask(post(b"{}", "Origin: https://a.b")))

    for reply in replies:
        assert reply.headers["access-control-allow-origin"] == "https://a.b"
        assert reply.headers["access-control-allow-credentials"] == "true"
        assert reply.headers["vary"] == "Origin"


def test_ingest_answers_421_to_a_name_that_a_page_may_have_and_that_has_no_token() -> None:
    foreign = post(b"{}").replace(b"Host: localhost", b"Host: rebound.example:4318")
    with running_edge() as edge:
        refused, last = edge.ask(foreign), edge.ingest.refusals.last_hour()
        edge.ingest.reload(Settings(allowed_hosts=("rebound.example",)), tokens=(), signals=Signal)
        allowed = edge.ask(foreign)
        edge.ingest.reload(Settings(), tokens=("t",), signals=Signal)
        with_token = edge.ask(foreign.replace(b"Host:", b"Authorization: Bearer t\r\nHost:"))
        no_name = edge.ask(post(b"{}").replace(b"Host: localhost\r\n", b"", 1))

    assert (refused.status, status_code(refused)[0]) == (421, 9)
    assert "allowed_hosts" in status_code(refused)[1]
    assert [each["reason"] for each in last] == ["421"]
    assert (allowed.status, with_token.status, no_name.status) == (200, 200, 401)


def test_ingest_asks_only_remote_senders_for_a_token_when_told_so() -> None:
    with running_edge(settings=Settings(tokens_for="remote"), tokens=("t",)) as edge:
        here = edge.ask(post())
        through_a_proxy = edge.ask(post(b"{}", "X-Forwarded-For: 127.0.0.1"))
        rebound = edge.ask(post(b"{}").replace(b"Host: localhost", b"Host: rebound.example"))
        with_token = edge.ask(post(b"{}", "Via: 1.1 p", "Authorization: Bearer t"))

    assert (here.status, through_a_proxy.status, rebound.status) == (200, 401, 401)
    assert with_token.status == 200


def test_ingest_shows_who_is_behind_a_trusted_proxy_and_trusts_nobody_for_it() -> None:
    settings = Settings(
        trusted_proxies=(ip_network("127.0.0.0/8"),), tokens_for="remote", max_body_bytes=10
    )
    with running_edge(settings=settings, tokens=("t",)) as edge:
        edge.ask(post(b"{}", "X-Forwarded-For: 203.0.113.9", "Authorization: Bearer t"))
        sender = edge.acceptor.sender
        spoofed = edge.ask(post(b"{}", "X-Forwarded-For: 127.0.0.1"))
        edge.ask(post(b"{}", "X-Forwarded-For: 203.0.113.7", "User-Agent: curl"))
        (last, _) = edge.ingest.refusals.last_hour()

    assert (sender.address, sender.is_local) == ("203.0.113.9", False)
    assert spoofed.status == 401
    assert (last["sender"], last["user_agent"], last["path"]) == (
        "203.0.113.7",
        "curl",
        "/v1/traces",
    )


def preflight(origin: str, asked: str = "authorization, content-type") -> bytes:
    return post(
        b"",
        f"Origin: {origin}",
        "Access-Control-Request-Method: POST",
        f"Access-Control-Request-Headers: {asked}",
        method="OPTIONS",
        content_type=None,
    )


def test_ingest_logs_a_refusal_once_and_nothing_of_what_was_sent(guarded: Edge) -> None:
    with capture_logs() as events:
        for _ in range(5):
            guarded.ask(post(b'{"secret-body":1}', "Authorization: Bearer secret-value"))
        guarded.ask(post(b"{}", "Authorization: Bearer first-token"))

    (event,) = [e for e in events if e["log_level"] != "debug"]
    assert (event["event"], event["status"]) == ("request_refused", 403)
    assert event["sender"] == "127.0.0.1"
    assert "secret" not in str(events)
    assert guarded.counters.requests == {403: 5, 200: 1}
