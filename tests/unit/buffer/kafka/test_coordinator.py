"""A coordinator that goes away while it is asked ends no relay, whatever it does to the library."""

import subprocess
import sys
from collections.abc import Callable, Collection
from typing import get_args

import pytest

from relay.buffer.kafka import coordinator
from relay.buffer.kafka.client import import_client
from relay.buffer.kafka.coordinator import Group, delete_groups, describe_groups
from relay.buffer.kafka.rights import hidden_groups
from relay.buffer.kafka.settings import KafkaSettings
from relay.config.fleet import FleetConfig
from relay.model.errors import BufferUnavailable
from tests.support.fading_broker import FORBIDDEN, FadingBroker, How

GROUP = "otlp-relay.prod.mock"
ASK = f"import sys; from {__name__} import ask_here; ask_here(sys.argv[1])"


def ask_here(place: str) -> None:
    """Have groups deleted by an admin client of this process."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": place})
    for answer in admin.delete_consumer_groups([GROUP], request_timeout=5.0).values():
        answer.exception(10)


def settings_of(broker: FadingBroker) -> KafkaSettings:
    return KafkaSettings(FleetConfig(brokers=tuple(broker.bootstrap)), "r1")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "_AGAIN_SECONDS", 0.0)


def test_the_library_still_ends_the_process_that_asks_by_an_admin_client() -> None:
    """Once this fails, what is in `coordinator` may ask in the relay's own process again."""
    with FadingBroker("forgets") as broker:
        done = subprocess.run(
            [sys.executable, "-c", ASK, *broker.bootstrap], capture_output=True, check=False
        )
    assert done.returncode < 0, done
    assert b"assert" in done.stderr.lower()


def what_came_of(
    ask: Callable[[KafkaSettings, Collection[str]], dict[str, Group]], settings: KafkaSettings
) -> str:
    """Why nothing was told."""
    try:
        return ask(settings, [GROUP])[GROUP].error
    except BufferUnavailable as error:
        return error.message


@pytest.mark.parametrize("ask", [describe_groups, delete_groups])
@pytest.mark.parametrize("how", get_args(How))
def test_a_coordinator_that_goes_away_during_the_question_is_an_error_and_no_more(
    how: How, ask: Callable[[KafkaSettings, Collection[str]], dict[str, Group]]
) -> None:
    with FadingBroker(how) as broker:
        words = what_came_of(ask, settings_of(broker))
        assert ("went away" in words) is (how == "forgets" and ask is delete_groups), words
        assert words
        assert bool(broker.asked) is (how == "hangs up")


def test_groups_that_may_be_out_of_sight_are_told_with_the_command_that_shows_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coordinator, "ASK_SECONDS", 3.0)
    with FadingBroker("hangs up", FORBIDDEN) as broker:
        settings = settings_of(broker)
        lacking = hidden_groups(import_client(), settings)
    assert lacking is not None
    assert lacking.level == "note"
    words = lacking.words(settings)
    assert "may not Describe group otlp-relay.prod.<any>: kafka-acls.sh" in words
    assert "--group otlp-relay.prod. --resource-pattern-type prefixed" in words
