"""What the status and `doctor` say of the native pass."""

import pytest

from relay.otlp.native import ACTIVE, NOT_INSTALLED, describe


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (ACTIVE, "active: bodies are prepared by otlp-relay-native"),
        (NOT_INSTALLED, "not installed: the relay is several times as fast with otlp-relay[speed]"),
        ("off: RELAY_PURE is set", "off: RELAY_PURE is set"),
    ],
)
def test_state_of_the_native_pass_is_told_with_what_to_do(state: str, said: str) -> None:
    assert describe(state) == said
