"""How the parts of the buffer share what it may use."""

from relay.buffer.settings import MIB, BufferSettings
from relay.config import BufferConfig


def test_small_buffer_divides_what_it_may_use() -> None:
    found = BufferSettings(
        max_size_bytes=66 * MIB, history_bytes=1024 * MIB, dead_letter_bytes=8 * MIB
    )
    reserve = found.reserve_bytes
    assert reserve == 66 * MIB // 4
    assert found.history_limit_bytes == 66 * MIB // 10
    assert found.dead_letter_limit_bytes == 66 * MIB // 10
    assert found.transaction_limit_bytes == reserve // 3
    assert found.checkpoint_limit_bytes == reserve // 6
    assert found.truncate_limit_bytes == reserve


def test_large_buffer_has_fixed_parts() -> None:
    found = BufferSettings(max_size_bytes=1 << 40)
    assert found.reserve_bytes == 32 * MIB
    assert (found.history_limit_bytes, found.dead_letter_limit_bytes) == (64 * MIB, 64 * MIB)
    assert found.transaction_limit_bytes == 8 * MIB
    assert (found.checkpoint_limit_bytes, found.truncate_limit_bytes) == (4 * MIB, 32 * MIB)


def test_settings_are_those_of_the_configuration() -> None:
    config = BufferConfig(
        max_size_bytes=1, min_free_bytes=2, keep_delivered_seconds=3, history_bytes=4
    )
    found = BufferSettings.of(config, least_seconds=2.0)
    assert (found.max_size_bytes, found.min_free_bytes) == (1, 2)
    assert (found.keep_delivered_seconds, found.history_bytes) == (3, 4)
    assert BufferSettings.of(config, least_seconds=5.0).keep_delivered_seconds == 5
