"""Doubles of delivery: rows, settings, a backlog in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from relay.config import DestinationConfig
from relay.model.records import (
    BodyFlag,
    DeadLetter,
    Encoding,
    OwedRange,
    Position,
    Signal,
    StoredRow,
    Taken,
)
from relay.otlp.transcode import TranscodeError


def make_row(
    number: int = 1,
    body: bytes = b'{"scopeSpans":[]}',
    *,
    encoding: Encoding = Encoding.JSON,
    flags: BodyFlag = BodyFlag.NONE,
    spans: int = 1,
) -> StoredRow:
    return StoredRow(number, 1000 + number, encoding, flags, spans, body)


@pytest.fixture
def row() -> Callable[..., StoredRow]:
    return make_row


def make_settings(endpoint: str = "http://127.0.0.1:1/v1/traces", **changes: object) -> object:
    return DestinationConfig(name="axiom", endpoint=endpoint, **changes)  # type: ignore[arg-type]


@pytest.fixture
def settings() -> Callable[..., DestinationConfig]:
    return make_settings  # type: ignore[return-value]


def note_closed(monkeypatch: pytest.MonkeyPatch, upstream: Any) -> anyio.Event:
    """Set once `upstream` is closed, as a real one is: not before others had a turn."""
    closed = anyio.Event()

    async def aclose() -> None:
        await anyio.lowlevel.checkpoint()
        closed.set()

    monkeypatch.setattr(upstream, "aclose", aclose)
    return closed


def taken_of(*rows: StoredRow) -> Taken:
    return Taken(rows, tuple(OwedRange(Position(r.row), Position(r.row + 1)) for r in rows))


@dataclass
class MemoryBacklog:
    """What a destination is owed, in a list: the interface that a courier is given."""

    name: str = "axiom"
    signal: Signal = Signal.TRACES
    owed: list[StoredRow] = field(default_factory=list)
    settled: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    flying: set[int] = field(default_factory=set)
    given_back: int = 0
    waiting: bool = False
    take_errors: list[Exception] = field(default_factory=list)
    settle_errors: list[Exception] = field(default_factory=list)
    _news: anyio.Event = field(default_factory=anyio.Event)
    changed: anyio.Event = field(default_factory=anyio.Event)

    def add(self, *rows: StoredRow) -> None:
        self.owed.extend(rows)
        self._news.set()

    async def wait(self) -> None:
        self.waiting = True
        self._changed()
        try:
            await self._news.wait()
        finally:
            self.waiting = False
        self._news = anyio.Event()

    @property
    def in_flight(self) -> int:
        return len(self.flying)

    async def take(self, *, max_bytes: int, max_items: int, one_encoding: bool) -> Taken | None:
        if self.take_errors:
            raise self.take_errors.pop(0)
        rows: list[StoredRow] = []
        for row in self.owed:
            if rows and one_encoding and row.encoding is not rows[0].encoding:
                break
            if rows and sum(r.items for r in rows) + row.items > max_items:
                break
            if rows and sum(len(r.body) for r in rows) + len(row.body) > max_bytes:
                break
            rows.append(row)
        if not rows:
            return None
        self.owed = self.owed[len(rows) :]
        self.flying.update(row.row for row in rows)
        return taken_of(*rows)

    @property
    def has_more(self) -> bool:
        return bool(self.owed)

    async def take_newest(self, encoding: Encoding | None = None) -> Taken | None:
        fitting = [row for row in self.owed if encoding in (None, row.encoding)]
        if not fitting:
            return None
        self.owed.remove(fitting[-1])
        self.flying.add(fitting[-1].row)
        return taken_of(fitting[-1])

    async def split(self, taken: Taken, spans: int) -> tuple[Taken, Taken]:
        """At the border of rows only: what goes on inside a row is the buffer's."""
        if len(taken.rows) == 1:
            raise TranscodeError("a row of this double cannot be cut")
        count = 1
        while count < len(taken.rows) - 1 and (
            sum(row.items for row in taken.rows[: count + 1]) <= spans
        ):
            count += 1
        return taken_of(*taken.rows[:count]), taken_of(*taken.rows[count:])

    def settle(self, taken: Taken, *, status: int, at_ns: int) -> None:
        self.settle_with(taken, (), status=status, at_ns=at_ns)

    def settle_with(
        self, taken: Taken, dead: Sequence[DeadLetter], *, status: int, at_ns: int
    ) -> None:
        if self.settle_errors:
            raise self.settle_errors.pop(0)
        assert at_ns > 0
        self.settled.extend(row.row for row in taken.rows)
        self.statuses.extend(status for _ in taken.rows)
        self.dead.extend(dead)
        self.flying.difference_update(row.row for row in taken.rows)
        self._changed()

    def give_back(self, taken: Taken) -> None:
        rows = {row.row for row in taken.rows}
        if not rows <= self.flying:
            return
        self.flying -= rows
        self.owed = sorted([*taken.rows, *self.owed], key=lambda row: row.row)
        self.given_back += 1
        self._changed()

    def _changed(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


@pytest.fixture
async def backlog() -> MemoryBacklog:
    return MemoryBacklog()


@pytest.fixture
async def other_backlog() -> MemoryBacklog:
    return MemoryBacklog(name="other")
