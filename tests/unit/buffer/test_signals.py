"""Rows of three signals in one log, and what is owed of each kept apart."""

import time
from dataclasses import replace
from pathlib import Path

import apsw
import msgspec
import pytest

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import BacklogName, backlog_name
from relay.buffer.sqlite import signal_runs
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.quarantine import quarantined_files
from relay.buffer.sqlite.reader import Reader
from relay.buffer.values import DeadLetterFilter, DeadLetterReplay
from relay.model.counters import Counters
from relay.model.errors import BufferFull
from relay.model.records import DeadLetter, Encoding, Health, OwedRange, Position, Signal
from tests.unit.buffer.making import (
    NOW_NS,
    SETTINGS,
    Clocks,
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

TRACES, LOGS, METRICS = Signal


async def append(buffer: Buffer, signal: Signal, *bodies: bytes, spans: int = 1) -> None:
    for body in bodies:
        await buffer.append(request(piece(body, signal=signal, spans=spans)))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("axiom", BacklogName("axiom", TRACES)),
        ("axiom:logs", BacklogName("axiom", LOGS)),
        ("my_one-2:metrics", BacklogName("my_one-2", METRICS)),
        ("", BacklogName("", TRACES)),
        (":logs", BacklogName("", LOGS)),
    ],
)
def test_a_backlog_is_named_on_disk(text: str, name: BacklogName) -> None:
    assert backlog_name(text) == name
    assert name.text == text


def test_a_name_that_damage_wrote_is_nobodys() -> None:
    assert backlog_name("axiom:lo?s") == BacklogName("axiom:lo?s", TRACES)


@pytest.mark.parametrize("tail_bytes", [0, 1 << 20])
async def test_sums_count_own_items_alone_and_outlive_a_restart(
    tmp_path: Path, tail_bytes: int
) -> None:
    async with opened(tmp_path, tail_bytes=tail_bytes) as buffer:
        backlogs = [buffer.consumer("a", signal=signal) for signal in Signal]
        for number in range(3):
            await append(buffer, TRACES, b"t" * 10, spans=2)
            await append(buffer, LOGS, b"l" * 100, spans=5)
            if number:
                await append(buffer, METRICS, b"m" * 1000, spans=7)
        before = [backlog.statistics() for backlog in backlogs]
    async with opened(tmp_path, tail_bytes=tail_bytes) as buffer:
        after = [buffer.consumer("a", signal=signal).statistics() for signal in Signal]

    found = [(each.signal, each.owed_rows, each.owed_items, each.owed_bytes) for each in before]
    assert found == [(TRACES, 3, 6, 30), (LOGS, 3, 15, 300), (METRICS, 2, 14, 2000)]
    assert [(each.signal, each.owed_rows, each.owed_items, each.owed_bytes) for each in after] == (
        found
    )


