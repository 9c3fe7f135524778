"""What an operator does to dead letters: send them again, drop them, erase them.

A letter's removal and the row it becomes are one transaction: a crash in between neither loses it
nor sends it twice.

To erase takes three things. The rows of the letters are overwritten with zeros as they are deleted
(`Discard` with `erases`), and so is what is remembered of the log's rows they came from, once those
have gone. What earlier copies left in free pages, such as the row that a letter was
before, goes with those pages (`ReturnPages`, until none is free). Both are in the write-ahead log,
too, until that is written back and cut (`CutLog`). Inside pages still in use, deleted bytes are
overwritten in any case, since the file is open with `secure_delete = fast`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import anyio

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import UNCLAIMED, BacklogName, backlog_name
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.dead_letter_queries import SqliteDeadLetterReader
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.reader import Ask
from relay.buffer.sqlite.rows import build_group
from relay.buffer.sqlite.schema import fetch
from relay.buffer.sqlite.space import history
from relay.buffer.sqlite.transactions import Readmitted, Transaction
from relay.buffer.values import DeadLetterReplay
from relay.model.records import Request, Signal

# Moved at a time: about 4 MiB, some milliseconds.
_VACUUM_PAGES = 1024
_LAST_PAGES = 2048
# Long enough for any reader's statement and for many steps of vacuum.
_ERASE_SECONDS = 60.0
_STEPS_SECONDS = 20.0  # of them; then pages come free faster than steps return them
_RETRY_SECONDS = 0.02


class SqliteDeadLetters(SqliteDeadLetterReader):
    """Dead letters of a running buffer (`api.DeadLetterStore`)."""

    def __init__(self, ask: Ask, ledger: Ledger) -> None:
        super().__init__(ask)
        self._ledger = ledger

    async def replay(
        self, letters: Sequence[DeadLetterReplay], *, keeps: bool = False
    ) -> list[int]:
        """Put requests in the place of letters: see `api.DeadLetterStore`, as the next two."""
        replay = ReplayDeadLetters(letters, self._ledger.settings, keeps=keeps)
        return await self._ledger.transact(replay)

    async def discard(self, letter_ids: Sequence[int], *, erases: bool = False) -> list[int]:
        """Drop some for good, with `erases` overwrite them; the ids of those that were there."""
        return await self._ledger.transact(Discard(letter_ids, erases))

    async def finish_erasing(self) -> Literal["", "pages", "reader"]:
        """Return every free page and cut the write-ahead log; what was in the way for a minute."""
        transact = self._ledger.transact
        hindrance: Literal["pages", "reader"] = "pages"
        with anyio.move_on_after(_ERASE_SECONDS):
            began = time.monotonic()
            while await transact(ReturnPages(at_once=time.monotonic() - began > _STEPS_SECONDS)):
                pass  # the writer's thread has others' turn between two steps
            hindrance = "reader"
            while not await transact(CutLog()):  # noqa: ASYNC110 - a reader's end
                await anyio.sleep(_RETRY_SECONDS)
            return ""
        return hindrance


@dataclass
class ReplayDeadLetters(Transaction[list[int]]):
    """Rows of some letters, in the place of the letters unless these are kept."""

    letters: Sequence[DeadLetterReplay]
    settings: BufferSettings
    keeps: bool = False
    _readmitted: list[Readmitted] = field(default_factory=list)

    @property
    def need_bytes(self) -> int:
        """About what the rows take; the space of the letters comes back later."""
        return sum(each.stored_bytes for each in self.letters)

    def run(self, file: LogFile, *, now_ns: int) -> list[int]:
        """The ids of the letters that were there and are sent again.

        One for a destination that was removed meanwhile stays: nobody would be owed its rows.
        """
        self._readmitted = []
        sendable = [
            (each, receivers)
            for each in self.letters
            if (receivers := self._receivers(file, each)) is not None
        ]
        present = file.letters.having(each.letter_id for each, _ in sendable)
        if not self.keeps:
            file.letters.remove(present)
        still_there = set(present)
        alike: dict[tuple[Signal, frozenset[str]], list[Request]] = {}
        for each, receivers in sendable:
            if each.letter_id in still_there:
                alike.setdefault((_signal_of(each), receivers), []).append(each.request)
        for (_, receivers), requests in alike.items():
            group = build_group(
                requests,
                after_row=file.last_row,
                totals=file.totals,
                settings=self.settings,
                received_ns=now_ns,
            )
            file.readmit(group, receivers, now_ns=now_ns)
            self._readmitted.append(Readmitted(group, receivers))
        return present

    def _receivers(self, file: LogFile, letter: DeadLetterReplay) -> frozenset[str] | None:
        """The backlogs that are owed it; None where one of them was removed meanwhile."""
        signal = _signal_of(letter)
        of_signal = {
            name: owed_ranges.is_open(each.ranges)
            for name, each in file.destinations.items()
            if backlog_name(name).signal is signal
        }
        everybody = of_signal.keys()
        if letter.owed_to is None:
            served = {name for name, is_open in of_signal.items() if is_open}
            return frozenset(served or {BacklogName(UNCLAIMED, signal).text})
        wanted = frozenset(BacklogName(name, signal).text for name in letter.owed_to)
        return wanted if wanted <= everybody else None

    def readmitted(self) -> list[Readmitted]:
        """Couriers may take them now."""
        return self._readmitted


def _signal_of(letter: DeadLetterReplay) -> Signal:
    return letter.request.pieces[0].signal


@dataclass
class Discard(Transaction[list[int]]):
    """Some letters go for good; with `erases` their bytes are overwritten."""

    letter_ids: Sequence[int]
    erases: bool = False

    def run(self, file: LogFile, *, now_ns: int) -> list[int]:
        """The ids of those that were there."""
        if not self.erases:
            return file.letters.remove(self.letter_ids)
        file.connection.pragma("secure_delete", "on")
        try:
            for row in file.letters.rows_of(self.letter_ids):
                history.erase(file, row)
            return file.letters.remove(self.letter_ids)
        finally:
            file.connection.pragma("secure_delete", "fast")  # as it was opened


class ReturnPages(Transaction[int]):
    """Give free pages back to the file system, with whatever they hold; how many are left.

    A step at a time, and all of the last ones at once: retention frees more meanwhile, so small
    steps alone might never see an end. `at_once` takes all, however long it is.
    """

    is_upkeep: ClassVar[bool] = True

    def __init__(self, *, at_once: bool = False) -> None:
        self._at_once = at_once

    def run(self, file: LogFile, *, now_ns: int) -> int:
        """One step."""
        connection = file.connection
        if not self._at_once and int(connection.pragma("freelist_count")) > _LAST_PAGES:
            fetch(connection, f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        else:
            fetch(connection, "PRAGMA incremental_vacuum")
        return int(connection.pragma("freelist_count"))


class CutLog(Transaction[bool]):
    """Write the whole write-ahead log back and cut it to nothing; whether that came about.

    It does not while a reader is in the middle of a statement: ask again.
    """

    is_upkeep: ClassVar[bool] = True

    def run(self, file: LogFile, *, now_ns: int) -> bool:
        """One try."""
        log = Path(file.connection.filename_wal)
        return file.cut_wal() and (not log.exists() or log.stat().st_size == 0)
