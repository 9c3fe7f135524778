"""Each vendor's profile: what it takes, what it refuses, and in whose words."""

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mockcollector import MockCollector
from mockcollector.profiles import PROFILES, ProfileError, build
from mockcollector.signals import Signal
from tests.unit.mockcollector.exchange import JSON, PROTOBUF, request_json, send, span_json

WITHOUT_TOKEN = {"jaeger", "otel-collector", "tempo", "mlflow"}
OF_TRACES = [name for name in PROFILES if Signal.TRACES in build(name).rules]


def message(spans: int = 1, trace_id: bytes = b"\1" * 16) -> ExportTraceServiceRequest:
    """A request in protobuf."""
    made = ExportTraceServiceRequest()
    scope = made.resource_spans.add().scope_spans.add()
    for number in range(spans):
        scope.spans.add(trace_id=trace_id, span_id=(number + 1).to_bytes(8, "big"), name="op")
    return made


def post(collector: MockCollector, body: Any, **headers: str | None) -> tuple[int, bytes]:
    """Status and body of a POST to the profile's path, with its headers; None takes one away."""
    changed = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    kinds = JSON if isinstance(body, dict) else PROTOBUF
    sent = {name.lower(): value for name, value in {**kinds, **collector.headers}.items()}
    merged = {name: value for name, value in {**sent, **changed}.items() if value is not None}
    path = collector.endpoint.removeprefix(collector.base_url)
    reply = send(collector, body, path=path, headers=merged)
    return reply.status, reply.body


@pytest.mark.parametrize("name", OF_TRACES)
def test_profile_takes_a_right_request(name: str) -> None:
    with MockCollector(profile=name) as collector:
        status, body = post(collector, message())

        assert status == (202 if name == "datadog" else 200), body
        assert collector.journal.counts.spans_accepted == 1


@pytest.mark.parametrize("name", sorted(set(OF_TRACES) - WITHOUT_TOKEN))
def test_profile_refuses_a_request_without_its_token(name: str) -> None:
    with MockCollector(profile=name) as collector:
        first = next(iter(collector.headers))
        status, _body = post(collector, message(), **{first.replace("-", "_"): None})

        assert status in {400, 401, 403}
        assert collector.journal.counts.spans_accepted == 0


@pytest.mark.parametrize(
    ("name", "header", "status", "words"),
    [
        ("axiom", "Authorization", 403, {"code": 403, "message": "Forbidden"}),
        ("honeycomb", "x_honeycomb_team", 401, {"error": "unknown API key - check your credentials"}),  # noqa: E501
        ("langfuse", "Authorization", 401, {"message": "Invalid credentials"}),
        ("phoenix", "Authorization", 401, {"detail": "Invalid token"}),
    ],
)  # fmt: skip
def test_profile_refuses_a_wrong_token_in_the_vendors_words(
    name: str, header: str, status: int, words: dict[str, Any]
) -> None:
    with MockCollector(profile=name) as collector:
        found, body = post(collector, message(), **{header: "wrong"})

    assert found == status
    assert json.loads(body) == words


@pytest.mark.parametrize("name", OF_TRACES)
def test_profile_takes_json_unless_the_vendor_refuses_it(name: str) -> None:
    with MockCollector(profile=name) as collector:
        status, _body = post(collector, request_json())

    assert status == {"phoenix": 415, "mlflow": 400, "datadog": 202}.get(name, 200)


def test_mlflow_refuses_an_empty_request_and_one_without_its_experiment() -> None:
    with MockCollector(profile="mlflow") as collector:
        empty = post(collector, ExportTraceServiceRequest())
        without = post(collector, message(), x_mlflow_experiment_id=None)

    assert (empty[0], without[0]) == (400, 422)
    assert b"no spans found" in empty[1]


@pytest.mark.parametrize("name", ["tempo", "langfuse"])
def test_profile_refuses_the_whole_batch_for_one_bad_span(name: str) -> None:
    bad = message(2)
    bad.resource_spans[0].scope_spans[0].spans[0].trace_id = b""
    with MockCollector(profile=name) as collector:
        status, _body = post(collector, bad)

        assert status == 400
        assert collector.journal.counts.spans_accepted == 0


def test_honeycomb_wants_times_in_json_as_strings() -> None:
    numbers = request_json(span_json(startTimeUnixNano=1767225600000000000))
    with MockCollector(profile="honeycomb") as collector:
        assert post(collector, numbers)[0] == 400
        assert post(collector, request_json())[0] == 200


def test_honeycomb_wants_a_dataset_beside_a_classic_key() -> None:
    with MockCollector(profile="honeycomb", token="0123456789abcdef" * 2) as collector:
        assert post(collector, message(), x_honeycomb_dataset=None)[0] == 401
        assert post(collector, message())[0] == 200


@pytest.mark.parametrize(("name", "limit"), [("newrelic", 1_000_000), ("datadog", 3_200_000)])
def test_profile_refuses_a_body_over_the_vendors_limit(name: str, limit: int) -> None:
    large = message()
    large.resource_spans[0].scope_spans[0].spans[0].name = "x" * limit
    with MockCollector(profile=name) as collector:
        assert post(collector, large)[0] == 413


def test_axiom_refuses_more_than_its_events_a_batch() -> None:
    with MockCollector(profile="axiom") as collector:
        assert post(collector, message(10_001))[0] == 413
        assert post(collector, message(10_000))[0] == 200


def test_token_of_a_profile_can_be_chosen() -> None:
    with MockCollector(profile="axiom", token="xaat-mine") as collector:
        assert collector.headers["Authorization"] == "Bearer xaat-mine"
        assert post(collector, message())[0] == 200


def test_unknown_profile_and_option_are_named_with_what_there_is() -> None:
    with pytest.raises(ProfileError, match="did you mean 'axiom'"):
        build("axiomm")
    with pytest.raises(ProfileError, match="it has token, dataset"):
        build("axiom", None, nonsense="x")
