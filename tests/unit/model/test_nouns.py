"""How things are counted in words."""

from relay.model.nouns import counted, counted_items, listed_items


def test_one_is_not_many() -> None:
    assert counted(1, "row") == "1 row"
    assert counted(0, "row") == "0 rows"
    assert counted(1200, "row") == "1,200 rows"


def test_items_are_called_by_their_signal_and_items_where_there_are_several() -> None:
    assert counted_items(1, "traces") == "1 span"
    assert counted_items(2, "logs") == "2 log records"
    assert counted_items(1, "metrics") == "1 data point"
    assert counted_items(3, "traces", "logs") == "3 items"
    assert counted_items(1) == "1 item"


def test_items_of_each_signal_are_listed_but_for_those_of_which_there_are_none() -> None:
    found = {"traces": 412, "logs": 0, "metrics": 1200}
    assert listed_items(found) == "412 spans, 1,200 data points"
    assert listed_items({"traces": 0, "logs": 0}) == "0 spans"
    assert listed_items({"logs": 0}) == "0 log records"
    assert listed_items({}) == "0 items"
