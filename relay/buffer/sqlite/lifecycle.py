"""Keeps a usable file open: opens it again when it was lost, replaces it when it is damaged.

Lives in the writer's thread; what it says of itself (`last_error`, `is_full`, …) may be read from
any.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import apsw
import structlog

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.backlogs import Backlogs
from relay.buffer.sqlite.commands import Corrupt
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.disk_errors import limit_for, words_for
from relay.buffer.sqlite.housekeeping import Housekeeping
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.open import InheritedState, open_file
from relay.buffer.sqlite.schema import CORRUPT_ERRORS, DISK_ERRORS, ODD_VALUES, is_damage
from relay.buffer.sqlite.signal_runs import Run
from relay.buffer.sqlite.types import Loaded, Persisted, Totals
from relay.model.errors import BufferFull, BufferUnavailable

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

_FILE_CHECK_SECONDS = 0.25


class Lifecycle:
    """Keeps a file open, and remembers of it what the next one must know."""

    def __init__(
        self,
        state_dir: StateDirectory,
        ledger: Ledger,
        backlogs: Backlogs,
        house: Housekeeping,
        *,
        vfs: str | None,
    ) -> None:
        self._state_dir = state_dir
        self._settings = ledger.settings
        self._ledger = ledger
        self._acks = ledger.pending
        self._backlogs = backlogs
        self._house = house
        self._vfs = vfs
        self._known_totals = Totals()
        self._known_run: Run | None = None  # in which that row is
        self._known_row: int
        self._known_destinations: dict[str, Persisted] | None = None
        self._inherited = InheritedState()  # what a file that was given up leaves to the next
        self._quarantines: int
        self._next_check = 0.0  # monotonic
        self.file: LogFile | None = None
        self.is_full = False
        self.limit = ""  # which one, in words, while it is full
        self.last_error = ""

    def open(self) -> Loaded:
        """Open or make the file. Raises one of DISK_ERRORS."""
        try:
            file, loaded = open_file(self._state_dir, self._settings, vfs=self._vfs)
        except DISK_ERRORS:
            if not self._house.open_on_full_disk():
                raise
            file, loaded = open_file(self._state_dir, self._settings, vfs=self._vfs)
        self._quarantines = self._state_dir.quarantines
        try:
            self._adopt(file, is_first=True)
        except Exception as error:
            if not isinstance(error, (*CORRUPT_ERRORS, *ODD_VALUES)) and not is_damage(error):
                raise
            # In a page that opening itself does not read.
            log.error("buffer_file_unusable", error=str(error))  # noqa: TRY400 - it is the file
            file.close(checkpoint=False)
            left = InheritedState(is_unusable=True)
            file, loaded = open_file(self._state_dir, self._settings, vfs=self._vfs, inherited=left)
            self._quarantines = self._state_dir.quarantines
            self._adopt(file, is_first=True)
        return loaded

    def close(self, *, checkpoint: bool) -> None:
        """Close the file; with `checkpoint` its WAL is written back, if the disk is well."""
        if self.file is not None:
            self.file.close(checkpoint=checkpoint and not self.last_error)

    def usable(self) -> LogFile:
        """The open file, opened again if it was lost. Raises BufferUnavailable."""
        now = time.monotonic()
        if now >= self._next_check or self.file is None:
            missing = self._missing_file()
            if missing:
                self.last_error = f"{missing} was removed or replaced under the running relay"
                raise BufferUnavailable(
                    self.last_error, hint="put it back, or restart to begin a new one"
                )
            self._next_check = now + _FILE_CHECK_SECONDS
        return self.file or self._found_again()

    def _found_again(self) -> LogFile:
        try:
            file = self._open_again()
            self._adopt(file)
        except DISK_ERRORS as error:
            self._lose(error)
            words = f"the buffer cannot be opened: {self.last_error}"
            raise BufferUnavailable(words) from error
        return file

    def _missing_file(self) -> str:
        """The name of a file that is no longer the one we opened; empty when all are."""
        for path, device, inode in self._state_dir.identities:
            try:
                found = path.stat()
            except FileNotFoundError:
                return path.name
            if (found.st_dev, found.st_ino) != (device, inode):
                return path.name
        return ""

    @contextmanager
    def writable(self) -> Iterator[LogFile]:
        """The file for one transaction: what it raises becomes BufferUnavailable (`trouble`)."""
        file = self.usable()
        with self.trouble():
            yield file
        if self.last_error:
            log.info("buffer_disk_recovered")
        self.last_error = ""
        self._known_row, self._known_totals = file.last_row, file.totals
        self._known_run = file.run

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """Turn what SQLite says about the disk or the file into BufferUnavailable, and act."""
        try:
            yield
        except (*DISK_ERRORS, *CORRUPT_ERRORS, apsw.SQLError) as error:
            if isinstance(error, CORRUPT_ERRORS) or is_damage(error):
                self._replace(str(error))
                raise BufferUnavailable(
                    "the buffer's file was found damaged and has just been replaced"
                ) from error
            if not isinstance(error, DISK_ERRORS):
                raise
            self._lose(error)
            raise BufferUnavailable(f"the buffer cannot write: {self.last_error}") from error

    def note_full(self, *, is_full: bool) -> None:
        """Whether a usual request finds room."""
        if is_full != self.is_full:
            self.limit = self._house.space.limit() if is_full else ""
            log.warning("buffer_full" if is_full else "buffer_has_room", limit=self.limit)
        self.is_full = is_full

    def full(self) -> BufferFull:
        """What to tell somebody for whom there is no room."""
        return BufferFull(f"the buffer is full: {self.limit}" if self.limit else None)

    def replace_reported(self, message: Corrupt) -> None:
        """A reader met damage: replace the file, unless that was done already."""
        if message.generation == self._ledger.generation and self.file is not None:
            with suppress(BufferUnavailable), self.trouble():
                # What was owed again a moment ago is not on disk yet.
                waiting = [state[0] for state in self._acks.states().values() if state is not None]
                if not message.gaps or self.file.has_lost(message.gaps, waiting):
                    self._replace(message.words)
        self._ledger.resolve([message.waiter])

    def reload(self, settings: BufferSettings) -> None:
        """Hold to these from now on."""
        self._settings = settings
        if self.file is not None:
            self.file.letters.settings = settings

    def _open_again(self) -> LogFile:
        if self._known_destinations is not None:
            known = dict(self._known_destinations)
            for name, state in self._acks.states().items():
                if state is None:
                    known.pop(name, None)
                else:
                    known[name] = Persisted(*state)
            self._inherited.remember(known, self._known_row, self._known_totals)
        return open_file(self._state_dir, self._settings, vfs=self._vfs, inherited=self._inherited)[
            0
        ]

    def _adopt(self, file: LogFile, *, is_first: bool = False) -> None:
        """Use `file`: the one we had, or a new one after that was quarantined."""
        self.file = file
        self._inherited, self._known_destinations = InheritedState(), None
        if self._state_dir.quarantines != self._quarantines:
            self._quarantines = self._state_dir.quarantines
            self._acks.forget_places()
            self._ledger.generation += 1
            self._ledger.post(self._backlogs.on_replaced, file.last_row)
        elif not is_first and file.last_row > self._known_row:
            # A commit whose fsync failed is in it after all.
            before = self._known_run.sums_at(self._known_totals) if self._known_run else {}
            sums = {
                signal: more
                for signal, now in file.run.sums_at(file.totals).items()
                if (more := now - before.get(signal, Totals())).rows
            }
            self._ledger.post(self._backlogs.on_rows, file.last_row, sums)
        self._known_row, self._known_totals = file.last_row, file.totals
        self._known_run = file.run
        self._house.look(file)

    def _lose(self, error: Exception) -> None:
        """The disk refused: say so, and open the file anew at the next try."""
        connection = self.file.connection if self.file is not None else None
        words = words_for(error, connection)
        is_no_space = self._house.no_space(error, self.file)
        if is_no_space:
            self.is_full, self.limit = True, limit_for(error, connection)
        if words != self.last_error:  # it is tried every second
            log.error("buffer_disk_error", error=words)
        self.last_error = words
        if self.file is not None and not is_no_space:
            self._known_destinations = self.file.destinations
            self.file.close(checkpoint=False)
            self.file = None

    def _replace(self, words: str) -> None:
        """Quarantine the file and open a new one with higher ids; `salvage` reads the old one."""
        file = self.file
        if file is None:
            return
        log.error("buffer_file_corrupt", error=words)
        self._known_row = max(self._known_row, file.last_row)
        self._known_totals = file.totals
        self._known_destinations = file.destinations
        file.close(checkpoint=False)
        self.file = None
        self._inherited.is_unusable = True
        try:
            self._adopt(self._open_again())
        except DISK_ERRORS as error:
            self._lose(error)
