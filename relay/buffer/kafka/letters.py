"""Dead letters of a fleet: a compacted topic that every relay writes and every relay reads.

A letter is written, acknowledged by every broker in sync, before what it is about is committed as
settled: a crash in between writes the same key twice. In memory stands what a list shows of each;
bodies are read when somebody asks for them. What an operator discards becomes a tombstone: the
brokers have the bytes until they compact the segment that they are in.
"""

import asyncio
import bisect
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, Protocol

import structlog
from confluent_kafka import OFFSET_BEGINNING
from msgspec import structs

from relay.buffer.kafka.fetch import Place, Seeker
from relay.buffer.kafka.letter_text import letter_of_record, record_of_letter
from relay.buffer.kafka.records import Outgoing, Record, records_of
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.values import (
    DeadLetterCount,
    DeadLetterEntry,
    DeadLetterFilter,
    DeadLetterPage,
    DeadLetterReplay,
    StoredDeadLetter,
    is_of_trace,
)
from relay.model.counters import Counters
from relay.model.errors import BufferFailure, BufferUnavailable, Refusal
from relay.model.records import DeadLetter

log = structlog.stdlib.get_logger(__name__)

WINDOW = 1000
_RETRY_SECONDS = 0.5
_REFUSED_SECONDS = 30.0
_READ_SECONDS = 10.0


class Sends(Protocol):
    """Who hands records to the brokers: `bridge.Bridge`."""

    async def send(self, records: Sequence[Outgoing]) -> Sequence[object]:
        """Return when every one is acknowledged. Raises BufferFull, BufferUnavailable."""
        ...


