"""What an operator may change while the daemon runs: its configuration, and its destinations.

A reload reads the configuration anew and takes it up as a whole; one that does not check leaves
the running one in place. Everything but the listeners' addresses, the state directory and `sync`
can change. One change at a time, whoever asks for it: a signal or the admin API.
"""

import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog

from relay.buffer.api import Log
from relay.buffer.backlog_name import BacklogName
from relay.buffer.settings import BufferSettings
from relay.config import Config, DestinationConfig, changes_needing_restart, saved
from relay.config.load import load
from relay.config.presets import find
from relay.deliver.fleet import Fleet
from relay.doctor import adding
from relay.doctor.connection import test_configured
from relay.doctor.report import Report, Step, as_document
from relay.engine import take_up_access, try_access
from relay.ingest.endpoint import Ingest
from relay.ingest.pipeline import Pipeline
from relay.model.errors import ControlRefused, RelayError, UnknownDestination
from relay.model.records import Signal
from relay.process.prepare import Prepare
from relay.process.settings import before_kept, prepare_settings
from relay.server.listener import tls_context
from relay.systemd.status_line import cut
from relay.traces.replay import Replay, Start

log = structlog.stdlib.get_logger(__name__)

OnStep = Callable[[Signal, Step], None]

MOST_PROBLEM_CHARACTERS: Final = 150


