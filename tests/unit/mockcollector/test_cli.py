"""The command, as a process of its own."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mockcollector import MockCollector
from mockcollector.cli import _Printer
from tests.support.certificates import make_authority
from tests.unit.mockcollector.exchange import (
    JSON,
    logs_json,
    metrics_json,
    point_json,
    record_json,
    request_json,
    request_proto,
    send,
    span_json,
    sum_json,
)

COMMAND = [sys.executable, "-c", "from mockcollector.cli import main; main()"]


class Running:
    """A `mockcollector serve` that listens; it has the address as `send` wants it."""

    def __init__(self, process: subprocess.Popen[str], first_line: str) -> None:
        self.process = process
        self.first_line = first_line
        text = first_line.strip().rpartition(" ")[2]
        url = json.loads(first_line)["endpoint"] if first_line.startswith("{") else text
        self.host = str(urlsplit(url).hostname)
        self.port = int(urlsplit(url).port or 0)

    def send(self, *args: Any, **options: Any) -> int:
        there = MockCollector(host=self.host, port=self.port)  # not started: an address only
        return send(there, *args, **options).status

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=10)
        return self.process.returncode, out


Serve = Callable[..., Running]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(*options: str, env: dict[str, str] | None = None) -> Running:
            process = subprocess.Popen(
                [*COMMAND, "serve", "--listen", "127.0.0.1:0", *options],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=os.environ | (env or {}),
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            return Running(process, process.stdout.readline())

        yield start


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, check=False, timeout=30
    )


def test_line_a_request_tells_what_came_and_what_was_answered(serve: Serve) -> None:
    running = serve("--script", "ok,503:retry-after=1")
    assert running.first_line.startswith("mockcollector listens on http://127.0.0.1:")

    headers = JSON | {"Authorization": "Bearer very-secret", "X-Set": "traces"}
    body = json.dumps(request_json(*(span_json(n) for n in range(1, 6)))).encode()
    assert running.send(body, headers=headers) == 200
    line = running.line()
    assert "json 5 spans from shop (span 1, span 2, span 3 and 2 more) → 200" in line
    assert line.endswith("[authorization, x-set]")
    assert "secret" not in line

    assert running.send(request_proto()) == 503
    assert "protobuf 1 span from shop (span 1) → 503 by the script" in running.line()
    assert running.send(b"{", headers=JSON) == 400
    assert "→ 400 the body is not JSON" in running.line()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_cleanly_with_a_summary(serve: Serve, number: int) -> None:
    running = serve()
    running.send(request_proto(2))
    running.send(request_proto(2))

    code, out = running.stop(number)

    assert code == 0
    assert out.splitlines()[-1] == (
        "mockcollector stopped: 2 requests, 4 spans accepted (2 of them again), 0 refused;"
        " answers: 200 (2 times)"
    )


def test_json_prints_one_object_a_line(serve: Serve) -> None:
    running = serve("--json", "--require-header", "X-Key=k")
    headers = {"Content-Type": "application/x-protobuf", "X-Key": "k"}
    assert running.send(request_proto(2).SerializeToString(), headers=headers) == 200
    assert running.send(request_proto()) == 401

    code, out = running.stop()

    first, second, end = (json.loads(line) for line in out.splitlines())
    assert json.loads(running.first_line)["event"] == "listening"
    assert (first["event"], first["spans"], first["status"]) == ("request", 2, 200)
    assert (first["services"], first["names"]) == (["shop"], ["span 1", "span 2"])
    assert "x-key" in first["header_names"]
    assert (second["status"], second["reason"]) == (401, "the header X-Key is missing")
    assert (end["event"], end["spans_accepted"], end["answers"]) == (
        "stopped",
        2,
        {"200": 1, "401": 1},
    )
    assert code == 0


def test_required_header_without_value_takes_any(serve: Serve) -> None:
    running = serve("--require-header", "X-Set", "--require-header", "X-Key=a=b")

    assert running.send(b"{}", headers=JSON | {"X-Set": "any", "X-Key": "a=b"}) == 200
    assert running.send(b"{}", headers=JSON | {"X-Set": "any", "X-Key": "a"}) == 403


def test_script_comes_from_the_environment(serve: Serve) -> None:
    running = serve(env={"MOCKCOLLECTOR_SCRIPT": "429"})

    assert running.send(b"{}", headers=JSON) == 429


def test_counts_mode_and_body_limit_hold(serve: Serve) -> None:
    running = serve("--keep", "counts", "--max-body", "100")

    assert running.send(request_proto(1)) == 200
    assert "protobuf 1 span → 200" in running.line()
    assert running.send(b" " * 101, headers=JSON) == 413


def test_names_cannot_move_the_cursor(serve: Serve) -> None:
    running = serve()
    running.send(request_json(span_json(name="a\x1b[2Jb\nc")))

    assert r"(a\x1b[2Jb\nc)" in running.line()


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for is_json in (True, False):
        show = _Printer(is_json=is_json, is_quiet=True)
        show(lambda _: "a line", lambda _: {"a": "record"}, None)

    assert capsys.readouterr() == ("", "")


def test_closed_output_ends_it(serve: Serve) -> None:
    running = serve()
    assert running.process.stdout is not None
    running.process.stdout.close()

    assert running.send(b"{}", headers=JSON) == 200
    assert running.process.wait(10) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--script", "okay"], "did you mean 'ok'?"),
        (["--listen", "nowhere"], "'nowhere' is not HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "is not HOST:PORT"),
        (["--require-header", "=token"], "NAME=VALUE"),
        (["--require-header", "Authorization: Bearer token"], "NAME=VALUE"),
        (["--keep", "all"], "'all' is not one of"),
        (["--max-body", "0"], "it is 1 byte or more"),
        (["--max-body", "64 parsec"], "is not a number of bytes, such as 65536, 64KiB or 6MiB"),
        (["--script", "99"], "status 99 is not between 200 and 599"),
        (["--path", "v1/traces"], "does not start with a slash"),
        (["--key-file", "/dev/null/none"], "does not exist"),
    ],
)
def test_wrong_option_is_usage_error_2(options: list[str], words: str) -> None:
    done = run("serve", *options)

    assert done.returncode == 2
    assert words in done.stderr
    assert "token" not in done.stderr


def test_address_in_use_is_error_1(collector: MockCollector) -> None:
    done = run("serve", "--listen", f"127.0.0.1:{collector.port}")

    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1" in done.stderr


def test_command_has_path_and_tls_as_the_object_has(serve: Serve, tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    cert, key = authority.issue("server")
    running = serve("--path", "/in", "--cert-file", cert, "--key-file", key, "--max-body", "1KiB")
    trusting = ssl.create_default_context(cafile=authority.file)
    trusting.verify_flags &= ~ssl.VERIFY_X509_STRICT

    assert "https://" in running.first_line
    assert running.send(request_json(), path="/in", tls=trusting) == 200
    assert running.send(b"x" * 1025, path="/in", headers=JSON, tls=trusting) == 413


def test_what_is_no_request_is_told_with_what_to_do(serve: Serve) -> None:
    running = serve()
    with socket.create_connection((running.host, running.port), timeout=10) as sender:
        sender.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert sender.recv(1000)

    assert "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in running.line()


def test_version_is_printed() -> None:
    done = run("--version")

    assert done.returncode == 0
    assert done.stdout.startswith("mockcollector, version ")


def test_lines_tell_of_log_records_and_data_points(serve: Serve) -> None:
    running = serve()
    said = record_json(body={"stringValue": "a\x1b[2Jb"}, severityNumber=25)
    assert running.send(logs_json(said), path="/v1/logs") == 200
    assert (
        running.send(metrics_json(sum_json(point_json(1), point_json(2))), path="/v1/metrics")
        == 200
    )
    logs, metrics = running.line(), running.line()
    _, summary = running.stop()

    assert "json 1 log record from shop (a\\x1b[2Jb) → 200 flaws: resourceLogs[0]" in logs
    assert "json 2 data points from shop (orders, orders) → 200" in metrics
    assert "1 log records accepted, 0 refused, 2 data points accepted, 0 refused" in summary


def test_json_lines_are_printable_ascii(serve: Serve) -> None:
    running = serve("--json")
    evil = "\x9b2J\x7f\u202e"
    assert running.send(request_json(span_json(name=evil))) == 200
    line = running.line()

    assert json.loads(line)["names"] == [evil]
    assert all(32 <= ord(char) < 127 for char in line)
