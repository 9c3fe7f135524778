"""What a log tells of itself: statistics, traces, dead letters, rows that may be sent again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from relay.buffer.backlog_name import BacklogName
from relay.buffer.owed_ranges import Ranges
from relay.model.records import DeadLetter, Encoding, Request, Signal, StoredRow

_FIRST_ROWS: Final = 4
_MOST_ROWS: Final = 50
_STEP_BYTES: Final = 1024 * 1024
FILTERED_STATUS: Final = -2
"""What is settled with it was not for the destination, by its steps: nothing was sent."""


@dataclass(frozen=True, slots=True)
class DeadLetterCount:
    """How many dead letters there are and the bytes they use on disk."""

    count: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True)
class BufferStatistics:
    """The buffer at this moment. Sizes are bytes on disk, times nanoseconds since the epoch."""

    rows: int = 0
    items: int = 0
    raw_bytes: int = 0  # before compression
    first_row: int = 0  # 0 when nothing is kept
    last_row: int = 0  # the newest row ever written, also when it has gone
    oldest_received_ns: int = 0  # 0 when nothing is kept
    database_bytes: int = 0  # pages in use
    wal_bytes: int = 0
    reserve_bytes: int = 0
    max_size_bytes: int = 0
    file_system_free_bytes: int = 0
    # By destination; "" were refused on the way in.
    dead_letters: dict[str, DeadLetterCount] = field(default_factory=dict)
    dead_letters_dropped: int = 0  # given up for space or age, ever
    is_writable: bool = False
    is_full: bool = False
    limit: str = ""  # while full: which limit, and what to do about it
    last_error: str = ""
    stalled_seconds: float = 0.0  # how long the disk has kept the writer by now
    is_stalled: bool = False  # so long that new requests are refused
    owed_rows: int = 0  # that some destination has not had, each once; seconds old
    owed_items: int = 0
    owed_disk_bytes: int = 0  # their share of the pages in use, about
    full_in_seconds: float | None = None  # at the present rate; None: it is not filling
    evicted_items: dict[BacklogName, int] = field(default_factory=dict)  # since ever
    last_evicted_ns: int = 0  # 0: nothing since the start
    promise: str = ""  # who has what was acknowledged, and how; empty: this host's disk

    @property
    def disk_bytes(self) -> int:
        """What counts against `max_size`."""
        return self.database_bytes + self.wal_bytes + self.reserve_bytes


@dataclass(frozen=True, slots=True)
class BacklogStatistics:
    """What one destination is owed of one signal. What is in flight is owed too, until it is
    settled.
    """

    name: str  # the destination's
    owed_items: int
    owed_rows: int
    owed_bytes: int  # before compression
    oldest_owed_ns: int  # received time of the oldest row owed; 0 when nothing is
    in_flight_items: int
    is_paused: bool
    signal: Signal = Signal.TRACES


def packed_index(trace_ids: bytes, trace_id: bytes) -> int | None:
    """Which of the packed 16-byte ids is `trace_id`; None when none is."""
    at = trace_ids.find(trace_id)
    while at >= 0:
        if at % 16 == 0:
            return at // 16
        at = trace_ids.find(trace_id, at + 1)
    return None


def rows_at_once(before: Sequence[StoredRow]) -> int:
    """How many rows to read in one step, after those of the step before (none: the first): about
    a MiB of them, whatever the size of one.
    """
    if not before:
        return _FIRST_ROWS
    size = sum(len(row.body) for row in before) // len(before)
    return min(max(_STEP_BYTES // max(size, 1), 1), _MOST_ROWS)


def unpacked(trace_ids: bytes) -> tuple[bytes, ...]:
    """Packed 16-byte ids one by one: four times as fast as slices."""
    return _ids(len(trace_ids) // 16).unpack(trace_ids)


@lru_cache(64)
def _ids(count: int) -> Struct:
    return Struct("16s" * count)


def is_of_trace(letter: DeadLetter, trace: str) -> bool:
    """Whether a dead letter holds items of a trace, named by its hex digits or as a sender wrote
    it; "" means any.
    """
    # Of ingest the words are what stood there: the text, or of protobuf the hex of the bytes.
    if not trace or (not letter.destination and letter.words in (trace, trace.encode().hex())):
        return True
    try:
        trace_id = bytes.fromhex(trace)
    except ValueError:
        return False
    return len(trace_id) == 16 and packed_index(letter.trace_ids, trace_id) is not None


def holds_trace(trace_ids: bytes, trace_id: bytes) -> bool:
    """Whether packed ids of 16 bytes have this one; none at all may be any."""
    return not trace_ids or packed_index(trace_ids, trace_id) is not None


@dataclass(frozen=True, slots=True)
class TraceDelivery:
    """Where a request of a trace is for one destination.

    `state`: "waiting" (also in flight), "delivered", "set_aside" (settled with another status
    than 2xx), "evicted" (undelivered), "filtered" (not for it, by its steps) or "not_owed" (the
    destination began after it). `at_ns` and `status` are 0 for "waiting" and "not_owed".
    Deliveries within a second share the later time, within a minute where they are older than an
    hour. `is_parked`: others go first, it is tried alone.
    """

    destination: str
    state: str
    at_ns: int = 0
    status: int = 0
    is_in_flight: bool = False
    is_parked: bool = False


@dataclass(frozen=True, slots=True)
class TracePlace:
    """One request (or piece of a large one) that holds spans of a trace.

    `items` counts the whole piece, of this trace and others. Without a `row` the place is a dead
    letter: `dead_letter` says which. `is_kept` is false where the data has gone and only the
    history tells of it.
    """

    row: int
    received_ns: int
    sender_address: str
    user_agent: str
    services: tuple[str, ...]
    encoding: Encoding
    items: int
    deliveries: tuple[TraceDelivery, ...] = ()
    is_kept: bool = True
    dead_letter: DeadLetter | None = None
    letter_id: int = 0
    set_aside_ns: int = 0
    signal: Signal = Signal.TRACES


@dataclass(frozen=True, slots=True)
class RecentTrace:
    """One of the newest traces: its id (16 bytes) and the request that last brought spans of it."""

    trace_id: bytes
    row: int
    received_ns: int
    services: tuple[str, ...]
    sender_address: str


class RecentService(NamedTuple):
    """A service among the newest rows, as it was received last."""

    name: str
    signal: Signal
    received_ns: int
    sender_address: str


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter as kept. `is_damaged`: its own bytes are not those that were written. `hidden`
    says why its items are not shown, where they are not.
    """

    letter_id: int
    set_aside_ns: int
    letter: DeadLetter
    is_damaged: bool = False
    hidden: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant; what is left empty does not matter.

    `destination` "ingest" are spans refused on the way in. `since_ns` is when they were set aside.
    `trace` is a trace id, also one that is none, as a sender wrote it. `ids` name them one by one.
    Letters above id `until` came after somebody began to look.
    """

    destination: str = ""
    reason: str = ""
    since_ns: int = 0
    trace: str = ""
    ids: tuple[int, ...] = ()
    until: int | None = None
    signal: Signal | None = None


@dataclass(frozen=True, slots=True)
class DeadLetterEntry:
    """A dead letter without its body: what a list shows. `letter.body` is empty."""

    letter_id: int
    set_aside_ns: int
    letter: DeadLetter
    raw_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Letters in the order asked for, and after which id to go on (None: that was the end)."""

    entries: list[DeadLetterEntry]
    edge: int | None


