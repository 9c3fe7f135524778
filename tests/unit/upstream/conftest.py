"""A raw HTTP server that answers by script, and the settings to reach it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from relay.config import DestinationConfig

HANG = "hang"
CUT = "cut"
KEEP_SILENT_THEN_CUT = "read, wait for `release`, then cut"
Step = bytes | str


@dataclass
class SeenRequest:
    line: str
    headers: dict[str, str]
    names: list[str]
    body: bytes
    connection: int


@dataclass
class RawServer:
    """Answers each request with the next step of `script`; the last one stays.

    A step is the bytes to write, HANG, or CUT (close without a byte). Bytes that end in
    `CLOSE` close the connection behind them.
    """

    script: list[Step] = field(default_factory=list)
    requests: list[SeenRequest] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    arrived: anyio.Event = field(default_factory=anyio.Event)
    release: anyio.Event = field(default_factory=anyio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/traces"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.connections += 1
        connection = self.connections
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while await self._answer(reader, writer, connection):
                pass
        writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> bool:
        self.requests.append(await read_request(reader, connection))
        self.arrived.set()
        step = self.script[0] if len(self.script) == 1 else self.script.pop(0)
        if step == HANG:
            await self.release.wait()
            return False
        if isinstance(step, str):
            return False
        writer.write(step)
        await writer.drain()
        return b"connection: close" not in step.lower()


async def read_request(reader: asyncio.StreamReader, connection: int) -> SeenRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = head.rstrip("\r\n").split("\r\n")
    pairs = [item.split(": ", 1) for item in rest]
    headers = {name.lower(): value for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return SeenRequest(line, headers, [name for name, _ in pairs], body, connection)


def answer(
    status: int = 200,
    body: bytes = b"{}",
    *,
    content_type: str = "application/json",
    headers: Sequence[str] = (),
) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(body)}"]
    if content_type:
        lines.append(f"content-type: {content_type}")
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


@contextlib.asynccontextmanager
async def running(*script: Step, context: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    raw = RawServer(list(script) or [answer()])
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0, ssl=context)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()
        raw.release.set()
        for writer in raw.writers:
            writer.close()
        for writer in raw.writers:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(writer.wait_closed(), 5)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The daemon's loop is uvloop, that of a command is asyncio's own."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def raw_server() -> Callable[..., contextlib.AbstractAsyncContextManager[RawServer]]:
    return running


@pytest.fixture
def make_answer() -> Callable[..., bytes]:
    return answer


def make_settings(endpoint: str = "http://127.0.0.1:1/v1/traces", **changes: object) -> object:
    for key in {"ca_file", "client_cert", "client_key"} & changes.keys():
        changes[key] = Path(str(changes[key]))
    return DestinationConfig(name="axiom", endpoint=endpoint, **changes)  # type: ignore[arg-type]


@pytest.fixture
def settings() -> Callable[..., DestinationConfig]:
    return make_settings  # type: ignore[return-value]
