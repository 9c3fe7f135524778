"""64 bytes of a stopped relay's file are overwritten: only the rows hit are missing, and named.

It starts as ever, delivers every other row, and for each row that it cannot deliver there is a dead
letter `damaged_on_disk` with the row's number.
"""

import random
import re
import time
from dataclasses import dataclass
from pathlib import Path

import apsw

from relay.buffer.sqlite.rows import RowColumns, read_row
from relay.buffer.values import StoredDeadLetter
from relay.model.records import DeadLetter, StoredRow
from tests.support.load import ids_in, nth_request
from tests.support.relay_process import eventually
from tests.trials.fates import dead_by_destination, letters_in
from tests.trials.relays import Trial
from tests.trials.rows import Row, judge

DAMAGE_BYTES = 64
# Rows that share the page that is hit: a page of 4 KiB holds at most so many rows of this size.
MOST_ROWS = 8
REASON = "damaged_on_disk"
QUIET_SECONDS = 5.0


@dataclass(frozen=True)
class KeptRow:
    """A row as it was before the damage."""

    ids: list[str]
    stored: bytes  # its body as it stands in the file


def rows_in(database: Path) -> dict[int, KeptRow]:
    """Every row of a file that nobody has open."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found = connection.execute("SELECT * FROM rows").fetchall()
    finally:
        connection.close()
    kept = {}
    for columns in map(RowColumns._make, found):
        row = read_row(columns)
        assert isinstance(row, StoredRow)
        kept[row.row] = KeptRow(ids_in(row.body), columns.body)
    return kept


def overwrite(database: Path, at: int, rng: random.Random) -> None:
    """64 other bytes there."""
    with database.open("r+b") as file:
        file.seek(at)
        before = file.read(DAMAGE_BYTES)
        file.seek(at)
        file.write(bytes(byte ^ rng.randrange(1, 256) for byte in before))


def trial(*, seed: int, is_anywhere: bool = True) -> Row:
    """The whole file may be hit, or (`is_anywhere` false) the body of a row."""
    name = "64 bytes overwritten" + ("" if is_anywhere else " in a row")
    with Trial(name, seed) as trial:
        acknowledged: set[str] = set()
        for collector in trial.collectors.values():
            collector.stop()
        for number in range(40):
            noise = trial.random.randbytes(1000).hex()
            made = nth_request(number, 2, padding=noise)
            if trial.relay.send(made)[0] == 200:
                acknowledged.update(made.ids)
        trial.relay.stop()
        database = trial.relay.state_dir / "relay.db"
        rows = rows_in(database)
        content = database.read_bytes()
        at = trial.random.randrange(len(content) - DAMAGE_BYTES)
        if not is_anywhere:
            stored = trial.random.choice(list(rows.values())).stored
            at = content.index(stored[len(stored) // 2 :][:DAMAGE_BYTES])
        overwrite(database, at, trial.random)
        for collector in trial.collectors.values():
            collector.start()
        trial.relay.start()
        trial.wait_until_delivered(acknowledged)
        if any(trial.relay.state_dir.glob("relay.db.*")):
            _wait_until_read_back(trial, acknowledged)
        code = trial.relay.stop()
        if code:
            trial.problems.append(f"the relay ended with {code}")
        row = _judge(trial, acknowledged, rows, letters_in(trial.relay.state_dir))
        if not row.is_good:
            print(f"--- {name}, seed {seed}: byte {at} of {len(content)} ---")
            print(trial.relay.log()[-4000:])
        return row


def _wait_until_read_back(trial: Trial, acknowledged: set[str]) -> None:
    """A file was set aside and is read back: until everything is there, or nothing more comes."""
    last, since = -1, time.monotonic()

    def is_over() -> bool:
        nonlocal last, since
        found = sum(len(recorder.ids) for recorder in trial.recorders.values())
        if found != last:
            last, since = found, time.monotonic()
        is_all = all(recorder.holds(acknowledged) for recorder in trial.recorders.values())
        return is_all or time.monotonic() - since > QUIET_SECONDS

    eventually(is_over, seconds=120, what="an end of reading back")
    trial.wait_until_delivered(acknowledged)


def _named(letter: DeadLetter) -> range:
    """The rows that a dead letter speaks of: one, or a stretch, as in "row 21-22 of …"."""
    stretch = re.match(r"rows? (\d+)\N{EN DASH}(\d+) ", letter.words)
    if stretch is None:
        return range(letter.row, letter.row + 1)
    return range(int(stretch[1]), int(stretch[2]) + 1)


def _judge(
    trial: Trial, acknowledged: set[str], rows: dict[int, KeptRow], letters: list[StoredDeadLetter]
) -> Row:
    fates = {}
    dead = dead_by_destination(letters)
    for name, recorder in trial.recorders.items():
        fates[name], doubles = recorder.fate()
        trial.problems += doubles[:3]
        fates[name].dead = dead.get(name, {})
        hit = {
            row
            for stored in letters
            if stored.letter.reason == REASON and stored.letter.destination in (name, "")
            for row in _named(stored.letter)
        }
        for row in hit & rows.keys():
            fates[name].dead |= dict.fromkeys(rows[row].ids, REASON)
        if len(hit) > MOST_ROWS:
            trial.problems.append(f"{name}: {len(hit)} rows are said to be damaged")
    return judge(trial.name, acknowledged, fates, trial.problems)
