"""The head of a request: what is configured, and what only the exchange itself may decide.

Framing, encoding and hops are the exchange's; a configured header of such a name is left out.
"""

import re
import sys
from collections.abc import Mapping

from relay.config import HEADER_NAME
from relay.model.errors import ConfigError
from relay.version import __version__

USER_AGENT = (
    f"otlp-relay/{__version__} "
    f"(python {sys.version_info.major}.{sys.version_info.minor}; {sys.platform})"
)

# What the exchange itself decides; a configured header of that name is left out.
_OURS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "keep-alive",
        "otlp-relay-hops",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, 5.5, as latin-1


def request_head(
    request: tuple[str, str],
    configured: Mapping[str, str],
    *,
    host: str,
    authorization: str,
    media_type: str,
    more: Mapping[str, str],
) -> bytes:
    """The head of a request but for the length of its body and the empty line at its end.

    `request` is its method and target. `authorization` is what the endpoint's own user and password
    make; a configured one wins. `media_type` is what is accepted, and `more` what the exchange
    itself decides; empty values are left out. Raises ConfigError that names a header that HTTP does
    not allow: none may bring a line of its own.
    """
    head = {"host": host, "user-agent": USER_AGENT, "accept": media_type}
    if authorization:
        head["authorization"] = authorization
    names = {}
    for name, value in configured.items():
        text = _allowed(name, value)
        if name.lower() not in _OURS:
            head[name.lower()] = text
            names[name.lower()] = name
    head["accept-encoding"] = "identity"
    head |= {name: value for name, value in more.items() if value}
    fields = (f"{names.get(name, name.title())}: {_allowed(name, head[name])}" for name in head)
    return "\r\n".join((f"{' '.join(request)} HTTP/1.1", *fields, "")).encode("latin-1")


def _allowed(name: str, value: str) -> str:
    """The value without blanks around it. Raises ConfigError without showing it."""
    text = value.strip(" \t")
    if not HEADER_NAME.fullmatch(name) or not _VALUE.fullmatch(text):
        raise ConfigError(
            f"the header {name!r} has a name or a value that HTTP does not allow", key="headers"
        )
    return text
