"""A broker that says it coordinates every group, and is gone once it is asked about one.

It knows three requests of Kafka's protocol: which there are, who the brokers are, who coordinates.
"""

import socketserver
import struct
import threading
from types import TracebackType
from typing import Final, Literal, Self

How = Literal["forgets", "hangs up"]
"""That it has the request at all, as one does that is replaced; or as it comes, its connection."""
FORBIDDEN: Final = 30

_METADATA, _COORDINATOR, _VERSIONS = 3, 10, 18
_DESCRIBE, _DELETE, _OFFSETS = 15, 42, 9
_KNOWN: Final = {_METADATA: 1, _COORDINATOR: 0, _VERSIONS: 3}  # by their newest version


def _text(words: str) -> bytes:
    return struct.pack(">h", len(words)) + words.encode()


class FadingBroker:
    """Answers on a loopback port of its own; `asked` are the requests about groups that came."""

    def __init__(self, how: How, error: int = 0) -> None:
        """With an `error` it does not say who coordinates, but that."""
        self.asked: list[int] = []
        self._error = error
        known = dict(_KNOWN) if how == "forgets" else {**_KNOWN, _DESCRIBE: 0, _DELETE: 0}
        broker = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while len(head := self.rfile.read(4)) == 4:
                    request = self.rfile.read(struct.unpack(">i", head)[0])
                    kind, _version, number = struct.unpack(">hhi", request[:8])
                    if kind not in _KNOWN:
                        broker.asked.append(kind)
                        return
                    answer = struct.pack(">i", number) + broker.answer(kind, known)
                    self.wfile.write(struct.pack(">i", len(answer)) + answer)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """Where it answers."""
        return int(self._server.server_address[1])

    @property
    def bootstrap(self) -> list[str]:
        """Addresses for `fleet.brokers`."""
        return [f"127.0.0.1:{self.port}"]

    def answer(self, kind: int, known: dict[int, int]) -> bytes:
        """What it says, behind the number of the request."""
        place = _text("127.0.0.1") + struct.pack(">i", self.port)
        if kind == _VERSIONS:  # by version 3: lengths are one more, and tags are none
            each = b"".join(struct.pack(">hhhb", key, 0, top, 0) for key, top in known.items())
            return struct.pack(">hb", 0, len(known) + 1) + each + struct.pack(">ib", 0, 0)
        if kind == _METADATA:
            brokers = struct.pack(">ii", 1, 1) + place + struct.pack(">h", -1)
            return brokers + struct.pack(">ii", 1, 0)
        return struct.pack(">hi", self._error, 1) + place

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
