"""Servers for the benchmark: an upstream that swallows, and the null server, the yardstick."""

import asyncio
import ssl
import sys
from typing import cast

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.bench.load import content_length

# One for all connections: nobody reads what is in it but the head of a request.
_BUFFER = memoryview(bytearray(1 << 20))


class Swallow(asyncio.BufferedProtocol):
    """Reads HTTP/1.1 requests with a Content-Length and answers 200 in their encoding, which is
    empty in protobuf: cheap on purpose.
    """

    in_json = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    in_protobuf = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
    )

    def __init__(self) -> None:
        self._head = b""
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def get_buffer(self, sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self._missing:
            self._missing -= nbytes
        else:
            self._head += _BUFFER[:nbytes]
            head, separator, body = self._head.partition(b"\r\n\r\n")
            if not separator:
                return
            self._head = b""
            self._answer = self.in_protobuf if b"x-protobuf" in head else self.in_json
            self._missing = content_length(head) - len(body)
        if self._missing <= 0:
            self._missing = 0
            self._transport.write(self._answer)


async def swallow(port: int, certificate: str, key: str) -> None:
    """Serve until killed; with TLS where there is a certificate."""
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Swallow, "127.0.0.1", port, ssl=context)
    async with server:
        await server.serve_forever()


async def null(request: Request) -> Response:
    """What any Starlette server must do: read the body, answer."""
    await request.body()
    return Response(b"{}", media_type="application/json")


def main() -> None:
    """`python -m tests.bench.servers swallow|null PORT [CERTIFICATE KEY]`."""
    kind, port, *pair = sys.argv[1:]
    if kind == "swallow":
        certificate, key = pair or ("", "")
        uvloop.run(swallow(int(port), certificate, key))
    else:
        app = Starlette(routes=[Route("/v1/traces", null, methods=["POST"])])
        uvicorn.run(app, port=int(port), log_level="error", access_log=False, lifespan="off")


if __name__ == "__main__":
    main()
