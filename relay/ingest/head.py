"""What the head of a request says, and whether its sender may send: judged before any body is read.

No header's value ever gets into an answer or a log.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from relay.config import IngestConfig
from relay.ingest.browsers import HeaderList, Hosts, Origins
from relay.ingest.forwarded import Proxies
from relay.model.errors import Refusal
from relay.model.hosts import is_loopback
from relay.model.records import Encoding, Sender

Headers = dict[bytes, bytes]

_ENCODINGS: Final = {
    b"application/json": Encoding.JSON,
    b"application/x-protobuf": Encoding.PROTOBUF,
    b"application/protobuf": Encoding.PROTOBUF,  # decision D10: some senders write it so
}
# Named as in RFC 9110 section 8.4.1, and its old alias for gzip.
_CODINGS: Final = {
    b"gzip": "gzip",
    b"x-gzip": "gzip",
    b"deflate": "deflate",
    b"zstd": "zstd",
    b"identity": "",
    b"": "",
}
# Fields of one value (RFC 9110, 5.3). Content-Encoding is a list: twice gzip is zipped twice.
_SINGLE: Final = frozenset(
    {b"authorization", b"content-type", b"host", b"origin", b"user-agent", b"x-test-connection"}
)
ACCEPT_ENCODING: Final = ((b"accept-encoding", b"gzip, deflate, zstd"),)

# Ids of the relays that a request went through, comma-separated, the latest last.
HOPS_HEADER: Final = "otlp-relay-hops"
_HOPS: Final = HOPS_HEADER.encode()
_MAX_HOPS: Final = 32
_MAX_HOPS_BYTES: Final = 4096
_HOP: Final = re.compile(r"[!-+.-~\-]{1,128}")

_ENCODED: Final = (
    "; it came with %20, which this exporter does not decode: write a blank there instead of %20 "
    "in OTEL_EXPORTER_OTLP_HEADERS"
)
_USER_AGENT_CHARACTERS: Final = 256
_PROXY_HEADERS: Final = frozenset({b"forwarded", b"via", b"x-real-ip"})
_PROXY_PREFIXES: Final = (b"x-forwarded-", b"cf-")


class HttpRefusal(Refusal):
    """A refusal that needs headers of its own in the answer."""

    def __init__(
        self, message: str, *, status: int, grpc_code: int, headers: HeaderList = ()
    ) -> None:
        super().__init__(message, status=status, grpc_code=grpc_code)
        self.headers = headers


class Head(NamedTuple):
    """What the head of a request says of its body, once the sender may send it.

    `encoding` is None where only a connection test may go without a Content-Type; `coding` is the
    compression, empty for none.
    """

    encoding: Encoding | None
    coding: str
    sender: Sender


class Gate:
    """Judges requests by their heads alone, in one visit, each rule cheaper than the next.

    `own_id` is what this relay adds to `otlp-relay-hops`.
    """

    def __init__(self, settings: IngestConfig, *, tokens: Iterable[str], own_id: bytes) -> None:
        self.origins = Origins(settings.cors_origins)
        self.has_origins = bool(self.origins)
        self._tokens = Tokens(tokens)
        self._asks_for_token = bool(self._tokens)
        self._spares_local = settings.tokens_for == "remote"
        self._hosts = Hosts(settings.allowed_hosts, self.origins.names)
        self._proxies = Proxies(settings.trusted_proxies)
        self._has_proxies = bool(self._proxies)
        self._own_id = own_id

    def admit(self, scope: Any) -> Head:
        """What the request says of itself. Raises Refusal when its body is not to be read."""
        headers = joined(scope["headers"])
        token = ""
        if self._asks_for_token:
            is_spared = self._spares_local and is_local(scope, headers)
            if not (is_spared and self._hosts.has_ours(scope, headers)):
                token = self._tokens.check(headers)
        elif headers.get(b"host") not in self._hosts.known:
            self._hosts.check(scope, headers)
        if _HOPS in headers:
            refuse_loop(headers, self._own_id)
        encoding = encoding_of(headers)
        test = headers.get(b"x-test-connection")  # as OpenRouter sends it
        is_test = test is not None and test.strip().lower() == b"true"
        if encoding is None and not is_test:
            raise wrong_type()
        coding = coding_of(headers) if b"content-encoding" in headers else ""
        sender = self.sender(scope, headers, is_connection_test=is_test, token=token)
        return Head(encoding, coding, sender)

    def sender(
        self, scope: Any, headers: Headers, *, is_connection_test: bool = False, token: str = ""
    ) -> Sender:
        """Who sent it, by the address that proxies of ours tell."""
        sender = sender_of(scope, headers, is_connection_test=is_connection_test, token=token)
        if self._has_proxies:
            address = self._proxies.sender(sender.address, headers)
            return replace(sender, address=address)
        return sender


class Tokens:
    """The bearer tokens that senders may use; without any, everybody may send."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._digests = tuple(_digest(token.encode()) for token in tokens)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def check(self, headers: Headers) -> str:
        """The digest of the token.

        Raises Refusal 401 if there is no bearer token, 403 if it is none of ours.
        """
        scheme, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
        if scheme.lower() != b"bearer":
            is_encoded = scheme[:9].lower() == b"bearer%20"
            raise HttpRefusal(
                "this relay requires a token: send it as `Authorization: Bearer TOKEN`"
                + (_ENCODED if is_encoded else ""),
                status=401,
                grpc_code=16,
                headers=((b"www-authenticate", b"Bearer"),),
            )
        presented = _digest(token.strip())
        is_known = False
        for digest in self._digests:  # all of them, so that time tells nothing
            is_known |= hmac.compare_digest(presented, digest)
        if not is_known:
            raise HttpRefusal(
                "unknown token in Authorization: send one of this relay's (ingest.tokens)",
                status=403,
                grpc_code=7,
            )
        return presented.hex()


