"""What is wrong with the path of an endpoint, and what was meant. Pure.

`path` is the one of the signal, such as /v1/traces.
"""

import re
from urllib.parse import urlsplit, urlunsplit

_OTHER_SIGNAL = re.compile(r"/v1(?:/(?:traces?|logs?|metrics?|spans?))?$")


def is_doubled(endpoint: str, path: str) -> bool:
    """Whether `path` stands there twice, as when a base was filled in with the path on it."""
    return urlsplit(endpoint).path.count(path) > 1


def meant(endpoint: str, path: str) -> str | None:
    """The URL that was most likely meant, without userinfo and query; None if it ends in `path`
    as it should.
    """
    parts = urlsplit(endpoint)
    found = parts.path.rstrip("/")
    if is_doubled(endpoint, path):
        better = found[: found.index(path)] + path
    elif found.endswith(path):
        if parts.path == found:
            return None
        better = found
    else:
        better = _OTHER_SIGNAL.sub("", found) + path
    return at(endpoint, better)


def at(endpoint: str, path: str) -> str:
    """The URL of `path` at the same place, without userinfo and query."""
    parts = urlsplit(endpoint)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", ""))
