"""The parts of a URL, also of one that is none. Pure."""

from urllib.parse import SplitResult, urlsplit


def split_url(url: str) -> SplitResult:
    """The parts of `url`; all empty when it has none, as `http://[`, or no sound port."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - looking at it is the check
    except ValueError:
        return SplitResult("", "", "", "", "")
    return parts
