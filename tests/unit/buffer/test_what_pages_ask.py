"""What the pages of the view and the commands ask a buffer: services, how far back, what became."""

from pathlib import Path

import pytest

from relay.buffer.backlog_name import BacklogName
from relay.buffer.rejected_senders import RejectedSenders
from relay.buffer.sqlite.directory import holder_of
from relay.buffer.values import KeptRows, OwedAgain, ReachesBack, RecentService, TraceDelivery
from relay.model.reasons import UNREADABLE_BODIES, Reason
from relay.model.records import DeadLetter, Encoding, Piece, Request, Sender, Signal
from tests.unit.buffer.making import (
    NOW_NS,
    a_letter,
    deliver_all,
    eventually,
    opened,
    piece,
    request,
    take,
    take_all,
    trace_id,
)

pytestmark = pytest.mark.anyio
TRACES, LOGS = Signal.TRACES, Signal.LOGS


def of_services(number: int, *services: str, signal: Signal = TRACES) -> Request:
    made = Piece(Encoding.JSON, b"{}", 1, trace_id(1), services, signal=signal)
    return Request((made,), Sender(f"192.0.2.{number}"), NOW_NS + number)


async def test_services_are_told_once_a_signal_the_last_seen_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        assert await buffer.traces.services() == []
        await buffer.append(of_services(1, "shop"))
        await buffer.append(of_services(2, "till", "shop"))
        await buffer.append(of_services(3, "till", signal=LOGS))
        await buffer.append(of_services(4))
        found = await buffer.traces.services()
    assert found == [
        RecentService("", TRACES, NOW_NS + 4, "192.0.2.4"),
        RecentService("till", LOGS, NOW_NS + 3, "192.0.2.3"),
        RecentService("till", TRACES, NOW_NS + 2, "192.0.2.2"),
        RecentService("shop", TRACES, NOW_NS + 2, "192.0.2.2"),
    ]


async def test_how_far_back_it_is_known_is_told_of_rows_and_of_history(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        assert await buffer.traces.reaches_back() == ReachesBack(0, 0)
        await buffer.append(request(piece(), received_ns=NOW_NS))
        assert await buffer.traces.reaches_back() == ReachesBack(NOW_NS, NOW_NS)
        await deliver_all(backlog)
        await eventually(lambda: buffer.statistics().rows == 0)
        await buffer.append(request(piece(), received_ns=NOW_NS + 5))
        assert await buffer.traces.reaches_back() == ReachesBack(NOW_NS + 5, NOW_NS)


async def test_rows_that_hold_any_of_some_traces_are_counted_once(tmp_path: Path) -> None:
    async with opened(tmp_path, row_bytes=1) as buffer:
        for traces in ((1,), (1, 2), (3,), (2,), (4,)):
            await buffer.append(request(piece(traces=traces)))
        count = buffer.traces.count_kept
        assert await count(frozenset()) == 0
        assert await count(frozenset({trace_id(9)})) == 0
        assert await count(frozenset({trace_id(1), trace_id(2)})) == 3


async def test_trace_of_which_some_was_set_aside_is_told_apart_from_those_beside_it(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(spans=2, traces=(1, 2))))
        taken = await take(backlog)
        backlog.settle_with(taken, [a_letter(trace_id(2))], status=400, at_ns=NOW_NS + 7)
        await buffer.append(request(piece(traces=(3,))))
        await buffer.flush()
        rows = {trace_id(1): [1], trace_id(2): [1], trace_id(3): [2]}
        found = await buffer.browse.deliveries(rows)
    states = {each: {told.state for told in found[trace_id(each)]} for each in (1, 2, 3)}
    assert states[2] == {"set_aside"}
    assert states[3] == {"waiting"}
    assert found[trace_id(2)] == [TraceDelivery("a", "set_aside", NOW_NS + 7, 400)]


