"""HTTP requests on the admin port in; health, metrics and the API's documents out."""

import hmac
import time
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from relay.admin import control, dead_letters
from relay.admin.answers import SECURITY_HEADERS, document, failure
from relay.admin.metrics import render
from relay.errors import BufferError_

HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Source(control.Control, Protocol):
    """Where the documents come from and what is asked of: the daemon."""

    def not_ready_reason(self) -> str:
        """Empty when a span could be kept now; else one sentence."""

    def status(self) -> dict[str, Any]:
        """The document of `/api/status`."""

    async def trace(self, trace_id: bytes) -> dict[str, Any] | None:
        """The document of `/api/traces/ID`; None when nothing is known of it."""

    async def recent_traces(self, limit: int) -> list[dict[str, Any]]:
        """What was received last, newest first."""


class HostRule:
    """Answers 421 unless the Host header names this host, so that no foreign page gets in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and not is_own_host(dict(scope["headers"]).get(b"host", b"")):
            refusal = failure(421, "this listener answers to localhost, 127.0.0.1 and [::1] only")
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)


def is_own_host(header: bytes) -> bool:
    """Whether a Host header names this host, with any port."""
    name = header.decode("latin-1").strip().lower()
    host, colon, port = name.rpartition(":")
    if colon and port.isdigit():
        name = host
    return name in HOSTS


class Admin:
    """The routes of the admin listener over one `Source` and what else can be asked."""

    def __init__(self, source: Source, token: str, letters: dead_letters.DeadLetters) -> None:
        self._source = source
        self._token = token.encode()
        self.app = Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route("/api/status", self._authorized(self._status)),
                Route("/api/traces", self._authorized(self._recent_traces)),
                Route("/api/traces/{trace_id}", self._authorized(self._trace)),
                *control.routes(source, self._authorized),
                *dead_letters.routes(letters, self._authorized),
                Route("/api/{rest:path}", self._authorized(_nothing_here)),
            ],
            middleware=[Middleware(HostRule)],
            exception_handlers={
                404: _nothing_here,
                405: _wrong_method,
                BufferError_: _buffer_trouble,
                **control.EXCEPTION_HANDLERS,
                **dead_letters.EXCEPTION_HANDLERS,
            },
        )
        self.app.router.redirect_slashes = False

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n", headers=SECURITY_HEADERS)

    async def _readyz(self, _request: Request) -> Response:
        reason = self._source.not_ready_reason()
        if reason:
            return PlainTextResponse(f"not ready: {reason}\n", 503, headers=SECURITY_HEADERS)
        return PlainTextResponse("ready\n", headers=SECURITY_HEADERS)

    async def _metrics(self, _request: Request) -> Response:
        body, content_type = render(self._source.status())
        headers = {**SECURITY_HEADERS, "Content-Type": content_type}
        return Response(body, headers=headers)

    def _authorized(self, endpoint: control.Endpoint) -> control.Endpoint:
        async def guarded(request: Request) -> Response:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(
                given.strip().encode(), self._token
            ):
                return failure(
                    401,
                    "send `Authorization: Bearer` with what the file admin-token holds",
                    {"WWW-Authenticate": "Bearer"},
                )
            return await endpoint(request)

        return guarded

    async def _status(self, _request: Request) -> Response:
        return document(self._source.status())

    async def _recent_traces(self, request: Request) -> Response:
        text = request.query_params.get("limit", "50")
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 1000):
            return failure(400, "limit is a number from 1 to 1000")
        return document({"traces": await self._source.recent_traces(int(text))})

    async def _trace(self, request: Request) -> Response:
        text = request.path_params["trace_id"]
        try:
            trace_id = bytes.fromhex(text)
        except ValueError:
            trace_id = b""
        if len(text) != 32 or len(trace_id) != 16:
            return failure(400, "a trace id is 32 hex digits")
        found = await self._source.trace(trace_id)
        if found is None:
            return failure(404, f"nothing is known of trace {trace_id.hex()}")
        return document(found)


async def _nothing_here(request: Request, _error: Exception | None = None) -> Response:
    return failure(404, f"there is no {request.url.path} here")


async def _wrong_method(request: Request, error: Exception) -> Response:
    allow = (getattr(error, "headers", None) or {}).get("Allow", "GET, HEAD")
    return failure(405, f"{request.url.path} takes {allow} only", {"Allow": allow})


async def _buffer_trouble(_request: Request, error: Exception) -> Response:
    return failure(503, str(error))


def iso(ns: int) -> str | None:
    """Nanoseconds since the epoch as RFC 3339 in UTC, to the millisecond; None for 0."""
    if not ns:
        return None
    seconds, rest = divmod(ns, 1_000_000_000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{rest // 1_000_000:03d}Z"