async def test_another_signal_neither_wakes_a_courier_nor_counts(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        spans, logs = buffer.consumer("a"), buffer.consumer("a", signal=LOGS)
        await append(buffer, LOGS, b"1", b"2")
        assert not spans.has_more
        assert spans.statistics().owed_rows == 0
        assert spans.statistics().oldest_owed_ns == 0
        await append(buffer, TRACES, b"3")
        taken = await take(spans)
        await append(buffer, LOGS, b"4")
        assert not spans.has_more
        spans.settle(taken, status=200, at_ns=NOW_NS)
        assert not spans.has_more
        assert spans.ranges == owed_ranges.open_from(4)
        assert await take_all(logs) == [b"1", b"2", b"4"]


async def test_what_is_left_between_rows_of_others_is_no_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        spans = buffer.consumer("a")
        await append(buffer, LOGS, b"1", b"2", b"3")
        await append(buffer, TRACES, b"4")
        newest = await spans.take_newest()
        assert newest is not None
        assert [row.body for row in newest.rows] == [b"4"]
        # What lies before it is of another signal: whoever asks finds that out once.
        assert await spans.take(max_bytes=1000, max_items=10) is None
        assert not spans.has_more
    async with opened(tmp_path) as buffer:  # also after a restart
        assert buffer.consumer("a").ranges == owed_ranges.open_from(4)


@pytest.mark.parametrize("tail_bytes", [0, 1 << 20])
async def test_the_newest_row_is_the_newest_of_its_signal(tmp_path: Path, tail_bytes: int) -> None:
    async with opened(tmp_path, tail_bytes=tail_bytes) as buffer:
        logs = buffer.consumer("a", signal=LOGS)
        await append(buffer, LOGS, b"1")
        for number in range(40):
            await append(buffer, TRACES, b"t%d" % number)
        await append(buffer, LOGS, b"2")
        await append(buffer, TRACES, b"t")
        bodies = []
        while (taken := await logs.take_newest()) is not None:
            bodies.append(taken.rows[0].body)
    assert bodies == [b"2", b"1"]


async def test_the_newest_row_is_found_behind_ranges_of_others_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        spans = buffer.consumer("a")
        await append(buffer, TRACES, b"1", b"2")
        assert await spans.take_newest() is not None
        await append(buffer, LOGS, b"3", b"4")
        await append(buffer, TRACES, b"5")
        rows = []
        while (taken := await spans.take_newest()) is not None:
            rows.append(taken.rows[0].row)
    assert rows == [5, 1]


async def test_the_newest_row_of_an_encoding_is_found_behind_many_of_others(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        logs = buffer.consumer("a", signal=LOGS)
        await append(buffer, LOGS, b"1")
        for number in range(40):
            await append(buffer, TRACES, b"t%d" % number)
        await buffer.append(request(piece(b"2", encoding=Encoding.PROTOBUF, signal=LOGS)))
        taken = await logs.take_newest(Encoding.JSON)

    assert taken is not None
    assert [row.body for row in taken.rows] == [b"1"]


@pytest.mark.parametrize("tail_bytes", [0, 1 << 20])
async def test_metrics_go_in_their_order_and_one_after_the_other(
    tmp_path: Path, tail_bytes: int
) -> None:
    async with opened(tmp_path, tail_bytes=tail_bytes) as buffer:
        points = buffer.consumer("a", signal=METRICS)
        await append(buffer, METRICS, b"1", b"2", b"3")
        first = await take(points, max_items=1)
        assert not points.has_more
        assert await points.take(max_bytes=1000, max_items=10) is None
        assert await points.take_newest() is None
        points.give_back(first)
        again = await take(points, max_items=2)
        assert [row.body for row in again.rows] == [b"1", b"2"]
        points.settle(again, status=200, at_ns=NOW_NS)
        await points.wait()
        assert await take_all(points) == [b"3"]


async def test_reading_passes_over_other_signals_without_their_bodies(tmp_path: Path) -> None:
    """A hundred thousand rows of logs lie between two of spans."""
    async with opened(tmp_path, tail_bytes=0, row_bytes=1) as buffer:
        spans, logs = buffer.consumer("a"), buffer.consumer("a", signal=LOGS)
        await append(buffer, TRACES, b"first")
        many = [piece(b"x", signal=LOGS) for _ in range(10_000)]
        for _ in range(10):
            await buffer.append(request(*many))
        await append(buffer, TRACES, b"last")
        assert buffer.last_row == 100_002

        seconds = []
        for _ in range(5):  # the best of them: something else may want the processors
            began = time.monotonic()
            taken = await take(spans)
            seconds.append(time.monotonic() - began)
            spans.give_back(taken)
        assert min(seconds) < 0.25
        taken = await take(spans)
        assert [row.body for row in taken.rows] == [b"first", b"last"]
        assert len(taken.ranges) == 1
        spans.settle(taken, status=200, at_ns=NOW_NS)
        assert spans.ranges == owed_ranges.open_from(100_003)
        assert logs.statistics().owed_rows == 100_000


async def test_ranges_stay_few_however_signals_mix(tmp_path: Path) -> None:
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlogs = [buffer.consumer("a", signal=signal) for signal in Signal]
        for _ in range(50):
            for signal in Signal:
                await append(buffer, signal, b"x")
        for backlog in backlogs:
            taken = await take(backlog, max_items=20)
            assert len(taken.rows) == 20
            backlog.settle(taken, status=200, at_ns=NOW_NS)
            assert len(backlog.ranges) == 1


# -- nobody asks for a signal ------------------------------------------------------------------


async def test_the_first_destination_of_a_signal_begins_at_its_beginning(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0) as buffer:
        await append(buffer, LOGS, b"l1", b"l2", spans=3)
        await append(buffer, TRACES, b"t1")
        spans = buffer.consumer("a")
        assert await deliver_all(spans) == 1
        await eventually(lambda: buffer.statistics().rows == 2)
    async with opened(tmp_path, keep_delivered_seconds=0) as buffer:
        assert list(buffer.consumers()) == [BacklogName("a")]
        logs = buffer.consumer("b", signal=LOGS)
        assert logs.statistics().owed_items == 6
        assert await take_all(logs) == [b"l1", b"l2"]
        later = buffer.consumer("c", signal=LOGS)
        assert not later.has_more


async def test_what_nobody_asks_for_by_its_signal_is_not_given_up(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0) as buffer:
        await append(buffer, LOGS, b"l")
        spans = buffer.consumer("a")
        for number in range(20):
            await append(buffer, TRACES, b"%d" % number)
        await deliver_all(spans)
        await eventually(lambda: buffer.statistics().rows == 1)
        assert await take_all(buffer.consumer("a", signal=LOGS)) == [b"l"]


async def test_when_the_last_destination_of_a_signal_is_removed_its_rows_stay(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0) as buffer:
        buffer.consumer("a")
        buffer.consumer("b", signal=LOGS)
        await append(buffer, LOGS, b"l")
        await append(buffer, TRACES, b"t")
        await buffer.remove("b")
    async with opened(tmp_path, keep_delivered_seconds=0) as buffer:
        assert await deliver_all(buffer.consumer("a")) == 1
        assert await take_all(buffer.consumer("c", signal=LOGS)) == [b"l"]


# -- a destination as a whole ------------------------------------------------------------------


async def test_pause_and_removal_are_for_all_signals_of_a_destination(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for signal in (TRACES, LOGS):
            buffer.consumer("a", signal=signal)
            buffer.consumer("b", signal=signal)
        await buffer.set_paused("a", is_paused=True)
        assert buffer.consumer("a", signal=METRICS).is_paused, "as the others are"
    async with opened(tmp_path) as buffer:
        paused = {name for name, each in buffer.consumers().items() if each.is_paused}
        assert paused == {BacklogName("a", signal) for signal in Signal}
        await append(buffer, LOGS, b"l")
        await buffer.remove("a")
        assert {name.destination for name in buffer.consumers()} == {"b"}
    async with opened(tmp_path) as buffer:
        assert set(buffer.consumers()) == {BacklogName("b", TRACES), BacklogName("b", LOGS)}


# -- space -------------------------------------------------------------------------------------


async def test_delivered_rows_go_though_another_signal_waits_around_them(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        spans, logs = buffer.consumer("a"), buffer.consumer("a", signal=LOGS)
        for number in range(200):
            await append(buffer, TRACES, b"t%d" % number)
            await append(buffer, LOGS, b"l%d" % number)
        assert await deliver_all(logs) == 200
        await eventually(lambda: buffer.statistics().rows == 200)
        bodies = await take_all(spans)
        assert bodies == [b"t%d" % number for number in range(200)]
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        spans, logs = buffer.consumer("a"), buffer.consumer("a", signal=LOGS)
        assert spans.statistics().owed_rows == 200
        assert logs.statistics().owed_rows == 0
        assert await deliver_all(spans) == 200
        await eventually(lambda: buffer.statistics().rows == 0)
        runs = await buffer._reader.ask(
            lambda it: it.execute("SELECT count(*) FROM signal_runs").fetchall()
        )
        assert runs == [(1,)], "runs go with their rows"


async def test_a_full_disk_gives_up_only_what_a_failing_backlog_is_owed(tmp_path: Path) -> None:
    clocks = Clocks()
    failing = Health(failing_since_ns=NOW_NS, hold_ns=1)
    async with opened(
        tmp_path,
        replace(SETTINGS, max_size_bytes=4 << 20, keep_delivered_seconds=0),
        clock_ns=clocks.wall,
        uptime=clocks.uptime,
        tail_bytes=0,
    ) as buffer:
        spans, logs = buffer.consumer("a"), buffer.consumer("a", signal=LOGS)
        spans.attach(lambda: Health(last_success_ns=clocks.now_ns))
        logs.attach(lambda: failing)
        await append(buffer, TRACES, b"waits")
        clocks.pass_seconds(7200)
        for number in range(60):
            await append(buffer, LOGS, noise(100_000, number))
            await append(buffer, TRACES, b"t%d" % number)
        evicted = buffer.statistics().evicted_items
        assert set(evicted) == {BacklogName("a", LOGS)}
        await eventually(lambda: logs.statistics().owed_items == 60 - evicted[logs_of("a")])
        assert spans.statistics().owed_items == 61
        assert len(logs.ranges) == 1, "what lies between what went is no fragment"
        assert (await take_all(spans))[0] == b"waits"
    async with opened(tmp_path, max_size_bytes=4 << 20) as buffer:
        assert buffer.statistics().evicted_items == evicted
        left = len(await take_all(buffer.consumer("a", signal=LOGS)))
        assert left == 60 - evicted[logs_of("a")]


def logs_of(name: str) -> BacklogName:
    return BacklogName(name, LOGS)


async def test_nothing_is_given_up_while_everybody_fails(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size_bytes=2 << 20) as buffer:
        buffer.consumer("a")
        buffer.consumer("a", signal=LOGS)
        bodies = [noise(100_000, number) for number in range(60)]
        with pytest.raises(BufferFull):
            await append(buffer, LOGS, *bodies)
        assert not buffer.statistics().evicted_items


# -- asking ------------------------------------------------------------------------------------


async def test_a_trace_is_found_with_its_logs_and_what_became_of_each(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        spans, logs = buffer.consumer("a"), buffer.consumer("b", signal=LOGS)
        for signal in (TRACES, LOGS, TRACES):
            await buffer.append(request(piece(signal=signal, traces=(7,))))
        logs.settle(await take(logs), status=200, at_ns=NOW_NS + 1)
        await buffer.flush()
        places = await buffer.traces.find(trace_id(7))
        recent = await buffer.traces.recent()

    found = [
        (place.signal, [(each.destination, each.state) for each in place.deliveries])
        for place in places
    ]
    assert found == [
        (TRACES, [("a", "waiting")]),
        (LOGS, [("b", "delivered")]),
        (TRACES, [("a", "waiting")]),
    ]
    assert [each.trace_id for each in recent] == [trace_id(7)]
    assert spans.statistics().owed_rows == 2


async def test_a_log_that_has_gone_is_remembered_as_one(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0) as buffer:
        logs = buffer.consumer("b", signal=LOGS)
        await buffer.append(request(piece(signal=LOGS, traces=(7,))))
        await deliver_all(logs)
        await eventually(lambda: buffer.statistics().rows == 0)
        (place,) = await buffer.traces.find(trace_id(7))
    assert (place.signal, place.is_kept) == (LOGS, False)
    assert [each.state for each in place.deliveries] == ["delivered"]


async def test_traces_are_recent_however_many_points_came_since(tmp_path: Path) -> None:
    async with opened(tmp_path, row_bytes=1) as buffer:
        await buffer.append(request(piece(traces=(7,))))
        point = msgspec.structs.replace(piece(b"m", signal=METRICS), trace_ids=b"")
        for _ in range(3):
            await buffer.append(request(*[point] * 5_000))
        assert [each.trace_id for each in await buffer.traces.recent()] == [trace_id(7)]


async def test_rows_are_owed_again_by_signal(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlogs = {signal: buffer.consumer("a", signal=signal) for signal in Signal}
        for number in range(4):
            for signal in Signal:
                await append(buffer, signal, b"%d" % number, spans=2)
        for backlog in backlogs.values():
            await deliver_all(backlog)
        found = await buffer.replays.since(NOW_NS, LOGS)
        assert found.rows == 4
        assert found.ranges == (OwedRange(Position(2), Position(12)),), "others lie between"
        owed = await buffer.replays.owe(BacklogName("a", LOGS), found, is_dry_run=False)
        assert owed is not None
        assert (owed.rows, owed.items) == (4, 8)
        assert [each.statistics().owed_items for each in backlogs.values()] == [0, 8, 0]
        assert await deliver_all(backlogs[LOGS]) == 8


# -- dead letters ------------------------------------------------------------------------------


def letter(signal: Signal, destination: str = "a") -> DeadLetter:
    return DeadLetter(destination, "upstream_refused", "no", 1, Encoding.JSON, b"{}", signal=signal)


async def test_dead_letters_know_their_signal(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for signal in Signal:
            backlog = buffer.consumer("a", signal=signal)
            await append(buffer, signal, b"x")
            backlog.settle_with(await take(backlog), [letter(signal)], status=400, at_ns=NOW_NS)
        await buffer.flush()
        refused = replace(rejected_span(), signal=LOGS)
        await buffer.append(request(rejected=(refused,)))
        await buffer.flush()
        stored = await buffer.dead_letters.newest()
        assert not any(each.is_damaged for each in stored)
        assert [each.letter.signal for each in stored] == [LOGS, METRICS, LOGS, TRACES]
        page = await buffer.dead_letters.oldest_first(DeadLetterFilter(signal=LOGS), 0)
        assert [each.letter.destination for each in page.entries] == ["a", ""]


async def test_a_dead_letter_is_sent_again_to_the_backlog_of_its_signal(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        spans, logs = buffer.consumer("a"), buffer.consumer("a", signal=LOGS)
        await append(buffer, LOGS, b"x")
        logs.settle_with(await take(logs), [letter(LOGS)], status=400, at_ns=NOW_NS)
        await buffer.flush()
        (stored,) = await buffer.dead_letters.newest()
        again = request(piece(b"again", signal=LOGS))
        replay = DeadLetterReplay(stored.letter_id, again, frozenset({"a"}), 100)
        assert await buffer.dead_letters.replay([replay]) == [stored.letter_id]
        assert not spans.has_more
        assert await take_all(logs) == [b"again"]
        assert await buffer.dead_letters.newest() == []


async def test_a_letter_for_all_waits_for_the_first_to_come(tmp_path: Path) -> None:
    """Nobody asks for logs, nor was any log record kept yet."""
    async with opened(tmp_path, keep_delivered_seconds=0) as buffer:
        spans = buffer.consumer("a")
        await buffer.append(request(rejected=(replace(rejected_span(), signal=LOGS),)))
        (stored,) = await buffer.dead_letters.newest()
        again = request(piece(b"again", signal=LOGS))
        replay = DeadLetterReplay(stored.letter_id, again, None, 100)
        assert await buffer.dead_letters.replay([replay]) == [stored.letter_id]
        await append(buffer, TRACES, b"t")
        await deliver_all(spans)
        await eventually(lambda: buffer.statistics().rows == 1)
        assert await take_all(buffer.consumer("a", signal=LOGS)) == [b"again"]


async def test_a_letter_for_whom_takes_no_such_signal_any_more_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        await append(buffer, TRACES, b"x")
        taken = await take(buffer.consumer("a"))
        buffer.consumer("a").settle_with(taken, [letter(LOGS)], status=400, at_ns=NOW_NS)
        await buffer.flush()
        (stored,) = await buffer.dead_letters.newest()
        again = request(piece(b"again", signal=LOGS))
        replay = DeadLetterReplay(stored.letter_id, again, frozenset({"a"}), 100)
        assert await buffer.dead_letters.replay([replay]) == []
        assert len(await buffer.dead_letters.newest()) == 1


async def test_a_reader_is_told_nothing_of_other_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went of another signal is no gap that the writer would have to look into."""
    reported: list[str] = []
    report = Reader._report

    async def note(self: Reader, generation: int, words: str, *rest: object) -> None:
        reported.append(words)
        await report(self, generation, words, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Reader, "_report", note)
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        spans, logs = buffer.consumer("a"), buffer.consumer("a", signal=LOGS)
        for number in range(20):
            await append(buffer, TRACES, b"t%d" % number)
            await append(buffer, LOGS, b"l%d" % number)
        await deliver_all(logs)
        await eventually(lambda: buffer.statistics().rows == 20)
        assert await deliver_all(spans) == 20
    assert reported == []


async def test_runs_that_go_while_somebody_reads_are_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when rows are given up for space just while their courier tries once more."""
    async with opened(tmp_path, tail_bytes=0) as buffer:
        logs = buffer.consumer("a", signal=LOGS)
        for _ in range(10):
            for signal in Signal:
                await append(buffer, signal, b"x")
        find = signal_runs._following

        def find_later(connection: apsw.Connection, run: signal_runs.Run) -> object:
            writer = apsw.Connection(connection.filename)
            with writer:
                signal_runs.forget(writer, 20)
            writer.close()
            return find(connection, run)

        monkeypatch.setattr(signal_runs, "_following", find_later)
        assert len((await take(logs)).rows) == 10
        assert quarantined_files(tmp_path) == []


async def test_counters_know_dead_letters_of_all_signals(tmp_path: Path) -> None:
    counters = Counters()
    async with opened(tmp_path, counters=counters) as buffer:
        await buffer.append(request(rejected=(replace(rejected_span(), signal=METRICS),)))
        await buffer.flush()
    assert sum(counters.dead_letters.values()) == 1
