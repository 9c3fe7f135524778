"""The control API with its sessions: what is asked of a session goes to a control API of its own.

::

    GET    /sessions             the sessions there are
    POST   /sessions             a new one: {"token": "…", "script": "503*3,ok"}, both optional
    GET    /sessions/TOKEN       where it takes what; DELETE forgets it
    …      /sessions/TOKEN/…     every route of `control`, of this session
    GET    /openapi.json         all routes as an OpenAPI document
    …                            everything else: `control` of the collector itself
"""

import importlib.resources
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from mockcollector.control import ControlApp
from mockcollector.control_http import AsciiJson, read_body, refuse_http, refuse_mistake
from mockcollector.control_values import MistakeError, read_answers
from mockcollector.script import Script
from mockcollector.script_values import ScriptError
from mockcollector.sessions import Session, SessionError, Sessions, UnknownSessionError


class SessionControlApp(Starlette):
    """The control API of a collector and of its sessions."""

    def __init__(
        self,
        main: ControlApp,
        sessions: Sessions,
        *,
        wait_until_stopping: Callable[[], Awaitable[None]],
    ) -> None:
        self._main = main
        self._sessions = sessions
        self._wait_until_stopping = wait_until_stopping
        self._controls: WeakKeyDictionary[Session, ControlApp] = WeakKeyDictionary()
        super().__init__(
            routes=[
                Route("/openapi.json", self._describe, methods=["GET"]),
                Route("/sessions", self._list, methods=["GET"]),
                Route("/sessions", self._create, methods=["POST"]),
                Route("/sessions/{token}", self._show, methods=["GET", "DELETE"]),
                Route("/sessions/{token}/{rest:path}", _Forward(self)),
                Mount("/", app=main),
            ],
            exception_handlers={
                MistakeError: refuse_mistake,
                ScriptError: refuse_mistake,
                SessionError: refuse_mistake,
                UnknownSessionError: _refuse_unknown,
                HTTPException: refuse_http,
            },
        )

    async def _describe(self, _request: Request) -> Response:
        text = importlib.resources.files("mockcollector").joinpath("openapi.json").read_bytes()
        return Response(text, media_type="application/json")

    async def _list(self, _request: Request) -> AsciiJson:
        return AsciiJson({"sessions": self._sessions.tokens})

    async def _create(self, request: Request) -> AsciiJson:
        body = await read_body(request)
        token = body.pop("token", None)
        if token is not None and not isinstance(token, str):
            raise MistakeError("token is a text")
        script = Script()
        if body:
            answers, default = read_answers(body)
            script = Script(answers)
            if default is not None:
                script.default = default
        session = self._sessions.create(token, script)
        return AsciiJson(_record(session), 201)

    async def _show(self, request: Request) -> AsciiJson:
        session = self._sessions.get(request.path_params["token"])
        if request.method == "GET":
            return AsciiJson(_record(session))
        session.close()
        return AsciiJson({"sessions": self._sessions.tokens})

    def control_of(self, token: str) -> ControlApp:
        """The control API of one session. Raises SessionError."""
        session = self._sessions.get(token)
        if session not in self._controls:
            self._controls[session] = self._make_control(session)
        return self._controls[session]

    def _make_control(self, session: Session) -> ControlApp:
        async def listen(_is_wanted: bool) -> None:  # noqa: FBT001 - as a switch is turned
            raise MistakeError("a session cannot stop the collector: others use it, too")

        return ControlApp(
            session.journal,
            session.script,
            describe=lambda: _record(session),
            release=session.release,
            wait_until_stopping=self._wait_until_stopping,
            listen=listen,
            require_headers=session.require_headers,
        )


async def _refuse_unknown(_request: Request, error: Exception) -> AsciiJson:
    return AsciiJson({"error": str(error)}, 404)


class _Forward:
    """An ASGI app that hands what is asked of a session to the control API of that session."""

    def __init__(self, app: SessionControlApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        control = self._app.control_of(scope["path_params"]["token"])
        path = "/" + scope["path_params"]["rest"]
        await control({**scope, "path": path, "root_path": ""}, receive, send)


def _record(session: Session) -> dict[str, Any]:
    return {
        "session": session.token,
        "base_url": session.base_url,
        "endpoints": {signal: session.endpoint_of(signal) for signal in session.app.rules},
        "header_names": sorted(
            {name for rules in session.app.rules.values() for name in rules.required_headers}
        ),
        "header": {name.title(): value for name, value in session.headers.items()},
        "control": f"/sessions/{session.token}",
        "env": session.env(),
    }
