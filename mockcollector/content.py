"""Headers and packed bytes in, the request's encoding and its plain body out.

Sources: OTLP specification ("OTLP/HTTP Request", body limit 413), RFC 9110 8.4 (codings are
case-insensitive, an unsupported one is 415 with Accept-Encoding), RFC 9659 (zstd windows ≤ 8 MiB).
"""

import hmac
import sys
import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

from mockcollector.rules import Cause, Encoding, Refused, Rules, TypeMatch

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Headers = Sequence[tuple[str, str]]
_MAX_WINDOW_LOG = 23


def header_values(headers: Headers, name: str) -> list[str]:
    """Every value of the header `name` (lower case), in the order of arrival."""
    return [value for key, value in headers if key == name]


def check_host(headers: Headers, http_version: str) -> None:
    """Refuse HTTP/1.1 without exactly one Host (RFC 9112 3.2: a server MUST answer 400)."""
    if http_version == "1.1" and len(header_values(headers, "host")) != 1:
        raise Refused(400, "HTTP/1.1 needs exactly one Host header")


def check_required_headers(headers: Headers, rules: Rules) -> None:
    """Refuse what lacks a header: with 401 or 403, or as the vendor of `rules` does."""
    for rule in rules.header_rules:
        values = header_values(headers, rule.name.lower())
        if not values:
            raise _missing(rule.name).worded(rule.missing)
        if _is_wrong(values, rule.expected):
            raise _wrong(rule.name).worded(rule.wrong)
    for name, expected in rules.required_headers.items():
        values = header_values(headers, name.lower())
        if not values:
            raise _missing(name)
        if _is_wrong(values, expected):
            raise _wrong(name)


def _missing(name: str) -> Refused:
    scheme = "Bearer" if name.lower() == "authorization" else f'ApiKey header="{name}"'
    return Refused(
        401,
        f"the header {name} is missing",
        cause=Cause.HEADER,
        headers={"www-authenticate": scheme},
    )


def _wrong(name: str) -> Refused:
    return Refused(403, f"the header {name} has a wrong value", cause=Cause.HEADER)


def _is_wrong(values: list[str], expected: str | None) -> bool:
    if expected is None:
        return False
    # Two values are wrong even if one of them is right: a proxy may have picked the other.
    return len(values) > 1 or not hmac.compare_digest(values[0].encode(), expected.encode())


def find_encoding(headers: Headers, rules: Rules) -> Encoding | None:
    """The encoding that Content-Type names, or None where `rules` know no such type."""
    values = header_values(headers, "content-type")
    if len(values) != 1:
        return None
    text = values[0]
    if rules.type_match is TypeMatch.EXACT:
        return rules.media_types.get(text)
    if rules.type_match is TypeMatch.CONTAINS:
        known = (encoding for name, encoding in rules.media_types.items() if name in text.lower())
        return next(known, None)
    media_type, *parameters = text.split(";")
    for parameter in parameters:  # RFC 9110 8.3.1: those that are not known mean nothing
        name, _, value = parameter.strip().lower().partition("=")
        if name == "charset" and value.strip('"') not in {"utf-8", "utf8"}:
            return None
    return rules.media_types.get(media_type.strip().lower())


def find_coding(headers: Headers, rules: Rules) -> str:
    """The one content coding of the request, in lower case; "identity" where there is none."""
    text = ",".join(header_values(headers, "content-encoding")).strip()
    coding = text.lower() or "identity"
    is_spelt_right = text == coding or not text or not rules.is_coding_case_exact
    if coding not in (*rules.codings, "identity") or not is_spelt_right:
        known = ", ".join(each for each in rules.codings if not each.startswith("x-"))
        raise Refused(
            415,
            f"the content encoding is not one of {known}, identity",
            cause=Cause.CODING,
            headers={"accept-encoding": known},
        )
    return coding


def check_length(headers: Headers, limit_bytes: int) -> None:
    """Refuse with 413 what announces itself as too large, before a byte of it is read."""
    for value in header_values(headers, "content-length"):
        if value.isdecimal() and int(value) > limit_bytes:
            raise too_large(limit_bytes)


def too_large(limit_bytes: int) -> Refused:
    """The refusal of a body over the limit."""
    return Refused(413, f"the body is larger than {limit_bytes} bytes", cause=Cause.SIZE)


def unpack(body: bytes, coding: str, limit_bytes: int) -> bytes:
    """The plain body: 400 for damaged or cut-off data, 413 as soon as it grows over the limit."""
    if coding == "identity":
        return body
    new: dict[str, Callable[[], _Decompressor]] = {
        "gzip": lambda: zlib.decompressobj(wbits=31),
        "x-gzip": lambda: zlib.decompressobj(wbits=31),  # RFC 9110 8.4.1.3: the same
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
