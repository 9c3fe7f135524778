"""What the event loop knows of the log without asking the disk, and its way to the writer's thread.

Consumers and the reader build on it. The writer's thread reads `pending`, takes from `commands`,
and says here how the file is (`published`, `generation`, `evictions_begun`); the rest belongs to
the loop.
"""

import asyncio
import queue
from collections.abc import Callable, Sequence
from typing import Any

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.commands import Command, Flush, Transact, Waiter
from relay.buffer.sqlite.pending_acks import PendingAcks
from relay.buffer.sqlite.row_cache import RowCache
from relay.buffer.sqlite.signal_runs import FileSums
from relay.buffer.sqlite.transactions import Result, Transaction
from relay.buffer.values import BufferStatistics
from relay.model.counters import Counters
from relay.model.errors import BufferFailure, BufferUnavailable
from relay.model.records import DeadLetter, Signal


class Ledger:
    """The last row, the newest rows, what was settled since the last commit."""

    def __init__(
        self, settings: BufferSettings, counters: Counters, clock_ns: Callable[[], int]
    ) -> None:
        self.settings = settings
        self.counters = counters
        self.now_ns = clock_ns
        self.last_row = 0
        self.last_rows = dict.fromkeys(Signal, 0)  # of each signal, or a later one of another
        # By the writer, each as a whole: they need no lock.
        self.published = BufferStatistics()
        self.sums: FileSums | None = None
        self.cache = RowCache(settings.tail_bytes)
        self.pending = PendingAcks()
        self.commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self.generation = 0  # how many files were replaced
        # How often rows were deleted that were owed, as a reader may see it already, and how often
        # the consumers heard of it.
        self.evictions_begun = 0
        self.evictions_heard = 0
        self.is_open = False
        self.is_closing = False
        self.death: BaseException | None = None  # what the writer's thread died of
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flush_is_planned = False

    # -- life ---------------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Whether anything can be asked or kept."""
        return self.is_open and not self.is_closing and self.death is None

    def must_be_open(self) -> None:
        """Raise BufferUnavailable when nothing can be asked or kept any more."""
        if self.death is not None:
            raise BufferUnavailable("the buffer's writer has died")
        if not self.is_open or self.is_closing:
            raise BufferUnavailable("the buffer is closed")

    def bind(self) -> asyncio.AbstractEventLoop:
        """The event loop that everything here belongs to."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        return loop

    def new_waiter(self) -> asyncio.Future[Any]:
        """What is told of a command. Raises BufferUnavailable when nothing can be asked or kept."""
        self.must_be_open()
        return self.bind().create_future()

    @property
    def is_bound(self) -> bool:
        """Whether there is an event loop already."""
        return self._loop is not None

    def post(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Run `call` in the event loop, from any thread; before there is one nobody waits."""
        loop = self._loop
        if loop is None:
            call(*arguments)
            return
        try:
            loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            return  # the loop has ended: so have all who waited

    def refuse(self, waiters: list[Waiter], error: Exception) -> None:
        """Tell these that nothing of what they asked for was done. From any thread."""
        if waiters:
            self.post(_refuse, waiters, error)

    def resolve(self, waiters: list[Waiter]) -> None:
        """Tell these that it is done. From any thread."""
        if waiters:
            self.post(_resolve, waiters)

    # -- what goes to the writer --------------------------------------------------------------

    def changed(self, dead_letters: Sequence[DeadLetter] = ()) -> None:
        """There is news in `pending`: on disk with the next commit, or after a moment."""
        for letter in dead_letters:
            self.counters.dead_letters[letter.reason] += 1
        if not self._flush_is_planned and self.is_open:
            self._plan_flush()

    def _plan_flush(self) -> None:
        if self._loop is None:
            self.commands.put(Flush())
        else:
            self._flush_is_planned = True
            self._loop.call_later(self.settings.flush_seconds, self._flush_planned)

    def _flush_planned(self) -> None:
        self._flush_is_planned = False
        # An ingest commit may have taken them along.
        if self.pending.waiting and not self.is_closing:
            self.commands.put(Flush())

    async def flush(self) -> None:
        """Return when everything that was settled is on disk. Raises BufferUnavailable."""
        waiter = self.new_waiter()
        self.commands.put(Flush(waiter))
        await waiter

    async def transact(self, transaction: Transaction[Result]) -> Result:
        """What `transaction` returned, committed and synced, in the writer's thread.

        Raises BufferFull, BufferUnavailable, and what it raises; then nothing of it was done.
        """
        waiter: asyncio.Future[Result] = self.new_waiter()
        self.commands.put(Transact(transaction, waiter))
        return await waiter


def _refuse(waiters: list[Waiter], error: Exception) -> None:
    for waiter in waiters:
        if not waiter.done():
            # Each its own: a shared one would gather all their tracebacks.
            if isinstance(error, BufferFailure):
                error = type(error)(error.message, hint=error.hint)
            waiter.set_exception(error)


def _resolve(waiters: list[Waiter]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
