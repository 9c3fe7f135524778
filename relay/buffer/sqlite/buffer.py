"""The log on SQLite: life, the way in, one consumer a destination and signal, statistics.

Belongs to one event loop. Behind it are the writer's thread, which commits, and the reader's, which
answers what memory cannot.
"""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread

from relay.buffer.api import Start
from relay.buffer.backlog_name import BacklogName
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.append_timeout import AppendTimeout
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.backlogs import Backlogs
from relay.buffer.sqlite.browse import SqliteBrowse
from relay.buffer.sqlite.commands import Append, Reload, Stop
from relay.buffer.sqlite.dead_letter_transactions import SqliteDeadLetters
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.disk_errors import advice_for
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.reader import Reader, quarantined
from relay.buffer.sqlite.replay_query import Replays
from relay.buffer.sqlite.schema import DISK_ERRORS
from relay.buffer.sqlite.space.row_age import RowAges
from relay.buffer.sqlite.trace_lookup import SqliteTraceIndex
from relay.buffer.sqlite.transactions import Result, Transaction
from relay.buffer.sqlite.types import Totals
from relay.buffer.sqlite.uptime import uptime_ns
from relay.buffer.sqlite.writer import Writer
from relay.buffer.values import BufferStatistics
from relay.model.counters import Counters
from relay.model.errors import BufferDiskError
from relay.model.records import Request, Signal, StoredRow


