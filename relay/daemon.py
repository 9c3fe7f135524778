"""Builds every part from the configuration, nests sink and source, and stops in order.

The nesting is the order. Couriers (the sink) start first and stop last; the listeners (the
source) are inside; the buffer is open around both. A vital part that dies ends the process with
70: the listeners and the buffer's writer. A courier never takes the rest with it.
"""

import contextlib
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping, MutableMapping
from typing import NamedTuple

import anyio
import structlog
from anyio.abc import TaskGroup

from relay.admin.app import Admin, Features
from relay.admin.health import health_app
from relay.admin.status_document import Status
from relay.admin.token import read_or_make
from relay.buffer.api import Log
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.directory import holder_of
from relay.config import GRPC_PORT, Config, DestinationConfig
from relay.config.load import load
from relay.config.running import announced
from relay.dead_letters.change import DeadLetters
from relay.dead_letters.redactions import Redactions
from relay.deliver.fleet import Fleet
from relay.engine import open_log
from relay.ingest.endpoint import Ingest
from relay.ingest.offload.offload import Offload
from relay.ingest.pipeline import Pipeline
from relay.model.counters import Counters
from relay.model.errors import ConfigError, RelayError
from relay.model.records import Signal
from relay.otlp import native
from relay.process.foreign import Current, PrepareForeign
from relay.process.prepare import Prepare
from relay.process.settings import before_kept, prepare_settings
from relay.reload import Control, Parts, buffer_settings
from relay.salvage.salvage import Salvage
from relay.server.allocator import calm_allocator
from relay.server.connection import Limits
from relay.server.listener import (
    Listener,
    calm_garbage_collector,
    raise_open_files_limit,
    tls_context,
)
from relay.server.sockets import (
    address_of,
    bind,
    bind_beside,
    bind_or_inherit,
    refuse_exposed,
)
from relay.systemd import activation
from relay.systemd.activation import Inherited
from relay.systemd.notify import Notifier
from relay.systemd.reporter import Service
from relay.systemd.status_line import MAX_CHARACTERS, cut, summarize
from relay.telemetry.own_spans import OwnSpans
from relay.telemetry.traced import traced_accept, traced_upstreams
from relay.traces.kept_calls import KeptCalls
from relay.traces.replay import Replay
from relay.traces.where import Traces
from relay.version import __version__
from relay.view.view import View

log = structlog.stdlib.get_logger(__name__)

EXIT_STOPPED = 0
EXIT_PART_DIED = 70
# Together below the 90 s that systemd gives a stop.
ANSWER_SECONDS = 15.0
DELIVER_SECONDS = 30.0
HEALTH_CONNECTIONS = 64  # anybody may open them: they must leave descriptors to the others
ONLY_TRACES = (
    "logs and metrics are answered with 404: to take them, write "
    'signals = ["traces", "logs", "metrics"] at a destination that is to get them; '
    'signals = ["traces"] keeps it at traces and ends this line'
)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(config_path: str | None, environ: MutableMapping[str, str]) -> int:
    """Run until SIGTERM, SIGINT or the death of a part; the exit code.

    What the service manager put into `environ` for this process alone is taken out of it. Raises
    ConfigError and BufferFailure when it cannot start.
    """
    notifier = Notifier.take(environ)
    try:
        return _serve(config_path, environ, notifier, activation.take(environ))
    except RelayError as error:
        notifier.status(f"not started: {cut(error.message, MAX_CHARACTERS)}")
        raise


def _serve(
    config_path: str | None, environ: Mapping[str, str], notifier: Notifier, inherited: Inherited
) -> int:
    started_ns = time.time_ns()
    # Until somebody heeds it, a SIGHUP waits: it must not end a start.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    config = load(config_path, environ)
    os.umask(0o077)
    raise_open_files_limit()
    calm_allocator()
    try:
        ingest_sockets = bind_or_inherit("ingest", inherited.ingest, config.ingest.listen)
        refuse_exposed(ingest_sockets, has_tokens=bool(config.ingest.tokens))
        admin_sockets = bind_or_inherit("admin", inherited.admin, config.admin.listen)
        refuse_exposed(admin_sockets, has_tokens=False, key="admin.listen")
        health_sockets = bind(config.admin.health_listen, key="admin.health_listen")
    except ConfigError as error:
        holder = holder_of(config.state_dir)
        if not holder:
            raise
        hint = f"otlp-relay already runs with {config.state_dir} (pid {holder}): stop it first"
        raise ConfigError(error.message, hint=hint) from error
    sockets = Sockets(ingest_sockets, admin_sockets, health_sockets)
    daemon = Daemon(config, config_path, environ, started_ns, notifier, sockets)
    calm_garbage_collector()
    with announced(config.source, environ):
        return anyio.run(daemon.run, backend_options={"use_uvloop": True})


