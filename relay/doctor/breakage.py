"""An exception of the way to an upstream goes in; the failed step with its sentences comes out.

Pure. What came as an answer is the business of `answers`.
"""

import errno
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import anyio
import httpcore2

from relay.doctor.report import StepFailed

# What the engine, TLS and the resolver raise; UnicodeError is a host that IDNA does not know.
FOREIGN = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    OSError,
    UnicodeError,
)
GRPC_PORT = 4317
GRPC_WRONG = "speaks HTTP/2 only, as gRPC does, and this relay sends OTLP over HTTP/1.1"
GRPC_REMEDY = "use the port for OTLP over HTTP: mostly 4318 where gRPC has 4317"

# OpenSSL's numbers of X509_verify_cert errors, as SSLCertVerificationError.verify_code has them.
_SELF_SIGNED = frozenset({18, 19})
_UNTRUSTED = frozenset({2, 20, 21, 24, 27})
_NOT_YET_VALID = 9
_EXPIRED = 10
_WRONG_NAME = frozenset({62, 64})
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
_HTTP2_FRAME_TYPES = frozenset({4, 7})  # SETTINGS and GOAWAY: what a server says unasked


class Place(Protocol):
    """A host and a port; its str is both."""

    @property
    def host(self) -> str: ...  # noqa: D102
    @property
    def port(self) -> int: ...  # noqa: D102


class Seen(Protocol):
    """What a stream remembers of its peer."""

    @property
    def first_bytes(self) -> bytes: ...  # noqa: D102
    @property
    def bytes_read(self) -> int: ...  # noqa: D102


def of_name(error: Exception, host: str, what: str) -> StepFailed:
    """The name of the host, or of the proxy, was not resolved."""
    setting = "the endpoint" if what == "host" else "proxy (or HTTPS_PROXY and HTTP_PROXY)"
    unknown = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
    if isinstance(error, UnicodeError) or getattr(error, "errno", None) in unknown:
        return StepFailed(
            "name",
            f"the {what} {host} is unknown: DNS has no address for it",
            f"check the spelling of the host in {setting}, and whether this machine's DNS knows it",
        )
    words = getattr(error, "strerror", None) or str(error)
    return StepFailed(
        "name",
        f"the name {host} cannot be looked up ({words})",
        "check this machine's network and DNS, then try again",
    )


def of_connection(
    place: Place,
    what: str,
    addresses: Sequence[str],
    failures: Mapping[str, BaseException],
    seconds: float,
) -> StepFailed:
    """No address took a connection."""
    found = "; ".join(f"{each} {words_of(failures.get(each))}" for each in addresses)
    subject = f"the proxy {place}" if what == "proxy" else f"{place}"
    if len(failures) < len(addresses):
        return StepFailed(
            "tcp",
            f"{subject} did not answer within {seconds:.0f} s: a firewall drops what is sent "
            "there, or the host is down",
            "check host and port, and whether a firewall or security group lets this machine out",
            found,
        )
    if any(
        isinstance(cause, ConnectionRefusedError)
        for error in failures.values()
        for cause in causes(error)
    ):
        setting = "the endpoint" if what == "host" else "proxy"
        return StepFailed(
            "tcp",
            f"{subject} refused the connection: nothing listens there",
            f"start what should listen there, or check the port in {setting}"
            + (" (OTLP over HTTP is mostly 4318)" if what == "host" else ""),
            found,
        )
    words = words_of(next(iter(failures.values())))
    return StepFailed(
        "tcp",
        f"{subject} cannot be reached: {words}",
        "check this machine's network, its routes and the host in the endpoint",
        found,
    )


def words_of(error: BaseException | None) -> str:
    """What became of one address, in a word or two."""
    if error is None:
        return "did not answer"
    for cause in causes(error):
        if isinstance(cause, ConnectionRefusedError):
            return "refused"
        if isinstance(cause, OSError) and cause.errno in errno.errorcode and cause.strerror:
            return cause.strerror.lower()
    return "cannot be reached"


def of_proxy(proxy: Place, seen: Seen) -> StepFailed:
    """The proxy answered CONNECT with something else than HTTP, or not at all."""
    said = "something that is not HTTP" if seen.bytes_read else "nothing and closed the connection"
    return StepFailed(
        "tcp",
        f"the proxy {proxy} answered {said}",
        'check the port in proxy (or HTTPS_PROXY), or set proxy = "none"',
    )


def of_tunnel(proxy: Place, target: Place, status: int, phrase: str) -> StepFailed:
    """The proxy refused CONNECT."""
    wrong = f"the proxy {proxy} answered {status} {phrase}".rstrip()
    if status == 407:
        return StepFailed(
            "tcp",
            f"{wrong}: it wants a user and a password",
            'set proxy = "http://USER:PASSWORD@HOST:PORT", the secrets by ${env:…}',
        )
    if status in (502, 503, 504):
        return StepFailed(
            "tcp",
            f"{wrong}: it does not reach {target}",
            'check the host in the endpoint; if it is in this network, set proxy = "none"',
        )
    return StepFailed(
        "tcp",
        f"{wrong}: it does not let this machine through to {target}",
        'have the proxy allow that host and port, or set proxy = "none"',
    )