@dataclass(frozen=True, slots=True)
class DeadLetterReplay:
    """A letter that is sent again: as `request`, to the destinations `owed_to` (None: to all)."""

    letter_id: int
    request: Request
    owed_to: frozenset[str] | None
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class KeptRows:
    """What is kept of what was asked for.

    `gone_rows` and `gone_items`: what history tells of the same time that is not kept any more;
    `kept_since_ns`: received time of the oldest row of all that is kept, 0 when nothing is.
    """

    ranges: Ranges = ()
    looked_to: int = 0  # rows above this came later
    kept_since_ns: int = 0
    gone_rows: int = 0
    gone_items: int = 0
    rows: int = 0  # that hold some of it


class OwedAgain(NamedTuple):
    """What was not owed before and is now."""

    rows: int
    items: int
    raw_bytes: int


class ReachesBack(NamedTuple):
    """Received time of the oldest row that is kept, and of the oldest that is known of; 0: none."""

    kept_ns: int
    known_ns: int


class RowsDown(NamedTuple):
    """Kept rows, newest first, and before which row to go on (0: that was the end)."""

    rows: list[StoredRow]
    before_row: int


class RowIds(NamedTuple):
    """A kept row of spans by the ids of its traces, packed, in the order in which they came."""

    row: int
    trace_ids: bytes


class IdsDown(NamedTuple):
    """The same of `RowsDown`, without bodies."""

    rows: list[RowIds]
    before_row: int


class LookBack(NamedTuple):
    """How far to look behind some rows at most: so many more, with so many ids of traces."""

    rows: int
    ids: int


NO_FURTHER: Final = LookBack(0, 0)


class RowsUp(NamedTuple):
    """Rows, oldest first, and after which row to go on."""

    rows: list[StoredRow]
    after_row: int


class Arrival(NamedTuple):
    """Requests of one sender that were kept in one row, without their bodies: when the newest came,
    how many items they hold, and their trace ids, packed, where those were asked for.
    """

    row: int
    signal: Signal
    received_ns: int
    address: str
    user_agent: str
    services: tuple[str, ...]
    items: int
    trace_ids: bytes


class Extent(NamedTuple):
    """How much is kept of a signal in some rows, and when the oldest of it was received (or 0)."""

    rows: int
    items: int
    oldest_ns: int
