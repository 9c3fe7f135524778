"""The admin listener's application: its routes, the rule about hosts, and the token."""

import contextlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from relay.admin import (
    control,
    dead_letters,
    destination_routes,
    genai_routes,
    trace_routes,
    view_routes,
)
from relay.admin.api import SECURITY_HEADERS, Api, BadQuery, document, failure
from relay.admin.health import healthz
from relay.admin.metrics import render
from relay.admin.status_document import LOOK_SECONDS, Status
from relay.config.saved import NotSaved
from relay.dead_letters.change import DeadLetters, ReplayRefused
from relay.dead_letters.look import UnknownDeadLetter
from relay.doctor.findings import ServiceSeen, findings_of
from relay.ingest.slips import collapsed
from relay.model.errors import (
    BufferFailure,
    BufferUnavailable,
    ConfigError,
    ControlRefused,
    UnknownDestination,
)
from relay.model.units import iso
from relay.page.page import NotAnswered, Page
from relay.reload import Control
from relay.traces.kept_calls import KeptCalls
from relay.traces.replay import Replay
from relay.traces.where import Traces
from relay.view.events import TooManyStreams
from relay.view.one_trace import NotKept
from relay.view.query import BadSearch
from relay.view.view import View

HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class Features:
    """The parts of the daemon that the routes are over."""

    status: Status
    control: Control
    traces: Traces
    calls: KeptCalls
    replay: Replay
    dead_letters: DeadLetters
    view: View


class HostRule:
    """Responds with 421 unless the Host header names this host, so that no foreign page gets in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and not is_own_host(dict(scope["headers"]).get(b"host", b"")):
            refusal = failure(421, "this listener serves localhost, 127.0.0.1 and [::1] only")
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


# An error of ours tells the reason; what the configuration gets wrong names keys and files, never
# values.
STATUSES: Mapping[type[Exception], int] = {
    BadQuery: 400,
    BadSearch: 400,
    UnknownDestination: 404,
    UnknownDeadLetter: 404,
    NotKept: 404,
    NotAnswered: 404,
    ControlRefused: 409,
    ConfigError: 409,
    NotSaved: 409,
    ReplayRefused: 409,
    TooManyStreams: 503,
    BufferFailure: 503,
}


def is_from_elsewhere(request: Request) -> bool:
    """Whether a page of another origin sent this, which a browser tells."""
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin", "")
    own = (
        f"http://{request.headers.get('host', '')}",
        f"https://{request.headers.get('host', '')}",
    )
    return site not in ("none", "same-origin") or (bool(origin) and origin not in own)


class Admin:
    """The routes of the admin listener; those under `/api/` and `/page/` are behind `token`."""

    def __init__(self, features: Features, token: str) -> None:
        self._status = features.status
        self._traces = features.traces
        self._token = token.encode()
        api: list[Api] = [
            ("GET", "/api/status", self._status_document),
            *view_routes.routes(features.view),
            *destination_routes.routes(features.control),
            ("GET", "/api/doctor", self._doctor_document),
            *control.routes(features.control),
            *trace_routes.routes(features.traces, features.replay),
            *genai_routes.routes(features.calls),
            *dead_letters.routes(features.dead_letters),
        ]
        page = Page(api)
        api += [*page.fragments(), ("GET", "/api/{rest:path}", self._nothing_here)]
        self.app = Starlette(
            routes=[
                Route("/healthz", healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                *page.open_routes(),
                *(Route(path, self._guarded(of), methods=[method]) for method, path, of in api),
            ],
            middleware=[Middleware(HostRule)],
            exception_handlers={
                404: self._nothing_here,
                405: _wrong_method,
                **{error: partial(_failed, status) for error, status in STATUSES.items()},
            },
        )
        self.app.router.redirect_slashes = False

    async def _readyz(self, _request: Request) -> Response:
        reason = self._status.not_ready_reason()
        if reason:
            return PlainTextResponse(f"not ready: {reason}\n", 503, headers=SECURITY_HEADERS)
        return PlainTextResponse("ready\n", headers=SECURITY_HEADERS)

    async def _metrics(self, _request: Request) -> Response:
        body, content_type = render(await self._status.fresh())
        return Response(body, headers={**SECURITY_HEADERS, "Content-Type": content_type})

    def _guarded(
        self, found_for: Callable[[Request], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(
                given.strip().encode(), self._token
            ):
                return failure(
                    401,
                    "send `Authorization: Bearer` with the token from the file admin-token",
                    {"WWW-Authenticate": "Bearer"},
                )
            if request.method not in ("GET", "HEAD") and is_from_elsewhere(request):
                return failure(403, "a page of another origin may change nothing here")
            found = await found_for(request)
            return found if isinstance(found, Response) else document(found)

        return endpoint

    async def _status_document(self, _request: Request) -> dict[str, Any]:
        return await self._status.fresh()

    async def _nothing_here(self, request: Request, _error: Exception | None = None) -> Response:
        path = request.url.path
        if not collapsed(path).startswith("/v1/"):
            return failure(404, f"there is no {path} here")
        message = (
            f"this is the admin listener: set OTEL_EXPORTER_OTLP_ENDPOINT={self._status.endpoint}"
        )
        address = request.client.host if request.client else ""
        agent = request.headers.get("user-agent", "")
        self._status.refusals.note(404, address, message, path=path, user_agent=agent)
        return failure(404, message)

    async def _doctor_document(self, _request: Request) -> dict[str, Any]:
        """What the daemon finds of itself. Without a disk that answers, no services are named."""
        services: list[ServiceSeen] = []
        with anyio.move_on_after(LOOK_SECONDS), contextlib.suppress(BufferUnavailable):
            services = [
                ServiceSeen(
                    each.name, each.signal.word, iso(each.received_ns) or "", each.sender_address
                )
                for each in await self._traces.services()
            ]
        return {"findings": findings_of(await self._status.fresh(), services, datetime.now(UTC))}


async def _wrong_method(request: Request, error: Exception) -> Response:
    allow = (getattr(error, "headers", None) or {}).get("Allow", "GET, HEAD")
    return failure(405, f"{request.url.path} accepts {allow} only", {"Allow": allow})


async def _failed(status: int, _request: Request, error: Exception) -> Response:
    return failure(status, str(error))
