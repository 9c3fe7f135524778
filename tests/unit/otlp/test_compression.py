"""Compressed bodies: what comes out, what is refused, and that a bomb stops early."""

import gzip
import itertools
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model.errors import Refusal
from relay.otlp import compression
from relay.otlp.compression import Inflater, gzip_level_1

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 2**20


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
    "identity": bytes,
}


def inflate(body: bytes | Iterable[bytes], coding: str, cap_bytes: int) -> bytes:
    """A body, or its chunks, decompressed."""
    inflater = Inflater(coding, cap_bytes)
    for chunk in (body,) if isinstance(body, bytes) else body:
        for _ in inflater.steps(chunk):
            pass
    return inflater.finish()


def refused(act: Callable[[], Any]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        act()
    return caught.value


def status_of(act: Callable[[], Any]) -> int:
    try:
        act()
    except Refusal as refusal:
        return refusal.status
    return 200


@given(st.sampled_from(sorted(ENCODERS)), st.binary(max_size=300), st.integers(1, 400))
def test_inflate_gives_back_the_body_in_chunks_of_any_size(
    coding: str, body: bytes, size: int
) -> None:
    body = body * 50
    packed = ENCODERS[coding](body)
    chunks = [packed[start : start + size] for start in range(0, len(packed), size)]

    assert inflate(chunks, coding, len(body)) == body


@given(st.binary(max_size=300), st.integers(1, 9))
def test_inflate_takes_deflate_without_its_zlib_header(body: bytes, level: int) -> None:
    packer = zlib.compressobj(level, wbits=-15)
    packed = packer.compress(body) + packer.flush()

    assert inflate(packed, "deflate", MIB) == body
    assert inflate([packed[:1], packed[1:]], "deflate", MIB) == body


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_inflate_joins_several_members(coding: str) -> None:
    encode = ENCODERS[coding]
    packed = encode(b"one ") + encode(b"") + encode(b"two ") + encode(b"three")

    assert inflate(packed, coding, 13) == b"one two three"
    assert inflate([bytes([byte]) for byte in packed], coding, 13) == b"one two three"


def test_inflate_takes_many_members_that_hold_something() -> None:
    member = gzip.compress(b"x" * 300)

    assert len(inflate(member * 2000, "gzip", MIB)) == 600_000


def test_inflate_takes_a_zstd_frame_between_others_that_is_skippable() -> None:
    skippable = (0x184D2A50).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"abc"

    assert inflate(zstd.compress(b"a") + skippable + zstd.compress(b"b"), "zstd", 9) == b"ab"


@pytest.mark.parametrize("coding", ["GZIP", " Gzip ", "gZiP"])
def test_inflater_takes_the_coding_in_any_case(coding: str) -> None:
    assert inflate(gzip.compress(b"spans"), coding, 5) == b"spans"


@pytest.mark.parametrize("coding", ["br", "x-gzip", "gzip, gzip", "snappy"])
def test_inflater_refuses_other_codings_with_415(coding: str) -> None:
    refusal = refused(lambda: Inflater(coding, MIB))

    assert (refusal.status, refusal.grpc_code) == (415, 3)
    assert "gzip, deflate, zstd" in refusal.message


@pytest.mark.parametrize("coding", sorted(ENCODERS))
def test_inflate_refuses_one_byte_over_the_cap_with_413(coding: str) -> None:
    packed = ENCODERS[coding](b"a" * 1001)

    assert inflate(packed, coding, 1001)
    refusal = refused(lambda: inflate(packed, coding, 1000))

    assert (refusal.status, refusal.grpc_code) == (413, 8)
    form = "" if coding == "identity" else f" after {coding} decompression"
    assert refusal.message == f"the body is larger than 1000 bytes{form}"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_inflate_refuses_every_truncation_with_400(coding: str) -> None:
    packed = ENCODERS[coding](b"some spans, some more spans" * 20)

    for length in range(len(packed)):
        refusal = refused(lambda end=length: inflate(packed[:end], coding, MIB))  # type: ignore[misc]
        assert refusal.status == 400
        assert ("is empty" if length == 0 else "ends too early") in refusal.message


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_inflate_refuses_bytes_after_the_end(coding: str) -> None:
    assert refused(lambda: inflate(ENCODERS[coding](b"x") + b"tail", coding, MIB)).status == 400


def test_inflate_takes_nothing_but_gzip_for_gzip() -> None:
    for other in (zlib.compress(b"x"), zstd.compress(b"x"), b"xyz"):
        refusal = refused(lambda packed=other: inflate(packed, "gzip", MIB))  # type: ignore[misc]
        assert (refusal.status, refusal.message) == (400, "the body is not valid gzip")


@pytest.mark.parametrize(("coding", "least_bytes"), [("gzip", 256), ("zstd", 2048)])
def test_members_beyond_the_first_64_must_have_held_something(
    coding: str, least_bytes: int
) -> None:
    encode = ENCODERS[coding]
    empty = encode(b"") * 63

    assert inflate(encode(b"") + empty, coding, MIB) == b""
    assert inflate(encode(b"x" * least_bytes) + empty + encode(b"y"), coding, MIB)[-1:] == b"y"
    for held in (b"", b"x" * (least_bytes - 1)):
        refusal = refused(lambda it=held: inflate(encode(it) + empty + encode(b"y"), coding, MIB))  # type: ignore[misc]
        assert "too many parts" in refusal.message


@pytest.mark.parametrize("held_bytes", [0, 1, 1000])
def test_body_may_be_so_much_longer_than_what_it_holds(held_bytes: int) -> None:
    """Twice and 64 KiB: a name in its head, of any length, is read and thrown away."""
    held = zlib.compress(b"x" * held_bytes, wbits=31)[10:]
    head = b"\x1f\x8b\x08\x08" + bytes(6)
    most = 2 * held_bytes + 65536
    name = b"n" * (most - len(head) - 1 - len(held))

    assert len(inflate(head + name + b"\0" + held, "gzip", MIB)) == held_bytes
    refusal = refused(lambda: inflate(head + name + b"n\0" + held, "gzip", MIB))
    assert "far longer" in refusal.message


def test_inflate_refuses_a_wrong_checksum() -> None:
    packed = bytearray(gzip.compress(b"x" * 100))
    packed[-8] ^= 1

    assert refused(lambda: inflate(bytes(packed), "gzip", MIB)).status == 400


def test_inflate_refuses_zstd_with_a_window_above_eight_mebibytes() -> None:
    options = {int(zstd.CompressionParameter.window_log): 24}
    packer = zstd.ZstdCompressor(options=options)
    packed = packer.compress(b"x" * 100) + packer.flush()

    assert "window" in refused(lambda: inflate(packed, "zstd", MIB)).message


def test_inflater_stops_a_bomb_at_the_cap() -> None:
    """Half a kilobyte of blanks, 200 kB plain; and 60 MB of zeros in a few kilobytes."""
    assert refused(lambda: inflate(gzip.compress(b" " * 200_000), "gzip", 1000)).status == 413
    for coding in ("gzip", "zstd"):
        inflater = Inflater(coding, 2 * MIB)
        packed = ENCODERS[coding](bytes(60 * MIB))
        assert refused(lambda it=inflater, body=packed: list(it.steps(body))).status == 413  # type: ignore[misc]
        assert inflater.inflated_bytes <= 2 * MIB + 65536


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param("gzip", gzip.compress(b"") * (8 * MIB // 20), id="empty members"),
        pytest.param("gzip", gzip.compress(b"x" * 20) * (4 * MIB // 23), id="members of 20 bytes"),
        pytest.param(
            "gzip",
            b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\0\0\0\xff\xff" * MIB,
            id="empty stored blocks",
        ),
        # Ten bytes each: a header with a window of 8 MiB, one block that repeats a byte.
        pytest.param(
            "zstd",
            (b"\x28\xb5\x2f\xfd\0\x68" + (256 << 3 | 3).to_bytes(3, "little") + b"x") * 100_000,
            id="frames of 256 bytes",
        ),
    ],
)
def test_inflate_spends_little_time_on_what_holds_nothing(coding: str, body: bytes) -> None:
    seconds = []
    for _ in range(3):
        started = time.process_time()
        refusal = refused(lambda: inflate(body, coding, 64 * MIB))
        seconds.append(time.process_time() - started)

        assert refusal.status == 400
        assert "hold" in refusal.message
    assert min(seconds) < 0.5


@given(st.sampled_from(["gzip", "deflate", "zstd"]), st.binary(max_size=200), st.data())
def test_inflate_raises_nothing_but_refusal_for_damaged_bodies(
    coding: str, body: bytes, data: st.DataObject
) -> None:
    packed = bytearray(ENCODERS[coding](body))
    for _ in range(data.draw(st.integers(0, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))

    assert status_of(lambda: inflate(bytes(packed), coding, 1000)) in {200, 400, 413}


@given(st.sampled_from(["gzip", "deflate", "zstd"]), st.lists(st.binary(max_size=60), max_size=5))
def test_inflate_raises_nothing_but_refusal_for_noise(coding: str, chunks: list[bytes]) -> None:
    assert status_of(lambda: inflate(chunks, coding, 1000)) in {200, 400, 413}


@given(st.binary(max_size=2000))
def test_gzip_gives_back_what_it_was_given(body: bytes) -> None:
    assert gzip.decompress(gzip_level_1(body)) == body


def test_codings_name_all_that_is_taken() -> None:
    for coding in compression.CODINGS:
        assert inflate(ENCODERS[coding](b"x"), coding, 1) == b"x"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_steps_give_way_after_each_quarter_of_a_mebibyte(coding: str) -> None:
    plain = bytes(8 * 1024 * 1024)
    small = {
        "gzip": zlib.compress(plain, wbits=31),
        "deflate": zlib.compress(plain),
        "zstd": zstd.compress(plain),
    }[coding]
    inflater = Inflater(coding, len(plain))
    came = [0]
    for start in range(0, len(small), 4000):
        for _ in inflater.steps(small[start : start + 4000]):
            came.append(inflater.inflated_bytes)  # noqa: PERF401 - each is asked in its turn
    grown = [after - before for before, after in itertools.pairwise(came)]

    assert inflater.finish() == plain
    assert 31 <= len(grown) <= 32
    assert max(grown) <= 320 * 1024
