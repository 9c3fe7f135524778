"""Whether an endpoint is this relay itself: what it gets it would send to itself for ever."""

import ipaddress
import socket
from collections.abc import Iterable, Sequence

from relay.config import ListenAddress
from relay.doctor.report import StepFailed
from relay.model.hosts import ip_of
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
    where = ip_of(address)
    if where is None:
        return False
    is_here = where.is_loopback or where.is_unspecified
    for host in listening:
        own = ip_of(host)
        if own is None:  # a name: `points_at` compares those, but for this one
            if is_here and host.lower().rstrip(".") == "localhost":
                return True
        elif (
            where == own
            or (own.is_loopback and is_here)
            or (own.is_unspecified and (is_here or _is_ours(where)))
        ):
            return True
    return False


def _is_ours(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an interface of this machine has the address: only then can it be bound."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
