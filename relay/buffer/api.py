"""The face of the log: what the rest of the relay may ask of an engine that keeps requests.

The engine of a single relay is `buffer.sqlite`; that of a fleet stands beside it. What one may lack
can be asked for and is None then:
`Log.traces` (which rows hold a trace), `Log.browse` (rows from the newest down), `Log.replays`
(rows by time or trace, owed again) and `Consumer.look_ahead` (rows before they are taken).

An engine numbers rows from 1 upwards and never uses a number twice; a place is a row and a span in
it (`Position`), and what a destination is owed are ranges of places.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, Protocol

from relay.buffer.backlog_name import BacklogName
from relay.buffer.owed_ranges import Ranges
from relay.buffer.settings import BufferSettings
from relay.buffer.values import (
    NO_FURTHER,
    Arrival,
    BacklogStatistics,
    BufferStatistics,
    DeadLetterFilter,
    DeadLetterPage,
    DeadLetterReplay,
    Extent,
    IdsDown,
    KeptRows,
    LookBack,
    OwedAgain,
    ReachesBack,
    RecentService,
    RecentTrace,
    RowsDown,
    RowsUp,
    StoredDeadLetter,
    TraceDelivery,
    TracePlace,
)
from relay.model.records import (
    DeadLetter,
    Encoding,
    Health,
    Position,
    Request,
    Sender,
    Signal,
    StoredRow,
    Taken,
)

# Where a new consumer begins. "auto": at the beginning if no destination is owed anything of its
# signal by name yet, since nothing of that counts as delivered before; else at the end.
Start = Literal["auto", "beginning", "end"]


class LookAhead(Protocol):
    """What a consumer is owed, seen before it is taken: for whoever decides about rows by what came
    after them. What is held is handed out to nobody, and owed as before. In memory only.
    """

    @property
    def last_row(self) -> int:
        """The newest row of its signal, or a later one of another."""
        ...

    def first_row(self, from_row: int) -> int:
        """The first one from there on that is owed and not parked; 0 when there is none."""
        ...

    def hold_from(self, row: int | None) -> None:
        """Hold that row and every later one, also those to come; None: hold nothing."""
        ...

    async def read(self, after_row: int, *, most_bytes: int) -> RowsUp:
        """Rows after `after_row`, oldest first; at least one, however large, if there is any.

        Damaged ones are left out. Raises BufferUnavailable.
        """
        ...

    async def changed(self) -> None:
        """Return when rows came or, while something is held, when some were settled."""
        ...


class Consumer(Protocol):
    """What one destination is owed of one signal. Everything belongs to the event loop.

    Of metrics `take` hands out the oldest alone, and nothing while an earlier one is in flight: a
    receiver refuses points that are older than those it has.
    """

    @property
    def name(self) -> str:
        """The destination's name."""
        ...

    @property
    def signal(self) -> Signal:
        """What its rows hold; those of other signals are as if they were not there."""
        ...

    @property
    def is_paused(self) -> bool:
        """Whether a command paused it: kept over restarts."""
        ...

    @property
    def has_more(self) -> bool:
        """Whether anything is owed that is neither in flight nor parked, nor held."""
        ...

    @property
    def look_ahead(self) -> LookAhead | None:
        """None: the engine cannot."""
        ...

    async def wait(self) -> None:
        """Return as soon as there is something to take. Ignores `is_paused`."""
        ...

    async def take(
        self, *, max_bytes: int, max_items: int, one_encoding: bool = True
    ) -> Taken | None:
        """The next owed rows in order, now in flight; None when there are none.

        At least one row, however large; `max_bytes` counts bodies before compression. Rows that
        are damaged become dead letters and taking goes on. Raises BufferUnavailable. Cancelled, it
        leaves nothing in flight.
        """
        ...

    async def take_newest(self, encoding: Encoding | None = None) -> Taken | None:
        """The last row that `take` would come to, alone; with `encoding` the last such row.

        None when there is none among the newest few, and always of metrics. Raises and may be
        cancelled as `take`.
        """
        ...

    async def split(self, taken: Taken, items: int) -> tuple[Taken, Taken]:
        """`taken` in two parts that stay in flight, the first of about so many spans.

        Cut between rows, inside the row where there is only one. Raises ValueError when it is a
        single span, TranscodeError when its row cannot be read. May be cancelled.
        """
        ...

    def settle(self, taken: Taken, *, status: int, at_ns: int) -> None:
        """Delivered, answered with HTTP `status`: no longer owed. Never blocks."""
        ...

    def settle_with(
        self, taken: Taken, dead: Sequence[DeadLetter], *, status: int, at_ns: int
    ) -> None:
        """As `settle`, with dead letters that are written in the same step."""
        ...

    def give_back(self, taken: Taken) -> None:
        """Not delivered: owed again, at its old place, parked no more. Changes nothing of what is
        not in flight any more.
        """
        ...

    def park(self, taken: Taken, trace_ids: bytes) -> None:
        """Not delivered: owed still, and handed out by `take_parked` alone.

        `trace_ids` are those of its spans, packed; empty when they are not known.
        """
        ...

    async def take_parked(self, place: Position) -> Taken | None:
        """What is parked at `place`, now in flight; None when that is owed no more.

        Parked it stays until it is settled or given back. Raises and may be cancelled as `take`.
        """
        ...

    def unpark(self) -> None:
        """Hand out in its turn what was parked."""
        ...

    def attach(
        self, health: Callable[[], Health], on_pause: Callable[[bool], None] | None = None
    ) -> None:
        """A courier serves it from now on; how it fares, any thread may ask by `health`.

        `on_pause` hears when `is_paused` changes by a command that another relay was given.
        """
        ...

    def detach(self) -> None:
        """No courier serves it any more: what it is owed waits."""
        ...

    def statistics(self) -> BacklogStatistics:
        """Where it stands."""
        ...


