"""What is wrong with the path of an endpoint, and what was meant. Pure."""

import re
from urllib.parse import urlsplit, urlunsplit

TRACES = "/v1/traces"
_OTHER_SIGNAL = re.compile(r"/v1(?:/(?:trace|logs?|metrics?|spans?))?$")


def is_doubled(endpoint: str) -> bool:
    """Whether /v1/traces stands there twice, as when a base was filled in with the path on it."""
    return urlsplit(endpoint).path.count(TRACES) > 1


def meant(endpoint: str) -> str | None:
    """The URL that was most likely meant, without userinfo and query; None if the path ends as
    traces URLs do.
    """
    parts = urlsplit(endpoint)
    path = parts.path.rstrip("/")
    if is_doubled(endpoint):
        better = path[: path.index(TRACES)] + TRACES
    elif path.endswith(TRACES):
        if parts.path == path:
            return None
        better = path
    else:
        better = _OTHER_SIGNAL.sub("", path) + TRACES
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], better, "", ""))
