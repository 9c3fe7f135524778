"""`MockCollector`: a collector on a socket of its own, in a thread, for tests and the command.

It installs no signal handlers and configures no logging.
"""

import itertools
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import anyio
import anyio.to_thread

from mockcollector.app import CollectorApp
from mockcollector.control import ControlApp
from mockcollector.journal import Journal, Keep, Limits
from mockcollector.profiles import Profile, build
from mockcollector.profiles.parts import every_signal
from mockcollector.received import ReceivedRequest
from mockcollector.rules import Rules
from mockcollector.run import Door, Run
from mockcollector.script import Script
from mockcollector.script_values import Step, is_token
from mockcollector.session_control import SessionControlApp
from mockcollector.sessions import Session, Sessions
from mockcollector.signals import TRAITS, Signal
from mockcollector.strangers import Stranger, watch_handshakes


class MockCollector:
    """A strict OTLP/HTTP receiver. Usable as a context manager, sync or async.

    - `host`, `port`: where to listen; port 0 takes a free one and keeps it over `restart`.
    - `profile`: behave as this vendor does, by a name (`"axiom"`) or a value of `profiles`; `token`
      is the one that it takes instead of the profile's default.
    - `path`: where traces go; logs and metrics go to the paths of OTLP or of the profile.
    - `required_headers`: name to value, or to None for any value.
    - `script`: what to answer, as a short text (`"503*3,ok"`) or as answers; then 200.
    - `keep`: `"counts"` is for load tests: it keeps numbers and ids only, and of a body checks only
      its syntax and the ids of spans. `limits`: how much is kept.
    - `max_body_bytes`: of a body, before and after decompression; 64 MiB, or the profile's.
    - `control_port`: serve the control API (`control`) on this port of `control_host`, 0 for a free
      one. None: there is none.
    - `cert_file`, `key_file`: speak TLS. `client_ca_file`: ask clients for a certificate, too.
    - `on_request`: called in the collector's thread with every answered request, `on_stranger` with
      what reached the port and is none (gRPC, failed TLS, malformed HTTP).
    """

    def __init__(  # noqa: PLR0913 - each is a wish of its own, all by name
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        profile: str | Profile | None = None,
        token: str | None = None,
        path: str | None = None,
        required_headers: Mapping[str, str | None] | None = None,
        script: Script | Iterable[Step | str] | Step | str = (),
        keep: Keep = "spans",
        limits: Limits | None = None,
        max_body_bytes: int | None = None,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
        client_ca_file: str | Path | None = None,
        on_request: Callable[[ReceivedRequest], None] | None = None,
        on_stranger: Callable[[Stranger], None] | None = None,
        control_host: str = "127.0.0.1",
        control_port: int | None = None,
    ) -> None:
        check_options(path, required_headers, limits, max_body_bytes)
        self.host = host
        self.profile = _profile(profile, token)
        self.journal = Journal(keep=keep, limits=limits)
        self.script = script if isinstance(script, Script) else Script(script)
        rules = _rules(self.profile, path, required_headers, max_body_bytes)
        self._app = CollectorApp(rules, self.script, self.journal, on_request)
        self._sessions = Sessions(self._app, lambda: self.base_url, on_request)
        self.control_host = control_host
        self._control_port = control_port
        self._port = port
        self._tls = _tls_context(cert_file, key_file, client_ca_file)
        if self._tls is not None:
            watch_handshakes(self._tls, self._note_stranger)
        self._on_stranger = on_stranger
        self._connection_numbers = itertools.count(1)
        self._run: Run | None = None
        self._is_listening = True

    @property
    def port(self) -> int:
        """The port; known from the first `start` on where 0 was asked for."""
        if self._port == 0:
            raise RuntimeError("the collector has no port before it was started")
        return self._port

    @property
    def base_url(self) -> str:
        """Scheme, host and port, as `OTEL_EXPORTER_OTLP_ENDPOINT` wants it."""
        return f"{'https' if self._tls else 'http'}://{_in_url(self.host)}:{self.port}"

    @property
    def endpoint(self) -> str:
        """The URL of the traces, or of what else is taken: `endpoint_of` the first signal."""
        return self.endpoint_of(self.signals[0])

    @property
    def headers(self) -> dict[str, str]:
        """`headers_of` the first signal."""
        return self.headers_of(self.signals[0])

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What is taken: all three, or what the profile's vendor takes."""
        return tuple(signal for signal, rules in self._app.rules.items() if rules.closed is None)

    def endpoint_of(self, signal: str) -> str:
        """The URL of a signal, as `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT` and its like want it.

        For one that is not taken it is where OTLP would have it.
        """
        rules = self._app.rules.get(Signal(signal))
        return self.base_url + (rules.path if rules else TRAITS[Signal(signal)].path)

    def headers_of(self, signal: str) -> dict[str, str]:
        """What a request must carry to be taken, by name; "any" where any value will do."""
        rules = self._app.rules.get(Signal(signal), Rules())
        required = {
            name: "any" if value is None else value
            for name, value in rules.required_headers.items()
        }
        return {**(self.profile.headers_of(Signal(signal)) if self.profile else {}), **required}

    def env(self) -> dict[str, str]:
        """The variables that make an OpenTelemetry SDK send here, each signal with its headers."""
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.base_url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        for signal in Signal:
            prefix = f"OTEL_EXPORTER_OTLP_{signal.upper()}"
            environ[f"{prefix}_ENDPOINT"] = self.endpoint_of(signal)
            environ[f"{prefix}_PROTOCOL"] = "http/protobuf"
            headers = self.headers_of(signal).items()
            environ[f"{prefix}_HEADERS"] = ",".join(f"{name}={quote(v)}" for name, v in headers)
        return environ

    def __repr__(self) -> str:
        where = self.base_url if self._port else "not started"
        return f"<MockCollector {where}, {self.journal.counts.requests} requests>"

    @property
    def has_control(self) -> bool:
        """Whether there is a control API while it runs."""
        return self._control_port is not None

    @property
    def control_url(self) -> str:
        """Where the control API is. Raises RuntimeError where there is none (yet)."""
        if not self._control_port:
            raise RuntimeError("the collector has no control API, or was not started yet")
        return f"http://{_in_url(self.control_host)}:{self._control_port}"

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._run is not None and self._run.is_alive

    def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had, RuntimeError when it runs."""
        if self._run is not None:
            raise RuntimeError("the collector is running already")
        listeners = [_bind(self.host, self._port)]
        try:
            doors = [self._door(listeners[0])]
            if self._control_port is not None:
                listeners.append(_bind(self.control_host, self._control_port))
                control = self._control_app()
                # What a user types wrong there is nobody's export.
                doors.append(Door(control, listeners[1], None, itertools.count(1), lambda _: None))
            self._run = Run(self._app, doors)
            self._run.start()
        except BaseException:
            self._run = None
            for listener in listeners:
                listener.close()
            raise
        self._is_listening = True
        self._port = listeners[0].getsockname()[1]
        if self._control_port is not None:
            self._control_port = listeners[1].getsockname()[1]

    def _door(self, listener: socket.socket) -> Door:
        numbers = self._connection_numbers
        return Door(self._sessions, listener, self._tls, numbers, self._note_stranger)

    async def _listen(self, is_wanted: bool) -> None:  # noqa: FBT001 - as a switch is turned
        """Close the port, or open it again, while the control API stays."""
        if self._run is None or is_wanted == self._is_listening:
            return
        if is_wanted:
            listener = _bind(self.host, self._port)
            await self._run.open_again(0, self._door(listener))
        else:
            await self._run.shut(0)
        self._is_listening = is_wanted

    def require_headers(self, required: Mapping[str, str | None]) -> None:
        """Insist on these headers from now on instead: the token has changed."""
        check_options(None, required, None, None)
        for signal, rules in self._app.rules.items():
            self._app.rules[signal] = replace(rules, required_headers=dict(required))

    def _note_stranger(self, stranger: Stranger) -> None:
        self.journal.note_stranger(stranger)
        if self._on_stranger is not None:
            self._on_stranger(stranger)

    def session(
        self,
        *,
        token: str | None = None,
        script: Script | Iterable[Step | str] | Step | str = (),
    ) -> Session:
        """A part of this collector for one test alone: a journal, a script and URLs of its own.

        Raises SessionError where the token cannot be one or is taken.
        """
        made = script if isinstance(script, Script) else Script(script)
        return self._sessions.create(token, made)

    def _control_app(self) -> SessionControlApp:
        waiting = self._app.wait_until_stopping
        return SessionControlApp(
            self._own_control_app(), self._sessions, wait_until_stopping=waiting
        )

    def _own_control_app(self) -> ControlApp:
        return ControlApp(
            self.journal,
            self.script,
            describe=self._describe,
            release=self.release,
            wait_until_stopping=self._app.wait_until_stopping,
            listen=self._listen,
            require_headers=self.require_headers,
        )

    def _describe(self) -> dict[str, Any]:
        return {
            "endpoint": self.endpoint,
            "endpoints": {signal: self.endpoint_of(signal) for signal in self.signals},
            "profile": self.profile.name if self.profile else None,
            "header_names": list(self.headers),
        }

    def stop(self) -> None:
        """Close the listener and every connection; hanging requests end without an answer.

        Journal and script stay as they are. Stopping what is stopped does nothing.
        """
        run, self._run = self._run, None
        if run is not None:
            run.stop()

    def restart(self) -> None:
        """Stop, if it runs, and listen on the same port again: an upstream that went and came."""
        self.stop()
        self.start()

    def release(self) -> None:
        """Let hanging and delayed requests be answered now."""
        if self._run is not None:
            self._run.call(self._app.gate.release)

    def ask_to_stop(self) -> None:
        """Begin to stop without waiting: for signal handlers. `stop` is still to be called."""
        if self._run is not None:
            self._run.ask_to_stop()

    def wait_until_ended(self, timeout: float | None = None) -> bool:
        """Block until the listener is gone; false when `timeout` seconds were not enough."""
        return self._run is None or self._run.wait_until_ended(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self.start)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)


def check_options(
    path: str | None,
    required_headers: Mapping[str, str | None] | None,
    limits: Limits | None,
    max_body_bytes: int | None,
) -> None:
    """Raise TypeError or ValueError for what would only fail, or never match, at a request."""
    if path is not None and not path.startswith("/"):
        raise ValueError(f"path is {path!r}: it starts with a slash, such as /v1/traces")
    if required_headers is not None and not isinstance(required_headers, Mapping):
        raise TypeError("required_headers maps names to values, or to None for any value")
    for name, value in (required_headers or {}).items():
        if not is_token(str(name)):
            # Not quoted: written as "Name: value" it holds the value.
            raise ValueError("a name in required_headers is not the name of a header")
        if value is not None and not isinstance(value, str):
            raise TypeError(f"the value of the required header {name} is not a text")
    if limits is not None and not isinstance(limits, Limits):
        raise TypeError("limits is a Limits(max_requests=…, max_spans=…, max_body_bytes=…)")
    if max_body_bytes is not None and max_body_bytes < 1:
        raise ValueError(f"max_body_bytes is {max_body_bytes}: it is 1 or more")


def _profile(profile: str | Profile | None, token: str | None) -> Profile | None:
    if isinstance(profile, str):
        return build(profile, token)
    if token is not None:
        raise ValueError("a token needs the name of a profile; a Profile has its own")
    return profile


def _rules(
    profile: Profile | None,
    path: str | None,
    required_headers: Mapping[str, str | None] | None,
    max_body_bytes: int | None,
) -> dict[Signal, Rules]:
    rules = dict(profile.rules if profile is not None else every_signal(Rules()))
    changes: dict[str, Any] = {"required_headers": dict(required_headers or {})}
    if max_body_bytes is not None:
        changes["max_body_bytes"] = max_body_bytes
    changed = {signal: replace(each, **changes) for signal, each in rules.items()}
    if path is not None:
        changed[Signal.TRACES] = replace(changed.get(Signal.TRACES, Rules(**changes)), path=path)
    return changed


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Without it a restart on the same port fails while old connections time out.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _tls_context(
    cert_file: str | Path | None, key_file: str | Path | None, client_ca_file: str | Path | None
) -> ssl.SSLContext | None:
    if cert_file is None:
        if key_file is not None or client_ca_file is not None:
            raise ValueError("key_file and client_ca_file need a cert_file")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)
    if client_ca_file is not None:
        context.load_verify_locations(client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
