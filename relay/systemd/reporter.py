"""What the service manager hears of the daemon, and when.

::

    started ─▶ READY ─▶ every second: WATCHDOG when it is due, STATUS when it changed
    SIGHUP  ─▶ RELOADING ─▶ READY, also when the reload was refused: STATUS says so
    SIGTERM ─▶ STOPPING ─▶ every second: EXTEND_TIMEOUT while requests may be out

The task runs in the event loop that does the work, so a loop that hangs is noticed. A disk that
hangs is no reason to be aborted at once: that would lose what waits for it. Only after five minutes
the sign of life stays away.
"""

import time
from collections.abc import Callable

import anyio
import structlog

from relay.systemd.notify import Notifier
from relay.systemd.status_line import Summary

log = structlog.stdlib.get_logger(__name__)

STALL_TO_ABORT_SECONDS = 300.0
_TICK_SECONDS = 1.0
_AMOUNTS_SECONDS = 10.0  # numbers alone are told so often
_EXTEND_SECONDS = 10.0  # each time; said again every second
_CLOSE_SECONDS = 30.0  # to commit what waits and write back the write-ahead log


class Service:
    """The daemon's side of the talk with its manager; without one, nothing is done.

    `summarize` tells how the daemon fares, `stalled_seconds` how long the disk has kept the
    buffer's writer.
    """

    def __init__(
        self,
        notifier: Notifier,
        summarize: Callable[[], Summary],
        stalled_seconds: Callable[[], float],
        *,
        stall_to_abort_seconds: float = STALL_TO_ABORT_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifier = notifier
        self._summarize = summarize
        self._stalled_seconds = stalled_seconds
        self._stall_to_abort_seconds = stall_to_abort_seconds
        self._monotonic = monotonic
        self._told: Summary | None = None
        self._told_at = 0.0
        self._next_sign = 0.0
        self._extend_until = 0.0
        self._has_failed = False

    async def run(self) -> None:
        """Tell the manager what it should know, until cancelled."""
        notifier = self._notifier
        if not notifier.is_on:
            return
        # At most half of what the manager waits for.
        sign_seconds = (notifier.watchdog_seconds or 0.0) / 3
        tick_seconds = min(_TICK_SECONDS, sign_seconds) if sign_seconds else _TICK_SECONDS
        while True:
            now = self._monotonic()
            if sign_seconds and now + tick_seconds / 2 >= self._next_sign:
                self._give_sign()
                self._next_sign = now + sign_seconds
            if now < self._extend_until:
                notifier.extend(_EXTEND_SECONDS)
            self._tell(now)
            await anyio.sleep(tick_seconds)

    def ready(self) -> None:
        """Senders are served from now on, or again after a reload."""
        if self._notifier.is_on:
            self._notifier.ready(self._line(self._monotonic()))

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it, whatever came of it."""
        self._notifier.reloading()

    def stopping(self, seconds: float) -> None:
        """A stop has begun that takes at most so long."""
        if self._notifier.is_on:
            now = self._monotonic()
            self._extend_until = now + seconds
            self._notifier.stopping(self._line(now))
            self._notifier.extend(_EXTEND_SECONDS)

    def closing(self, *, dead_part: bool = False) -> None:
        """Only the buffer is open still."""
        why = "a part died, see the log; " if dead_part else ""
        self._notifier.status(f"{why}stopping: closing the buffer")
        self._notifier.extend(_CLOSE_SECONDS)

    def _give_sign(self) -> None:
        if self._stalled_seconds() < self._stall_to_abort_seconds:
            self._notifier.alive()

    def _tell(self, now: float) -> None:
        told = self._told
        if now - self._told_at < _TICK_SECONDS * 0.9:
            return
        found = self._ask()
        if found is None or found == told:
            return
        is_urgent = told is None or found.condition != told.condition
        if is_urgent or now - self._told_at >= _AMOUNTS_SECONDS:
            self._told, self._told_at = found, now
            self._notifier.status(str(found))

    def _line(self, now: float) -> str:
        found = self._ask()
        self._told, self._told_at = found, now
        return str(found or "")

    def _ask(self) -> Summary | None:
        try:
            return self._summarize()
        except Exception:  # a line for people must not end the daemon
            if not self._has_failed:
                log.exception("summary_failed")
            self._has_failed = True
            return None