@dataclass(frozen=True, slots=True)
class TakenUp:
    """What a reload took up. `blocked` tells by name why a destination cannot send."""

    destinations: tuple[str, ...]
    blocked: Mapping[str, str]
    restart_needed: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KnownDestination:
    """A destination of the configuration, or one that is still owed something under its name."""

    name: str
    is_configured: bool
    source: str
    is_paused: bool
    waiting_spans: int
    waiting_by_signal: Mapping[str, int]
    in_flight_spans: int


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a new destination. `saved` is its file, empty where the test failed; `test`
    is the document of the connection test; `blocked` says why it cannot send yet.
    """

    name: str
    test: Mapping[str, Any]
    saved: str = ""
    warnings: tuple[str, ...] = ()
    hint: str = ""
    blocked: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """The running parts that a new configuration reaches. `tls` None: ingest speaks plain HTTP."""

    buffer: Log
    fleet: Fleet
    pipeline: Pipeline
    ingest: Ingest
    replay: Replay
    tls: ssl.SSLContext | None


def buffer_settings(config: Config) -> BufferSettings:
    """The settings of the buffer, with what destinations need of it."""
    return BufferSettings.of(config.buffer, least_seconds=config.looked_back_seconds)


class Control:
    """Changes the running daemon, and tells what became of each change.

    `config` is the configuration as taken up last; `problem` says, for the status line, why the
    last reload was refused; once `is_stopping` nothing is changed any more.
    """

    def __init__(
        self,
        config: Config,
        config_path: str | None,
        environ: Mapping[str, str],
        own_id: str,
        parts: Parts,
    ) -> None:
        self.config = config
        self.problem = ""
        self.is_stopping = False
        self._config_path = config_path
        self._environ = environ
        self._own_id = own_id
        self._parts = parts
        self._changing = anyio.Lock()

    def signals(self) -> dict[str, tuple[Signal, ...]]:
        """What each destination of the configuration gets, by name."""
        return {each.name: each.signals for each in self.config.destinations}

    def destination(self, name: str, signal: Signal | None = None) -> KnownDestination:
        """What is known of a destination, of one `signal` if it is given, also when it is gone from
        the configuration.

        Raises UnknownDestination.
        """
        found = [
            each.statistics()
            for key, each in self._parts.buffer.consumers().items()
            if key.destination == name and signal in (None, key.signal)
        ]
        if not found:
            raise UnknownDestination.named(name)
        configured = self.config.destination(name)
        return KnownDestination(
            name,
            is_configured=configured is not None,
            source=str(configured.source or "") if configured else "",
            is_paused=any(each.is_paused for each in found),
            waiting_spans=sum(each.owed_items for each in found),
            waiting_by_signal={each.signal.word: each.owed_items for each in found},
            in_flight_spans=sum(each.in_flight_items for each in found),
        )

    async def reload(self, starts: Mapping[str, Start] | None = None) -> TakenUp:
        """Take up the configuration as it is now; one that does not check changes nothing.

        A destination of `starts` that is owed nothing by its name yet begins there. Raises
        ConfigError with all that is wrong, and ControlRefused while stopping.
        """
        async with self._changing:
            return await self._take_up(await self._read_again(), starts or {})

    async def set_paused(self, name: str, *, is_paused: bool) -> KnownDestination:
        """Pause or resume a destination, over restarts too.

        Raises UnknownDestination, and ControlRefused where the configuration pauses it.
        """
        async with self._changing:
            configured = self._configured(name)
            if configured.paused and not is_paused:
                raise ControlRefused(
                    f"{configured.source or 'the configuration'} says `paused = true` for {name}",
                    hint="remove that line, then reload",
                )
            await self._parts.fleet.set_paused(name, is_paused=is_paused)
        log.info("pause_changed", destination=name, is_paused=is_paused)
        return self.destination(name)

    async def test(
        self, name: str, *, send_span: bool, on_step: OnStep | None = None
    ) -> dict[str, Any]:
        """Test the connection to a destination as the configuration has it now, for each of its
        signals, with this process's secrets; each step is told to `on_step` as soon as it is known.
        `is_taken_up` tells whether it runs like that.

        Raises UnknownDestination.
        """
        standing = self._standing(name)
        reports = await self._test(standing.views, send_span=send_span, on_step=on_step)
        is_taken_up = standing == self.config.destination(name)
        return {**as_document(reports), "is_taken_up": is_taken_up}

    async def _test(
        self, views: Iterable[DestinationConfig], *, send_span: bool, on_step: OnStep | None
    ) -> dict[Signal, Report]:
        return {
            view.signal: await test_configured(
                view,
                self._environ,
                send_span=send_span,
                own_addresses=self.config.ingest.listen,
                own_id=self._own_id,
                on_step=partial(on_step, view.signal) if on_step else None,
            )
            for view in views
        }

    async def add(
        self,
        name: str,
        table: dict[str, Any],
        *,
        send_span: bool = False,
        may_replace: bool = False,
        start: Start | None = None,
        on_step: OnStep | None = None,
    ) -> Added:
        """Test a new destination, save it if every signal passes, and take it up.

        `table` is what its file would hold. Raises ConfigError, NotSaved and ControlRefused, then
        without anything saved; of a test that fails `Added.saved` tells.
        """
        adding.free_place(name, self.config, may_replace=may_replace)
        destination, warnings = adding.read_table(name, table, self.config, self._environ)
        reports = await self._test(destination.views, send_span=send_span, on_step=on_step)
        if adding.failed_of(reports):
            return Added(name, as_document(reports), warnings=tuple(warnings))
        preset = find(destination.preset) if destination.preset else None
        hint = adding.hint_of(table, preset)
        adding.complete(table, destination, reports, preset)
        notes = adding.notes_of(reports)
        save = partial(saved.save, name=name, table=table, notes=notes, may_replace=may_replace)
        with anyio.CancelScope(shield=True):  # whoever asked may leave: saved, it is taken up
            async with self._changing:  # who came first has the name
                folder = adding.free_place(name, self.config, may_replace=may_replace)
                path = await anyio.to_thread.run_sync(save, folder)
            taken_up = await self.reload({name: start} if start is not None else None)
        blocked = taken_up.blocked.get(name, "")
        return Added(name, as_document(reports), str(path), tuple(warnings), hint, blocked)

    async def remove(
        self, name: str, *, drop: bool, signal: Signal | None = None
    ) -> KnownDestination:
        """Take up that a destination, or one signal of it, is gone; drop or keep what waits for it.

        Returns what was known of it before. Raises UnknownDestination, and ControlRefused while
        the configuration still has it.
        """
        async with self._changing:
            config = await self._read_again()
            standing = config.destination(name)
            if standing is not None and signal in (None, *standing.signals):
                what = f"{signal.word} of {name}" if signal else name
                raise ControlRefused(
                    f"{what} is still in {standing.source or 'the environment'}",
                    hint="remove it there first",
                )
            before = self._known(name, signal)
            await self._take_up(config, {})
            # A fleet forgets whom it does not deliver to: what waits for it is kept by its brokers.
            found = self._known(name, signal) or before
            if drop and await self._parts.buffer.remove(name, signal):
                # One that left in an earlier reload only the brokers of a fleet may know.
                found = found or KnownDestination(name, False, "", False, 0, {}, 0)
            if found is None:
                raise UnknownDestination.named(name)
            if not drop and found.is_paused:
                # A later destination of this name begins as any other: it was not paused.
                await self._parts.buffer.set_paused(name, is_paused=False)
        log.info("destination_removed", destination=name, waiting="dropped" if drop else "kept")
        return found

    def _known(self, name: str, signal: Signal | None) -> KnownDestination | None:
        try:
            return self.destination(name, signal)
        except UnknownDestination:
            return None

    def _standing(self, name: str) -> DestinationConfig:
        """The destination as it is written now; as it runs, where that cannot be read.

        Raises UnknownDestination.
        """
        try:
            written = load(self._config_path, self._environ).destination(name)
        except RelayError:
            written = None
        return written or self._configured(name)

    def _configured(self, name: str) -> DestinationConfig:
        found = self.config.destination(name)
        if found is None:
            raise UnknownDestination.named(name)
        return found

    async def _read_again(self) -> Config:
        """The configuration as it is now. Raises ConfigError, which is logged."""
        if self.is_stopping:
            raise ControlRefused("the daemon is stopping")
        try:
            config = load(self._config_path, self._environ)
            prepare_settings(config, self._environ)
            before_kept(config.process)
            tls = self._parts.tls
            if tls and config.ingest.tls_cert and config.ingest.tls_key:
                tls_context(config.ingest.tls_cert, config.ingest.tls_key)  # do they fit?
                tls.load_cert_chain(config.ingest.tls_cert, config.ingest.tls_key)
            await try_access(self._parts.buffer, config)
        except RelayError as error:
            log.error("reload_refused", reason=str(error))  # noqa: TRY400 - no traceback: it is the config
            refused = cut(error.message, MOST_PROBLEM_CHARACTERS)
            self.problem = f"reload refused: {refused}; still running with the old configuration"
            raise
        return config

    async def _take_up(self, config: Config, starts: Mapping[str, Start]) -> TakenUp:
        """Use `config` from now on."""
        parts = self._parts
        names = [destination.name for destination in config.destinations]
        for each in config.destinations:  # first, since the disk may refuse: nothing was taken up
            if each.name in starts:
                for signal in each.signals:
                    await parts.replay.begin(BacklogName(each.name, signal), starts[each.name])
        self.problem = ""
        restart_needed = changes_needing_restart(self.config, config)
        for key in restart_needed:
            log.warning("restart_needed", key=key)
        parts.pipeline.prepare = Prepare(prepare_settings(config, self._environ))
        parts.pipeline.before_kept = before_kept(config.process)
        parts.ingest.reload(
            config.ingest,
            tokens=[token.reveal() for token in config.ingest.tokens],
            signals=config.taken_signals,
        )
        parts.buffer.reload(buffer_settings(config))
        take_up_access(parts.buffer, config)
        self.config = config
        await parts.fleet.reload(config.destinations)
        for warning in config.warnings:
            log.warning("config_warning", message=warning)
        log.info("reloaded", destinations=", ".join(names) or "none")
        return TakenUp(
            tuple(names), config.destination_problems, tuple(restart_needed), tuple(config.warnings)
        )
