"""What went wrong on the way to an upstream: the cause and the remedy, a plain sentence each.

`explain` reads an exception; `explain_response`, in the module of that name, a response that is no
success. Delivery and the connection test both show these sentences; delivery adds what happens
next, the test adds what it found out besides. Pure.

What heals without anybody (no name, no connection, a lost one, a timeout) is waited for. What needs
somebody (a certificate, a port that speaks something else, a wrong token) is blocked.
"""

import errno
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from relay.upstream.connection import ConnectionEnded, DeadlinePassed, Progress, Stage
from relay.upstream.dial import ProxyRefused
from relay.upstream.response import Response
from relay.upstream.response_head import EndlessHead
from relay.upstream.response_reader import NoHttp
from relay.upstream.routes import Place, Route

# What the wire, TLS and the resolver raise; UnicodeError is a host that IDNA does not know.
FOREIGN = (
    ConnectionEnded,
    DeadlinePassed,
    EndlessHead,
    NoHttp,
    ProxyRefused,
    OSError,
    UnicodeError,
)
GRPC_PORT = 4317
GRPC_CAUSE = "speaks HTTP/2 only, as gRPC does, and this relay sends OTLP over HTTP/1.1"
GRPC_REMEDY = "use the port for OTLP over HTTP: usually 4318 where gRPC has 4317"
PROXY_CREDENTIALS = 'set proxy = "http://USER:PASSWORD@HOST:PORT", its secrets as ${env:…}'
LOOP_REMEDY = "name the upstream: apps point at the relay, the relay at what is behind it"

_OTHER_NAME = (
    "is for another name than {host}",
    "use the host name of the certificate in the endpoint, or have it reissued",
)
_SELF_SIGNED = (
    "is self-signed, or its authority is: {said}",
    "set ca_file to that certificate or authority, if it is the right one",
)
_UNKNOWN_AUTHORITY = (
    "is signed by an authority that this machine does not trust: {said}",
    "set ca_file to its authority, or have the server send the whole chain",
)
_UNTRUSTED = (
    "cannot be trusted: {said}",
    "look at it with `openssl s_client -connect HOST:PORT`",
)
# By OpenSSL's numbers of X509_verify_cert errors, as SSLCertVerificationError.verify_code has them.
_CERTIFICATES = {
    9: ("is not valid yet", "check this machine's clock"),
    10: ("has expired", "have it renewed there, or check this machine's clock if it has not"),
    **dict.fromkeys((18, 19), _SELF_SIGNED),
    **dict.fromkeys((2, 20, 21, 24, 27), _UNKNOWN_AUTHORITY),
    **dict.fromkeys((62, 64), _OTHER_NAME),
}
_PLAIN_PORT = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
_WANTS_CERTIFICATE = (
    "CERTIFICATE_REQUIRED",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNKNOWN_CA",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_REVOKED",
    "HANDSHAKE_FAILURE",
)
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake
_HTTP2_FRAME_TYPES = frozenset({4, 7})  # SETTINGS and GOAWAY: what a server says unasked
# The body is on its way, or there: a smaller one may get through where this one did not.
_WITH_BODY = (Stage.SENDING, Stage.AWAITING, Stage.READING)

_NO_ENDPOINT = "check host and port in the endpoint: that is hardly an OTLP endpoint"
RETRY_LATER = frozenset({408, 425, 429})

