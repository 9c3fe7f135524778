"""What was recorded is sent again as it was, or with new times and ids; what went wrong is told."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mockcollector import MockCollector
from mockcollector.otlp_lines import LinesError, lines_of, read_lines, to_document, to_message
from mockcollector.replay import ReplayError, replay
from mockcollector.rules import Encoding
from mockcollector.signals import Signal
from tests.support.ports import free_port
from tests.unit.mockcollector.exchange import send

EXECUTABLE = Path(sys.executable).with_name("mockcollector")
PARENT = {
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "name": "pay",
    "kind": 2,
    "startTimeUnixNano": "1000000000",
    "endTimeUnixNano": "2000000000",
    "attributes": [
        {"key": "traceId", "value": {"stringValue": "an attribute of that name"}},
        {"key": "raw", "value": {"bytesValue": "AAH/"}},
        {"key": "ratio", "value": {"doubleValue": "NaN"}},
    ],
    "status": {"code": 2},
}
CHILD = PARENT | {"spanId": "00f067aa0ba902b7", "parentSpanId": "b7ad6b7169203331"}
TRACES = {"resourceSpans": [{"scopeSpans": [{"spans": [PARENT, CHILD]}]}]}
POINT = {"timeUnixNano": "3000000000", "asInt": "7"}
METRICS = {
    "resourceMetrics": [
        {"scopeMetrics": [{"metrics": [{"name": "n", "gauge": {"dataPoints": [POINT]}}]}]}
    ]
}
LINES = [json.dumps(TRACES), "", json.dumps(METRICS)]


def test_what_came_is_written_as_otlp_json_and_read_back_the_same(
    collector: MockCollector,
) -> None:
    for signal, document in read_lines(LINES):
        send(collector, to_message(signal, document), path=f"/v1/{signal}")

    lines = list(lines_of(collector.journal.requests()))

    assert json.loads(lines[0]) == TRACES
    assert json.loads(lines[1]) == METRICS
    messages = [to_message(signal, document) for signal, document in read_lines(lines)]
    came = [request.message for request in collector.journal.requests()]
    # As bytes: NaN is not equal to itself, which old classes say of messages, too.
    assert [each.SerializeToString() for each in messages] == [
        each.SerializeToString() for each in came if each is not None
    ]
    assert [to_document(message) for message in messages] == [TRACES, METRICS]


def test_refused_requests_are_not_recorded(collector: MockCollector) -> None:
    collector.script.add("503,ok")
    for _ in range(2):
        send(collector, TRACES)

    assert len(list(lines_of(collector.journal.requests()))) == 1


@pytest.mark.parametrize("encoding", list(Encoding))
def test_lines_are_sent_again_in_order(collector: MockCollector, encoding: Encoding) -> None:
    sent = list(replay(LINES, collector.base_url, encoding=encoding, headers={"X-Key": "k"}))

    assert [(each.signal, each.status) for each in sent] == [
        (Signal.TRACES, 200),
        (Signal.METRICS, 200),
    ]
    requests = collector.journal.requests(header={"x-key": "k"}, encoding=encoding)
    assert [to_document(request.message) for request in requests if request.message] == [
        TRACES,
        METRICS,
    ]


def test_times_move_by_the_same_so_that_the_newest_is_now(collector: MockCollector) -> None:
    before = time.time_ns()

    list(replay(LINES, collector.base_url, is_now=True))

    parent, child = collector.journal.spans()
    (point,) = collector.journal.data_points()
    assert before <= point.time_unix_nano <= time.time_ns()
    assert parent.end_time_unix_nano - parent.start_time_unix_nano == 10**9
    assert point.time_unix_nano - parent.end_time_unix_nano == 10**9
    assert child.trace_id == PARENT["traceId"]


def test_new_ids_keep_what_belongs_together(collector: MockCollector) -> None:
    list(replay(LINES, collector.base_url, has_new_ids=True))

    parent, child = collector.journal.spans()
    assert parent.trace_id == child.trace_id != PARENT["traceId"]
    assert child.parent_span_id == parent.span_id != PARENT["spanId"]
    assert parent.attributes["traceId"] == "an attribute of that name"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 1 is not JSON"),
        ("[]", "line 1 has none of resourceSpans, resourceLogs, resourceMetrics"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "0a"}]}]}]}', "traceId"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"endTimeUnixNano": "x"}]}]}]}', "x"),
    ],
)
def test_line_that_is_not_otlp_is_told(collector: MockCollector, line: str, words: str) -> None:
    with pytest.raises(LinesError) as caught:
        list(replay([line], collector.base_url, is_now=True))

    assert words in str(caught.value) or "UnixNano" in str(caught.value)
    assert collector.journal.requests() == []


def test_url_that_is_none_is_told() -> None:
    with pytest.raises(ReplayError, match="is not a base URL"):
        list(replay(LINES, "127.0.0.1:4318"))


def run(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [EXECUTABLE, "replay", str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_command_tells_each_answer_and_ends_with_1_if_one_was_refused(
    collector: MockCollector, tmp_path: Path
) -> None:
    file = tmp_path / "session.jsonl"
    file.write_text("\n".join(LINES))
    collector.script.add("503,ok")

    shown = run(file, "--to", collector.base_url)

    assert shown.returncode == 1
    assert shown.stdout.splitlines() == [
        "1 traces → 503 Service Unavailable",
        "2 metrics → 200 OK",
    ]
    assert "1 of 2 requests were not accepted" in shown.stderr
    again = run(file, "--to", collector.base_url, "--json", "--header", "X-Key=k")
    assert again.returncode == 0
    assert json.loads(again.stdout.splitlines()[0])["status"] == 200
    assert len(collector.journal.requests(header={"x-key": "k"})) == 2


def test_run_records_what_its_command_sends_for_replay(
    collector: MockCollector, tmp_path: Path
) -> None:
    file = tmp_path / "session.jsonl"
    sender = Path(__file__).parent / "check" / "sender.py"
    program = [sys.executable, "-I", str(sender)]
    recording = [str(EXECUTABLE), "run", "--quiet", "--record", str(file), "--script", "503,ok"]

    ran = subprocess.run(
        [*recording, "env", "LOGS=1", *program], check=False, timeout=60, capture_output=True
    )

    assert ran.returncode == 0, ran.stderr
    assert run(file, "--to", collector.base_url).returncode == 0
    assert len(collector.journal.spans()) == 2
    assert len(collector.journal.log_records()) == 2
    assert [request.signal for request in collector.journal.requests()] == ["traces", "logs"]


def test_counts_cannot_be_recorded(tmp_path: Path) -> None:
    file = str(tmp_path / "session.jsonl")
    command = [str(EXECUTABLE), "serve", "--keep", "counts", "--record", file]

    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert shown.returncode == 2
    assert "--record needs what --keep counts throws away" in shown.stderr


def test_command_says_what_is_wrong_with_what_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "session.jsonl"
    file.write_text("\n")
    nobody = f"http://127.0.0.1:{free_port()}"

    assert "the file holds no request" in run(file, "--to", nobody).stderr
    assert "--header is written NAME=VALUE" in run(file, "--to", nobody, "--header", "k").stderr
    file.write_text(LINES[0])
    shown = run(file, "--to", nobody)
    assert shown.returncode == 1
    assert "1 traces → no answer" in shown.stdout
    file.write_text("nonsense")
    assert "line 1 is not JSON" in run(file, "--to", nobody).stderr
