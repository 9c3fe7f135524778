"""Requests as they arrive in, with what became of them; the numbers and what is kept of them out.

The `Journal` is a ledger that answers questions (`asking`) and lets tests wait.
"""

import time
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from mockcollector.decoding import KEY_BYTES
from mockcollector.ids import IdLog
from mockcollector.matching import ABSENT
from mockcollector.received import ReceivedRequest
from mockcollector.rules import MIB, Encoding
from mockcollector.signals import Signal
from mockcollector.strangers import Stranger
from mockcollector.waiting import Watched
from mockcollector.wanted_values import comparable

Keep = Literal["spans", "counts"]
_MAX_STRANGERS = 1000


class Seeker(Protocol):
    """Somebody who waits for an item that is not there yet."""

    def look(self, request: ReceivedRequest, places: Collection[int]) -> None:
        """Look at the items of a request that have just been accepted, at these places."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a journal keeps. What is older gives way; counts and ids stay exact.

    Past `max_spans` (log records and data points count as spans do) or `max_body_bytes` (decoded)
    the oldest requests lose body, message and items; past `max_requests` they go altogether. What
    is made of bodies when it is asked for counts as bytes, too, by an estimate, and goes first. Of
    the ids of spans the first `max_ids` are kept, in `counts` mode, too.
    """

    max_requests: int = 10_000
    max_spans: int = 100_000
    max_body_bytes: int = 256 * MIB
    max_ids: int = 2_000_000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}: it is a whole number from 1 on")


@dataclass(frozen=True, slots=True)
class Counts:
    """What arrived, in numbers; items of refused requests are apart from accepted ones.

    `answers` counts requests by the word of `ReceivedRequest.answer`, `strangers` what came and was
    no request, by `StrangerKind`. `connections` are those whose first request is
    among them.
    """

    requests: int
    connections: int
    accepted: Mapping[Signal, int]
    refused: Mapping[Signal, int]
    wire_bytes: int
    decoded_bytes: int
    answers: dict[str, int]
    strangers: dict[str, int] = field(default_factory=dict)

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