Step = Literal["name", "tcp", "tls", "http", "auth", "encoding", "request"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong and what to do, a sentence each without a full stop.

    `step` is that of the connection test which fails by it. `heals`: it may pass without anybody.
    """

    step: Step
    cause: str
    remedy: str
    heals: bool = False
    may_be_the_size: bool = False  # less at once may get through


def explain(error: BaseException, route: Route, progress: Progress) -> Fault:
    """What `error`, met before the head of a response was there, means."""
    if isinstance(error, EndlessHead):
        cause = f"{progress.peer or route.place} sent {error}"
        return Fault("http", cause, _NO_ENDPOINT, heals=True)
    fault = _explain(error, list(causes(error)), route, progress)
    if fault.heals and progress.stage in _WITH_BODY:
        return Fault(fault.step, fault.cause, fault.remedy, heals=True, may_be_the_size=True)
    return fault


def _explain(  # noqa: PLR0911 - one a stage
    error: BaseException, found: list[BaseException], route: Route, progress: Progress
) -> Fault:
    stage, peer = progress.stage, progress.peer or route.place
    if isinstance(error, ProxyRefused):
        return _refused_by_proxy(error, peer, route)
    if stage is Stage.LOOKUP:
        return _of_name(error, found, route, peer.host)
    if stage is Stage.CONNECTING:
        return _of_connection(error, route, progress)
    if stage is Stage.PROXY:
        return _of_proxy(error, peer, route, progress)
    tls = next((each for each in found if isinstance(each, ssl.SSLError)), None)
    is_end = isinstance(tls, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    if tls is not None and not is_end:
        return _of_tls(tls, route, peer, progress)
    if stage is Stage.TLS:
        return _of_handshake(error, peer)
    if isinstance(error, DeadlinePassed):
        return _of_silence(error.seconds, route, peer, progress)
    return _of_end(route, peer, progress)


def _shown(seconds: float) -> str:
    return f"{round(seconds, 1):g}"


def _of_name(error: BaseException, found: list[BaseException], route: Route, host: str) -> Fault:
    what, setting = "host", "the endpoint"
    if route.proxy is not None:
        what, setting = "proxy", _setting(route)
    if isinstance(error, DeadlinePassed):
        return Fault(
            "name",
            f"no name server answered within {_shown(error.seconds)} s for {host}",
            "check this machine's DNS (`resolvectl status`, /etc/resolv.conf) and its network",
            heals=True,
        )
    unknown = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
    if isinstance(error, UnicodeError) or any(getattr(e, "errno", 0) in unknown for e in found):
        return Fault(
            "name",
            f"the {what} {host} is unknown: DNS has no address for it",
            f"check the spelling of the host in {setting}, and whether this machine's DNS knows it",
            heals=True,
        )
    words = getattr(error, "strerror", None) or str(error)
    return Fault(
        "name",
        f"the name {host} cannot be looked up ({words})",
        "check this machine's network and DNS",
        heals=True,
    )


def _setting(route: Route) -> str:
    """What names the proxy, and how to do without it where nobody meant it for the relay."""
    by = route.proxy_setting
    return by if by == "proxy" else f'{by} (proxy = "none" turns it off)'


def _of_connection(error: BaseException, route: Route, progress: Progress) -> Fault:
    """No address took a connection."""
    what, peer = ("the proxy ", route.proxy) if route.proxy else ("", route.place)
    if isinstance(error, DeadlinePassed):
        return Fault(
            "tcp",
            f"{what}{peer} did not answer within {_shown(error.seconds)} s: a firewall drops what "
            "is sent there, or the host is down",
            "check host and port, and whether a firewall or security group lets this machine out",
            heals=True,
        )
    words = [words_of(each) for each in progress.failures.values()]
    if "refused" in words:
        setting = _setting(route) if route.proxy else "the endpoint"
        usual = "" if route.proxy else " (OTLP over HTTP usually has 4318)"
        return Fault(
            "tcp",
            f"{what}{peer} refused the connection: nothing listens there",
            f"start what should listen there, or check the port in {setting}{usual}",
            heals=True,
        )
    return Fault(
        "tcp",
        f"{what}{peer} cannot be reached ({words[0] if words else 'no address'})",
        "check this machine's network, its routes and the host in the endpoint",
        heals=True,
    )


def words_of(error: BaseException | None) -> str:
    """What became of one address, in a word or two."""
    for cause in causes(error) if error is not None else ():
        if isinstance(cause, ConnectionRefusedError):
            return "refused"
        if isinstance(cause, OSError) and cause.errno in errno.errorcode and cause.strerror:
            return cause.strerror.lower()
    return "did not answer" if error is None else "cannot be reached"


def _of_proxy(error: BaseException, proxy: Place, route: Route, progress: Progress) -> Fault:
    """The proxy answered CONNECT with something else than HTTP, or not at all."""
    remedy = f'check the port in {route.proxy_setting}, or set proxy = "none"'
    if isinstance(error, DeadlinePassed):
        return Fault(
            "tcp",
            f"the proxy {proxy} did not answer CONNECT {route.place} "
            f"within {_shown(error.seconds)} s",
            remedy,
            heals=True,
        )
    if progress.bytes_read:
        return Fault("tcp", f"the proxy {proxy} answered something that is not HTTP", remedy)
    return Fault(
        "tcp", f"the proxy {proxy} closed the connection without a response", remedy, heals=True
    )


def _refused_by_proxy(error: ProxyRefused, proxy: Place, route: Route) -> Fault:
    status, target = error.status, route.place
    phrase = Response(status, secrets=tuple(route.secrets)).shown(error.phrase)
    answered = f"the proxy {proxy} answered {status} {phrase}".rstrip()
    heals = status in RETRY_LATER or status >= 500
    if status == 407:
        return Fault("tcp", f"{answered}: it requires a user and a password", PROXY_CREDENTIALS)
    if status in (502, 503, 504):
        return Fault(
            "tcp",
            f"{answered}: it cannot reach {target}",
            'check the host in the endpoint; if it is in this network, set proxy = "none"',
            heals=heals,
        )
    return Fault(
        "tcp",
        f"{answered}: it does not let this machine through to {target}",
        'have the proxy allow that host and port, or set proxy = "none"',
        heals=heals,
    )


def _of_handshake(error: BaseException, peer: Place) -> Fault:
    if isinstance(error, DeadlinePassed):
        return Fault(
            "tls",
            f"{peer} did not answer the TLS handshake within {_shown(error.seconds)} s",
            "check the port: it may not speak TLS, or a firewall in between swallows it",
            heals=True,
        )
    return Fault(
        "tls",
        f"{peer} closed the connection during the TLS handshake",
        "check the port: it may speak plain HTTP (http://) or expect another host name",
        heals=True,
    )


def _of_tls(error: ssl.SSLError, route: Route, peer: Place, progress: Progress) -> Fault:
    """The handshake, or a read behind it, failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Fault("tls", *_of_certificate(error, peer))
    reason = (error.reason or "").upper()
    said = reason.lower().replace("_", " ") or "no reason given"
    if is_http2(progress.first_bytes):
        return Fault("tls", f"{peer} {GRPC_CAUSE}, without TLS", f"{GRPC_REMEDY}, with http://")
    if any(word in reason for word in _PLAIN_PORT):
        return Fault(
            "tls",
            f"{peer} does not speak TLS, and the endpoint begins with https://",
            "use http:// in the endpoint, or the port that speaks TLS",
        )
    if "NO_APPLICATION_PROTOCOL" in reason:
        return Fault("tls", f"{peer} {GRPC_CAUSE}", GRPC_REMEDY)
    if any(word in reason for word in _WANTS_CERTIFICATE):
        verb = "check" if route.settings.client_cert else "set"
        return Fault(
            "tls",
            f"{peer} requires a client certificate that it accepts ({said})",
            f"{verb} client_cert and client_key",
        )
    return Fault(
        "tls",
        f"{peer} and this machine do not agree on TLS ({said})",
        "check the port, and which versions of TLS it accepts (1.2 or newer is needed)",
        heals=True,
    )


def _of_certificate(error: ssl.SSLCertVerificationError, place: Place) -> tuple[str, str]:
    cause, remedy = _CERTIFICATES.get(error.verify_code, _UNTRUSTED)
    cause = cause.format(host=place.host, said=error.verify_message)
    return f"the certificate of {place} {cause}", remedy


def _of_silence(seconds: float, route: Route, peer: Place, progress: Progress) -> Fault:
    by = f"the proxy {peer}" if route.is_forwarded else f"{peer}"
    remedy = "check host and port, and whether the server behind them is stuck"
    if progress.bytes_read:
        cause = f"{by} began a response whose head did not end within {_shown(seconds)} s"
        remedy = _NO_ENDPOINT
    elif progress.stage is Stage.SENDING:
        cause = f"{by} did not take the whole request within {_shown(seconds)} s"
    else:
        cause = f"{by} took the request and did not answer within {_shown(seconds)} s"
    return Fault("http", cause, remedy, heals=True)


def _of_end(route: Route, peer: Place, progress: Progress) -> Fault:
    """The connection stood; it ended without a response, or brought something else than HTTP."""
    first = progress.first_bytes
    if is_http2(first):
        return Fault("http", f"{peer} {GRPC_CAUSE}", GRPC_REMEDY)
    if first[:2] in _TLS_RECORDS:
        return plain_to_tls(peer)
    if not progress.closed_by_peer or not b"HTTP/1.".startswith(first[:7]):
        remedy = "check host and port in the endpoint: another kind of server listens there"
        if route.place.port == GRPC_PORT:
            remedy = GRPC_REMEDY
        return Fault("http", f"{peer} answered something that is not HTTP/1.1", remedy)
    if first:
        return Fault(
            "http",
            f"{peer} closed the connection in the middle of its response",
            "check the log of the server, or of the proxy, if it stays so",
            heals=True,
        )
    remedy = "check scheme and port in the endpoint, then the server's log"
    if route.place.port == GRPC_PORT:
        remedy = GRPC_REMEDY
    cause = f"{peer} closed the connection without a response"
    return Fault("http", cause, remedy, heals=True)


def plain_to_tls(place: object) -> Fault:
    """Plain HTTP was sent to a port of TLS."""
    return Fault(
        "http",
        f"{place} speaks TLS, and the endpoint begins with http://",
        "use https:// in the endpoint",
    )


def is_http2(first: bytes) -> bool:
    """Whether the bytes begin with a frame that HTTP/2 servers send on stream 0."""
    return (
        len(first) >= 9
        and first[0] == 0
        and first[3] in _HTTP2_FRAME_TYPES
        and first[5:9] == b"\0\0\0\0"
    )


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, what it was raised from, and the members of groups in between."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            waiting.extend(current.exceptions)
        waiting.extend((current.__cause__, current.__context__))
