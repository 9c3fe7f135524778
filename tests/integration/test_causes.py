"""Twenty causes of "my span did not arrive", each staged for real: one command names it in 2 s."""

import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from tests.support.builders import request, span
from tests.support.causes import CAUSES, Cause
from tests.support.certificates import DAY, NOW, make_authority
from tests.support.disks import MIB, mounted, needs_root
from tests.support.load import span_ids
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually

SECONDS = 2.0
TRACE = "0af7651916cd43dd8448eb211c80319c"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"

Stage = Callable[[Path], Iterator[Relay]]
STAGES: dict[str, Stage] = {}


def stages(*keys: str) -> Callable[[Stage], Stage]:
    """The function stages causes of these keys; it gives the relay to ask."""

    def noted(stage: Any) -> Any:
        for key in keys:
            STAGES[key] = stage
        return stage

    return noted


def post(relay: Relay, *, trace_id: str = TRACE, **members: Any) -> None:
    assert relay.post(request(span(traceId=trace_id, **members)))[0] in (200, 400)


def say_to(port: int, data: bytes, host: str = "127.0.0.1") -> None:
    """Say it, and wait until the other side hangs up."""
    with socket.create_connection((host, port), 10) as client:
        client.sendall(data)
        while client.recv(4096):
            pass


def up(endpoint: str, **keys: Any) -> dict[str, dict[str, Any]]:
    return {"up": {"endpoint": endpoint, **keys}}


def reload(relay: Relay) -> None:
    relay.signal(signal.SIGHUP)
    eventually(lambda: '"reloaded"' in relay.log())


def is_in(relay: Relay, *states: str) -> Callable[[], bool]:
    return lambda: relay.destination("up")["state"] in states


@stages("path")
def wrong_path(folder: Path) -> Iterator[Relay]:
    with Relay(folder) as relay:
        assert relay.post(request(span()), path="/v1/trace")[0] == 404
        yield relay


@stages("base without a path")
def no_path(folder: Path) -> Iterator[Relay]:
    with Relay(folder) as relay:
        assert relay.post(request(span()), path="/")[0] == 404
        yield relay


@stages("doubled by the app")
def doubled_path(folder: Path) -> Iterator[Relay]:
    with Relay(folder) as relay:
        assert relay.post(request(span()), path="/v1/traces/v1/traces")[0] == 404
        yield relay


@stages("doubled endpoint")
def doubled_endpoint(folder: Path) -> Iterator[Relay]:
    with MockCollector() as upstream, Relay(folder, up(f"{upstream.endpoint}/v1/traces")) as relay:
        yield relay


@stages("grpc on 4318")
def grpc(folder: Path) -> Iterator[Relay]:
    with Relay(folder) as relay:
        say_to(relay.ingest_port, PREFACE)
        yield relay


@stages("grpc on 4317")
def grpc_on_its_own_port(folder: Path) -> Iterator[Relay]:
    relay = Relay(folder)
    text = relay.config.read_text().replace("[ingest]\n", "[ingest]\ngrpc_hint = true\n")
    # An address of its own, since 4317 of the usual one may be in use on the host of the tests.
    relay.config.write_text(text.replace("127.0.0.1:", "127.0.0.119:", 1))
    with relay:
        say_to(4317, PREFACE, "127.0.0.119")
        yield relay


@stages("token of the app")
def token_of_the_app(folder: Path) -> Iterator[Relay]:
    relay = Relay(folder)
    text = relay.config.read_text()
    relay.config.write_text(text.replace("[ingest]\n", "[ingest]\ntokens = ['right']\n"))
    with relay:
        wrong = {"Authorization": "Bearer wrong"}
        assert relay.post(request(span()), headers=wrong)[0] == 403
        yield relay


@stages("token of the upstream")
def token_of_the_upstream(folder: Path) -> Iterator[Relay]:
    headers = {"Authorization": "Bearer wrong"}
    with MockCollector(script="401*:no such key") as upstream:
        with Relay(folder, up(upstream.endpoint, headers=headers)) as relay:
            yield relay


@stages("secret")
def secret_that_is_not_set(folder: Path) -> Iterator[Relay]:
    headers = {"Authorization": "Bearer ${env:NO_SUCH_TOKEN}"}
    with (
        MockCollector() as upstream,
        Relay(folder, up(upstream.endpoint, headers=headers)) as relay,
    ):
        relay.environ["NO_SUCH_TOKEN"] = "known to who asks, not to the daemon"
        yield relay


