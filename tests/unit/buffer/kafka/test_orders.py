"""An order to send again is due in each of its streams until it is done there."""

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.orders import REPLAY, Order, Orders, done_key
from relay.buffer.kafka.places import first_row
from relay.model.records import OwedRange, Position, Signal

KEY = BacklogName("a", Signal.LOGS)
FIVE, SIX = first_row(5), first_row(6)
ORDER = Order(
    KEY,
    (OwedRange(Position(FIVE), Position(FIVE + 9, 2)), owed_ranges.row_range(SIX + 3)),
)


def heard(*names: str) -> Orders:
    orders = Orders()
    for name in names:
        orders.heard(REPLAY + name.encode(), ORDER.value)
    return orders


def test_an_order_is_due_in_its_streams_and_to_its_backlog_alone() -> None:
    orders = heard("x")

    assert orders.due(KEY, 5) == {"x": (OwedRange(Position(FIVE), Position(FIVE + 9, 2)),)}
    assert orders.due(KEY, 6) == {"x": (owed_ranges.row_range(SIX + 3),)}
    assert not orders.due(KEY, 7)
    assert not orders.due(BacklogName("a"), 5)


def test_an_order_that_is_done_in_one_stream_is_due_in_the_other() -> None:
    orders = heard("x", "y")
    orders.heard(done_key("x", 5), b"1")

    assert set(orders.due(KEY, 5)) == {"y"}
    assert set(orders.due(KEY, 6)) == {"x", "y"}
    assert orders.finished() == []


def test_what_is_done_everywhere_is_taken_away_with_its_marks() -> None:
    orders = heard("x")
    for stream in (5, 6):
        orders.heard(done_key("x", stream), b"1")
    keys = orders.finished()
    assert set(keys) == {REPLAY + b"x", done_key("x", 5), done_key("x", 6)}
    for key in keys:
        orders.heard(key, None)

    assert "x" not in orders
    assert orders.finished() == []


def test_marks_of_an_order_that_has_gone_are_taken_away() -> None:
    orders = Orders()
    orders.heard(done_key("x", 5), b"1")

    assert orders.finished() == [done_key("x", 5)]


def test_an_order_that_nobody_can_read_is_none() -> None:
    orders = heard("x")
    orders.heard(REPLAY + b"x", b"\xff")
    orders.heard(b"else", b"1")

    assert "x" not in orders


def test_the_lowest_row_of_each_stream_is_known_until_the_order_is_done_there() -> None:
    orders = heard("x")
    assert sorted(orders.lowest()) == [FIVE, SIX + 3]

    orders.heard(done_key("x", 5), b"1")
    assert orders.lowest() == [SIX + 3]
