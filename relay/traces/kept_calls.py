"""Looks through what is kept for what models and agents did: newest first, in bounded steps.

Rows are read and decoded off the event loop, one look at a time, and how far it came is told: a
look ends when its time is over, when it has seen as many bytes or as many steps as it may.
"""

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import anyio
import anyio.to_thread

from relay.buffer.api import Log
from relay.buffer.values import rows_at_once
from relay.genai.counted import counted
from relay.genai.rows import steps_of
from relay.genai.steps import Step
from relay.genai.summary import groups_of, summary_of
from relay.genai.timeline import timeline_of
from relay.model.records import StoredRow
from relay.model.units import iso

ReadRows = Callable[[Iterable[int]], Awaitable[list[StoredRow]]]

SECONDS: Final = 3.0
MOST_SECONDS: Final = 25.0
MOST_STEPS: Final = 20_000
MOST_STEPS_IN_USE: Final = 10_000  # a step takes about two kB while its sums are made
MOST_BYTES: Final = 512 * 1024 * 1024
# Looking takes a tenth of the time at most, for those who take an older answer.
_DEAR_TIMES: Final = 10
_MOST_ANSWERS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for. `since_ns`: received then or later. `session` empty: of all."""

    since_ns: int = 0
    by: str = "model"
    session: str = ""
    show_personal: bool = False
    seconds: float = SECONDS


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows that there are, and what reads them. `is_in_use`: senders are served meanwhile."""

    read: ReadRows
    first_row: int
    last_row: int
    is_in_use: bool = False


@dataclass(slots=True)
class Looked:
    """What was found, and how far back: all rows received since `back_to_ns` were seen.

    `ended` says why it went no further; empty: there was no more to see.
    """

    steps: list[Step] = field(default_factory=list)
    rows: int = 0
    items: int = 0
    bytes: int = 0
    back_to_ns: int = 0
    ended: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "rows": self.rows,
            "items": self.items,
            "back_to": iso(self.back_to_ns),
            "is_complete": not self.ended,
            "ended": self.ended,
        }


class KeptCalls:
    """Answers for a running buffer, one question after another."""

    def __init__(self, buffer: Log) -> None:
        self._buffer = buffer
        self._one_at_a_time = anyio.Lock()
        self._answers: dict[Asked, _Answer] = {}

    async def answer(self, asked: Asked, *, most_seconds_old: float = 0.0) -> dict[str, Any]:
        """As `answer_of`; or one that was given before and is not older, where nothing has come
        since or a new one would cost too much: `as_of` tells then when. Raises BufferUnavailable.
        """
        async with self._one_at_a_time:
            statistics = self._buffer.statistics()
            rows = statistics.first_row, statistics.last_row
            kept = Kept(self._buffer.read_rows, *rows, is_in_use=True)
            if not most_seconds_old:
                return await answer_of(kept, asked)
            began = time.monotonic()
            known = self._answers.pop(asked, None)
            if known is None or not known.is_good(rows, began - most_seconds_old):
                document = {**await answer_of(kept, asked), "as_of": iso(time.time_ns())}
                known = _Answer(document, rows, time.monotonic(), time.monotonic() - began)
            self._answers[asked] = known  # last: the one asked for longest ago leaves first
            if len(self._answers) > _MOST_ANSWERS:
                del self._answers[next(iter(self._answers))]
            return known.document


@dataclass(frozen=True, slots=True)
class _Answer:
    """One that was given, of which rows, and how long it took."""

    document: dict[str, Any]
    rows: tuple[int, int]
    at: float
    seconds: float

    def is_good(self, rows: tuple[int, int], since: float) -> bool:
        """Whether it may be given again, if it is not from before `since`."""
        is_dear = time.monotonic() - self.at < self.seconds * _DEAR_TIMES
        return self.at >= since and (self.rows == rows or is_dear)


async def answer_of(kept: Kept, asked: Asked) -> dict[str, Any]:
    """The summary of what is kept and its groups, or of a session its timeline.

    Of a session that nothing is known of only `looked`. Raises what reading does.
    """
    looked = await look(kept, asked)
    document = await anyio.to_thread.run_sync(partial(_document, looked.steps, asked))
    return {**document, "since": iso(asked.since_ns), "looked": looked.document()}


def _document(steps: list[Step], asked: Asked) -> dict[str, Any]:
    found = counted(steps)
    if asked.session:
        return timeline_of(found, asked.session) or {}
    return {**summary_of(found), **groups_of(found, asked.by)}


async def look(kept: Kept, asked: Asked) -> Looked:
    """Look through rows, the newest first. Raises what reading does."""
    looked = Looked()
    deadline = time.monotonic() + asked.seconds
    most = MOST_STEPS_IN_USE if kept.is_in_use else MOST_STEPS
    end = kept.last_row
    rows: list[StoredRow] = []
    while end >= kept.first_row > 0:
        if end < kept.last_row and (ended := _limit_met(looked, deadline, most)):
            looked.ended = ended
            break
        began = time.monotonic()
        first = max(kept.first_row, end - rows_at_once(rows) + 1)
        rows = await kept.read(range(first, end + 1))
        meant = [row for row in rows if row.received_ns >= asked.since_ns]
        looked.steps += await anyio.to_thread.run_sync(
            partial(steps_of, meant, show_personal=asked.show_personal)
        )
        looked.rows += len(meant)
        looked.items += sum(row.items for row in meant)
        looked.bytes += sum(len(row.body) for row in meant)
        looked.back_to_ns = min((row.received_ns for row in meant), default=looked.back_to_ns)
        if rows and not meant:
            break  # what is below came earlier still
        end = first - 1
        if kept.is_in_use:  # half of the time belongs to them
            await anyio.sleep(time.monotonic() - began)
    return looked


def _limit_met(looked: Looked, deadline: float, most_steps: int) -> str:
    if time.monotonic() > deadline:
        return "time"
    if len(looked.steps) >= most_steps:
        return f"{most_steps:,} steps"
    return "size" if looked.bytes >= MOST_BYTES else ""
