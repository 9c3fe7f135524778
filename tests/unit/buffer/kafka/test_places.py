"""A row's number says where its record is, in order within a partition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.buffer.kafka.places import (
    MOST_OFFSET,
    Place,
    first_row,
    place_of,
    row_of,
    stream_number,
    stream_of,
)
from relay.config.fleet import MOST_PARTITIONS
from relay.model.records import Encoding, Signal

PLACES = st.builds(
    Place,
    st.sampled_from(Signal),
    st.sampled_from(Encoding),
    st.integers(0, MOST_PARTITIONS - 1),
    st.integers(0, MOST_OFFSET),
)


@given(PLACES)
def test_a_row_tells_its_place_and_is_a_number_that_json_carries(place: Place) -> None:
    row = row_of(*place)
    assert place_of(row) == place
    assert 0 < row < 2**53
    assert stream_of(row) == stream_number(*place[:3])
    assert row - first_row(stream_of(row)) == place.offset


@given(PLACES, PLACES)
def test_different_places_have_different_rows(one: Place, other: Place) -> None:
    assert (row_of(*one) == row_of(*other)) == (one == other)


@pytest.mark.parametrize("row", [0, -1, 1 << 40, 7 << 40 | 1])
def test_a_number_of_no_record_is_refused(row: int) -> None:
    with pytest.raises(ValueError, match="none of a fleet"):
        place_of(row)


def test_an_offset_beyond_what_a_row_can_tell_is_refused() -> None:
    with pytest.raises(ValueError, match="no row can have offset"):
        row_of(Signal.TRACES, Encoding.JSON, 0, MOST_OFFSET + 1)