class Ledger:
    """What arrived, as it came; in `counts` mode only numbers and ids are kept."""

    def __init__(self, *, keep: Keep = "spans", limits: Limits | None = None) -> None:
        if keep not in {"spans", "counts"}:
            raise ValueError(f"keep is {keep!r}: it is 'spans' or 'counts'")
        self.keep: Final = keep
        self._limits = limits or Limits()
        self._watched = Watched()
        self._seekers: set[Seeker] = set()
        self._number = 0
        self._reset()

    def _reset(self) -> None:
        self._requests: deque[ReceivedRequest] = deque()
        self._complete: deque[ReceivedRequest] = deque()
        self._complete_items = 0
        self._unpacked: dict[int, ReceivedRequest] = {}
        self._unpacked_bytes = 0
        self._complete_bytes = 0
        self._answers: Counter[str] = Counter()
        self._strangers: deque[Stranger] = deque(maxlen=_MAX_STRANGERS)
        self._stranger_counts: Counter[str] = Counter()
        self._connections = 0
        self._arrived = 0
        self._accepted = dict.fromkeys(Signal, 0)
        self._refused = dict.fromkeys(Signal, 0)
        self._wire_bytes = 0
        self._decoded_bytes = 0
        self._ids = IdLog(self._limits.max_ids)

    # What the collector tells.

    def arrive(self, request: ReceivedRequest) -> None:
        """Take note of a request that has been read; its answer comes with `settle`."""
        with self._watched.changing():
            self._number += 1
            request.number = self._number
            self._arrived += 1
            self._connections += request.nth_on_connection == 1
            self._wire_bytes += request.wire_bytes
            self._decoded_bytes += request.decoded_bytes
            if self.keep == "counts":
                return
            request.on_unpacked = self._note_unpacked
            self._requests.append(request)
            self._complete.append(request)
            self._complete_items += request.item_count
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
            request.settled_ns = time.monotonic_ns()
            request.status = status
            request.answer = answer
            request.reason = reason
            request.accepted_count = len(accepted)
            self._answers[answer] += 1
            if request.signal is not None:
                self._accepted[request.signal] += len(accepted)
                self._refused[request.signal] += request.item_count - len(accepted)
            self._ids.add(_keys_at(request.span_ids, accepted))
            request.acceptance.places = (
                accepted if isinstance(accepted, range) else frozenset(accepted)
            )
            if request.has_contents:
                for seeker in self._seekers:
                    seeker.look(request, accepted)
            request.read = None

    @property
    def is_searched(self) -> bool:
        """Whether somebody waits for an item."""
        return bool(self._seekers)

    def note_stranger(self, stranger: Stranger) -> None:
        """Take note of what reached the port and is no request; the latest 1,000 are kept."""
        with self._watched.changing():
            self._strangers.append(stranger)
            self._stranger_counts[stranger.kind] += 1

    @contextmanager
    def seeking(self, seeker: Seeker, signal: Signal) -> Iterator[list[ReceivedRequest]]:
        """Have the seeker look at what is accepted from now on; what was before is what you get."""
        with self._watched.reading():
            self._seekers.add(seeker)
            before = [each for each in self._requests if each.signal is signal]
        try:
            yield before
        finally:
            with self._watched.reading():
                self._seekers.discard(seeker)

    def _make_room(self) -> None:
        limits = self._limits
        # What was made of bodies goes first: it can be made again.
        while len(self._unpacked) > 1 and (
            self._complete_bytes + self._unpacked_bytes > limits.max_body_bytes
        ):
            self._pack(next(iter(self._unpacked.values())))
        while len(self._complete) > 1 and (
            self._complete_items > limits.max_spans or self._complete_bytes > limits.max_body_bytes
        ):
            oldest = self._complete.popleft()
            # Its ids are still needed if its answer is yet to come.
            ids = oldest.span_ids
            self._complete_items -= oldest.item_count
            self._complete_bytes -= len(oldest.body)
            self._pack(oldest)
            oldest.forget_contents()
            oldest.span_ids = b"" if oldest.answer else ids
        while len(self._requests) > limits.max_requests:
            gone = self._requests.popleft()
            if self._complete and self._complete[0] is gone:
                self._complete.popleft()
                self._pack(gone)
                self._complete_items -= gone.item_count
                self._complete_bytes -= len(gone.body)

    def _note_unpacked(self, request: ReceivedRequest) -> None:
        with self._watched.reading():
            if request.number not in self._unpacked:
                self._unpacked[request.number] = request
                self._unpacked_bytes += _unpacked_bytes(request)
                self._make_room()

    def _pack(self, request: ReceivedRequest) -> None:
        if self._unpacked.pop(request.number, None) is not None:
            self._unpacked_bytes -= _unpacked_bytes(request)
            request.pack()

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
                connections=self._connections,
                accepted=dict(self._accepted),
                refused=dict(self._refused),
                wire_bytes=self._wire_bytes,
                decoded_bytes=self._decoded_bytes,
                answers=dict(self._answers),
                strangers={str(kind): times for kind, times in self._stranger_counts.items()},
            )

    def span_keys(self) -> frozenset[bytes]:
        """The distinct accepted spans, each as 24 bytes: trace id, then span id."""
        with self._watched.reading():
            return frozenset(self._ids.distinct())

    @property
    def duplicate_spans(self) -> int:
        """How many accepted spans had a trace id and span id that had been accepted before."""
        with self._watched.reading():
            return self._ids.total - self._ids.distinct_count

    def strangers(self) -> list[Stranger]:
        """What reached the port and was no request, in order: gRPC, failed TLS, malformed HTTP."""
        with self._watched.reading():
            return list(self._strangers)

    def requests(
        self,
        *,
        header: str | Mapping[str, Any] | None = None,
        status: int | None = None,
        encoding: str | None = None,
        signal: str | None = None,
    ) -> list[ReceivedRequest]:
        """The requests kept, in order: with a header, or several with their values; by answer.

        A value of a header may be a text, a pattern, a function or ABSENT. Raises TypeError or
        ValueError for what no request can be.
        """
        if isinstance(header, Mapping):
            for name, value in header.items():
                if value is not ABSENT:
                    comparable(f"header {name}", value)
        if status is not None and (isinstance(status, bool) or not isinstance(status, int)):
            raise TypeError(f"status is a number such as 503, not {status!r}")
        encoding = None if encoding is None else Encoding(encoding)
        signal = None if signal is None else Signal(signal)
        with self._watched.reading():
            return [
                request
                for request in self._requests
                if (header is None or request.has_headers(header))
                and (status is None or request.status == status)
                and (encoding is None or request.encoding == encoding)
                and (signal is None or request.signal == signal)
            ]


def _unpacked_bytes(request: ReceivedRequest) -> int:
    """About what the message and the items of a request take, as measured with ten attributes."""
    return 3 * request.decoded_bytes + 700 * request.item_count


def _keys_at(span_ids: bytes, places: Collection[int]) -> bytes:
    if isinstance(places, range):  # as nearly always: no piece a span
        return span_ids[places.start * KEY_BYTES : places.stop * KEY_BYTES]
    return b"".join(span_ids[at * KEY_BYTES : (at + 1) * KEY_BYTES] for at in places)
