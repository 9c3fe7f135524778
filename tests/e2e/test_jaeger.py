"""A real Jaeger behind the installed relay: what its query API shows is what was sent."""

import json
import platform
import socket
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from tests.e2e.jaeger import Jaeger, spans_of
from tests.support.builders import TRACE_ID, protobuf_twin, request, span
from tests.support.load import Load
from tests.support.relay_process import Relay, eventually

pytestmark = pytest.mark.e2e

FIXTURES = Path(__file__).parent.parent / "fixtures"
BROADCAST_TRACE = "c0ffee00c0ffee00c0ffee00c0ffee01"
# Fixture 02 names this span as its parent without sending it; Jaeger marks a span whose parent
# is absent with an attribute of its own, so we send that one too.
ROOT = "00f067aa0ba902b7"
CONFIGURED = {"deployment.environment.name": "end-to-end", "team.name": "ours"}
ENRICH = f"""[enrich]
attributes = {{ {", ".join(f'"{key}" = "{value}"' for key, value in CONFIGURED.items())} }}
"""
EXTREMES = [
    {"intValue": str(2**63 - 1)},
    {"intValue": str(-(2**63))},
    {"intValue": "0"},
    {"doubleValue": 1.7976931348623157e308},
    {"doubleValue": 5e-324},
    {"doubleValue": 0.1},
    {"doubleValue": "Infinity"},
    {"doubleValue": "NaN"},
    {"stringValue": ""},
    {"stringValue": 'line\n"quoted" \\ \u2028 \U0001f9ea'},
    {"boolValue": True},
    {"bytesValue": ""},
    {"arrayValue": {}},
    {"kvlistValue": {"values": [{"key": "z", "value": {"arrayValue": {"values": [{}]}}}]}},
]


def destination(jaeger: Jaeger, **more: object) -> dict[str, dict[str, object]]:
    return {"jaeger": {"endpoint": jaeger.endpoint, **more}}


def everything() -> dict[str, Any]:
    """One trace of two services: fixture 02, its parent, and a child of each kind."""
    start = 1767225600000000000
    extremes = [{"key": f"x{n:02}", "value": value} for n, value in enumerate(EXTREMES)]
    root = span(spanId=ROOT, name="root", kind=1, attributes=extremes,
                startTimeUnixNano=str(start), endTimeUnixNano=str(start + 9_999_999))  # fmt: skip
    children = [
        span(
            spanId=f"c0000000000000{kind:02}",
            parentSpanId=ROOT,
            name=f"child {kind}",
            kind=kind,
            startTimeUnixNano=str(start + kind * 1_000_001),
            endTimeUnixNano=str(start + kind * 1_000_001 + 7),
            status={"code": kind % 3},
        )
        for kind in range(6)
    ]
    full = json.loads((FIXTURES / "02_full_featured.json").read_text())
    others = request(root, *children, service="cart", scope="cart.lib")
    return {"resourceSpans": full["resourceSpans"] + others["resourceSpans"]}


