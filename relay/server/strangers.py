"""What comes to the listener and is no HTTP/1.1, told by its first bytes, or by why TLS failed.

A sender that speaks another protocol repeats itself for ever and never learns why. So each kind has
a name, which is counted and logged with what to do.
"""

import re
import ssl
from typing import Final

GRPC: Final = "grpc"  # HTTP/2, which OTLP/gRPC speaks
TLS: Final = "tls"  # a handshake on a listener without a certificate
PLAIN_HTTP: Final = "plain_http"  # on a listener with one
DISTRUST: Final = "distrust"  # the sender does not take our certificate
EXPIRED: Final = "expired"  # nor does it here, and says why
MALFORMED: Final = "malformed"
CONNECTIONS: Final = "connections"  # one too many

_TLS_HANDSHAKE: Final = b"\x16\x03"
# The extension of a ClientHello that offers HTTP/2 and nothing else (RFC 7301).
_H2_ALONE: Final = b"\x00\x10\x00\x05\x00\x03\x02h2"
_REQUEST_LINE: Final = re.compile(rb"[A-Z]{3,10} \S")
_PREFACE: Final = b"PRI * HTTP/2.0\r\n"
# gRPC clients repeat the status line of this answer, some its words. A GOAWAY of HTTP/2 with these
# words would be shown whole, but those in C then connect hundreds of times a second, without pause.
GRPC_ANSWER: Final = "This is OTLP/HTTP: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"


def is_tls(piece: bytes) -> bool:
    """Whether these are, or may become, the first bytes of a TLS handshake."""
    return piece.startswith(_TLS_HANDSHAKE[: len(piece)])


def kind_of(piece: bytes, words: str) -> str:
    """What came, by the piece that is no HTTP/1.1 and by the parser's words about it."""
    if piece.startswith(_PREFACE) or "PRI/Upgrade" in words:
        return GRPC
    if is_tls(piece):
        return GRPC if _H2_ALONE in piece else TLS
    return MALFORMED


def kind_on_tls(piece: bytes) -> str:
    """What the first bytes say that came to a listener with a certificate; empty for nothing odd.

    A gRPC exporter that does speak TLS ends the connection itself, since nobody agrees to HTTP/2.
    """
    if is_tls(piece):
        return GRPC if _H2_ALONE in piece else ""
    if piece.startswith(_PREFACE):
        return GRPC
    return PLAIN_HTTP if _REQUEST_LINE.match(piece) else MALFORMED


def kind_of_failure(error: ssl.SSLError) -> str:
    """Why the sender ended a handshake, by its alert; empty where that is not our certificate."""
    reason = error.reason or ""
    if "CERTIFICATE_EXPIRED" in reason:
        return EXPIRED
    return DISTRUST if "UNKNOWN_CA" in reason or "CERTIFICATE" in reason else ""
