"""Any byte of the files hit, cut short or lost, stopped and in use: what holds whatever was hit.

It starts; no wrong byte goes out; every row is delivered, or named by a dead letter; new requests
are taken. The places are random and the same at each run.
"""

import itertools
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import pytest

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import BacklogName
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.types import Persisted
from relay.buffer.values import StoredDeadLetter
from relay.model.counters import Counters
from relay.model.errors import BufferFailure
from relay.model.records import Signal
from relay.salvage import pages
from relay.salvage.pages import Leaf, PageFiles
from relay.salvage.salvage import Salvage
from tests.unit.buffer.making import (
    NOW_NS,
    SETTINGS,
    change_ledger,
    noise,
    opened,
    own_copy,
    piece,
    rejected_span,
    request,
    take,
)

pytestmark = [pytest.mark.anyio, pytest.mark.proofs]

PAGE = 4096
ROWS = 120
SETTLED = 30
SIZES = (40, 900, 3000, 4200, 9000)
FILES = ("relay.db", "relay.db-wal", "last-row")
NEW = b"new"
Damage = Callable[[Path, random.Random], None]


def body(number: int) -> bytes:
    return b'{"n":%d,"x":"%s"}' % (number, noise(SIZES[number % 5], number).hex().encode())


def signal_of(number: int, *, is_mixed: bool = True) -> Signal:
    """What a row holds: most are of spans, and some runs longer than a row."""
    return (Signal.TRACES, Signal.METRICS, Signal.LOGS, Signal.LOGS, Signal.TRACES)[
        number % 5 if is_mixed else 0
    ]


async def make(state_dir: Path, *, as_after_a_crash: bool, is_mixed: bool = True) -> Path:
    """120 rows owed to b, the last 90 of them to a; closed in order, or with all in the WAL."""
    steps = 128 * 1024 if as_after_a_crash else SETTINGS.wal_checkpoint_bytes
    async with opened(state_dir, wal_checkpoint_bytes=steps) as buffer:
        signals = {signal_of(number, is_mixed=is_mixed) for number in range(ROWS)}
        for signal in signals:
            buffer.consumer("a", signal=signal)
            buffer.consumer("b", signal=signal)
        await buffer.append(request(rejected=(rejected_span(), rejected_span())))
        for number in range(1, ROWS + 1):
            signal = signal_of(number, is_mixed=is_mixed)
            await buffer.append(request(piece(body(number), traces=(number,), signal=signal)))
            for signal in signals if number == ROWS // 2 else ():
                done = sum(
                    signal_of(each, is_mixed=is_mixed) is signal for each in range(1, SETTLED + 1)
                )
                taken = await take(buffer.consumer("a", signal=signal), max_items=done)
                assert taken.items == done
                buffer.consumer("a", signal=signal).settle(taken, status=200, at_ns=NOW_NS)
        await buffer.flush()
        if not as_after_a_crash:
            return state_dir
        return copy(state_dir, state_dir / "crashed")


def copy(state_dir: Path, to: Path) -> Path:
    to.mkdir()
    for name in FILES:
        if (state_dir / name).exists():
            shutil.copy(state_dir / name, to / name)
    own_copy(to)
    return to


# -- kinds of damage ------------------------------------------------------------------------------


def hit(path: Path, chance: random.Random, first: int = 0, end: int | None = None) -> None:
    size = path.stat().st_size if path.exists() else 0
    end = min(end or size, size)
    if end <= first:
        return
    length = chance.choice((1, 1, 4, 64, 512))
    with path.open("r+b") as file:
        file.seek(chance.randrange(first, end))
        file.write(chance.choice((chance.randbytes(length), bytes(length), b"\xff" * length)))


def anywhere(state_dir: Path, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 3, 10))):
        hit(state_dir / "relay.db", chance)


def first_pages(state_dir: Path, chance: random.Random) -> None:
    """Where the roots of all tables are: destinations, totals, sqlite_sequence, ptrmap."""
    for _ in range(chance.choice((1, 3, 10))):
        hit(state_dir / "relay.db", chance, 0, 24 * PAGE)