class Letters:
    """The dead letters of a fleet (`api.DeadLetterStore`); follows their topic."""

    def __init__(
        self, settings: KafkaSettings, bridge: Sends, seeker: Seeker, counters: Counters
    ) -> None:
        self._settings = settings
        self._topic = settings.dead_letters_topic
        self._bridge = bridge
        self._seeker = seeker
        self._counters = counters
        self._ids: list[int] = []  # of letters that are there, in order
        self._entries: dict[int, DeadLetterEntry] = {}
        self._keys: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self.counts: dict[str, DeadLetterCount] = {}
        self._next_offset = 0
        self._has_read = asyncio.Event()  # to the end, once
        self._grew = asyncio.Event()
        self._writing: set[asyncio.Task[None]] = set()

    @property
    def place(self) -> Place:
        """What of the brokers is to be followed for it."""
        return Place(self._topic, 0, OFFSET_BEGINNING)

    # -- writing ------------------------------------------------------------------------------

    def write(self, letters: Sequence[DeadLetter], then: Callable[[], None]) -> None:
        """Write `letters`, then call `then`; tries until it succeeds, or the relay stops."""
        for letter in letters:
            self._counters.dead_letters[letter.reason] += letter.affected
        task = asyncio.get_running_loop().create_task(self._write(letters, then))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, letters: Sequence[DeadLetter], then: Callable[[], None]) -> None:
        now_ns = time.time_ns()
        left = list(letters)
        is_said = False
        while left:
            try:
                await self._bridge.send([record_of_letter(left[0], self._topic, now_ns)])
                del left[0]
            except Refusal as error:
                if not left[0].body:
                    log.warning("fleet_dead_letter_refused", error=error.message, row=left[0].row)
                    await asyncio.sleep(_REFUSED_SECONDS)
                    continue
                # The brokers take no record that large; the row it came from they have.
                log.warning(
                    "fleet_dead_letter_cut",
                    destination=left[0].destination,
                    reason=str(left[0].reason),
                    row=left[0].row,
                    bytes=len(left[0].body),
                )
                left[0] = _without_body(left[0])
            except BufferFailure as error:
                if not is_said:
                    log.warning("fleet_dead_letter_waits", error=error.message)
                is_said = True
                await asyncio.sleep(_RETRY_SECONDS)
        then()

    def stop(self) -> None:
        """Write nothing more: what is not written is not settled either."""
        for task in self._writing:
            task.cancel()

    # -- what the topic tells -----------------------------------------------------------------

    def came(self, records: list[Record]) -> None:
        """Letters and tombstones, in order."""
        for record in records:
            key = record.key or b""
            before = self._keys.pop(key, None)
            if before is not None:
                self._drop(before)
            stored = letter_of_record(record)
            if stored is not None:
                self._add(key, stored, len(record.value or b""))
            self._next_offset = record.offset + 1
        self._tell()

    def reached(self, offset: int) -> None:
        """Everything before `offset` was told."""
        self._next_offset = max(self._next_offset, offset)
        self._has_read.set()
        self._tell()

    def expired(self, first_offset: int) -> None:
        """The brokers keep none before that offset any more."""
        for letter_id in self._ids[: bisect.bisect_right(self._ids, first_offset)]:
            self._keys.pop(self._key_of.get(letter_id, b""), None)
            self._drop(letter_id)

    def _add(self, key: bytes, stored: StoredDeadLetter, size: int) -> None:
        letter = stored.letter
        shown = DeadLetterEntry(
            stored.letter_id,
            stored.set_aside_ns,
            replace(letter, body=b""),
            len(letter.body),
            size,
        )
        self._ids.append(stored.letter_id)
        self._entries[stored.letter_id] = shown
        self._keys[key] = stored.letter_id
        self._key_of[stored.letter_id] = key
        self._count(letter.destination, 1, size)

    def _drop(self, letter_id: int) -> None:
        entry = self._entries.pop(letter_id, None)
        self._key_of.pop(letter_id, None)
        if entry is not None:
            self._ids.pop(bisect.bisect_left(self._ids, letter_id))
            self._count(entry.letter.destination, -1, -entry.stored_bytes)

    def _count(self, destination: str, count: int, size: int) -> None:
        before = self.counts.get(destination, DeadLetterCount())
        after = DeadLetterCount(before.count + count, before.stored_bytes + size)
        # A new one each time: it may be published.
        self.counts = {**self.counts, destination: after}
        if not after.count:
            self.counts = {name: each for name, each in self.counts.items() if each.count}

    def _tell(self) -> None:
        grew, self._grew = self._grew, asyncio.Event()
        grew.set()

    # -- looking ------------------------------------------------------------------------------

    async def newest(self, limit: int = 100) -> list[StoredDeadLetter]:
        """The newest, newest first, with their bodies."""
        await self._ready()
        return await self.bodies(self._ids[-limit:][::-1])

    async def newest_first(self, wanted: DeadLetterFilter, before: int) -> DeadLetterPage:
        """A step of those before id `before` that are meant."""
        await self._ready()
        end = bisect.bisect_left(self._ids, before)
        if wanted.ids:
            return DeadLetterPage(self._meant(sorted(wanted.ids), wanted, 0, before)[::-1], None)
        first = max(end - WINDOW, 0)
        found = self._meant(self._ids[first:end], wanted, 0, before)
        return DeadLetterPage(found[::-1], self._ids[first] if first else None)

    async def oldest_first(self, wanted: DeadLetterFilter, after: int) -> DeadLetterPage:
        """A step of those after id `after` that are meant."""
        await self._ready()
        if wanted.ids:
            return DeadLetterPage(self._meant(sorted(set(wanted.ids)), wanted, after, None), None)
        first = bisect.bisect_right(self._ids, after)
        looked = self._ids[first : first + WINDOW]
        found = self._meant(looked, wanted, after, None)
        is_end = len(looked) < WINDOW or (wanted.until is not None and looked[-1] >= wanted.until)
        return DeadLetterPage(found, None if is_end else looked[-1])

    async def newest_id(self) -> int:
        """The id of the newest; 0 when there is none."""
        await self._ready()
        return self._ids[-1] if self._ids else 0

    async def bodies(self, letter_ids: Sequence[int]) -> list[StoredDeadLetter]:
        """Those with their bodies, in that order; those that have gone are left out."""
        await self._ready()
        found = []
        for letter_id in letter_ids:
            if letter_id in self._entries:
                place = Place(self._topic, 0, letter_id - 1)
                records = (await self._seeker.fetch(place, 1)).records
                if records and records[0].offset == letter_id - 1:
                    stored = letter_of_record(records[0])
                    found += [stored] if stored is not None else []
        return found

    async def dropped(self) -> dict[str, int]:
        """None: the brokers give up letters for age, and do not tell how many."""
        return {}

    def _meant(
        self, ids: Iterable[int], wanted: DeadLetterFilter, after: int, before: int | None
    ) -> list[DeadLetterEntry]:
        return [
            entry
            for each in ids
            if each > after
            and (before is None or each < before)
            and (wanted.until is None or each <= wanted.until)
            and (entry := self._entries.get(each)) is not None
            and is_meant(entry, wanted)
        ]

    async def _ready(self) -> None:
        """Raises BufferUnavailable while not all of them were read."""
        await _in_time(self._has_read.wait(), "the fleet's dead letters were not read yet")

    # -- changing -----------------------------------------------------------------------------

    async def replay(
        self, letters: Sequence[DeadLetterReplay], *, keeps: bool = False
    ) -> list[int]:
        """Put requests in the place of letters, which stay if it `keeps` them.

        A crash in between sends them again and leaves the letters.
        """
        await self._ready()
        now_ns = time.time_ns()
        there = [each for each in letters if each.letter_id in self._entries]
        records = [
            record
            for each in there
            for only in sorted(each.owed_to or {""})
            for record in records_of(
                structs.replace(each.request, received_ns=now_ns), self._settings, only
            )
        ]
        if records:
            await self._bridge.send(records)
        ids = [each.letter_id for each in there]
        return ids if keeps else await self.discard(ids)

    async def discard(self, letter_ids: Sequence[int], *, erases: bool = False) -> list[int]:
        """Drop some for good; the ids of those that were there. The brokers overwrite nothing: see
        `finish_erasing`.
        """
        await self._ready()
        del erases
        there = [each for each in letter_ids if each in self._entries]
        tombstones = [
            Outgoing(self._topic, None, partition=0, key=self._key_of[each]) for each in there
        ]
        if tombstones:
            await self._bridge.send(tombstones)
            until = time.monotonic() + _READ_SECONDS
            while any(each in self._entries for each in there) and time.monotonic() < until:
                await _in_time(self._grew.wait(), "the brokers did not tell of it in time")
        return there

    async def finish_erasing(self) -> Literal["", "pages", "reader"]:
        """Raises BufferUnavailable: only the brokers can."""
        raise BufferUnavailable(
            "the dead letters are gone for every relay, and their bytes are not: the brokers give "
            "them up when they compact the topic's older segments",
            hint=f"`segment.ms` and `max.compaction.lag.ms` of {self._topic} say when",
        )


def is_meant(entry: DeadLetterEntry, wanted: DeadLetterFilter) -> bool:
    """Whether `wanted` asks for it, its id left aside."""
    letter = entry.letter
    name = letter.destination or "ingest"
    return (
        wanted.destination in ("", name)
        and wanted.reason in ("", letter.reason)
        and wanted.signal in (None, letter.signal)
        and entry.set_aside_ns >= wanted.since_ns
        and is_of_trace(letter, wanted.trace)
    )


def _without_body(letter: DeadLetter) -> DeadLetter:
    size = f"{len(letter.body):,} bytes"
    words = f"{letter.words} (too large for a dead letter: row {letter.row} has its {size})"
    return replace(letter, words=words, body=b"", trace_ids=b"")


async def _in_time(waiting: Awaitable[object], words: str) -> None:
    try:
        await asyncio.wait_for(waiting, _READ_SECONDS)
    except TimeoutError:
        raise BufferUnavailable(words, hint="does a broker answer?") from None
