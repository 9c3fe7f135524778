"""Brings the rows of quarantined files back into the buffer, behind the running relay.

One file after the other, in steps that leave the processor to others, each transaction a few MiB.
The file itself is only read, and kept: beside it lies a report once all is back that can be.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import structlog

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import UNCLAIMED, BacklogName, backlog_name
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.private_files import open_new, read_private
from relay.buffer.sqlite.quarantine import (
    SalvageState,
    decode_state,
    encode_state,
    quarantined_files,
    report_of,
    state_of,
    wal_of,
)
from relay.buffer.sqlite.rows import RowColumns
from relay.buffer.sqlite.schema import SCHEMA_VERSION
from relay.buffer.values import StoredDeadLetter
from relay.model.counters import Counters
from relay.model.errors import BufferFailure, BufferFull
from relay.model.nouns import counted
from relay.model.reasons import Reason
from relay.model.records import DeadLetter, Encoding, Signal
from relay.salvage.losses import Loss, bound, losses, named, runs_of, sentence
from relay.salvage.old_state import read_old_state
from relay.salvage.pages import PageFiles
from relay.salvage.readmit import (
    Found,
    Overtaken,
    Readmission,
    found_row,
)
from relay.salvage.scan import KnownRun, Pause, Scan, Wanted

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

_STEP_SECONDS = 0.02
_BATCH_BYTES = 2 * 1024 * 1024
_BATCH_ROWS = 1000
_BATCH_LETTERS = 64
_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 60.0
_MOST_TRACED_ROWS = 10_000
_MOST_TRACE_BYTES = 64 * 1024
_MOST_LETTERS = 10_000


@dataclass(frozen=True, slots=True)
class QuarantinedFile:
    """A file that could not be used and lies beside the buffer's own. `state`: "waits", "being
    read back" or "read back"; then `may_be_removed`, and `words` say what came of it.
    """

    file: str
    state: str
    rows: int = 0  # read back so far
    spans: int = 0
    words: str = ""
    may_be_removed: bool = False


@dataclass(slots=True)
class _Batch:
    """What one step after the other found, until it is enough for a transaction."""

    rows: list[Found] = field(default_factory=list)
    raw_bytes: int = 0
    ids: set[int] = field(default_factory=set)
    is_pass_over: bool = False
    is_last: bool = False

    @property
    def is_full(self) -> bool:
        is_large = self.raw_bytes >= _BATCH_BYTES or len(self.rows) >= _BATCH_ROWS
        return is_large or self.is_pass_over

    def step(self, rows: Iterator[RowColumns | Pause]) -> None:
        """Go on for a moment. In a thread of its own."""
        until = time.monotonic() + _STEP_SECONDS
        for row in rows:
            if row is Pause.PASS_OVER:
                self.is_pass_over = True
            elif isinstance(row, RowColumns) and row.id not in self.ids:
                self.ids.add(row.id)
                self.rows.append(found_row(row))
                self.raw_bytes += row.raw_bytes
            if self.is_full or time.monotonic() > until:
                return
        self.is_last = True


class Salvage:
    """Reads back what table `salvages` names; `run` beside everything else."""

    def __init__(self, buffer: Buffer, counters: Counters) -> None:
        self._buffer = buffer
        self._counters = counters
        self.quarantined: tuple[QuarantinedFile, ...] = ()  # for status
        self.is_busy = True  # until everything that there is has been looked at

    async def run(self) -> None:
        """Read back what there is, and again whenever the file was replaced; for ever."""
        delay = _RETRY_SECONDS
        while True:
            self._buffer.file_changed.clear()
            self.is_busy = True
            try:
                await self.read_back()
            except (BufferFailure, OSError) as error:
                log.warning("read_back_waits", reason=str(error))
                with anyio.move_on_after(delay):
                    await self._buffer.file_changed.wait()
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)
                continue
            except Exception:  # what lies in a damaged file must never end the process
                log.exception("read_back_failed")
            delay = _RETRY_SECONDS
            self.is_busy = False
            await self._buffer.file_changed.wait()

    async def read_back(self) -> None:
        """Return when everything that was quarantined is read back as far as it can be.

        Raises BufferFailure when the buffer, and OSError when a file cannot be read now.
        """
        while True:
            try:
                for name, stored in await self._buffer.quarantined():
                    await self._read_back(name, stored)
            except Overtaken:
                continue
            self._publish(None)
            return

    # -- one file -----------------------------------------------------------------------------

    async def _read_back(self, name: str, stored: bytes) -> None:
        try:
            state = decode_state(stored)
        except ValueError:
            log.warning("salvage_state_damaged", file=name)
            state = state_of({})
        path = self._buffer.directory / name
        if state.is_done:
            await anyio.to_thread.run_sync(_write_report, path, state)
            return
        files = await anyio.to_thread.run_sync(PageFiles, path, wal_of(path))
        with files:
            old = await anyio.to_thread.run_sync(read_old_state, files)
            if name.startswith("relay.db.schema-") and old.version > SCHEMA_VERSION:
                return  # for a newer version of this program
            if old.last_row > state.last_row:
                state = msgspec.structs.replace(
                    state, last_row=old.last_row, total_rows=0, total_spans=0
                )
            state = self._with_owners(state)
            work = _Reading(self._buffer, files, name, stored, state, self._publish)
            log.warning("read_back_begins", file=name, rows_before=state.rows)
            await anyio.to_thread.run_sync(work.begin)
            await work.rows()
            await work.letters()
            lost = await work.finish()
        self._counters.dead_letters[Reason.DAMAGED_ON_DISK] += lost
        await anyio.to_thread.run_sync(_write_report, path, work.state)
        log.warning("read_back_done", file=name, words=work.state.words)

    def _with_owners(self, state: SalvageState) -> SalvageState:
        """Whom the file does not name and should, is owed everything of it."""
        if not state.is_guess:
            return state
        keys = list(self._buffer.consumers())
        have_one = {key.signal for key in keys}
        keys += [BacklogName(UNCLAIMED, signal) for signal in Signal if signal not in have_one]
        everything = owed_ranges.encode(owed_ranges.open_from(1))
        return msgspec.structs.replace(
            state, owed=dict.fromkeys((each.text for each in keys), everything) | state.owed
        )

    # -- what status tells --------------------------------------------------------------------

    def _publish(self, doing: QuarantinedFile | None) -> None:
        self.quarantined = tuple(
            doing if doing is not None and doing.file == path.name else described(path)
            for path in quarantined_files(self._buffer.directory)
        )


def described(path: Path) -> QuarantinedFile:
    """A quarantined file, as its report and its name tell of it."""
    try:
        report = json.loads(read_private(report_of(path)))
        return QuarantinedFile(
            path.name, "read back", report["rows"], report["spans"], report["words"], True
        )
    except (OSError, ValueError, KeyError, TypeError):
        is_newer = path.name.startswith("relay.db.schema-")
        words = "was written by a newer version, which takes it up again" if is_newer else ""
        return QuarantinedFile(path.name, "waits", words=words)


class _Reading:
    """One file while it is read back."""

    def __init__(
        self,
        buffer: Buffer,
        files: PageFiles,
        name: str,
        stored: bytes,
        state: SalvageState,
        tell: Callable[[QuarantinedFile], None],
    ) -> None:
        self._buffer = buffer
        self._tell = tell
        self._name = name
        self._stored = stored
        self._ranges = state.ranges()
        self._own = self._ranges  # of them what is of the backlog's signal, as far as that is known
        self._looked_to = 0  # rows below were met, or are damaged
        self._tail = KnownRun(0, 0, None)  # the last run that is known
        self._of_tail: set[int] = set()  # signals of the rows found in it
        self._scan = Scan(files)
        self.state = state

    def begin(self) -> None:
        """Find out which rows are of which signal. Blocks."""
        *runs, self._tail = self._scan.runs() or [KnownRun(0, 0, None)]
        if self._tail.end:
            # A run has a row at least; that none came behind the last shows by rows found there.
            first = self._tail._replace(end=self._tail.first + 1)
            self._narrow([*runs, first, KnownRun(first.end, self._tail.end, None)])

    def _narrow(self, runs: list[KnownRun]) -> None:
        """Owe to each backlog only what is of its signal, as far as `runs` tell."""
        of_each = {
            signal: owed_ranges.union(run.range for run in runs if run.signal in (None, signal))
            for signal in Signal
        }
        self._own = {
            name: owed_ranges.intersection(ranges, of_each[backlog_name(name).signal])
            for name, ranges in self._own.items()
        }

    def _missing(self) -> Ranges:
        return owed_ranges.union(item for ranges in self._own.values() for item in ranges)

    async def rows(self) -> None:
        """Every row that is whole and owed."""
        self._show()
        self._scan.last_row = self.state.last_row
        self._scan.wanted = Wanted(self._missing())
        rows = self._scan.rows()
        batch = _Batch()
        while not batch.is_last:
            batch = _Batch()
            while not batch.is_full and not batch.is_last:
                started = time.monotonic()
                await anyio.to_thread.run_sync(batch.step, rows)
                # As long as it took: others want the processor, too.
                await anyio.sleep(min(time.monotonic() - started, _STEP_SECONDS))
            if batch.rows:
                await self._take(batch)

    async def _take(self, batch: _Batch) -> None:
        rows = [row for row in batch.rows if self._is_owed(row)]
        tail = (row.columns for row in batch.rows if row.columns.id >= self._tail.first)
        self._of_tail.update(columns.signal for columns in tail)
        gone = owed_ranges.union(owed_ranges.row_range(row) for row in batch.ids)
        own = {name: owed_ranges.subtract(ranges, gone) for name, ranges in self._own.items()}
        self._looked_to = max(self._looked_to, *batch.ids)
        done = owed_ranges.before(self._looked_to + 1)
        # What is ahead is noted with what is of other signals in it: few ranges, as they were owed.
        left = {
            name: owed_ranges.union(
                (
                    *owed_ranges.intersection(own[name], (done,)),
                    *owed_ranges.subtract(ranges, (done,)),
                )
            )
            for name, ranges in self._ranges.items()
        }
        after = msgspec.structs.replace(
            self.state,
            owed={name: owed_ranges.encode(ranges) for name, ranges in left.items()},
            rows=self.state.rows + len(rows),
            spans=self.state.spans + sum(row.stored.items for row in rows),
        )
        await self._work(after, rows=rows, ranges=self._own)
        self._ranges, self._own = left, own
        self._scan.wanted = Wanted(self._missing())

    def _is_owed(self, row: Found) -> bool:
        place = owed_ranges.row_range(row.columns.id)
        return any(
            backlog_name(name).signal is row.stored.signal and owed_ranges.overlaps(ranges, place)
            for name, ranges in self._own.items()
        )

    async def _work(self, after: SalvageState, **what: object) -> None:
        job = Readmission(self._name, self._stored, after, **what)  # type: ignore[arg-type]
        while True:
            try:
                await self._buffer.readmit(job)
                break
            except BufferFull:
                # Couriers make room, or somebody does.
                await anyio.sleep(_RETRY_SECONDS)
        self.state, self._stored = after, encode_state(after)
        self._show()

    def _show(self) -> None:
        state = self.state
        self._tell(QuarantinedFile(self._name, "being read back", state.rows, state.spans))

    async def letters(self) -> None:
        """Every dead letter that is whole."""
        letters = self._scan.letters(self.state.letters_after)
        while True:
            batch = await anyio.to_thread.run_sync(_some_letters, letters)
            if not batch:
                return
            after = msgspec.structs.replace(
                self.state,
                letters=self.state.letters + len(batch),
                letters_after=batch[-1].letter_id,
            )
            await self._work(after, letters=batch)

    async def finish(self) -> int:
        """Name what was not found, as dead letters; returns how many."""
        found, letters = await anyio.to_thread.run_sync(self._look_for_losses)
        after = msgspec.structs.replace(
            self.state,
            is_done=True,
            lost=[(loss.first, loss.last) for loss in found],
            lost_rows=sum(loss.rows for loss in found),
            lost_spans=sum(loss.spans for loss in found),
            is_exact=(
                all(loss.is_exact for loss in found)
                and bool(self._scan.last_row)
                and not self.state.is_guess
            ),
        )
        after = msgspec.structs.replace(after, words=sentence(self._name, after))
        await self._work(after, lost=letters)
        return len(letters)

    def _look_for_losses(self) -> tuple[list[Loss], list[DeadLetter]]:
        if self._tail.end and self._of_tail == {self._tail.signal}:
            self._narrow([KnownRun(0, self._tail.first, None), self._tail])
        last_row = max(self._scan.last_row, self._scan.highest)
        runs = runs_of(self._missing(), last_row)
        found = losses(runs, self._scan.anchors(runs), self.state) if runs else []
        rows = [row for loss in found for row in range(loss.first, loss.last + 1)]
        traces = self._scan.trace_ids(set(rows[:_MOST_TRACED_ROWS])) if rows else {}
        letters = [
            self._letter(name, loss, traces) for loss in found for name in self._owed_once(loss)
        ]
        return found, letters[:_MOST_LETTERS]

    def _owed_once(self, loss: Loss) -> Iterable[str]:
        """A queue of each destination that was owed some of it: of which signal a lost row was is
        mostly not known, and then it would be told, and counted, for each of them.
        """
        found: dict[str, str] = {}
        for name, ranges in self._own.items():
            known = backlog_name(name)
            if known.is_claimed and owed_ranges.overlaps(ranges, loss.range):
                found.setdefault(known.destination, name)
        return found.values()

    def _letter(self, name: str, loss: Loss, traces: dict[int, bytes]) -> DeadLetter:
        ids = b"".join(traces.get(row, b"") for row in range(loss.first, loss.last + 1))
        about = bound(is_exact=loss.is_exact, is_guess=self.state.is_guess)
        return DeadLetter(
            destination=backlog_name(name).destination,
            signal=backlog_name(name).signal,
            reason=Reason.DAMAGED_ON_DISK,
            words=f"row {named([(loss.first, loss.last)])} of {self._name} could not be read back:"
            f" the bytes that held {about}{counted(loss.spans, 'item')} are damaged",
            items=0,
            affected=loss.spans,
            encoding=Encoding.JSON,
            body=b"",
            row=loss.first,
            trace_ids=ids[:_MOST_TRACE_BYTES],
        )


def _some_letters(letters: Iterator[StoredDeadLetter | None]) -> Sequence[StoredDeadLetter]:
    batch: list[StoredDeadLetter] = []
    size = 0
    for letter in letters:
        if letter is not None:
            batch.append(letter)
            size += len(letter.letter.body)
        if len(batch) >= _BATCH_LETTERS or size >= _BATCH_BYTES:
            break
    return batch


def _write_report(path: Path, state: SalvageState) -> None:
    """Beside the file, for people, and so that it is not read back a second time."""
    report = report_of(path)
    if report.exists() or not (path.exists() or wal_of(path).exists()):
        return
    content = {
        "file": path.name,
        "rows": state.rows,
        "spans": state.spans,
        "dead_letters": state.letters,
        "lost_rows": state.lost,
        "lost_spans": state.lost_spans,
        "is_exact": state.is_exact,
        "words": state.words,
    }
    fresh = report.with_name(report.name + ".new")
    with os.fdopen(open_new(fresh), "w") as file:
        file.write(json.dumps(content, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(report)
