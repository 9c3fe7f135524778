"""Requests as they arrive in; answers to a test's questions out, from any thread.

Nothing here polls: a waiting thread sleeps on a condition, a waiting task on an event, and each
arrival or answer wakes them.
"""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, Unpack

from mockcollector.decoding import KEY_BYTES
from mockcollector.ids import IdLog
from mockcollector.matching import Wanted, describe_miss, find, is_match
from mockcollector.received import ReceivedRequest, ReceivedSpan, flatten
from mockcollector.rules import MIB

Keep = Literal["spans", "counts"]
ANYTHING: Final = object()
DEFAULT_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a journal keeps. What is older gives way; counts and ids stay exact.

    Past `max_spans` or `max_body_bytes` (decoded) the oldest requests lose body, message and
    spans; past `max_requests` they go altogether.
    """

    max_requests: int = 10_000
    max_spans: int = 100_000
    max_body_bytes: int = 256 * MIB


@dataclass(frozen=True, slots=True)
class Counts:
    """What arrived, in numbers; spans of refused requests are apart from accepted ones.

    `answers` counts requests by the word of `ReceivedRequest.answer`.
    """

    requests: int
    spans_accepted: int
    spans_refused: int
    wire_bytes: int
    decoded_bytes: int
    answers: dict[str, int]


class Journal:
    """What arrived at a collector. In `counts` mode only `counts` and the ids are kept.

    A span is *accepted* when its request was answered 2xx, or taken and cut off, and the span was
    not among the rejected of a partial success. Questions are about accepted spans unless they
    say otherwise; what an unanswered or refused request held is not there for its sender.
    """

    def __init__(self, *, keep: Keep = "spans", limits: Limits | None = None) -> None:
        if keep not in {"spans", "counts"}:
            raise ValueError(f"keep is {keep!r}: it is 'spans' or 'counts'")
        self.keep: Final = keep
        self._limits = limits or Limits()
        self._changed = threading.Condition()
        self._wakers: set[Callable[[], None]] = set()
        self._number = 0
        self._reset()

    def _reset(self) -> None:
        self._requests: deque[ReceivedRequest] = deque()
        self._complete: deque[ReceivedRequest] = deque()
        self._complete_spans = 0
        self._complete_bytes = 0
        self._answers: Counter[str] = Counter()
        self._arrived = 0
        self._refused = 0
        self._wire_bytes = 0
        self._decoded_bytes = 0
        self._ids = IdLog()

    # What the collector tells.

    def arrive(self, request: ReceivedRequest) -> None:
        """Take note of a request that has been read; its answer comes with `settle`."""
        with self._change():
            self._number += 1
            request.number = self._number
            self._arrived += 1
            self._wire_bytes += request.wire_bytes
            self._decoded_bytes += request.decoded_bytes
            if self.keep == "counts":
                return
            if request.message is not None:
                request.spans = flatten(request.message, request.number)
            self._requests.append(request)
            self._complete.append(request)
            self._complete_spans += len(request.spans)
            self._complete_bytes += len(request.body)
            self._make_room()

    def settle(
        self,
        request: ReceivedRequest,
        *,
        status: int | None,
        answer: str,
        accepted_spans: int = 0,
        reason: str = "",
    ) -> None:
        """Take note of what became of a request: its first `accepted_spans` spans are accepted."""
        with self._change():
            request.status = status
            request.answer = answer
            request.reason = reason
            request.accepted_spans = accepted_spans
            self._answers[answer] += 1
            self._refused += request.span_count - accepted_spans
            self._ids.add(request.span_ids[: accepted_spans * KEY_BYTES])
            for span in request.spans[:accepted_spans]:
                span.is_accepted = True

    def _make_room(self) -> None:
        limits = self._limits
        while len(self._complete) > 1 and (
            self._complete_spans > limits.max_spans or self._complete_bytes > limits.max_body_bytes
        ):
            oldest = self._complete.popleft()
            # Its ids are still needed if its answer is yet to come.
            ids = oldest.span_ids
            self._complete_spans -= len(oldest.spans)
            self._complete_bytes -= len(oldest.body)
            oldest.forget_contents()
            oldest.span_ids = b"" if oldest.answer else ids
        while len(self._requests) > limits.max_requests:
            gone = self._requests.popleft()
            if self._complete and self._complete[0] is gone:
                self._complete.popleft()
                self._complete_spans -= len(gone.spans)
                self._complete_bytes -= len(gone.body)

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changed.notify_all()
            for wake in self._wakers:
                wake()

    # What a test asks.

    def clear(self) -> None:
        """Forget everything, counts included; request numbers go on."""
        with self._change():
            self._reset()

    @property
    def counts(self) -> Counts:
        """The numbers up to now."""
        with self._changed:
            return Counts(
                requests=self._arrived,
                spans_accepted=self._ids.total,
                spans_refused=self._refused,
                wire_bytes=self._wire_bytes,
                decoded_bytes=self._decoded_bytes,
                answers=dict(self._answers),
            )

    def span_keys(self) -> frozenset[bytes]:
        """The distinct accepted spans, each as 24 bytes: trace id, then span id."""
        with self._changed:
            return frozenset(self._ids.distinct())

    @property
    def duplicate_spans(self) -> int:
        """How many accepted spans had a trace id and span id that had been accepted before."""
        with self._changed:
            return self._ids.total - len(self._ids.distinct())

    def requests(
        self,
        *,
        header: str | Mapping[str, str] | None = None,
        status: int | None = None,
        encoding: str | None = None,
    ) -> list[ReceivedRequest]:
        """The requests kept, in order: with a header (or several with their values), by answer."""
        with self._changed:
            return [
                request
                for request in self._requests
                if (header is None or request.has_headers(header))
                and (status is None or request.status == status)
                and (encoding is None or request.encoding == encoding)
            ]

    def spans(
        self, *, include_refused: bool = False, **wanted: Unpack[Wanted]
    ) -> list[ReceivedSpan]:
        """The accepted spans kept, in order of arrival, that have what is wanted."""
        return find(self._all_spans(include_refused=include_refused), **wanted)

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
            for span in self._all_spans()
            for attributes in [span.resource.attributes | span.attributes]
            if key in attributes and (value is ANYTHING or is_match(value, attributes[key]))
        ]

    def _all_spans(self, *, include_refused: bool = False) -> list[ReceivedSpan]:
        if self.keep == "counts":
            raise RuntimeError("this journal keeps counts only: ask `counts` and `span_keys`")
        with self._changed:
            return [
                span
                for request in self._requests
                for span in request.spans
                if include_refused or span.is_accepted
            ]

    def assert_span(self, **wanted: Unpack[Wanted]) -> ReceivedSpan:
        """The first accepted span that has all of this.

        Raises AssertionError with the nearest miss: the span that has most of it, and what differs.
        """
        spans = self._all_spans()
        found = find(spans, **wanted)
        if found:
            return found[0]
        raise AssertionError("\n".join([describe_miss(spans, wanted), *self._describe_refused()]))

    def assert_no_span(self, **wanted: Unpack[Wanted]) -> None:
        """Raise AssertionError when an accepted span has all of this."""
        found = self.spans(**wanted)
        if found:
            raise AssertionError(f"{len(found)} spans have what none should: {found[:5]}")

    # Waiting. Timeouts are seconds.

    def wait_for_spans(
        self, count: int, timeout: float = DEFAULT_TIMEOUT_SECONDS, *, distinct: bool = True
    ) -> list[ReceivedSpan]:
        """Wait until `count` spans were accepted, each counted once unless `distinct` is false.

        Returns the accepted spans kept (none in counts mode). Raises AssertionError in the end.
        """
        self._wait(lambda: self._span_count(distinct=distinct) >= count, timeout)
        return self._result_of_spans(count, timeout, distinct=distinct)

    async def wait_for_spans_async(
        self, count: int, timeout: float = DEFAULT_TIMEOUT_SECONDS, *, distinct: bool = True
    ) -> list[ReceivedSpan]:
        """As `wait_for_spans`, leaving the event loop (asyncio) free."""
        await self._wait_async(lambda: self._span_count(distinct=distinct) >= count, timeout)
        return self._result_of_spans(count, timeout, distinct=distinct)

    def wait_for_span(
        self, timeout: float = DEFAULT_TIMEOUT_SECONDS, **wanted: Unpack[Wanted]
    ) -> ReceivedSpan:
        """Wait for a span as `assert_span` describes it, and fail like that in the end."""
        self._wait(lambda: bool(self.spans(**wanted)), timeout)
        return self.assert_span(**wanted)

    async def wait_for_span_async(
        self, timeout: float = DEFAULT_TIMEOUT_SECONDS, **wanted: Unpack[Wanted]
    ) -> ReceivedSpan:
        """As `wait_for_span`, leaving the event loop (asyncio) free."""
        await self._wait_async(lambda: bool(self.spans(**wanted)), timeout)
        return self.assert_span(**wanted)

    def wait_for_requests(
        self, count: int, timeout: float = DEFAULT_TIMEOUT_SECONDS, *, settled: bool = False
    ) -> None:
        """Wait until `count` requests have arrived; with `settled`, until their outcome is known.

        A hanging request has arrived and is not settled. Raises AssertionError in the end.
        """
        self._wait(lambda: self._request_count(settled=settled) >= count, timeout)
        self._check_requests(count, timeout, settled=settled)

    async def wait_for_requests_async(
        self, count: int, timeout: float = DEFAULT_TIMEOUT_SECONDS, *, settled: bool = False
    ) -> None:
        """As `wait_for_requests`, leaving the event loop (asyncio) free."""
        await self._wait_async(lambda: self._request_count(settled=settled) >= count, timeout)
        self._check_requests(count, timeout, settled=settled)

    def _wait(self, is_done: Callable[[], bool], timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(is_done, timeout)

    async def _wait_async(self, is_done: Callable[[], bool], timeout: float) -> None:
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake() -> None:
            # A loop that is closed meanwhile has nobody waiting any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)

        with self._changed:
            self._wakers.add(wake)
        try:
            async with asyncio.timeout(timeout):
                while not self._holds(is_done):
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            return  # the caller looks again and says what is missing
        finally:
            with self._changed:
                self._wakers.discard(wake)

    def _holds(self, is_done: Callable[[], bool]) -> bool:
        with self._changed:
            return is_done()

    def _span_count(self, *, distinct: bool) -> int:
        return len(self._ids.distinct()) if distinct else self._ids.total

    def _result_of_spans(self, count: int, timeout: float, *, distinct: bool) -> list[ReceivedSpan]:
        with self._changed:
            arrived = self._span_count(distinct=distinct)
        if arrived >= count:
            return self.spans() if self.keep == "spans" else []
        kind = "distinct spans" if distinct else "spans"
        lines = [f"{arrived} of {count} {kind} were accepted within {timeout:g} s"]
        raise AssertionError("\n".join([*lines, *self._describe_requests()]))

    def _request_count(self, *, settled: bool) -> int:
        return self._answers.total() if settled else self._arrived

    def _check_requests(self, count: int, timeout: float, *, settled: bool) -> None:
        with self._changed:
            seen = self._request_count(settled=settled)
        if seen < count:
            verb = "were settled" if settled else "arrived"
            lines = [f"{seen} of {count} requests {verb} within {timeout:g} s"]
            raise AssertionError("\n".join([*lines, *self._describe_requests()]))

    def _describe_requests(self) -> Iterator[str]:
        counts = self.counts
        answers = ", ".join(f"{word} ({times} times)" for word, times in counts.answers.items())
        yield f"{counts.requests} requests arrived; answers: {answers or 'none'}"
        yield from self._describe_refused()

    def _describe_refused(self) -> Iterator[str]:
        counts = self.counts
        if counts.spans_refused:
            yield f"{counts.spans_refused} more spans came in requests that were not accepted"
        reasons = Counter(request.reason for request in self.requests() if request.reason)
        for reason, times in reasons.most_common(3):
            yield f"  {times} refused: {reason}"
