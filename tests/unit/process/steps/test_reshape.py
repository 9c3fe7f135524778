"""Attributes are deleted, renamed and set, for one destination."""

from typing import Any

import pytest

from relay.config import DestinationConfig
from relay.config.steps import AttributesConfig
from relay.model.records import Encoding, Signal
from relay.process.steps.run import Stepped, steps_of
from tests.unit.process.steps.items import BOTH, encoded, entries, metrics, span, spans, text


def run(made: bytes, encoding: Encoding, signal: Signal = Signal.TRACES, **words: Any) -> Stepped:
    config = DestinationConfig(
        name="d", endpoint="http://h/v1/traces", attributes=AttributesConfig(**words)
    )
    steps = steps_of(config)
    assert steps is not None
    return steps.run(encoded(made, encoding, signal), encoding, signal)


@pytest.mark.parametrize("encoding", BOTH)
def test_attributes_are_deleted_and_renamed_wherever_they_stand(encoding: Encoding) -> None:
    own = [text("debug.a", "1"), text("old", "2"), text("kept", "3")]
    made = spans(
        span(
            1,
            *own,
            events=[{"timeUnixNano": "1", "name": "e", "attributes": own}],
            links=[{"traceId": "1" * 32, "spanId": "1" * 16, "attributes": own}],
        ),
        resource={"attributes": own},
        scope={"name": "s", "attributes": own},
    )

    stepped = run(made, encoding, delete=("DEBUG.*",), rename={"old": "new"})

    (entry,) = entries(stepped.body, encoding)
    (scope,) = entry["scopeSpans"]
    (found,) = scope["spans"]
    for holder in (entry["resource"], scope["scope"], found, found["events"][0], found["links"][0]):
        assert holder["attributes"] == [text("new", "2"), text("kept", "3")]
    assert stepped.changed == {"attributes": 1}


@pytest.mark.parametrize("encoding", BOTH)
def test_what_would_get_a_name_that_is_there_keeps_its_own(encoding: Encoding) -> None:
    made = spans(span(1, text("old", "1"), text("new", "2")))
    body = encoded(made, encoding)

    assert run(made, encoding, rename={"old": "new"}).body == body


@pytest.mark.parametrize("encoding", BOTH)
def test_what_is_set_stands_at_the_resource_over_what_the_sender_has(encoding: Encoding) -> None:
    made = spans(span(1), resource={"attributes": [text("team", "x"), text("service.name", "s")]})

    stepped = run(made, encoding, set={"team": "shop", "n": -3, "on": True, "share": 0.5})
    again = run(stepped.body, encoding, set={"n": -3}) if encoding is Encoding.JSON else None

    (entry,) = entries(stepped.body, encoding)
    assert entry["resource"]["attributes"] == [
        text("team", "shop"),
        text("service.name", "s"),
        {"key": "n", "value": {"intValue": "-3"}},
        {"key": "on", "value": {"boolValue": True}},
        {"key": "share", "value": {"doubleValue": 0.5}},
    ]
    assert again is None or again.body == stepped.body


@pytest.mark.parametrize("encoding", BOTH)
def test_points_of_metrics_are_reshaped_and_a_resource_is_made_where_there_was_none(
    encoding: Encoding,
) -> None:
    point = {"timeUnixNano": "5", "asInt": "7", "attributes": [text("old", "0")]}
    made = metrics({"name": "load", "gauge": {"dataPoints": [point]}})

    stepped = run(made, encoding, Signal.METRICS, rename={"old": "new"}, set={"team": "shop"})

    (entry,) = entries(stepped.body, encoding, Signal.METRICS)
    assert entry["resource"]["attributes"] == [text("team", "shop")]
    (metric,) = entry["scopeMetrics"][0]["metrics"]
    assert metric["gauge"]["dataPoints"][0]["attributes"] == [text("new", "0")]
