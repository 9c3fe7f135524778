"""Who sent a request that came through proxies: for people to read, never a reason for trust.

Each proxy adds, on the right, the peer that it saw. So the list is read from there: as long as an
address is a proxy of ours, what stands before it is its word; the first that is not is the sender,
whatever that one wrote further left.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from relay.model.hosts import IpAddress, IpNetwork, ip_of

_MOST_BYTES: Final = 4096
_MOST_PROXIES: Final = 32
_FOR: Final = re.compile(rb'(?i)(?:^|;)\s*for\s*=\s*"?([^";]*)')
_WITH_PORT: Final = re.compile(r"(\[[^\]]*\]|[0-9.]+)(?::[0-9]{1,5})?")


class Proxies:
    """The peers whose word about a sender's address is shown; without any, nobody's is."""

    def __init__(self, networks: Iterable[IpNetwork]) -> None:
        self._networks = tuple(networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def sender(self, peer: str, headers: Mapping[bytes, bytes]) -> str:
        """The sender's address, as far as proxies of ours tell it; else the peer's.

        Of both headers X-Forwarded-For counts: proxies that write it pass on a Forwarded that
        the sender made up. A Unix socket is a peer on this host.
        """
        if not self._is_ours(ip_of("127.0.0.1" if peer == "unix" else peer)):
            return peer
        found = peer
        for address in reversed(_addresses(headers)[-_MOST_PROXIES:]):
            if address is None:
                break
            found = str(address)
            if not self._is_ours(address):
                break
        return found

    def _is_ours(self, address: IpAddress | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _addresses(headers: Mapping[bytes, bytes]) -> list[IpAddress | None]:
    """As the proxies wrote them, the nearest last; None for what is no address."""
    value = headers.get(b"x-forwarded-for")
    if value is not None:
        return [_address(each) for each in value[-_MOST_BYTES:].split(b",")]
    elements = headers.get(b"forwarded", b"")[-_MOST_BYTES:].split(b",")
    matches = (_FOR.search(element) for element in elements)
    return [_address(match[1]) if match else None for match in matches]


def _address(text: bytes) -> IpAddress | None:
    word = text.decode("latin-1").strip()
    match = _WITH_PORT.fullmatch(word)
    return ip_of(match[1] if match else word)
