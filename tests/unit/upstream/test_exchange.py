"""One exchange over real sockets: what is sent, what is understood, what is said of failures."""

import contextlib
import dataclasses
import gzip
import json
import os
import socket
import sys
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from relay.config import DestinationConfig
from relay.model.records import Encoding
from relay.otlp import upstream_response
from relay.upstream import exchange
from relay.upstream.exchange import Body, Upstream
from relay.upstream.outcomes import Blocked, Delivered, Outcome, Wait
from relay.upstream.response_reader import MAX_PIECES, MAX_RESPONSE_BYTES
from relay.version import __version__

pytestmark = pytest.mark.anyio

Running = Callable[..., contextlib.AbstractAsyncContextManager[Any]]
Answer = Callable[..., bytes]
Settings = Callable[..., DestinationConfig]

TOKEN = "Bearer xaat-0123456789"


def batch(content: bytes = b'{"resourceSpans":[]}', **changes: Any) -> Body:
    return dataclasses.replace(Body(encoding=Encoding.JSON, content=content), **changes)


async def send_once(settings: DestinationConfig, **headers: str) -> Outcome:
    upstream = Upstream(settings)
    try:
        return await upstream.send(batch(), headers)
    finally:
        await upstream.aclose()


async def test_upstream_sends_the_body_with_auth_and_bare_media_type(
    raw_server: Running, settings: Settings
) -> None:
    async with raw_server() as server:
        upstream = Upstream(settings(server.url), hops="relay-1")
        outcome = await upstream.send(
            batch(b"zipped", content_encoding="gzip"),
            {"Authorization": TOKEN, "X-Axiom-Dataset": "traces"},
        )
        await upstream.aclose()

    seen = server.requests[0]
    assert outcome == Delivered(200)
    assert seen.line == "POST /v1/traces HTTP/1.1"
    assert seen.body == b"zipped"
    assert seen.headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": f"otlp-relay/{__version__} "
        f"(python {sys.version_info.major}.{sys.version_info.minor}; {sys.platform})",
        "accept": "application/json",
        "authorization": TOKEN,
        "x-axiom-dataset": "traces",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-encoding": "gzip",
        "otlp-relay-hops": "relay-1",
        "content-length": "6",
    }
    assert "X-Axiom-Dataset" in seen.names


async def test_upstream_names_protobuf_by_its_media_type(
    raw_server: Running, settings: Settings, make_answer: Answer
) -> None:
    reply = make_answer(200, b"\x0a\x04\x08\x02\x12\x00", content_type="application/x-protobuf")
    async with raw_server(reply) as server:
        upstream = Upstream(settings(server.url))
        outcome = await upstream.send(batch(b"\x0a\x00", encoding=Encoding.PROTOBUF), {})
        await upstream.aclose()

    assert server.requests[0].headers["content-type"] == "application/x-protobuf"
    assert outcome == Delivered(200, 2, "")


async def test_upstream_keeps_framing_its_own_and_lets_host_and_agent_be_set(
    raw_server: Running, settings: Settings
) -> None:
    configured = {
        "content-type": "text/plain",
        "Content-Length": "1",
        "Transfer-Encoding": "chunked",
        "Accept-Encoding": "br",
        "Host": "other.example",
        "User-agent": "mine",
        "X-Latin": "caf\xe9",
    }
    async with raw_server() as server:
        await send_once(settings(server.url), **configured)

    headers = server.requests[0].headers
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(batch().content))
    assert "transfer-encoding" not in headers
    assert headers["accept-encoding"] == "identity"
    assert (headers["host"], headers["user-agent"]) == ("other.example", "mine")
    assert headers["x-latin"] == "caf\xe9"
    assert len(server.requests[0].names) == len(headers)


@pytest.mark.parametrize("value", ["hunter2\nX-Evil: 1", "hunter2\0", "hunter2\r", "hunter2 ☃"])
async def test_upstream_blocks_on_a_header_that_http_does_not_allow_without_showing_it(
    raw_server: Running, settings: Settings, value: str
) -> None:
    async with raw_server() as server:
        outcome = await send_once(settings(server.url), **{"X-Key": value})

    assert isinstance(outcome, Blocked)
    assert "'X-Key' has a name or a value that HTTP does not allow" in outcome.reason
    assert "hunter2" not in outcome.reason
    assert not server.requests


