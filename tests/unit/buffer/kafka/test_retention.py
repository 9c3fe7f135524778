"""When what is owed comes near to what the brokers keep."""

import pytest

from relay.buffer.kafka.retention import Room, room_by_size, warning_by_age

ENDS = {("otlp_spans", 0): 1000, ("otlp_spans", 1): 1000}
MEAN = {"otlp_spans": 100.0}


def test_nothing_owed_is_room() -> None:
    assert room_by_size(ENDS, {}, MEAN, 100_000) == Room()
    assert room_by_size(ENDS, dict.fromkeys(ENDS, 1000), MEAN, 100_000).share == 0


@pytest.mark.parametrize(
    ("lowest", "is_said", "is_full"),
    [(301, False, False), (300, True, False), (101, True, False), (100, True, True)],
)
def test_the_fullest_partition_counts(lowest: int, is_said: bool, is_full: bool) -> None:
    owed = {("otlp_spans", 0): 900, ("otlp_spans", 1): lowest}
    room = room_by_size(ENDS, owed, MEAN, 100_000)
    assert (bool(room.limit), room.is_full) == (is_said, is_full)
    assert room.bytes_owed == (100 + 1000 - lowest) * 100
    if is_said:
        assert "partition 1 of otlp_spans" in room.limit


def test_what_is_kept_without_limit_or_is_of_unknown_size_is_never_full() -> None:
    owed = {("otlp_spans", 0): 0}
    assert not room_by_size(ENDS, owed, MEAN, 0).is_full
    assert not room_by_size(ENDS, owed, {}, 1).is_full
    assert not room_by_size({}, owed, MEAN, 1).is_full


def test_age_is_warned_of_in_time() -> None:
    hour_ns, week_ms = 3600 * 10**9, 7 * 86_400_000
    now_ns = 1000 * hour_ns
    assert warning_by_age(0, now_ns, week_ms) == ""
    assert warning_by_age(now_ns - 100 * hour_ns, now_ns, week_ms) == ""
    assert "raise fleet.retention" in warning_by_age(now_ns - 118 * hour_ns, now_ns, week_ms)
    assert warning_by_age(1, now_ns, -1) == ""
