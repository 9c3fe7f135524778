"""A request's headers and peer go in; who sent it and whether they may comes out.

Nothing here reads a body, and no header's value ever gets into an answer or a log.
"""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from typing import Any, Final

from relay.ingest.headers import HeaderList, Headers, HttpRefusal
from relay.model.records import Sender

# Ids of the relays that a request went through, comma-separated, the latest last.
HOPS_HEADER: Final = "otlp-relay-hops"
_HOPS: Final = HOPS_HEADER.encode()
_MAX_HOPS: Final = 32
_MAX_HOPS_BYTES: Final = 4096
_HOP: Final = re.compile(r"[!-+.-~\-]{1,128}")

_USER_AGENT_CHARACTERS: Final = 256
_PROXY_HEADERS: Final = frozenset({b"forwarded", b"via", b"x-real-ip"})
_PROXY_PREFIXES: Final = (b"x-forwarded-", b"cf-")

_MAX_PREFLIGHT_BYTES: Final = 1024
_HEADER_NAMES: Final = re.compile(rb"[A-Za-z0-9_\-, ]*")


class Tokens:
    """The bearer tokens that senders may use; without any, everybody may send."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._digests = tuple(_digest(token.encode()) for token in tokens)

    def check(self, headers: Headers) -> None:
        """Raise Refusal 401 if there is no bearer token, 403 if it is none of ours."""
        if not self._digests:
            return
        scheme, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
        if scheme.lower() != b"bearer":
            raise HttpRefusal(
                "this relay asks for a token: send it as `Authorization: Bearer TOKEN`",
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
                "this relay does not know the token in Authorization", status=403, grpc_code=7
            )


class Origins:
    """The web origins whose pages may send spans (the Fetch standard's CORS); `*` is all."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.rstrip("/").encode() for origin in origins)

    def headers(self, headers: Headers) -> HeaderList:
        """What an answer needs so that the page may read it; nothing for others."""
        origin = headers.get(b"origin")
        if origin is None or not self._origins:
            return ()
        if b"*" in self._origins:
            return ((b"access-control-allow-origin", b"*"),)
        if origin in self._origins:
            return ((b"access-control-allow-origin", origin), (b"vary", b"Origin"))
        return ((b"vary", b"Origin"),)

    def preflight(self, method: str, headers: Headers) -> HeaderList | None:
        """The headers that answer a preflight, None if the request is none or CORS is off."""
        if (
            not self._origins
            or method != "OPTIONS"
            or b"origin" not in headers
            or b"access-control-request-method" not in headers
        ):
            return None
        allowed = self.headers(headers)
        if allowed and allowed[0][0] == b"access-control-allow-origin":
            asked = headers.get(b"access-control-request-headers", b"")
            if len(asked) > _MAX_PREFLIGHT_BYTES or not _HEADER_NAMES.fullmatch(asked):
                asked = b"authorization, content-encoding, content-type"
            allowed = (
                *allowed,
                (b"access-control-allow-methods", b"POST, PUT"),
                (b"access-control-allow-headers", asked),
                (b"access-control-max-age", b"7200"),
            )
        return allowed


def refuse_loop(headers: Headers, own_id: bytes) -> None:
    """Raise Refusal 508 if the request has been here before, or in more than 32 relays."""
    value = headers.get(_HOPS)
    if value is None:
        return
    hops = value[:_MAX_HOPS_BYTES].split(b",", _MAX_HOPS)
    if own_id in (hop.strip() for hop in hops[:_MAX_HOPS]):
        raise HttpRefusal(
            "loop: these spans were sent by this very relay; one of its destinations leads back "
            "to its own listener (see `otlp-relay destination list`)",
            status=508,
            grpc_code=9,
        )
    if len(hops) > _MAX_HOPS or len(value) > _MAX_HOPS_BYTES:
        raise HttpRefusal(
            f"loop: these spans went through more than {_MAX_HOPS} relays",
            status=508,
            grpc_code=9,
        )


def sender_of(scope: Any, headers: Headers, *, is_connection_test: bool) -> Sender:
    """Who sent the request, by its peer and its headers.

    A peer on a Unix socket is `unix` and local; one that cannot be named is `unknown`.
    """
    client = scope.get("client")
    if client is not None:
        address = str(client[0])
        is_local = is_loopback_address(address)
    else:
        server = scope.get("server")
        is_local = server is not None and server[1] is None  # so ASGI shows a Unix socket
        address = "unix" if is_local else "unknown"
    if is_local:
        is_local = not any(
            name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIXES) for name in headers
        )
    user_agent = headers.get(b"user-agent", b"")[:_USER_AGENT_CHARACTERS].decode("latin-1")
    hops = ""
    if _HOPS in headers:
        # `refuse_loop` has held its length and the number of ids to the limits.
        given = headers[_HOPS].decode("latin-1").split(",")
        hops = ",".join(hop.strip() for hop in given if _HOP.fullmatch(hop.strip()))
    return Sender(address, is_local, user_agent, is_connection_test, hops)


def is_loopback_address(address: str) -> bool:
    """Whether `address`, as the socket tells it, is this host's own."""
    if address in ("127.0.0.1", "::1"):
        return True
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def _digest(token: bytes) -> bytes:
    """Of one length for every token, so that comparing does not tell the length either."""
    return hashlib.sha256(token).digest()
