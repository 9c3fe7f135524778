"""What a file just opened says of itself, and what is believed where it was hit."""

from pathlib import Path

import apsw
import pytest

from relay.buffer import owed_ranges
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.types import Persisted, Totals
from tests.unit.buffer.log_files import ALL, group_of, log_file, move, rows
from tests.unit.buffer.making import NOW_NS, piece


def fill(state_dir: Path) -> None:
    """Rows of 1, 20 and 300 items, of as many bytes, owed to a from the second on."""
    with log_file(state_dir) as file:
        for count in (1, 20, 300):
            file.commit(group_of(file, piece(b"x" * count, spans=count)), {}, now_ns=NOW_NS)
        move(file, "a", owed_ranges.open_from(2))


def hit(state_dir: Path, sql: str) -> LogFile:
    """The file as it is opened after that was done to it."""
    connection = apsw.Connection(str(state_dir / "relay.db"))
    connection.execute(sql)
    connection.close()
    (state_dir / "last-row").unlink(missing_ok=True)  # nothing else knows of it
    with log_file(state_dir) as file:
        return file


@pytest.mark.parametrize(
    ("sql", "last_row", "totals"),
    [
        ("DELETE FROM totals", 3, Totals(3, 321, 321)),
        ("UPDATE rows SET checksum = checksum + 1 WHERE id = 3", 3, Totals(3, 22, 21)),
        ("UPDATE rows SET checksum = checksum + 1 WHERE id > 1", 3, Totals(3, 3, 1)),
        ("UPDATE rows SET checksum = checksum + 1; DELETE FROM totals", 3, Totals()),
        (
            "DELETE FROM rows; UPDATE totals SET rows = 7, spans = 8, raw_bytes = 9",
            3,
            Totals(7, 8, 9),
        ),
        ("DELETE FROM rows; DELETE FROM traces; DELETE FROM sqlite_sequence", 1, Totals()),
        ("DELETE FROM rows; DELETE FROM destinations; DELETE FROM sqlite_sequence", 3, Totals()),
    ],
)
def test_newest_row_that_is_whole_says_how_many_there_were(
    tmp_path: Path, sql: str, last_row: int, totals: Totals
) -> None:
    fill(tmp_path)
    file = hit(tmp_path, sql)
    assert (file.last_row, file.totals, file.gone) == (last_row, totals, Totals())


@pytest.mark.parametrize(
    ("sql", "ranges"),
    [
        ("", owed_ranges.open_from(2)),
        ("UPDATE destinations SET ranges = x'00'", ALL),
        (
            "UPDATE destinations SET ranges = 'odd'; DELETE FROM rows WHERE id < 3",
            owed_ranges.open_from(3),
        ),
        ("UPDATE destinations SET ranges = x'00'; DELETE FROM rows", ALL),
        ("INSERT INTO destinations VALUES (x'ff', 1, x'00')", owed_ranges.open_from(2)),
    ],
)
def test_destination_whose_ranges_were_hit_is_owed_all_that_is_kept(
    tmp_path: Path, sql: str, ranges: owed_ranges.Ranges
) -> None:
    fill(tmp_path)
    assert hit(tmp_path, sql).destinations == {"a": Persisted(ranges, is_paused=False)}


def test_rows_that_were_owed_have_had_their_ids(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        move(file, "a", (*rows(2, 4), *rows(7, 8)))
    assert hit(tmp_path, "").last_row == 8


def test_id_that_cannot_be_is_not_believed(tmp_path: Path) -> None:
    fill(tmp_path)
    with log_file(tmp_path) as file:
        move(file, "a", owed_ranges.open_from(1 << 60))
    assert hit(tmp_path, "UPDATE sqlite_sequence SET seq = -5 WHERE name = 'rows'").last_row == 3
