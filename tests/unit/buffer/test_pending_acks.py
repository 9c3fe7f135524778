"""Moves that could not be written come back and keep their order behind newer ones."""

from relay.buffer import owed_ranges
from relay.buffer.sqlite.pending_acks import PendingAcks
from relay.model.records import DeadLetter, Encoding, OwedRange, Position
from tests.unit.buffer.making import NOW_NS


def letter(words: str) -> DeadLetter:
    return DeadLetter("a", "upstream_partial", words, 1, Encoding.JSON, b"{}")


def settle(acks: PendingAcks, row: int, *, at_ns: int = NOW_NS, status: int = 200) -> None:
    acks.update(
        "a",
        owed_ranges.open_from(row + 1),
        is_paused=False,
        settled=[owed_ranges.row_range(row)],
        at_ns=at_ns,
        status=status,
        letters=[letter(str(row))],
    )


def test_moves_put_back_stand_before_what_came_meanwhile() -> None:
    acks = PendingAcks()
    settle(acks, 1)
    taken = acks.take()
    settle(acks, 2)
    acks.put_back(taken)
    move = acks.take()["a"]

    assert [each.words for each in move.letters] == ["1", "2"]
    assert [each.start.row for each in move.deliveries] == [1, 2]
    assert move.ranges == owed_ranges.open_from(3)


def test_removal_put_back_still_removes_before_a_new_beginning() -> None:
    acks = PendingAcks()
    settle(acks, 1)
    acks.remove("a")
    taken = acks.take()
    acks.update("a", owed_ranges.open_from(9), is_paused=False)
    acks.put_back(taken)
    move = acks.take()["a"]

    assert move.is_removed
    assert move.is_present
    assert [each.words for each in move.letters] == ["1"]
    assert move.deliveries == []


def test_deliveries_of_one_second_and_status_are_one() -> None:
    acks = PendingAcks()
    settle(acks, 1)
    settle(acks, 2, at_ns=NOW_NS + 10**8)
    settle(acks, 3, at_ns=NOW_NS + 2 * 10**8, status=400)
    settle(acks, 4, at_ns=NOW_NS + 3 * 10**9, status=400)
    settle(acks, 6, at_ns=NOW_NS + 3 * 10**9, status=400)
    deliveries = acks.deliveries("a")

    assert [(each.start.row, each.end.row, each.status) for each in deliveries] == [
        (1, 3, 200),
        (3, 4, 400),
        (4, 5, 400),
        (6, 7, 400),
    ]
    assert deliveries[0].at_ns == NOW_NS + 10**8
    assert OwedRange(Position(1), Position(3)) == (deliveries[0].start, deliveries[0].end)