def heads_of_pages(state_dir: Path, chance: random.Random) -> None:
    path = state_dir / "relay.db"
    for _ in range(chance.choice((1, 3))):
        page = chance.randrange(path.stat().st_size // PAGE)
        hit(path, chance, page * PAGE, page * PAGE + 16)


def wal(state_dir: Path, chance: random.Random) -> None:
    hit(state_dir / "relay.db-wal", chance)


def head_of_the_wal(state_dir: Path, chance: random.Random) -> None:
    hit(state_dir / "relay.db-wal", chance, 0, 60)


def both(state_dir: Path, chance: random.Random) -> None:
    anywhere(state_dir, chance)
    wal(state_dir, chance)


def shared_memory(state_dir: Path, chance: random.Random) -> None:
    (state_dir / "relay.db-shm").write_bytes(chance.randbytes(32768))


def cut(name: str) -> Damage:
    def damage(state_dir: Path, chance: random.Random) -> None:
        path = state_dir / name
        size = path.stat().st_size if path.exists() else 0
        with path.open("ab") as file:
            file.truncate(chance.randrange(size) if size else 0)

    damage.__name__ = f"cut_{name}"
    return damage


def without(name: str) -> Damage:
    def damage(state_dir: Path, _chance: random.Random) -> None:
        (state_dir / name).unlink(missing_ok=True)

    damage.__name__ = f"without_{name}"
    return damage


def empty(state_dir: Path, _chance: random.Random) -> None:
    (state_dir / "relay.db").write_bytes(b"")


def text(state_dir: Path, _chance: random.Random) -> None:
    (state_dir / "relay.db").write_bytes(b"shopping list\n" * 1000)


def directory(state_dir: Path, _chance: random.Random) -> None:
    (state_dir / "relay.db").unlink()
    (state_dir / "relay.db").mkdir()


def with_sidecar(change: Damage) -> Damage:
    """Nothing but the sidecar can tell whom the file owed, and that was hit as well."""

    def damage(state_dir: Path, chance: random.Random) -> None:
        change(state_dir, chance)
        with (state_dir / "relay.db").open("r+b") as file:
            file.write(chance.randbytes(24 * PAGE))

    damage.__name__ = f"{change.__name__}_and_first_pages"
    return damage


def sidecar(state_dir: Path, chance: random.Random) -> None:
    hit(state_dir / "last-row", chance)


def nothing(_state_dir: Path, _chance: random.Random) -> None:
    pass


def old_sidecar(state_dir: Path, _chance: random.Random) -> None:
    """The line alone, as the version before wrote it."""
    path = state_dir / "last-row"
    path.write_bytes(path.read_bytes()[:121])


def stale_sidecar(state_dir: Path, _chance: random.Random) -> None:
    """As if nothing had been delivered when the ledger was written last."""
    all_of_it = Persisted(owed_ranges.open_from(1), is_paused=False)
    change_ledger(
        state_dir,
        lambda ledger: replace(ledger, destinations=dict.fromkeys(ledger.destinations, all_of_it)),
    )


def foreign_sidecar(state_dir: Path, _chance: random.Random) -> None:
    """Of a file that owed nothing any more."""
    nothing_owed = Persisted(owed_ranges.open_from(1 << 40), is_paused=False)
    change_ledger(
        state_dir,
        lambda ledger: replace(
            ledger,
            inode=ledger.inode + 1,
            destinations=dict.fromkeys(ledger.destinations, nothing_owed),
        ),
    )


# -- what is done with it -------------------------------------------------------------------------


@dataclass
class Outcome:
    delivered: dict[str, list[int]] = field(default_factory=lambda: {"a": [], "b": []})
    letters: list[StoredDeadLetter] = field(default_factory=list)

    def named(self, destination: str) -> set[int]:
        """Rows that dead letters of a destination name, by their ids in the first file."""
        found: set[int] = set()
        for stored in self.letters:
            letter = stored.letter
            if letter.reason != "damaged_on_disk" or letter.destination != destination:
                continue
            words = letter.words.split()
            if words[0] in ("row", "rows"):
                first, _, last = words[1].partition("\N{EN DASH}")
                found |= set(range(int(first), int(last or first) + 1))
            else:
                found.add(letter.row)
        return found


async def deliver(buffer: Buffer, key: BacklogName, outcome: Outcome) -> None:
    """A courier that keeps up, and looks at every byte."""
    known = {body(number): number for number in range(1, ROWS + 1)} | {NEW: 0}
    backlog = buffer.consumer(key.destination, signal=key.signal)
    while True:
        await backlog.wait()
        try:
            taken = await backlog.take(max_bytes=40_000, max_items=50, one_encoding=False)
        except BufferFailure:
            await anyio.sleep(0.01)
            continue
        if taken is not None:
            assert taken.signal is key.signal
            outcome.delivered[key.destination] += [known[row.body] for row in taken.rows]
            backlog.settle(taken, status=200, at_ns=NOW_NS)


async def until_taken(buffer: Buffer) -> None:
    with anyio.fail_after(10):
        while True:
            try:
                await buffer.append(request(piece(NEW)))
            except BufferFailure:
                await anyio.sleep(0.02)
            else:
                return


async def letters_of(buffer: Buffer) -> list[StoredDeadLetter]:
    while True:
        try:
            return await buffer.dead_letters.newest(10_000)
        except BufferFailure:
            await anyio.sleep(0.02)


async def run(state_dir: Path, damage_in_use: Callable[[], None] | None = None) -> Outcome:
    """Open, deliver, read back, take new requests, until nothing is owed any more."""
    outcome = Outcome()
    buffer = Buffer(state_dir, SETTINGS, Counters(), clock_ns=lambda: NOW_NS)
    buffer.open()
    salvage = Salvage(buffer, Counters())

    def is_calm() -> bool:
        return (
            not any(backlog.has_more for backlog in buffer.consumers().values())
            and not salvage.is_busy
            and not buffer.file_changed.is_set()
        )

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(buffer.wait_failed)
            for name, signal in itertools.product(outcome.delivered, Signal):
                tasks.start_soon(deliver, buffer, BacklogName(name, signal), outcome)
            tasks.start_soon(salvage.run)
            await anyio.sleep(0.005)
            if damage_in_use is not None:
                damage_in_use()
            for _ in range(3):
                await until_taken(buffer)
            with anyio.fail_after(30):
                calm = 0
                while calm < 5:
                    await anyio.sleep(0.01)
                    calm = calm + 1 if is_calm() else 0
                outcome.letters = await letters_of(buffer)
            tasks.cancel_scope.cancel()
    finally:
        await buffer.close()
    return outcome


def hold(outcome: Outcome) -> None:
    missing = set(range(1, ROWS + 1)) - set(outcome.delivered["b"])
    assert missing <= outcome.named("b"), "rows went without a word"
    missing = set(range(SETTLED + 1, ROWS + 1)) - set(outcome.delivered["a"])
    assert missing <= outcome.named("a"), "rows went without a word"
    # A request whose commit was refused may have come all the same.
    assert outcome.delivered["b"].count(0) >= 3


KINDS = [
    anywhere,
    first_pages,
    heads_of_pages,
    wal,
    head_of_the_wal,
    both,
    shared_memory,
    cut("relay.db"),
    cut("relay.db-wal"),
    without("relay.db"),
    without("relay.db-wal"),
    without("last-row"),
    empty,
    text,
    directory,
    cut("last-row"),
    sidecar,
    *map(
        with_sidecar,
        (
            nothing,
            without("last-row"),
            cut("last-row"),
            sidecar,
            old_sidecar,
            stale_sidecar,
            foreign_sidecar,
        ),
    ),
]
IN_USE = [anywhere, first_pages, heads_of_pages, wal, both, cut("relay.db")]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("damage", KINDS, ids=lambda each: each.__name__)
async def test_every_row_is_delivered_or_named(tmp_path: Path, damage: Damage, seed: int) -> None:
    state_dir = await make(tmp_path / "made", as_after_a_crash=bool(seed % 2))
    hit_dir = copy(state_dir, tmp_path / "hit")
    damage(hit_dir, random.Random(seed))

    hold(await run(hit_dir))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("damage", IN_USE, ids=lambda each: each.__name__)
async def test_every_row_is_delivered_or_named_when_it_happens_in_use(
    tmp_path: Path, damage: Damage, seed: int
) -> None:
    state_dir = await make(tmp_path / "made", as_after_a_crash=bool(seed % 2))
    hit_dir = copy(state_dir, tmp_path / "hit")

    hold(await run(hit_dir, lambda: damage(hit_dir, random.Random(seed))))


async def test_rows_lost_with_the_wal_are_counted_and_their_ids_never_come_again(
    tmp_path: Path,
) -> None:
    state_dir = await make(tmp_path / "made", as_after_a_crash=True, is_mixed=False)
    hit_dir = copy(state_dir, tmp_path / "hit")
    (hit_dir / "relay.db-wal").unlink()
    async with opened(hit_dir) as buffer:
        assert buffer.last_row == ROWS
        letters = [
            each for each in await buffer.dead_letters.newest() if each.letter.destination == "b"
        ]
        await buffer.append(request(piece(NEW)))
        assert buffer.last_row == ROWS + 1

    (lost,) = letters
    assert lost.letter.reason == "damaged_on_disk"
    assert lost.letter.affected == ROWS - lost.letter.row + 1
    assert f"{lost.letter.row}\N{EN DASH}{ROWS} " in lost.letter.words
    assert "WAL was lost" in lost.letter.words


async def test_nothing_is_lost_with_a_wal_whose_head_was_hit(tmp_path: Path) -> None:
    """SQLite alone takes such a WAL for empty, says nothing, and writes over it."""
    state_dir = await make(tmp_path / "made", as_after_a_crash=True)
    hit_dir = copy(state_dir, tmp_path / "hit")
    with (hit_dir / "relay.db-wal").open("r+b") as file:
        file.write(bytes(32))

    outcome = await run(hit_dir)
    hold(outcome)
    assert set(outcome.delivered["b"]) == set(range(ROWS + 1))
    assert outcome.named("b") == set()


def lower_cell_count(state_dir: Path, columns: int, *, to: int | None = None) -> None:
    """Let the page of a table with so many columns forget its last record, or all but `to`."""
    path = state_dir / "relay.db"
    with PageFiles(path, state_dir / "absent") as files:
        page = next(
            leaf.page
            for leaf, content in files.leaves(is_live=True)
            for cell in pages.cells(leaf.page, content)
            if len(pages.column_kinds(cell.inline)) == columns
            and pages.page_kind(leaf.page, content) in (pages.TABLE_LEAF, pages.INDEX_LEAF)
            and int.from_bytes(content[3:5], "big") > 1
            and (columns != 3 or b"b" in cell.inline)
        )
        count = int.from_bytes(files.read(Leaf(page, -1))[3:5], "big")
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE + 3)
        file.write((count - 1 if to is None else to).to_bytes(2, "big"))


