"""What people are told of a destination, in its status and once in the log."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.config import DestinationConfig
from relay.deliver.status import HEALTHY, IN_TROUBLE, MAX_WARNINGS, CourierStatus
from relay.model.reasons import Reason
from relay.model.records import DeadLetter, DestinationState, Encoding
from relay.upstream.outcomes import Delivered

NOW_NS = 10**18
SETTINGS = DestinationConfig(name="a", endpoint="http://user:pass@127.0.0.1:1/v1/traces")


def status_at(clock: list[int]) -> CourierStatus:
    return CourierStatus(SETTINGS, lambda: clock[0])


@pytest.fixture
def status() -> CourierStatus:
    return status_at([NOW_NS])


def told(logged: Any, name: str) -> list[Any]:
    return [each for each in logged if each["event"] == name]


def test_what_an_upstream_did_not_take_of_a_batch_is_counted_and_said_once(
    status: CourierStatus,
) -> None:
    with capture_logs() as logged:
        status.delivered(Delivered(202, message="too old"), 2, 10)
        status.delivered(Delivered(202, message="too old"), 1, 10)
        status.delivered(Delivered(200), 0, 5)
        status.delivered(Delivered(202, message="too long"), 1, 3)
    assert (status.delivered_items, status.refused_items) == (24, 4)
    assert (status.last_success_ns, status.last_status) == (NOW_NS, 202)
    refused = told(logged, "spans_refused")
    assert [(each["words"], each["refused"], each["spans"]) for each in refused] == [
        ("too old", 2, 10),
        ("too long", 1, 3),
    ]
    assert status.warnings == []


def test_words_of_an_upstream_that_took_all_are_a_warning_of_which_the_last_stay(
    status: CourierStatus,
) -> None:
    status.learnt(["it takes protobuf only"])
    with capture_logs() as logged:
        for number in (*range(MAX_WARNINGS + 2), MAX_WARNINGS + 1):
            status.delivered(Delivered(200, message=f"hm {number}"), 0, 1)
    assert len(told(logged, "destination_warned")) == MAX_WARNINGS + 2
    last = [f"hm {number}" for number in range(2, MAX_WARNINGS + 2)]
    assert status.warnings == ["it takes protobuf only", *last]


def letter(reason: str, words: str, items: int = 2) -> DeadLetter:
    return DeadLetter("a", reason, words, items, Encoding.JSON, b"{}")


def test_points_that_the_settings_leave_out_are_a_warning_until_the_settings_are_new(
    status: CourierStatus,
) -> None:
    with capture_logs() as logged:
        for _ in range(3):
            status.gave_up(letter(Reason.TEMPORALITY, "a takes only delta"))
    assert status.refused_items == 6
    assert status.warnings == ["a takes only delta"]
    assert len(told(logged, "spans_set_aside")) == 1
    assert len(told(logged, "spans_set_aside_again")) == 2
    with capture_logs() as logged:
        for _ in range(2):
            status.gave_up(letter(Reason.UPSTREAM_REFUSED, "no"))
    assert len(told(logged, "spans_set_aside")) == 2
    assert status.warnings == ["a takes only delta"]
    status.update(SETTINGS)
    assert status.warnings == []


def test_items_that_steps_filtered_and_changed_count_once_they_are_settled(
    status: CourierStatus,
) -> None:
    counts = {"filtered": Counter(match=2), "changed": Counter(redact=3)}
    batch: Any = SimpleNamespace(count=counts.__getitem__)
    fine = SimpleNamespace(failures=0, failure="", text="x == 1")
    fails = SimpleNamespace(failures=4, failure="no such key", text="y == 1")
    steps: Any = SimpleNamespace(conditions={"match": fails, "sample": fine})
    with capture_logs() as logged:
        status.stepped(batch, None)
        assert told(logged, "condition_failed") == []
        status.stepped(batch, steps)
        assert len(told(logged, "condition_failed")) == 1
        fails.failures = 9
        status.stepped(batch, steps)
    assert (status.filtered_items, status.changed_items) == ({"match": 6}, {"redact": 9})
    assert (status.failed_conditions, status.condition_words) == (
        {"match": 9},
        {"match": "no such key"},
    )
    (said,) = told(logged, "condition_failed")
    assert (said["step"], said["condition"]) == ("match", "y == 1")
    status.update(SETTINGS)
    assert status.failed_conditions == {}


def test_trouble_is_counted_from_its_beginning_until_it_is_over() -> None:
    clock = [NOW_NS]
    status = status_at(clock)
    seen = []
    states = (*IN_TROUBLE, DestinationState.PAUSED, *HEALTHY, DestinationState.BLOCKED)
    for number, state in enumerate(states, start=1):
        clock[0] = NOW_NS + number
        status.enter(state, "why")
        seen.append(status.failing_since_ns)

    assert seen == [NOW_NS + 1] * 3 + [0] * 2 + [NOW_NS + 6]


def test_secrets_of_an_endpoint_are_not_shown(status: CourierStatus) -> None:
    assert "pass" not in status.endpoint
    status.update(DestinationConfig(name="a", endpoint="http://b:secret@h/v1/traces"))
    assert "secret" not in status.endpoint
    assert status.state is DestinationState.IDLE