async def test_upstream_sends_user_and_password_of_the_endpoint_as_basic(
    raw_server: Running, settings: Settings
) -> None:
    async with raw_server() as server:
        await send_once(settings(f"http://u:p%40ss@127.0.0.1:{server.port}/v1/traces?a=b"))

    assert server.requests[0].headers["authorization"] == "Basic dTpwQHNz"
    assert server.requests[0].line == "POST /v1/traces?a=b HTTP/1.1"
    assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"


async def test_upstream_uses_one_connection_for_many_requests_and_keeps_no_cookie(
    raw_server: Running, settings: Settings, make_answer: Answer
) -> None:
    async with raw_server(make_answer(headers=["set-cookie: a=b"])) as server:
        upstream = Upstream(settings(server.url))
        for _ in range(3):
            assert await upstream.send(batch(), {}) == Delivered(200)
        await upstream.aclose()

    assert server.connections == 1
    assert all("cookie" not in request.headers for request in server.requests)


@pytest.mark.parametrize(
    "reply",
    [
        {"body": b""},
        {"body": b"{}"},
        {"body": b'{"partialSuccess":{}}'},
        {"body": b'{"partialSuccess":null}'},
        {"body": b"not json"},
        {"body": b"OK", "content_type": "text/plain"},
        {"body": b'{"status":"ok"}'},
        {"body": b'{"partialSuccess":{}}', "content_type": "text/html"},
        {"body": b"", "content_type": "text/html"},
        {"body": b"\x0a\x00", "content_type": ""},
        {"body": b"{}", "headers": ["grpc-status: 0"]},
        {"body": b"\xff\xfe\x00", "content_type": "application/x-protobuf"},
        {"body": b"{}", "headers": ["content-encoding: br"]},
        {"body": b"no gzip", "headers": ["content-encoding: gzip"]},
        {"body": b"", "status": 202},
        {"body": b"", "status": 204},
    ],
)
async def test_upstream_delivers_whatever_body_does_not_say_the_contrary(
    raw_server: Running, settings: Settings, make_answer: Answer, reply: dict[str, Any]
) -> None:
    async with raw_server(make_answer(**reply)) as server:
        assert await send_once(settings(server.url)) == Delivered(reply.get("status", 200))


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (
            {"body": b"<html><title>Sign in</title>", "content_type": "text/html"},
            (
                "axiom answered 200 OK: “Sign in” (that is a web page, not the response of an OTLP "
                "endpoint); check the port: web pages have another one than OTLP, which usually "
                "has 4318, then reload"
            ),
        ),
        (
            {"body": b'{"code":16,"message":"no token"}'},
            (
                "axiom answered 200 OK: “no token” (that is code 16, not a success: it refuses the "
                "credentials); check the header Authorization, then reload"
            ),
        ),
        (
            {"body": b"\x08\x07\x12\x02no", "content_type": "application/x-protobuf"},
            (
                "axiom answered 200 OK: “no” (that is a Status with code 7, not a success: it "
                "refuses the credentials); check the header Authorization, then reload"
            ),
        ),
        (
            {"body": b'{"error":"no project of yours"}', "status": 202},
            (
                "axiom answered 202 Accepted: “no project of yours” (that is an error, not the "
                "response of an OTLP endpoint); check encoding, endpoint and headers, then reload"
            ),
        ),
        (
            {
                "body": b"",
                "content_type": "application/grpc",
                "headers": ["grpc-status: 12", "grpc-message: unknown%20method"],
            },
            (
                "axiom answered 200 OK: “unknown method” (it speaks HTTP/2 only, as gRPC does, and "
                "this relay sends OTLP over HTTP/1.1); use the port for OTLP over HTTP: usually "
                "4318 where gRPC has 4317, then reload"
            ),
        ),
        (
            {"body": b"", "content_type": "", "headers": ["grpc-status: 16"]},
            "axiom answered 200 OK (it speaks HTTP/2 only",
        ),
        (
            {"status": 202, "body": b"", "headers": ["x-amzn-waf-action: challenge"]},
            "axiom answered 202 Accepted (that is a firewall's challenge, not the response",
        ),
    ],
)
async def test_upstream_blocks_on_a_2xx_of_somebody_who_has_taken_nothing(
    raw_server: Running, settings: Settings, make_answer: Answer, reply: dict[str, Any], reason: str
) -> None:
    async with raw_server(make_answer(**reply)) as server:
        outcome = await send_once(settings(server.url), Authorization=TOKEN)

    assert isinstance(outcome, Blocked)
    assert outcome.reason.startswith(reason)
    assert outcome.status == reply.get("status", 200)


