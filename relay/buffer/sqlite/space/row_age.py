"""Tells the age of a row: a wall clock that jumps makes nothing old, nor young again.

The age of a row that was written since the host started is told by a clock that only runs on; it
stands on disk beside the wall clock's time. For rows from before, that clock began anew: they are
as old as the wall clock said when the file was opened, and have aged since as time passed. So a
jump while the relay runs counts for nothing, and a clock that was wrong at one start is right at
the next.
"""

import sys
import time
from collections.abc import Callable, Mapping

from relay.buffer.sqlite.uptime import boot_number, uptime_ns

BOOT = "boot"
BOOT_FIRST_ROW = "boot_first_row"


class RowAges:
    """Tells ages. Written by the writer's thread when it opens a file, read by any."""

    def __init__(
        self,
        clock_ns: Callable[[], int] = time.time_ns,
        uptime: Callable[[], int] = uptime_ns,
        boot: Callable[[], int] = boot_number,
    ) -> None:
        self.clock_ns = clock_ns
        self.uptime_ns = uptime
        self._opened_uptime_ns = uptime()
        self._opened_wall_ns = clock_ns()
        self._boot = boot()
        self._first_row = sys.maxsize  # of those written since the host started

    def opened(self, last_row: int, counters: Mapping[str, int]) -> None:
        """A file was opened that ends with `last_row` and holds these counters."""
        if self._first_row == sys.maxsize:
            is_this_boot = bool(self._boot) and counters.get(BOOT) == self._boot
            self._first_row = counters.get(BOOT_FIRST_ROW, 0) if is_this_boot else last_row + 1
            self._first_row = self._first_row or last_row + 1

    def counters(self) -> dict[str, int]:
        """What the next process must know."""
        return {BOOT: self._boot, BOOT_FIRST_ROW: self._first_row} if self._boot else {}

    def uptime_seconds(self) -> float:
        """The clock that only runs on."""
        return self.uptime_ns() / 1e9

    def steady_ns(self) -> int:
        """The wall clock as it was when this process began, and the time passed since."""
        return self._opened_wall_ns + self.uptime_ns() - self._opened_uptime_ns

    def age_ns(self, row: int, received_ns: int, monotonic_ns: int) -> int:
        """How long ago a row with these columns was received."""
        now_ns = self.uptime_ns()
        if row >= self._first_row:
            return max(now_ns - monotonic_ns, 0)
        # Received in the future: by a clock that was wrong. It is at least as old as this process.
        return max(self.steady_ns() - received_ns, now_ns - self._opened_uptime_ns)
