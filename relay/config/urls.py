"""What the spelling of a URL tells: its parts, and whether its host is this machine. Pure."""

import ipaddress
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
    """Whether `host` means this machine: localhost, *.localhost, 127/8, ::1, unspecified."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    return address.is_loopback or address.is_unspecified
