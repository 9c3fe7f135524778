"""A setup in; its collectors, running, and the environment that leads the command to them out."""

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from mockcollector.check.process import Ended
from mockcollector.check.setups import PATH, QUICK, Setup, Tls, Urls
from mockcollector.check.wire import Attempt, Wire, attempts_of
from mockcollector.profiles.parts import Profile
from mockcollector.received import ReceivedRequest
from mockcollector.rules import Rules
from mockcollector.script import Script
from mockcollector.script_values import Answer
from mockcollector.server import MockCollector
from mockcollector.signals import TRAITS, Signal


@dataclass(frozen=True, slots=True)
class Authority:
    """Certificates in files: of the authority itself, of servers by what they are, of a client."""

    ca_file: Path
    servers: Mapping[Tls, tuple[Path, Path]]
    client: tuple[Path, Path]


class Collector:
    """One collector of a stage, and when each of its exchanges was over.

    It is the one of a signal, or of all where `signal` is None.
    """

    def __init__(self, setup: Setup, signals: Sequence[Signal], **options: Any) -> None:
        self._ended: dict[int, float] = {}
        self._holder = _hold_a_port() if setup.is_late else None
        own = signals[0] if len(signals) == 1 else None
        self.mock = MockCollector(
            profile=Profile(rules={each: Rules(path=_path(setup, each)) for each in signals}),
            script=Script([_filled(answer, own) for answer in setup.script]),
            port=self._holder.getsockname()[1] if self._holder else 0,
            on_request=self._note,
            **options,
        )

    def _note(self, request: ReceivedRequest) -> None:
        self._ended[id(request)] = time.time()

    def start(self) -> None:
        """Listen."""
        self.mock.start()
        if self._holder is not None:
            self._holder.close()

    def stop(self) -> None:
        """Listen no more, and let go of what hangs."""
        self.mock.stop()
        if self._holder is not None:
            self._holder.close()

    def attempts(self, began_unix_nano: int) -> tuple[Attempt, ...]:
        """What came up to now."""
        requests = self.mock.journal.requests()
        began = began_unix_nano / 1e9
        ended = [self._ended.get(id(request)) for request in requests]
        return attempts_of(
            requests, [None if at is None else at - began for at in ended], began_unix_nano
        )


class Stage:
    """The collectors of one run, as a context manager; what it knows afterwards is in `wires`."""

    def __init__(
        self,
        setup: Setup,
        signals: Sequence[Signal],
        protocol: str,
        *,
        authority: Authority | None = None,
        late_seconds: float = 0.0,
    ) -> None:
        self._setup = setup
        self._signals = signals
        self._protocol = protocol
        self._authority = authority
        self._late_seconds = late_seconds
        self._opened: float | None = None
        self._timer = threading.Timer(late_seconds, self._open_late)
        self._began_unix_nano = 0
        tls = self._tls_options()
        if setup.urls is Urls.BASE:
            self._collectors = dict.fromkeys(signals, Collector(setup, signals, **tls))
        else:
            self._collectors = {each: Collector(setup, [each], **tls) for each in signals}
        self._distinct = list({id(each): each for each in self._collectors.values()}.values())

    def __enter__(self) -> Self:
        if not self._setup.is_late:
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._setup.is_late:
            self._timer.cancel()
            if self._timer.ident is not None:
                self._timer.join()
        for collector in self._distinct:
            collector.stop()

    def _start(self) -> None:
        for collector in self._distinct:
            collector.start()

    def begin(self) -> None:
        """From now on seconds count; a late collector is opened when it is time."""
        self._began_unix_nano = time.time_ns()
        if self._setup.is_late:
            self._timer.start()

    def _open_late(self) -> None:
        self._start()
        self._opened = (time.time_ns() - self._began_unix_nano) / 1e9

    def _tls_options(self) -> dict[str, Any]:
        if self._setup.tls is Tls.NONE or self._authority is None:
            return {}
        cert, key = self._authority.servers[self._setup.tls]
        options: dict[str, Any] = {"cert_file": cert, "key_file": key}
        if self._setup.tls is Tls.CLIENT:
            options["client_ca_file"] = self._authority.ca_file
        return options

    def environ(self) -> dict[str, str]:
        """The variables of the run."""
        environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": self._protocol, **QUICK, **self._endpoints()}
        if self._setup.tls is not Tls.NONE and self._authority is not None:
            environ["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(self._authority.ca_file)
            if self._setup.tls is Tls.CLIENT:
                cert, key = self._authority.client
                environ["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] = str(cert)
                environ["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = str(key)
        return environ | dict(self._setup.environ)

    def _endpoints(self) -> dict[str, str]:
        is_one = self._setup.urls is Urls.SIGNAL and len(self._signals) == 1
        if self._setup.urls is Urls.BASE or is_one:
            base = self._distinct[0].mock.base_url
            return {"OTEL_EXPORTER_OTLP_ENDPOINT": base + self._setup.prefix}
        return {
            f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT": (
                collector.mock.base_url
                if self._setup.urls is Urls.ROOT
                else collector.mock.endpoint_of(signal)
            )
            for signal, collector in self._collectors.items()
        }

    def wires(self, ended: Ended) -> dict[Signal, Wire]:
        """What came of each signal. To be asked when the collectors have stopped."""
        is_shared = self._setup.urls is Urls.BASE
        wires = {}
        for signal, collector in self._collectors.items():
            attempts = collector.attempts(self._began_unix_nano)
            own = [each for each in attempts if not is_shared or each.request.signal is signal]
            strays = [each for each in attempts if is_shared and each.request.signal is None]
            wires[signal] = Wire(
                signal=signal,
                attempts=tuple(own),
                strays=tuple(strays),
                exit_code=ended.exit_code,
                seconds=ended.seconds,
                output=ended.output,
                opened=self._opened,
                strangers=tuple(each.reason for each in collector.mock.journal.strangers()),
            )
        total = sum(len(wire.attempts) for wire in wires.values())
        return {
            signal: replace(wire, elsewhere=total - len(wire.attempts))
            for signal, wire in wires.items()
        }


def _path(setup: Setup, signal: Signal) -> str:
    match setup.urls:
        case Urls.PATH:
            return PATH
        case Urls.ROOT:
            return "/"
        case _:
            return setup.prefix.rstrip("/") + TRAITS[signal].path


def _filled(answer: Answer, signal: Signal | None) -> Answer:
    """The answer with the signal's name in its message."""
    return replace(answer, message=answer.message.replace("{signal}", signal or "data"))


def _hold_a_port() -> socket.socket:
    """A port that nobody else gets, and where every connection is refused."""
    holder = socket.socket()
    # With it on both sides the collector can bind what is held, as long as nobody listens.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder
