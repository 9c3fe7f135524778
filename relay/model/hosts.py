"""What a host means as it is written: this machine, every interface of it, or another. Pure.

One rule for listeners, endpoints, peers and proxies; no name server is asked.
"""

import functools
import ipaddress
import re
import socket

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_NUMBERS = re.compile(r"[0-9][0-9a-fxA-FX.]*")


def ip_of(host: str) -> IpAddress | None:
    """The address that `host` is, None for a name. An IPv4 address in IPv6 form is IPv4."""
    text = host.strip("[]").rstrip(".").partition("%")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        # "127.1" and "0x7f000001" are addresses too for everything that connects.
        if not _NUMBERS.fullmatch(text):
            return None
        try:
            return ipaddress.IPv4Address(socket.inet_aton(text))
        except OSError:
            return None
    return getattr(address, "ipv4_mapped", None) or address


@functools.lru_cache(maxsize=256)  # it is asked of every request's peer
def is_loopback(host: str) -> bool:
    """Whether only this machine is reached or can reach by it: localhost, 127/8 and ::1."""
    address = ip_of(host)
    if address is not None:
        return address.is_loopback
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


@functools.lru_cache(maxsize=256)
def network_of(host: str) -> str:
    """What one peer can send from: this machine, a network of 64 bits of IPv6, or the address."""
    address = ip_of(host)
    if address is not None and address.is_loopback:
        return "loopback"
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address or host)


def is_wildcard(host: str) -> bool:
    """Whether it is every interface to listen on; who connects to it connects to loopback."""
    address = ip_of(host)
    return address is not None and address.is_unspecified


def is_this_machine(host: str) -> bool:
    """Whether who connects to `host` stays on this machine."""
    return is_loopback(host) or is_wildcard(host)


def leads_to(host: str, listening: str) -> bool:
    """Whether who connects to `host` may meet who listens on `listening`, as both are written.

    All of loopback counts as one place, since which address of it answers is chance.
    """
    if is_this_machine(listening):
        return is_this_machine(host)
    address = ip_of(host)
    if address is None:
        return host.lower().removesuffix(".") == listening.lower().removesuffix(".")
    return address == ip_of(listening)


def joined(host: str, port: int) -> str:
    """Host and port as people and URLs write them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
