"""Files that were set aside are read back: what is whole comes again, what is not is named."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from relay.buffer import owed_ranges
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.quarantine import SalvageState, wal_of
from relay.buffer.sqlite.rows import RowColumns, checksum
from relay.buffer.sqlite.schema import fetch
from relay.model.counters import Counters
from relay.model.records import Position
from relay.salvage import salvage as salvage_module
from relay.salvage.pages import PageFiles
from relay.salvage.readmit import Overtaken, Readmission
from relay.salvage.salvage import QuarantinedFile, Salvage
from relay.salvage.scan import Scan, Wanted
from tests.unit.buffer.making import (
    NOW_NS,
    noise,
    opened,
    piece,
    rejected_span,
    request,
    take,
    take_all,
)

pytestmark = pytest.mark.anyio

SIZES = (40, 900, 3000, 4200, 9000)
PAGE = 4096


def body(number: int) -> bytes:
    """A body that can be told from all others, small or over several pages."""
    return b'{"n":%d,"x":"%s"}' % (number, noise(SIZES[number % 5], number).hex().encode())


async def fill(state_dir: Path, rows: int, *, settled: int = 0) -> None:
    """A file with rows 1…`rows`, the first `settled` of them delivered to a, none to b."""
    async with opened(state_dir) as buffer:
        a, _ = buffer.consumer("a"), buffer.consumer("b")
        for number in range(1, rows + 1):
            await buffer.append(request(piece(body(number))))
        while settled:
            taken = await take(a, max_items=min(settled, 10))
            a.settle(taken, status=200, at_ns=NOW_NS)
            settled -= len(taken.rows)


def set_aside_by_hand(state_dir: Path, name: str = "corrupt-20260101T000000Z") -> Path:
    """The file as an operator or a crash would have left it: moved, nothing noted."""
    aside = state_dir / f"relay.db.{name}"
    (state_dir / "relay.db").rename(aside)
    return aside


def copy_files(state_dir: Path, to: Path) -> None:
    for path in state_dir.glob("relay.db*"):
        shutil.copy(path, to / path.name)


async def read_back(buffer: Buffer) -> tuple[QuarantinedFile, ...]:
    salvage = Salvage(buffer, Counters())
    await salvage.read_back()
    await buffer.flush()
    return salvage.quarantined


async def test_everything_of_a_whole_file_comes_again_to_those_who_still_wait(
    tmp_path: Path,
) -> None:
    await fill(tmp_path, 50, settled=20)
    set_aside_by_hand(tmp_path)
    async with opened(tmp_path) as buffer:
        a, b = buffer.consumer("a"), buffer.consumer("b")
        set_aside = await read_back(buffer)
        await buffer.append(request(piece(b"new")))

        assert await take_all(a) == [*map(body, range(21, 51)), b"new"]
        assert await take_all(b) == [*map(body, range(1, 51)), b"new"]
        assert a.statistics().owed_rows == 31
        assert b.statistics().owed_rows == 51
        (aside,) = set_aside
        assert aside.may_be_removed
        assert aside.words.startswith("read back 50 rows (50 items) of relay.db.corrupt-2026")
        assert aside.words.endswith("nothing that was owed is lost")


async def test_a_file_is_read_back_once(tmp_path: Path) -> None:
    await fill(tmp_path, 5)
    set_aside_by_hand(tmp_path)
    for _ in range(3):
        async with opened(tmp_path) as buffer:
            await read_back(buffer)
            found = await take_all(buffer.consumer("a"))

    assert found == [*map(body, range(1, 6))]


async def test_what_was_read_back_is_not_read_back_again_out_of_the_first_file(
    tmp_path: Path,
) -> None:
    await fill(tmp_path, 5)
    set_aside_by_hand(tmp_path)
    async with opened(tmp_path) as buffer:
        await read_back(buffer)
    set_aside_by_hand(tmp_path, "corrupt-20260101T000001Z")
    async with opened(tmp_path) as buffer:
        set_aside = await read_back(buffer)

        assert await take_all(buffer.consumer("a")) == [*map(body, range(1, 6))]
        assert len(set_aside) == 2


async def test_a_row_that_was_owed_in_part_is_owed_in_part(tmp_path: Path) -> None:
    span = '{"traceId":"%032x","spanId":"%016x"}'
    spans = ",".join(span % (7, number) for number in range(1, 7))
    whole = ('{"scopeSpans":[{"spans":[' + spans + "]}]}").encode()
    async with opened(tmp_path) as buffer:
        a = buffer.consumer("a")
        await buffer.append(request(piece(whole, spans=6)))
        taken = await take(a)
        first, rest = await a.split(taken, 2)
        a.settle(first, status=200, at_ns=NOW_NS)
        a.give_back(rest)
    set_aside_by_hand(tmp_path)
    async with opened(tmp_path) as buffer:
        a = buffer.consumer("a")
        await read_back(buffer)

        taken = await take(a)
        assert taken.items == 4
        assert taken.rows[0].first_item == 2
        assert taken.ranges[0].start == Position(taken.rows[0].row, 2)
        a.settle(taken, status=200, at_ns=NOW_NS)
        assert a.statistics().owed_items == 0
        assert a.statistics().owed_rows == 0


async def test_dead_letters_counts_pauses_and_trace_ids_come_along(tmp_path: Path) -> None:
    span = f'{{"traceId":"{77:032x}","spanId":"0000000000000001"}}'
    span = '{"scopeSpans":[{"spans":[' + span + "]}]}"
    async with opened(tmp_path) as buffer:
        await buffer.set_paused(buffer.consumer("a").name, is_paused=True)
        await buffer.append(
            request(piece(span.encode(), traces=(77,)), rejected=(rejected_span("f" * 32),))
        )
        file = buffer._writer.lifecycle.file
        assert file is not None
        file.add_counter("evicted:a", 3)
        letters = await buffer.dead_letters.newest()
    set_aside_by_hand(tmp_path)
    async with opened(tmp_path, clock_ns=lambda: NOW_NS + 5) as buffer:
        assert buffer.consumer("a").is_paused
        await read_back(buffer)
        again = await buffer.dead_letters.newest()
        (place, *_) = await buffer.traces.find((77).to_bytes(16, "big"))

        assert [(each.letter, each.set_aside_ns) for each in again] == [
            (each.letter, each.set_aside_ns) for each in letters
        ]
        assert place.deliveries[0].state == "waiting"
        file = buffer._writer.lifecycle.file
        assert file is not None
        assert file.counters()["evicted:a"] == 3


async def test_a_file_without_destinations_waits_for_the_first_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for number in (1, 2):
            await buffer.append(request(piece(body(number))))
    set_aside_by_hand(tmp_path)
    async with opened(tmp_path) as buffer:
        await read_back(buffer)
        assert await take_all(buffer.consumer("first")) == [body(1), body(2)]


async def test_rows_that_come_again_are_as_old_as_before(tmp_path: Path) -> None:
    """By the clock of the host's uptime: without its time a row would be as old as the host."""
    await fill(tmp_path, 3)
    set_aside_by_hand(tmp_path)
    async with opened(tmp_path) as buffer:
        await read_back(buffer)
        taken = await take(buffer.consumer("a"))

        assert len(taken.rows) == 3
        assert max(map(buffer.age_ns, taken.rows)) < 600e9


