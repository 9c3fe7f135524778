"""Values in; JSON answers of the admin listener out, with the headers that each of them has."""

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def document(value: Any, status: int = 200) -> Response:
    """`value` as JSON."""
    return Response(
        msgspec.json.encode(value),
        status,
        headers=SECURITY_HEADERS,
        media_type="application/json",
    )


def failure(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as JSON: `{"error": …}`."""
    answer = document({"error": message}, status)
    answer.headers.update(headers or {})
    return answer


def iso(ns: int) -> str | None:
    """Nanoseconds since the epoch as RFC 3339 in UTC, to the millisecond; None for 0."""
    if not ns:
        return None
    seconds, rest = divmod(ns, 1_000_000_000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{rest // 1_000_000:03d}Z"
