"""Two servers for the benchmark: an upstream that swallows, and the null server, the yardstick."""

import asyncio
import sys
from typing import cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Swallow(asyncio.Protocol):
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

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            head, separator, body = self._head.partition(b"\r\n\r\n")
            if not separator:
                return
            self._head = b""
            head = head.lower()
            at = head.find(b"content-length: ")
            self._answer = self.in_protobuf if b"x-protobuf" in head else self.in_json
            self._missing = int(head[at + 16 :].split(b"\r\n", 1)[0]) - len(body)
        if self._missing <= 0:
            self._missing = 0
            self._transport.write(self._answer)


async def swallow(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Swallow, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


async def null(request: Request) -> Response:
    """What any Starlette server must do: read the body, answer."""
    await request.body()
    return Response(b"{}", media_type="application/json")


def main() -> None:
    """`python -m tests.bench.servers swallow|null PORT`."""
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "swallow":
        import uvloop

        uvloop.run(swallow(port))
    else:
        app = Starlette(routes=[Route("/v1/traces", null, methods=["POST"])])
        uvicorn.run(app, port=port, log_level="error", access_log=False, lifespan="off")


if __name__ == "__main__":
    main()
