"""Whether an endpoint is this relay itself: what it gets it would send to itself for ever."""

import ipaddress
import socket
from collections.abc import Iterable, Sequence

from relay.config import ListenAddress
from relay.doctor.report import StepFailed
from relay.upstream.explain import LOOP_REMEDY


def own_listener(shown_endpoint: str) -> StepFailed:
    """The sentences for an endpoint that is this relay."""
    return StepFailed("name", f"{shown_endpoint} is this relay itself: a loop", LOOP_REMEDY)


def leads_home(addresses: Sequence[str], port: int, own: Iterable[ListenAddress]) -> bool:
    """Whether one of the addresses, at this port, is one that the relay listens on.

    A wildcard is every address of this machine. Looks at interfaces, asks nobody.
    """
    listening = [address.host for address in own if address.port == port]
    return any(_is_one_of(address, listening) for address in addresses)


def _is_one_of(address: str, listening: list[str]) -> bool:
    where = _ip(address)
    for host in listening:
        if host.lower().rstrip(".") == "localhost":
            if where.is_loopback or where.is_unspecified:
                return True
            continue
        try:
            own = _ip(host)
        except ValueError:
            continue  # a name: `points_at` compares those
        if where == own or (own.is_loopback and (where.is_loopback or where.is_unspecified)):
            return True
        if own.is_unspecified and _is_ours(where):
            return True
    return False


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _is_ours(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an interface of this machine has the address: only then can it be bound."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