def refuse_loop(headers: Headers, own_id: bytes) -> None:
    """Raise Refusal 508 if the request has been here before, or in more than 32 relays.

    Only for `headers` that name relays.
    """
    value = headers[_HOPS]
    hops = value[:_MAX_HOPS_BYTES].split(b",", _MAX_HOPS)
    if own_id in (hop.strip() for hop in hops[:_MAX_HOPS]):
        raise HttpRefusal(
            "loop: this was sent by this relay itself; one of its destinations leads back "
            "to its own listener (see `otlp-relay destination list`)",
            status=508,
            grpc_code=9,
        )
    if len(hops) > _MAX_HOPS or len(value) > _MAX_HOPS_BYTES:
        raise HttpRefusal(
            f"loop: this went through more than {_MAX_HOPS} relays",
            status=508,
            grpc_code=9,
        )


def sender_of(scope: Any, headers: Headers, *, is_connection_test: bool, token: str = "") -> Sender:
    """Who sent the request, by its peer and its headers.

    A peer on a Unix socket is `unix` and local; one that cannot be named is `unknown`.
    """
    client = scope.get("client")
    unnamed = "unix" if _is_unix(scope) else "unknown"
    address = str(client[0]) if client is not None else unnamed
    user_agent = headers.get(b"user-agent", b"")[:_USER_AGENT_CHARACTERS].decode("latin-1")
    hops = ""
    if _HOPS in headers:
        # `refuse_loop` has held its length and the number of ids to the limits.
        given = headers[_HOPS].decode("latin-1").split(",")
        hops = ",".join(hop.strip() for hop in given if _HOP.fullmatch(hop.strip()))
    local = is_local(scope, headers)
    return Sender(address, local, user_agent, is_connection_test, hops, token)


def is_local(scope: Any, headers: Headers) -> bool:
    """Whether it was sent on this host: by its peer, and no header shows a proxy in between."""
    client = scope.get("client")
    if is_loopback(str(client[0])) if client is not None else _is_unix(scope):
        return not any(
            name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIXES) for name in headers
        )
    return False


def _is_unix(scope: Any) -> bool:
    server = scope.get("server")
    return server is not None and server[1] is None  # so ASGI shows a Unix socket


def joined(raw: HeaderList) -> Headers:
    """Headers by lower-case name; one that stands there twice is joined by a comma.

    Of those that have one value, the same value a second time says nothing more: proxies and
    clients that each set it would otherwise be refused for a list that is none.
    """
    headers = dict(raw)
    if len(headers) != len(raw):
        headers = {}
        for name, value in raw:
            before = headers.get(name)
            if before is None:
                headers[name] = value
            elif before != value or name not in _SINGLE:
                headers[name] = before + b", " + value
    return headers


def encoding_of(headers: Headers) -> Encoding | None:
    """The encoding that Content-Type names, None if it is missing or no encoding of ours.

    Case and parameters such as `charset` do not matter (decision D10).
    """
    value = headers.get(b"content-type", b"")
    known = _ENCODINGS.get(value)
    return known or _ENCODINGS.get(value.partition(b";")[0].strip().lower())


def coding_of(headers: Headers) -> str:
    """The compression that Content-Encoding names, empty for none.

    Raises Refusal 415 for codings we do not know and for more than one.
    """
    coding = _CODINGS.get(headers.get(b"content-encoding", b"").strip().lower())
    if coding is None:
        raise HttpRefusal(
            "unsupported Content-Encoding: use gzip, deflate, zstd or none, one at a time",
            status=415,
            grpc_code=3,
            headers=ACCEPT_ENCODING,
        )
    return coding


def too_long(cap_bytes: int) -> Refusal:
    """The refusal of a body over the limit, before or after decompression."""
    return Refusal(
        f"the body exceeds {cap_bytes} bytes, this relay's limit (ingest.max_body); "
        "send smaller batches (OTEL_BSP_MAX_EXPORT_BATCH_SIZE)",
        status=413,
        grpc_code=8,
    )


def wrong_type() -> Refusal:
    """The refusal of a body in none of OTLP's encodings."""
    return Refusal(
        "Content-Type must be application/json or application/x-protobuf",
        status=415,
        grpc_code=3,
    )


def _digest(token: bytes) -> bytes:
    """Of one length for every token, so that comparing does not tell the length either."""
    return hashlib.sha256(token).digest()
