"""An exception of the way to an upstream goes in, an outcome with a sentence comes out. Pure.

What heals by itself (no name, no connection, a lost one, a timeout) waits. What needs somebody
(a certificate, a port that speaks something else, a proxy that refuses) is blocked: it is probed
too, but shown as what it is.
"""

import errno
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from relay.upstream.outcomes import Blocked, Outcome, Wait
from relay.upstream.routes import split_url
from relay.upstream.stream import Progress, Stage

GRPC_PORT = 4317
# The body is on its way, or there: a smaller one may get through where this one did not.
_WITH_BODY = (Stage.SENDING, Stage.AWAITING, Stage.READING)

# OpenSSL's numbers of X509_verify_cert errors, as SSLCertVerificationError.verify_code has them.
_UNTRUSTED = frozenset({2, 18, 19, 20, 21, 24, 27})
_NOT_YET_VALID = 9
_EXPIRED = 10
_WRONG_NAME = frozenset({62, 64})

# The first byte of an alert and of a handshake, from a TLS server that was sent plain HTTP.
_TLS_RECORDS = (b"\x15", b"\x16")

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


@dataclass(frozen=True, slots=True)
class Way:
    """Which way an exchange went, for the sentences."""

    name: str
    endpoint: str
    is_proxied: bool
    has_client_certificate: bool

    @property
    def host(self) -> str:
        """The host of the endpoint, as a person wrote it."""
        return split_url(self.endpoint).hostname or self.endpoint

    @property
    def port(self) -> int | None:
        """The port of the endpoint, where it names one."""
        return split_url(self.endpoint).port


def timed_out(way: Way, progress: Progress, seconds: float) -> Wait:
    """The deadline of an exchange passed."""
    peer = f" with {progress.peer}" if progress.peer else ""
    said = (
        f"{way.name}: no success within {seconds:.0f} s, gave up while {progress.stage.value}{peer}"
    )
    return _may_be_what_was_sent(said, progress)


def _may_be_what_was_sent(said: str, progress: Progress) -> Wait:
    return Wait(
        f"{said}; it is tried again by itself",
        may_be_the_size=progress.stage in _WITH_BODY,
        said=said,
    )


def explain(error: BaseException, way: Way, progress: Progress) -> Outcome:
    """What `error`, met in an exchange before its answer was there, means."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _explain_tls(cause, way, progress)
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return _explain_name(cause, way, progress)
    if progress.connects == 0 and not progress.bytes_read and not progress.closed_by_peer:
        return _explain_connection(causes, way, progress)
    return _explain_end(way, progress)


def _explain_end(way: Way, progress: Progress) -> Outcome:
    """The connection was there; it ended too early, or brought something else than HTTP."""
    has_spoken = progress.bytes_read and not b"HTTP".startswith(progress.first_bytes)
    if has_spoken or not (progress.closed_by_peer or progress.stage is Stage.TLS):
        return _explain_rubbish(way, progress)
    if progress.stage is Stage.TLS:
        when = "while agreeing on TLS"
    else:
        when = "in the middle of its answer" if progress.bytes_read else "without an answer"
    said = f"{way.name}: {progress.peer or way.host} closed the connection {when}"
    return _may_be_what_was_sent(said, progress)


def explain_proxy(said: str, way: Way, progress: Progress) -> Outcome:
    """The proxy answered CONNECT with the status line `said`, such as `407 Authentication …`."""
    status = int(said[:3]) if said[:3].isdigit() else 0
    reason = f"{way.name}: the proxy {progress.peer} answered {said.strip() or 'nothing'}"
    if status in (408, 425, 429) or status >= 500:
        return Wait(f"{reason}; it is tried again by itself")
    if status == 407:
        return Blocked(f"{reason}; check user and password in proxy, then reload")
    return Blocked(f'{reason}; check proxy, or set proxy = "none", then reload')


def _causes(error: BaseException) -> Iterator[BaseException]:
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


def _explain_tls(error: ssl.SSLError, way: Way, progress: Progress) -> Outcome:
    where = f"{way.name}: {progress.peer}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return Blocked(f"{where}: {_certificate_sentence(error, way)}, then reload")
    reason = (error.reason or "").upper()
    if any(word in reason for word in _PLAIN_PORT):
        return Blocked(f"{where} does not speak TLS: use http:// in its endpoint, "
                       "or the port that does, then reload")  # fmt: skip
    if any(word in reason for word in _WANTS_CERTIFICATE):
        advice = "check" if way.has_client_certificate else "set"
        return Blocked(f"{where} refuses the connection without a client certificate that it "
                       f"accepts ({reason.lower()}): {advice} client_cert and client_key, "
                       "then reload")  # fmt: skip
    return Wait(f"{where}: TLS failed ({reason.lower() or 'no reason given'}); "
                "it is tried again by itself")  # fmt: skip


def _certificate_sentence(error: ssl.SSLCertVerificationError, way: Way) -> str:
    code = error.verify_code
    if code in _WRONG_NAME:
        return f"its certificate is not for {way.host}: check the host in its endpoint"
    if code == _EXPIRED:
        return "its certificate has expired: have it renewed, or check this machine's clock"
    if code == _NOT_YET_VALID:
        return "its certificate is not valid yet: check this machine's clock"
    if code in _UNTRUSTED:
        return (f"its certificate is signed by nobody this machine trusts ({error.verify_message})"
                ": set ca_file to its authority")  # fmt: skip
    return f"its certificate cannot be trusted ({error.verify_message}): check it"


def _explain_name(error: socket.gaierror, way: Way, progress: Progress) -> Outcome:
    host = progress.peer.rpartition(":")[0] or way.host
    what = "proxy" if way.is_proxied else "host"
    if error.errno == socket.EAI_NONAME:
        return Wait(f"{way.name}: the {what} {host} is unknown: check its name; "
                    "it is tried again by itself")  # fmt: skip
    return Wait(f"{way.name}: the name {host} cannot be looked up ({error.strerror}); "
                "it is tried again by itself")  # fmt: skip


def _explain_connection(causes: list[BaseException], way: Way, progress: Progress) -> Outcome:
    what = "the proxy " if way.is_proxied else ""
    words = "cannot be reached"
    for cause in causes:
        if isinstance(cause, ConnectionRefusedError):
            words = "refused the connection: nothing listens there"
            break
        if isinstance(cause, OSError) and cause.errno in errno.errorcode and cause.strerror:
            words = f"cannot be reached ({cause.strerror})"
    peer = progress.peer or way.host
    return Wait(f"{way.name}: {what}{peer} {words}; it is tried again by itself")


def _explain_rubbish(way: Way, progress: Progress) -> Outcome:
    hint = "check host, port and scheme of its endpoint, then reload"
    if progress.first_bytes[:1] in _TLS_RECORDS:
        hint = "it speaks TLS there: use https:// in its endpoint, then reload"
    elif way.port == GRPC_PORT:
        hint = "4317 is the port for gRPC, HTTP is mostly 4318: " + hint
    peer = progress.peer or way.host
    return Blocked(f"{way.name}: {peer} answered something that is not HTTP/1.1: {hint}")
