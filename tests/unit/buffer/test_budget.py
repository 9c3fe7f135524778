"""What one request still takes, to the byte and to the item."""

import pytest

from relay.buffer.sqlite.types import Budget
from relay.model.records import Encoding


def budget(*, is_first: bool = False, one_encoding: bool = True) -> Budget:
    return Budget(100, 10, Encoding.JSON, one_encoding, is_first)


@pytest.mark.parametrize(
    ("raw_bytes", "items", "is_taken"),
    [(100, 10, True), (101, 10, False), (100, 11, False), (0, 0, True)],
)
def test_budget_takes_what_fits_exactly_and_no_more(
    raw_bytes: int, items: int, *, is_taken: bool
) -> None:
    assert budget().takes(Encoding.JSON, raw_bytes, items) is is_taken


def test_budget_takes_a_first_row_of_any_size_and_then_nothing() -> None:
    one = budget(is_first=True)
    assert one.takes(Encoding.JSON, 1_000_000, 10)
    assert not one.takes(Encoding.JSON, 1, 0)


def test_budget_of_one_encoding_takes_no_other() -> None:
    assert not budget().takes(Encoding.PROTOBUF, 1, 1)
    assert budget(one_encoding=False).takes(Encoding.PROTOBUF, 1, 1)


def test_budget_takes_no_more_than_is_left_of_it() -> None:
    bytes_left, items_left = budget(), budget()
    assert bytes_left.takes(Encoding.JSON, 60, 1)
    assert not bytes_left.takes(Encoding.JSON, 41, 1)
    assert bytes_left.takes(Encoding.JSON, 40, 1)
    assert items_left.takes(Encoding.JSON, 1, 6)
    assert not items_left.takes(Encoding.JSON, 1, 5)
    assert items_left.takes(Encoding.JSON, 1, 4)


def test_encoding_of_the_first_row_is_that_of_the_others() -> None:
    found = Budget(100, 10, None, one_encoding=True, is_first=True)
    assert found.takes(None, 1, 1)  # what is damaged has none
    assert found.takes(Encoding.JSON, 1, 1)
    assert not found.takes(Encoding.PROTOBUF, 1, 1)
    assert not found.takes(None, 1, 1)