def by_span(traces: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each span with its scope and resource, every field with its type, whatever the grouping.

    Attributes are in the order of their keys, as Jaeger shows them. The schema URLs of resource
    and scope are left out: its API does not return them. No status is the same as an empty one.
    """
    found = {}
    for entry in protobuf_twin(traces).resource_spans:
        for scope_spans in entry.scope_spans:
            for one in scope_spans.spans:
                one.status.SetInParent()
                parts = {"resource": entry.resource, "scope": scope_spans.scope, "span": one}
                attributed: Any
                for attributed in (*parts.values(), *one.events, *one.links):
                    attributed.attributes.sort(key=lambda pair: pair.key)
                key = one.span_id.hex()
                assert key not in found, f"span {key} is there twice"
                found[key] = {name: MessageToDict(part) for name, part in parts.items()}
    return found


def take_added(found: dict[str, dict[str, Any]], sent: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Take away from `found` the resource attributes that were not sent: them, by span and key."""
    taken: dict[str, Any] = {}
    for span_id, parts in found.items():
        attributes = parts["resource"]["attributes"]
        known = {pair["key"] for pair in sent[span_id]["resource"]["attributes"]}
        taken[span_id] = {p["key"]: p["value"] for p in attributes if p["key"] not in known}
        parts["resource"]["attributes"] = [p for p in attributes if p["key"] in known]
    return taken


@pytest.mark.parametrize("encoding", ["auto", "json", "protobuf"])
@pytest.mark.parametrize("sender", ["json", "protobuf"])
def test_jaeger_shows_every_field_as_sent_with_what_the_relay_adds(
    tmp_path: Path, relay_command: tuple[str, ...], jaeger: Jaeger, sender: str, encoding: str
) -> None:
    traces = everything()
    with Relay(
        tmp_path,
        destination(jaeger, encoding=encoding),
        settings=ENRICH,
        executable=relay_command,
    ) as relay:
        if sender == "json":
            status, _ = relay.post(traces)
        else:
            media_type = {"Content-Type": "application/x-protobuf"}
            status, _ = relay.post(protobuf_twin(traces).SerializeToString(), headers=media_type)
        shown = jaeger.wait_for(TRACE_ID, spans=8)

    assert status == 200
    found, sent = by_span(shown), by_span(traces)
    added = take_added(found, sent)
    assert found == sent
    # Fixture 02 says on which host it was made; the other service does not.
    ours = {key: {"stringValue": value} for key, value in CONFIGURED.items()}
    ours["os.type"] = {"stringValue": platform.system().lower()}
    for span_id, attributes in added.items():
        expected = dict(ours)
        if span_id != "b7ad6b7169203331":
            expected["host.name"] = {"stringValue": socket.gethostname()}
        assert {key: attributes.get(key) for key in expected} == expected
        assert all(key in expected or key.startswith(("host.", "os.")) for key in attributes)
        assert ("host.name" in attributes) is (span_id != "b7ad6b7169203331")


def test_openrouter_chat_shows_as_one_trace_with_its_three_spans(
    tmp_path: Path, relay_command: tuple[str, ...], jaeger: Jaeger
) -> None:
    body = (FIXTURES / "08_openrouter_chat.json").read_bytes()
    with Relay(tmp_path, destination(jaeger), executable=relay_command) as relay:
        assert relay.post(body)[0] == 200
        shown = jaeger.wait_for(BROADCAST_TRACE, spans=3)
        listed = jaeger.find_all("openrouter")

    found, sent = by_span(shown), by_span(json.loads(body))
    take_added(found, sent)
    assert found == sent
    assert [one["traceId"] for one in listed] == [BROADCAST_TRACE] * 3
    parents = {one["spanId"]: one.get("parentSpanId", "") for one in spans_of(shown)}
    root = "c0ffee00c0ffee00"
    assert parents == {root: "", "1111111111111111": root, "2222222222222222": root}


def test_every_acknowledged_span_is_in_jaeger_after_it_was_away_and_the_relay_was_killed(
    tmp_path: Path, relay_command: tuple[str, ...], durable_jaeger: Jaeger
) -> None:
    """Jaeger keeps its traces on disk here, so what it had before it went away counts too."""
    jaeger = durable_jaeger
    with Relay(tmp_path, destination(jaeger), executable=relay_command) as relay:
        with Load(relay.ingest_port) as load:
            load.wait_for_more(300)
            eventually(lambda: jaeger.find_all("load"), what="the first spans in Jaeger")
            jaeger.stop()
            load.wait_for_more(300)
            eventually(lambda: waits_with_a_reason(relay), what="the relay noticing")
            relay.kill()  # while requests are on their way
            relay.start()
            load.wait_for_more(300)
        assert relay.destination("jaeger")["waiting_spans"] > 0
        jaeger.start()
        wanted = {each[-16:] for each in load.acknowledged}
        eventually(
            lambda: wanted <= {one["spanId"] for one in jaeger.find_all("load")},
            seconds=60,
            what=f"all of {len(wanted)} acknowledged spans in Jaeger",
        )


def waits_with_a_reason(relay: Relay) -> bool:
    shown = relay.destination("jaeger")
    return shown["state"] == "waiting" and bool(shown["reason"])


def test_send_test_trace_ends_well_and_says_where_the_span_is(
    tmp_path: Path, relay_command: tuple[str, ...], jaeger: Jaeger
) -> None:
    with Relay(tmp_path, destination(jaeger), executable=relay_command) as relay:
        told = relay.run("send-test-trace", "--wait", "10s")

    assert told.returncode == 0, told.stdout + told.stderr
    assert f"delivered  to jaeger ({jaeger.endpoint}): 200" in told.stdout
    trace_id = told.stdout.split()[1]
    shown = jaeger.wait_for(trace_id)
    assert {one["traceId"] for one in spans_of(shown)} == {trace_id}
