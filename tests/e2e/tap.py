"""Connections go in, the same bytes come out at another port; what senders sent is kept.

What an exporter says on the wire is not to be seen at either end: the relay unzips at its door.
"""

import contextlib
import re
import socket
import socketserver
import threading
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 65536


class Tap(socketserver.ThreadingTCPServer):
    """Listens on a free port of loopback and forwards to another one of it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Way)
        self.target = port
        self.port = int(self.server_address[1])
        self._lock = threading.Lock()
        self._seen = bytearray()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def note(self, chunk: bytes) -> None:
        """Keep what a sender sent."""
        with self._lock:
            self._seen += chunk

    def requests(self) -> int:
        """How many requests have come so far."""
        with self._lock:
            return len(re.findall(rb"POST /\S* HTTP/1\.1\r\n", self._seen))

    def values_of(self, header: str) -> set[str]:
        """Every value that this header had, in any request so far."""
        with self._lock:
            seen = bytes(self._seen)
        found = re.findall(rb"(?im)^%s: ([^\r\n]*)\r$" % header.encode(), seen)
        return {value.decode("latin-1") for value in found}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Way(socketserver.BaseRequestHandler):
    """One connection and its other half."""

    server: Tap

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.target)) as upstream:
            back = threading.Thread(target=_pump, args=(upstream, self.request), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while chunk := self.request.recv(_CHUNK_BYTES):
                    self.server.note(chunk)
                    upstream.sendall(chunk)
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_WR)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK_BYTES):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
