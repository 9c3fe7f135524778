"""`mockcollector run`: a real program sends, and the exit code says whether all came."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXECUTABLE = Path(sys.executable).with_name("mockcollector")
SENDER = """
import logging
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

tracing = TracerProvider()
tracing.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
with tracing.get_tracer("shop").start_as_current_span("pay"):
    pass
tracing.shutdown()
logs = LoggerProvider()
logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter()))
for body in ("one", "two"):
    logs.get_logger("shop").emit(LogRecord(body=body, severity_number=SeverityNumber.INFO))
logs.shutdown()
reader = PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=10**9)
metrics = MeterProvider([reader])
counter = metrics.get_meter("shop").create_counter("orders")
for region in ("eu", "us", "asia"):
    counter.add(1, {"region": region})
metrics.shutdown()
print("done")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [EXECUTABLE, "run", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def sender(tmp_path: Path) -> list[str]:
    path = tmp_path / "sender.py"
    path.write_text(SENDER)
    return [sys.executable, str(path)]


def test_stock_exporters_send_all_three_signals_by_their_environment(sender: list[str]) -> None:
    shown = run("--expect-spans=1", "--expect-logs=2", "--expect-points=3", "--json", "--", *sender)

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == "done\n"  # the command's own, and nothing else
    records = [json.loads(line) for line in shown.stderr.splitlines()]
    requests = [record for record in records if record["event"] == "request"]
    assert {record["signal"] for record in requests} == {"traces", "logs", "metrics"}
    assert all(record["status"] == 200 for record in requests)
    assert all(record["unknown_keys"] == record["flaws"] == [] for record in requests)
    assert records[-1]["log_records_accepted"] == 2
    assert records[-1]["data_points_accepted"] == 3


def test_what_did_not_come_is_said_and_is_exit_1(sender: list[str]) -> None:
    shown = run("--expect-logs", "3", "--expect-points", "2", "--expect-spans", "1", *sender)

    assert shown.returncode == 1
    assert "3 log records expected, 2 accepted" in shown.stderr
    assert "2 data points expected, 3 accepted" in shown.stderr
    assert "1 span expected" not in shown.stderr


def test_profile_gives_the_command_its_headers(sender: list[str]) -> None:
    shown = run("--profile", "axiom", "--token", "a b,c", "--expect-points", "3", "--", *sender)

    assert shown.returncode == 0, shown.stderr


def test_exit_code_of_the_command_is_told_as_1() -> None:
    shown = run(sys.executable, "-c", "raise SystemExit(7)")

    assert shown.returncode == 1
    assert "ended with 7" in shown.stderr


def test_command_that_is_not_there_is_usage_error_2() -> None:
    shown = run("no-such-command-anywhere")

    assert shown.returncode == 2
    assert "cannot run 'no-such-command-anywhere'" in shown.stderr


def test_sigterm_goes_on_to_the_command() -> None:
    program = "import signal; print('up', flush=True); signal.pause()"
    arguments = [str(EXECUTABLE), "run", "--quiet", "--", sys.executable, "-c", program]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.terminate()
        _, said = process.communicate(timeout=20)

    assert process.returncode == 1
    assert "ended with -15" in said