async def test_of_bodies_that_nobody_could_read_only_the_newest_stay(tmp_path: Path) -> None:
    def unreadable(number: int) -> DeadLetter:
        reason = Reason.BODY_UNREADABLE
        return DeadLetter("", reason, f"no {number}", 1, Encoding.JSON, b"{", affected=1)

    async def kept(first: int, count: int) -> list[str]:
        async with opened(tmp_path) as buffer:
            backlog = buffer.consumer("a")
            backlog.changed((), [DeadLetter("a", "other", f"other {first}", 1, Encoding.JSON, b"")])
            for number in range(first, first + count):
                backlog.changed((), [unreadable(number)])
                await buffer.flush()
            newest = await buffer.dead_letters.newest(1000)
            return [each.letter.words for each in newest]

    assert len(await kept(1, 5)) == 6
    words = await kept(6, UNREADABLE_BODIES - 3)  # the ones before the restart count, too
    others = ["other 6", "other 1"]
    assert [each for each in words if each.startswith("other")] == others
    last = UNREADABLE_BODIES + 2
    assert [each for each in words if each not in others] == [
        f"no {number}" for number in range(last, last - UNREADABLE_BODIES, -1)
    ]


async def test_new_destination_begins_with_what_came_since_a_time(tmp_path: Path) -> None:
    async with opened(tmp_path, row_bytes=1) as buffer:
        for number in range(1, 5):
            body = b'{"n":%d}' % number
            await buffer.append(request(piece(body), received_ns=NOW_NS + number))
        key = BacklogName("new", TRACES)
        await buffer.replays.begin(key, NOW_NS + 3)
        backlog = buffer.consumer("new")
        assert await take_all(backlog) == [b'{"n":3}', b'{"n":4}']
        assert backlog.statistics().owed_items == 2
        await buffer.append(request(piece(b'{"n":5}')))
        await buffer.replays.begin(key, NOW_NS)  # which is known by now
        assert await take_all(backlog) == [b'{"n":3}', b'{"n":4}', b'{"n":5}']
    async with opened(tmp_path) as buffer:
        assert buffer.consumer("new").statistics().owed_items == 3


async def test_new_destination_is_owed_what_came_while_its_beginning_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, row_bytes=1) as buffer:
        for number in range(2):
            await buffer.append(request(piece(b"%d" % number), received_ns=NOW_NS + number))
        since = buffer.replays.since

        async def since_and_on(since_ns: int, signal: Signal) -> KeptRows:
            found = await since(since_ns, signal)
            await buffer.append(request(piece(b"2"), received_ns=NOW_NS - 1))  # by a clock set back
            await buffer.append(request(piece(b"3")))
            return found

        monkeypatch.setattr(buffer.replays, "since", since_and_on)
        await buffer.replays.begin(BacklogName("new"), NOW_NS + 1)
        backlog = buffer.consumer("new")
        assert await take_all(backlog) == [b"1", b"2", b"3"]
        assert backlog.statistics().owed_items == 3


async def test_dry_run_says_what_would_be_owed_and_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, row_bytes=1) as buffer:
        backlog = buffer.consumer("a")
        for _ in range(3):
            await buffer.append(request(piece(b"x" * 10, spans=2)))
        backlog.settle(await take(backlog, max_items=4), status=200, at_ns=NOW_NS)
        await buffer.flush()
        found = await buffer.replays.since(NOW_NS, TRACES)
        key = BacklogName("a", TRACES)
        told = OwedAgain(2, 4, 20)
        assert await buffer.replays.owe(key, found, is_dry_run=True) == told
        assert backlog.statistics().owed_items == 2
        assert await buffer.replays.owe(key, found, is_dry_run=False) == told
        assert backlog.statistics().owed_items == 6
        assert await buffer.replays.owe(key, found, is_dry_run=False) == OwedAgain(0, 0, 0)
        gone = BacklogName("gone", TRACES)
        assert await buffer.replays.owe(gone, found, is_dry_run=False) is None
        assert await buffer.replays.not_owed(gone, found) == found.ranges


async def test_who_holds_a_directory_is_told_by_its_pid(tmp_path: Path) -> None:
    assert holder_of(tmp_path) == ""
    async with opened(tmp_path):
        pid = (tmp_path / "lock").read_text().strip()
        assert pid
        assert holder_of(tmp_path) == pid
    assert holder_of(tmp_path) == ""


def test_sender_of_what_was_rejected_is_remembered_for_the_last_ones() -> None:
    senders = RejectedSenders()
    for number in range(10_000):
        senders.note(of_services(number % 200, "shop"))
    assert senders.of(NOW_NS + 7) == Sender("192.0.2.7")
    assert senders.of(NOW_NS - 1) is None
    for number in range(1000, 101_000):
        senders.note(Request((), Sender("192.0.2.1"), number))
    assert senders.of(NOW_NS + 7) is None
    assert senders.of(100_999) == Sender("192.0.2.1")
