"""Dead letters: read in pages, sent again, dropped, erased to the last byte, bounded fairly."""

import random
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from relay.buffer.sqlite import dead_letter_queries as letter_reading
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.dead_letter_queries import bodies, newest_first, newest_id, oldest_first
from relay.buffer.sqlite.dead_letter_transactions import (
    CutLog,
    Discard,
    ReplayDeadLetters,
    ReturnPages,
)
from relay.buffer.sqlite.rows import zstd_1
from relay.buffer.values import DeadLetterEntry, DeadLetterFilter, DeadLetterReplay
from relay.model.records import DeadLetter, Encoding
from tests.unit.buffer.making import (
    NOW_NS,
    SETTINGS,
    deliver_all,
    eventually,
    noise,
    opened,
    piece,
    rejected_span,
    request,
    take,
    take_all,
    trace_id,
)

pytestmark = pytest.mark.anyio


def letter(
    words: str = "no",
    body: bytes = b'{"n":1}',
    *,
    destination: str = "a",
    traces: tuple[int, ...] = (),
) -> DeadLetter:
    packed = b"".join(map(trace_id, traces))
    return DeadLetter(
        destination,
        "upstream_refused",
        words,
        1,
        Encoding.JSON,
        body,
        status=400,
        affected=1,
        trace_ids=packed,
        received_ns=NOW_NS - 1,
    )


async def set_aside(buffer: Buffer, *letters: DeadLetter) -> list[int]:
    """Put them there, a commit for all; their ids."""
    before = await buffer._reader.ask(newest_id)
    for each in letters:
        buffer.consumer(each.destination or "a").changed((), [each])
    await buffer.flush()
    return list(range(before + 1, await buffer._reader.ask(newest_id) + 1))


async def pages(
    buffer: Buffer, wanted: DeadLetterFilter, *, is_up: bool = True
) -> list[DeadLetterEntry]:
    found: list[DeadLetterEntry] = []
    edge: int | None = 0 if is_up else letter_reading.NEWEST
    while edge is not None:
        at, ask = edge, oldest_first if is_up else newest_first
        page = await buffer._reader.ask(lambda it: ask(it, wanted, at))  # noqa: B023 - asked at once
        found += page.entries
        edge = page.edge
    return found


def words(entries: list[DeadLetterEntry]) -> list[str]:
    return [entry.letter.words for entry in entries]


# -- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 3, 1000])
async def test_pages_go_over_all_letters_that_are_meant_in_either_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(letter_reading, "WINDOW", window)
    async with opened(tmp_path) as buffer:
        ids = await set_aside(
            buffer, *(letter(f"no {n}", destination="ab"[n % 2]) for n in range(7))
        )
        await buffer._ledger.transact(Discard(ids[2:3]))
        left = [*ids[:2], *ids[3:]]
        up = await pages(buffer, DeadLetterFilter())
        down = await pages(buffer, DeadLetterFilter(), is_up=False)
        late = await pages(buffer, DeadLetterFilter(until=ids[4]))
        of_b = await pages(buffer, DeadLetterFilter(destination="b"), is_up=False)

    assert [entry.letter_id for entry in up] == left
    assert [entry.letter_id for entry in down] == left[::-1]
    assert [entry.letter_id for entry in late] == left[:4]
    assert words(of_b) == ["no 5", "no 3", "no 1"]


async def test_filters_choose_by_each_of_what_they_name(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(rejected=(rejected_span("app_trace_001"),)))
        await set_aside(buffer, letter("first", traces=(1, 2)))
        await set_aside(buffer, letter("second", destination="b", traces=(3,)))
        await buffer.append(request(rejected=(rejected_span(b"in protobuf".hex()),)))

        async def chosen(**named: object) -> list[str]:
            return words(await pages(buffer, DeadLetterFilter(**named)))  # type: ignore[arg-type]

        hexed = b"in protobuf".hex()
        assert await chosen() == ["app_trace_001", "first", "second", hexed]
        assert await chosen(destination="b") == ["second"]
        assert await chosen(destination="ingest") == ["app_trace_001", hexed]
        assert await chosen(reason="trace_id_zero") == ["app_trace_001", hexed]
        assert await chosen(trace=trace_id(2).hex()) == ["first"]
        assert await chosen(trace=trace_id(2).hex().upper()) == ["first"]
        assert await chosen(trace="app_trace_001") == ["app_trace_001"]
        assert await chosen(trace="in protobuf") == [hexed]
        assert await chosen(since_ns=NOW_NS + 1) == []
        assert await chosen(ids=(3, 1, 99)) == ["app_trace_001", "second"]
        assert await chosen(until=2) == ["app_trace_001", "first"]
        assert await chosen(ids=(3, 1), destination="b") == ["second"]


