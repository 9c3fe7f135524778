"""The way to an upstream: which host, by which proxy, under which name and password.

`Route` is all that a connection stands on; delivery and the connection test both make it here, so
that what the test says holds for what delivery does. Nothing here opens a connection.
"""

import base64
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import unquote

import httpx2

from relay.config import DestinationConfig
from relay.config.urls import split_url
from relay.model.errors import ConfigError
from relay.model.hosts import joined
from relay.upstream.proxies import DEFAULT_PORTS, find_proxy


class Place(NamedTuple):
    """A host, as a person wrote it, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return joined(self.host, self.port)

    @classmethod
    def of(cls, url: str) -> Self:
        """Whom to connect to for `url`."""
        parts = split_url(url)
        return cls(parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 80))


@dataclass(slots=True, eq=False)
class Route:
    """What connections to an upstream stand on, made from `settings` when `mark` was so."""

    settings: DestinationConfig
    mark: tuple[object, ...]
    place: Place
    is_tls: bool  # the endpoint begins with https
    name: str  # the host as DNS and certificates have it
    target: str  # what is asked for; the whole URL where a proxy forwards
    host: str  # of the Host header
    authorization: str = field(repr=False)
    proxy: Place | None = None
    proxy_setting: str = "proxy"  # what names it: the key, or a variable of the environment
    is_proxy_tls: bool = False
    is_forwarded: bool = False  # the proxy is sent the request itself, with the whole URL
    proxy_authorization: str = field(default="", repr=False)
    context: ssl.SSLContext | None = None  # read by the first connection

    @classmethod
    def of(cls, settings: DestinationConfig) -> Self:
        """The route of a destination. Raises ConfigError when it has none that can be used."""
        mark = fingerprint(settings)
        try:
            url = httpx2.URL(settings.endpoint)
        except httpx2.InvalidURL as error:
            raise ConfigError("its endpoint is not a URL", key="endpoint") from error
        if url.scheme not in DEFAULT_PORTS or not split_url(settings.endpoint).hostname:
            raise ConfigError("its endpoint is not an http:// or https:// URL", key="endpoint")
        proxy = find_proxy(settings)
        target, host = url.raw_path.decode("ascii"), url.netloc.decode("ascii")
        if proxy is not None and url.scheme == "http":
            target = f"http://{host}{target}"
        route = cls(
            settings,
            mark,
            Place.of(settings.endpoint),
            url.scheme == "https",
            url.raw_host.decode("ascii"),
            target,
            host,
            basic(url.username, url.password),
        )
        if proxy is not None:
            parts = split_url(proxy.url)
            route.proxy = Place.of(proxy.url)
            route.proxy_setting = proxy.variable or "proxy"
            route.is_proxy_tls = parts.scheme == "https"
            route.is_forwarded = not route.is_tls
            route.proxy_authorization = basic(
                unquote(parts.username or ""), unquote(parts.password or "")
            )
        return route

    @property
    def secrets(self) -> list[str]:
        """Users and passwords of its URLs, and what they become."""
        found = [each for each in (self.authorization, self.proxy_authorization) if each]
        for url in (self.settings.endpoint, self.settings.proxy):
            parts = split_url(url)
            found += [unquote(part) for part in (parts.password, parts.username) if part]
        return found


def fingerprint(settings: DestinationConfig) -> tuple[object, ...]:
    """What a connection stands on; when it changes at a reload, the connection is made anew.

    Certificate files count with their time and size: renewed in place, they are read again.
    """
    files = tuple(
        (path, _stamp(path))
        for path in (settings.ca_file, settings.client_cert, settings.client_key)
    )
    return (settings.endpoint, settings.proxy, files)


def _stamp(path: Path | None) -> tuple[int, int] | None:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size)


def basic(user: str, password: str) -> str:
    """The header value for a user and password in a URL, as curl sends it; empty without."""
    if not user and not password:
        return ""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def without_query(location: str) -> str:
    """A redirect's target without user, query and fragment, which may hold secrets."""
    parts = split_url(location)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    return bare.geturl()
