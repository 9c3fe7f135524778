"""Numbers by their text: exact, bounded, and nothing that Python alone would take."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.otlp.json_numbers import MOST_CHARACTERS, read_double, read_whole


@given(number=st.integers(-(2**63), 2**63 - 1), zeros=st.integers(0, 5))
def test_whole_number_is_exact_in_every_spelling(number: int, zeros: int) -> None:
    for text in (str(number), f"{number}.{'0' * (zeros + 1)}", f"{number}{'0' * zeros}e-{zeros}"):
        assert read_whole(text, -(2**63), 2**63 - 1) == number


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_double_is_read_as_written(number: float) -> None:
    assert read_double(repr(number)) == number


@given(text=st.text(max_size=8))
def test_any_text_is_a_number_or_a_value_error(text: str) -> None:
    for read in (lambda: read_whole(text, -5, 5), lambda: read_double(text)):
        with contextlib.suppress(ValueError):
            assert abs(read()) < float("inf")


@pytest.mark.parametrize(
    "text", ["1e9999", "1e-9999", "1e99999999999", "9" * 4001, "1.5", "6", "-6"]
)
def test_number_out_of_range_or_with_a_fraction_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"whole|range|number"):
        read_whole(text, -5, 5)


def test_zero_is_whole_with_any_exponent() -> None:
    assert read_whole("0e9999", 0, 1) == 0
    assert read_whole("0.0e-9999", 0, 1) == 0


def test_number_of_as_many_digits_as_may_be_is_read() -> None:
    text = "5".zfill(MOST_CHARACTERS)

    assert read_whole(text, 0, 5) == read_double(text) == 5
    for read in (lambda: read_whole("0" + text, 0, 5), lambda: read_double("0" + text)):
        with pytest.raises(ValueError, match="no number"):
            read()


@pytest.mark.parametrize(
    ("text", "sign"), [("-0", 1), ("0", 1), ("-0.0", -1), ("-0e1", -1), ("-0.0e1", -1), ("0.0", 1)]
)
def test_zero_is_negative_only_where_it_is_no_integer(text: str, sign: int) -> None:
    assert math.copysign(1, read_double(text)) == sign
