"""HTTP requests on the admin port in; health, metrics and the API's documents out."""

import hmac
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
from relay.admin.topics import Topics
from relay.model.errors import BufferError_

HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Source(control.Control, Protocol):
    """Where the documents come from and what is asked of: the daemon."""

    def not_ready_reason(self) -> str:
        """Empty when a span could be kept now; else one sentence."""

    def status(self) -> dict[str, Any]:
        """The document of `/api/status`."""


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

    def __init__(self, source: Source, token: str, topics: Topics) -> None:
        self._source = source
        self._token = token.encode()
        self.app = Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route("/api/status", self._authorized(self._status)),
                *control.routes(source, self._authorized),
                *topics.routes(self._authorized),
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


async def _nothing_here(request: Request, _error: Exception | None = None) -> Response:
    return failure(404, f"there is no {request.url.path} here")


async def _wrong_method(request: Request, error: Exception) -> Response:
    allow = (getattr(error, "headers", None) or {}).get("Allow", "GET, HEAD")
    return failure(405, f"{request.url.path} takes {allow} only", {"Allow": allow})


async def _buffer_trouble(_request: Request, error: Exception) -> Response:
    return failure(503, str(error))
