"""Requests as they arrive in; answers to a test's questions out, from any thread."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Unpack, cast

import anyio.to_thread

from mockcollector.attempts import Attempts
from mockcollector.items import (
    ReceivedDataPoint,
    ReceivedItem,
    ReceivedLogRecord,
    ReceivedSpan,
)
from mockcollector.ledger import Counts, Keep, Limits
from mockcollector.matching import Wanted, WantedDataPoint, WantedLogRecord, criteria_of
from mockcollector.received import ReceivedRequest
from mockcollector.signals import TRAITS, Signal

__all__ = ["Counts", "Journal", "Keep", "Limits"]

DEFAULT_TIMEOUT_SECONDS = 10.0


class Journal(Attempts):
    """What arrived at a collector. In `counts` mode only `counts` and the ids are kept.

    An item (a span, a log record, a data point) is *accepted* when its request was answered 2xx, or
    taken and cut off, and it was not among the rejected of a partial success; or when the vendor
    that the collector plays keeps it though it refuses the request. Questions are about accepted
    items unless they say otherwise; what an unanswered or refused request held is not there for its
    sender. They come in the order of their arrival.
    """

    # Waiting. Timeouts are seconds.

    def wait_for_spans(
        self, count: int, timeout: float = DEFAULT_TIMEOUT_SECONDS, *, distinct: bool = True
    ) -> list[ReceivedSpan]:
        """Wait until `count` spans were accepted, each counted once unless `distinct` is false.

        Returns the accepted spans kept (none in counts mode). Raises AssertionError in the end.
        """
        self._watched.wait(self._enough(Signal.TRACES, count, distinct=distinct), timeout)
        self._check_count(Signal.TRACES, count, timeout, distinct=distinct)
        return self.spans() if self.keep == "spans" else []

    async def wait_for_spans_async(
        self, count: int, timeout: float = DEFAULT_TIMEOUT_SECONDS, *, distinct: bool = True
    ) -> list[ReceivedSpan]:
        """As `wait_for_spans`, leaving the event loop (asyncio) free."""
        await self.wait_for_items_async(Signal.TRACES, count, timeout, distinct=distinct)
        return self.spans() if self.keep == "spans" else []

    def wait_for_log_records(
        self, count: int, timeout: float = DEFAULT_TIMEOUT_SECONDS
    ) -> list[ReceivedLogRecord]:
        """As `wait_for_spans`; a log record has no id, so one that comes twice counts twice."""
        self._watched.wait(self._enough(Signal.LOGS, count), timeout)
        self._check_count(Signal.LOGS, count, timeout)
        return self.log_records() if self.keep == "spans" else []

    def wait_for_data_points(
        self, count: int, timeout: float = DEFAULT_TIMEOUT_SECONDS
    ) -> list[ReceivedDataPoint]:
        """As `wait_for_spans`; a data point has no id, so one that comes twice counts twice."""
        self._watched.wait(self._enough(Signal.METRICS, count), timeout)
        self._check_count(Signal.METRICS, count, timeout)
        return self.data_points() if self.keep == "spans" else []

    async def wait_for_items_async(
        self,
        signal: Signal,
        count: int,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        *,
        distinct: bool = False,
    ) -> None:
        """As the three above for any signal, leaving the event loop (asyncio) free."""
        await self._watched.wait_async(self._enough(signal, count, distinct=distinct), timeout)
        self._check_count(signal, count, timeout, distinct=distinct)

    def wait_for_span(
        self, timeout: float = DEFAULT_TIMEOUT_SECONDS, **wanted: Unpack[Wanted]
    ) -> ReceivedSpan:
        """Wait for a span as `assert_span` describes it, and fail like that in the end."""
        return cast("ReceivedSpan", self.wait_for_item(Signal.TRACES, wanted, timeout))

    async def wait_for_span_async(
        self, timeout: float = DEFAULT_TIMEOUT_SECONDS, **wanted: Unpack[Wanted]
    ) -> ReceivedSpan:
        """As `wait_for_span`, leaving the event loop (asyncio) free."""
        return cast("ReceivedSpan", await self.wait_for_item_async(Signal.TRACES, wanted, timeout))

    def wait_for_log_record(
        self, timeout: float = DEFAULT_TIMEOUT_SECONDS, **wanted: Unpack[WantedLogRecord]
    ) -> ReceivedLogRecord:
        """Wait for a log record as `assert_log_record` describes it, and fail like that."""
        return cast("ReceivedLogRecord", self.wait_for_item(Signal.LOGS, wanted, timeout))

    async def wait_for_log_record_async(
        self, timeout: float = DEFAULT_TIMEOUT_SECONDS, **wanted: Unpack[WantedLogRecord]
    ) -> ReceivedLogRecord:
        """As `wait_for_log_record`, leaving the event loop (asyncio) free."""
        found = await self.wait_for_item_async(Signal.LOGS, wanted, timeout)
        return cast("ReceivedLogRecord", found)

    def wait_for_data_point(
        self, timeout: float = DEFAULT_TIMEOUT_SECONDS, **wanted: Unpack[WantedDataPoint]
    ) -> ReceivedDataPoint:
        """Wait for a data point as `assert_data_point` describes it, and fail like that."""
        return cast("ReceivedDataPoint", self.wait_for_item(Signal.METRICS, wanted, timeout))

    async def wait_for_data_point_async(
        self, timeout: float = DEFAULT_TIMEOUT_SECONDS, **wanted: Unpack[WantedDataPoint]
    ) -> ReceivedDataPoint:
        """As `wait_for_data_point`, leaving the event loop (asyncio) free."""
        found = await self.wait_for_item_async(Signal.METRICS, wanted, timeout)
        return cast("ReceivedDataPoint", found)

    def wait_for_item(
        self, signal: Signal, wanted: Mapping[str, Any], timeout: float = DEFAULT_TIMEOUT_SECONDS
    ) -> ReceivedItem:
        """As those above for any signal."""
        seeker = self._seeker(signal, wanted)
        with self.seeking(seeker, signal) as before:
            if not seeker.search(before):
                self._watched.wait(seeker.is_done, timeout)
        return seeker.found() or self.assert_item(signal, wanted)

    async def wait_for_item_async(
        self, signal: Signal, wanted: Mapping[str, Any], timeout: float = DEFAULT_TIMEOUT_SECONDS
    ) -> ReceivedItem:
        """The same, leaving the event loop (asyncio) free."""
        seeker = self._seeker(signal, wanted)
        with self.seeking(seeker, signal) as before:
            # In a thread: whoever waits may be the collector's own loop (the control API).
            if not await anyio.to_thread.run_sync(seeker.search, before):
                await self._watched.wait_async(seeker.is_done, timeout)
        return seeker.found() or self.assert_item(signal, wanted)

    def _seeker(self, signal: Signal, wanted: Mapping[str, Any]) -> "_Seeker":
        self.check_items_are_kept()
        return _Seeker(signal, wanted)

    def wait_for_requests(
        self, count: int, timeout: float = DEFAULT_TIMEOUT_SECONDS, *, settled: bool = False
    ) -> None:
        """Wait until `count` requests have arrived; with `settled`, until their outcome is known.

        A hanging request has arrived and is not settled. Raises AssertionError in the end.
        """
        self._watched.wait(lambda: self._request_count(settled=settled) >= count, timeout)
        self._check_requests(count, timeout, settled=settled)

    async def wait_for_requests_async(
        self, count: int, timeout: float = DEFAULT_TIMEOUT_SECONDS, *, settled: bool = False
    ) -> None:
        """As `wait_for_requests`, leaving the event loop (asyncio) free."""
        await self._watched.wait_async(
            lambda: self._request_count(settled=settled) >= count, timeout
        )
        self._check_requests(count, timeout, settled=settled)

    def _enough(self, signal: Signal, count: int, *, distinct: bool = False) -> Callable[[], bool]:
        return lambda: self._item_count(signal, distinct=distinct) >= count

    def _item_count(self, signal: Signal, *, distinct: bool) -> int:
        if distinct and signal is Signal.TRACES:
            return self._ids.distinct_count
        return self._accepted[signal]

    def _check_count(
        self, signal: Signal, count: int, timeout: float, *, distinct: bool = False
    ) -> None:
        with self._watched.reading():
            arrived = self._item_count(signal, distinct=distinct)
        if arrived < count:
            kind = f"{'distinct ' if distinct else ''}{TRAITS[signal].items}"
            lines = [f"{arrived} of {count} {kind} were accepted within {timeout:g} s"]
            raise AssertionError("\n".join([*lines, *self._describe_requests(signal)]))

    def _request_count(self, *, settled: bool) -> int:
        return self._answers.total() if settled else self._arrived

    def _check_requests(self, count: int, timeout: float, *, settled: bool) -> None:
        with self._watched.reading():
            seen = self._request_count(settled=settled)
        if seen < count:
            verb = "were settled" if settled else "arrived"
            lines = [f"{seen} of {count} requests {verb} within {timeout:g} s"]
            raise AssertionError("\n".join([*lines, *self._describe_requests(*Signal)]))


class _Seeker:
    """Looks for one item: among those that are there, then at each that is accepted, once."""

    def __init__(self, signal: Signal, wanted: Mapping[str, Any]) -> None:
        self._signal = signal
        self._criteria = criteria_of(signal, wanted)
        self._found: ReceivedItem | None = None
        self._failure: Exception | None = None

    def search(self, requests: list[ReceivedRequest]) -> bool:
        """Whether an accepted item of these is the one."""
        for request in requests:
            fitting = request.matching(lambda item: item.is_accepted and self._fits(item))
            self._found = next(fitting, None)
            if self._found is not None:
                return True
        return False

    def look(self, request: ReceivedRequest, places: Collection[int]) -> None:
        """Look at these items of a request. It runs in the collector's thread."""
        if request.signal is not self._signal or self.is_done():
            return
        try:
            self._found = next(request.matching(self._fits, places), None)
        except Exception as failure:  # noqa: BLE001 - a test's own function: raised in the test
            self._failure = failure

    def _fits(self, item: ReceivedItem) -> bool:
        for criterion in self._criteria:  # noqa: SIM110 - each item of each request comes here
            if not criterion.holds(item):
                return False
        return True

    def is_done(self) -> bool:
        """Whether there is nothing more to look for."""
        return self._found is not None or self._failure is not None

    def found(self) -> ReceivedItem | None:
        """What was found. Raises what a function of the test's own raised."""
        if self._failure is not None:
            raise self._failure
        return self._found
