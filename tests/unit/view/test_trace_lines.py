"""Lines of traces that are remembered: for which rows, and how many."""

from relay.view.trace_lines import KnownLines, bytes_of


def test_line_is_known_for_the_rows_it_was_made_of_and_no_others() -> None:
    known = KnownLines()
    known.put("a", [3, 5], {"name": "x"})

    assert known.get("a", [3, 5]) == {"name": "x"}
    assert known.get("a", [3, 5, 9]) is None
    assert known.get("a", [5]) is None  # one has gone
    assert known.get("b", [3, 5]) is None


def test_line_of_many_rows_is_another_when_one_more_comes() -> None:
    known = KnownLines()
    known.put("a", range(1, 101), {"name": "x"})

    assert known.get("a", range(1, 101)) is not None
    assert known.get("a", range(1, 102)) is None
    assert known.get("a", range(2, 101)) is None  # the oldest of them has gone


def test_lines_take_so_many_bytes_and_those_asked_for_last_stay() -> None:
    line = {"name": "x" * 500, "services": ["shop"] * 10}
    known = KnownLines(most_bytes=20 * bytes_of(line))
    for number in range(10):
        known.put(str(number), [number], line)
    assert known.get("0", [0]) is not None
    for number in range(10, 25):
        known.put(str(number), [number], line)

    assert 10 < len(known) < 20
    assert known.get("0", [0]) is not None
    assert known.get("1", [1]) is None
    assert known.get("24", [24]) is not None


def test_line_that_is_made_again_counts_once() -> None:
    line = {"name": "x" * 500}
    known = KnownLines(most_bytes=3 * bytes_of(line))
    known.put("a", [1], line)
    for number in range(100):
        known.put("b", [number], line)

    assert known.get("a", [1]) is not None