async def test_a_crash_in_the_middle_neither_loses_nor_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salvage_module, "_BATCH_ROWS", 7)
    await fill(tmp_path, 60, settled=10)
    set_aside_by_hand(tmp_path)

    class Stop(Exception):
        pass

    for stop_after in (1, 3, 99):
        async with opened(tmp_path) as buffer:
            salvage = Salvage(buffer, Counters())
            told = 0

            def tell(
                doing: object,
                salvage: Salvage = salvage,
                buffer: Buffer = buffer,
                stop_after: int = stop_after,
            ) -> None:
                nonlocal told
                told += 1
                if told > stop_after:
                    raise Stop

            monkeypatch.setattr(salvage, "_publish", tell)
            try:
                await salvage.read_back()
            except Stop:
                crashed = tmp_path / f"crashed-{stop_after}"
                crashed.mkdir()
                copy_files(tmp_path, crashed)
        if stop_after != 99:
            tmp_path = crashed
    async with opened(tmp_path) as buffer:
        assert await take_all(buffer.consumer("a")) == [*map(body, range(11, 61))]
        assert await take_all(buffer.consumer("b")) == [*map(body, range(1, 61))]


async def test_a_step_that_was_overtaken_by_another_file_changes_nothing(tmp_path: Path) -> None:
    await fill(tmp_path, 3)
    aside = set_aside_by_hand(tmp_path)
    async with opened(tmp_path) as buffer:
        job = Readmission(aside.name, b"where it does not stand", SalvageState({}, rows=3))
        with pytest.raises(Overtaken):
            await buffer._ledger.transact(job)
        await read_back(buffer)

        assert await take_all(buffer.consumer("a")) == [*map(body, range(1, 4))]


async def test_a_newer_version_takes_up_what_an_older_one_set_aside(tmp_path: Path) -> None:
    await fill(tmp_path, 5)
    with apsw.Connection(str(tmp_path / "relay.db")) as connection:
        connection.pragma("user_version", 99)
    connection.close()
    async with opened(tmp_path) as buffer:
        set_aside = await read_back(buffer)
        (aside,) = set_aside
        assert (aside.state, aside.may_be_removed) == ("waits", False)
        assert await take_all(buffer.consumer("a")) == []
    with (tmp_path / aside.file).open("r+b") as file:
        file.seek(60)
        file.write((2).to_bytes(4, "big"))
    async with opened(tmp_path) as buffer:
        await read_back(buffer)
        assert await take_all(buffer.consumer("a")) == [*map(body, range(1, 6))]


