"""Refused requests go in; a bounded number of log events a minute comes out."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.stdlib.get_logger(__name__)

_WINDOW_SECONDS: Final = 60.0
_MAX_EVENTS: Final = 20


class RefusalLog:
    """Logs each kind of refusal of a sender once a minute, at most 20 kinds; counts the rest.

    A sender that is set up wrongly repeats itself with every export: its first refusal says all.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._window_ends = 0.0
        self._logged: set[tuple[int, str, str]] = set()
        self._repeated: Counter[int] = Counter()  # by status

    def note(self, status: int, address: str, message: str) -> None:
        """A request from `address` was answered with `status` and `message`."""
        now = self._clock()
        if now >= self._window_ends:
            self.summarise()
            self._logged.clear()
            self._window_ends = now + _WINDOW_SECONDS
        kind = (status, address, message)
        if kind in self._logged or len(self._logged) >= _MAX_EVENTS:
            self._repeated[status] += 1
            return
        self._logged.add(kind)
        log.info("request_refused", status=status, sender=address, reason=message)

    def summarise(self) -> None:
        """Log how many were not logged one by one since the last summary, if any."""
        if self._repeated:
            by_status = {str(status): times for status, times in sorted(self._repeated.items())}
            log.info("requests_refused_again", by_status=by_status)
            self._repeated.clear()
