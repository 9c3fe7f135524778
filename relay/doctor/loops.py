"""Whether an endpoint is this relay itself: what it gets it would send to itself for ever."""

import socket
from collections.abc import Iterable, Sequence

from relay.config import ListenAddress
from relay.doctor.report import StepFailed
from relay.model.hosts import ip_of, is_wildcard, leads_to
from relay.upstream.explain import LOOP_REMEDY


def own_listener(shown_endpoint: str) -> StepFailed:
    """The sentences for an endpoint that is this relay."""
    return StepFailed("name", f"{shown_endpoint} is this relay itself: a loop", LOOP_REMEDY)


def leads_home(addresses: Sequence[str], port: int, own: Iterable[ListenAddress]) -> bool:
    """Whether one of the addresses, at this port, is one that the relay listens on.

    A wildcard is every address of this machine. Looks at interfaces, asks nobody.
    """
    listening = [address.host for address in own if address.port == port]
    return any(
        leads_to(address, host) or (is_wildcard(host) and _is_ours(address))
        for address in addresses
        for host in listening
    )


def _is_ours(address: str) -> bool:
    """Whether an interface of this machine has the address: only then can it be bound."""
    found = ip_of(address)
    if found is None:
        return False
    family = socket.AF_INET6 if found.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(found), 0))
        except OSError:
            return False
    return True
