"""The patterns that configuration can name, and what a match must pass beside the pattern.

Each is RE2 (`config.regexps`), none looks at where a text begins or ends, and a match never begins
or ends in the middle of a word where that would make it something else. A check is given the match,
and up to two characters before and behind it. `tests/unit/config/test_named_patterns.py` says of
each what it must and must not find.
"""

import ipaddress
from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

Check = Callable[[str, str, str], bool]


class NamedPattern(NamedTuple):
    """`check` None: whatever matches is meant."""

    pattern: str
    check: Check | None = None


def _digits(text: str) -> str:
    return "".join(each for each in text if each.isdigit())


def _is_card(found: str, _before: str, _after: str) -> bool:
    """The checksum of Luhn (ISO/IEC 7812-1)."""
    digits = [int(each) for each in reversed(_digits(found))]
    doubled = [each * 2 - 9 if each > 4 else each * 2 for each in digits[1::2]]
    return 13 <= len(digits) <= 19 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_token(found: str, _before: str, _after: str) -> bool:
    """No word of a sentence: it has a digit, or is long."""
    token = found.rsplit(maxsplit=1)[-1]
    return len(token) >= 20 or any(each.isdigit() for each in token)


def _is_pair(found: str, _before: str, _after: str) -> bool:
    """Base64 of `name:password` (RFC 7617), or what stands before a URL's host."""
    if "://" in found:
        return True
    token = found.rsplit(maxsplit=1)[-1].rstrip("=")
    try:
        return b":" in a2b_base64(token + "=" * (-len(token) % 4))
    except NotBase64:
        return False


def _is_ipv4(_found: str, before: str, after: str) -> bool:
    """No part of a longer row of numbers, such as a version."""
    is_behind = len(before) == 2 and before[1] == "." and before[0].isdigit()
    return not is_behind and not (len(after) == 2 and after[0] == "." and after[1].isdigit())


def _is_ipv6(found: str, before: str, after: str) -> bool:
    """An address that `ipaddress` takes; names with colons, such as std::map, are none."""
    if any(each.isalnum() or each in "_:" for each in before[-1:] + after[:1]):
        return False
    if found.count(":") < 4 and not any(each.isdigit() for each in found):
        return False
    try:
        ipaddress.IPv6Address(found)
    except ValueError:
        return False
    return True


def _is_phone(found: str, before: str, _after: str) -> bool:
    """7 to 15 digits (E.164), and not behind a letter or a digit."""
    return not before[-1:].isalnum() and 7 <= len(_digits(found)) <= 15


_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_KEY: Final = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"

NAMED: Final[Mapping[str, NamedPattern]] = {
    "email": NamedPattern(r"[\pL\pN._%+'-]+@(?:[\pL\pN-]+\.)+\pL{2,24}"),
    "credit-card": NamedPattern(
        r"\b[2-6](?:\d{12,18}|\d{3}(?:[ -]\d{4}){3}(?:[ -]\d{1,3})?|\d{3}[ -]\d{6}[ -]\d{5})\b",
        _is_card,
    ),
    "bearer": NamedPattern(r"(?i)\bbearer[ \t]+[A-Za-z0-9._~+/=-]{8,}", _is_token),
    "basic-auth": NamedPattern(
        r"(?i)\bbasic[ \t]+[A-Za-z0-9+/]{4,}={0,2}|[a-z][a-z0-9+.-]*://[^\s/:@]*:[^\s/@]+@",
        _is_pair,
    ),
    "ipv4": NamedPattern(rf"\b{_OCTET}(?:\.{_OCTET}){{3}}\b", _is_ipv4),
    "ipv6": NamedPattern(
        rf"[0-9A-Fa-f]{{0,4}}(?::[0-9A-Fa-f]{{0,4}}){{2,7}}(?:(?:\.{_OCTET}){{3}})?",
        _is_ipv6,
    ),
    "jwt": NamedPattern(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"),
    "aws-key": NamedPattern(
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"
        r"|(?i:aws.{0,20}secret.{0,20}[=:])\s*[\"']?[A-Za-z0-9/+]{40}",
    ),
    "private-key": NamedPattern(
        rf"-----BEGIN {_KEY}(?s:.*?)(?:-----END {_KEY}|\z)",
    ),
    "phone": NamedPattern(
        r"(?:\+|\b00)[1-9](?:[ ().-]{0,2}\d){6,14}\b|\(?\b[2-9]\d\d\)?[ .-][2-9]\d\d[ .-]\d{4}\b",
        _is_phone,
    ),
}
"""By the name that stands in the configuration; docs/processing.md says what each finds."""
