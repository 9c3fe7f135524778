"""Real TLS with throw-away certificates, and real proxies: who is trusted, and what is said."""

import base64
import contextlib
import dataclasses
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import pytest
from anyio.streams.tls import TLSListener
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import structs

from relay.config import DestinationConfig
from relay.model.records import Encoding
from relay.upstream.exchange import Body, ExchangeFailed, Upstream
from relay.upstream.outcomes import Blocked, Delivered, Outcome, Wait
from tests.support.certificates import (
    DAY,
    NOW,
    Authority,
    certificate_for,
    general_name,
    make_authority,
    write,
)

pytestmark = pytest.mark.anyio

Running = Callable[..., contextlib.AbstractAsyncContextManager[Any]]
Answer = Callable[..., bytes]
Settings = Callable[..., DestinationConfig]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


def server_context(certificate: str, key: str, client_ca: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


async def send_once(settings: DestinationConfig, **headers: str) -> Outcome:
    upstream = Upstream(settings)
    try:
        return await upstream.send(Body(encoding=Encoding.JSON, content=b"{}"), headers)
    finally:
        await upstream.aclose()


def https(port: int, host: str = "127.0.0.1") -> str:
    return f"https://{host}:{port}/v1/traces"


async def test_tls_delivers_to_a_certificate_of_the_own_authority(
    raw_server: Running, settings: Settings, authority: Authority
) -> None:
    async with raw_server(context=server_context(*authority.issue("server"))) as server:
        trusting = settings(https(server.port), ca_file=authority.file)
        upstream = Upstream(trusting)
        batch = Body(encoding=Encoding.JSON, content=b"x" * 300_000)
        outcomes = [await upstream.send(batch, {}) for _ in range(2)]
        await upstream.aclose()

    assert outcomes == [Delivered(200), Delivered(200)]
    assert server.connections == 1
    assert [len(request.body) for request in server.requests] == [300_000, 300_000]


async def test_tls_blocks_on_a_certificate_that_the_system_does_not_trust(
    raw_server: Running, settings: Settings, authority: Authority
) -> None:
    async with raw_server(context=server_context(*authority.issue("server"))) as server:
        outcome = await send_once(settings(https(server.port)))

    assert isinstance(outcome, Blocked)
    assert "signed by an authority that this machine does not trust" in outcome.reason
    assert (
        "; set ca_file to its authority, or have the server send the whole chain, then reload"
        in (outcome.reason)
    )
    assert not server.requests


async def test_tls_blocks_on_a_self_signed_certificate_and_takes_it_as_ca_file(
    raw_server: Running, settings: Settings, authority: Authority
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "self")])
    made = (
        certificate_for("self", key.public_key(), name)
        .add_extension(x509.SubjectAlternativeName([general_name("127.0.0.1")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = write(authority.folder, "self", made, key)
    async with raw_server(context=server_context(*paths)) as server:
        untrusted = await send_once(settings(https(server.port)))
        trusted = await send_once(settings(https(server.port), ca_file=paths[0]))

    assert isinstance(untrusted, Blocked)
    assert "is self-signed, or its authority is: self-signed certificate" in untrusted.reason
    assert trusted == Delivered(200)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ends": NOW - DAY / 2}, " has expired; have it renewed there"),
        ({"begins": NOW + DAY / 2}, " is not valid yet; check this machine's clock"),
        ({"host": "other.example"}, " is for another name than 127.0.0.1; use the host name of"),
        ({"host": "10.0.0.1"}, " is for another name than 127.0.0.1; use the host name of"),
    ],
)
async def test_tls_blocks_on_a_certificate_that_is_wrong_and_says_how(
    raw_server: Running,
    settings: Settings,
    authority: Authority,
    changes: dict[str, Any],
    words: str,
) -> None:
    context = server_context(*authority.issue("server", **changes))
    async with raw_server(context=context) as server:
        outcome = await send_once(settings(https(server.port), ca_file=authority.file))

    assert isinstance(outcome, Blocked)
    assert words in outcome.reason
    assert not server.requests


async def test_tls_blocks_on_a_name_that_the_certificate_does_not_hold(
    raw_server: Running, settings: Settings, authority: Authority
) -> None:
    context = server_context(*authority.issue("server", host="other.example"))
    async with raw_server(context=context) as server:
        here = https(server.port, "localhost")
        outcome = await send_once(settings(here, ca_file=authority.file))

    assert isinstance(outcome, Blocked)
    assert " is for another name than localhost" in outcome.reason


def serve_blocking(listener: socket.socket, context: ssl.SSLContext, connections: int) -> None:
    """A TLS server that sends alerts: asyncio's closes without one when it refuses a client."""
    for _ in range(connections):
        raw, _peer = listener.accept()
        raw.settimeout(10)
        tls = context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        try:
            tls.do_handshake()
        except ssl.SSLError:
            # The request is behind the handshake already: closing on it would be a reset, which
            # takes the alert with it.
            with socket.socket(fileno=tls.detach()) as plain:
                plain.settimeout(10)
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(65536):
                    pass
            continue
        with tls:
            tls.recv(65536)
            tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            tls.recv(1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_shows_its_client_certificate_where_one_is_required(
    settings: Settings, authority: Authority, version: ssl.TLSVersion
) -> None:
    """TLS 1.3 refuses only after the handshake, with the first read."""
    context = server_context(*authority.issue("server"), client_ca=authority.file)
    context.maximum_version = version
    certificate, key = authority.issue("client")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with anyio.create_task_group() as serving:
            serving.start_soon(anyio.to_thread.run_sync, serve_blocking, listener, context, 2)
            trusting = settings(https(port), ca_file=authority.file)
            without = await send_once(trusting)
            shown = structs.replace(trusting, client_cert=Path(certificate), client_key=Path(key))
            with_it = await send_once(shown)

    assert isinstance(without, Blocked)
    assert "requires a client certificate that it accepts" in without.reason
    assert "set client_cert and client_key, then reload" in without.reason
    assert with_it == Delivered(200)


async def test_tls_blocks_on_a_port_that_speaks_plain_http(settings: Settings) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's

    async def refuse(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive(1000)
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listener, anyio.create_task_group() as serving:
        serving.start_soon(listener.serve, refuse)
        outcome = await send_once(settings(https(port)))
        serving.cancel_scope.cancel()

    assert isinstance(outcome, Blocked)
    assert (
        "does not speak TLS, and the endpoint begins with https://; use http:// in"
        in outcome.reason
    )


async def test_plain_http_to_a_tls_port_is_blocked_with_the_cure(
    raw_server: Running, settings: Settings, authority: Authority
) -> None:
    """Some answer with a TLS alert, some close without a byte: the second can only be waited on."""
    async with raw_server(context=server_context(*authority.issue("server"))) as server:
        outcome = await send_once(settings(server.url))

    assert isinstance(outcome, Blocked | Wait)
    assert "https://" in outcome.reason or "closed the connection" in outcome.reason


async def test_tls_files_are_read_again_by_the_next_probe(
    raw_server: Running, settings: Settings, authority: Authority, tmp_path: Path
) -> None:
    missing = tmp_path / "later.pem"
    async with raw_server(context=server_context(*authority.issue("server"))) as server:
        upstream = Upstream(settings(https(server.port), ca_file=str(missing)))
        batch = Body(encoding=Encoding.JSON, content=b"{}")
        before = await upstream.send(batch, {})
        shutil.copy(authority.file, missing)
        after = await upstream.send(batch, {})
        await upstream.aclose()

    assert isinstance(before, Blocked)
    assert f"{missing}: No such file" in before.reason
    assert after == Delivered(200)


async def test_tls_authority_that_was_replaced_in_place_is_taken_up_by_the_next_probe(
    raw_server: Running, settings: Settings, authority: Authority, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    stranger = make_authority(other)
    async with raw_server(context=server_context(*authority.issue("server"))) as server:
        upstream = Upstream(settings(https(server.port), ca_file=stranger.file))
        batch = Body(encoding=Encoding.JSON, content=b"{}")
        before = await upstream.send(batch, {})
        shutil.copy(authority.file, stranger.file)
        after = await upstream.send(batch, {})
        await upstream.aclose()

    assert isinstance(before, Blocked)
    assert after == Delivered(200)


@dataclasses.dataclass
class Proxy:
    """Takes CONNECT and absolute targets; says who asked for what."""

    port: int
    heads: list[bytes]


@contextlib.asynccontextmanager
async def proxying(
    answer: bytes = b"", context: ssl.SSLContext | None = None
) -> AsyncIterator[Proxy]:
    """A proxy that tunnels, or that says `answer` to everything; spoken to in TLS by `context`."""
    listener: anyio.abc.Listener[Any] = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
    proxy = Proxy(port, [])
    if context is not None:
        listener = TLSListener(listener, context, standard_compatible=False)

    async def serve(stream: anyio.abc.ByteStream) -> None:
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            async with stream:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += await stream.receive(65536)
                proxy.heads.append(head)
                if answer:
                    await stream.send(answer)
                    return
                host, _, number = head.split(b" ")[1].decode().rpartition(":")
                # The name does not exist: what is asked for is on this machine.
                assert host == "api.axiom.example"
                async with await anyio.connect_tcp("127.0.0.1", int(number)) as target:
                    await stream.send(b"HTTP/1.1 200 Connected\r\n\r\n")
                    await tunnel(stream, target)

    async with listener, anyio.create_task_group() as serving:
        serving.start_soon(listener.serve, serve)
        yield proxy
        serving.cancel_scope.cancel()


async def tunnel(one: anyio.abc.ByteStream, other: anyio.abc.ByteStream) -> None:
    async def copy(source: anyio.abc.ByteStream, sink: anyio.abc.ByteStream) -> None:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for data in source:
                await sink.send(data)
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(copy, one, other)
        tasks.start_soon(copy, other, one)


async def test_proxy_of_the_environment_carries_tls_to_elsewhere_without_the_token(
    raw_server: Running,
    settings: Settings,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = server_context(*authority.issue("server", host="api.axiom.example"))
    async with raw_server(context=context) as server, proxying() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pa%40ss@127.0.0.1:{proxy.port}")
        there = https(server.port, "api.axiom.example")
        outcome = await send_once(
            settings(there, ca_file=authority.file), Authorization="Bearer hunter2"
        )

    assert outcome == Delivered(200)
    head = proxy.heads[0].lower()
    assert head.startswith(b"connect api.axiom.example:")
    basic = base64.b64encode(b"user:pa@ss").lower()
    assert b"proxy-authorization: basic " + basic in head
    assert b"hunter2" not in head
    assert server.requests[0].headers["authorization"] == "Bearer hunter2"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_that_is_spoken_to_in_tls_carries_plain_and_tls(
    raw_server: Running,
    settings: Settings,
    make_answer: Answer,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    def trusting() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=authority.file)

    monkeypatch.setattr("httpcore2.default_ssl_context", trusting)
    own = server_context(*authority.issue("proxy"))
    target = server_context(*authority.issue("server", host="api.axiom.example"))
    answer = make_answer() if scheme == "http" else b""
    async with raw_server(context=target) as server, proxying(answer, own) as proxy:
        endpoint = f"{scheme}://api.axiom.example:{server.port}/v1/traces"
        through = f"https://user:hunter2@127.0.0.1:{proxy.port}"
        outcome = await send_once(settings(endpoint, ca_file=authority.file, proxy=through))

    assert outcome == Delivered(200)
    assert len(server.requests) == (scheme == "https")
    basic = base64.b64encode(b"user:hunter2").lower()
    assert b"proxy-authorization: basic " + basic in proxy.heads[0].lower()


async def test_proxy_of_the_environment_is_not_used_for_this_machine(
    raw_server: Running, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_server() as server, proxying() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        outcome = await send_once(settings(server.url))

    assert outcome == Delivered(200)
    assert not proxy.heads


async def test_proxy_gets_absolute_targets_for_plain_http(
    settings: Settings, make_answer: Answer
) -> None:
    async with proxying(make_answer()) as proxy:
        through = settings(
            "http://api.axiom.example/v1/traces", proxy=f"http://127.0.0.1:{proxy.port}"
        )
        outcome = await send_once(through)

    assert outcome == Delivered(200)
    assert proxy.heads[0].startswith(b"POST http://api.axiom.example/v1/traces HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            b"HTTP/1.1 407 Who are you\r\n\r\n",
            Blocked,
            "it requires a user and a password; set proxy = ",
        ),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", Blocked, 'set proxy = "none"'),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", Blocked, "then reload"),
        (b"HTTP/1.1 408 Request Timeout\r\n\r\n", Wait, "it is retried automatically"),
        (b"HTTP/1.1 425 Too Early\r\n\r\n", Wait, "it is retried automatically"),
        (b"HTTP/1.1 429 Too Many Requests\r\n\r\n", Wait, "it is retried automatically"),
        (b"HTTP/1.1 500 Oops\r\n\r\n", Wait, "it is retried automatically"),
        (b"HTTP/1.1 503 Busy\r\nX-Cache : MISS\r\n\r\n", Wait, "it is retried automatically"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Wait, "it is retried automatically"),
    ],
)
async def test_proxy_that_refuses_is_named_as_the_one_who_did(
    settings: Settings, answer: bytes, kind: type, words: str
) -> None:
    async with proxying(answer) as proxy:
        through = settings(
            "https://api.axiom.example/v1/traces",
            proxy=f"http://user:hunter2@127.0.0.1:{proxy.port}",
        )
        outcome = await send_once(through)

    assert isinstance(outcome, kind)
    assert isinstance(outcome, Blocked | Wait)
    assert f"the proxy 127.0.0.1:{proxy.port} answered {answer[9:12].decode()}" in outcome.reason
    assert words in outcome.reason
    assert "hunter2" not in outcome.reason


async def test_proxy_that_sends_interim_responses_without_an_end_is_waited_for(
    settings: Settings,
) -> None:
    async with proxying(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000) as proxy:
        through = settings(
            "https://api.axiom.example/v1/traces", proxy=f"http://127.0.0.1:{proxy.port}"
        )
        outcome = await send_once(through)

    assert isinstance(outcome, Wait)
    assert f"127.0.0.1:{proxy.port} sent more than 16 interim responses" in outcome.reason


async def test_proxy_that_says_its_password_is_shown_without_it(settings: Settings) -> None:
    async with proxying(b"HTTP/1.1 403 user:hunter2 may not\r\n\r\n") as proxy:
        through = settings(
            "https://api.axiom.example/v1/traces",
            proxy=f"http://user:hunter2@127.0.0.1:{proxy.port}",
        )
        outcome = await send_once(through)
        with pytest.raises(ExchangeFailed) as failed:
            await Upstream(through).connect()

    assert isinstance(outcome, Blocked)
    for said in (outcome.reason, failed.value.fault.cause):
        assert "answered 403 *** may not: it does not let this machine through" in said


async def test_proxy_answer_is_not_taken_for_the_upstream_s(
    raw_server: Running, settings: Settings, authority: Authority
) -> None:
    context = server_context(*authority.issue("server", host="api.axiom.example"))
    async with raw_server("hang", context=context) as server, proxying() as proxy:
        outcome = await send_once(
            settings(
                https(server.port, "api.axiom.example"),
                ca_file=authority.file,
                proxy=f"http://127.0.0.1:{proxy.port}",
                timeout_seconds=0.5,
            )
        )

    assert isinstance(outcome, Wait)
    assert "took the request and did not answer within 0.5 s" in outcome.reason