async def test_upstream_reads_a_partial_success_of_up_to_4_mib(
    raw_server: Running, settings: Settings, make_answer: Answer
) -> None:
    said = {"partialSuccess": {"errorMessage": "x" * 4_000_000, "rejectedSpans": "7"}}
    async with raw_server(make_answer(200, json.dumps(said).encode())) as server:
        outcome = await send_once(settings(server.url))

    assert isinstance(outcome, Delivered)
    assert (outcome.rejected, outcome.message[:3]) == (7, "xxx")


async def test_upstream_does_not_go_on_reading_a_body_in_tiny_pieces(
    raw_server: Running, settings: Settings
) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    async with raw_server(head + b"1\r\n \r\n" * (MAX_PIECES + 10)) as server:
        outcome = await send_once(settings(server.url, timeout_seconds=60))

    assert isinstance(outcome, Blocked)
    assert "200 OK (that is a body without an end" in outcome.reason


@pytest.mark.parametrize("zipped", ["", "gzip", "deflate"])
async def test_upstream_reads_a_partial_success_zipped_or_not(
    raw_server: Running, settings: Settings, make_answer: Answer, zipped: str
) -> None:
    body = b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}'
    coded = {"gzip": gzip.compress(body), "deflate": zlib.compress(body), "": body}[zipped]
    headers = [f"content-encoding: {zipped}"] if zipped else []
    async with raw_server(make_answer(200, coded, headers=headers)) as server:
        assert await send_once(settings(server.url)) == Delivered(200, 3, "too old")


async def test_upstream_reads_a_chunked_answer(raw_server: Running, settings: Settings) -> None:
    head = b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\ncontent-type: text/plain\r\n\r\n"
    async with raw_server(head + b"4\r\nbusy\r\n5\r\n now!\r\n0\r\n\r\n") as server:
        outcome = await send_once(settings(server.url))

    assert isinstance(outcome, Wait)
    assert "“busy now!”" in outcome.reason


async def test_upstream_honours_retry_after_as_a_date_by_its_clock(
    raw_server: Running, settings: Settings, make_answer: Answer
) -> None:
    reply = make_answer(503, headers=["Retry-After: Mon, 23 Nov 2026 12:00:40 GMT"])
    async with raw_server(reply) as server:
        now = datetime(2026, 11, 23, 12, tzinfo=UTC)
        upstream = Upstream(settings(server.url), now=lambda: now)
        outcome = await upstream.send(batch(), {})
        await upstream.aclose()

    assert isinstance(outcome, Wait)
    assert outcome.retry_after_seconds == 40.0


async def test_upstream_honours_the_smallest_of_several_retry_after(
    raw_server: Running, settings: Settings, make_answer: Answer
) -> None:
    date = "Date: Mon, 23 Nov 2026 02:00:00 GMT"
    told = ["Retry-After: 90", "Retry-After: Mon, 23 Nov 2026 02:00:40 GMT", "Retry-After: 120"]
    async with raw_server(make_answer(503, headers=[date, *told])) as server:
        outcome = await send_once(settings(server.url))

    assert isinstance(outcome, Wait)
    assert outcome.retry_after_seconds == 40.0


async def test_upstream_never_follows_a_redirect_and_shows_where_it_went(
    raw_server: Running, settings: Settings, make_answer: Answer
) -> None:
    async with raw_server() as target:
        location = f"location: http://u:hunter2@127.0.0.1:{target.port}/v1/traces?key=hunter2"
        async with raw_server(make_answer(307, headers=[location])) as server:
            outcome = await send_once(settings(server.url))

        assert not target.requests
    assert isinstance(outcome, Blocked)
    assert f"set the endpoint to http://127.0.0.1:{target.port}/v1/traces" in outcome.reason
    assert "hunter2" not in outcome.reason


