"""What reaches the port and never becomes a request: told by its first bytes, or by why TLS failed.

A sender that speaks another protocol sees a bare failure, and a test that asks the journal sees
nothing: so each is kept as a `Stranger`, with what to do about it.
"""

import enum
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mockcollector.neutral import printable

_PREFACE = b"PRI * HTTP/2.0\r\n"
_TLS_HANDSHAKE = b"\x16\x03"
# The extension of a ClientHello that offers HTTP/2 and nothing else (RFC 7301).
_H2_ALONE = b"\x00\x10\x00\x05\x00\x03\x02h2"
GRPC_ANSWER = "This is OTLP/HTTP: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"


class StrangerKind(enum.StrEnum):
    """What came, by the word that the journal, `--json` and the control API use."""

    GRPC = "grpc"
    TLS = "tls"
    TLS_FAILED = "tls failed"
    MALFORMED = "malformed"
    CUT_OFF = "cut off"


_REMEDIES = {
    StrangerKind.GRPC: "gRPC (HTTP/2) came to OTLP/HTTP: set OTEL_EXPORTER_OTLP_PROTOCOL="
    "http/protobuf",
    StrangerKind.TLS: "a TLS handshake came to a port without TLS: use http://, or start the "
    "collector with a certificate",
    StrangerKind.TLS_FAILED: "the TLS handshake failed",
    StrangerKind.MALFORMED: "what came is not HTTP/1.1",
    StrangerKind.CUT_OFF: "the sender closed the connection within the head of a request",
}


@dataclass(frozen=True, slots=True)
class Stranger:
    """One connection's failure to become a request. `peer` is empty where TLS hides it.

    `reason` says what to do; `connection` is 0 where none was made.
    """

    kind: StrangerKind
    reason: str
    peer: str = ""
    connection: int = 0
    received_unix_nano: int = field(default_factory=time.time_ns)


OnStranger = Callable[[Stranger], None]


def stranger(kind: StrangerKind, detail: str = "", **where: Any) -> Stranger:
    """One of this kind, with what to do about it."""
    words = _REMEDIES[kind]
    return Stranger(kind, f"{words}: {printable(detail)}" if detail else words, **where)


def kind_of(piece: bytes, words: str) -> StrangerKind:
    """What came, by the piece that is not HTTP/1.1 and by the parser's words about it."""
    if piece.startswith(_PREFACE) or "PRI/Upgrade" in words:
        return StrangerKind.GRPC
    if piece.startswith(_TLS_HANDSHAKE):
        return StrangerKind.GRPC if _H2_ALONE in piece else StrangerKind.TLS
    return StrangerKind.MALFORMED


def watch_handshakes(context: ssl.SSLContext, on_stranger: OnStranger) -> None:
    """Tell of each handshake that fails on this context; event loops keep it to themselves."""

    class WatchedHandshake(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                on_stranger(stranger(StrangerKind.TLS_FAILED, _why(error)))
                raise

    context.sslobject_class = WatchedHandshake


_WHY = {
    "HTTP_REQUEST": "plain HTTP came to a port with TLS: use https://",
    "UNKNOWN_CA": "the sender does not trust this certificate",
    "BAD_CERTIFICATE": "the sender does not trust this certificate",
    "CERTIFICATE_UNKNOWN": "the sender does not trust this certificate",
    "CERTIFICATE_EXPIRED": "the sender says this certificate has expired",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the sender showed no client certificate",
    "CERTIFICATE_VERIFY_FAILED": "the sender's client certificate is not trusted",
}


def _why(error: ssl.SSLError) -> str:
    reason = error.reason or type(error).__name__
    known = (words for part, words in _WHY.items() if reason.endswith(part))
    return next(known, reason.lower().replace("_", " "))
