"""The parts of a URL, also of one that is none. Pure."""

from urllib.parse import SplitResult, urlsplit

from relay.model.errors import ConfigError


def split_url(url: str) -> SplitResult:
    """The parts of `url`; all empty when it has none, as `http://[`, or no sound port."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - looking at it is the check
    except ValueError:
        return SplitResult("", "", "", "", "")
    return parts


def parse_url(url: str) -> SplitResult:
    """The parts of an http or https URL. Raises ConfigError that does not repeat it."""
    if not url.isprintable() or " " in url:
        raise ConfigError("has a blank or an unprintable character in it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError("is no URL: its host or port cannot be read") from None
    if parts.scheme not in {"http", "https"}:
        raise ConfigError("must begin with http:// or https://")
    if not parts.hostname or port == 0:
        raise ConfigError("must name a host, and no port 0")
    return parts
