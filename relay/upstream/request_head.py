"""Configured headers go in, the head of a request comes out; and what of an answer's body counts.

The exchange itself decides on framing, encoding and hops; a configured header of such a name is
left out.
"""

import base64
import re
import sys
import zlib
from collections.abc import Callable, Mapping

from relay.model.errors import ConfigError
from relay.version import __version__

MAX_ANSWER_BYTES = 64 * 1024
MAX_WORDS_CHARACTERS = 500
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
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, 5.5, as latin-1


def request_head(
    configured: Mapping[str, str],
    *,
    host: str,
    authorization: str,
    media_type: str,
    length_bytes: int,
    content_encoding: str = "",
    hops: str = "",
) -> list[tuple[bytes, bytes]]:
    """The header fields of one POST. Raises ConfigError that names a header HTTP does not allow.

    `authorization` is what the endpoint's own user and password make; a configured one wins.
    """
    head = {"host": host, "user-agent": USER_AGENT, "accept": media_type}
    if authorization:
        head["authorization"] = authorization
    names = {name: name.title() for name in head}
    for name, value in configured.items():
        text = value.strip(" \t")
        if not _HEADER_NAME.fullmatch(name) or not _VALUE.fullmatch(text):
            raise ConfigError(
                f"the header {name!r} has a name or a value that HTTP does not allow: "
                "correct it, then reload",
                key="headers",
            )
        if name.lower() not in _OURS:
            head[name.lower()] = text
            names[name.lower()] = name
    head["accept-encoding"] = "identity"
    head["content-type"] = media_type
    if content_encoding:
        head["content-encoding"] = content_encoding
    if hops:
        head["otlp-relay-hops"] = hops
    head["content-length"] = str(length_bytes)
    return [
        (names.get(name, name.title()).encode(), value.encode("latin-1"))
        for name, value in head.items()
    ]


def basic(user: str, password: str) -> str:
    """The header value for a user and password in a URL, as curl sends it; empty without."""
    if not user and not password:
        return ""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def decoder(content_encoding: str) -> Callable[[bytes, int], bytes]:
    """Unzips chunk by chunk, at most so many bytes: we asked for identity, some zip all the same.

    Words in a coding we do not know are no words.
    """
    coding = content_encoding.strip().lower()
    if coding in ("", "identity"):
        return lambda chunk, room: chunk[:room]
    if coding in ("gzip", "x-gzip", "deflate"):
        unzip = zlib.decompressobj(wbits=47)  # gzip or zlib by its first bytes
        return lambda chunk, room: unzip.decompress(chunk, room) if room > 0 else b""
    return lambda _chunk, _room: b""
