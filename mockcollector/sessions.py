"""A token in a request's path or header in; the session that it belongs to out.

Parallel tests share one collector: each has a session with a journal, a script and required headers
of its own. A request is of a session when its path begins with `/sessions/TOKEN`, which is what
`OTEL_EXPORTER_OTLP_ENDPOINT` can say, or when its header `X-Mock-Session` is the token. What names
a session that does not exist is refused, and is in the journal of the collector itself.
"""

import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

from mockcollector.app import CollectorApp
from mockcollector.exchange import Receive, Scope, Send
from mockcollector.gate import Gate
from mockcollector.journal import Journal
from mockcollector.received import ReceivedRequest
from mockcollector.script import Script
from mockcollector.signals import TRAITS, Signal

HEADER = "x-mock-session"
PREFIX = "/sessions/"
OnRequest = Callable[[ReceivedRequest], None] | None
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class SessionError(ValueError):
    """There is no such session, or there cannot be; the message says what would be right."""


class UnknownSessionError(SessionError):
    """There is no session of this token."""


class _SessionApp(CollectorApp):
    """The collector of a session; what hangs in it is held until the session lets it go."""

    def __init__(
        self, main: CollectorApp, script: Script, journal: Journal, on_request: OnRequest
    ) -> None:
        self._main = main
        self._followed: Gate | None = None
        self._own_gate = Gate()
        super().__init__(main.rules, script, journal, on_request)

    @property
    def gate(self) -> Gate:
        """A gate that closes with the collector's, which has a new one in each of its runs."""
        if self._followed is not self._main.gate:
            self._followed = self._main.gate
            self._own_gate = self._followed.follower()
        return self._own_gate

    @gate.setter
    def gate(self, _gate: Gate) -> None:
        """It follows from the collector's."""


class Session:
    """A test's own part of a collector: what it sends is in `journal`, `script` answers it.

    As a context manager it is gone at the end, with what it holds.
    """

    def __init__(self, sessions: "Sessions", token: str, app: CollectorApp) -> None:
        self._sessions = sessions
        self.token = token
        self.app = app
        self.journal = app.journal
        self.script = app.script

    @property
    def base_url(self) -> str:
        """What `OTEL_EXPORTER_OTLP_ENDPOINT` wants."""
        return f"{self._sessions.base_url()}{PREFIX}{self.token}"

    @property
    def headers(self) -> dict[str, str]:
        """What makes a request to the collector's own URLs one of this session."""
        return {HEADER: self.token}

    def endpoint_of(self, signal: str) -> str:
        """The URL of a signal."""
        rules = self.app.rules.get(Signal(signal))
        return self.base_url + (rules.path if rules else TRAITS[Signal(signal)].path)

    def env(self) -> dict[str, str]:
        """The variables that make an OpenTelemetry SDK send to this session."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.base_url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            **{
                f"OTEL_EXPORTER_OTLP_{each.upper()}_ENDPOINT": self.endpoint_of(each)
                for each in Signal
            },
        }

    def require_headers(self, required: Mapping[str, str | None]) -> None:
        """Insist on these headers from now on, in this session alone."""
        for signal, rules in self.app.rules.items():
            self.app.rules[signal] = replace(rules, required_headers=dict(required))

    def release(self) -> None:
        """Let what hangs in this session be answered now. To be called in the collector's loop."""
        self.app.gate.release()

    def close(self) -> None:
        """Forget it: what still comes for it is refused."""
        self._sessions.remove(self.token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Sessions:
    """The sessions of a collector, and the ASGI app that hands each request to the right one."""

    def __init__(
        self, main: CollectorApp, base_url: Callable[[], str], on_request: OnRequest = None
    ) -> None:
        self._main = main
        self._on_request = on_request
        self.base_url = base_url
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def create(self, token: str | None = None, script: Script | None = None) -> Session:
        """A new session, by this token or one of ours. Raises SessionError."""
        chosen = secrets.token_hex(8) if token is None else token
        if not _TOKEN.fullmatch(chosen):
            raise SessionError("a token is 1 to 100 letters, digits, dots, dashes and underscores")
        journal = Journal(keep=self._main.journal.keep)
        app = _SessionApp(self._main, script or Script(), journal, self._on_request)
        with self._lock:
            if chosen in self._sessions:
                raise SessionError(f"there is a session {chosen!r} already")
            self._sessions[chosen] = session = Session(self, chosen, app)
        return session

    def get(self, token: str) -> Session:
        """The session of this token. Raises SessionError."""
        with self._lock:
            if token not in self._sessions:
                raise UnknownSessionError(
                    f"there is no session {token!r}: POST /sessions makes one"
                )
            return self._sessions[token]

    def remove(self, token: str) -> None:
        """Forget a session; one that is not there is fine."""
        with self._lock:
            self._sessions.pop(token, None)

    @property
    def tokens(self) -> list[str]:
        """All there are, oldest first."""
        with self._lock:
            return list(self._sessions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on: the ASGI interface."""
        named = _named(scope)
        if named is None:
            await self._main(scope, receive, send)
            return
        token, path = named
        try:
            session = self.get(token)
        except SessionError:
            # Not the plain path: a sender with a wrong token must not look like one that is right.
            unknown: dict[str, Any] = {**scope, "path": f"{PREFIX}{token}{path}"}
            await self._main(unknown, receive, send)
            return
        await session.app({**scope, "path": path}, receive, send)


def _named(scope: Scope) -> tuple[str, str] | None:
    """The token and the rest of the path; None where the request names no session."""
    if scope["type"] != "http":
        return None
    path: str = scope["path"]
    if path.startswith(PREFIX):
        token, slash, rest = path.removeprefix(PREFIX).partition("/")
        return token, slash + rest
    for name, value in scope["headers"]:
        if name == HEADER.encode():
            return value.decode("latin-1"), path
    return None
