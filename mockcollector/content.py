"""Headers and packed bytes in, the request's encoding and its plain body out.

Sources: OTLP specification ("OTLP/HTTP Request", body limit 413), RFC 9110 8.4 (codings are
case-insensitive, an unsupported one is 415 with Accept-Encoding), RFC 9659 (zstd windows ≤ 8 MiB).
"""

import hmac
import sys
import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

from mockcollector.rules import Encoding, Refused, Rules

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Headers = Sequence[tuple[str, str]]
SUPPORTED_CODINGS = "gzip, deflate, zstd, identity"
_MAX_WINDOW_LOG = 23


def header_values(headers: Headers, name: str) -> list[str]:
    """Every value of the header `name` (lower case), in the order of arrival."""
    return [value for key, value in headers if key == name]


def check_required_headers(headers: Headers, rules: Rules) -> None:
    """Refuse with 401 where a required header is missing and 403 where its value is wrong."""
    for name, expected in rules.required_headers.items():
        values = header_values(headers, name.lower())
        if not values:
            scheme = "Bearer" if name.lower() == "authorization" else f'ApiKey header="{name}"'
            raise Refused(
                401, f"the header {name} is missing", headers={"www-authenticate": scheme}
            )
        if expected is None:
            continue
        # Two values are wrong even if one of them is right: a proxy may have picked the other.
        if len(values) > 1 or not hmac.compare_digest(values[0].encode(), expected.encode()):
            raise Refused(403, f"the header {name} has a wrong value")


def find_encoding(headers: Headers) -> Encoding | None:
    """The encoding that Content-Type names, or None. Parameters and case do not matter."""
    values = header_values(headers, "content-type")
    if len(values) != 1:
        return None
    media_type, _, parameters = values[0].partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    for encoding in Encoding:
        if media_type.strip().lower() == encoding.media_type:
            return encoding if charset in {"", "utf-8", "utf8"} else None
    return None


def find_coding(headers: Headers) -> str:
    """The one content coding of the request, in lower case; "identity" where there is none."""
    coding = ",".join(header_values(headers, "content-encoding")).strip().lower() or "identity"
    if coding not in SUPPORTED_CODINGS.split(", "):
        raise Refused(
            415,
            f"the content encoding is not one of {SUPPORTED_CODINGS}",
            headers={"accept-encoding": SUPPORTED_CODINGS.removesuffix(", identity")},
        )
    return coding


def check_length(headers: Headers, limit_bytes: int) -> None:
    """Refuse with 413 what announces itself as too large, before a byte of it is read."""
    for value in header_values(headers, "content-length"):
        if value.isdecimal() and int(value) > limit_bytes:
            raise too_large(limit_bytes)


def too_large(limit_bytes: int) -> Refused:
    """The refusal of a body over the limit."""
    return Refused(413, f"the body is larger than {limit_bytes} bytes")


def unpack(body: bytes, coding: str, limit_bytes: int) -> bytes:
    """The plain body: 400 for damaged or cut-off data, 413 as soon as it grows over the limit."""
    if coding == "identity":
        return body
    new: dict[str, Callable[[], _Decompressor]] = {
        "gzip": lambda: zlib.decompressobj(wbits=31),
        "deflate": lambda: zlib.decompressobj(wbits=15),
        "zstd": lambda: zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
        ),
    }
    try:
        return _unpack_all(new[coding], body, limit_bytes, is_single=coding == "deflate")
    except (zlib.error, zstd.ZstdError) as error:
        raise Refused(400, f"the body is not valid {coding}") from error


class _Decompressor(Protocol):
    """What zlib's and zstd's objects have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _unpack_all(
    new: Callable[[], _Decompressor], body: bytes, limit_bytes: int, *, is_single: bool
) -> bytes:
    out = bytearray()
    left = body
    while True:  # a turn for each gzip member or zstd frame
        stream = new()
        # One byte more than allowed tells "too large" from "just fits".
        out += stream.decompress(left, limit_bytes + 1 - len(out))
        if len(out) > limit_bytes:
            raise too_large(limit_bytes)
        if not stream.eof:
            raise Refused(400, "the compressed body is cut off")
        left = stream.unused_data
        if not left:
            return bytes(out)
        if is_single:
            raise Refused(400, "the compressed body is followed by other data")
