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
