"""Moves that could not be written come back and keep their order behind newer ones."""

from relay.buffer import owed_ranges
from relay.buffer.sqlite.pending_acks import PendingMoves
from relay.model.records import DeadLetter, Encoding, OwedRange, Position
from tests.unit.buffer.making import NOW_NS


def letter(words: str) -> DeadLetter:
    return DeadLetter("a", "upstream_partial", words, 1, Encoding.JSON, b"{}")


def settle(moves: PendingMoves, row: int, *, at_ns: int = NOW_NS, status: int = 200) -> None:
    moves.update(
        "a",
        owed_ranges.open_from(row + 1),
        is_paused=False,
        settled=[owed_ranges.row_range(row)],
        at_ns=at_ns,
        status=status,
        letters=[letter(str(row))],
    )


def test_moves_put_back_stand_before_what_came_meanwhile() -> None:
    moves = PendingMoves()
    settle(moves, 1)
    taken = moves.take()
    settle(moves, 2)
    moves.put_back(taken)
    move = moves.take()["a"]

    assert [each.words for each in move.letters] == ["1", "2"]
    assert [each.start.row for each in move.deliveries] == [1, 2]
    assert move.ranges == owed_ranges.open_from(3)


def test_removal_put_back_still_removes_before_a_new_beginning() -> None:
    moves = PendingMoves()
    settle(moves, 1)
    moves.remove("a")
    taken = moves.take()
    moves.update("a", owed_ranges.open_from(9), is_paused=False)
    moves.put_back(taken)
    move = moves.take()["a"]

    assert move.is_removed
    assert move.is_present
    assert [each.words for each in move.letters] == ["1"]
    assert move.deliveries == []


def test_deliveries_of_one_second_and_status_are_one() -> None:
    moves = PendingMoves()
    settle(moves, 1)
    settle(moves, 2, at_ns=NOW_NS + 10**8)
    settle(moves, 3, at_ns=NOW_NS + 2 * 10**8, status=400)
    settle(moves, 4, at_ns=NOW_NS + 3 * 10**9, status=400)
    settle(moves, 6, at_ns=NOW_NS + 3 * 10**9, status=400)
    deliveries = moves.deliveries("a")

    assert [(each.start.row, each.end.row, each.status) for each in deliveries] == [
        (1, 3, 200),
        (3, 4, 400),
        (4, 5, 400),
        (6, 7, 400),
    ]
    assert deliveries[0].at_ns == NOW_NS + 10**8
    assert OwedRange(Position(1), Position(3)) == (deliveries[0].start, deliveries[0].end)
