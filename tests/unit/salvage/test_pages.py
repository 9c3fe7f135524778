"""Pages and records without SQLite: the same as SQLite says, and never more than is there."""

import random
from pathlib import Path

import apsw
import pytest

from relay.buffer.sqlite.wal import frames_of_generation
from relay.salvage import pages
from relay.salvage.pages import Leaf, PageFiles


def make(path: Path, *, wal: bool, rows: int = 60) -> list[tuple[object, ...]]:
    """A table with values of every kind, some over several pages; its rows as SQLite has them."""
    connection = apsw.Connection(str(path))
    connection.pragma("page_size", 4096)
    connection.pragma("auto_vacuum", 2)
    connection.pragma("journal_mode", "wal")
    connection.wal_autocheckpoint(0)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(wal))
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, c, d)")
    chance = random.Random(1)
    for number in range(rows):
        values = (
            chance.choice((0, 1, -1, 200, -40_000, 2**23, 2**40, -(2**62), None)),
            chance.choice((0.5, None, "text", "ünï" * 400)),
            chance.randbytes(chance.choice((0, 3, 400, 4050, 4061, 4070, 9000, 50_000))),
            number,
        )
        connection.execute("INSERT INTO t VALUES (NULL,?,?,?,?)", values)
    found = connection.execute("SELECT * FROM t ORDER BY id").fetchall()
    connection.close()
    return found


def read(path: Path) -> list[tuple[object, ...]]:
    found = []
    with PageFiles(path, path.with_name(path.name + "-wal")) as files:
        for leaf, content in files.leaves(is_live=True):
            if pages.page_kind(leaf.page, content) != pages.TABLE_LEAF:
                continue
            for cell in pages.cells(leaf.page, content):
                values = pages.record(next(files.payloads(cell)))
                if len(values) == 5 and values[0] is None:
                    found.append((cell.rowid, *values[1:]))
    return sorted(found, key=lambda row: int(str(row[0])))


@pytest.mark.parametrize("wal", [True, False])
def test_records_are_those_that_sqlite_reads(tmp_path: Path, wal: bool) -> None:
    expected = make(tmp_path / "t.db", wal=wal)

    assert (tmp_path / "t.db-wal").exists() is wal
    # The schema's own table has five columns, too.
    assert [row for row in read(tmp_path / "t.db") if row[1] != "table"] == expected


def test_what_was_not_committed_is_not_live(tmp_path: Path) -> None:
    make(tmp_path / "t.db", wal=True)
    wal = tmp_path / "t.db-wal"
    with PageFiles(tmp_path / "t.db", wal) as files:
        commits = [at for at, frame in enumerate(files.frames) if frame.commit_pages]
    cut = commits[-1]  # without the last frame of the last transaction
    content = wal.read_bytes()
    wal.write_bytes(content[: 32 + cut * 4120])

    with PageFiles(tmp_path / "t.db", wal) as files:
        assert max(files.live.values()) == commits[-2]
        assert frames_of_generation(wal) == commits[-2] + 1


def test_frames_behind_a_damaged_one_are_committed_and_not_live(tmp_path: Path) -> None:
    make(tmp_path / "t.db", wal=True)
    wal = tmp_path / "t.db-wal"
    content = bytearray(wal.read_bytes())
    content[32 + 10 * 4120 + 500] ^= 1
    wal.write_bytes(content)
    connection = apsw.Connection(str(tmp_path / "t.db"), flags=apsw.SQLITE_OPEN_READONLY)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.pragma("user_version")
    taken, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    connection.close()

    with PageFiles(tmp_path / "t.db", wal) as files:
        assert max(files.live.values()) + 1 == taken <= 10
        assert max(files.committed.values()) + 1 == len(files.frames)
        assert frames_of_generation(wal) == len(files.frames)


def test_versions_come_from_the_newest_to_the_oldest(tmp_path: Path) -> None:
    make(tmp_path / "t.db", wal=True)
    with PageFiles(tmp_path / "t.db", tmp_path / "t.db-wal") as files:
        page = 3
        frames = [at for at, frame in enumerate(files.frames) if frame.page == page]
        assert len(frames) > 2
        assert files.versions(page)[:2] == [Leaf(page, frames[-1]), Leaf(page, frames[-2])]


def test_pages_that_sqlite_holds_for_empty_are_known(tmp_path: Path) -> None:
    make(tmp_path / "t.db", wal=False)
    connection = apsw.Connection(str(tmp_path / "t.db"))
    connection.execute("DELETE FROM t WHERE id > 20")
    count = connection.pragma("freelist_count")
    connection.close()
    with PageFiles(tmp_path / "t.db", tmp_path / "absent") as files:
        assert len(files.free_pages()) == count > 10


def test_a_file_that_is_absent_empty_or_a_directory_has_no_pages(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "dir").mkdir()
    for name in ("absent", "empty", "dir"):
        with PageFiles(tmp_path / name, tmp_path / "absent-wal") as files:
            assert list(files.leaves(is_live=True)) == []
            assert files.free_pages() == set()


def test_no_bytes_at_all_make_it_raise(tmp_path: Path) -> None:
    """Pages of noise, and good pages with noise in them."""
    make(tmp_path / "t.db", wal=True)
    for seed in range(30):
        chance = random.Random(seed)
        for name in ("t.db", "t.db-wal"):
            content = bytearray((tmp_path / name).read_bytes())
            for _ in range(40):
                at = chance.randrange(len(content))
                content[at : at + 8] = chance.randbytes(8)
            (tmp_path / f"hit-{name}").write_bytes(content)
        with PageFiles(tmp_path / "hit-t.db", tmp_path / "hit-t.db-wal") as files:
            files.free_pages()
            for is_live in (True, False):
                for leaf, content_ in files.leaves(is_live=is_live):
                    pages.children(leaf.page, content_)
                    for cell in pages.cells(leaf.page, content_):
                        for payload in files.payloads(cell):
                            try:
                                pages.record(payload)
                            except ValueError:
                                continue


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"\x00", 0),
        (b"\x7f", 127),
        (b"\x81\x00", 128),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", -1),
        (b"\x80\x80\x80\x80\x80\x80\x80\x80\x01", 1),
    ],
)
def test_numbers_of_one_to_nine_bytes(content: bytes, value: int) -> None:
    assert pages.varint(content, 0) == (value, len(content))


@pytest.mark.parametrize("payload", [b"", b"\x05", b"\x03\x0a\x01", b"\x02\x06\x00"])
def test_what_is_no_record_is_a_value_error(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut|longer|reserved"):
        pages.record(payload)