async def test_trace_id_across_two_others_is_not_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await set_aside(buffer, letter(traces=(1, 2)))
        across = (trace_id(1) + trace_id(2))[8:24].hex()

        assert await pages(buffer, DeadLetterFilter(trace=across)) == []


async def test_letter_of_a_damaged_row_knows_the_traces_of_that_row(tmp_path: Path) -> None:
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(traces=(7, 8))))
    connection = apsw.Connection(str(tmp_path / "relay.db"))
    connection.execute("UPDATE rows SET checksum = checksum + 1")
    connection.close()
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        assert await backlog.take(max_bytes=1 << 20, max_items=10) is None
        await buffer.flush()
        (found,) = await buffer.dead_letters.newest()

    assert (found.letter.reason, found.is_damaged) == ("damaged_on_disk", False)
    assert found.letter.trace_ids == trace_id(7) + trace_id(8)


# -- sending again ----------------------------------------------------------------------------


async def test_replayed_letter_is_owed_to_its_own_destination_and_a_letter_no_more(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, clock_ns=lambda: NOW_NS + 5) as buffer:
        one, two = buffer.consumer("one"), buffer.consumer("two")
        (number,) = await set_aside(buffer, letter(destination="one"))
        made = request(piece(b"again", traces=(9,)), received_ns=NOW_NS)
        sent = await buffer._ledger.transact(
            ReplayDeadLetters([DeadLetterReplay(number, made, frozenset({"one"}), 10)], SETTINGS)
        )
        taken = await take(one)

        assert sent == [number]
        assert await buffer.dead_letters.newest() == []
        assert [(row.body, row.received_ns) for row in taken.rows] == [(b"again", NOW_NS + 5)]
        assert await take_all(two) == []
        (place,) = await buffer.traces.find(trace_id(9))
        assert place.received_ns == NOW_NS
        assert {it.destination: it.state for it in place.deliveries} == {
            "one": "waiting",
            "two": "not_owed",
        }


