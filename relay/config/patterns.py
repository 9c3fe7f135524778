"""Origins, hosts and networks as people write them in the configuration. Pure.

What can never match anything is refused: it would be a setting without effect. Each reader raises
ConfigError with what would be right, which the caller completes with what was written.
"""

import ipaddress
import re

from relay.model.errors import ConfigError
from relay.model.hosts import IpNetwork

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*"
_PATTERN = re.compile(_NAME)
_ORIGIN = re.compile(rf"(https?)://(?:{_NAME}|\[[0-9a-f:.]+\])(?::([1-9][0-9]{{0,4}}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def origin(text: str) -> str:
    """An origin as browsers send it, `https://*.example.org` for all names below, or `*`."""
    found = text.lower()
    match = _ORIGIN.fullmatch(found)
    if found != "*" and (match is None or int(match[2] or 1) > 65535):
        raise ConfigError(
            'must be "*", an origin such as "https://example.org:8443" or "https://*.example.org"',
            hint="no path, no final slash, no * elsewhere; browsers write umlauts as xn--",
        )
    if match and match[2] == _DEFAULT_PORTS[match[1]]:
        raise ConfigError(f"must be without :{match[2]}, which browsers leave out")
    return found


def host_pattern(text: str) -> str:
    """A host's name, `*.example.org` for all names below, or `*`."""
    found = text.lower()
    if found != "*" and _PATTERN.fullmatch(found) is None:
        raise ConfigError(
            'must be "*" or a name such as "relay.example.org" or "*.example.org", without a port'
        )
    return found


def network(text: str) -> IpNetwork:
    """An address, or a network in CIDR form."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(
            'must be an address or a network such as "10.0.0.1", "10.0.0.0/8" or "fd00::/8"',
            hint="the bits behind the prefix must be 0" if "host bits" in str(error) else None,
        ) from None


def matcher(patterns: frozenset[str]) -> re.Pattern[bytes]:
    """What tells whether an origin or a name, in lower case, is one of these patterns."""
    found = (
        ".*" if pattern == "*" else re.escape(pattern).replace(r"\*\.", r"(?:[a-z0-9_-]+\.)+")
        for pattern in sorted(patterns)
    )
    return re.compile("|".join(found).encode() or b"(?!)")
