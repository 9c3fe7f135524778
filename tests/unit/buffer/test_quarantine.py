"""What is noted of a file that was set aside: it comes back as it was written, or not at all."""

import zlib

import msgspec
import pytest

from relay.buffer.sqlite.quarantine import SalvageState, decode_state, encode_state, state_of
from relay.buffer.sqlite.types import Totals
from tests.unit.buffer.log_files import ALL, rows

STATE = state_of({"a": ALL, "b": rows(2, 3)}, last_row=3, totals=Totals(2, 30, 400))


def sealed(packed: bytes) -> bytes:
    return zlib.crc32(packed).to_bytes(4, "little") + packed


def test_state_comes_back_as_it_was_written() -> None:
    found = decode_state(encode_state(STATE))
    assert found == STATE
    assert found.ranges() == {"a": ALL, "b": rows(2, 3)}
    assert (found.last_row, found.total_rows, found.total_spans) == (3, 2, 30)
    assert not found.is_guess


def test_of_whom_nothing_is_known_everything_is_owed_to_everybody() -> None:
    assert state_of({}) == SalvageState({}, is_guess=True)
    assert state_of({"a": ALL}, is_guess=True).is_guess


def test_no_byte_of_a_state_can_be_wrong_or_missing_unnoticed() -> None:
    stored = encode_state(STATE)
    for at in range(len(stored)):
        hit = bytearray(stored)
        hit[at] ^= 1
        for bad in (bytes(hit), stored[:at]):
            with pytest.raises(ValueError, match="checksum"):
                decode_state(bad)


@pytest.mark.parametrize("packed", [b"\x90", b"\xc1", msgspec.msgpack.encode([[1]])])
def test_state_of_another_kind_is_none(packed: bytes) -> None:
    with pytest.raises(ValueError, match="unreadable state of a salvage"):
        decode_state(sealed(packed))


def test_state_with_ranges_that_cannot_be_is_none() -> None:
    with pytest.raises(ValueError, match="checksum of a list of owed ranges"):
        decode_state(encode_state(SalvageState({"a": b"no ranges"})))
