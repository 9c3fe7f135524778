"""An endpoint and a proxy setting go in; the parts of the URL and the proxy to use come out."""

import ipaddress
import urllib.request
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from relay.model.errors import ConfigError


class Route(Protocol):
    """What decides whether a proxy is used: `proxy` is `auto`, `none` or a URL."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def endpoint(self) -> str: ...  # noqa: D102
    @property
    def proxy(self) -> str: ...  # noqa: D102


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


def proxy_url(route: Route) -> str | None:
    """The proxy to go through, or None for the direct way.

    `auto` is the environment's (http_proxy, https_proxy, all_proxy, no_proxy), but never for this
    machine: a token must not leave it because a shell exports HTTP_PROXY. Raises ConfigError for
    a kind of proxy that is not supported.
    """
    if route.proxy == "none":
        return None
    chosen: str | None = route.proxy
    if route.proxy == "auto":
        chosen = _environment_proxy(route.endpoint)
    if not chosen:
        return None
    url = chosen if "://" in chosen else f"http://{chosen}"
    parts = split_url(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"the proxy of {route.name} must be an http:// or https:// URL", key="proxy"
        )
    return url


def _environment_proxy(endpoint: str) -> str | None:
    target = split_url(endpoint)
    if is_loopback_host(target.hostname or ""):
        return None
    proxies = urllib.request.getproxies_environment()
    # proxy_bypass_environment is not in the stubs of every type checker; it is documented by use.
    if urllib.request.proxy_bypass_environment(target.netloc.rpartition("@")[2], proxies):  # type: ignore[attr-defined]
        return None
    return proxies.get(target.scheme) or proxies.get("all")


def secrets_of(*urls: str) -> list[str]:
    """Users and passwords that stand in the URLs."""
    found = []
    for url in urls:
        parts = split_url(url)
        found += [unquote(part) for part in (parts.password, parts.username) if part]
    return found


def without_query(location: str) -> str:
    """A redirect's target without user, query and fragment, which may hold secrets."""
    parts = split_url(location)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    return bare.geturl()
