"""Looks at dead letters: lists, groups, spans and OTLP JSON lines, a step at a time.

What asks the disk is given: the reader of a running buffer, or a file that nobody writes.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio.to_thread

from relay.buffer.api import DeadLetterReader
from relay.buffer.values import DeadLetterEntry, DeadLetterFilter, StoredDeadLetter
from relay.dead_letters.groups import DeadLetterGroup, Groups
from relay.dead_letters.otlp_lines import json_line
from relay.dead_letters.requests import LeftOut, left_out
from relay.model.errors import RelayError
from relay.model.reasons import Reason
from relay.otlp.signals import WIRE
from relay.otlp.transcode import TranscodeError

STEP_BYTES = 1024 * 1024
STEP_LETTERS = 500
THREAD_FROM_BYTES = 32 * 1024
NOT_THERE = "there is no such dead letter"
INGEST = "ingest"  # the destination of what was refused on the way in, as people write it


class UnknownDeadLetter(RelayError):
    """There is no dead letter of that number."""

    code = "unknown_dead_letter"


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of letters; `next` is where the next begins. `dropped`: evicted ever, by name."""

    entries: Sequence[DeadLetterEntry]
    next: int | None
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Counted:
    """How many letters and items there are, up to letter `until`, and of which kinds."""

    letters: int
    spans: int
    by_signal: Mapping[str, int]
    groups: Sequence[DeadLetterGroup]
    dropped: Mapping[str, int]
    until: int | None


@dataclass(frozen=True, slots=True)
class Exported:
    """A step of an export: OTLP JSON lines, of how many letters, and which had to be left out.

    `by_path` is how many of the lines are for which path of an endpoint.
    """

    lines: Sequence[str]
    by_path: Mapping[str, int]
    letters: int
    left_out: Sequence[LeftOut]
    until: int | None
    next: int | None


@dataclass(frozen=True, slots=True)
class ReadingStep:
    """The letters of one step; `missing` are ids asked for of which there is no letter."""

    entries: Sequence[DeadLetterEntry]
    missing: Sequence[int]
    until: int | None
    next: int | None

    @property
    def ids(self) -> list[int]:
        """Of the letters."""
        return [entry.letter_id for entry in self.entries]


class Looking:
    """What can be asked about dead letters without changing any."""

    def __init__(
        self, store: DeadLetterReader, redact: Callable[[StoredDeadLetter], StoredDeadLetter]
    ) -> None:
        """`redact` makes of a letter what may be seen of it."""
        self._store = store
        self._redact = redact

    async def entries(self, wanted: DeadLetterFilter, *, before: int, limit: int) -> Listed:
        """Up to `limit` of those that are meant, newest first."""
        found: list[DeadLetterEntry] = []
        edge: int | None = before
        while edge is not None and len(found) < limit:
            page = await self._store.newest_first(wanted, edge)
            found += page.entries
            edge = page.edge
        if len(found) > limit:
            found = found[:limit]
            edge = found[-1].letter_id
        return Listed(found, edge, await self._dropped())

    async def groups(self, wanted: DeadLetterFilter) -> Counted:
        """How many there are, and of which kind."""
        wanted = await self._bounded(wanted)
        groups = Groups()
        edge: int | None = 0
        while edge is not None:
            page = await self._store.oldest_first(wanted, edge)
            groups.add(page.entries)
            edge = page.edge
        found = groups.newest_first()
        by_signal = Counter[str]()
        for each in found:
            by_signal[each.newest.letter.signal.word] += each.spans
        letters, items = sum(each.letters for each in found), by_signal.total()
        return Counted(letters, items, by_signal, found, await self._dropped(), wanted.until)

    async def _dropped(self) -> dict[str, int]:
        """Letters given up for space or age, ever, by destination."""
        return {name or INGEST: times for name, times in (await self._store.dropped()).items()}

    async def show(self, letter_id: int, *, is_whole: bool = False) -> StoredDeadLetter:
        """One with its bytes, redacted unless it `is_whole`. Raises UnknownDeadLetter."""
        found = await self._store.bodies([letter_id])
        if not found:
            raise UnknownDeadLetter(f"there is no dead letter {letter_id}")
        return found[0] if is_whole else await in_thread(found, lambda: self._redact(found[0]))

    async def export(
        self, wanted: DeadLetterFilter, *, after: int, is_whole: bool = False
    ) -> Exported:
        """A step of those that are meant, an OTLP JSON line each, redacted unless they are to be
        whole; `left_out` tells which not.
        """
        step = await self._step(wanted, after)
        letters = await self._store.bodies(step.ids)
        seen = (lambda each: each) if is_whole else self._redact
        lines, by_path, why = await in_thread(letters, partial(_lines_of, letters, seen))
        if step.missing:
            why[NOT_THERE] += step.missing
        return Exported(lines, by_path, len(step.entries), left_out(why), step.until, step.next)

    async def _bounded(self, wanted: DeadLetterFilter) -> DeadLetterFilter:
        """`wanted`, but nothing that comes from now on: what is sent again may come back."""
        if wanted.until is not None:
            return wanted
        return replace(wanted, until=await self._store.newest_id())

    async def _step(self, wanted: DeadLetterFilter, after: int) -> ReadingStep:
        """The next of those that are meant, up to what one step may take."""
        wanted = await self._bounded(wanted)
        while True:
            page = await self._store.oldest_first(wanted, after)
            missing: list[int] = []
            if wanted.ids and not after:
                missing = sorted({*wanted.ids} - {entry.letter_id for entry in page.entries})
            chosen: list[DeadLetterEntry] = []
            size = 0
            for entry in page.entries:
                size += entry.raw_bytes
                if chosen and (size > STEP_BYTES or len(chosen) == STEP_LETTERS):
                    return ReadingStep(chosen, missing, wanted.until, chosen[-1].letter_id)
                chosen.append(entry)
            if chosen or page.edge is None:
                return ReadingStep(chosen, missing, wanted.until, page.edge)
            after = page.edge


async def in_thread(letters: Sequence[StoredDeadLetter], work: Callable[[], Any]) -> Any:
    """What `work` on `letters` returns; in a thread where so many bytes would hold up the loop."""
    size = sum(len(each.letter.body) for each in letters)
    return await anyio.to_thread.run_sync(work) if size > THREAD_FROM_BYTES else work()


def _lines_of(
    letters: list[StoredDeadLetter], seen: Callable[[StoredDeadLetter], StoredDeadLetter]
) -> tuple[list[str], Counter[str], dict[str, list[int]]]:
    """A line for each letter, for which path they are, and ids of those without one, by why."""
    lines: list[str] = []
    by_path = Counter[str]()
    why: dict[str, list[int]] = defaultdict(list)
    for stored in map(seen, letters):
        if stored.hidden:
            why[stored.hidden].append(stored.letter_id)
            continue
        if stored.is_damaged or stored.letter.reason == Reason.DAMAGED_ON_DISK:
            why["its bytes were damaged on disk"].append(stored.letter_id)
            continue
        try:
            lines.append(json_line(stored.letter))
            by_path[WIRE[stored.letter.signal].path] += 1
        except TranscodeError as error:
            why[error.message].append(stored.letter_id)
    return lines, by_path, why