@pytest.mark.parametrize("status", [401, 503])
async def test_upstream_masks_header_values_in_the_words_of_an_answer(
    raw_server: Running, settings: Settings, make_answer: Answer, status: int
) -> None:
    words = f"token xaat-0123456789 is wrong, {TOKEN}"
    reply = make_answer(status, json.dumps({"message": words}).encode())
    async with raw_server(reply) as server:
        outcome = await send_once(settings(server.url), Authorization=TOKEN)

    assert isinstance(outcome, Wait | Blocked)
    assert "“token *** is wrong, ***”" in outcome.reason
    assert "0123456789" not in outcome.reason


@pytest.mark.parametrize("status", [401, 503])
@pytest.mark.parametrize(("user", "password"), [("relayman", "passw0rd-7"), ("ann", "s3:c")])
async def test_upstream_masks_user_and_password_of_its_url_in_the_words_of_an_answer(
    raw_server: Running,
    settings: Settings,
    make_answer: Answer,
    status: int,
    user: str,
    password: str,
) -> None:
    async with raw_server("") as server:
        basic = b64encode(f"{user}:{password}".encode()).decode()
        words = f"{user} has no {password} (Basic {basic})"
        server.script = [make_answer(status, json.dumps({"message": words}).encode())]
        credentials = f"{user}:{quote(password)}"
        outcome = await send_once(settings(f"http://{credentials}@127.0.0.1:{server.port}/"))

    assert isinstance(outcome, Wait | Blocked)
    assert "“*** has no *** (***)”" in outcome.reason


@pytest.mark.parametrize(("mebibytes", "seconds"), [(0.0, "0.1"), (0.25, "0.3"), (0.5, "0.6")])
async def test_upstream_gives_a_body_a_second_a_mebibyte_more(
    raw_server: Running,
    settings: Settings,
    mebibytes: float,
    seconds: str,
) -> None:
    assert exchange.SECONDS_PER_MIB == 1.0
    async with raw_server("hang") as server:
        upstream = Upstream(settings(server.url, timeout_seconds=0.1))
        outcome = await upstream.send(batch(b" " * int(mebibytes * 2**20)), {})
        await upstream.aclose()

    assert isinstance(outcome, Wait)
    assert f"did not answer within {seconds} s" in outcome.reason


async def test_upstream_reads_at_most_64_kib_of_an_answer(
    raw_server: Running, settings: Settings
) -> None:
    """The server would go on for a gigabyte."""
    head = b"HTTP/1.1 400 No\r\ncontent-length: 1000000000\r\ncontent-type: text/plain\r\n\r\n"
    async with raw_server(head + b"no " * 100_000) as server:
        with anyio.fail_after(10):
            outcome = await send_once(settings(server.url, timeout_seconds=30))

    assert isinstance(outcome, Blocked)
    assert "400" in outcome.reason
    assert len(outcome.reason) < 1000


async def test_upstream_stops_unzipping_at_64_kib(
    raw_server: Running, settings: Settings, make_answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    real = upstream_response.read_words

    def read_words(body: bytes, content_type: str) -> str:
        lengths.append(len(body))
        return real(body, content_type)

    monkeypatch.setattr(upstream_response, "read_words", read_words)
    bomb = gzip.compress(b" " * 50_000_000)
    reply = make_answer(400, bomb, headers=["content-encoding: gzip"])
    async with raw_server(reply) as server:
        outcome = await send_once(settings(server.url))

    assert isinstance(outcome, Blocked)
    assert lengths == [MAX_RESPONSE_BYTES]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("hang", "took the request and did not answer within 0.2 s"),
        (b"HTTP/1.1 200 O", "began a response whose head did not end within 0.2 s"),
    ],
)
async def test_upstream_gives_up_at_its_deadline_and_says_in_which_stage(
    raw_server: Running, settings: Settings, step: bytes | str, words: str
) -> None:
    async with raw_server(step, b"") as server:
        outcome = await send_once(settings(server.url, timeout_seconds=0.2))

    assert isinstance(outcome, Wait)
    assert f"axiom: 127.0.0.1:{server.port} {words}; " in outcome.reason


