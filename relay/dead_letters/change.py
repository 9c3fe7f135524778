"""What an operator asks about dead letters in; the buffer's answers and changes out, in steps.

Every call does one step of some milliseconds and says where to go on: whoever asks (the CLI, the
page) shows how far it is and may stop at any time; what is done stays done. A step is one
transaction, so after a crash a letter is either still there or owed again, never both.

Replayed rows are new for `max_age` and `keep_delivered` (a person wants them sent now), while
`where` still tells when their spans were first received.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import anyio
import structlog

from relay.admin.dead_letters import ReplayRefused
from relay.buffer.sqlite import dead_letter_queries as letter_reading
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.dead_letter_transactions import Again, CutLog, Discard, Replay, ReturnPages
from relay.buffer.views import LetterEntry, LetterFilter, StoredLetter
from relay.dead_letters.look import Looking, call, in_thread
from relay.dead_letters.requests import PARTIAL, Stayed, Stays, Wish, receivers_of, request_of
from relay.model.records import Request
from relay.model.units import format_duration
from relay.process.prepare import Prepare

log = structlog.stdlib.get_logger(__name__)

# Long enough for any reader's statement and for many steps of vacuum.
ERASE_SECONDS = 60.0
STEPS_SECONDS = 20.0  # of them; then pages come free faster than steps return them
_TRY_AGAIN_SECONDS = 0.02
_ROWS_A_LOOK = 1000
_MOST_ERASED_TRACES = 100_000
ALL = "every destination"


class WayIn(Protocol):
    """The pipeline; a reload replaces what it prepares with."""

    prepare: Prepare


class DeadLetters(Looking):
    """Dead letters of one buffer (`admin.dead_letters.DeadLetters`)."""

    def __init__(
        self,
        buffer: Buffer,
        way_in: WayIn,
        known: Callable[[], Collection[str]],
        state_dir: Path,
    ) -> None:
        """`known` are the names of the destinations in the configuration."""
        super().__init__(buffer.ask)
        self._buffer = buffer
        self._way_in = way_in
        self._known = known
        self._state_dir = state_dir
        self._changing = anyio.Lock()
        self._erased_traces: set[bytes] = set()

    # Changing

    async def replay(
        self, wanted: LetterFilter, *, after: int, to: str, derives: bool, keeps: bool
    ) -> dict[str, Any]:
        """Send a step of them again: each to its own destination, or all to `to`.

        Raises ReplayRefused when `to` is unknown, and BufferFull; then nothing was changed.
        """
        async with self._changing:
            wish = self._wish(to, derives=derives)
            wanted = await self._bounded(wanted)
            chosen, edge, missing = await self._choose(wanted, after)
            letters = await self._bodies([entry.letter_id for entry in chosen])
            size = sum(len(each.letter.body) for each in letters)
            made = await in_thread(size, partial(_requests_of, letters, wish))
            stayed = Stayed()
            for letter_id in missing:
                stayed.add(letter_id, "there is no such dead letter")
            sizes = {entry.letter_id: entry.stored_bytes for entry in chosen}
            again = []
            for stored, request in made:
                if isinstance(request, Stays):
                    stayed.add(stored.letter_id, request.why)
                else:
                    receivers = receivers_of(stored, wish)
                    size = sizes[stored.letter_id]
                    again.append(Again(stored.letter_id, request, receivers, size))
            sent: set[int] = set()
            if again:
                job = Replay(again, self._buffer.settings, keeps=keeps)
                sent = set(await self._buffer.work(job))
            gone = {entry.letter_id for entry in chosen} - sent - _ids(made, Stays)
            for letter_id in sorted(gone):
                stayed.add(letter_id, "it was gone before it could be sent")
        return _replayed(letters, sent, wish) | {
            "seen": len(chosen) + len(missing),
            "stayed": stayed.document(),
            "until": wanted.until,
            "next": edge,
        }

    def _wish(self, to: str, *, derives: bool) -> Wish:
        known = set(self._known())
        if to and to not in known:
            raise ReplayRefused(
                f"there is no destination {to!r}",
                hint=f"known are {', '.join(sorted(known)) or 'none'}",
            )
        return Wish(to, derives, known, self._way_in.prepare.settings)

    async def discard(self, wanted: LetterFilter, *, after: int, erases: bool) -> dict[str, Any]:
        """Drop a step of them; with `erases`, `finish_erasing` is to follow the last step."""
        async with self._changing:
            wanted = await self._bounded(wanted)
            chosen, edge, missing = await self._choose(wanted, after)
            removed: set[int] = set()
            if chosen:
                ids = [entry.letter_id for entry in chosen]
                removed = set(await self._buffer.work(Discard(ids, erases)))
            gone = [entry for entry in chosen if entry.letter_id in removed]
            if erases:
                self._remember(gone)
        if gone:
            log.info("dead_letters_discarded", letters=len(gone), is_erased=erases)
        return {
            "letters": len(gone),
            "spans": sum(entry.letter.affected for entry in gone),
            "bytes": sum(entry.stored_bytes for entry in gone),
            "missing": missing,
            "seen": len(chosen) + len(missing),
            "until": wanted.until,
            "next": edge,
        }

    def _remember(self, gone: list[LetterEntry]) -> None:
        for entry in gone:
            packed = entry.letter.trace_ids
            self._erased_traces.update(packed[at : at + 16] for at in range(0, len(packed), 16))
            if len(self._erased_traces) > _MOST_ERASED_TRACES:
                return

    async def finish_erasing(self) -> dict[str, Any]:
        """Return every free page and cut the write-ahead log: nothing erased is in them then.

        `is_done` False says that it could not be finished in a minute, `why` what was in the way.
        """
        async with self._changing:
            why = "there was no end of pages that came free"
            with anyio.move_on_after(ERASE_SECONDS):
                began = time.monotonic()
                while await self._buffer.work(
                    ReturnPages(at_once=time.monotonic() - began > STEPS_SECONDS)
                ):
                    await anyio.lowlevel.checkpoint()
                why = "somebody was reading the buffer all the time"
                while not await self._buffer.work(CutLog()):  # noqa: ASYNC110 - a reader's end
                    await anyio.sleep(_TRY_AGAIN_SECONDS)
                why = ""
            traces, self._erased_traces = frozenset(self._erased_traces), set()
        log.info("dead_letters_erased", is_done=not why)
        keeps = format_duration(self._buffer.settings.keep_delivered_seconds)
        return {
            "is_done": not why,
            "why": why,
            "rows_kept": await self._rows_kept(traces),
            "keep_delivered": keeps,
            "files_set_aside": sorted(path.name for path in self._state_dir.glob("relay.db.*")),
        }

    async def _rows_kept(self, traces: frozenset[bytes]) -> int:
        """How many rows of the log hold spans of `traces`: delivered, or owed to somebody."""
        held = 0
        row: int | None = 0 if traces else None
        while row is not None:
            more, row = await self._ask(
                partial(call, letter_reading.rows_with_traces, traces, row, _ROWS_A_LOOK)
            )
            held += more
        return held


def _requests_of(
    letters: list[StoredLetter], wish: Wish
) -> list[tuple[StoredLetter, Request | Stays]]:
    return [(stored, request_of(stored, wish)) for stored in letters]


def _ids(made: list[tuple[StoredLetter, Request | Stays]], kind: type) -> set[int]:
    return {stored.letter_id for stored, request in made if isinstance(request, kind)}


def _replayed(letters: list[StoredLetter], sent: set[int], wish: Wish) -> dict[str, Any]:
    """What was sent again, and of which letters too much was."""
    gone = [stored.letter for stored in letters if stored.letter_id in sent]
    receivers: Counter[str] = Counter()
    for letter in gone:
        receivers[wish.to or letter.destination or ALL] += letter.spans
    partial_ = [letter for letter in gone if letter.reason == PARTIAL]
    if gone:
        log.info("dead_letters_replayed", letters=len(gone), to=", ".join(sorted(receivers)))
    return {
        "letters": len(gone),
        "spans": sum(letter.spans for letter in gone),
        "bytes": sum(len(letter.body) for letter in gone),
        "spans_by_destination": dict(receivers),
        "partial": {
            "letters": len(partial_),
            "spans": sum(letter.spans for letter in partial_),
            "refused": sum(letter.affected for letter in partial_),
        },
    }
