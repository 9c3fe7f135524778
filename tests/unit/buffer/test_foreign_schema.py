"""A `relay.db` that somebody else prepared: none of its SQL runs, and its rows are read back."""

from pathlib import Path

import apsw
import pytest

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite import schema
from relay.buffer.sqlite.quarantine import quarantined_files
from relay.model.counters import Counters
from relay.model.errors import BufferUnavailable
from relay.model.records import StoredRow
from relay.offline.check import check
from relay.offline.file import open_buffer
from relay.salvage.salvage import Salvage
from tests.unit.buffer.making import opened, piece, request, take_all

pytestmark = pytest.mark.anyio

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT"
FOREIGN = {
    "trigger steal": "CREATE TRIGGER steal AFTER INSERT ON rows BEGIN"
    " DELETE FROM rows WHERE id = new.id; END",
    "table totals": "ALTER TABLE totals RENAME TO kept; CREATE VIEW totals AS "
    f"{ENDLESS} x, x, x, x, x, x, x FROM n",
    "view more": "CREATE VIEW more AS SELECT * FROM rows",
    "table more": "CREATE TABLE more (a)",
    "index more": "CREATE INDEX more ON tallies (abs(value))",
    "table tallies": "DROP TABLE tallies; CREATE TABLE tallies"
    " (name TEXT PRIMARY KEY, value INTEGER NOT NULL CHECK (abs(value) >= 0)) WITHOUT ROWID",
    "table salvages": "DROP TABLE salvages",
}


def prepare(state_dir: Path, sql: str) -> None:
    connection = apsw.Connection(str(state_dir / "relay.db"))
    connection.pragma("journal_mode", "wal")
    connection.execute(sql)
    connection.close()


@pytest.mark.parametrize("name", FOREIGN)
async def test_file_with_another_schema_is_set_aside_and_read_back(
    tmp_path: Path, name: str
) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        await buffer.append(request(piece(b"before")))
    prepare(tmp_path, FOREIGN[name])

    found = check(tmp_path, lambda *_: None)
    exported = export_of(tmp_path)
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece(b"after")))
        await Salvage(buffer, Counters()).read_back()
        bodies = await take_all(buffer.consumer("a"))

    assert not found.is_sound
    assert found.rows == 1
    assert any("its schema is not ours: " in each and name in each for each in found.structure)
    assert exported == ["before"]
    assert sorted(bodies) == [b"after", b"before"]
    assert [path.name[:17] for path in quarantined_files(tmp_path)] == ["relay.db.corrupt-"]


def export_of(state_dir: Path) -> list[str]:
    with open_buffer(state_dir) as file:
        return [row.body.decode() for _, row in file.rows() if isinstance(row, StoredRow)]


@pytest.mark.parametrize("version", [-1, -2])
async def test_version_below_zero_is_none_of_ours(tmp_path: Path, version: int) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        await buffer.append(request(piece(b"kept")))
    prepare(
        tmp_path, f"DROP TABLE history; {FOREIGN['trigger steal']}; PRAGMA user_version={version}"
    )
    async with opened(tmp_path) as buffer:
        await Salvage(buffer, Counters()).read_back()
        assert await take_all(buffer.consumer("a")) == [b"kept"]


async def test_sql_that_came_into_an_open_file_does_not_run(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        await buffer.append(request(piece(b"before")))
        prepare(tmp_path, FOREIGN["trigger steal"])
        await buffer.append(request(piece(b"after")))
        assert await take_all(buffer.consumer("a")) == [b"before", b"after"]


def test_file_of_the_first_schema_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    old = apsw.Connection(str(path))
    old.pragma("journal_mode", "wal")
    old.execute(schema._VERSION_1)
    old.pragma("application_id", schema.APPLICATION_ID)
    old.pragma("user_version", 1)
    old.close()
    schema.open_writer(path, BufferSettings(), floor=1, vfs=None).close()
    reader = schema.open_reader(path, vfs=None)
    schema.refuse_foreign(reader)
    assert reader.pragma("user_version") == schema.SCHEMA_VERSION
    reader.close()


def test_no_connection_runs_what_a_schema_says(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    writer = schema.open_writer(path, BufferSettings(), floor=1, vfs=None)
    reader = schema.open_reader(path, vfs=None)
    for connection in (writer, reader):
        assert [connection.config(guard, -1) for guard, _ in schema._GUARDS] == [1, 0, 0, 0]
        connection.close()


def test_every_connection_to_a_file_is_made_in_one_place() -> None:
    root = Path(schema.__file__).parents[2]
    makers = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if "apsw.Connection(" in path.read_text() or "sqlite3" in path.read_text()
    }
    assert makers == {"buffer/sqlite/schema.py"}


def test_statement_without_an_end_is_damage(tmp_path: Path) -> None:
    connection = schema.open_writer(tmp_path / "relay.db", BufferSettings(), floor=1, vfs=None)
    with pytest.raises(apsw.CorruptError, match="did not come to an end"):
        with schema.bounded(connection):
            connection.execute(f"{ENDLESS} max(x) FROM n").fetchall()
    assert connection.execute("SELECT count(*) FROM rows").get == 0
    connection.close()


async def test_command_that_asks_a_foreign_file_says_what_differs(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece(b"kept")))
    prepare(tmp_path, FOREIGN["view more"])
    with pytest.raises(BufferUnavailable, match="its schema is not ours: view more"):
        with open_buffer(tmp_path) as file:
            file.destinations()