async def test_upstream_has_one_deadline_however_slowly_the_answer_drips(
    raw_server: Running, settings: Settings
) -> None:
    """A deadline a read would never pass, since a byte comes with each."""
    async with raw_server(b"HTTP/1.1 200 O") as server, anyio.create_task_group() as dripping:

        async def drip() -> None:
            await server.arrived.wait()
            with contextlib.suppress(ConnectionError):
                for _ in range(1000):
                    server.writers[0].write(b"K")
                    await server.writers[0].drain()
                    await anyio.sleep(0.02)

        dripping.start_soon(drip)
        with anyio.fail_after(5):
            outcome = await send_once(settings(server.url, timeout_seconds=0.3))
        dripping.cancel_scope.cancel()

    assert isinstance(outcome, Wait)
    assert "began a response whose head did not end within 0.3 s" in outcome.reason


@pytest.mark.parametrize("status", [200, 401])
async def test_upstream_goes_by_the_status_when_the_body_never_comes(
    raw_server: Running, settings: Settings, status: int
) -> None:
    """The upstream has decided: taking a 200 for a timeout would send every span twice."""
    head = f"HTTP/1.1 {status} X\r\ncontent-length: 10\r\ncontent-type: text/plain\r\n\r\nab"
    async with raw_server(head.encode()) as server:
        hanging = await send_once(settings(server.url, timeout_seconds=0.2))
    async with raw_server(head.encode().replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")) as (
        server
    ):
        cut = await send_once(settings(server.url))

    assert type(hanging) is type(cut) is (Delivered if status == 200 else Blocked)
    assert hanging.status == cut.status == status


async def test_upstream_opens_a_new_connection_after_a_timeout(
    raw_server: Running, settings: Settings, make_answer: Answer
) -> None:
    async with raw_server("hang", make_answer()) as server:
        upstream = Upstream(settings(server.url, timeout_seconds=0.2))
        first = await upstream.send(batch(), {})
        second = await upstream.send(batch(), {})
        await upstream.aclose()

    assert isinstance(first, Wait)
    assert second == Delivered(200)
    assert [request.connection for request in server.requests] == [1, 2]


async def test_upstream_tries_once_more_when_a_reused_connection_dies_before_an_answer(
    raw_server: Running, settings: Settings, make_answer: Answer
) -> None:
    async with raw_server(make_answer(), "cut", make_answer()) as server:
        upstream = Upstream(settings(server.url))
        outcomes = [await upstream.send(batch(), {}) for _ in range(2)]
        await upstream.aclose()

    assert outcomes == [Delivered(200), Delivered(200)]
    assert [request.connection for request in server.requests] == [1, 1, 2]


async def test_upstream_tries_only_once_more(
    raw_server: Running, settings: Settings, make_answer: Answer
) -> None:
    async with raw_server(make_answer(), "cut", "cut", make_answer()) as server:
        upstream = Upstream(settings(server.url))
        await upstream.send(batch(), {})
        outcome = await upstream.send(batch(), {})
        await upstream.aclose()

    assert isinstance(outcome, Wait)
    assert "closed the connection without a response" in outcome.reason
    assert len(server.requests) == 3


async def test_upstream_does_not_try_again_on_a_new_connection_or_after_half_an_answer(
    raw_server: Running, settings: Settings, make_answer: Answer
) -> None:
    half = b"HTTP/1.1 200 OK\r\nx: connection: close"
    async with raw_server("cut", make_answer(), half, make_answer()) as server:
        upstream = Upstream(settings(server.url))
        first = await upstream.send(batch(), {})
        assert await upstream.send(batch(), {}) == Delivered(200)
        halved = await upstream.send(batch(), {})
        await upstream.aclose()

    assert isinstance(first, Wait)
    assert isinstance(halved, Wait)
    assert "closed the connection in the middle of its response" in halved.reason
    assert len(server.requests) == 3


async def test_upstream_notices_an_idle_connection_that_was_closed(
    raw_server: Running, settings: Settings, make_answer: Answer
) -> None:
    async with raw_server(make_answer()) as server:
        upstream = Upstream(settings(server.url))
        await upstream.send(batch(), {})
        server.writers[0].close()
        await server.writers[0].wait_closed()
        await anyio.wait_all_tasks_blocked()
        assert await upstream.send(batch(), {}) == Delivered(200)
        await upstream.aclose()

    assert [request.connection for request in server.requests] == [1, 2]