class Buffer:
    """Keeps requests on disk until every destination has had them (`api.Log`).

    `open` first (it blocks, for a moment); everything else belongs to one event loop.
    """

    def __init__(
        self,
        state_dir: Path,
        settings: BufferSettings,
        counters: Counters,
        *,
        vfs: str | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        uptime: Callable[[], int] = uptime_ns,
    ) -> None:
        self.directory = state_dir
        self._state_dir = StateDirectory(state_dir)
        self._timeout = AppendTimeout(settings.patience_seconds)
        self._of_this_turn: list[Append] = []  # of the event loop
        self._ages = RowAges(clock_ns, uptime)
        self._ledger = Ledger(settings, counters, clock_ns)
        self._reader = Reader(self._state_dir.database, self._ledger, vfs=vfs)
        self._backlogs = Backlogs(self._ledger, self._reader)
        self._writer = Writer(self._state_dir, self._ledger, self._backlogs, self._ages, vfs=vfs)
        self.file_changed = self._backlogs.file_changed
        self.dead_letters = SqliteDeadLetters(self._reader.ask, self._ledger)
        self.traces = SqliteTraceIndex(self._reader.ask, self._ledger, self._backlogs)
        self.browse = SqliteBrowse(self._reader.ask, self._ledger, self._backlogs)
        self.replays = Replays(self._reader, self._ledger, self._backlogs)

    # -- life ---------------------------------------------------------------------------------

    @property
    def settings(self) -> BufferSettings:
        """As they hold now."""
        return self._ledger.settings

    @property
    def last_row(self) -> int:
        """The newest row ever kept."""
        return self._ledger.last_row

    def open(self) -> None:
        """Lock the directory, open or make the file, start the threads. Blocks, about 10 ms.

        Raises BufferLocked (it says by whom), BufferUnavailable when the directory cannot be used,
        BufferDiskError when the disk is read-only or fails: then a later try may do. Old data never
        keeps it from opening: a file that cannot be used is quarantined.
        """
        self._state_dir.enter()
        try:
            loaded = self._writer.open()
        except DISK_ERRORS as error:
            self._state_dir.leave()
            words = f"{self._state_dir.database} cannot be opened: {advice_for(error)}"
            raise BufferDiskError(words) from error
        except BaseException:
            self._state_dir.leave()
            raise
        self._backlogs.load(loaded)
        self._reader.start()
        self._ledger.is_open = True

    async def close(self) -> None:
        """Commit what waits and what was settled, write back the WAL, unlock; safe twice."""
        ledger = self._ledger
        if not ledger.is_open:
            return
        ledger.bind()
        with anyio.CancelScope(shield=True):
            if not ledger.is_closing:
                ledger.is_closing = True
                self._hand_over()
                ledger.commands.put(Stop())
                await anyio.to_thread.run_sync(self._writer.join)
                await anyio.to_thread.run_sync(self._reader.stop)
                self._state_dir.leave()
                self._backlogs.ended.set()
            await self._backlogs.ended.wait()

    async def wait_failed(self) -> None:
        """Never return; raise what killed the writer's thread: then the process must end."""
        self._ledger.bind()
        await self._backlogs.ended.wait()
        if self._ledger.death is not None:
            raise self._ledger.death
        await anyio.sleep_forever()

    def reload(self, settings: BufferSettings) -> None:
        """Take up `settings` at the writer's next turn; `sync` and `tail_bytes` stay as opened."""
        before = self._ledger.settings
        settings = replace(settings, sync=before.sync, tail_bytes=before.tail_bytes)
        self._ledger.settings = settings
        self._ledger.commands.put(Reload(settings))

    async def flush(self) -> None:
        """Return when everything that was settled is on disk."""
        await self._ledger.flush()

    # -- the way in and out -------------------------------------------------------------------

    async def append(self, request: Request) -> None:
        """Return when `request` is committed and synced; all of it or nothing.

        Raises BufferFull or BufferUnavailable; then nothing of it was kept, unless the very
        fsync failed, or it was under way and took longer than a sender waits: then it may turn
        out to be there, and comes twice. While a write takes longer than `stall_seconds` new
        requests are refused at once. A waiter that is cancelled does not undo or disturb the
        commit.
        """
        if not request.pieces and not request.rejected:
            return
        if request.rejected:
            self.browse.note_rejected(request)
        size = 0
        for piece in request.pieces:
            size += len(piece.body)
        waiter = self._ledger.new_waiter()
        writer = self._writer
        if writer.lifecycle.is_full or writer.busy_since is not None:
            writer.refuse_early(self._ledger.settings.stall_seconds)
        self._timeout.watch(waiter)
        if not self._of_this_turn:
            waiter.get_loop().call_soon(self._hand_over)
        self._of_this_turn.append(Append(request, size, waiter))
        try:
            await waiter
        finally:
            del self._timeout.since[waiter]

    def _hand_over(self) -> None:
        """Give the writer what came in one turn of the event loop: all of it is one commit.

        Its thread wakes at the first of them, and would begin a commit of that alone.
        """
        for append in self._of_this_turn:
            self._ledger.commands.put(append)
        self._of_this_turn.clear()

    def consumer(
        self, destination: str, start: Start = "auto", *, signal: Signal = Signal.TRACES
    ) -> Backlog:
        """The consumer of one signal for a destination: see `api.Log`, as the next four."""
        return self._backlogs.open(BacklogName(destination, signal), start)

    def consumers(self) -> dict[BacklogName, Backlog]:
        """Every backlog of a destination, also of those gone from the config."""
        return {key: each for key, each in self._backlogs.known().items() if key.is_claimed}

    async def find_oldest(self) -> None:
        """Look up when the oldest of what each is owed was received. Raises BufferUnavailable."""
        for backlog in self.consumers().values():
            await backlog.find_oldest()

    def owe_only(self, wanted: Collection[BacklogName]) -> None:
        """Owe what comes to these and to no other."""
        self._backlogs.owe_only(wanted)

    async def set_paused(self, destination: str, *, is_paused: bool) -> None:
        """Keep for all signals of a destination whether a command paused it."""
        for backlog in self._backlogs.of(destination):
            backlog.set_paused(is_paused)
        await self._ledger.flush()

    async def remove(self, destination: str, signal: Signal | None = None) -> bool:
        """Drop what a destination is owed, of all signals or of one; whether it is known."""
        found = [b for b in self._backlogs.of(destination) if signal in (None, b.signal)]
        for backlog in found:
            backlog.remove()
        await self._ledger.flush()
        return bool(found)

    # -- asking -------------------------------------------------------------------------------

    def statistics(self) -> BufferStatistics:
        """The buffer at this moment; three system calls, no waiting."""
        ledger, lifecycle = self._ledger, self._writer.lifecycle
        is_full = lifecycle.is_full  # first: it changes after what is published
        published, sums, settings = ledger.published, ledger.sums, ledger.settings
        kept = sums.all_kept if sums is not None else Totals()
        stalled_seconds = self._writer.busy_seconds
        is_stalled = stalled_seconds > settings.stall_seconds
        try:
            wal_bytes, free_bytes = self._state_dir.wal_bytes(), self._state_dir.free_bytes()
        except OSError:
            wal_bytes, free_bytes = 0, 0
        is_refusing = is_full or bool(lifecycle.last_error) or is_stalled
        return replace(
            published,
            rows=kept.rows,
            items=kept.items,
            raw_bytes=kept.raw_bytes,
            last_row=sums.last_row if sums is not None else 0,
            wal_bytes=wal_bytes,
            file_system_free_bytes=free_bytes,
            max_size_bytes=settings.max_size_bytes,
            is_writable=ledger.is_usable and not is_refusing,
            is_full=is_full,
            limit=lifecycle.limit,
            last_error=lifecycle.last_error,
            stalled_seconds=stalled_seconds,
            is_stalled=is_stalled,
            full_in_seconds=None if is_full else published.full_in_seconds,
        )

    async def read_rows(self, rows: Iterable[int]) -> list[StoredRow]:
        """Those of `rows` that are kept and whole, in order."""
        return await self._reader.read_each(rows)

    def age_ns(self, row: StoredRow) -> int:
        """How long ago `row` was received, whatever the wall clock did meanwhile."""
        return self._ages.age_ns(row.row, row.received_ns, row.monotonic_ns)

    # -- reading back what was quarantined ----------------------------------------------------

    async def quarantined(self) -> list[tuple[str, bytes]]:
        """Files that were quarantined as unusable, and how far each has been read back."""
        return await self._reader.ask(quarantined)

    async def readmit(self, transaction: Transaction[Result]) -> Result:
        """Run a transaction that appends rows of such a file, with how far that has come.

        Raises BufferFull, BufferUnavailable, and what it raises; then nothing of it was done.
        """
        return await self._ledger.transact(transaction)
