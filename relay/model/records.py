"""The values that travel between the stages. A leaf: it knows no stage.

Those that each request makes are structs: a frozen dataclass takes seven times as long to make.
Units are in the names; times are nanoseconds since the epoch unless a name says otherwise.
"""

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from relay.model.hosts import network_of


class Encoding(enum.IntEnum):
    """The two encodings of OTLP/HTTP. The numbers are on disk: never renumber."""

    media_type: str
    """The bare media type, the only form that every peer takes (no parameters)."""

    JSON = 1
    PROTOBUF = 2

    __hash__ = int.__hash__  # in C: tables by encoding and by signal are asked in every request


# Attributes rather than a property: they are read several times a request.
Encoding.JSON.media_type = "application/json"
Encoding.PROTOBUF.media_type = "application/x-protobuf"


class Signal(enum.IntEnum):
    """What a row holds. The numbers are on disk: never renumber."""

    word: str
    """What configuration, commands and labels call it."""
    item: str
    """What people call one of its items; more than one have an s."""

    TRACES = 1
    LOGS = 2
    METRICS = 3

    __hash__ = int.__hash__

    @classmethod
    def of(cls, word: str) -> "Signal":
        """The signal of that word. Raises KeyError."""
        return cls[word.upper()]


for _signal, _item in zip(Signal, ("span", "log record", "data point"), strict=True):
    _signal.word, _signal.item = _signal.name.lower(), _item


class BodyFlag(enum.IntFlag):
    """What a courier must know of a body without reading it. On disk: never renumber."""

    NONE = 0
    SPECIAL_DOUBLES = 1  # an attribute is NaN or ±Infinity (D15)
    DEEP = 2  # nested deeper than 30 levels: must be folded for protobuf upstreams (D5)
    RELAYED = 4  # it came through other relays, and says through which


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a request.

    `is_local` is true only for a loopback peer whose request shows no proxy in between
    (no Forwarded, X-Forwarded-*, Via, X-Real-IP or CF-* header): a tunnel's peer is loopback too.
    `hops` are the ids of the relays that the request came through, comma-separated. `token` is the
    digest of the token that was asked for, empty where none was.
    """

    address: str
    is_local: bool = False
    user_agent: str = ""
    is_connection_test: bool = False
    hops: str = ""
    token: str = ""

    @property
    def account(self) -> str:
        """Whose share of memory and time it counts in: the token's, else the network's."""
        return self.token or network_of(self.address)


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A part of one request, ready for the disk: checked, enriched, in normal form.

    `body` is a fragment that concatenates: for JSON the comma-joined entries of `resourceSpans`,
    for protobuf the encoded `resource_spans` fields. `trace_ids` are the distinct ids, 16 bytes
    each, packed.
    """

    encoding: Encoding
    body: bytes
    items: int
    trace_ids: bytes
    services: tuple[str, ...] = ()
    flags: BodyFlag = BodyFlag.NONE
    signal: Signal = Signal.TRACES


@dataclass(frozen=True, slots=True)
class RejectedItem:
    """What check refused: a span, a log record, or a metric with those of its points.

    `body` is a fragment as in `Piece`, holding that alone; `items` is how many items it is about.
    `reason` is a stable code such as `trace_id_zero`; `path` names the place as the sender wrote
    it, such as `resourceSpans[0].scopeSpans[0].spans[4].traceId`, of several items the first;
    `trace_id` is the text or the hex of what stood there, cut at 128 characters, for `where`.

    With `body_unreadable` it is a whole body as it came, the beginning of it: `path` says of how
    much, and `trace_id` why it cannot be read.
    """

    reason: str
    path: str
    trace_id: str
    encoding: Encoding
    body: bytes
    items: int = 1
    signal: Signal = Signal.TRACES


class Request(msgspec.Struct, frozen=True, gc=False):
    """One accepted request on its way to the disk: all of it is committed, or nothing."""

    pieces: tuple[Piece, ...]
    sender: Sender
    received_ns: int
    rejected: tuple[RejectedItem, ...] = ()


@dataclass(frozen=True, slots=True)
class SenderResponse:
    """What the sender is told; `otlp.responses` puts it into the sender's encoding.

    200 with neither `rejected_items` nor `message` is full success. 200 with a message and
    nothing rejected is a warning. Everything else carries a google.rpc.Status.
    """

    status: int = 200
    message: str = ""
    rejected_items: int = 0
    grpc_code: int = 0


SUCCESS: Final = SenderResponse()
"""Everything was kept and there is nothing to say."""


def longest_way(ways: Iterable[str]) -> str:
    """Of ways through relays the one with the most of them.

    One way, not all ids together: a relay in front of forty others would otherwise look like a
    loop. Spans that go in a circle have the longest way sooner or later.
    """
    return max(ways, key=lambda way: way.count(",") + bool(way), default="")


