"""Rows read by their numbers: in order, without those that have gone, a few with each question."""

from pathlib import Path
from typing import Any

import pytest

from relay.buffer.sqlite import reader
from relay.buffer.values import rows_at_once
from relay.model.records import BodyFlag, Encoding, StoredRow
from tests.unit.buffer.making import noise, opened, piece, request


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [((), 4), ((512 * 1024,) * 4, 2), ((10_000,), 50), ((4 << 20,), 1), ((0,), 50)],
)
def test_next_step_has_about_a_mebibyte_of_rows(sizes: tuple[int, ...], rows: int) -> None:
    before = [
        StoredRow(number, 1, Encoding.JSON, BodyFlag.NONE, 1, bytes(size))
        for number, size in enumerate(sizes)
    ]

    assert rows_at_once(before) == rows


@pytest.mark.anyio
async def test_rows_are_read_in_order_without_those_that_are_not_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for number in range(5):
            await buffer.append(request(piece(b"%d" % number)))
    async with opened(tmp_path) as buffer:  # nothing of it is in memory
        found = await buffer.read_rows([4, 99, 2, 4])

    assert [(row.row, row.body) for row in found] == [(2, b"1"), (4, b"3")]


@pytest.mark.anyio
async def test_rows_are_read_a_few_with_each_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    read_some = reader.read_some

    def noting(connection: Any, rows: Any) -> Any:
        found, looked = read_some(connection, rows)
        asked.append(looked)
        return found, looked

    monkeypatch.setattr(reader, "read_some", noting)
    async with opened(tmp_path) as buffer:
        for number in range(6):
            await buffer.append(request(piece(noise(300_000, number))))
    async with opened(tmp_path) as buffer:
        found = await buffer.read_rows(range(1, 7))

    assert [row.row for row in found] == [1, 2, 3, 4, 5, 6]
    assert asked == [2, 2, 2]
