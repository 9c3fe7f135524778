import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.model.errors import ConfigError
from relay.model.units import (
    MAX_DURATION_SECONDS,
    MAX_SIZE_BYTES,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    three_figures,
)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        *[(0, "0 ns"), (999, "999 ns"), (1000, "1.00 µs"), (12_345, "12.3 µs")],
        *[(999_499, "999 µs"), (999_600, "1.00 ms"), (12_000_000, "12.0 ms")],
        *[(99_960_000, "100 ms"), (2e9, "2.00 s"), (12.34e9, "12.3 s"), (99.94e9, "99.9 s")],
        *[(99.96e9, "1 min 40 s"), (250e9, "4 min 10 s")],
    ],
)
def test_duration_is_told_with_three_figures(ns: float, text: str) -> None:
    assert three_figures(ns) == text


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("64MiB", 64 * 2**20),
        ("1GiB", 2**30),
        ("10MB", 10_000_000),
        ("10 mb", 10_000_000),
        ("1.5KiB", 1536),
        ("0", 0),
        ("17B", 17),
        (4096, 4096),
    ],
)
def test_size_is_read_by_its_unit(text: object, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "wrong",
    [
        *["", "64M", "1 G", "MiB", "-1", -1, True, 1.5, None, [], "1e3", "٣MiB", "1MiB\n", "8EiB"],
        *["9" * 21, "9" * 100_000 + "MiB", "99999999999999999999TiB", MAX_SIZE_BYTES + 1],
    ],
)
def test_size_is_refused_with_what_is_right(wrong: object) -> None:
    with pytest.raises(ConfigError, match="must be"):
        parse_size(wrong)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("0s", 0), ("250ms", 0.25), ("1h", 3600), ("1h30m", 5400), ("1.5 d", 129_600)],
)
def test_duration_is_read_by_its_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "wrong",
    [
        *["", "30", 30, 1.5, True, None, "s", "30 sec", "-1s", "1h-", "1H", "forever", "1s\n"],
        *["9" * 400 + "h", "99999999d", "1s" * 100_000 + "x"],
    ],
)
def test_duration_is_refused_with_what_is_right(wrong: object) -> None:
    with pytest.raises(ConfigError, match="must"):
        parse_duration(wrong)


@given(st.integers(0, MAX_SIZE_BYTES))
@example(2**20)
def test_size_reads_back_what_it_formats(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.integers(0, MAX_DURATION_SECONDS * 1000))
@example(5_400_000)
def test_duration_reads_back_what_it_formats(milliseconds: int) -> None:
    seconds = milliseconds / 1000

    assert math.isclose(parse_duration(format_duration(seconds)), seconds, abs_tol=1e-6)


@given(st.text() | st.from_regex(r"[0-9. ]{0,9}[kKmMgGtTiIbBshd]{0,3}"))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    for parse, limit in ((parse_size, MAX_SIZE_BYTES), (parse_duration, MAX_DURATION_SECONDS)):
        try:
            value = parse(text)
        except ConfigError:
            continue
        assert 0 <= value <= limit