async def test_replay_to_nobody_in_particular_is_owed_to_all(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        one, two = buffer.consumer("one"), buffer.consumer("two")
        (number,) = await set_aside(buffer, letter())
        await buffer._ledger.transact(
            ReplayDeadLetters([DeadLetterReplay(number, request(piece(b"x")), None, 10)], SETTINGS)
        )

        assert await take_all(one) == await take_all(two) == [b"x"]


async def test_letters_that_have_gone_or_have_no_receiver_are_not_sent(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        one = buffer.consumer("one")
        (number,) = await set_aside(buffer, letter())
        job = ReplayDeadLetters(
            [
                DeadLetterReplay(99, request(piece(b"gone")), frozenset({"one"}), 10),
                DeadLetterReplay(number, request(piece(b"nobody's")), frozenset({"removed"}), 10),
            ],
            SETTINGS,
        )
        assert await buffer._ledger.transact(job) == []
        assert await take_all(one) == []
        assert len(await buffer.dead_letters.newest()) == 1


async def test_replay_that_keeps_leaves_the_letter(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        one = buffer.consumer("one")
        (number,) = await set_aside(buffer, letter())
        again = DeadLetterReplay(number, request(piece(b"x")), frozenset({"one"}), 10)
        assert await buffer._ledger.transact(ReplayDeadLetters([again], SETTINGS, keeps=True)) == [
            number
        ]

        assert await take_all(one) == [b"x"]
        assert len(await buffer.dead_letters.newest()) == 1


async def test_replay_is_all_or_nothing_on_disk(tmp_path: Path) -> None:
    """What a crash leaves is the letter or the row: looked at in every state the file was in."""
    seen: set[object] = set()
    async with opened(tmp_path) as buffer:
        buffer.consumer("one")
        ids = await set_aside(buffer, *(letter(f"{n}") for n in range(5)))
        watching = apsw.Connection(str(tmp_path / "relay.db"), flags=apsw.SQLITE_OPEN_READONLY)
        query = "SELECT (SELECT count(*) FROM dead_letters), (SELECT count(*) FROM rows)"
        for number in ids:
            again = DeadLetterReplay(number, request(piece()), frozenset({"one"}), 10)
            await buffer._ledger.transact(ReplayDeadLetters([again], SETTINGS))
            seen.add(watching.execute(query).fetchall()[0])
        watching.close()

    assert seen == {(5 - n, n) for n in range(1, 6)}


# -- bounds -----------------------------------------------------------------------------------


async def test_flood_of_ingest_leaves_the_letters_of_destinations_alone(tmp_path: Path) -> None:
    async with opened(tmp_path, dead_letter_bytes=100_000) as buffer:
        await set_aside(buffer, *(letter(f"kept {n}", noise(4_000, n)) for n in range(10)))
        for number in range(60):
            span = rejected_span(f"{number:032x}", noise(5_000, number))
            await buffer.append(request(rejected=(span,)))
        await eventually(
            lambda: (
                sum(it.stored_bytes for it in buffer.statistics().dead_letters.values()) <= 100_000
            )
        )
        counts = buffer.statistics().dead_letters
        ingest = words(await pages(buffer, DeadLetterFilter(destination="ingest")))
        dropped = buffer.statistics().dead_letters_dropped

    assert counts["a"].count == 10
    assert counts[""].count == len(ingest) < 15
    assert ingest[-1] == f"{59:032x}"
    assert ingest == sorted(ingest)  # the oldest went
    assert dropped == 60 - len(ingest)


async def test_flood_of_one_destination_leaves_those_of_others_and_of_ingest(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, dead_letter_bytes=100_000) as buffer:
        await buffer.append(request(rejected=(rejected_span(),)))
        await set_aside(buffer, letter("kept", destination="b"))
        for number in range(60):
            await set_aside(buffer, letter(f"{number:03}", noise(5_000, number)))
        await eventually(lambda: buffer.statistics().dead_letters["a"].stored_bytes < 100_000)
        counts = buffer.statistics().dead_letters

    assert (counts[""].count, counts["b"].count) == (1, 1)
    assert 10 < counts["a"].count < 20


async def test_count_of_what_was_given_up_outlives_a_restart(tmp_path: Path) -> None:
    small = replace(SETTINGS, dead_letter_bytes=20_000)
    async with opened(tmp_path, small) as buffer:
        for number in range(20):
            await set_aside(buffer, letter("x", noise(5_000, number)))
        await eventually(lambda: buffer.statistics().dead_letters["a"].stored_bytes <= 20_000)
        dropped = buffer.statistics().dead_letters_dropped
        assert dropped == 20 - buffer.statistics().dead_letters["a"].count
    async with opened(tmp_path, small) as buffer:
        assert buffer.statistics().dead_letters_dropped == dropped


async def test_letters_go_when_they_are_too_old(tmp_path: Path) -> None:
    now = NOW_NS
    async with opened(tmp_path, clock_ns=lambda: now) as buffer:
        await set_aside(buffer, letter("old"))
    now += 8 * 86_400 * 10**9
    async with opened(tmp_path, clock_ns=lambda: now) as buffer:
        await set_aside(buffer, letter("young"))
        await eventually(lambda: buffer.statistics().dead_letters_dropped == 1)
        assert words(await pages(buffer, DeadLetterFilter())) == ["young"]


# -- discarding and erasing -------------------------------------------------------------------


async def test_discarded_letters_are_gone_and_not_counted_as_given_up(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        ids = await set_aside(buffer, letter("one"), letter("two"), letter("three"))
        assert await buffer._ledger.transact(Discard([ids[0], ids[2], 99])) == [ids[0], ids[2]]

        assert words(await pages(buffer, DeadLetterFilter())) == ["two"]
        assert buffer.statistics().dead_letters["a"].count == 1
        assert buffer.statistics().dead_letters_dropped == 0


async def erase(buffer: Buffer, letter_ids: list[int]) -> None:
    await buffer._ledger.transact(Discard(letter_ids, erases=True))
    while await buffer._ledger.transact(ReturnPages()):
        pass
    assert await buffer._ledger.transact(CutLog())


class Disk:
    """The bytes of every file of a buffer as they were when it was made."""

    def __init__(self, state_dir: Path) -> None:
        files = {path.name: path.read_bytes() for path in state_dir.rglob("*") if path.is_file()}
        self._files = files
        self._pieces = {
            name: {held[at : at + 16] for at in range(0, len(held), 16)}
            for name, held in files.items()
        }

    def names_with(self, content: bytes) -> list[str]:
        """The files that hold any 31 bytes in a row of `content`, whatever they are.

        What is short has to be there as a whole: a piece of it may well stand elsewhere.
        """
        if len(content) < 64:
            return sorted(name for name, held in self._files.items() if content in held)
        pieces = {content[at : at + 16] for at in range(len(content) - 15)}
        return sorted(name for name, held in self._pieces.items() if not held.isdisjoint(pieces))


@pytest.mark.parametrize("size", [50, 900, 5_000, 60_000, 700_000])
async def test_erasing_leaves_no_byte_of_a_letter_nor_of_the_row_it_was(
    tmp_path: Path, size: int
) -> None:
    body, said = noise(size, 4318), "a very particular refusal"
    marks = [zstd_1(body)[9:], said.encode(), trace_id(78) * 2]
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(noise(300, 1))))
        await buffer.append(request(piece(body)))
        await buffer.append(request(piece(noise(300, 2))))
        backlog.settle(await take(backlog, max_bytes=0), status=200, at_ns=NOW_NS)
        refused = await take(backlog, max_bytes=0)
        backlog.settle_with(
            refused, [letter(said, body, traces=(78, 78))], status=400, at_ns=NOW_NS
        )
        await buffer.flush()
        await eventually(lambda: buffer.statistics().rows == 1)
        (number,) = [entry.letter_id for entry in await pages(buffer, DeadLetterFilter())]
        before = Disk(tmp_path)
        assert all(before.names_with(mark) for mark in marks)

        await erase(buffer, [number])

        after = Disk(tmp_path)
        assert [after.names_with(mark) for mark in marks] == [[], [], []]
        assert len(await take_all(backlog)) == 1
        await buffer.append(request(piece(b"next")))


@pytest.mark.parametrize("seed", range(6))
async def test_erasing_leaves_nothing_whatever_happened_before(tmp_path: Path, seed: int) -> None:
    """Rows and letters of all sizes come and go in any order; then some letters are erased."""
    rng = random.Random(seed)
    erased: dict[int, list[bytes]] = {}
    sizes = (60, 200, 700, 1_500, 3_900, 9_000, 70_000)
    async with opened(
        tmp_path, keep_delivered_seconds=0, tail_bytes=0, wal_checkpoint_bytes=200_000
    ) as buffer:
        backlog = buffer.consumer("a")
        bodies_of: dict[str, bytes] = {}
        for number in range(150):
            body = rng.randbytes(rng.choice(sizes))
            await buffer.append(request(piece(body, traces=(10**9 * (number + 1),))))
            if rng.random() < 0.6:
                taken = await take(backlog, max_bytes=0)
                said = f"refused in particular {seed} {number:03}."
                found = [letter(said, taken.rows[0].body)] * (rng.random() < 0.5)
                bodies_of |= {it.words: it.body for it in found}
                backlog.settle_with(taken, found, status=400 if found else 200, at_ns=NOW_NS)
            if rng.random() < 0.1 and (ids := await pages(buffer, DeadLetterFilter())):
                await buffer._ledger.transact(Discard([rng.choice(ids).letter_id]))
        await buffer.flush()
        for entry in await pages(buffer, DeadLetterFilter()):
            said = entry.letter.words
            if rng.random() < 0.5:
                erased[entry.letter_id] = [said.encode(), zstd_1(bodies_of[said])[9:]]
        assert len(erased) > 5
        await eventually(lambda: buffer.statistics().rows == backlog.statistics().owed_rows)

        await erase(buffer, list(erased))

        disk = Disk(tmp_path)
        left = {
            number: names
            for number, marks in erased.items()
            if any(names := [disk.names_with(mark) for mark in marks])
        }
        assert left == {}
        await deliver_all(backlog)


@pytest.mark.parametrize("erases", [True, False])
async def test_bytes_of_an_erased_letter_are_overwritten_before_its_pages_are_returned(
    tmp_path: Path, erases: bool
) -> None:
    body = noise(60_000, 4318)
    async with opened(tmp_path) as buffer:
        (number,) = await set_aside(buffer, letter(body=body))
        await buffer._ledger.transact(CutLog())
        await buffer._ledger.transact(Discard([number], erases))
        await buffer._ledger.transact(CutLog())

        assert Disk(tmp_path).names_with(zstd_1(body)[9:]) == ([] if erases else ["relay.db"])


async def test_bodies_come_in_the_order_asked_for_and_without_those_that_have_gone(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        ids = await set_aside(buffer, letter("one", b"1"), letter("two", b"2"))
        found = await buffer._reader.ask(lambda it: bodies(it, [ids[1], 99, ids[0]]))

    assert [stored.letter.body for stored in found] == [b"2", b"1"]
