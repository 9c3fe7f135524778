"""Real senders to a real relay process to the mock collector: what arrives is what was sent."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mockcollector.server import MockCollector
from tests.support.fixtures import as_of_now, fixtures_of
from tests.support.relay_process import Relay

FIXTURES = Path(__file__).parent.parent / "fixtures"
TOKEN = "Bearer secret-of-the-mock"
APP = """
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("app", "1.0")
with tracer.start_as_current_span("parent", kind=SpanKind.SERVER) as parent:
    parent.set_attributes({"n": 2**53 + 1, "f": 0.5, "list": ["a", "b"], "ok": True})
    with tracer.start_as_current_span("child", links=[Link(parent.get_span_context())]) as child:
        child.add_event("happened", {"k": "v"})
        child.set_status(Status(StatusCode.ERROR, "broken"))
assert provider.force_flush(10_000)
provider.shutdown()
print(format(parent.get_span_context().trace_id, "032x"))
"""


@pytest.fixture
def upstream() -> MockCollector:
    return MockCollector(required_headers={"Authorization": TOKEN})


def destination(upstream: MockCollector, **more: object) -> dict[str, dict[str, object]]:
    return {"mock": {"endpoint": upstream.endpoint, "headers": {"Authorization": TOKEN}, **more}}


@pytest.mark.parametrize("encoding", ["auto", "json", "protobuf"])
def test_python_sdk_span_arrives_enriched_in_the_encoding_asked_for(
    tmp_path: Path, upstream: MockCollector, encoding: str
) -> None:
    with upstream, Relay(tmp_path, destination(upstream, encoding=encoding)) as relay:
        app = subprocess.run(
            [sys.executable, "-c", APP],
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{relay.ingest_port}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert app.returncode == 0, app.stderr
        spans = upstream.journal.wait_for_spans(2, timeout=20)

        trace_id = app.stdout.strip()
        assert {span.trace_id for span in spans} == {trace_id}
        parent = next(span for span in spans if span.name == "parent")
        child = next(span for span in spans if span.name == "child")
        assert child.parent_span_id == parent.span_id
        assert parent.attributes == {"n": 2**53 + 1, "f": 0.5, "list": ["a", "b"], "ok": True}
        assert parent.resource.attributes["service.name"] == "shop"
        assert {"host.name", "host.arch", "os.type"} <= parent.resource.attributes.keys()
        request = upstream.journal.requests()[0]
        assert request.encoding == ("json" if encoding == "json" else "protobuf")
        assert request.header("authorization") == TOKEN
        assert (request.header("user-agent") or "").startswith("otlp-relay/")


def test_openrouter_delivery_arrives_with_its_three_spans(
    tmp_path: Path, upstream: MockCollector
) -> None:
    body = as_of_now((FIXTURES / "08_openrouter_chat.json").read_bytes())
    with upstream, Relay(tmp_path, destination(upstream)) as relay:
        assert relay.post(body, headers={"X-Forwarded-For": "203.0.113.9"}) == (200, b"{}")
        spans = upstream.journal.wait_for_spans(3, timeout=20)

        assert {span.name for span in spans} >= {"LLM Generation"}
        assert all(
            "host.name" not in span.resource.attributes for span in spans
        )  # it came through a proxy
        assert upstream.journal.requests()[0].encoding == "json"


def test_openrouter_id_that_is_no_hex_is_mapped_and_kept_as_attribute(
    tmp_path: Path, upstream: MockCollector
) -> None:
    request = json.loads((FIXTURES / "09_openrouter_connection_test.json").read_text())
    request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"] = "app_trace_001"
    with upstream, Relay(tmp_path, destination(upstream)) as relay:
        status, body = relay.post(request)
        spans = upstream.journal.wait_for_spans(1, timeout=20)

        assert status == 200
        assert "partialSuccess" in json.loads(body)
        assert spans[0].attributes["relay.original_trace_id"] == "app_trace_001"
        assert len(spans[0].trace_id) == 32


def test_curl_with_gzip_arrives(tmp_path: Path, upstream: MockCollector) -> None:
    assert shutil.which("curl"), "curl is part of what is tested"
    body = as_of_now((FIXTURES / "01_minimal.json").read_bytes())
    (tmp_path / "body.gz").write_bytes(gzip.compress(body))
    with upstream, Relay(tmp_path, destination(upstream)) as relay:
        answer = subprocess.run(
            ["curl", "-sS", "-w", "%{http_code}", f"http://127.0.0.1:{relay.ingest_port}/v1/traces",
             "-H", "Content-Type: application/json", "-H", "Content-Encoding: gzip",
             "--data-binary", f"@{tmp_path / 'body.gz'}"],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        spans = upstream.journal.wait_for_spans(1, timeout=20)

        assert answer.stdout == "{}200", answer.stderr
        assert spans[0].name == "op"


def test_every_fixture_is_answered_as_it_says_and_what_it_accepts_arrives(
    tmp_path: Path, upstream: MockCollector
) -> None:
    expected_spans = 0
    with upstream, Relay(tmp_path, destination(upstream)) as relay:
        for fixture in fixtures_of("traces"):
            name, expect = fixture.name, fixture.expected
            status, answer = relay.post(as_of_now(fixture.body))
            assert status == expect["status"], (name, answer)
            expected_spans += expect["accepted"]
            found = json.loads(answer)
            partial = found.get("partialSuccess", {})
            if status == 200:
                assert int(partial.get("rejectedSpans", 0)) == expect["rejected"], name
                assert bool(partial.get("errorMessage")) == bool(
                    expect["rejected"] or expect.get("warning")
                ), (name, partial)
            else:
                assert found["message"], name
        upstream.journal.wait_for_spans(expected_spans, timeout=20, distinct=False)

        assert len(upstream.journal.spans()) == expected_spans


def test_send_test_trace_follows_it_to_the_destination(
    tmp_path: Path, upstream: MockCollector
) -> None:
    with upstream, Relay(tmp_path, destination(upstream)) as relay:
        shown = relay.run("send-test-trace", "--wait", "20s")

        assert shown.returncode == 0, shown.stdout + shown.stderr
        for step in (
            "posted",
            "received",
            "kept",
            "added",
            "host.name",
            "delivered",
            "Authorization",
        ):
            assert step in shown.stdout, shown.stdout
        assert TOKEN not in shown.stdout


def test_send_test_trace_says_why_when_the_destination_refuses(
    tmp_path: Path, upstream: MockCollector
) -> None:
    refused = {"headers": {"Authorization": "Bearer wrong-one"}}
    with upstream, Relay(tmp_path, destination(upstream, **refused)) as relay:
        shown = relay.run("send-test-trace", "--wait", "1s")
        status = relay.run("status")

        assert shown.returncode == 1
        assert "403" in shown.stdout
        assert "blocked" in status.stdout
        assert "403" in status.stdout
        assert "wrong-one" not in shown.stdout + status.stdout + relay.log()
