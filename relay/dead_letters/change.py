"""Replays, discards and erases dead letters, in steps.

Every call does one step of some milliseconds and says where to go on: whoever asks (the CLI, the
page) shows how far it is and may stop at any time; what is done stays done. A step is one
transaction, so after a crash a letter is either still there or owed again, never both.

Replayed rows are new for `max_age` and `keep_delivered` (a person wants them sent now), while
`where` still tells when their spans were first received.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import structlog

from relay.buffer.api import Log
from relay.buffer.values import (
    DeadLetterEntry,
    DeadLetterFilter,
    DeadLetterReplay,
    StoredDeadLetter,
)
from relay.dead_letters.look import NOT_THERE, Looking, in_thread
from relay.dead_letters.requests import LeftOut, Wish, left_out, request_of
from relay.model.errors import RelayError
from relay.model.reasons import Reason
from relay.model.records import DeadLetter, Request, Signal
from relay.model.units import format_duration
from relay.process.prepare import PrepareSettings

log = structlog.stdlib.get_logger(__name__)

_MOST_ERASED_TRACES = 100_000
ALL = "every destination"
_NOT_ERASED = {
    "": "",
    "pages": "pages kept coming free",
    "reader": "the buffer was being read all the time",
}


class ReplayRefused(RelayError):
    """Dead letters cannot be replayed like that; nothing was changed."""

    code = "replay_refused"


@dataclass(frozen=True, slots=True)
class Partial:
    """Of what was replayed: letters of which the upstream had refused some items, not which."""

    letters: int
    spans: int
    refused: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """A step of a replay. `seen` letters were looked at; `next` is where the next step begins.

    `spans` and `spans_by_destination` count the items of all signals.
    """

    letters: int
    spans: int
    bytes: int
    spans_by_destination: Mapping[str, int]
    by_destination: Mapping[str, Mapping[str, int]]  # items of each signal
    partial: Partial
    seen: int
    stayed: Sequence[LeftOut]
    until: int | None
    next: int | None


@dataclass(frozen=True, slots=True)
class Discarded:
    """A step of a discard, likewise; `missing` are ids of which there is no letter."""

    letters: int
    spans: int
    by_signal: Mapping[str, int]
    bytes: int
    missing: Sequence[int]
    seen: int
    until: int | None
    next: int | None


@dataclass(frozen=True, slots=True)
class Erased:
    """Whether nothing erased is left in the buffer's files, else `why` not.

    `rows_kept` of the log hold items of the same traces, for `keep_delivered` or until they are
    delivered; quarantined files may hold copies.
    """

    is_done: bool
    why: str
    rows_kept: int
    keep_delivered: str
    files_set_aside: Sequence[str]


class DeadLetters(Looking):
    """Dead letters of one buffer."""

    def __init__(
        self,
        buffer: Log,
        settings: Callable[[], PrepareSettings],
        known: Callable[[], Mapping[str, Collection[Signal]]],
        state_dir: Path,
        redact: Callable[[StoredDeadLetter], StoredDeadLetter],
    ) -> None:
        """`settings` are those of the way in now, `known` the destinations in the
        configuration, with what each gets; `redact` as for `Looking`.
        """
        super().__init__(buffer.dead_letters, redact)
        self._buffer = buffer
        self._settings = settings
        self._known = known
        self._state_dir = state_dir
        self._changing = anyio.Lock()
        self._erased_traces: set[bytes] = set()

    # Changing

    async def replay(
        self, wanted: DeadLetterFilter, *, after: int, to: str, derives: bool, keeps: bool
    ) -> Replayed:
        """Send a step of them again: each to its own destination, or all to `to`.

        Raises ReplayRefused when `to` is unknown, and BufferFull; then nothing was changed.
        """
        async with self._changing:
            wish = self._wish(to, derives=derives)
            step = await self._step(wanted, after)
            letters = await self._store.bodies(step.ids)
            stayed: dict[str, list[int]] = defaultdict(list)
            if step.missing:
                stayed[NOT_THERE] += step.missing
            sizes = {entry.letter_id: entry.stored_bytes for entry in step.entries}
            again = []
            for stored, request in await in_thread(letters, partial(_requests_of, letters, wish)):
                letter_id = stored.letter_id
                if isinstance(request, str):
                    stayed[request].append(letter_id)
                    continue
                name = wish.to or stored.letter.destination
                receivers = frozenset({name}) if name else None
                again.append(DeadLetterReplay(letter_id, request, receivers, sizes[letter_id]))
            sent: set[int] = set()
            if again:
                sent = set(await self._buffer.dead_letters.replay(again, keeps=keeps))
            gone = set(step.ids).difference(sent, *stayed.values())
            if gone:
                stayed["it was gone before it could be sent"] += sorted(gone)
        gone_letters = [stored.letter for stored in letters if stored.letter_id in sent]
        receivers_items: dict[str, Counter[str]] = defaultdict(Counter)
        for letter in gone_letters:
            receiver = wish.to or letter.destination or ALL
            receivers_items[receiver][letter.signal.word] += letter.items
        if gone_letters:
            names = ", ".join(sorted(receivers_items))
            log.info("dead_letters_replayed", letters=len(gone_letters), to=names)
        return Replayed(
            letters=len(gone_letters),
            spans=sum(letter.items for letter in gone_letters),
            bytes=sum(len(letter.body) for letter in gone_letters),
            spans_by_destination={name: it.total() for name, it in receivers_items.items()},
            by_destination=receivers_items,
            partial=_partial(gone_letters),
            seen=len(step.entries) + len(step.missing),
            stayed=left_out(stayed),
            until=step.until,
            next=step.next,
        )

    def _wish(self, to: str, *, derives: bool) -> Wish:
        known = self._known()
        if to and to not in known:
            raise ReplayRefused(
                f"there is no destination {to!r}",
                hint=f"known destinations: {', '.join(sorted(known)) or 'none'}",
            )
        return Wish(to, derives, known, self._settings())

    async def discard(self, wanted: DeadLetterFilter, *, after: int, erases: bool) -> Discarded:
        """Drop a step of them; with `erases`, `finish_erasing` is to follow the last step."""
        async with self._changing:
            step = await self._step(wanted, after)
            removed: set[int] = set()
            if step.entries:
                removed = set(await self._buffer.dead_letters.discard(step.ids, erases=erases))
            gone = [entry for entry in step.entries if entry.letter_id in removed]
            by_signal = Counter[str]()
            for entry in gone:
                by_signal[entry.letter.signal.word] += entry.letter.affected
            if erases:
                self._remember(gone)
        if gone:
            log.info("dead_letters_discarded", letters=len(gone), is_erased=erases)
        return Discarded(
            letters=len(gone),
            spans=by_signal.total(),
            by_signal=by_signal,
            bytes=sum(entry.stored_bytes for entry in gone),
            missing=step.missing,
            seen=len(step.entries) + len(step.missing),
            until=step.until,
            next=step.next,
        )

    def _remember(self, gone: list[DeadLetterEntry]) -> None:
        for entry in gone:
            packed = entry.letter.trace_ids
            self._erased_traces.update(packed[at : at + 16] for at in range(0, len(packed), 16))
            if len(self._erased_traces) > _MOST_ERASED_TRACES:
                return

    async def finish_erasing(self) -> Erased:
        """Return every free page and cut the write-ahead log: nothing erased is in them then.

        `is_done` False says that it could not be finished in a minute, `why` what was in the way.
        """
        async with self._changing:
            why = _NOT_ERASED[await self._buffer.dead_letters.finish_erasing()]
            traces, self._erased_traces = frozenset(self._erased_traces), set()
        log.info("dead_letters_erased", is_done=not why)
        index = self._buffer.traces
        keeps = format_duration(self._buffer.settings.keep_delivered_seconds)
        return Erased(
            is_done=not why,
            why=why,
            rows_kept=await index.count_kept(traces) if index is not None else 0,
            keep_delivered=keeps,
            files_set_aside=sorted(path.name for path in self._state_dir.glob("relay.db.*")),
        )


def _requests_of(
    letters: list[StoredDeadLetter], wish: Wish
) -> list[tuple[StoredDeadLetter, Request | str]]:
    return [(stored, request_of(stored, wish)) for stored in letters]


def _partial(letters: list[DeadLetter]) -> Partial:
    """Of which letters too much was replayed."""
    found = [letter for letter in letters if letter.reason == Reason.UPSTREAM_PARTIAL]
    return Partial(
        letters=len(found),
        spans=sum(letter.items for letter in found),
        refused=sum(letter.affected for letter in found),
    )
