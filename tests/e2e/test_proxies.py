"""The recipes of docs/expose.md, with the real proxies in front of a real relay."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mockcollector.server import MockCollector
from tests.support.certificates import make_authority
from tests.support.load import request_of, span_ids
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually

pytestmark = pytest.mark.e2e
RECIPES = Path(__file__).parents[2] / "docs" / "expose.md"
NGINX = "{user}daemon off; pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; \
client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; \
uwsgi_temp_path {folder}; scgi_temp_path {folder};\n{recipe}\n}}\n"


def recipe(language: str) -> str:
    """The block of that language, word for word."""
    found = re.search(rf"```{language}\n(.*?)```", RECIPES.read_text(), re.DOTALL)
    assert found, f"no {language} block in {RECIPES.name}"
    return found[1]


def program(name: str) -> str:
    """Where the proxy is; without it the test fails and says what to do."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    assert path, f"{name} is not installed: run scripts/proxies (as root on Debian)"
    return path


@contextmanager
def nginx(folder: Path, relay_port: int) -> Iterator[int]:
    """The recipe in nginx, on a free port with a throw-away certificate; yields the port."""
    port = free_port()
    certificate, key = make_authority(folder).issue("server", host="127.0.0.1")
    text = (
        recipe("nginx")
        .replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
        .replace("/etc/ssl/relay.example.com.pem", certificate)
        .replace("/etc/ssl/relay.example.com.key", key)
        .replace("127.0.0.1:4318", f"127.0.0.1:{relay_port}")
    )
    # As root its workers would run as nobody, who may not write into the test's folder.
    user = "user root; " if os.getuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(user=user, folder=folder, recipe=text))
    with running([program("nginx"), "-c", str(config), "-p", str(folder)], port):
        yield port


@contextmanager
def caddy(folder: Path, relay_port: int) -> Iterator[int]:
    """The recipe in Caddy, with a certificate of its own making; yields the port."""
    port = free_port()
    text = (
        recipe("caddyfile")
        .replace("relay.example.com {", f"https://127.0.0.1:{port} {{\n    tls internal")
        .replace("127.0.0.1:4318", f"127.0.0.1:{relay_port}")
    )
    config = folder / "Caddyfile"
    config.write_text(
        "{\n    admin off\n    skip_install_trust\n    auto_https disable_redirects\n}\n" + text
    )
    command = [program("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"]
    with running(command, port, HOME=str(folder)):
        yield port


@contextmanager
def running(command: list[str], port: int, **environ: str) -> Iterator[None]:
    """A process until it accepts on `port`; ended at the end."""
    process = subprocess.Popen(command, env={"PATH": "/usr/sbin:/usr/bin:/bin", **environ})

    def accepts() -> bool:
        assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    try:
        eventually(accepts, what=f"{command[0]} on port {port}")
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def post(port: int, body: bytes, *headers: str) -> str:
    """The status that curl sees; any certificate will do here."""
    arguments = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-"]
    for header in ("Content-Type: application/json", *headers):
        arguments += ["-H", header]
    url = f"https://127.0.0.1:{port}/v1/traces"
    return subprocess.run(
        [*arguments, url], input=body, capture_output=True, timeout=30, check=True
    ).stdout.decode()


@pytest.mark.parametrize("proxy", [nginx, caddy])
def test_spans_come_through_the_proxy_with_the_token_and_no_host_of_this_machine(
    tmp_path: Path, relay_command: tuple[str, ...], proxy: Callable[..., Iterator[int]]
) -> None:
    settings = '[enrich]\ndetect = ["host"]\n'
    ids = span_ids(3)
    large = request_of(ids, padding="x" * 1_500_000)  # above the 1 MB that nginx takes by itself
    with MockCollector() as upstream:
        relay = Relay(
            tmp_path,
            {"mock": {"endpoint": upstream.endpoint}},
            settings=settings,
            executable=relay_command,
        )
        text = relay.config.read_text().replace("[ingest]", '[ingest]\ntokens = ["the-token"]')
        relay.config.write_text(text)
        (tmp_path / "proxy").mkdir()
        with relay, proxy(tmp_path / "proxy", relay.ingest_port) as port:  # type: ignore[attr-defined]
            assert post(port, large) == "401"
            assert post(port, large, "Authorization: Bearer the-token") == "200"
            spans = upstream.journal.wait_for_spans(3, timeout=20)

        assert {span.span_id for span in spans} == set(ids)
        assert all("host.name" not in span.resource.attributes for span in spans)
