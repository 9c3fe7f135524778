"""What `relay/server/` takes for granted of uvicorn, which promises none of it.

When one of these fails after an upgrade, read the protocol's source before the cap in
pyproject.toml is raised: a method of the same name may have taken over other work.
"""

import asyncio
import inspect
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httptools
import pytest
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from relay.server.connection import uvicorn_config

ROOT = Path(__file__).resolve().parents[3]

# What LimitedProtocol and ExchangeConnection override and call, with the names of its parameters.
OVERRIDDEN = {
    "__init__": ["config", "server_state", "app_state", "_loop"],
    "connection_made": ["transport"],
    "connection_lost": ["exc"],
    "data_received": ["data"],
    "eof_received": [],
    "on_message_begin": [],
    "on_headers_complete": [],
    "on_body": ["body"],
    "on_message_complete": [],
    "on_response_complete": [],
    "send_400_response": ["msg"],
    "pause_writing": [],
    "_start_asgi_task": ["cycle", "app"],
}


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_methods_that_we_override_take_what_we_pass(name: str) -> None:
    assert parameters(getattr(HttpToolsProtocol, name)) == OVERRIDDEN[name]


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)})
        self.written = b""
        self.is_answered = asyncio.Event()

    def write(self, data: Any) -> None:
        self.written += bytes(data)
        if self.written.endswith(b"x"):
            self.is_answered.set()

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def _app(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"1")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x"})


@pytest.mark.anyio
async def test_a_connection_has_the_attributes_that_we_read_and_set() -> None:
    config = Config(_app, ws="none", lifespan="off", log_config=None, http=HttpToolsProtocol)
    config.load()
    state = ServerState()
    protocol = HttpToolsProtocol(config, state, {})
    before: object = protocol.cycle
    assert before is None  # until the first request
    transport = _Transport()
    protocol.connection_made(transport)
    assert protocol in protocol.connections
    assert protocol.connections is state.connections
    assert protocol.transport is transport
    assert isinstance(protocol.flow, FlowControl)
    assert (protocol.flow.read_paused, protocol.flow.write_paused) == (False, False)
    assert protocol.scheme == "http"
    assert isinstance(protocol.parser, httptools.HttpRequestParser)
    assert list(protocol.pipeline) == []

    protocol.data_received(b"POST /v1/traces HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n")
    cycle = protocol.cycle
    assert isinstance(cycle, RequestResponseCycle)
    assert protocol.url == b"/v1/traces"
    assert protocol.headers == [(b"host", b"h"), (b"content-length", b"1")]
    assert cycle.scope["headers"] is protocol.headers  # so its successor may be another list
    assert (cycle.keep_alive, cycle.response_complete, cycle.disconnected) == (True, False, False)
    assert isinstance(cycle.message_event, asyncio.Event)
    assert cycle.transport is transport
    protocol.data_received(b"x")
    await asyncio.wait_for(transport.is_answered.wait(), 5)
    assert transport.written.startswith(b"HTTP/1.1 200")
    assert state.total_requests == 1
    # It arms a timer after each response, which is why on_response_complete is overridden.
    assert protocol.timeout_keep_alive_task is not None
    protocol.timeout_keep_alive_task.cancel()
    protocol.connection_lost(None)
    assert protocol not in protocol.connections


@pytest.mark.anyio
async def test_a_queued_request_waits_in_pipeline_the_oldest_last() -> None:
    config = Config(_app, ws="none", lifespan="off", log_config=None, http=HttpToolsProtocol)
    config.load()
    protocol = HttpToolsProtocol(config, ServerState(), {})
    protocol.connection_made(_Transport())
    for path in (b"/1", b"/2", b"/3"):
        protocol.data_received(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path)
    waiting = [cycle.scope["path"] for cycle, _app in protocol.pipeline]
    protocol.connection_lost(None)

    assert waiting == ["/3", "/2"]


def test_our_settings_are_settings_of_uvicorn() -> None:
    config = uvicorn_config(_app)

    assert (config.lifespan, config.ws, config.proxy_headers) == ("off", "none", False)


def test_the_tested_minor_is_the_newest_that_may_be_installed() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (rule,) = [each for each in dependencies if each.startswith("uvicorn")]
    major, minor = map(int, version("uvicorn").split(".")[:2])

    assert rule.endswith(f"<{major}.{minor + 1}")