class DeadLetterReader(Protocol):
    """Dead letters, looked at. Every method raises BufferUnavailable."""

    async def newest(self, limit: int = 100) -> list[StoredDeadLetter]:
        """The newest, newest first, with their bodies."""
        ...

    async def newest_first(self, wanted: DeadLetterFilter, before: int) -> DeadLetterPage:
        """A step of those before id `before` that are meant."""
        ...

    async def oldest_first(self, wanted: DeadLetterFilter, after: int) -> DeadLetterPage:
        """A step of those after id `after` that are meant."""
        ...

    async def newest_id(self) -> int:
        """The id of the newest; 0 when there is none."""
        ...

    async def bodies(self, letter_ids: Sequence[int]) -> list[StoredDeadLetter]:
        """Those with their bodies, in that order; those that have gone are left out."""
        ...

    async def dropped(self) -> dict[str, int]:
        """How many were given up for space or age, ever, by destination."""
        ...


class DeadLetterStore(DeadLetterReader, Protocol):
    """Dead letters, and what an operator does to them."""

    async def replay(
        self, letters: Sequence[DeadLetterReplay], *, keeps: bool = False
    ) -> list[int]:
        """Put requests in the place of letters, which stay if it `keeps` them: all or nothing.

        Returns the ids of those that were there. One for a destination that was removed meanwhile
        stays. Raises BufferFull, BufferUnavailable.
        """
        ...

    async def discard(self, letter_ids: Sequence[int], *, erases: bool = False) -> list[int]:
        """Drop some for good, and with `erases` overwrite them; the ids of those that were there.

        After the last step of erasing `finish_erasing` must follow. Raises BufferUnavailable.
        """
        ...

    async def finish_erasing(self) -> Literal["", "pages", "reader"]:
        """Give up every copy of what was erased that is left in the log's own files.

        Returns what was in the way for a minute: pages that came free without an end, or somebody
        who was reading; empty when it is done. Raises BufferUnavailable.
        """
        ...


class TraceIndex(Protocol):
    """Which rows hold a trace, and what became of them. Every method raises BufferUnavailable."""

    async def find(self, trace_id: bytes, text: str = "") -> list[TracePlace]:
        """Where the trace (16 bytes) is, oldest first.

        `text` is the id as a sender may have written it, for what was refused because of it.
        """
        ...

    async def recent(self, limit: int = 50) -> list[RecentTrace]:
        """The newest distinct traces, newest first."""
        ...

    async def services(self) -> list[RecentService]:
        """The services and signals of the newest rows, the last seen first."""
        ...

    async def reaches_back(self) -> ReachesBack:
        """How far back it is known what there was."""
        ...

    async def count_kept(self, trace_ids: frozenset[bytes]) -> int:
        """How many kept rows hold spans of any of these traces."""
        ...


class Browse(Protocol):
    """Rows as whoever looks at them wants them. Every method raises BufferUnavailable."""

    @property
    def last_row(self) -> int:
        """The newest row ever kept."""
        ...

    def sender_of_rejected(self, received_ns: int) -> Sender | None:
        """Who sent a request of which items were rejected; of the newest since the start."""
        ...

    async def rows_down(
        self, signal: Signal, before_row: int, *, most_rows: int, most_bytes: int
    ) -> RowsDown:
        """Rows of a signal before `before_row`, newest first; at least one, however large.

        Damaged ones are left out.
        """
        ...

    async def ids_down(self, before_row: int, *, most_rows: int, most_ids: int) -> IdsDown:
        """Rows of spans before `before_row` by their traces, newest first: at least one, and no
        more once they hold `most_ids`.
        """
        ...

    async def arrivals(self, after_row: int, *, with_ids: bool = True) -> list[Arrival]:
        """What was kept in rows after `after_row`, oldest first, up to a thousand rows: by sender,
        `with_ids` of traces or without, which is the most of it.
        """
        ...

    async def extent(self, signal: Signal, first_row: int, last_row: int) -> Extent:
        """How much of a signal is kept in those rows (both included)."""
        ...

    async def rows_of_traces(
        self,
        trace_ids: frozenset[bytes],
        first_row: int,
        last_row: int,
        back: LookBack = NO_FURTHER,
    ) -> dict[bytes, list[int]]:
        """Kept rows of spans among those (both included) that hold each trace, lowest first; and
        among some before `first_row`.
        """
        ...

    async def deliveries(
        self, rows_by_trace: Mapping[bytes, Sequence[int]]
    ) -> dict[bytes, list[TraceDelivery]]:
        """What became of the spans of each trace in those rows, by destination and request."""
        ...


