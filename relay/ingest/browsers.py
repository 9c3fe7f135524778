"""What pages of web browsers may do here: which origins may post, and by which names (CORS, Host).

A page may post to any address, and its browser says where the page came from (Origin) and which
name it took for us (Host). The first is the sender's business; the second tells DNS rebinding: a
page whose own name was made to point to this host sees no other origin than its own.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from relay.config.patterns import matcher
from relay.model.errors import Refusal

Headers = Mapping[bytes, bytes]
HeaderList = Sequence[tuple[bytes, bytes]]

_MAX_PREFLIGHT_BYTES: Final = 1024
_HEADER_NAMES: Final = re.compile(rb"[A-Za-z0-9_\-, ]*")
# Names that no page of somebody else can have: addresses (with a zone, or as 127.1), names without
# a dot, and those below what nobody can register (localhost.localdomain is usual on Fedora).
_NOBODYS: Final = re.compile(
    rb"\[[0-9a-f:.]+(?:%[a-z0-9._~%-]+)?\]|[0-9.]{3,15}|[a-z0-9_-]{1,63}|"
    rb"(?:[a-z0-9_-]+\.)+(?:localhost|localdomain|internal)"
)
_PORT: Final = re.compile(rb":[0-9]*$")
_MOST_CHARACTERS: Final = 255  # of a host's name
_MOST_KNOWN: Final = 256


class Origins:
    """The web origins whose pages may send spans (the Fetch standard's CORS); `*` is all.

    The answer repeats the origin and allows credentials also for `*`: `navigator.sendBeacon`, by
    which older exporters send, always has them, and a literal `*` is refused to them.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self.names = frozenset(origin.rstrip("/") for origin in origins)
        self._matches = matcher(self.names).fullmatch

    def __bool__(self) -> bool:
        return bool(self.names)

    def headers(self, headers: Headers) -> HeaderList:
        """What an answer needs so that the page may read it; nothing for others."""
        origin = headers.get(b"origin")
        if origin is None or not self.names:
            return ()
        if self._matches(origin):
            return (
                (b"access-control-allow-origin", origin),
                (b"access-control-allow-credentials", b"true"),
                (b"vary", b"Origin"),
            )
        return ((b"vary", b"Origin"),)

    def preflight(self, method: str, headers: Headers) -> HeaderList | None:
        """The headers that answer a preflight, None if the request is none or CORS is off."""
        if (
            not self.names
            or method != "OPTIONS"
            or b"origin" not in headers
            or b"access-control-request-method" not in headers
        ):
            return None
        allowed = self.headers(headers)
        if grants(allowed):
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


def grants(headers: HeaderList) -> bool:
    """Whether these headers of an answer let the page go on."""
    return bool(headers) and headers[0][0] == b"access-control-allow-origin"


class Hosts:
    """The names by which a sender without a token may call us. `known` are some that passed."""

    def __init__(self, allowed: Iterable[str], origins: Iterable[str]) -> None:
        of_origins = (urlsplit(origin).hostname for origin in origins if origin != "*")
        self._matches = matcher(frozenset({*allowed, *filter(None, of_origins)})).fullmatch
        self.known: set[bytes | None] = {None}  # no browser leaves Host out

    def has_ours(self, scope: Any, headers: Headers) -> bool:
        """Whether the request calls us by a name that is no page's."""
        host = headers.get(b"host")
        if host in self.known or scope.get("client") is None:
            return True  # over a Unix socket, or from whom nobody can tell, comes no browser
        name = _PORT.sub(b"", (host or b"").strip().lower()).removesuffix(b".")
        if _NOBODYS.fullmatch(name) is None and self._matches(name) is None:
            return False
        if len(name) <= _MOST_CHARACTERS and len(self.known) < _MOST_KNOWN:
            self.known.add(host)
        return True

    def check(self, scope: Any, headers: Headers) -> None:
        """Raise Refusal 421 when the name may be that of somebody's page."""
        if not self.has_ours(scope, headers):
            raise Refusal(
                "this relay was called by a name that it does not know, as a web page could have "
                "it called (DNS rebinding): use localhost or an address in the endpoint, add the "
                "name to ingest.allowed_hosts, or set ingest.tokens",
                status=421,
                grpc_code=9,
            )
