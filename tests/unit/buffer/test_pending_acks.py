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
    settle(acks, 2)
    settle(acks, 3, at_ns=NOW_NS + 10**8)
    settle(acks, 4, at_ns=NOW_NS + 2 * 10**8, status=400)
    settle(acks, 5, at_ns=NOW_NS + 3 * 10**9, status=400)
    settle(acks, 7, at_ns=NOW_NS + 3 * 10**9, status=400)
    deliveries = acks.deliveries("a")

    assert [(each.start.row, each.end.row, each.status) for each in deliveries] == [
        (1, 4, 200),
        (4, 5, 400),
        (5, 6, 400),
        (7, 8, 400),
    ]
    assert deliveries[0].at_ns == NOW_NS + 10**8
    assert OwedRange(Position(1), Position(4)) == (deliveries[0].start, deliveries[0].end)


def test_what_could_not_be_written_is_all_pending_again() -> None:
    acks = PendingAcks()
    for name in "abc":
        acks.update(name, owed_ranges.open_from(1), is_paused=False)
    taken = acks.take()
    acks.update("b", owed_ranges.open_from(5), is_paused=True)
    acks.put_back(taken)

    assert acks.states() == {
        "a": (owed_ranges.open_from(1), False),
        "b": (owed_ranges.open_from(5), True),
        "c": (owed_ranges.open_from(1), False),
    }
    acks.remove("c")
    assert acks.states()["c"] is None
    acks.update("c", owed_ranges.open_from(9), is_paused=False)
    assert acks.states()["c"] == (owed_ranges.open_from(9), False)


def test_places_of_a_file_that_was_replaced_are_forgotten_and_its_letters_are_not() -> None:
    acks = PendingAcks()
    settle(acks, 1)
    acks.forget_places()
    move = acks.take()["a"]

    assert move.deliveries == []
    assert [each.words for each in move.letters] == ["1"]


def test_rows_that_went_are_not_owed_until_it_is_known_that_they_have_gone() -> None:
    acks = PendingAcks()
    acks.evicted("a", (owed_ranges.row_range(1),))
    acks.evicted("a", (owed_ranges.row_range(2),))
    acks.update("a", owed_ranges.open_from(1), is_paused=False)
    assert acks.states() == {"a": (owed_ranges.open_from(3), False)}
    acks.evicted("a", (owed_ranges.row_range(3),))
    assert acks.states() == {"a": (owed_ranges.open_from(4), False)}
    acks.heard("a")
    acks.update("a", owed_ranges.open_from(1), is_paused=False)
    assert acks.states() == {
        "a": ((owed_ranges.row_range(1), *owed_ranges.open_from(4)), False),
    }
    acks.heard("a")
    acks.heard("a")
    acks.update("a", owed_ranges.open_from(2), is_paused=False)
    assert acks.states() == {"a": (owed_ranges.open_from(2), False)}