def hit(path: Path, at: int, size: int, seed: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(random.Random(seed).randbytes(size))


async def recovered(
    state_dir: Path, expected: int, damage: Callable[[Path], None]
) -> tuple[set[int], list[str], str]:
    """Which rows are delivered after `damage`, the words of dead letters and of the report."""
    damage(set_aside_by_hand(state_dir))
    bodies = {body(number): number for number in range(1, expected + 1)}
    async with opened(state_dir) as buffer:
        a = buffer.consumer("a")
        set_aside = await read_back(buffer)
        found = await take_all(a)
        letters = [each.letter.words for each in await buffer.dead_letters.newest(1000)]
        words = set_aside[0].words
    assert len(found) == len(set(found))
    return {bodies[each] for each in found}, letters, words


@pytest.mark.parametrize("at", [0, 16, 28, 60, 100, 105, 112])
async def test_a_first_page_that_was_hit_costs_no_row(tmp_path: Path, at: int) -> None:
    await fill(tmp_path, 100)
    found, letters, words = await recovered(tmp_path, 100, lambda path: hit(path, at, 64))

    assert found == set(range(1, 101))
    assert letters == []
    assert words.endswith("nothing that was owed is lost")


def hit_heads_of_leaves(path: Path, most: int = 12) -> None:
    content = path.read_bytes()
    leaves = [at for at in range(PAGE, len(content), PAGE) if content[at] == 13]
    for at in leaves[-most:]:
        hit(path, at, 8, at)


async def test_a_head_of_a_page_that_was_hit_costs_no_row(tmp_path: Path) -> None:
    await fill(tmp_path, 100)
    found, letters, _ = await recovered(tmp_path, 100, hit_heads_of_leaves)
    assert found == set(range(1, 101))
    assert letters == []


@pytest.mark.parametrize("signal", [0, 1, 2, 3, 100])
async def test_rows_of_any_signal_are_found_by_their_heads(tmp_path: Path, signal: int) -> None:
    await fill(tmp_path, 40)
    path = tmp_path / "relay.db"
    with apsw.Connection(str(path)) as connection:
        for values in fetch(connection, "SELECT * FROM rows"):
            row = RowColumns(*values)._replace(signal=signal)
            connection.execute(
                "UPDATE rows SET signal = ?, checksum = ? WHERE id = ?",
                (signal, checksum(row), row.id),
            )
    connection.close()
    hit_heads_of_leaves(path, 1000)
    with PageFiles(path, wal_of(path)) as files:
        scan = Scan(files)
        scan.wanted = Wanted(owed_ranges.open_from(1))
        found = {row.id: row.signal for row in scan.rows() if isinstance(row, RowColumns)}

    assert found == dict.fromkeys(range(1, 41), signal)


async def test_rows_that_were_hit_are_named_with_their_spans(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        for number in range(1, 101):
            await buffer.append(request(piece(body(number), spans=number, traces=(number,))))
    content = (tmp_path / "relay.db").read_bytes()

    def rows(path: Path) -> None:
        for number in (17, 20, 21, 22):
            row = stored_body(path, number)
            hit(path, content.index(row[-20:]), 8)

    def stored_body(path: Path, number: int) -> bytes:
        connection = apsw.Connection(str(path))
        found = connection.execute("SELECT body FROM rows WHERE id = ?", (number,)).fetchall()
        connection.close()
        assert isinstance(found[0][0], bytes)
        return found[0][0]

    aside = set_aside_by_hand(tmp_path)
    rows(aside)
    async with opened(tmp_path) as buffer:
        a = buffer.consumer("a")
        set_aside = await read_back(buffer)
        found = await take_all(a)
        letters = await buffer.dead_letters.newest()
        words = set_aside[0].words
        report = json.loads((tmp_path / f"{aside.name}.report.json").read_bytes())

    assert found == [body(n) for n in range(1, 101) if n not in (17, 20, 21, 22)]
    assert words.endswith("rows 17, 20\N{EN DASH}22 are lost (80 items)")
    assert report["lost_rows"] == [[17, 17], [20, 22]]
    told = {(each.letter.row, each.letter.affected, each.letter.reason) for each in letters}
    assert told == {(17, 17, "damaged_on_disk"), (20, 63, "damaged_on_disk")}
    ids = b"".join(each.letter.trace_ids for each in letters)
    assert (21).to_bytes(16, "big") in ids


@pytest.mark.parametrize("seed", range(6))
async def test_bytes_overwritten_anywhere_cost_only_the_rows_hit(tmp_path: Path, seed: int) -> None:
    """Many small hits, and each row that is missing is named."""
    await fill(tmp_path, 150)
    chance = random.Random(seed)

    def everywhere(path: Path) -> None:
        size = path.stat().st_size
        for _ in range(20):
            hit(path, chance.randrange(size), chance.choice((1, 4, 16, 64)), chance.randrange(999))

    found, letters, words = await recovered(tmp_path, 150, everywhere)
    lost = set(range(1, 151)) - found
    named: set[int] = set()
    for text in letters:
        first, _, last = text.split()[1].partition("\N{EN DASH}")
        named |= set(range(int(first), int(last or first) + 1))
    assert len(lost) <= 20
    assert lost <= named
    assert ("lost" in words) == bool(named)
