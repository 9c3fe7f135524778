"""The log on Kafka (`api.Log`): what writes, what reads, and the watch over the cluster.

`open` first (it asks the brokers, for some seconds at most); the rest belongs to one event loop.
Brokers that are away keep nothing from starting: requests are refused until they are back.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic, time_ns
from typing import Final

import anyio
import structlog

from relay.buffer.api import Browse, Consumer, DeadLetterStore, ReplayIndex, Start, TraceIndex
from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.access import BrokersAway, BrokersRefuse
from relay.buffer.kafka.bridge import Bridge
from relay.buffer.kafka.history import FILE, History
from relay.buffer.kafka.letter_text import record_of_letter
from relay.buffer.kafka.readers import Readers
from relay.buffer.kafka.records import Decoder, Outgoing
from relay.buffer.kafka.retention import Room, room_by_size, warning_by_age
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.kafka.spool import spool_of
from relay.buffer.kafka.topics import Topics
from relay.buffer.kafka.trim import Trim
from relay.buffer.kafka.watch import Watch
from relay.buffer.kafka.writer import Writer
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.rows import rejected_letters
from relay.buffer.values import BufferStatistics
from relay.config.fleet import FleetConfig
from relay.model.counters import Counters
from relay.model.errors import BufferUnavailable, ConfigError
from relay.model.records import Request, Signal, StoredRow
from relay.process.foreign import PrepareForeign

log = structlog.stdlib.get_logger(__name__)

_LOOK_SECONDS: Final = 1.0
_AGE_SECONDS: Final = 60.0
_REMIND_SECONDS: Final = 3600.0
_TRY_SECONDS: Final = 3.0
_LEFT: Final = (
    "a single relay's buffer is in the state directory, and a fleet does not deliver what it still "
    "owes: stop this relay and run `otlp-relay fleet import`"
)


class KafkaLog:
    """Keeps requests on the cluster until every destination has had them."""

    def __init__(
        self,
        settings: KafkaSettings,
        buffer_settings: BufferSettings,
        state_dir: Path,
        counters: Counters,
        prepare: PrepareForeign,
        wanted: Iterable[BacklogName] = (),
    ) -> None:
        """`prepare` is for records that no relay wrote; `wanted` are the backlogs that there will
        be, whose groups this relay must be allowed to join.

        Raises ConfigError where the client cannot use its settings.
        """
        self.settings = buffer_settings
        self._kafka = settings
        self._state_dir = StateDirectory(state_dir)
        self._bridge = bridge = Bridge(settings)
        self._topics = Topics(settings, [settings.group(each) for each in wanted])
        self._watch = watch = Watch(settings, self._topics)
        decode, most = Decoder(settings, prepare), buffer_settings.history_limit_bytes
        history = History(settings, bridge, decode, state_dir / FILE, most) if most else None
        self._readers = Readers(settings, bridge, counters, decode, history)
        self._trim: Trim | None = None
        if settings.fleet.keep_delivered_seconds is not None:
            own, orders = self._readers.consumers, self._readers.control.orders
            self._trim = Trim(settings, settings.fleet.keep_delivered_seconds, own, orders)
        self._writer = Writer(settings, bridge, watch, counters, self._of_rejected)
        self._spools = settings.fleet.when_engine_away == "spool"
        self._spool = spool_of(
            state_dir, buffer_settings, settings.dead_letters_topic, is_wanted=self._spools
        )
        self._is_open = False
        self._room = Room()
        self._warned = -_REMIND_SECONDS

    # -- life ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Lock the state directory, make the topics ready, start the threads.

        Raises BufferLocked, BufferUnavailable when the directory cannot be used, and ConfigError
        for topics that promise too little.
        """
        self._state_dir.enter()
        try:
            if self._state_dir.database.exists():
                log.warning("fleet_leaves_buffer", message=_LEFT)
            try:
                self._watch.check()
            except BrokersAway as error:
                self._watch.set_away(error)
            if self._spool is not None:
                self._spool.open()
            self._bridge.start()
        except BaseException:
            self._state_dir.leave()
            raise
        self._watch.start()
        self._is_open = True

    async def wait_failed(self) -> None:
        """Read and commit for as long as the relay runs; raise what ends that."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._readers.run)
            group.start_soon(self._look_after_room)
            if self._spool is not None:
                group.start_soon(self._spool.run, self._writer, self._bridge)
            if self._trim is not None:
                group.start_soon(self._trim.run)

    async def _look_after_room(self) -> None:
        """See how near the brokers are to deleting what is owed, by size and by age."""
        looked_at_age = monotonic()
        while True:
            await anyio.sleep(_LOOK_SECONDS)
            self._watch.is_doubted = self._watch.is_doubted or self._readers.is_forbidden
            promise = self._watch.promise
            if promise is None:
                continue
            self._room = room = room_by_size(
                self._writer.ends(self._watch.ends),
                self._readers.lowest_owed(),
                self._bridge.record_bytes,
                promise.partition_bytes,
            )
            refuses = self.settings.when_full == "refuse"
            self._writer.full = room.limit if room.is_full and refuses else ""
            self._warn(room.limit)
            if monotonic() - looked_at_age > _AGE_SECONDS:
                looked_at_age = monotonic()
                self._warn(warning_by_age(await self._oldest_ns(), time_ns(), promise.kept_ms))

    async def _oldest_ns(self) -> int:
        """When the oldest was received of what is owed here; 0 where nothing is."""
        with suppress(BufferUnavailable):
            await self._readers.find_oldest()
        found = [each.statistics().oldest_owed_ns for each in self.consumers().values()]
        return min(filter(None, found), default=0)

    def _warn(self, words: str) -> None:
        """Once an hour, while there is something to warn of."""
        if words and monotonic() - self._warned > _REMIND_SECONDS:
            log.warning("fleet_retention_near", message=words)
            self._warned = monotonic()

    async def close(self) -> None:
        """Commit what was settled, let out what waits, end the threads; safe twice."""
        if not self._is_open:
            return
        self._is_open = False
        with anyio.CancelScope(shield=True):
            await self._readers.close()
            await self._bridge.close()
            if self._spool is not None:
                await self._spool.close()
            await anyio.to_thread.run_sync(self._watch.stop)
            self._state_dir.leave()

    def reload(self, settings: BufferSettings) -> None:
        """Take up `settings`, of which a fleet uses few."""
        self.settings = settings

    async def try_access(self, fleet: FleetConfig) -> None:
        """Find out whether the brokers let in who comes as `fleet` says, if that is news.

        Raises ConfigError where they do not. Brokers that are away say nothing about it.
        """
        wanted = self._kafka.reached_as(fleet)
        if wanted.is_reached_alike(self._kafka):
            return
        topics = Topics(wanted)
        try:
            await anyio.to_thread.run_sync(topics.metadata, _TRY_SECONDS)
        except BrokersRefuse as error:
            raise ConfigError(str(error), key="fleet") from None
        except BrokersAway:
            return

    def take_up_access(self, fleet: FleetConfig) -> None:
        """Reach the brokers as `fleet` says from now on, if that is news."""
        wanted = self._kafka.reached_as(fleet)
        if not wanted.is_reached_alike(self._kafka):
            self._kafka.take_up(wanted)
            log.info("fleet_access_changed")

    async def flush(self) -> None:
        """Return when everything that was settled is committed."""
        await self._readers.flush()

    # -- the way in ---------------------------------------------------------------------------

    async def append(self, request: Request) -> None:
        """Return when the brokers have all of `request`, see `Writer.append`; with a spool, when
        this relay's own disk has it where they do not take it.
        """
        if not request.pieces and not request.rejected:
            return
        if request.rejected and self._readers.history is not None:
            self._readers.history.note_rejected(request)
        try:
            await self._writer.append(request)
        except BufferUnavailable:
            if self._spool is None or not self._spools:
                raise
            await self._spool.append(request)

    def _of_rejected(self, request: Request) -> list[Outgoing]:
        now_ns = time_ns()
        return [
            record_of_letter(letter, self._kafka.dead_letters_topic, now_ns)
            for letter in rejected_letters(request)
        ]

    # -- the way out: see `api.Log` -------------------------------------------------------------

    def consumer(
        self, destination: str, start: Start = "auto", *, signal: Signal = Signal.TRACES
    ) -> Consumer:
        """The consumer of one signal for a destination."""
        return self._readers.consumer(BacklogName(destination, signal), start)

    def consumers(self) -> Mapping[BacklogName, Consumer]:
        """Every backlog that this relay takes part in."""
        return self._readers.consumers()

    async def find_oldest(self) -> None:
        """Let statistics be right about the oldest of what is owed."""
        await self._readers.find_oldest()

    def owe_only(self, wanted: Collection[BacklogName]) -> None:
        """Take part in these and in no other."""
        self._topics.groups = [self._kafka.group(each) for each in wanted]
        self._readers.owe_only(wanted)

    async def set_paused(self, destination: str, *, is_paused: bool) -> None:
        """Pause a destination, or go on, on every relay."""
        await self._readers.set_paused(destination, is_paused=is_paused)

    async def remove(self, destination: str, signal: Signal | None = None) -> bool:
        """Drop what a destination is owed; whether the brokers knew of it."""
        return await self._readers.remove(destination, signal)

    async def read_rows(self, rows: Iterable[int]) -> list[StoredRow]:
        """Those of `rows` that are kept and whole, in order."""
        return await self._readers.read_rows(rows)

    def age_ns(self, row: StoredRow) -> int:
        """How long ago `row` was received, by this host's clock and that of who received it."""
        return max(0, time_ns() - row.received_ns)

    @property
    def dead_letters(self) -> DeadLetterStore:
        """What could not be delivered."""
        return self._readers.dead_letters

    @property
    def traces(self) -> TraceIndex | None:
        """Which rows hold a trace; None with `history = 0`."""
        return self._readers.traces

    @property
    def browse(self) -> Browse | None:
        """Rows from the newest down; None with `history = 0`."""
        return self._readers.browse

    @property
    def replays(self) -> ReplayIndex:
        """Rows by time or trace, owed again."""
        return self._readers.replays

    @property
    def _promise(self) -> str:
        promise = self._watch.promise
        if promise is None:
            return "not known before a broker answers"
        waiting = self._spool.waiting_items if self._spool is not None else 0
        if waiting:
            words = f"{waiting:,} items are on this relay's own disk alone, until they take them"
            return f"{promise.words}; {words}"
        weak = "; ".join(each.words for each in promise.remarks if each.level == "weak")
        lacking = "; ".join(each.brief for each in self._watch.lacking if each.level == "broken")
        hidden = self._trim.hidden if self._trim is not None else None
        return (
            promise.words
            + (f" (weak: {weak})" if weak else "")
            + (f" (this relay {lacking}: see `otlp-relay doctor`)" if lacking else "")
            + (f" ({self._watch.certificate})" if self._watch.certificate else "")
            + (f" (keep_delivered waits: this relay {hidden.brief})" if hidden else "")
        )

    def statistics(self) -> BufferStatistics:
        """The log at this moment; no waiting."""
        problem = self._writer.problem
        if problem and self._spool is not None and self._spools:
            problem = self._spool.statistics().last_error
        history = self._readers.history
        return replace(
            self._readers.fill(BufferStatistics()),
            first_row=history.file.first_number if history is not None else 0,
            last_row=history.file.last_number if history is not None else 0,
            max_size_bytes=self._kafka.fleet.retention_size_bytes,
            owed_disk_bytes=self._room.bytes_owed,
            is_full=bool(self._writer.full),
            limit=self._writer.full,
            is_writable=not (problem or self._writer.full),
            last_error=problem,
            promise=self._promise,
        )
