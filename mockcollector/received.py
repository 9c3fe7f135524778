"""A request as it arrived and what became of it, as an object that tests read.

Times named unix are nanoseconds since the epoch. A `repr` shows header names, never values.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mockcollector.content import header_values
from mockcollector.decoding import read_again, read_message
from mockcollector.items import (
    Acceptance,
    ReceivedDataPoint,
    ReceivedItem,
    ReceivedLogRecord,
    ReceivedSpan,
    flatten,
)
from mockcollector.json_plain_view import PlainView
from mockcollector.matching import ABSENT, is_match
from mockcollector.neutral import printable
from mockcollector.rules import Encoding
from mockcollector.signals import TRAITS, Request, Signal


@dataclass(slots=True, eq=False)
class ReceivedRequest:
    """One request, whatever became of it.

    `status` is None until it is answered, and stays so where no answer was given; `answer` says
    in a word what was done (`200`, `503`, `partial 3`, `hang`, `cut`, `client left`, …) and
    `reason` why it was refused. `wire_bytes` is the body as it came, `decoded_bytes` unpacked.
    `signal` is None where the path takes none.
    `unknown_keys` are paths of JSON keys that OTLP does not know, `flaws` places and what no sender
    may do there though receivers take it (`validity`).
    `connection` counts the collector's connections from 1, `nth_on_connection` the requests on that
    one; `peer` is host:port of the other end,
    `tls_subject` that of the client's certificate. `began_ns`, `read_ns` and `settled_ns` are when
    its head had come, when its body had, and when its answer was decided, by `time.monotonic_ns`;
    0 where it did not come to that. `announced_bytes` is its Content-Length, of which `wire_bytes`
    were read.
    `services` (with the number of their items) and `names` of the first items are None where only
    the items tell. `has_contents` says that body, message and items are kept; the last two are made
    from the body when they are asked for.
    `read` is what the body was read into, until the request is settled, and only where somebody
    waits for an item.
    `is_plain` says that the body is JSON as `json_plain` reads it.
    `is_rule_broken` says that it was refused for what it was, not by the script.
    `is_complete` turns false when the journal gave up body, message and items for space.
    """

    received_unix_nano: int
    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    number: int = 0
    signal: Signal | None = None
    encoding: Encoding | None = None
    content_encoding: str = "identity"
    connection: int = 0
    nth_on_connection: int = 0
    peer: str = ""
    http_version: str = "1.1"
    tls_version: str = ""
    tls_subject: str = ""
    began_ns: int = 0
    read_ns: int = 0
    settled_ns: int = 0
    announced_bytes: int | None = None
    wire_bytes: int = 0
    decoded_bytes: int = 0
    body: bytes = b""
    has_contents: bool = False
    is_plain: bool = False
    unknown_keys: tuple[str, ...] = ()
    flaws: tuple[str, ...] = ()
    span_ids: bytes = field(default=b"", repr=False)
    item_count: int = 0
    services: list[tuple[str, int]] | None = None
    names: list[str] | None = None
    acceptance: Acceptance = field(default_factory=Acceptance, repr=False)
    accepted_count: int = 0
    status: int | None = None
    answer: str = ""
    reason: str = ""
    is_rule_broken: bool = False
    is_complete: bool = True
    _body_hash: int | None = field(default=None, repr=False)
    _message: Request | None = field(default=None, repr=False)
    _items: tuple[ReceivedItem, ...] | None = field(default=None, repr=False)
    read: Request | PlainView | None = field(default=None, repr=False)
    on_unpacked: Callable[["ReceivedRequest"], None] | None = field(default=None, repr=False)

    @property
    def message(self) -> Request | None:
        """The official message, read from the body when it is asked for; None where none is kept.

        It is the same one until it is given up for space; `raw` of each item is a part of it.
        """
        if self._message is None and self.has_contents and self.encoding and self.signal:
            self._message = read_message(
                self.body, self.encoding, self.signal, is_plain=self.is_plain
            )
            if self.on_unpacked is not None:
                self.on_unpacked(self)
        return self._message

    @property
    def items(self) -> tuple[ReceivedItem, ...]:
        """Its spans, log records or data points, made when they are asked for."""
        items = self._items
        if items is None:
            message = self.message
            if message is None:
                return ()
            items = self._items = flatten(message, self.number, self.acceptance)
        return items

    def matching(
        self, holds: Callable[[ReceivedItem], bool], places: Collection[int] | None = None
    ) -> Iterator[ReceivedItem]:
        """Its items for which this holds, of those at these places or of all.

        Where there are none, nothing is made of the body that stays in memory.
        """
        items = self._items or self._items_to_look_at()
        for at in range(len(items)) if places is None else places:
            if holds(items[at]):
                yield self.items[at]

    def _items_to_look_at(self) -> tuple[ReceivedItem, ...]:
        read = self.read or self._message
        if read is None and self.has_contents and self.encoding and self.signal:
            read = read_again(self.body, self.encoding, self.signal, is_plain=self.is_plain)
        return () if read is None else flatten(read, self.number, self.acceptance)

    @property
    def body_hash(self) -> int:
        """The same for the same decoded body within this process, also once it is given up."""
        return hash(self.body) if self._body_hash is None else self._body_hash

    def note_headers(self) -> None:
        """Take note of what its headers say of the body, also if it is refused unread."""
        codings = ",".join(header_values(self.headers, "content-encoding")).strip().lower()
        self.content_encoding = codings or "identity"
        lengths = header_values(self.headers, "content-length")
        if len(lengths) == 1 and lengths[0].isdecimal():
            self.announced_bytes = int(lengths[0])

    @property
    def spans(self) -> tuple[ReceivedSpan, ...]:
        """Its spans; none where it is of another signal."""
        return tuple(item for item in self.items if isinstance(item, ReceivedSpan))

    @property
    def log_records(self) -> tuple[ReceivedLogRecord, ...]:
        """Its log records; none where it is of another signal."""
        return tuple(item for item in self.items if isinstance(item, ReceivedLogRecord))

    @property
    def data_points(self) -> tuple[ReceivedDataPoint, ...]:
        """Its data points, of all metrics; none where it is of another signal."""
        return tuple(item for item in self.items if isinstance(item, ReceivedDataPoint))

    @property
    def span_count(self) -> int:
        """How many spans it has; they may be forgotten, or not kept at all."""
        return self.counted(Signal.TRACES)[0]

    @property
    def accepted_spans(self) -> int:
        """How many of them were accepted."""
        return self.counted(Signal.TRACES)[1]

    def counted(self, signal: Signal) -> tuple[int, int]:
        """How many items of this signal it has, and how many of them were accepted."""
        return (self.item_count, self.accepted_count) if self.signal is signal else (0, 0)

    def header(self, name: str) -> str | None:
        """The value of a header, several joined by a comma; None where it was not sent."""
        values = header_values(self.headers, name.lower())
        return ", ".join(values) if values else None

    @property
    def header_names(self) -> tuple[str, ...]:
        """The names of all headers, lower case, in order of arrival."""
        return tuple(name for name, _ in self.headers)

    def has_headers(self, wanted: str | Mapping[str, Any]) -> bool:
        """Whether a header is there, or all of a mapping with these values, patterns or ABSENT."""
        if isinstance(wanted, str):
            return self.header(wanted) is not None
        return all(
            is_match(value, ABSENT if found is None else found)
            for name, value in wanted.items()
            for found in [self.header(name)]
        )

    def pack(self) -> None:
        """Give up message and items; the body stays, from which they are made anew."""
        self._message = None
        self._items = None

    def forget_contents(self) -> None:
        """Give up what takes space; what was counted stays."""
        self._body_hash = hash(self.body)
        self.pack()
        self.body = b""
        self.has_contents = False
        self.span_ids = b""
        self.is_complete = False

    def __repr__(self) -> str:
        counted = TRAITS[self.signal or Signal.TRACES].counted(self.item_count)
        return printable(
            f"<request {self.number} {self.method} {self.path}"
            f" {self.encoding or 'unknown encoding'} {counted}"
            f" → {self.answer or 'not answered yet'}, headers {', '.join(self.header_names)}>"
        )
