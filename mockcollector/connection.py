"""One HTTP/1.1 connection: requests from it for the app, and the means to treat it badly.

uvicorn's protocol parses. Added here: a request that offers to upgrade keeps its body; what is not
HTTP/1.1 is told of instead of logged; and an answer may be held back, cut, reset, dribbled, or
followed by a close that nobody announced.
"""

import itertools
import os
import socket
import struct
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from mockcollector.strangers import (
    GRPC_ANSWER,
    OnStranger,
    StrangerKind,
    kind_of,
    stranger,
)

CONNECTION_EXTENSION = "mockcollector.connection"
"""The ASGI extension by which the app reaches the `Exchanged` of its request."""

_LINGER = struct.pack("ii", 1, 0)  # none: closing resets
_SMALL_BUFFER_BYTES = 4096


class HeldAnswer:
    """A transport that keeps what is written, so that it can be sent in another way."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.data += data

    def is_closing(self) -> bool:
        """Never: nothing is open."""
        return False

    def close(self) -> None:
        """Nothing to close."""


class HttpConnection(HttpToolsProtocol):
    """One connection. `numbers` counts the connections of a collector, `on_stranger` is told."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        *,
        numbers: "itertools.count[int]",
        on_stranger: OnStranger,
    ) -> None:
        super().__init__(config, server_state, {})
        self.access_log = False
        self.number = next(numbers)
        self._on_stranger = on_stranger
        self._requests = 0
        self._has_upgrade_offer = False
        self._offered: list[tuple[bytes, bytes]] | None = None
        self._is_head_open = False
        self._closes_at_next_request = False

    @property
    def peer(self) -> str:
        """Host and port of the other end."""
        return "{}:{}".format(*self.client) if self.client else ""

    def data_received(self, data: bytes) -> None:
        """Parse; what cannot be parsed is told of and turned away."""
        if self._closes_at_next_request:
            self.transport.abort()
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._go_on_without_upgrade(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            self._turn_away(kind_of(data, str(error)))

    def count_request(self) -> int:
        """The number of a request that begins here."""
        self._requests += 1
        return self._requests

    def _turn_away(self, kind: StrangerKind) -> None:
        self._is_head_open = False
        if self.transport.is_closing():
            return
        self._on_stranger(stranger(kind, peer=self.peer, connection=self.number))
        is_grpc = kind is StrangerKind.GRPC
        self.send_400_response(GRPC_ANSWER if is_grpc else "Invalid HTTP request received.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell of a request that ended within its head: no app has heard of it."""
        if self._is_head_open:
            kind = StrangerKind.CUT_OFF
            self._on_stranger(stranger(kind, peer=self.peer, connection=self.number))
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._is_head_open = True

    def on_headers_complete(self) -> None:
        """Hand the request to the app, with the way to its connection."""
        self._is_head_open = False
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._has_upgrade_offer = True
            return
        if self._offered is not None:
            self.headers[:] = self._offered  # as they came: a journal tells no other story
            self._offered = None
        exchanged = Exchanged(self)
        self.scope["extensions"] = {CONNECTION_EXTENSION: {"exchanged": exchanged}}
        super().on_headers_complete()
        exchanged.cycle = self.cycle

    def on_message_complete(self) -> None:
        """End a request, unless its body is still to be found behind its offer to upgrade."""
        if not self._has_upgrade_offer:
            super().on_message_complete()

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Read the request again as one that offers no other protocol, and then its body.

        The parser skips the body of a request with an Upgrade header, which Java's HttpClient sends
        along with every first request (h2c): its spans would be lost with an answer of 200.
        """
        self._has_upgrade_offer = False
        version = self.parser.get_http_version().encode()
        self._offered = self.headers
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                options = [option.strip() for option in value.split(b",")]
                kept = b", ".join(o for o in options if o.lower() != b"upgrade")
                lines.append(b"%s: %s" % (name, kept))
            elif name != b"upgrade":
                lines.append(b"%s: %s" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def close_after(self, idle_seconds: float) -> None:
        """Close when nothing has come for so long after the next answer, without announcing it."""
        self.timeout_keep_alive = idle_seconds  # type: ignore[assignment]

    def close_at_next_request(self) -> None:
        """Close as soon as anything more comes: the fate of a keep-alive that has gone stale."""
        self._closes_at_next_request = True

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self._on_socket(lambda own: own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER))
        self.transport.abort()

    def _on_socket(self, change: Any) -> None:
        # The loop's own object allows no options. They belong to what both descriptors point to.
        shown = self.transport.get_extra_info("socket")
        if shown is None or self.transport.is_closing():
            return
        own = socket.socket(fileno=os.dup(shown.fileno()))
        try:
            change(own)
        finally:
            own.close()

    def take_little(self) -> None:
        """Let the kernel keep little of what the sender writes, so that it feels a slow reader."""
        self._on_socket(
            lambda own: own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
        )


class Exchanged:
    """The connection of one request, and the answer that uvicorn makes for it."""

    def __init__(self, connection: HttpConnection) -> None:
        self.connection = connection
        self.number = connection.count_request()
        """Of the requests on this connection, from 1."""
        self.cycle: Any = None  # set once uvicorn has made it

    def hold_answer(self) -> HeldAnswer:
        """Keep what is answered from now on, until `let_go`."""
        held = HeldAnswer()
        self.cycle.transport = held
        return held

    def let_go(self) -> None:
        """Let answers go out as they are again."""
        self.cycle.transport = self.connection.transport

    @property
    def is_open(self) -> bool:
        """Whether there is anybody to write to."""
        return not self.connection.transport.is_closing()

    def tls(self) -> tuple[str, str]:
        """The TLS version and the subject of the client's certificate; empty where there is none.

        The subject is written as RFC 4514 has it, most particular first: `CN=shop,O=Acme`.
        """
        transport = self.connection.transport
        secured = transport.get_extra_info("ssl_object")
        if secured is None:
            return "", ""
        shown = cast("dict[str, Any]", transport.get_extra_info("peercert") or {})
        parts = [pair for each in shown.get("subject", ()) for pair in each]
        named = (f"{_SHORT.get(name, name)}={value}" for name, value in reversed(parts))
        return str(secured.version() or ""), ",".join(named)


_SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
}
