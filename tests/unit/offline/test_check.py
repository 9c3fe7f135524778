"""What `buffer check` finds missing: rows that somebody is owed and that are not in the table."""

import tarfile
from pathlib import Path

import apsw
import pytest

from relay.offline.check import check
from tests.unit.buffer.making import NOW_NS, opened, piece, request, take

pytestmark = pytest.mark.anyio

STATE_OF_0_1_0 = Path(__file__).parents[2] / "fixtures" / "state_of_0_1_0.tar.gz"


async def fill(state_dir: Path, *, settled: int) -> None:
    """Rows 1…12, the first `settled` of them delivered to the only destination."""
    async with opened(state_dir) as buffer:
        backlog = buffer.consumer("a")
        for _ in range(12):
            await buffer.append(request(piece()))
        if settled:
            taken = await take(backlog, max_items=settled)
            backlog.settle(taken, status=200, at_ns=NOW_NS)


def change(state_dir: Path, *statements: str) -> None:
    connection = apsw.Connection(str(state_dir / "relay.db"))
    for statement in statements:
        connection.execute(statement)
    connection.close()


async def test_rows_that_are_owed_and_not_there_are_missing(tmp_path: Path) -> None:
    await fill(tmp_path, settled=4)
    change(
        tmp_path,
        "DELETE FROM rows WHERE id IN (2, 3, 4, 5, 6, 9)",
        "UPDATE rows SET checksum = checksum + 1 WHERE id = 8",
    )

    found = check(tmp_path, lambda _done, _all: None)

    assert found.missing_rows == [(5, 6), (9, 9)]
    assert found.damaged_rows == [8]
    assert not found.is_sound


async def test_rows_that_nobody_is_owed_are_not_missing(tmp_path: Path) -> None:
    await fill(tmp_path, settled=6)
    change(tmp_path, "DELETE FROM rows WHERE id IN (2, 3, 6)")

    found = check(tmp_path, lambda _done, _all: None)

    assert found.missing_rows == []
    assert found.is_sound


async def test_file_of_the_version_before_is_sound(tmp_path: Path) -> None:
    """It is looked at before an upgrade, or before the relay is started after one."""
    with tarfile.open(STATE_OF_0_1_0) as files:
        files.extractall(tmp_path, filter="data")

    found = check(tmp_path, lambda _done, _all: None)

    assert found.structure == []
    assert found.rows == 12
