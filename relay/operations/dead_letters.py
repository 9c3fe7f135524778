"""What an operator asks about dead letters in; the buffer's answers and changes out, in steps.

Every call does one step of some milliseconds and says where to go on: whoever asks (the CLI, the
page) shows how far it is and may stop at any time; what is done stays done. A step is one
transaction, so after a crash a letter is either still there or owed again, never both.

Replayed rows are new for `max_age` and `keep_delivered` (a person wants them sent now), while
`where` still tells when their spans were first received.
"""

from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.to_thread
import structlog

from relay.admin.dead_letters import ReplayRefused, UnknownDeadLetter
from relay.buffer import Buffer, letter_reading, tallies
from relay.buffer.letter_jobs import Again, CutLog, Discard, Replay, ReturnPages
from relay.check import Check
from relay.enrich import Enrich
from relay.operations.letter_documents import (
    INGEST,
    Groups,
    entry_document,
    full_document,
    json_line,
)
from relay.operations.letter_requests import (
    DAMAGED,
    PARTIAL,
    Stayed,
    Stays,
    Wish,
    receivers_of,
    request_of,
)
from relay.otlp.transcode import TranscodeError
from relay.records import Request
from relay.units import format_duration
from relay.views import LetterEntry, LetterFilter, StoredLetter

log = structlog.stdlib.get_logger(__name__)

STEP_BYTES = 1024 * 1024
STEP_LETTERS = 500
THREAD_FROM_BYTES = 32 * 1024
# Long enough for any reader's statement and for many steps of vacuum.
ERASE_SECONDS = 60.0
_TRY_AGAIN_SECONDS = 0.02
_ROWS_A_LOOK = 1000
_MOST_ERASED_TRACES = 100_000
ALL = "every destination"


class WayIn(Protocol):
    """The pipeline's stages as they are now; a reload replaces them."""

    check: Check
    enrich: Enrich


