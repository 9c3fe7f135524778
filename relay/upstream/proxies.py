"""Which proxy leads to an upstream: the one that is set, else the environment's.

The variables are read as the peers read them (curl, and `httpproxy` of Go): a proxy that was told
to stay out of it must see neither token nor contents.
"""

import ipaddress
import os
import re
from typing import NamedTuple

from relay.config import DestinationConfig
from relay.config.urls import split_url
from relay.model.errors import ConfigError
from relay.model.hosts import IpAddress, ip_of, is_this_machine

DEFAULT_PORTS = {"http": 80, "https": 443}
_ENTRY = re.compile(r"(\[[^\]]*\]|[^:]+)(?::([0-9]{1,5}))?")


class Proxy(NamedTuple):
    """The URL of a proxy, and the variable it comes from; empty where it is set as `proxy`."""

    url: str
    variable: str = ""


def find_proxy(settings: DestinationConfig) -> Proxy | None:
    """The proxy to go through, or None for the direct way.

    `auto` is the environment's (http_proxy, https_proxy, all_proxy, no_proxy), but never for this
    machine: a token must not leave it because a shell exports HTTP_PROXY. Raises ConfigError for
    a kind of proxy that is not supported.
    """
    if settings.proxy == "none":
        return None
    chosen: Proxy | None = Proxy(settings.proxy)
    if settings.proxy == "auto":
        chosen = _of_environment(settings.endpoint)
    if chosen is None or not chosen.url:
        return None
    url = chosen.url if "://" in chosen.url else f"http://{chosen.url}"
    parts = split_url(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        by = f" ({chosen.variable})" if chosen.variable else ""
        raise ConfigError(
            f"the proxy of {settings.name}{by} must be an http:// or https:// URL",
            key="proxy",
            hint='proxy = "none" makes it go without',
        )
    return chosen._replace(url=url)


def _of_environment(endpoint: str) -> Proxy | None:
    target = split_url(endpoint)
    host, port = target.hostname or "", target.port or DEFAULT_PORTS.get(target.scheme, 0)
    if is_this_machine(host) or is_exempt(host, port, _variable("no_proxy")[1]):
        return None
    for name in (f"{target.scheme}_proxy", "all_proxy"):
        variable, value = _variable(name)
        if value:
            return Proxy(value, variable)
    return None


def _variable(name: str) -> tuple[str, str]:
    """Name and value of the one that counts: in lower case, where that is set."""
    variable = name if name in os.environ else name.upper()
    return variable, os.environ.get(variable, "").strip()


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Whether `no_proxy` keeps proxies out of the way to `host`.

    Entries are separated by commas or blanks: `*`, a name with all below it (with or without `*.`
    or `.` before it, and a final dot), an address, a network as 10.0.0.0/8; each but a network also
    with a port.
    """
    entries = re.split(r"[,\s]+", no_proxy)
    return any(_exempts(entry, ip_of(host), _ascii(host), port) for entry in entries)


def _exempts(entry: str, address: IpAddress | None, name: str, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _is_in(address, entry)
    if ip_of(entry) is None:
        parts = _ENTRY.fullmatch(entry)
        if parts is None or (parts[2] and int(parts[2]) != port):
            return False
        entry = parts[1]
    if address is not None:
        return address == ip_of(entry)
    base = _ascii(entry.removeprefix("*")).removeprefix(".")
    return base != "" and (name == base or name.endswith(f".{base}"))


def _is_in(address: IpAddress, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(re.sub(r"[\[\]]", "", network), strict=False)
    except ValueError:
        return False


def _ascii(name: str) -> str:
    """The name as DNS has it, without a final dot."""
    bare = name.rstrip(".").lower()
    try:
        return bare if bare.isascii() else bare.encode("idna").decode("ascii")
    except UnicodeError:
        return bare
