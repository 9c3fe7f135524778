"""What queries of the admin API say, and its JSON responses with the headers that each has."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from relay.model.errors import RelayError
from relay.model.records import Signal

CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
MOST: Final = 2**63 - 1  # that SQLite can hold

# A method, a path below the listener, and what gives the value to respond with, or a Response.
Api = tuple[str, str, Callable[[Request], Awaitable[Any]]]


class BadQuery(RelayError):
    """The query of a request cannot be understood."""

    code = "bad_query"


def number(text: str, name: str) -> int:
    """A whole number that SQLite can hold. Raises BadQuery."""
    found = digits(text)
    if found is None or found > MOST:
        raise BadQuery(f"{name} must be a whole number")
    return found


def digits(text: str) -> int | None:
    """The number that ASCII digits stand for; None for any other text, and for one too long."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def flag(query: QueryParams, name: str, default: str = "false") -> bool:
    """A parameter that is true or false. Raises BadQuery."""
    text = query.get(name, default)
    if text not in ("true", "false"):
        raise BadQuery(f"{name} must be true or false")
    return text == "true"


def signal_of(query: QueryParams) -> Signal | None:
    """The parameter `signal`; None where there is none. Raises BadQuery."""
    word = query.get("signal", "")
    if not word:
        return None
    for signal in Signal:
        if signal.word == word:
            return signal
    raise BadQuery(f"signal must be {', '.join(each.word for each in Signal)}")


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
    response = document({"error": message}, status)
    response.headers.update(headers or {})
    return response
