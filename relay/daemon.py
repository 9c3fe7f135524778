"""A configuration in, an exit code out: builds every part, nests sink and source, stops in order.

The nesting is the order. Couriers (the sink) start first and stop last; the listeners (the
source) are inside; the buffer is open around both. A vital part that dies ends the process with
70: the listeners and the buffer's writer. A courier never takes the rest with it.
"""

import contextlib
import gc
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import asdict
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from relay.admin import status_document
from relay.admin.app import Admin
from relay.admin.control import ControlRefused, Start, UnknownDestination
from relay.admin.token import read_or_make
from relay.admin.topics import Topics
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.append_timeout import stalled
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.directory import holder_of
from relay.config import (
    BufferConfig,
    Config,
    DestinationConfig,
    changes_needing_restart,
)
from relay.config.load import load
from relay.dead_letters.change import DeadLetters
from relay.deliver.fleet import Fleet
from relay.doctor.connection import test_configured
from relay.ingest.endpoint import Ingest
from relay.ingest.offload.offload import Offload
from relay.ingest.pipeline import Pipeline
from relay.model.counters import Counters
from relay.model.errors import ConfigError, RelayError
from relay.process.enrich import attributes_from_environment, detect
from relay.process.prepare import Prepare, PrepareSettings
from relay.salvage.salvage import Salvage
from relay.server.listener import (
    Listener,
    bind,
    raise_open_files_limit,
    refuse_exposed,
    tls_context,
)
from relay.systemd import activation
from relay.systemd.activation import Inherited
from relay.systemd.notify import Notifier
from relay.systemd.reporter import Service
from relay.systemd.status_line import MAX_CHARACTERS, Summary, cut, summarize
from relay.traces.replay import Replay
from relay.traces.where import Traces
from relay.version import __version__

log = structlog.stdlib.get_logger(__name__)

EXIT_STOPPED = 0
EXIT_PART_DIED = 70
# Together below the 90 s that systemd gives a stop.
ANSWER_SECONDS = 15.0
DELIVER_SECONDS = 30.0


