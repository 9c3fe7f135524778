"""Holds back what came of late, until what it depends on has come, too.

A destination that decides by whole traces is handed a row only `wait` after the row was received,
when every row that was received by then has been looked at. Rows are read ahead as they come, and
again after a restart from `wait` before the oldest that is owed, so that what is decided is a
function of what is on disk. Reading runs no further ahead of the oldest row that is owed than
`AHEAD` times `wait`: a destination that is behind by hours is no reason to remember hours.

Nothing is polled: it waits for rows, for what is settled, and for the moment when the oldest row
that is held has waited long enough.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import anyio
import anyio.lowlevel
import structlog

from relay.buffer.api import Browse, LookAhead
from relay.buffer.backlog_name import BacklogName
from relay.model.errors import BufferUnavailable
from relay.model.records import Signal, StoredRow

log = structlog.stdlib.get_logger(__name__)

AHEAD: Final = 2
# Rows received within this part of `wait` are one mark, and become free together.
_MARKS: Final = 64
_READ_BYTES: Final = 1024 * 1024
_BACK_ROWS: Final = 64
_RETRY_SECONDS: Final = 1.0

# Looks at rows, each with when it was received.
Watch = Callable[[Sequence[tuple[StoredRow, int]]], Awaitable[None]]


class Mark(NamedTuple):
    """Rows up to `row`, received from `first_ns` to `last_ns`."""

    row: int
    first_ns: int
    last_ns: int
    items: int


class Lag:
    """Of one consumer. Times are nanoseconds of a clock that only runs on.

    `watch` sees every row before it is handed out, in order, after those of before the start.
    `needed_since` is told since when what it saw may still matter. `leader` is the lag of another
    signal, which is to have looked first, unless it is stuck.
    """

    def __init__(
        self,
        look: LookAhead,
        wait_seconds: float,
        *,
        age_ns: Callable[[StoredRow], int],
        watch: Watch | None = None,
        needed_since: Callable[[int], None] | None = None,
        leader: "Lag | None" = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._look = look
        self._wait_ns = int(wait_seconds * 1e9)
        self._age_ns = age_ns
        self._watch = watch
        self._needed_since = needed_since
        self.leader = leader
        self.followers: list[Lag] = []
        self.is_far = False  # it read far enough, and goes on when something was settled
        self.now_ns = now_ns
        self._owed: deque[Mark] = deque()  # what was read and is owed
        self._held: deque[Mark] = deque()  # the end of it, which is held
        self._first_row = look.first_row(0) or look.last_row + 1
        self._read_to = self._free_to = self._first_row - 1
        self._last_ns = 0
        self._is_begun = False
        self._scope = anyio.CancelScope()
        look.hold_from(self._first_row)
        if leader is not None:
            leader.followers.append(self)

    @property
    def held_items(self) -> int:
        """How many items of what was read wait for their time."""
        return sum(mark.items for mark in self._held)

    def has_seen(self, row: int) -> bool:
        """Whether `row` was read. One that is owed again, of before the start, was not."""
        return self._first_row <= row <= self._read_to

    async def run(self, browse: Browse | None, key: BacklogName) -> None:
        """Look at what comes for `key`, and free it in time, until `end`."""
        with self._scope:
            while True:
                try:
                    if not self._is_begun and browse is not None:
                        await self._look_back(browse, key.signal)
                    self._is_begun = True
                    await self._turn()
                except BufferUnavailable:
                    await anyio.sleep(_RETRY_SECONDS)
                except Exception:
                    # What is held stays so: it must not be sent by half of what is to be known.
                    log.exception("lag_failed", destination=key.destination, signal=key.signal.word)
                    await anyio.sleep(_RETRY_SECONDS)

    def end(self) -> None:
        """Hold nothing any more."""
        self._scope.cancel()
        self._look.hold_from(None)
        if self.leader is not None:
            self.leader.followers.remove(self)
            self.leader = None
        for each in self.followers:
            each.leader = None

    # -- looking ------------------------------------------------------------------------------

    async def _look_back(self, browse: Browse, signal: Signal) -> None:
        """Look at what was received up to `wait` before the first row that is owed, or before now:
        another process handed it out, and it may say something of rows to come.
        """
        if self._watch is None:
            return
        since_ns = self.now_ns()
        if self._look.last_row >= self._first_row:
            ahead = await self._look.read(self._first_row - 1, most_bytes=1)
            since_ns = min([since_ns, *map(self._received_ns, ahead.rows)])
        since_ns -= self._wait_ns
        before = self._first_row
        while before > 1:
            down = await browse.rows_down(
                signal, before, most_rows=_BACK_ROWS, most_bytes=_READ_BYTES
            )
            timed = [(row, self._received_ns(row)) for row in down.rows]
            late = [each for each in timed if each[1] >= since_ns]
            if late:
                await self._watch(late)
            if len(late) < len(timed):
                return
            before = down.before_row

    async def _turn(self) -> None:
        """Read once and free what is due; wait where there was nothing to read."""
        self._forget_settled()
        read_to = self._read_to
        if not self.is_far and self._look.last_row > read_to:
            ahead = await self._look.read(read_to, most_bytes=_READ_BYTES)
            timed = [(row, self._received_ns(row)) for row in ahead.rows]
            if timed and self._watch is not None:
                await self._watch(timed)
            for row, received_ns in timed:
                self._note(row, received_ns)
            self._read_to = ahead.after_row
        # One look at the clock for both: what became due between two would wait for other news.
        now_ns = self.now_ns()
        self.free(now_ns)
        if self._read_to > read_to:
            await anyio.lowlevel.checkpoint()
            return
        with anyio.move_on_after(self._seconds_until_due(now_ns)):
            await self._look.changed()

    def _received_ns(self, row: StoredRow) -> int:
        return self.now_ns() - self._age_ns(row)

    def _note(self, row: StoredRow, received_ns: int) -> None:
        self._last_ns = max(self._last_ns, received_ns)
        mark = Mark(row.row, received_ns, received_ns, row.items)
        last = self._held[-1] if self._held else None
        if last is not None and received_ns - last.first_ns < self._wait_ns // _MARKS:
            self._held.pop()
            self._owed.pop()
            mark = Mark(
                row.row,
                min(last.first_ns, received_ns),
                max(last.last_ns, received_ns),
                last.items + row.items,
            )
        self._held.append(mark)
        self._owed.append(mark)

    def _forget_settled(self) -> None:
        """Drop the marks of what is owed no more; tell whether what is left is read far enough."""
        head = self._look.first_row(self._first_row) or self._look.last_row + 1
        while self._owed and self._owed[0].row < head:
            self._owed.popleft()
            if len(self._held) > len(self._owed):  # evicted, or dropped
                self._held.popleft()
        self.is_far = bool(self._owed) and (
            self._last_ns > self._owed[0].first_ns + AHEAD * self._wait_ns
        )

    # -- freeing ------------------------------------------------------------------------------

    def free(self, now_ns: int) -> None:
        """Hand out what has waited long enough, and let others do so that wait for this."""
        if self._scope.cancel_called:  # `run` may have been woken just before
            return
        due_ns = self.looked_until_ns(now_ns) - self._wait_ns
        leader = self.leader
        if leader is not None and not leader.is_far:
            due_ns = min(due_ns, leader.looked_until_ns(now_ns) - self._wait_ns)
        while self._held and self._held[0].last_ns <= due_ns:
            self._free_to = self._held.popleft().row
        if not self._held:
            self._free_to = self._read_to
        self._look.hold_from(self._free_to + 1)
        if self._needed_since is not None:
            oldest_ns = self._owed[0].first_ns if self._owed else self.looked_until_ns(now_ns)
            self._needed_since(oldest_ns - self._wait_ns)
        for each in self.followers:
            each.free(now_ns)

    def looked_until_ns(self, now_ns: int) -> int:
        """What was received before was looked at."""
        is_all = self._is_begun and self._look.last_row <= self._read_to
        return now_ns if is_all else self._last_ns

    def _seconds_until_due(self, now_ns: int) -> float | None:
        """Until time alone frees the oldest that is held; else something has to change."""
        if self._held:
            seconds = (self._held[0].last_ns + self._wait_ns - now_ns) / 1e9
            if seconds > 0:
                return seconds
        return None
