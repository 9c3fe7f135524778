"""JSON responses of the admin listener, with the headers that each of them has."""

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
