"""The zstd frames of the table: whole, in any thread, and refused when they are anything else."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.buffer.sqlite import rows
from relay.buffer.sqlite.rows import unzstd, zstd_1


@given(st.binary(max_size=2000))
def test_zstd_gives_back_what_it_was_given(body: bytes) -> None:
    assert unzstd(zstd_1(body), len(body)) == body


def test_zstd_gives_whole_frames_in_every_thread() -> None:
    bodies = [bytes([number]) * (number * 997) for number in range(60)]
    with ThreadPoolExecutor(4) as pool:
        frames = list(pool.map(zstd_1, bodies))

    assert [unzstd(frame, len(body)) for frame, body in zip(frames, bodies, strict=True)] == bodies


def test_zstd_codes_letters_that_never_repeat() -> None:
    letters = random.Random(1).randbytes(16_000).hex().encode()  # four bits each

    assert len(zstd_1(letters)) < len(letters) * 0.6


def test_zstd_that_knows_no_steps_compresses_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_STEPS", {9999: 1})
    monkeypatch.setattr(rows, "_OWN", rows._OwnCompressor())
    body = b"spans and spans " * 100

    assert len(zstd_1(body)) < 100
    assert unzstd(zstd_1(body), len(body)) == body


@pytest.mark.parametrize("size", [4, 6, 0])
def test_unzstd_raises_value_error_when_the_size_is_another(size: int) -> None:
    with pytest.raises(ValueError, match=f"exactly {size} bytes"):
        unzstd(zstd_1(b"spans"), size)


@pytest.mark.parametrize("body", [b"", b"spans", zstd_1(b"spans")[:-1], zstd_1(b"spans") + b"!"])
def test_unzstd_raises_value_error_for_what_is_no_frame(body: bytes) -> None:
    with pytest.raises(ValueError, match="zstd"):
        unzstd(body, 5)


def test_unzstd_that_finds_no_memory_says_nothing_against_the_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a sound row would become a dead letter as damaged on disk."""
    zstd = vars(rows)["zstd"]  # by the version of Python another module

    class Short:
        def __init__(self, **_: object) -> None:
            pass

        def decompress(self, *_: object) -> bytes:
            raise zstd.ZstdError("Unable to decompress: Allocation error : not enough memory")

    monkeypatch.setattr(zstd, "ZstdDecompressor", Short)
    with pytest.raises(MemoryError):
        unzstd(b"", 1)
