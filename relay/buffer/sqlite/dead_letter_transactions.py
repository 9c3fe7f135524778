"""Dead letters to send again, to drop or to erase go in; what was done, a step at a time, out.

A letter's removal and the row it becomes are one transaction: a crash in between neither loses it
nor sends it twice.

To erase takes three things. The rows of the letters are overwritten with zeros as they are deleted
(`Discard` with `erases`), and so is what is remembered of the log's rows they came from, once those
have gone. What earlier copies left in free pages, such as the row that a letter was
before, goes with those pages (`ReturnPages`, until none is free). Both are in the write-ahead log,
too, until that is written back and cut (`CutLog`). Inside pages still in use, deleted bytes are
overwritten in any case, since the file is open with `secure_delete = fast`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.rows import Group, build_group
from relay.buffer.sqlite.schema import fetch
from relay.buffer.sqlite.space import history
from relay.buffer.sqlite.transactions import Chore, Landing
from relay.model.records import Request

# Moved at a time: about 4 MiB, some milliseconds.
_VACUUM_PAGES = 1024
_LAST_PAGES = 2048


@dataclass(frozen=True, slots=True)
class Again:
    """A letter that is sent again: as `request`, to the destinations `owed_to` (None: to all)."""

    letter_id: int
    request: Request
    owed_to: frozenset[str] | None
    stored_bytes: int


@dataclass(slots=True)
class Replay:
    """Rows of some letters, in the place of the letters unless these are kept (`jobs.Job`)."""

    letters: Sequence[Again]
    settings: BufferSettings
    keeps: bool = False
    _landed: list[tuple[Group, frozenset[str]]] = field(default_factory=list)

    @property
    def need_bytes(self) -> int:
        """About what the rows take; the space of the letters comes back later."""
        return sum(each.stored_bytes for each in self.letters)

    def run(self, file: LogFile, *, now_ns: int) -> list[int]:
        """The ids of the letters that were there and are sent again.

        One for a destination that was removed meanwhile stays: nobody would be owed its rows.
        """
        everybody = frozenset(file.destinations)
        sendable = [each for each in self.letters if (each.owed_to or everybody) <= everybody]
        present = file.letters.having(each.letter_id for each in sendable)
        if not self.keeps:
            file.letters.remove(present)
        still_there = set(present)
        by_receivers: dict[frozenset[str], list[Request]] = {}
        for each in sendable:
            if each.letter_id in still_there:
                receivers = everybody if each.owed_to is None else each.owed_to
                by_receivers.setdefault(receivers, []).append(each.request)
        for receivers, requests in by_receivers.items():
            group = build_group(
                requests,
                after_row=file.last_row,
                totals=file.totals,
                settings=self.settings,
                received_ns=now_ns,
            )
            file.readmit(group, receivers, now_ns=now_ns)
            self._landed.append((group, receivers))
        return present

    def landed(self, log: Landing) -> None:
        """Couriers may take them now."""
        for group, receivers in self._landed:
            log.readmitted(group, receivers)


@dataclass(slots=True)
class Discard:
    """Some letters go for good; with `erases` their bytes are overwritten (`jobs.Job`)."""

    letter_ids: Sequence[int]
    erases: bool = False
    need_bytes: int = 0

    def run(self, file: LogFile, *, now_ns: int) -> list[int]:
        """The ids of those that were there."""
        if not self.erases:
            return file.letters.remove(self.letter_ids)
        before = file.connection.pragma("secure_delete")
        file.connection.pragma("secure_delete", "on")
        try:
            for row in file.letters.rows_of(self.letter_ids):
                history.erase(file, row)
            return file.letters.remove(self.letter_ids)
        finally:
            file.connection.pragma("secure_delete", "fast" if before == 2 else before)

    def landed(self, log: Landing) -> None:
        """Nothing came."""


class ReturnPages(Chore[int]):
    """Give free pages back to the file system, with whatever they hold; how many are left.

    A step at a time, and all of the last ones at once: retention frees more meanwhile, so small
    steps alone might never see an end. `at_once` takes all, however long it is.
    """

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


class CutLog(Chore[bool]):
    """Write the whole write-ahead log back and cut it to nothing; whether that came about.

    It does not while a reader is in the middle of a statement: ask again.
    """

    def run(self, file: LogFile, *, now_ns: int) -> bool:
        """One try."""
        connection = file.connection
        connection.set_busy_timeout(0)
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (apsw.BusyError, apsw.LockedError):
            return False
        finally:
            connection.set_busy_timeout(2000)
        log = Path(connection.filename_wal)
        return not log.exists() or log.stat().st_size == 0