class Sockets(NamedTuple):
    """What each listener listens on."""

    ingest: list[socket.socket]
    admin: list[socket.socket]
    health: list[socket.socket]


def _pipeline_of(
    config: Config,
    environ: Mapping[str, str],
    buffer: Log,
    counters: Counters,
    offload: Offload,
) -> Pipeline:
    """The way in, as the configuration has it. Raises ConfigError as `before_kept`."""
    return Pipeline(
        Prepare(prepare_settings(config, environ)),
        buffer,
        counters,
        offload=offload,
        before_kept=before_kept(config.process),
    )


class Daemon:
    """The parts and their life."""

    def __init__(
        self,
        config: Config,
        config_path: str | None,
        environ: Mapping[str, str],
        started_ns: int,
        notifier: Notifier,
        sockets: Sockets,
    ) -> None:
        """Open the buffer, too; raises BufferFailure."""
        self._config = config
        self._counters = counters = Counters()
        settings = buffer_settings(config)
        self._buffer = buffer = open_log(config, settings, counters, PrepareForeign(self._steps))
        self._sockets = sockets
        self._stop_asked = anyio.Event()
        own_id = secrets.token_hex(8)
        self._offload = Offload()
        self._pipeline = _pipeline_of(config, environ, buffer, counters, self._offload)
        traces_to = config.telemetry.traces_to
        self._own_spans = OwnSpans(self._own_spans_to, environ, own_id) if traces_to else None
        self._ingest = Ingest(
            config.ingest,
            traced_accept(self._pipeline.accept, self._own_spans),
            counters,
            own_id,
            tokens=[token.reveal() for token in config.ingest.tokens],
            signals=config.taken_signals,
            keep_unreadable=self._pipeline.keep_unreadable,
        )
        self._tls = None
        if config.ingest.tls_cert and config.ingest.tls_key:
            self._tls = tls_context(config.ingest.tls_cert, config.ingest.tls_key)
        make_upstream = traced_upstreams(self._own_spans, traces_to, own_id)
        self._fleet = Fleet(buffer, environ, make_upstream, age_ns=buffer.age_ns)
        self._replay = Replay(buffer, self._fleet)
        self._salvage = Salvage(buffer, counters) if isinstance(buffer, Buffer) else None
        parts = Parts(buffer, self._fleet, self._pipeline, self._ingest, self._replay, self._tls)
        self._control = Control(config, config_path, environ, own_id, parts)
        self._traces = Traces(buffer, self._fleet)
        self._view = View(
            buffer, self._fleet, counters, self._ingest.refusals, self._traces, self._pipeline
        )
        self._status = Status(
            started_ns,
            [address_of(sock) for sock in sockets.ingest],
            counters,
            self._ingest.refusals,
            buffer,
            self._fleet,
            self._offload,
            self._salvage,
            self._control,
        )
        self._service = Service(
            notifier,
            lambda: summarize(self._status.document(), self._control.problem),
            lambda: buffer.statistics().stalled_seconds,
        )

    def _steps(self) -> Current:
        """How what comes is prepared now, for records of a fleet that no relay wrote."""
        return self._pipeline.prepare.settings, self._pipeline.before_kept

    async def run(self) -> int:
        """Serve until asked to stop; the exit code. The buffer is closed in every case."""
        # Around everything: a further signal while the buffer is closing must not kill us there,
        # nor may a SIGHUP from somebody who sees us ready.
        with anyio.open_signal_receiver(*_SIGNALS) as signals:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
            code = await self._serve(signals)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # the end of the process needs no more of them
        log.info("stopped", exit_code=code)
        return code

    async def _serve(self, signals: AsyncIterator[signal.Signals]) -> int:
        ingest_listener = self._ingest_listener()
        operators = self._operators_listeners()
        code = EXIT_STOPPED
        self._offload.start()
        try:
            async with anyio.create_task_group() as sink:
                self._fleet.start(sink, self._config.destinations)
                async with anyio.create_task_group() as source:
                    source.start_soon(self._buffer.wait_failed)
                    source.start_soon(self._heed_signals, signals, source, ingest_listener)
                    if self._salvage is not None:
                        source.start_soon(self._salvage.run)
                    source.start_soon(self._view.watch.run)
                    if self._own_spans is not None:
                        source.start_soon(self._own_spans.run)
                    for listener in operators:
                        await source.start(listener.serve)
                    await source.start(ingest_listener.serve)
                    self._announce()
                    self._service.ready()
                    source.start_soon(self._service.run)
                    await self._stop_asked.wait()
                    self._view.watch.hub.close()
                    self._service.stopping(ANSWER_SECONDS + DELIVER_SECONDS)
                    log.info("stopping", signal="again skips the waiting")
                    await ingest_listener.stop(ANSWER_SECONDS)
                    for listener in operators:
                        await listener.stop(1.0)
                    await self._fleet.stop(DELIVER_SECONDS)
                    source.cancel_scope.cancel()
        except* Exception as group:  # a vital part died
            log.critical("part_died", exc_info=group)
            code = EXIT_PART_DIED
        finally:
            with anyio.CancelScope(shield=True):
                self._service.closing(dead_part=code != EXIT_STOPPED)
                await self._offload.stop()
                await self._buffer.close()
        return code

    def _ingest_listener(self) -> Listener:
        """With a second port, if that is asked for, where gRPC exporters are told what to do."""
        sockets = self._sockets.ingest
        if self._config.ingest.grpc_hint:
            sockets = sockets + bind_beside(sockets, GRPC_PORT, key="ingest.grpc_hint")
        return Listener(
            self._ingest,
            sockets,
            self._counters,
            ssl_context=self._tls,
            on_stranger=self._ingest.refusals.note_stranger,
        )

    def _own_spans_to(self) -> DestinationConfig | None:
        """The destination of the relay's own spans, as it is configured by now."""
        found = self._control.config.destination(self._config.telemetry.traces_to)
        return found.view_of(Signal.TRACES) if found else None

    def _operators_listeners(self) -> list[Listener]:
        """The admin listener and, where there is one, that of health alone."""
        sockets, counters = self._sockets, self._counters
        listeners = [Listener(self._admin().app, sockets.admin, counters, name="admin")]
        if sockets.health:
            health = health_app(self._status.not_ready_reason)
            limits = Limits(connections=HEALTH_CONNECTIONS)
            listeners.append(
                Listener(health, sockets.health, counters, limits=limits, name="health")
            )
        return listeners

    def _admin(self) -> Admin:
        """What the admin listener serves."""
        state_dir = self._config.state_dir
        letters = DeadLetters(
            self._buffer,
            lambda: self._pipeline.prepare.settings,
            self._control.signals,
            state_dir,
            Redactions(lambda: self._control.config.destinations),
        )
        features = Features(
            self._status,
            self._control,
            self._traces,
            KeptCalls(self._buffer),
            self._replay,
            letters,
            self._view,
        )
        return Admin(features, read_or_make(state_dir))

    async def _heed_signals(
        self,
        signals: AsyncIterator[signal.Signals],
        source: TaskGroup,
        ingest_listener: Listener,
    ) -> None:
        """SIGHUP reloads; SIGTERM and SIGINT stop, and the second of them skips the waiting."""
        async for number in signals:
            if number == signal.SIGHUP:
                # Beside this loop: it may wait for the disk, and a stop must not.
                source.start_soon(self._reload_by_signal)
            elif not self._control.is_stopping:
                self._control.is_stopping = True
                self._stop_asked.set()
            else:
                self._ingest.close()
                source.start_soon(ingest_listener.stop, 0.0)
                source.start_soon(self._fleet.stop, 0.0)

    def _announce(self) -> None:
        for warning in self._config.warnings:
            log.warning("config_warning", message=warning)
        log.info(
            "ready",
            version=__version__,
            native_pass=native.STATE,
            listening=", ".join(self._status.listening),
            admin=", ".join(address_of(sock) for sock in self._sockets.admin),
            health=", ".join(address_of(sock) for sock in self._sockets.health) or "none",
            destinations=", ".join(d.name for d in self._config.destinations) or "none",
            signals=", ".join(signal.word for signal in self._config.taken_signals),
            state_dir=str(self._config.state_dir),
        )
        if not self._config.says_signals and self._config.taken_signals == (Signal.TRACES,):
            log.info("only_traces_taken", hint=ONLY_TRACES)

    async def _reload_by_signal(self) -> None:
        if self._control.is_stopping:
            return  # the manager would wait for the end of a reload
        self._service.reloading()
        # What is wrong is in the log and the status line; who sends a signal reads it there.
        with contextlib.suppress(RelayError):
            await self._control.reload()
        if not self._control.is_stopping:
            self._service.ready()
