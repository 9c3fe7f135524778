"""Requests as they arrive in; answers to a test's questions out, from any thread."""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Unpack, cast

from mockcollector.decoding import KEY_BYTES
from mockcollector.ids import IdLog
from mockcollector.items import (
    ReceivedDataPoint,
    ReceivedItem,
    ReceivedLogRecord,
    ReceivedSpan,
    flatten,
)
from mockcollector.matching import (
    Wanted,
    WantedDataPoint,
    WantedLogRecord,
    describe_miss,
    find,
    is_match,
)
from mockcollector.neutral import printable
from mockcollector.received import ReceivedRequest
from mockcollector.rules import MIB
from mockcollector.signals import TRAITS, Signal
from mockcollector.waiting import Watched

Keep = Literal["spans", "counts"]
ANYTHING: Final = object()
DEFAULT_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a journal keeps. What is older gives way; counts and ids stay exact.

    Past `max_spans` (log records and data points count as spans do) or `max_body_bytes` (decoded)
    the oldest requests lose body, message and items; past `max_requests` they go altogether.
    """

    max_requests: int = 10_000
    max_spans: int = 100_000
    max_body_bytes: int = 256 * MIB


@dataclass(frozen=True, slots=True)
class Counts:
    """What arrived, in numbers; items of refused requests are apart from accepted ones.

    `answers` counts requests by the word of `ReceivedRequest.answer`.
    """

    requests: int
    accepted: Mapping[Signal, int]
    refused: Mapping[Signal, int]
    wire_bytes: int
    decoded_bytes: int
    answers: dict[str, int]

    @property
    def spans_accepted(self) -> int:
        """The accepted spans, the same ones again included."""
        return self.accepted[Signal.TRACES]

    @property
    def spans_refused(self) -> int:
        """The spans that were not accepted."""
        return self.refused[Signal.TRACES]

    @property
    def log_records_accepted(self) -> int:
        """The accepted log records."""
        return self.accepted[Signal.LOGS]

    @property
    def log_records_refused(self) -> int:
        """The log records that were not accepted."""
        return self.refused[Signal.LOGS]

    @property
    def data_points_accepted(self) -> int:
        """The accepted data points."""
        return self.accepted[Signal.METRICS]

    @property
    def data_points_refused(self) -> int:
        """The data points that were not accepted."""
        return self.refused[Signal.METRICS]


class Journal:
    """What arrived at a collector. In `counts` mode only `counts` and the ids are kept.

    An item (a span, a log record, a data point) is *accepted* when its request was answered 2xx, or
    taken and cut off, and it was not among the rejected of a partial success; or when the vendor
    that the collector plays keeps it though it refuses the request. Questions are about accepted
    items unless they say otherwise; what an unanswered or refused request held is not there for its
    sender. They come in the order of their arrival.
    """

    def __init__(self, *, keep: Keep = "spans", limits: Limits | None = None) -> None:
        if keep not in {"spans", "counts"}:
            raise ValueError(f"keep is {keep!r}: it is 'spans' or 'counts'")
        self.keep: Final = keep
        self._limits = limits or Limits()
        self._watched = Watched()
        self._number = 0
        self._reset()

    def _reset(self) -> None:
        self._requests: deque[ReceivedRequest] = deque()
        self._complete: deque[ReceivedRequest] = deque()
        self._complete_items = 0
        self._complete_bytes = 0
        self._answers: Counter[str] = Counter()
        self._arrived = 0
        self._accepted = dict.fromkeys(Signal, 0)
        self._refused = dict.fromkeys(Signal, 0)
        self._wire_bytes = 0
        self._decoded_bytes = 0
        self._ids = IdLog()

    # What the collector tells.

    def arrive(self, request: ReceivedRequest) -> None:
        """Take note of a request that has been read; its answer comes with `settle`."""
        with self._watched.changing():
            self._number += 1
            request.number = self._number
            self._arrived += 1
            self._wire_bytes += request.wire_bytes
            self._decoded_bytes += request.decoded_bytes
            if self.keep == "counts":
                return
            if request.message is not None:
                request.items = flatten(request.message, request.number)
            self._requests.append(request)
            self._complete.append(request)
            self._complete_items += len(request.items)
            self._complete_bytes += len(request.body)
            self._make_room()

    def settle(
        self,
        request: ReceivedRequest,
        *,
        status: int | None,
        answer: str,
        accepted: Collection[int] = (),
        reason: str = "",
    ) -> None:
        """Take note of what became of a request: its items at the places `accepted` are."""
        with self._watched.changing():
            request.status = status
            request.answer = answer
            request.reason = reason
            request.accepted_count = len(accepted)
            self._answers[answer] += 1
            if request.signal is not None:
                self._accepted[request.signal] += len(accepted)
                self._refused[request.signal] += request.item_count - len(accepted)
            self._ids.add(_keys_at(request.span_ids, accepted))
            if request.items:
                for at in accepted:
                    request.items[at].is_accepted = True

    def _make_room(self) -> None:
        limits = self._limits
        while len(self._complete) > 1 and (
            self._complete_items > limits.max_spans or self._complete_bytes > limits.max_body_bytes
        ):
            oldest = self._complete.popleft()
            # Its ids are still needed if its answer is yet to come.
            ids = oldest.span_ids
            self._complete_items -= len(oldest.items)
            self._complete_bytes -= len(oldest.body)
            oldest.forget_contents()
            oldest.span_ids = b"" if oldest.answer else ids
        while len(self._requests) > limits.max_requests:
            gone = self._requests.popleft()
            if self._complete and self._complete[0] is gone:
                self._complete.popleft()
                self._complete_items -= len(gone.items)
                self._complete_bytes -= len(gone.body)

    # What a test asks.

    def clear(self) -> None:
        """Forget everything, counts included; request numbers go on."""
        with self._watched.changing():
            self._reset()

    @property
    def counts(self) -> Counts:
        """The numbers up to now."""
        with self._watched.reading():
            return Counts(
                requests=self._arrived,
                accepted=dict(self._accepted),
                refused=dict(self._refused),
                wire_bytes=self._wire_bytes,
                decoded_bytes=self._decoded_bytes,
                answers=dict(self._answers),
            )

    def span_keys(self) -> frozenset[bytes]:
        """The distinct accepted spans, each as 24 bytes: trace id, then span id."""
        with self._watched.reading():
            return frozenset(self._ids.distinct())

    @property
    def duplicate_spans(self) -> int:
        """How many accepted spans had a trace id and span id that had been accepted before."""
        with self._watched.reading():
            return self._ids.total - len(self._ids.distinct())

    def requests(
        self,
        *,
        header: str | Mapping[str, str] | None = None,
        status: int | None = None,
        encoding: str | None = None,
        signal: str | None = None,
    ) -> list[ReceivedRequest]:
        """The requests kept, in order: with a header (or several with their values), by answer."""
        with self._watched.reading():
            return [
                request
                for request in self._requests
                if (header is None or request.has_headers(header))
                and (status is None or request.status == status)
                and (encoding is None or request.encoding == encoding)
                and (signal is None or request.signal == signal)
            ]

    def items(
        self, signal: Signal, wanted: Mapping[str, Any], *, include_refused: bool = False
    ) -> list[ReceivedItem]:
        """The accepted items of a signal that are kept and have what is wanted."""
        if self.keep == "counts":
            raise RuntimeError("this journal keeps counts only: ask `counts` and `span_keys`")
        with self._watched.reading():
            kept = [
                item
                for request in self._requests
                if request.signal is signal
                for item in request.items
                if include_refused or item.is_accepted
            ]
        return find(signal, kept, wanted)

    def spans(
        self, *, include_refused: bool = False, **wanted: Unpack[Wanted]
    ) -> list[ReceivedSpan]:
        """The accepted spans kept that have what is wanted."""
        return cast(
            "list[ReceivedSpan]",
            self.items(Signal.TRACES, wanted, include_refused=include_refused),
        )

    def log_records(
        self, *, include_refused: bool = False, **wanted: Unpack[WantedLogRecord]
    ) -> list[ReceivedLogRecord]:
        """The accepted log records kept that have what is wanted."""
        return cast(
            "list[ReceivedLogRecord]",
            self.items(Signal.LOGS, wanted, include_refused=include_refused),
        )

    def data_points(
        self, *, include_refused: bool = False, **wanted: Unpack[WantedDataPoint]
    ) -> list[ReceivedDataPoint]:
        """The accepted data points kept that have what is wanted."""
        return cast(
            "list[ReceivedDataPoint]",
            self.items(Signal.METRICS, wanted, include_refused=include_refused),
        )

    def by_trace(self, trace_id: str) -> list[ReceivedSpan]:
        """The accepted spans of a trace; the id in hexadecimal, in either case."""
        return self.spans(trace_id=trace_id)

    def by_name(self, name: str) -> list[ReceivedSpan]:
        """The accepted spans of this name."""
        return self.spans(name=name)

    def by_attribute(self, key: str, value: Any = ANYTHING) -> list[ReceivedSpan]:
        """The accepted spans that have an attribute, of their own or of their resource."""
        return [
            span
            for span in self.spans()
            for attributes in [span.resource.attributes | span.attributes]
            if key in attributes and (value is ANYTHING or is_match(value, attributes[key]))
        ]

    def assert_item(self, signal: Signal, wanted: Mapping[str, Any]) -> ReceivedItem:
        """The first accepted item of a signal that has all of this.

        Raises AssertionError with the nearest miss: the item that has most of it, and what differs.
        """
        items = self.items(signal, {})
        found = find(signal, items, wanted)
        if found:
            return found[0]
        miss = describe_miss(signal, items, wanted)
        raise AssertionError("\n".join([miss, *self._describe_refused(signal)]))

    def assert_span(self, **wanted: Unpack[Wanted]) -> ReceivedSpan:
        """The first accepted span that has all of this, else AssertionError: the nearest miss."""
        return cast("ReceivedSpan", self.assert_item(Signal.TRACES, wanted))

    def assert_log_record(self, **wanted: Unpack[WantedLogRecord]) -> ReceivedLogRecord:
        """The same for a log record."""
        return cast("ReceivedLogRecord", self.assert_item(Signal.LOGS, wanted))

    def assert_data_point(self, **wanted: Unpack[WantedDataPoint]) -> ReceivedDataPoint:
        """The same for a data point."""
        return cast("ReceivedDataPoint", self.assert_item(Signal.METRICS, wanted))

    def assert_no_span(self, **wanted: Unpack[Wanted]) -> None:
        """Raise AssertionError when an accepted span has all of this."""
        self._assert_none(Signal.TRACES, wanted)

    def assert_no_log_record(self, **wanted: Unpack[WantedLogRecord]) -> None:
        """Raise AssertionError when an accepted log record has all of this."""
        self._assert_none(Signal.LOGS, wanted)

    def assert_no_data_point(self, **wanted: Unpack[WantedDataPoint]) -> None:
        """Raise AssertionError when an accepted data point has all of this."""
        self._assert_none(Signal.METRICS, wanted)

    def _assert_none(self, signal: Signal, wanted: Mapping[str, Any]) -> None:
        found = self.items(signal, wanted)
        if found:
            items = TRAITS[signal].items
            raise AssertionError(f"{len(found)} {items} have what none should: {found[:5]}")

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
        self._watched.wait(lambda: bool(self.spans(**wanted)), timeout)
        return self.assert_span(**wanted)

    async def wait_for_span_async(
        self, timeout: float = DEFAULT_TIMEOUT_SECONDS, **wanted: Unpack[Wanted]
    ) -> ReceivedSpan:
        """As `wait_for_span`, leaving the event loop (asyncio) free."""
        return cast("ReceivedSpan", await self.wait_for_item_async(Signal.TRACES, wanted, timeout))

    def wait_for_log_record(
        self, timeout: float = DEFAULT_TIMEOUT_SECONDS, **wanted: Unpack[WantedLogRecord]
    ) -> ReceivedLogRecord:
        """Wait for a log record as `assert_log_record` describes it, and fail like that."""
        self._watched.wait(lambda: bool(self.log_records(**wanted)), timeout)
        return self.assert_log_record(**wanted)

    def wait_for_data_point(
        self, timeout: float = DEFAULT_TIMEOUT_SECONDS, **wanted: Unpack[WantedDataPoint]
    ) -> ReceivedDataPoint:
        """Wait for a data point as `assert_data_point` describes it, and fail like that."""
        self._watched.wait(lambda: bool(self.data_points(**wanted)), timeout)
        return self.assert_data_point(**wanted)

    async def wait_for_item_async(
        self, signal: Signal, wanted: Mapping[str, Any], timeout: float = DEFAULT_TIMEOUT_SECONDS
    ) -> ReceivedItem:
        """As the three above for any signal, leaving the event loop (asyncio) free."""
        await self._watched.wait_async(lambda: bool(self.items(signal, wanted)), timeout)
        return self.assert_item(signal, wanted)

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
            return len(self._ids.distinct())
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

    def _describe_requests(self, *signals: Signal) -> Iterator[str]:
        counts = self.counts
        answers = ", ".join(f"{word} ({times} times)" for word, times in counts.answers.items())
        yield f"{counts.requests} requests arrived; answers: {answers or 'none'}"
        yield from self._describe_refused(*signals)

    def _describe_refused(self, *signals: Signal) -> Iterator[str]:
        refused = self.counts.refused
        for signal in signals:
            if refused[signal]:
                items = TRAITS[signal].items
                yield f"{refused[signal]} more {items} came in requests that were not accepted"
        reasons = Counter(request.reason for request in self.requests() if request.reason)
        for reason, times in reasons.most_common(3):
            yield f"  {times} refused: {printable(reason)}"


def _keys_at(span_ids: bytes, places: Collection[int]) -> bytes:
    if isinstance(places, range):  # as nearly always: no piece a span
        return span_ids[places.start * KEY_BYTES : places.stop * KEY_BYTES]
    return b"".join(span_ids[at * KEY_BYTES : (at + 1) * KEY_BYTES] for at in places)
