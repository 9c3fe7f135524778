"""The account of dead letters: what goes for age and for space, to the byte, and is counted."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.buffer.sqlite import counters_table, dead_letter_table
from relay.buffer.sqlite.dead_letter_table import (
    MAX_WORDS,
    DeadLetterTable,
    entry_of,
    letter_of,
    newest_letters,
)
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.open import open_file
from relay.buffer.values import DeadLetterCount
from relay.model.reasons import Reason
from relay.model.records import DeadLetter, Encoding, Signal
from tests.unit.buffer.making import NOW_NS, SETTINGS, noise, trace_id

SECOND = 10**9


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LogFile]:
    held = StateDirectory(tmp_path)
    held.enter()
    file, _ = open_file(held, SETTINGS, vfs=None)
    yield file
    file.close(checkpoint=True)
    held.leave()


@pytest.fixture
def table(file: LogFile) -> DeadLetterTable:
    return file.letters


def letter(words: str = "no", destination: str = "a", size: int = 100, row: int = 0) -> DeadLetter:
    body = noise(size)
    return DeadLetter(destination, "other", words, 1, Encoding.JSON, body, row=row, affected=1)


def words(file: LogFile) -> list[str]:
    return [each.letter.words for each in newest_letters(file.connection, 1000)]


def test_letter_is_too_old_only_after_its_time(file: LogFile, table: DeadLetterTable) -> None:
    table.settings = replace(SETTINGS, dead_letter_seconds=10)
    table.add([letter("first")], now_ns=NOW_NS)
    table.add([letter("second", "b")], now_ns=NOW_NS + 1)

    assert table.trim(now_ns=NOW_NS + 10 * SECOND) == 0
    assert table.trim(now_ns=NOW_NS + 10 * SECOND + 1) == 1
    assert words(file) == ["second"]
    assert set(table.counts) == {"b"}
    assert table.dropped == 1
    assert table.trim(now_ns=NOW_NS + 10 * SECOND + 2) == 1
    assert table.counts == {}


def test_letter_that_came_after_one_of_today_is_not_old_whatever_the_clock_said_then(
    file: LogFile, table: DeadLetterTable
) -> None:
    table.settings = replace(SETTINGS, dead_letter_seconds=10)
    table.add([letter("of today")], now_ns=NOW_NS)
    table.add([letter("later, by a clock that was set back")], now_ns=NOW_NS - 3600 * SECOND)

    assert table.trim(now_ns=NOW_NS + SECOND) == 0
    assert len(words(file)) == 2


def test_old_letters_go_a_few_at_a_time_the_oldest_first(
    file: LogFile, table: DeadLetterTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_table, "_TRIM_STEP", 2)
    table.settings = replace(SETTINGS, dead_letter_seconds=1)
    for number in range(5):
        table.add([letter(f"{number}", "ab"[number % 2])], now_ns=NOW_NS + number)

    later = NOW_NS + 5 * SECOND
    assert table.trim(now_ns=later) == 2
    assert words(file) == ["4", "3", "2"]
    assert [table.trim(now_ns=later) for _ in range(3)] == [2, 1, 0]
    table.load()
    assert table.dropped == 5
    given_up = counters_table.read(file.connection, counters_table.DROPPED_LETTERS)
    assert given_up == {"a": 3, "b": 2}


def test_over_its_bytes_the_oldest_go_of_who_holds_most(
    file: LogFile, table: DeadLetterTable
) -> None:
    for number in range(4):
        table.add([letter(f"a{number}")], now_ns=NOW_NS)
    table.add([letter("b0", "b"), letter("b1", "b")], now_ns=NOW_NS)
    size = table.counts["a"].stored_bytes // 4
    assert table.stored_bytes == 6 * size

    def limited(limit: int) -> tuple[bool, int]:
        table.settings = replace(SETTINGS, dead_letter_bytes=limit)
        return table.is_over(), table.trim(now_ns=NOW_NS)

    assert limited(6 * size) == (False, 0)
    assert limited(6 * size - 1) == (True, 1)
    assert words(file) == ["b1", "b0", "a3", "a2", "a1"]
    assert limited(4 * size) == (True, 1)
    assert words(file) == ["b1", "b0", "a3", "a2"]
    assert limited(3 * size - 1) == (True, 2)
    assert words(file) == ["b1", "b0"]
    assert table.counts == {"b": DeadLetterCount(2, 2 * size)}
    assert limited(1) == (True, 2)
    assert (words(file), table.counts, table.dropped) == ([], {}, 6)
    assert limited(0) == (False, 0)


def test_of_the_fullest_a_few_go_at_a_time(
    file: LogFile, table: DeadLetterTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_table, "_TRIM_STEP", 2)
    table.settings = replace(SETTINGS, dead_letter_bytes=0)
    table.add([letter(f"{number}") for number in range(5)], now_ns=NOW_NS)

    assert [table.trim(now_ns=NOW_NS) for _ in range(4)] == [2, 2, 1, 0]


def test_size_is_that_of_body_words_and_ids_with_what_a_row_takes(table: DeadLetterTable) -> None:
    table.add([letter("no", "a")], now_ns=NOW_NS)
    table.add([letter("no" + "x" * 10, "b")], now_ns=NOW_NS)
    table.add([replace(letter("no", "c"), trace_ids=trace_id(1))], now_ns=NOW_NS)
    sizes = {name: each.stored_bytes for name, each in table.counts.items()}

    assert sizes["a"] > 100 + 200
    assert (sizes["b"] - sizes["a"], sizes["c"] - sizes["a"]) == (10, 16)


def test_ids_are_told_apart_from_those_that_have_gone(table: DeadLetterTable) -> None:
    table.add([letter(row=7), letter(row=0), letter(row=9)], now_ns=NOW_NS)

    assert table.having([3, 4, 1]) == [3, 1]
    assert table.rows_of([1, 2, 3, 4]) == {7, 9}
    assert table.remove([2, 2, 5]) == [2]
    assert table.having([1, 2, 3]) == [1, 3]
    assert table.counts["a"].count == 2
    assert table.dropped == 0


def test_what_was_said_is_kept_up_to_so_many_characters_whatever_they_are(
    file: LogFile, table: DeadLetterTable
) -> None:
    table.add([letter("x" * MAX_WORDS), letter("y" * (MAX_WORDS + 1))], now_ns=NOW_NS)
    table.add([letter("lone \ud800")], now_ns=NOW_NS)
    lone, cut, whole = (each.letter for each in newest_letters(file.connection, 3))

    assert whole.words == "x" * MAX_WORDS
    assert cut.words == "y" * MAX_WORDS
    assert lone.words == "lone ?"
    assert len(newest_letters(file.connection, 2)) == 2


def test_letter_is_read_back_as_it_was_written(file: LogFile, table: DeadLetterTable) -> None:
    written = DeadLetter(
        "a",
        "other",
        "no",
        3,
        Encoding.PROTOBUF,
        b"body",
        status=418,
        affected=2,
        path="resourceSpans[0]",
        trace_ids=trace_id(5),
        row=11,
        received_ns=NOW_NS - 5,
        signal=Signal.METRICS,
    )
    table.add([written], now_ns=NOW_NS)
    found = letter_of(file.connection, 1)

    assert found is not None
    assert (found.letter_id, found.set_aside_ns, found.is_damaged) == (1, NOW_NS, False)
    assert found.letter == written
    assert letter_of(file.connection, 2) is None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status", 419),
        ("spans", 4),
        ("affected", 7),
        ("received_ns", 1),
        ("row", 12),
        ("set_aside_ns", 1),
        ("destination", "'b'"),
        ("reason", "'another'"),
        ("path", "'x'"),
        ("words", "'yes'"),
        ("trace_ids", "x'00'"),
        ("signal", 2),
        ("raw_bytes", 99),
    ],
)
def test_letter_of_which_any_column_was_hit_is_damaged(
    file: LogFile, table: DeadLetterTable, column: str, value: object
) -> None:
    table.add([letter()], now_ns=NOW_NS)
    file.connection.execute(f"UPDATE dead_letters SET {column} = {value}")  # noqa: S608 - ours

    (found,) = newest_letters(file.connection, 1)
    assert found.is_damaged


def test_letter_of_what_cannot_be_read_has_the_ids_that_stand_beside_its_row(
    file: LogFile, table: DeadLetterTable
) -> None:
    both = trace_id(1) + trace_id(2)
    for row, ids in ((7, both), (8, both + b"x"), (9, "text")):
        file.connection.execute("INSERT INTO traces VALUES (?,?)", (row, ids))

    def ids_of(row: int, reason: str = Reason.DAMAGED_ON_DISK, own: bytes = b"") -> bytes:
        table.add([replace(letter(row=row), reason=reason, trace_ids=own)], now_ns=NOW_NS)
        return newest_letters(file.connection, 1)[0].letter.trace_ids

    assert ids_of(7) == ids_of(7, Reason.RELAY_ERROR) == both
    assert ids_of(7, own=trace_id(3)) == trace_id(3)
    assert ids_of(7, Reason.UPSTREAM_REFUSED) == b""
    assert ids_of(0) == ids_of(6) == ids_of(8) == ids_of(9) == b""


def test_of_whole_bodies_those_that_came_last_stay_however_many_letters_are_between(
    file: LogFile, table: DeadLetterTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_table, "UNREADABLE_BODIES", 3)

    def add(*numbers: int) -> list[str]:
        for number in numbers:
            body = replace(letter(f"{number}", ""), reason=Reason.BODY_UNREADABLE)
            table.add([body, letter("of a span", "")], now_ns=NOW_NS)
        return [each for each in words(file) if each != "of a span"]

    assert add(1, 2) == ["2", "1"]
    table.load()  # as after a restart
    assert add(3) == ["3", "2", "1"]
    assert add(4, 5) == ["5", "4", "3"]
    table.load()
    assert add(6) == ["6", "5", "4"]
    assert table.counts[""].count == 3 + 6


def test_columns_of_any_kind_are_a_letter() -> None:
    hit = (None, "x", b"", None, None, "200", None, 2.5, 99, "r", None, "s", None, 7, None, 99)
    found = entry_of(hit)

    assert (found.letter_id, found.set_aside_ns, found.raw_bytes, found.stored_bytes) == (0,) * 4
    numbers = found.letter
    assert (numbers.items, numbers.status, numbers.affected, numbers.row) == (0,) * 4
    assert (numbers.trace_ids, numbers.encoding) == (b"", Encoding.JSON)
    assert numbers.signal is Signal.TRACES