class ReplayIndex(Protocol):
    """Rows that are kept, found by time or trace and owed again to one backlog."""

    async def since(self, since_ns: int, signal: Signal) -> KeptRows:
        """Rows of a signal received at `since_ns` or later. Raises BufferUnavailable."""
        ...

    async def of_trace(self, trace_id: bytes, signal: Signal) -> KeptRows:
        """What of a signal is of a trace (16 bytes), and nothing else of the rows that hold it."""
        ...

    async def not_owed(self, key: BacklogName, kept: KeptRows) -> Ranges:
        """What of it that backlog is not owed already. Raises BufferUnavailable."""
        ...

    async def owe(self, key: BacklogName, kept: KeptRows, *, is_dry_run: bool) -> OwedAgain | None:
        """Owe to that backlog what of it is not owed already; it is safe when this returns.

        With `is_dry_run` only say what that would be. None: the destination was removed meanwhile.
        One at a time: each counts what the other would. Raises BufferUnavailable.
        """
        ...

    async def begin(self, key: BacklogName, since_ns: int) -> None:
        """Make a new consumer begin with what was received at `since_ns` or later.

        Nothing for one that is known. Raises BufferUnavailable.
        """
        ...


class Log(Protocol):
    """Keeps requests until every destination has had them."""

    @property
    def settings(self) -> BufferSettings:
        """As they hold now."""
        ...

    @property
    def dead_letters(self) -> DeadLetterStore:
        """What could not be delivered."""
        ...

    @property
    def traces(self) -> TraceIndex | None:
        """None: the engine has none."""
        ...

    @property
    def browse(self) -> Browse | None:
        """None: the engine cannot."""
        ...

    @property
    def replays(self) -> ReplayIndex | None:
        """None: the engine cannot."""
        ...

    async def append(self, request: Request) -> None:
        """Return when `request` is kept; all of it or nothing.

        Raises BufferFull or BufferUnavailable: then nothing of it was kept, as far as is known.
        """
        ...

    def consumer(
        self, destination: str, start: Start = "auto", *, signal: Signal = Signal.TRACES
    ) -> Consumer:
        """The consumer of one signal for a destination, made if it is new.

        Then it begins at `start`, paused if the destination is. So does one that `owe_only` closed,
        with what it is owed still.
        """
        ...

    def consumers(self) -> Mapping[BacklogName, Consumer]:
        """Every backlog of a destination, also of those gone from the config."""
        ...

    async def find_oldest(self) -> None:
        """Let `Consumer.statistics` be right about the oldest of what is owed.

        Raises BufferUnavailable.
        """
        ...

    def owe_only(self, wanted: Collection[BacklogName]) -> None:
        """Owe what comes to these from now on and to no other; those keep what they are owed.

        Of a signal that none of these gets it is kept for the first consumer to come.
        """
        ...

    async def set_paused(self, destination: str, *, is_paused: bool) -> None:
        """Keep for all signals of a destination whether a command paused it, over restarts, too.

        Returns when that is safe. Raises BufferUnavailable.
        """
        ...

    async def remove(self, destination: str, signal: Signal | None = None) -> bool:
        """Drop what a destination is owed, of all signals or of one, for good. Dead letters stay.

        Returns when that is safe: whether there was such a destination. Raises BufferUnavailable.
        """
        ...

    async def read_rows(self, rows: Iterable[int]) -> list[StoredRow]:
        """Those of `rows` that are kept and whole, in order. Raises BufferUnavailable."""
        ...

    def age_ns(self, row: StoredRow) -> int:
        """How long ago `row` was received, whatever the wall clock did meanwhile."""
        ...

    def statistics(self) -> BufferStatistics:
        """The log at this moment; no waiting."""
        ...

    async def flush(self) -> None:
        """Return when everything that was settled is safe. Raises BufferUnavailable."""
        ...

    def reload(self, settings: BufferSettings) -> None:
        """Take up `settings`."""
        ...

    async def wait_failed(self) -> None:
        """Never return; raise what the engine died of: then the process must end."""
        ...

    async def close(self) -> None:
        """Commit what waits, then end; safe twice."""
        ...