def of_tls(  # noqa: PLR0911 - one a cause
    error: Exception, place: Place, seen: Seen, *, has_client_certificate: bool
) -> StepFailed:
    """The handshake, or a read behind it, failed."""
    tls = next((each for each in causes(error) if isinstance(each, ssl.SSLError)), None)
    if tls is None or isinstance(tls, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return StepFailed(
            "tls",
            f"{place} closed the connection during the TLS handshake",
            "check the port: it may speak plain HTTP (http://) or expect another host name",
        )
    if isinstance(tls, ssl.SSLCertVerificationError):
        return _of_certificate(tls, place)
    reason = (tls.reason or "").upper()
    if is_http2(seen.first_bytes):
        return StepFailed(
            "tls", f"{place} {GRPC_WRONG}, and without TLS", GRPC_REMEDY + ", with http://"
        )
    if any(word in reason for word in _PLAIN_PORT):
        return StepFailed(
            "tls",
            f"{place} does not speak TLS, and the endpoint begins with https://",
            "use http:// in the endpoint, or the port that speaks TLS",
        )
    if "NO_APPLICATION_PROTOCOL" in reason:
        return StepFailed("tls", f"{place} {GRPC_WRONG}", GRPC_REMEDY)
    if any(word in reason for word in _WANTS_CERTIFICATE):
        advice = "check" if has_client_certificate else "set"
        return StepFailed(
            "tls",
            f"{place} wants a client certificate that it accepts ({_plain(reason)})",
            f"{advice} client_cert and client_key",
        )
    return StepFailed(
        "tls",
        f"{place} and this machine do not agree on TLS ({_plain(reason) or 'no reason given'})",
        "check the port, and which versions of TLS it takes (1.2 or newer is needed)",
    )


def _of_certificate(error: ssl.SSLCertVerificationError, place: Place) -> StepFailed:
    code, said = error.verify_code, error.verify_message
    if code in _WRONG_NAME:
        wrong = f"the certificate of {place} is for another name than {place.host}"
        remedy = "use the host name of the certificate in the endpoint, or have it reissued"
    elif code == _EXPIRED:
        wrong = f"the certificate of {place} has expired"
        remedy = "have it renewed there, or check this machine's clock if it has not"
    elif code == _NOT_YET_VALID:
        wrong = f"the certificate of {place} is not valid yet"
        remedy = "check this machine's clock"
    elif code in _SELF_SIGNED:
        wrong = f"the certificate of {place} is self-signed, or its authority is: {said}"
        remedy = "set ca_file to that certificate or authority, if it is the right one"
    elif code in _UNTRUSTED:
        wrong = f"the certificate of {place} is signed by nobody this machine trusts: {said}"
        remedy = "set ca_file to its authority, or have the server send the whole chain"
    else:
        wrong = f"the certificate of {place} cannot be trusted: {said}"
        remedy = "look at it with `openssl s_client -connect HOST:PORT`"
    return StepFailed("tls", wrong, remedy)


def of_exchange(  # noqa: PLR0911 - one a cause
    error: Exception, place: Place, seen: Seen, *, has_client_certificate: bool
) -> StepFailed:
    """The connection stood; it ended without an answer, or brought something else than HTTP."""
    if any(isinstance(each, ssl.SSLError) for each in causes(error)):
        return of_tls(error, place, seen, has_client_certificate=has_client_certificate)
    first = seen.first_bytes
    if is_http2(first):
        return StepFailed("http", f"{place} {GRPC_WRONG}", GRPC_REMEDY)
    if first[:1] in (b"\x15", b"\x16") and first[1:2] == b"\x03":
        return plain_to_tls(place)
    if first and not b"HTTP/1.".startswith(first[:7]):
        return StepFailed(
            "http",
            f"{place} answered something that is not HTTP/1.1",
            "check host and port in the endpoint: another kind of server listens there",
        )
    if first:
        return StepFailed(
            "http",
            f"{place} closed the connection in the middle of its answer, or broke HTTP's rules",
            "try again; if it stays so, look into the server's or the proxy's log",
        )
    if place.port == GRPC_PORT:
        return StepFailed(
            "http", f"{place} closed the connection without an answer: 4317 is gRPC's port",
            GRPC_REMEDY,
        )  # fmt: skip
    return StepFailed(
        "http",
        f"{place} closed the connection without an answer",
        "check scheme and port in the endpoint, then the server's log",
    )


def plain_to_tls(place: Place) -> StepFailed:
    """Plain HTTP was sent to a port of TLS."""
    return StepFailed(
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


def _plain(reason: str) -> str:
    return reason.lower().replace("_", " ")
