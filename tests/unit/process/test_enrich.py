"""What is added to a resource, and that the sender always wins."""

import json
import time
from pathlib import Path
from typing import Literal

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.config import Config, EnrichConfig
from relay.model.errors import ConfigError
from relay.model.records import Encoding, Sender, Signal
from relay.process.enrich import attributes_from_environment, detect
from relay.process.prepare import Prepare, PrepareSettings
from relay.process.settings import prepare_settings

HERE = Sender("127.0.0.1", is_local=True)
ELSEWHERE = Sender("203.0.113.9")
DETECTED = {"host.name": "box", "os.type": "linux"}
CONFIGURED = {"deployment.environment.name": "local", "team": "a"}


def enriched(
    attributes: dict[str, object], sender: Sender, encoding: Encoding = Encoding.JSON
) -> dict[str, object]:
    """The resource's attributes after enrichment, as they are kept."""
    span = {"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331"}
    request = {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": k, "value": v} for k, v in attributes.items()]},
                "schemaUrl": "https://example.com/schema",
                "scopeSpans": [{"spans": [span]}],
            }
        ]
    }
    body = json.dumps(request).encode()
    if encoding is Encoding.PROTOBUF:
        body = as_protobuf(attributes)
    prepare = Prepare(PrepareSettings("reject", DETECTED, CONFIGURED))
    for _ in range(2):  # the second time from what is remembered
        (piece,) = prepare(body, encoding, sender).pieces
    if encoding is Encoding.PROTOBUF:
        resource_spans = ExportTraceServiceRequest.FromString(piece.body).resource_spans[0]
        return {a.key: a.value.string_value for a in resource_spans.resource.attributes}
    entry = json.loads(piece.body)
    assert entry["schemaUrl"] == "https://example.com/schema"
    return {a["key"]: a["value"] for a in entry["resource"]["attributes"]}


def as_protobuf(attributes: dict[str, object]) -> bytes:
    request = ExportTraceServiceRequest()
    entry = request.resource_spans.add()
    for key, value in attributes.items():
        assert isinstance(value, dict)
        entry.resource.attributes.add(key=key).value.string_value = value["stringValue"]
    entry.scope_spans.add().spans.add(trace_id=b"\1" * 16, span_id=b"\2" * 8)
    return request.SerializeToString()


@pytest.mark.parametrize("encoding", list(Encoding))
def test_local_sender_gets_what_is_detected_and_configured(encoding: Encoding) -> None:
    found = enriched({"service.name": {"stringValue": "shop"}}, HERE, encoding)

    assert found.keys() == {"service.name", *DETECTED, *CONFIGURED}


@pytest.mark.parametrize("encoding", list(Encoding))
def test_sender_elsewhere_gets_what_is_configured_only(encoding: Encoding) -> None:
    found = enriched({"service.name": {"stringValue": "shop"}}, ELSEWHERE, encoding)

    assert found.keys() == {"service.name", *CONFIGURED}


def test_metrics_get_only_what_an_update_of_the_host_does_not_change() -> None:
    detected = {
        "host.name": "box",
        "host.id": "5",
        "host.arch": "amd64",
        "os.type": "linux",
        "os.version": "12",
        "os.description": "Debian 12",
    }
    prepare = Prepare(PrepareSettings("reject", detected, CONFIGURED))
    point = {"timeUnixNano": str(time.time_ns()), "asInt": "1"}
    metric = {"name": "m", "gauge": {"dataPoints": [point]}}
    record = {"timeUnixNano": point["timeUnixNano"]}
    bodies = {
        Signal.METRICS: {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]},
        Signal.LOGS: {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]},
    }
    keys = {}
    for signal, made in bodies.items():
        body = json.dumps(made).encode()
        (piece,) = prepare(body, Encoding.JSON, HERE, signal=signal).pieces
        resource = json.loads(piece.body)["resource"]
        keys[signal] = {attribute["key"] for attribute in resource["attributes"]}

    assert keys[Signal.METRICS] == {"host.name", "host.id", "os.type", *CONFIGURED}
    assert keys[Signal.LOGS] == {*detected, *CONFIGURED}


def test_resource_without_attributes_gets_them_beside_what_it_has() -> None:
    span = {"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331"}
    for resource in ({}, {"droppedAttributesCount": 3}, None):
        entry = {"scopeSpans": [{"spans": [span]}]} | (
            {} if resource is None else {"resource": resource}
        )
        prepare = Prepare(PrepareSettings(configured=CONFIGURED))
        body = json.dumps({"resourceSpans": [entry]}).encode()
        found = json.loads(prepare(body, Encoding.JSON, HERE).pieces[0].body)["resource"]

        assert {a["key"] for a in found.pop("attributes")} == CONFIGURED.keys()
        assert found == (resource or {})


@pytest.mark.parametrize("value", [{"stringValue": "own"}, {"stringValue": ""}, {}])
def test_sender_wins_even_with_an_empty_value(value: dict[str, object]) -> None:
    assert enriched({"host.name": value, "team": value}, HERE)["host.name"] == value


def test_former_name_of_an_attribute_keeps_the_new_one_out() -> None:
    found = enriched({"deployment.environment": {"stringValue": "prod"}}, HERE)

    assert "deployment.environment.name" not in found


def test_environment_attributes_are_percent_decoded_and_never_name_a_producer() -> None:
    text = "a=1%2C2, region=eu%3D1,service.name=relay,process.pid=7"

    assert attributes_from_environment(text) == {"a": "1,2", "region": "eu=1"}


@pytest.mark.parametrize("text", ["a", "a=1,b", "=1", "a=b=c"])
def test_environment_attributes_are_discarded_whole_when_one_is_wrong(text: str) -> None:
    with pytest.raises(ConfigError, match="OTEL_RESOURCE_ATTRIBUTES"):
        attributes_from_environment(text)


def test_detect_names_host_and_system_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "etc/os-release").write_text('NAME="Debian"\nVERSION_ID="12"\n# x=y\n')
    found = detect(["host", "os"], root=tmp_path)

    assert found["host.id"] == "0123456789abcdef0123456789abcdef"
    assert found["os.name"] == "Debian"
    assert found["os.version"] == "12"
    assert found["host.name"]
    assert detect([]) == {}
    assert "os.type" not in detect(["host"], root=tmp_path / "nothing")


def test_environment_is_asked_only_where_told_to_and_for_senders_on_this_host() -> None:
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "team=of-the-shell"}

    def settings(*detected: Literal["host", "os", "env"]) -> PrepareSettings:
        config = Config(state_dir=Path("/"), enrich=EnrichConfig(detect=detected))
        return prepare_settings(config, environ)

    assert (settings("env").detected, settings("env").configured) == ({"team": "of-the-shell"}, {})
    assert "team" not in settings("host", "os").detected | settings("host", "os").configured