@pytest.mark.parametrize("how", ["update", "renew"])
async def test_upstream_connects_anew_after_a_reload_and_when_it_is_told_to(
    raw_server: Running, settings: Settings, how: str
) -> None:
    async with raw_server() as server, raw_server() as other:
        upstream = Upstream(settings(server.url))
        await upstream.send(batch(), {"a": "1"})
        if how == "update":
            upstream.update(settings(server.url))
        else:
            upstream.renew()
        await upstream.send(batch(), {"a": "2"})
        await upstream.send(batch(), {"a": "3"})
        upstream.update(settings(other.url))
        await upstream.send(batch(), {"a": "4"})
        await upstream.aclose()

    seen = [(r.connection, r.headers["a"]) for r in server.requests]
    assert seen == [(1, "1"), (2, "2"), (2, "3")]
    assert [(r.connection, r.headers["a"]) for r in other.requests] == [(1, "4")]


@pytest.mark.parametrize("status", [301, 401, 404, 408, 429, 500, 503])
async def test_upstream_connects_anew_after_a_failure(
    raw_server: Running, settings: Settings, make_answer: Answer, status: int
) -> None:
    async with raw_server(make_answer(), make_answer(status), make_answer()) as server:
        upstream = Upstream(settings(server.url))
        for _ in range(4):
            await upstream.send(batch(), {})
        await upstream.aclose()

    assert [request.connection for request in server.requests] == [1, 1, 2, 2]


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_upstream_keeps_a_connection_for_a_minute_after_a_refusal_of_the_content(
    raw_server: Running,
    settings: Settings,
    make_answer: Answer,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    """What was refused is halved and sent again at once: no handshake for each half."""
    async with raw_server(make_answer(status)) as server:
        upstream = Upstream(settings(server.url))
        await upstream.send(batch(), {})
        monkeypatch.setattr("relay.upstream.exchange.REFUSED_AGE_SECONDS", 0.0)
        await upstream.send(batch(), {})
        await upstream.send(batch(), {})
        await upstream.aclose()

    assert [request.connection for request in server.requests] == [1, 1, 2]


async def test_upstream_uses_no_connection_for_longer_than_five_minutes(
    raw_server: Running, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exchange.MAX_AGE_SECONDS == 300.0
    monkeypatch.setattr(exchange, "MAX_AGE_SECONDS", 0.0)
    async with raw_server() as server:
        upstream = Upstream(settings(server.url))
        for _ in range(2):
            assert await upstream.send(batch(), {}) == Delivered(200)
        await upstream.aclose()

    assert [request.connection for request in server.requests] == [1, 2]


async def test_upstream_finds_a_name_that_moved_away_from_a_server_that_fails(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, make_answer: Answer
) -> None:
    """The old one goes on answering for as long as it is asked."""
    leads_to = ["127.0.0.1"]

    async def look_up(host: str, port: int) -> list[str]:
        assert host == "moved.example"
        return list(leads_to)

    monkeypatch.setattr("relay.upstream.dial._look_up", look_up)
    async with serving("127.0.0.1", make_answer(503)) as port:
        async with serving("127.0.0.2", make_answer(), port=port):
            upstream = Upstream(settings(f"http://moved.example:{port}/v1/traces", proxy="none"))
            away = await upstream.send(batch(), {})
            leads_to[:] = ["127.0.0.2"]
            there = await upstream.send(batch(), {})
            await upstream.aclose()

    assert isinstance(away, Wait)
    assert there == Delivered(200)


@contextlib.asynccontextmanager
async def serving(host: str, answer: bytes, *, port: int = 0) -> AsyncIterator[int]:
    """A server at an address of its own that says the same to each request."""

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            async for _request in stream:
                await stream.send(answer)

    listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
        tasks.cancel_scope.cancel()


async def test_upstream_closes_its_connection_when_it_is_cancelled(
    raw_server: Running, settings: Settings, make_answer: Answer
) -> None:
    async with raw_server("hang", make_answer()) as server:
        upstream = Upstream(settings(server.url))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(upstream.send, batch(), {})
            with anyio.fail_after(5):
                await server.arrived.wait()
            tasks.cancel_scope.cancel()
        assert await upstream.send(batch(), {}) == Delivered(200)
        await upstream.aclose()

    assert [request.connection for request in server.requests] == [1, 2]


async def test_upstream_takes_an_early_refusal_of_a_body_it_could_not_send(
    settings: Settings,
) -> None:
    """A server may answer 413 and close while the body is still on its way."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's

    async def refuse(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive(1000)
            await stream.send(b"HTTP/1.1 413 Big\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            for _ in range(20):
                await stream.receive(65536)

    async with listener, anyio.create_task_group() as serving:
        serving.start_soon(listener.serve, refuse)
        upstream = Upstream(settings(f"http://127.0.0.1:{port}/"))
        outcome = await upstream.send(batch(os.urandom(8_000_000)), {})
        await upstream.aclose()
        serving.cancel_scope.cancel()

    assert isinstance(outcome, Blocked)
    assert outcome.status == 413


async def test_upstream_opens_a_new_connection_when_the_old_was_idle_for_too_long(
    raw_server: Running, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.upstream.exchange.KEEP_ALIVE_SECONDS", -1.0)
    async with raw_server() as server:
        upstream = Upstream(settings(server.url))
        for _ in range(2):
            await upstream.send(batch(), {})
        await upstream.aclose()

    assert [request.connection for request in server.requests] == [1, 2]


async def test_upstream_waits_for_a_port_where_nothing_listens(settings: Settings) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        outcome = await send_once(settings(f"http://127.0.0.1:{port}/v1/traces"))

    assert outcome == Wait(
        f"axiom: 127.0.0.1:{port} refused the connection: nothing listens there; "
        "start what should listen there, or check the port in the endpoint "
        "(OTLP over HTTP usually has 4318); it is retried automatically"
    )


async def test_upstream_waits_for_a_name_that_is_unknown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(anyio, "getaddrinfo", fail)
    monkeypatch.setattr("anyio._core._sockets.getaddrinfo", fail)
    outcome = await send_once(settings("http://no.such.example/v1/traces"))

    assert outcome == Wait(
        "axiom: the host no.such.example is unknown: DNS has no address for it; "
        "check the spelling of the host in the endpoint, and whether this machine's DNS knows it; "
        "it is retried automatically"
    )


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "something that is not HTTP/1.1"),
        (b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05", "speaks HTTP/2 only, as gRPC does"),
        (
            b"\x15\x03\x01\x00\x02\x02\x46",
            "speaks TLS, and the endpoint begins with http://; use https://",
        ),
        (b"220 mail.example ready", "something that is not HTTP/1.1"),
        (b"HTTP/1.1 abc\r\n\r\n", "something that is not HTTP/1.1"),
    ],
)
async def test_upstream_blocks_on_a_port_that_speaks_something_else(
    raw_server: Running, settings: Settings, reply: bytes, hint: str
) -> None:
    async with raw_server(reply, "cut") as server:
        server.script[0] = reply
        upstream = Upstream(settings(server.url, timeout_seconds=5))
        async with anyio.create_task_group() as tasks:

            async def close() -> None:
                await server.arrived.wait()
                await anyio.wait_all_tasks_blocked()
                server.writers[0].close()

            tasks.start_soon(close)
            outcome = await upstream.send(batch(), {})
            tasks.cancel_scope.cancel()
        await upstream.aclose()

    assert isinstance(outcome, Blocked)
    assert hint in outcome.reason


@pytest.mark.parametrize("endpoint", ["", "ftp://a/", "http://", "http://[", "127.0.0.1:4318"])
async def test_upstream_blocks_on_an_endpoint_that_is_no_url(
    settings: Settings, endpoint: str
) -> None:
    outcome = await send_once(settings(endpoint))

    assert isinstance(outcome, Blocked)
    assert "its endpoint is not a" in outcome.reason


async def test_upstream_raises_a_mistake_of_ours_instead_of_blaming_the_upstream(
    raw_server: Running, settings: Settings, make_answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Outcome:
        raise ZeroDivisionError

    monkeypatch.setattr("relay.upstream.outcomes.classify", fail)
    async with raw_server(make_answer(503)) as server:
        with pytest.raises(ZeroDivisionError):
            await send_once(settings(server.url))
