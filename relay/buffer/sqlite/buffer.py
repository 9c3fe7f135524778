"""Accepted requests in, committed rows out to every destination's backlog: the buffer's face.

Lives in the event loop. Behind it are the writer's thread, which commits, and the reader's, which
answers what memory cannot.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import anyio
import anyio.to_thread
import apsw

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite import reader, statistics, trace_lookup
from relay.buffer.sqlite.append_timeout import Waiting, stalled
from relay.buffer.sqlite.asking import Asking
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.commands import Answer, Append, Flush, Reload, Stop, Work
from relay.buffer.sqlite.directory import Place
from relay.buffer.sqlite.disk_errors import advice_for
from relay.buffer.sqlite.pending_acks import PendingMoves
from relay.buffer.sqlite.reader import Budget, Chunk, Reader
from relay.buffer.sqlite.row_cache import Tail
from relay.buffer.sqlite.rows import Group
from relay.buffer.sqlite.schema import DISK_ERRORS
from relay.buffer.sqlite.space.eviction import Evicted
from relay.buffer.sqlite.space.row_age import Ages, uptime_ns
from relay.buffer.sqlite.transactions import Job, Result
from relay.buffer.sqlite.types import Loaded, Totals
from relay.buffer.sqlite.writer import Writer
from relay.buffer.views import BufferStatistics, RecentTrace, SetAside, StoredLetter, TracePlace
from relay.model.counters import Counters
from relay.model.errors import BufferDiskError, BufferError_, BufferUnavailable
from relay.model.records import DeadLetter, Health, OwedRange, Request, StoredRow

Start = Literal["auto", "beginning", "end"]


class Buffer:
    """Keeps requests on disk until every destination has had them.

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
        self.settings = settings
        self.last_row = 0
        # The couriers' account of themselves, put here by the daemon; any thread may ask.
        self.health: Callable[[], Mapping[str, Health]] = dict
        self.directory = state_dir
        self.file_changed = asyncio.Event()  # a file was set aside: there is something to read back
        self.set_aside: tuple[SetAside, ...] = ()  # what `salvage` tells of such files
        self._counters = counters
        self._clock_ns = clock_ns
        self._place = Place(state_dir)
        self._moves = PendingMoves()
        self._tail = Tail(settings.tail_bytes)
        self._waiting = Waiting(settings.patience_seconds)
        self._backlogs: dict[str, Backlog] = {}
        self._oldest: dict[int, int] = {}  # row -> received_ns, of heads that were looked up
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flush_is_planned = False
        self._is_open = False
        self._is_closing = False
        self._evictions_heard = 0
        self._death: BaseException | None = None
        self._ended = asyncio.Event()
        self._ages = Ages(clock_ns, uptime)
        self._writer = Writer(
            self._place,
            settings,
            counters,
            self._moves,
            self,
            vfs=vfs,
            ages=self._ages,
        )
        self._reader = Reader(
            self._place.database, vfs=vfs, generation=lambda: self._writer.generation
        )
        self._asking = Asking(self._reader, self._writer, self)

    # -- life ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Lock the directory, open or make the file, start the threads. Blocks, about 10 ms.

        Raises BufferLocked (it says by whom), BufferUnavailable when the directory cannot be used,
        BufferDiskError when the disk is read-only or fails: then a later try may do. Old data never
        keeps it from opening: a file that cannot be used is set aside.
        """
        self._place.enter()
        try:
            loaded = self._writer.open()
        except DISK_ERRORS as error:
            self._place.leave()
            words = f"{self._place.database} cannot be opened: {advice_for(error)}"
            raise BufferDiskError(words) from error
        except BaseException:
            self._place.leave()
            raise
        self._take_over(loaded)
        self._reader.start()
        self._is_open = True

    def _take_over(self, loaded: Loaded) -> None:
        self.last_row = loaded.last_row
        for name, found in loaded.destinations.items():
            backlog = self._backlogs[name] = Backlog.from_disk(self, name, found)
            free = owed_ranges.clip(backlog.ranges, self.last_row)
            if free:
                self._oldest[free[0].start.row] = found.oldest_owed_ns

    async def close(self) -> None:
        """Commit what waits and the ranges that moved, write back the WAL, unlock; safe twice."""
        if not self._is_open:
            return
        self.bind()
        with anyio.CancelScope(shield=True):
            if not self._is_closing:
                self._is_closing = True
                self._writer.put(Stop())
                await anyio.to_thread.run_sync(self._writer.join)
                await anyio.to_thread.run_sync(self._reader.stop)
                self._place.leave()
                self._ended.set()
            await self._ended.wait()

    async def wait_failed(self) -> None:
        """Never return; raise what killed the writer's thread: then the process must end."""
        self.bind()
        await self._ended.wait()
        if self._death is not None:
            raise self._death
        await anyio.sleep_forever()

    def reload(self, settings: BufferSettings) -> None:
        """Take up `settings` at the writer's next turn; `sync` and `tail_bytes` stay as opened."""
        self.settings = replace(
            settings, sync=self.settings.sync, tail_bytes=self.settings.tail_bytes
        )
        self._writer.put(Reload(self.settings))

    # -- the way in ---------------------------------------------------------------------------

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
        self.must_be_open()
        if self._writer.is_full:
            raise self._writer.full()
        if self._writer.busy_seconds > self.settings.stall_seconds:
            raise BufferUnavailable(stalled(self._writer.busy_seconds))
        answer = self.bind().create_future()
        size = sum(len(piece.body) for piece in request.pieces)
        self._writer.put(Append(request, size, answer))
        await self._waiting.wait(answer)

    async def work(self, job: Job[Result]) -> Result:
        """What `job` returned: one transaction in the writer's thread, committed and synced.

        Raises BufferFull, BufferUnavailable, and what the job raises; then nothing of it was done.
        """
        self.must_be_open()
        answer: asyncio.Future[Result] = self.bind().create_future()
        self._writer.put(Work(job, answer))
        return await answer

    async def ask(self, question: Callable[[apsw.Connection], Result]) -> Result:
        """The answer of the disk: one short statement or few, in the reader's thread.

        Raises BufferUnavailable for whatever the disk says, and what `question` raises.
        """
        return await self._asking.ask(question)

    def must_be_open(self) -> None:
        """Raise BufferUnavailable when nothing can be asked or kept any more."""
        if self._death is not None:
            raise BufferUnavailable("the buffer's writer has died")
        if not self._is_open or self._is_closing:
            raise BufferUnavailable("the buffer is closed")

    # -- the way out --------------------------------------------------------------------------

    def destination(self, name: str, start: Start = "auto", *, held: Ranges = ()) -> Backlog:
        """The backlog of `name`, made if it is new.

        A new one begins with `start` "auto" at the beginning if no destination is owed anything
        by name yet (nothing counts as delivered before), else at the end: rows to come. `held` is
        for a new one too, in the same transaction (`Backlog.hold`).
        """
        backlog = self._backlogs.get(name)
        if backlog is None:
            at_beginning = start == "beginning" or (start == "auto" and not self._backlogs)
            ranges = owed_ranges.open_from(1 if at_beginning else self.last_row + 1)
            kept = self._writer.published
            sums = kept.kept if at_beginning else Totals()
            backlog = self._backlogs[name] = Backlog(self, name, ranges, sums=sums)
            if at_beginning and kept.first_row:
                self._oldest[owed_ranges.START.row] = kept.oldest_received_ns
            if not backlog.hold(held):
                self.moved(backlog)
        backlog.is_attached = True
        return backlog

    def backlogs(self) -> dict[str, Backlog]:
        """Every destination that is owed anything by name, those gone from the config, too."""
        return dict(self._backlogs)

    # -- asking -------------------------------------------------------------------------------

    def statistics(self) -> BufferStatistics:
        """The buffer at this moment; three system calls, no waiting."""
        is_usable = self._is_open and not self._is_closing and self._death is None
        found = statistics.of(self._writer, self._place, self.settings, is_usable=is_usable)
        return replace(found, set_aside=self.set_aside)

    async def find_trace(self, trace_id: bytes, text: str = "") -> list[TracePlace]:
        """Where the trace (16 bytes) is, oldest first; scans all known ids, 0.1-0.5 s a million.

        Raises BufferUnavailable when the disk cannot be read. `text` as for `traces.find`.
        """
        destinations = trace_lookup.standings(self._backlogs, self._moves, trace_id)
        finding = await trace_lookup.find(self._asking.ask, trace_id, text)
        return trace_lookup.places(finding, destinations)

    async def recent_traces(self, limit: int = 50) -> list[RecentTrace]:
        """The newest distinct traces, newest first. Raises BufferUnavailable."""
        return await trace_lookup.recent(
            self._asking.ask, before_row=self.last_row + 1, limit=limit
        )

    async def read_rows(self, rows: Iterable[int]) -> list[StoredRow]:
        """Those of `rows` that are kept and whole, in order. Raises BufferUnavailable."""
        found: list[StoredRow] = []
        for row in sorted(set(rows)):
            kept = self._tail.get(row) or await self._asking.read_row(row)
            if kept is not None:
                found.append(kept)
        return found

    async def dead_letters(self, limit: int = 100) -> list[StoredLetter]:
        """The newest dead letters, newest first. Raises BufferUnavailable."""
        return await self._asking.ask(lambda connection: reader.list_letters(connection, limit))

    # -- what backlogs call -------------------------------------------------------------------

    async def read_chunk(self, first_row: int, last_row: int, budget: Budget) -> Chunk | None:
        """Rows from memory if they are there, else from disk; None: the file was replaced."""
        chunk = self._tail.read(first_row, last_row, budget)
        if chunk is None:
            chunk = await self._asking.read_chunk(first_row, last_row, budget)
            while self._evictions_heard < self._writer.evictions_begun:
                # Rows may be missing that are still owed here: they would count as settled.
                chunk = None
                await anyio.sleep(0.01)
        return chunk

    def moved(
        self,
        backlog: Backlog,
        settled: Iterable[OwedRange] = (),
        *,
        at_ns: int = 0,
        status: int = 0,
        letters: Sequence[DeadLetter] = (),
    ) -> None:
        """Ranges changed: with the next commit, or by themselves after a moment."""
        self._moves.update(
            backlog.name,
            backlog.ranges,
            is_paused=backlog.is_paused,
            settled=settled,
            at_ns=at_ns,
            status=status,
            letters=letters,
        )
        for letter in letters:
            self._counters.dead_letters[letter.reason] += 1
        self._plan_flush()

    def forget(self, backlog: Backlog) -> None:
        """The destination is removed."""
        if self._backlogs.get(backlog.name) is backlog:
            del self._backlogs[backlog.name]
            self._moves.remove(backlog.name)

    def received_ns(self, row: int) -> int | None:
        """Received time of a row at hand; if it is not, it is looked up behind the scenes."""
        found = self._tail.get(row)
        if found is not None:
            return found.received_ns
        if row not in self._oldest and self._loop is not None and not self._is_closing:
            known = max(self._oldest.values(), default=0)
            self._oldest = {row: known}  # until the answer comes
            self._asking.look_up(
                partial(reader.first_received_ns, first_row=row), partial(self._found_oldest, row)
            )
        return self._oldest.get(row)

    def _found_oldest(self, row: int, found: int | None, error: BaseException | None) -> None:
        if error is None and found and row in self._oldest:
            self._oldest[row] = found

    def age_ns(self, row: StoredRow) -> int:
        """How long ago `row` was received, whatever the wall clock did meanwhile."""
        return self._ages.age_ns(row.row, row.received_ns, row.monotonic_ns)

    def now_ns(self) -> int:
        """Wall clock."""
        return self._clock_ns()

    async def flush(self) -> None:
        """Return when everything that moved is on disk. Raises BufferUnavailable."""
        self.must_be_open()
        answer = self.bind().create_future()
        self._writer.put(Flush(answer))
        await answer

    def _plan_flush(self) -> None:
        if self._flush_is_planned or not self._is_open:
            return
        if self._loop is None:
            self._writer.put(Flush())
        else:
            self._flush_is_planned = True
            self._loop.call_later(self.settings.flush_seconds, self._flush_planned)

    def _flush_planned(self) -> None:
        self._flush_is_planned = False
        # An ingest commit may have taken them along.
        if self._moves and not self._is_closing:
            self._writer.put(Flush())

    # -- news from the writer's thread --------------------------------------------------------

    def committed(self, appends: list[Append], group: Group) -> None:
        """Called in the writer's thread."""
        self.post(self._on_committed, appends, group)

    def refused(self, answers: list[Answer], error: BufferError_) -> None:
        """Called in the writer's thread."""
        if answers:
            self.post(self._on_refused, answers, error)

    def worked(self, work: Work, result: Any) -> None:
        """Called in the writer's thread."""
        self.post(self._on_worked, work, result)

    def failed(self, work: Work, error: Exception) -> None:
        """Called in the writer's thread."""
        self.post(self._on_failed, work, error)

    def done(self, answers: list[Answer]) -> None:
        """Called in the writer's thread."""
        if answers:
            self.post(self._on_done, answers)

    def evicted(self, evicted: Evicted) -> None:
        """Called in the writer's thread."""
        self.post(self._on_evicted, evicted)

    def appeared(self, last_row: int, sums: Totals) -> None:
        """Called in the writer's thread."""
        self.post(self._on_rows, last_row, sums, ())

    def replaced(self, last_row: int) -> None:
        """Called in the writer's thread."""
        self.post(self._on_replaced, last_row)

    def died(self, error: BaseException | None) -> None:
        """Called in the writer's thread, as its last act."""
        if error is not None:
            self._death = error
            self.post(self._ended.set)

    def _on_committed(self, appends: list[Append], group: Group) -> None:
        if group.stored:
            self._on_rows(group.stored[-1].row, group.sums, group.stored)
        for letter in group.letters:
            self._counters.dead_letters[letter.reason] += 1
        for append in appends:
            if not append.answer.done():
                cast("asyncio.Future[None]", append.answer).set_result(None)

    def _on_rows(self, last_row: int, sums: Totals, rows: Iterable[StoredRow]) -> None:
        self.last_row = max(self.last_row, last_row)
        for row in rows:
            self._tail.add(row)
        for backlog in self._backlogs.values():
            backlog.rows_added(sums)

    def _on_evicted(self, evicted: Evicted) -> None:
        self._evictions_heard += 1
        for name in evicted.ranges:
            self._moves.heard(name)
            if name in self._backlogs:
                evicted.tell(self._backlogs[name])

    def readmitted(self, group: Group, owed_to: frozenset[str]) -> None:
        """Rows came again, owed to `owed_to` alone (`jobs.Landing`)."""
        if not group.rows:
            return
        # Before `last_row` tells of them: until then nobody can have taken any.
        for name, backlog in self._backlogs.items():
            if name not in owed_to:
                backlog.skip((group.range,))
        self.last_row = max(self.last_row, group.rows[-1].id)
        for row in group.stored:
            self._tail.add(row)
        for name, backlog in self._backlogs.items():
            if name in owed_to:
                backlog.readmitted(group.range, group.sums)

    def owed(self, name: str, ranges: Ranges, sums: Totals) -> None:
        """`name` is owed `ranges` again (`jobs.Landing`)."""
        if name in self._backlogs:
            self._backlogs[name].owe(ranges, sums)

    def _on_worked(self, work: Work, result: Any) -> None:
        work.job.landed(self)
        answer = cast("asyncio.Future[Any]", work.answer)
        if not answer.done():
            answer.set_result(result)

    @staticmethod
    def _on_failed(work: Work, error: Exception) -> None:
        answer = cast("asyncio.Future[Any]", work.answer)
        if not answer.done():
            answer.set_exception(error)

    @staticmethod
    def _on_refused(answers: list[Answer], error: BufferError_) -> None:
        for answer in answers:
            if not answer.done():
                # Each waiter its own: a shared one would gather all their tracebacks.
                own = type(error)(error.message, hint=error.hint)
                cast("asyncio.Future[None]", answer).set_exception(own)

    @staticmethod
    def _on_done(answers: list[Answer]) -> None:
        for answer in answers:
            if not answer.done():
                cast("asyncio.Future[None]", answer).set_result(None)

    def _on_replaced(self, last_row: int) -> None:
        self.last_row = last_row
        self._tail.clear()
        self._oldest.clear()
        for backlog in self._backlogs.values():
            backlog.restart_after(last_row)
            self.moved(backlog)
        self.file_changed.set()

    # -- the loop -----------------------------------------------------------------------------

    def bind(self) -> asyncio.AbstractEventLoop:
        """The event loop that everything here belongs to."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        return loop

    def post(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Run `call` in the event loop; before there is one, nobody waits for anything."""
        loop = self._loop
        if loop is None:
            call(*arguments)
            return
        try:
            loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            return  # the loop has ended: so have all who waited