async def test_a_row_that_fell_out_of_its_table_is_noticed_and_found_again(
    tmp_path: Path,
) -> None:
    """SQLite says nothing, and would go on as if there had never been such a row."""
    state_dir = await make(tmp_path / "made", as_after_a_crash=False)
    lower_cell_count(state_dir, 14)

    outcome = await run(state_dir)
    hold(outcome)
    assert set(outcome.delivered["b"]) == set(range(ROWS + 1))


async def test_destinations_that_fell_out_of_their_table_are_owed_what_the_sidecar_says(
    tmp_path: Path,
) -> None:
    """Taken for new ones they would begin with the rows to come."""
    state_dir = await make(tmp_path / "made", as_after_a_crash=False)
    lower_cell_count(state_dir, 3, to=0)

    outcome = await run(state_dir)
    assert set(outcome.delivered["a"]) == {0, *range(SETTLED + 1, ROWS + 1)}
    assert set(outcome.delivered["b"]) == set(range(ROWS + 1))


async def test_destinations_that_fell_out_of_their_table_are_owed_everything(
    tmp_path: Path,
) -> None:
    """The sidecar of the version before tells only that they are missing."""
    state_dir = await make(tmp_path / "made", as_after_a_crash=False)
    lower_cell_count(state_dir, 3, to=0)
    old_sidecar(state_dir, random.Random())

    outcome = await run(state_dir)
    assert set(outcome.delivered["a"]) == set(range(ROWS + 1))
    assert set(outcome.delivered["b"]) == set(range(ROWS + 1))
