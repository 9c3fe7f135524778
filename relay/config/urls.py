"""What the spelling of a URL or a host tells, without asking any name server. Pure."""

import ipaddress
import re
import socket
from urllib.parse import SplitResult, urlsplit


def split_url(url: str) -> SplitResult:
    """The parts of `url`; all empty when it has none, as `http://[`, or no sound port."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - looking at it is the check
    except ValueError:
        return SplitResult("", "", "", "", "")
    return parts


def is_loopback_host(host: str) -> bool:
    """Whether connecting to `host` is connecting to this machine: localhost, *.localhost, 127/8,
    ::1 and the unspecified addresses, in every spelling.
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = ip_of(name)
    return address is not None and (address.is_loopback or address.is_unspecified)


def ip_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that `host` spells, an IPv4 one in IPv6 as itself; None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # "127.1" and "0x7f000001" are addresses too for everything that connects.
        if not re.fullmatch(r"[0-9a-fxA-FX.]+", host) or not host[:1].isdigit():
            return None
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
