"""What parts tell about themselves: values for status, metrics, `where` and tests. A leaf."""

from dataclasses import dataclass, field

from relay.model.records import DeadLetter, Encoding


@dataclass(frozen=True, slots=True)
class LetterCount:
    """How many dead letters there are and the bytes they use on disk."""

    count: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SetAside:
    """A file that could not be used and lies beside the buffer's own. `state`: "waits", "being
    read back" or "read back"; then `may_be_removed`, and `words` say what came of it.
    """

    file: str
    state: str
    rows: int  # read back so far
    spans: int
    words: str
    may_be_removed: bool


@dataclass(frozen=True, slots=True)
class BufferStatistics:
    """The buffer at this moment. Sizes are bytes on disk, times nanoseconds since the epoch."""

    rows: int
    spans: int
    first_row: int  # 0 when nothing is kept
    last_row: int  # the newest row ever written, also when it has gone
    database_bytes: int  # pages in use
    wal_bytes: int
    reserve_bytes: int
    max_size_bytes: int
    file_system_free_bytes: int
    oldest_received_ns: int  # 0 when nothing is kept
    dead_letters: dict[str, LetterCount]  # by destination; "" were refused on the way in
    dead_letters_dropped: int  # given up for space or age, ever
    is_writable: bool
    is_full: bool
    last_error: str
    last_commit_seconds: float
    stalled_seconds: float  # how long the disk has kept the writer by now, else 0.0
    is_stalled: bool = False  # so long that new requests are refused
    limit: str = ""  # while full: which limit, and what to do about it
    owed_rows: int = 0  # that some destination has not had, each once; seconds old
    owed_spans: int = 0
    owed_disk_bytes: int = 0  # their share of the pages in use, about
    full_in_seconds: float | None = None  # at the present rate; None: it is not filling
    evicted_spans: dict[str, int] = field(default_factory=dict)  # by destination, since ever
    set_aside: tuple[SetAside, ...] = ()

    @property
    def disk_bytes(self) -> int:
        """What counts against `max_size`."""
        return self.database_bytes + self.wal_bytes + self.reserve_bytes


@dataclass(frozen=True, slots=True)
class BacklogStatistics:
    """What one destination is owed. What is in flight is owed too, until it is settled."""

    name: str
    owed_spans: int
    owed_rows: int
    owed_bytes: int  # before compression
    oldest_owed_ns: int  # received time of the oldest row owed; 0 when nothing is
    in_flight_spans: int
    is_paused: bool
    is_attached: bool  # False: known from disk, no courier of this process asked for it


def packed_index(trace_ids: bytes, trace_id: bytes) -> int | None:
    """Which of the packed 16-byte ids is `trace_id`; None when none is."""
    at = trace_ids.find(trace_id)
    while at >= 0 and at % 16:
        at = trace_ids.find(trace_id, at + 1)
    return None if at < 0 else at // 16


def holds_trace(trace_ids: bytes, trace_id: bytes) -> bool:
    """Whether packed ids of 16 bytes have this one; none at all may be any."""
    return not trace_ids or packed_index(trace_ids, trace_id) is not None


@dataclass(frozen=True, slots=True)
class TraceDelivery:
    """Where a request of a trace is for one destination.

    `state`: "waiting" (also in flight), "delivered", "set_aside" (settled with another status
    than 2xx), "evicted" (it had to give way undelivered) or "not_owed" (the destination began
    after it). `at_ns` and `status` are 0 for "waiting" and "not_owed". Deliveries within a second
    share the later time, within a minute where they are older than an hour. `is_deferred`: others
    go first, it is tried alone.
    """

    destination: str
    state: str
    at_ns: int = 0
    status: int = 0
    is_in_flight: bool = False
    is_deferred: bool = False


@dataclass(frozen=True, slots=True)
class TracePlace:
    """One request (or piece of a large one) that holds spans of a trace.

    `spans` counts the whole piece, of this trace and others. Without a `row` the place is a dead
    letter: `dead_letter` says which. `is_kept` is false where the data has gone and only the
    history tells of it.
    """

    row: int
    received_ns: int
    sender_address: str
    user_agent: str
    services: tuple[str, ...]
    encoding: Encoding
    spans: int
    deliveries: tuple[TraceDelivery, ...] = ()
    is_kept: bool = True
    dead_letter: DeadLetter | None = None
    letter_id: int = 0
    set_aside_ns: int = 0


@dataclass(frozen=True, slots=True)
class RecentTrace:
    """One of the newest traces: its id (16 bytes) and the request that last brought spans of it."""

    trace_id: bytes
    row: int
    received_ns: int
    services: tuple[str, ...]
    sender_address: str


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter as kept. `is_damaged`: its own bytes are not those that were written."""

    letter_id: int
    set_aside_ns: int
    letter: DeadLetter
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class LetterFilter:
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


@dataclass(frozen=True, slots=True)
class LetterEntry:
    """A dead letter without its body: what a list shows. `letter.body` is empty."""

    letter_id: int
    set_aside_ns: int
    letter: DeadLetter
    raw_bytes: int
    stored_bytes: int