class DeadLetters:
    """Dead letters of one buffer (`admin.dead_letters.DeadLetters`)."""

    def __init__(
        self,
        buffer: Buffer,
        way_in: WayIn,
        known: Callable[[], Collection[str]],
        state_dir: Path,
    ) -> None:
        """`known` are the names of the destinations in the configuration."""
        self._buffer = buffer
        self._way_in = way_in
        self._known = known
        self._state_dir = state_dir
        self._changing = anyio.Lock()
        self._erased_traces: set[bytes] = set()

    # Looking

    async def entries(self, wanted: LetterFilter, *, before: int, limit: int) -> dict[str, Any]:
        """Up to `limit` of those that are meant, newest first."""
        found: list[LetterEntry] = []
        edge: int | None = before
        while edge is not None and len(found) < limit:
            page = await self._buffer.ask(partial(_call, letter_reading.newest_first, wanted, edge))
            found += page.entries
            edge = page.edge
        if len(found) > limit:
            found = found[:limit]
            edge = found[-1].letter_id
        return {
            "letters": [entry_document(entry) for entry in found],
            "next": edge,
            "dropped": await self._dropped(),
        }

    async def groups(self, wanted: LetterFilter) -> dict[str, Any]:
        """How many there are, and of which kind."""
        wanted = await self._bounded(wanted)
        groups = Groups()
        edge: int | None = 0
        while edge is not None:
            page = await self._buffer.ask(partial(_call, letter_reading.oldest_first, wanted, edge))
            groups.add(page.entries)
            edge = page.edge
        return {
            "letters": groups.letters,
            "spans": groups.spans,
            "groups": groups.documents(),
            "dropped": await self._dropped(),
            "until": wanted.until,
        }

    async def _dropped(self) -> dict[str, int]:
        """Letters given up for space or age, ever, by destination."""
        found = await self._buffer.ask(
            lambda connection: tallies.read(connection, tallies.DROPPED_LETTERS)
        )
        return {name or INGEST: times for name, times in found.items()}

    async def show(self, letter_id: int) -> dict[str, Any]:
        """One with its spans. Raises UnknownDeadLetter."""
        found = await self._bodies([letter_id])
        if not found:
            raise UnknownDeadLetter(f"there is no dead letter {letter_id}")
        size = len(found[0].letter.body)
        return dict(await _in_thread(size, partial(full_document, found[0])))

    async def export(self, wanted: LetterFilter, *, after: int) -> dict[str, Any]:
        """A step of those that are meant, an OTLP JSON line each; `left_out` tells which not."""
        wanted = await self._bounded(wanted)
        chosen, edge, missing = await self._choose(wanted, after)
        letters = await self._bodies([entry.letter_id for entry in chosen])
        size = sum(len(each.letter.body) for each in letters)
        lines, left_out = await _in_thread(size, partial(_lines_of, letters))
        for letter_id in missing:
            left_out.add(letter_id, "there is no such dead letter")
        return {
            "lines": lines,
            "letters": len(chosen),
            "left_out": left_out.document(),
            "until": wanted.until,
            "next": edge,
        }

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
            made = await _in_thread(size, partial(_requests_of, letters, wish))
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
        way_in = self._way_in
        return Wish(to, derives, known, way_in.check.malformed_ids, way_in.enrich)

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
                while await self._buffer.work(ReturnPages()):
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
            more, row = await self._buffer.ask(
                partial(_call, letter_reading.rows_with_traces, traces, row, _ROWS_A_LOOK)
            )
            held += more
        return held

    # Inside

    async def _bounded(self, wanted: LetterFilter) -> LetterFilter:
        """`wanted`, but nothing that comes from now on: what is sent again may come back."""
        if wanted.until is not None:
            return wanted
        newest = await self._buffer.ask(letter_reading.newest_id)
        return LetterFilter(
            wanted.destination,
            wanted.reason,
            wanted.since_ns,
            wanted.trace,
            wanted.ids,
            newest,
        )

    async def _choose(
        self, wanted: LetterFilter, after: int
    ) -> tuple[list[LetterEntry], int | None, list[int]]:
        """A step of those that are meant, where to go on, and ids that there are not."""
        while True:
            page = await self._buffer.ask(
                partial(_call, letter_reading.oldest_first, wanted, after)
            )
            missing: list[int] = []
            if wanted.ids and not after:
                missing = sorted({*wanted.ids} - {entry.letter_id for entry in page.entries})
            chosen: list[LetterEntry] = []
            size = 0
            for entry in page.entries:
                size += entry.raw_bytes
                if chosen and (size > STEP_BYTES or len(chosen) == STEP_LETTERS):
                    return chosen, chosen[-1].letter_id, missing
                chosen.append(entry)
            if chosen or page.edge is None:
                return chosen, page.edge, missing
            after = page.edge

    async def _bodies(self, letter_ids: list[int]) -> list[StoredLetter]:
        return await self._buffer.ask(partial(_call, letter_reading.bodies, letter_ids))


def _call(question: Callable[..., Any], *arguments: Any) -> Any:
    """The connection comes last here, first there."""
    *given, connection = arguments
    return question(connection, *given)


async def _in_thread(size: int, work: Callable[[], Any]) -> Any:
    """What `work` returns; in a thread where `size` bytes would hold up the loop."""
    return await anyio.to_thread.run_sync(work) if size > THREAD_FROM_BYTES else work()


def _lines_of(letters: list[StoredLetter]) -> tuple[list[str], Stayed]:
    lines: list[str] = []
    left_out = Stayed()
    for stored in letters:
        if stored.is_damaged or stored.letter.reason == DAMAGED:
            left_out.add(stored.letter_id, "its bytes were damaged on disk")
            continue
        try:
            lines.append(json_line(stored.letter))
        except TranscodeError as error:
            left_out.add(stored.letter_id, error.message)
    return lines, left_out


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