def serve(config_path: str | None, environ: MutableMapping[str, str]) -> int:
    """Run until SIGTERM, SIGINT or the death of a part; the exit code.

    What the service manager put into `environ` for this process alone is taken out of it. Raises
    ConfigError and BufferError_ when it cannot start.
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
    config = load(config_path, environ)
    os.umask(0o077)
    raise_open_files_limit()
    try:
        ingest_sockets = sockets_for("ingest", inherited.ingest, config.ingest.listen)
        refuse_exposed(ingest_sockets, has_tokens=bool(config.ingest.tokens))
        admin_sockets = sockets_for("admin", inherited.admin, config.admin.listen)
        refuse_exposed(admin_sockets, has_tokens=False, key="admin.listen")
    except ConfigError as error:
        holder = holder_of(config.state_dir)
        if not holder:
            raise
        hint = f"an otlp-relay runs with {config.state_dir} already (pid {holder}): stop it first"
        raise ConfigError(error.message, hint=hint) from error
    counters = Counters()
    buffer = Buffer(config.state_dir, buffer_settings(config.buffer), counters)
    buffer.open()
    daemon = Daemon(config, config_path, environ, buffer, counters, started_ns, notifier)
    calm_garbage_collector()
    return anyio.run(
        daemon.run, ingest_sockets, admin_sockets, backend_options={"use_uvloop": True}
    )


def sockets_for(
    listener: str, inherited: Iterable[socket.socket], listen: Iterable[tuple[str, int]]
) -> list[socket.socket]:
    """The sockets of the manager, if it gave any, else our own. Raises ConfigError."""
    sockets = list(inherited)
    if not sockets:
        return bind(listen, key=f"{listener}.listen")
    if not activation.is_as_configured(sockets, listen):
        log.warning(
            "listen_ignored",
            key=f"{listener}.listen",
            reason="the service manager's sockets are used instead",
            listening=", ".join(address_of(sock) for sock in sockets),
        )
    return sockets


def calm_garbage_collector() -> None:
    """Look for cycles less often, and never in what was made by now.

    Decoded spans are trees, freed by their reference counts; looking through them for cycles
    after every 700 objects cost 8 % of the time in ingest and found nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class Daemon:
    """The parts, their life, and what the admin listener tells of them (`admin.app.Source`)."""

    def __init__(
        self,
        config: Config,
        config_path: str | None,
        environ: Mapping[str, str],
        buffer: Buffer,
        counters: Counters,
        started_ns: int,
        notifier: Notifier,
    ) -> None:
        self._config = config
        self._config_path = config_path
        self._environ = environ
        self._buffer = buffer
        self._counters = counters
        self._started_ns = started_ns
        self._listening: list[str] = []
        self._stop_asked = anyio.Event()
        self._is_stopping = False
        self._reload_problem = ""
        self._service = Service(notifier, self.summary, lambda: buffer.statistics().stalled_seconds)
        self._changing = anyio.Lock()  # one reload at a time, whoever asks for it
        self._own_id = own_id = secrets.token_hex(8)
        self._offload = Offload()
        self._pipeline = Pipeline(
            Prepare(prepare_settings(config, environ)),
            buffer,
            counters,
            offload=self._offload,
        )
        self._ingest = Ingest(
            config.ingest,
            self._pipeline.accept,
            counters,
            own_id,
            tokens=[token.reveal() for token in config.ingest.tokens],
        )
        self._tls = None
        if config.ingest.tls_cert and config.ingest.tls_key:
            self._tls = tls_context(config.ingest.tls_cert, config.ingest.tls_key)
        self._fleet = Fleet(buffer.destination, environ, own_id, age_ns=buffer.age_ns)
        self._replay = Replay(buffer, self._fleet)
        buffer.health = self._fleet.health
        self._salvage = Salvage(buffer, counters)

    async def run(
        self, ingest_sockets: list[socket.socket], admin_sockets: list[socket.socket]
    ) -> int:
        """Serve until asked to stop; the exit code. The buffer is closed in every case."""
        self._listening = [address_of(sock) for sock in ingest_sockets]
        topics = Topics(
            Traces(self._buffer, self._fleet),
            self._replay,
            DeadLetters(self._buffer, self._pipeline, self._names, self._config.state_dir),
        )
        admin = Admin(self, read_or_make(self._config.state_dir), topics)
        ingest_listener = Listener(
            self._ingest, ingest_sockets, self._counters, ssl_context=self._tls
        )
        admin_listener = Listener(admin.app, admin_sockets, self._counters, name="admin")
        code = EXIT_STOPPED
        self._offload.start()
        try:
            async with anyio.create_task_group() as sink:
                self._fleet.start(sink, self._config.destinations)
                async with anyio.create_task_group() as source:
                    source.start_soon(self._watch_buffer)
                    # First: nobody who sees us ready may end us with a SIGHUP.
                    await source.start(self._heed_signals, source, ingest_listener)
                    source.start_soon(self._salvage.run)
                    await source.start(admin_listener.serve)
                    await source.start(ingest_listener.serve)
                    self._announce(admin_sockets)
                    self._service.ready()
                    source.start_soon(self._service.run)
                    await self._stop_asked.wait()
                    self._service.stopping(ANSWER_SECONDS + DELIVER_SECONDS)
                    log.info("stopping", signal="again skips the waiting")
                    await ingest_listener.stop(ANSWER_SECONDS)
                    await admin_listener.stop(1.0)
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
        log.info("stopped", exit_code=code)
        return code

    # Life

    async def _watch_buffer(self) -> None:
        await self._buffer.wait_failed()

    async def _heed_signals(
        self,
        source: TaskGroup,
        ingest_listener: Listener,
        *,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """SIGHUP reloads; SIGTERM and SIGINT stop, and the second of them skips the waiting."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    # Beside this loop: it may wait for the disk, and a stop must not.
                    source.start_soon(self._reload_by_signal)
                elif not self._is_stopping:
                    self._is_stopping = True
                    self._stop_asked.set()
                else:
                    self._ingest.close()
                    source.start_soon(ingest_listener.stop, 0.0)
                    source.start_soon(self._fleet.stop, 0.0)

    def _announce(self, admin_sockets: list[socket.socket]) -> None:
        for warning in self._config.warnings:
            log.warning("config_warning", message=warning)
        log.info(
            "ready",
            version=__version__,
            listening=", ".join(self._listening),
            admin=", ".join(address_of(sock) for sock in admin_sockets),
            destinations=", ".join(d.name for d in self._config.destinations) or "none",
            state_dir=str(self._config.state_dir),
        )

    async def _reload_by_signal(self) -> None:
        if self._is_stopping:
            return  # the manager would wait for the end of a reload
        self._service.reloading()
        # What is wrong is in the log and the status line; who sends a signal reads it there.
        with contextlib.suppress(RelayError):
            await self.reload()
        if not self._is_stopping:
            self._service.ready()

    # What can be asked of it (`admin.control.Control`)

    async def reload(self, starts: Mapping[str, Start] | None = None) -> dict[str, Any]:
        """Take up the configuration as it is now; one that does not check changes nothing.

        A destination of `starts` that is owed nothing by its name yet begins there. Returns what
        was taken up. Raises ConfigError, and ControlRefused while stopping.
        """
        async with self._changing:
            return await self._take_up(self._read_again(), starts or {})

    def destination(self, name: str) -> dict[str, Any]:
        """What is known of a destination, also when it is gone from the configuration."""
        backlog = self._buffer.backlogs().get(name)
        configured = self._configured(name)
        if backlog is None:
            raise UnknownDestination(f"there is no destination {name!r}")
        statistics = backlog.statistics()
        return {
            "name": name,
            "is_configured": configured is not None,
            "source": str(configured.source or "") if configured else "",
            "is_paused": statistics.is_paused,
            "waiting_spans": statistics.owed_spans,
            "in_flight_spans": statistics.in_flight_spans,
        }

    async def set_paused(self, name: str, *, is_paused: bool) -> dict[str, Any]:
        """Pause or resume a destination, kept in the buffer."""
        async with self._changing:
            configured = self._configured(name)
            if configured is None:
                raise UnknownDestination(f"there is no destination {name!r}")
            if configured.paused and not is_paused:
                raise ControlRefused(
                    f"`paused = true` stands in {configured.source or 'its configuration'}",
                    hint="take it out there, then reload",
                )
            await self._fleet.set_paused(name, is_paused=is_paused)
        log.info("pause_changed", destination=name, is_paused=is_paused)
        return self.destination(name)

    async def test(self, name: str, *, send_span: bool) -> dict[str, Any]:
        """Test the connection to a configured destination with this process's secrets."""
        configured = self._configured(name)
        if configured is None:
            raise UnknownDestination(f"there is no destination {name!r}")
        report = await test_configured(
            configured,
            self._environ,
            send_span=send_span,
            own_addresses=self._config.ingest.listen,
            own_id=self._own_id,
        )
        return asdict(report)

    async def remove(self, name: str, *, drop: bool) -> dict[str, Any]:
        """Take up that a destination is gone, and drop or keep what waits for it."""
        async with self._changing:
            config = self._read_again()
            standing = next((d for d in config.destinations if d.name == name), None)
            if standing is not None:
                raise ControlRefused(
                    f"{name} still stands in {standing.source or 'the environment'}",
                    hint="take it out there first",
                )
            await self._take_up(config, {})
            found = {**self.destination(name), "waiting": "dropped" if drop else "kept"}
            backlog = self._buffer.backlogs()[name]
            if drop:
                await backlog.remove()
            elif backlog.is_paused:
                # A later destination of this name begins as any other: it was not paused.
                await backlog.set_paused(False)
        log.info("destination_removed", destination=name, waiting=found["waiting"])
        return found

    def _names(self) -> list[str]:
        return [destination.name for destination in self._config.destinations]

    def _configured(self, name: str) -> DestinationConfig | None:
        return next((d for d in self._config.destinations if d.name == name), None)

    def _read_again(self) -> Config:
        """The configuration as it is now. Raises ConfigError, which is logged."""
        if self._is_stopping:
            raise ControlRefused("the daemon is stopping")
        try:
            config = load(self._config_path, self._environ)
            prepare_settings(config, self._environ)
            if self._tls and config.ingest.tls_cert and config.ingest.tls_key:
                tls_context(config.ingest.tls_cert, config.ingest.tls_key)  # do they fit?
                self._tls.load_cert_chain(config.ingest.tls_cert, config.ingest.tls_key)
        except RelayError as error:
            log.error("reload_refused", reason=str(error))  # noqa: TRY400 - no traceback: it is the config
            refused = cut(error.message, 150)
            self._reload_problem = f"reload refused: {refused}; still running with the old one"
            raise
        return config

    async def _take_up(self, config: Config, starts: Mapping[str, Start]) -> dict[str, Any]:
        """Use `config` from now on."""
        names = [destination.name for destination in config.destinations]
        for name in names:  # first, since the disk may refuse: then nothing was taken up
            if name in starts:
                await self._replay.begin(name, starts[name])
        self._reload_problem = ""
        restart_needed = changes_needing_restart(self._config, config)
        for key in restart_needed:
            log.warning("restart_needed", key=key)
        self._pipeline.prepare = Prepare(prepare_settings(config, self._environ))
        self._ingest.reload(
            config.ingest, tokens=[token.reveal() for token in config.ingest.tokens]
        )
        self._buffer.reload(buffer_settings(config.buffer))
        self._config = config
        await self._fleet.reload(config.destinations)
        for name, backlog in self._buffer.backlogs().items():
            if name not in names:
                backlog.is_attached = False
        for warning in config.warnings:
            log.warning("config_warning", message=warning)
        log.info("reloaded", destinations=", ".join(names) or "none")
        return {
            "destinations": names,
            "blocked": config.destination_problems,
            "restart_needed": restart_needed,
            "warnings": list(config.warnings),
        }

    # What the admin listener tells

    def not_ready_reason(self) -> str:
        """Empty when a span could be kept now; else one sentence."""
        if self._is_stopping:
            return "stopping"
        buffer = self._buffer.statistics()
        if buffer.is_stalled:
            return stalled(buffer.stalled_seconds)
        if buffer.last_error or not (buffer.is_full or buffer.is_writable):
            return f"the buffer cannot write: {buffer.last_error or 'it is closed'}"
        return f"the buffer is full: {buffer.limit}" if buffer.is_full else ""

    def summary(self) -> Summary:
        """One line of it, for the service manager."""
        return summarize(self.status(), self._reload_problem)

    def status(self) -> dict[str, Any]:
        """The document of `/api/status`."""
        process = status_document.Process(
            version=__version__,
            started_ns=self._started_ns,
            now_ns=time.time_ns(),
            listening=self._listening,
            not_ready_reason=self.not_ready_reason(),
            config_source=str(self._config.source or ""),
            warnings=self._config.warnings,
        )
        destinations = [
            (status, self._buffer.destination(status.name).statistics())
            for status in self._fleet.statuses()
        ]
        return status_document.status_document(
            process,
            self._counters,
            self._buffer.statistics(),
            destinations,
            self._offload.statistics(),
        )


def buffer_settings(config: BufferConfig) -> BufferSettings:
    """The buffer's own settings from those of the configuration."""
    return BufferSettings(
        max_size_bytes=config.max_size_bytes,
        min_free_bytes=config.min_free_bytes,
        keep_delivered_seconds=config.keep_delivered_seconds,
        history_bytes=config.history_bytes,
        when_full=config.when_full,
        sync=config.sync,
    )


def prepare_settings(config: Config, environ: Mapping[str, str]) -> PrepareSettings:
    """How requests are prepared under `config`.

    Of attributes, static ones beat OTEL_RESOURCE_ATTRIBUTES, which beats what is detected.
    """
    try:
        named = attributes_from_environment(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    except ConfigError as error:
        log.warning("environment_ignored", reason=str(error))
        named = {}
    return PrepareSettings(
        malformed_ids=config.ingest.malformed_ids,
        detected=detect(config.enrich.detect),
        configured={**named, **config.enrich.attributes},
    )


def address_of(sock: socket.socket) -> str:
    """Where a socket listens, as people write it."""
    if sock.family == socket.AF_UNIX:
        name = sock.getsockname()
        return "@" + name[1:].decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