class Position(NamedTuple):
    """A place in the log: span number `item` (from 0) of row `row`. Rows start at 1."""

    row: int
    item: int = 0


class OwedRange(NamedTuple):
    """Half-open: `start` is owed, `end` is not. `end` None is open: every row to come, too."""

    start: Position
    end: Position | None


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as read back: its checksum was right. `body` is unzipped, a fragment as in `Piece`.

    Where only a part of a row is owed, that part: `spans` spans from number `first_item` on.
    `hops` is the longest way through relays that any of its requests came. `monotonic_ns` is its
    received time by the clock of the host's uptime, which says something during that uptime only.
    """

    row: int
    received_ns: int
    encoding: Encoding
    flags: BodyFlag
    items: int
    body: bytes
    first_item: int = 0
    hops: str = ""
    monotonic_ns: int = 0
    signal: Signal = Signal.TRACES


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Items that are not delivered, with the reason. `destination` empty: refused on the way in.

    `reason` is a stable code (`trace_id_zero`, `upstream_partial`, `damaged_on_disk`, …); `words`
    is what was said, verbatim but masked; `status` the HTTP status or 0; `items` how many spans
    `body` holds, `affected` how many of them it is about (a partial success says N of M).
    """

    destination: str
    reason: str
    words: str
    items: int
    encoding: Encoding
    body: bytes
    status: int = 0
    affected: int = 0
    path: str = ""
    trace_ids: bytes = b""
    row: int = 0
    received_ns: int = 0
    signal: Signal = Signal.TRACES


@dataclass(slots=True)
class Taken:
    """Rows of one signal that a courier holds: in flight until settled or given back."""

    rows: tuple[StoredRow, ...]
    ranges: tuple[OwedRange, ...]
    items: int = field(init=False)  # in all rows

    def __post_init__(self) -> None:
        self.items = sum(row.items for row in self.rows)

    @property
    def signal(self) -> Signal:
        """What its rows hold; there is always one."""
        return self.rows[0].signal


@dataclass(frozen=True, slots=True)
class Health:
    """What the buffer must know of a destination when space is short.

    `failing_since_ns` is 0 while it is healthy, else the wall clock when it began to wait, to be
    blocked or to be paused. `hold_ns` is how long rows are held for it then; None is for ever.
    `last_success_ns` is 0 until something was delivered since the start.
    """

    failing_since_ns: int = 0
    hold_ns: int | None = None
    last_success_ns: int = 0


class DestinationState(enum.StrEnum):
    """What a courier is doing, as status, metrics and the page say it."""

    IDLE = "idle"  # everything it is owed has been delivered, but for what is parked
    DELIVERING = "delivering"
    WAITING = "waiting"  # upstream is away or asks for patience; it is retried automatically
    BLOCKED = "blocked"  # upstream refuses; kept and probed, somebody should look
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class ParkedSpan:
    """A span that an upstream answers 500 to, or nothing, while it takes others: they go first.

    It stays owed. `said` is how the upstream answered, masked; `tries` how often it was tried alone
    since; `trace_ids` packed, empty where they are not known. More spans than one are a row that
    cannot be cut.
    """

    place: Position
    items: int
    said: str
    trace_ids: bytes
    tries: int = 0
    next_try_ns: int = 0


@dataclass(slots=True)
class DestinationStatus:
    """A courier's own account of itself: of one destination, and one signal.

    Header names are shown, values never.
    """

    name: str
    endpoint: str
    encoding: str = "auto"
    header_names: tuple[str, ...] = ()
    state: DestinationState = DestinationState.IDLE
    reason: str = ""  # one sentence, with the upstream's own words, masked
    since_ns: int = 0
    failing_since_ns: int = 0  # when it left idle and delivering; 0: it is healthy
    next_try_ns: int = 0
    last_success_ns: int = 0
    last_status: int = 0
    requests: int = 0
    delivered_items: int = 0
    refused_items: int = 0
    in_flight_items: int = 0
    consecutive_failures: int = 0
    warnings: list[str] = field(default_factory=list)
    signal: Signal = Signal.TRACES
    parked: tuple[ParkedSpan, ...] = ()
    held_items: int = 0  # of what it is owed, those that wait for the rest of their traces
    overflowed_traces: int = 0  # worth keeping whole, and more than are remembered by their ids
    # By step, of what was settled since the start: items that were not for it, and those that were
    # changed on their way.
    filtered_items: Counter[str] = field(default_factory=Counter)
    changed_items: Counter[str] = field(default_factory=Counter)
    # By step: for how many items its condition could not be told under the present settings (tries
    # included), and why for the first of them.
    failed_conditions: dict[str, int] = field(default_factory=dict)
    condition_words: dict[str, str] = field(default_factory=dict)