@stages("data set")
def data_set(folder: Path) -> Iterator[Relay]:
    headers = {"Authorization": "Bearer xaat-mock"}
    with MockCollector(profile="axiom") as upstream:
        with Relay(folder, up(upstream.endpoint, headers=headers)) as relay:
            yield relay


@stages("json")
def json_is_refused(folder: Path) -> Iterator[Relay]:
    with MockCollector(profile="phoenix") as upstream:
        with Relay(
            folder, up(upstream.endpoint, encoding="json", headers=upstream.headers)
        ) as relay:
            yield relay


@stages("milliseconds")
def milliseconds(folder: Path) -> Iterator[Relay]:
    now = str(time.time_ns() // 1_000_000)
    with Relay(folder) as relay:
        post(relay, startTimeUnixNano=now, endTimeUnixNano=now)
        yield relay


@stages("year ahead")
def year_ahead(folder: Path) -> Iterator[Relay]:
    then = str(time.time_ns() + 365 * 24 * 3600 * 10**9)
    with Relay(folder) as relay:
        post(relay, startTimeUnixNano=then, endTimeUnixNano=then)
        yield relay


@stages("tls to plain")
def tls_to_plain(folder: Path) -> Iterator[Relay]:
    with MockCollector() as upstream:
        with Relay(folder, up(f"https://127.0.0.1:{upstream.port}/v1/traces")) as relay:
            yield relay


def with_certificate(folder: Path, *, is_trusted: bool, **issued: Any) -> Iterator[Relay]:
    authority = make_authority(folder)
    cert, key = authority.issue("server", **issued)
    keys = {"ca_file": authority.file} if is_trusted else {}
    with MockCollector(cert_file=cert, key_file=key) as upstream:
        with Relay(folder, up(upstream.endpoint, **keys)) as relay:
            yield relay


@stages("unknown authority")
def unknown_authority(folder: Path) -> Iterator[Relay]:
    yield from with_certificate(folder, is_trusted=False)


@stages("other name")
def other_name(folder: Path) -> Iterator[Relay]:
    yield from with_certificate(folder, is_trusted=True, host="other.example")


@stages("expired")
def expired(folder: Path) -> Iterator[Relay]:
    yield from with_certificate(folder, is_trusted=True, ends=NOW - DAY / 2)


@stages("tls from the app")
def tls_from_the_app(folder: Path) -> Iterator[Relay]:
    with Relay(folder) as relay:
        with socket.create_connection(("127.0.0.1", relay.ingest_port), 10) as client:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                ssl._create_unverified_context().wrap_socket(client)  # noqa: S323
        yield relay


@stages("proxy")
def wrong_proxy(folder: Path) -> Iterator[Relay]:
    proxy = {"HTTP_PROXY": f"http://127.0.0.1:{free_port()}"}
    with Relay(folder, up("http://up.example/v1/traces"), environ=proxy) as relay:
        relay.environ.clear()  # who asks does not have it: the daemon has
        yield relay


@stages("large request")
def large_request(folder: Path) -> Iterator[Relay]:
    relay = Relay(folder)
    text = relay.config.read_text()
    relay.config.write_text(text.replace("[ingest]\n", "[ingest]\nmax_body = '1KiB'\n"))
    with relay:
        assert relay.post(request(span(name="x" * 2000)))[0] == 413
        yield relay


@stages("large span")
def large_span(folder: Path) -> Iterator[Relay]:
    with MockCollector(max_body_bytes=2000) as upstream:
        with Relay(folder, up(upstream.endpoint)) as relay:
            post(relay, trace_id="1" * 32)
            upstream.journal.wait_for_spans(1)
            post(relay, name="x" * 3000)
            eventually(lambda: relay.status()["buffer"]["dead_letters"])
            yield relay


@stages("nothing sent", "sampled out")
def nothing_sent(folder: Path) -> Iterator[Relay]:
    with Relay(folder) as relay:
        yield relay


@stages("paused")
def paused(folder: Path) -> Iterator[Relay]:
    with MockCollector() as upstream, Relay(folder, up(upstream.endpoint)) as relay:
        assert relay.run("destination pause", "up").returncode == 0
        post(relay)
        eventually(is_in(relay, "paused"))
        yield relay


@stages("paused in a file")
def paused_in_a_file(folder: Path) -> Iterator[Relay]:
    with MockCollector() as upstream, Relay(folder, up(upstream.endpoint, paused=True)) as relay:
        post(relay)
        yield relay


@stages("behind")
def behind(folder: Path) -> Iterator[Relay]:
    with MockCollector(script="503*:come back later") as upstream:
        with Relay(folder, up(upstream.endpoint)) as relay:
            post(relay, trace_id="1" * 32)
            eventually(is_in(relay, "waiting"))
            post(relay)
            yield relay


@stages("id")
def invalid_id(folder: Path) -> Iterator[Relay]:
    with Relay(folder) as relay:
        post(relay, trace_id="order-4711")
        yield relay


@stages("port of the admin listener")
def port_of_the_admin_listener(folder: Path) -> Iterator[Relay]:
    with Relay(folder) as relay:
        ingest, relay.ingest_port = relay.ingest_port, relay.admin_port
        assert relay.post(request(span()))[0] == 404
        relay.ingest_port = ingest
        yield relay


@stages("not running")
def not_running(folder: Path) -> Iterator[Relay]:
    yield Relay(folder)


@stages("disk")
def full_disk(folder: Path) -> Iterator[Relay]:
    settings = '[buffer]\nmin_free = "16MiB"'
    with mounted(folder / "state", "tmpfs", 96 * MIB) as disk:
        with Relay(folder, settings=settings) as relay:
            disk.fill()
            eventually(lambda: relay.post(request(span()))[0] == 503)
            yield relay


@stages("evicted")
def evicted(folder: Path) -> Iterator[Relay]:
    settings = '[buffer]\nmax_size = "4MiB"\nmin_free = "0B"\nwhen_full = "drop-oldest"'
    with MockCollector(script="401*") as upstream:
        with Relay(folder, up(upstream.endpoint), settings=settings) as relay:
            post(relay)
            eventually(is_in(relay, "blocked"))

            def is_full() -> bool:
                made = span(traceId="1" * 32, name="".join(span_ids(1250)))
                relay.post(request(made))
                return bool(relay.status()["buffer"]["evicted"])

            eventually(is_full, seconds=40)
            yield relay


@stages("partial success")
def partial_success(folder: Path) -> Iterator[Relay]:
    with MockCollector(script="partial=1:names are too long,ok*") as upstream:
        with Relay(folder, up(upstream.endpoint)) as relay:
            assert relay.post(request(span(traceId=TRACE), span(traceId=TRACE)))[0] == 200
            eventually(lambda: relay.status()["buffer"]["dead_letters"])
            yield relay


@stages("rate limit")
def rate_limit(folder: Path) -> Iterator[Relay]:
    with MockCollector(script="429*:retry-after=60:slow down") as upstream:
        with Relay(folder, up(upstream.endpoint)) as relay:
            post(relay)
            eventually(is_in(relay, "waiting"))
            yield relay


@stages("removed")
def removed(folder: Path) -> Iterator[Relay]:
    with MockCollector() as upstream:
        both = {"endpoint": upstream.endpoint}
        with Relay(folder, {"old": both | {"paused": True}, "up": both}) as relay:
            post(relay)
            relay.write_config({"up": both})
            reload(relay)
            yield relay


def test_every_cause_is_staged() -> None:
    assert {cause.key for cause in CAUSES} == set(STAGES)
    assert len({cause.section for cause in CAUSES}) >= 20


def marked(cause: Cause) -> Any:
    return pytest.param(cause, id=cause.key, marks=needs_root if cause.key == "disk" else ())


@pytest.mark.parametrize("cause", list(map(marked, CAUSES)))
def test_one_command_names_the_cause_within_two_seconds(tmp_path: Path, cause: Cause) -> None:
    with ExitStack() as stack:
        relay = stack.enter_context(contextmanager(STAGES[cause.key])(tmp_path))
        words = cause.command.replace("TRACE", TRACE).split()
        seconds = []
        for _ in range(2):  # this machine may have been busy the first time
            started = time.monotonic()
            shown = relay.run(*words)
            seconds.append(time.monotonic() - started)
    told = shown.stdout + shown.stderr
    missing = [each for each in cause.words if each not in told]

    assert not missing, f"{missing} in\n{told}"
    assert min(seconds) < SECONDS, seconds
    if cause.command == "doctor" and cause.key not in (
        "milliseconds",
        "year ahead",
        "nothing sent",
    ):
        assert shown.returncode == 1, told
