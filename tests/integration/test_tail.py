"""`otlp-relay tail` against a real relay: in a pipe, on a terminal, and over a restart."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_view import gauge_request, log_request, record
from tests.support.builders import request, span
from tests.support.relay_process import Relay, eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER = "1af7651916cd43dd8448eb211c80319c"
ROOT = "00f067aa0ba902b7"
COMMAND = (sys.executable, "-m", "relay.cli", "tail")
SECONDS = 20.0


class Tail:
    """The command in a process of its own; `text` is what it has written so far."""

    def __init__(self, relay: Relay, *arguments: str, stdout: int) -> None:
        self._err = relay.folder / "tail.err"
        with self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*COMMAND, "--config", str(relay.config), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=err,
            )

    @property
    def err(self) -> str:
        return self._err.read_text()


@contextmanager
def tailing(relay: Relay, *arguments: str) -> Iterator[tuple[Tail, Path]]:
    """It follows already: what it writes goes into the file."""
    written = relay.folder / "tail.out"
    with written.open("wb") as out:
        tail = Tail(relay, *arguments, stdout=out.fileno())
    try:
        eventually(lambda: _streams(relay) == 1, seconds=SECONDS, what=tail.err)
        yield tail, written
    finally:
        tail.process.kill()
        tail.process.wait()


def _streams(relay: Relay) -> int:
    """How many follow the relay, by what the kernel knows of its connections."""
    port = f":{relay.admin_port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(each[1].endswith(port) and each[3] == "01" for each in fields)


def post(relay: Relay, made: dict[str, Any], path: str = "/v1/traces") -> None:
    assert relay.post(made, path=path)[0] == 200


def fill(relay: Relay) -> None:
    """A trace of two spans, one failed; a log record; a data point."""
    post(
        relay,
        request(
            span(traceId=TRACE, spanId=ROOT, name="GET /cart"),
            span(
                traceId=TRACE,
                parentSpanId=ROOT,
                name="charge",
                status={"code": 2, "message": "no money"},
            ),
        ),
    )
    post(relay, log_request(record("out of \x1b[2J stock", 17, traceId=TRACE)), "/v1/logs")
    post(relay, gauge_request("queue.size", 3.5), "/v1/metrics")


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with Relay(tmp_path) as relay:
        yield relay


def shown(relay: Relay, *arguments: str) -> list[str]:
    """The lines of what is kept already."""
    done = relay.run("tail", "--no-follow", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_is_kept_is_a_line_each_in_the_order_it_came(relay: Relay) -> None:
    fill(relay)

    lines = shown(relay)

    assert [line.split("  ")[1] for line in lines] == ["shop"] * 4
    assert "GET /cart" in lines[0]
    assert TRACE in lines[0]
    assert "charge" in lines[1]
    assert "ERROR" in lines[1]
    assert "no money" in lines[1]
    assert "queue.size  3.5 s" in lines[3]
    assert r"ERROR  out of \x1b[2J stock" in lines[2]  # no terminal obeys it


def test_signals_services_errors_terms_and_a_number_narrow_it(relay: Relay) -> None:
    fill(relay)
    post(relay, request(span(traceId=OTHER, name="other"), service="till"))

    assert [line.split("  ")[2] for line in shown(relay, "--signal", "traces")] == [
        "GET /cart",
        "charge",
        "other",
    ]
    assert "other" in shown(relay, "--last", "1")[0]
    assert len(shown(relay, "--service", "till")) == 1
    assert len(shown(relay, "--error")) == 2
    assert len(shown(relay, "service.name=till")) == 1
    assert len(shown(relay, "GET /cart")) == 1  # one term, though it has a blank


def test_json_is_an_object_a_line(relay: Relay) -> None:
    fill(relay)

    found = [json.loads(line) for line in shown(relay, "--json")]

    assert [each["signal"] for each in found] == ["traces", "traces", "logs", "metrics"]
    assert found[0]["trace_id"] == TRACE
    assert found[3]["value"] == 3.5


def test_a_trace_is_a_tree(relay: Relay) -> None:
    fill(relay)

    lines = shown(relay, "--tree")
    (document,) = [json.loads(line) for line in shown(relay, "--tree", "--json")]

    assert lines[0].startswith(TRACE)
    assert "2 spans, 1 failed" in lines[0]
    assert lines[1].startswith("  GET /cart  shop")
    assert lines[2].startswith("    charge  shop")
    assert lines[2].endswith("ERROR no money")
    assert [each["depth"] for each in document["tree"]] == [0, 1]


def test_a_search_that_cannot_be_understood_is_told_at_once(relay: Relay) -> None:
    done = relay.run("tail", ">soon")

    assert done.returncode == 1
    assert "takes a duration" in done.stderr


def test_what_comes_is_followed_over_a_restart_and_each_item_is_shown_once(relay: Relay) -> None:
    post(relay, request(span(name="before")))
    with tailing(relay, "--signal", "traces", "--last", "1") as (tail, written):
        post(relay, request(span(name="first")))
        eventually(lambda: "first" in written.read_text(), seconds=SECONDS)
        relay.stop()
        eventually(lambda: "waiting for it" in tail.err, seconds=SECONDS)
        relay.start()
        post(relay, request(span(name="second")))
        eventually(lambda: "second" in written.read_text(), seconds=SECONDS)
        tail.process.send_signal(signal.SIGINT)

        assert tail.process.wait(SECONDS) == 0
        names = [line.split("  ")[2] for line in written.read_text().splitlines()]
        assert names == ["before", "first", "second"]
        assert "Traceback" not in tail.err
        assert "is back" in tail.err


def test_a_trace_is_shown_as_a_tree_once_it_is_quiet(relay: Relay) -> None:
    with tailing(relay, "--tree") as (_tail, written):
        post(relay, request(span(traceId=TRACE, parentSpanId=ROOT, name="child")))
        post(relay, request(span(traceId=TRACE, spanId=ROOT, name="root")))
        eventually(lambda: "child" in written.read_text(), seconds=SECONDS)

        lines = written.read_text().splitlines()
        assert [line.split()[0] for line in lines] == [TRACE, "root", "child"]


def test_it_ends_quietly_when_nobody_reads_the_pipe_any_more(relay: Relay) -> None:
    read, write = os.pipe()
    tail = Tail(relay, stdout=write)
    os.close(write)
    eventually(lambda: _streams(relay) == 1, seconds=SECONDS, what=tail.err)

    os.close(read)

    assert tail.process.wait(SECONDS) == 0
    assert tail.err == ""


def ended(pid: int) -> tuple[int, ...]:
    """Which process has ended, and its status; empty while it runs."""
    found = os.waitpid(pid, os.WNOHANG)
    return found if found[0] else ()


def test_on_a_terminal_ctrl_c_ends_it(relay: Relay) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*COMMAND, "--config", str(relay.config)])  # noqa: S606
    try:
        eventually(lambda: _streams(relay) == 1, seconds=SECONDS)
        fill(relay)
        seen, ends = b"", time.monotonic() + SECONDS
        while b"queue.size" not in seen and time.monotonic() < ends:
            seen += os.read(terminal, 65536)
        os.write(terminal, b"\x03")
        _pid, status = eventually(lambda: ended(pid), seconds=SECONDS)
    finally:
        os.close(terminal)

    assert os.waitstatus_to_exitcode(status) == 0
    assert b"\x1b" not in seen
    assert b"Traceback" not in seen


def test_where_shows_the_spans_of_a_trace_as_a_tree(relay: Relay) -> None:
    fill(relay)

    told = relay.run("where", TRACE, "--tree")
    document = json.loads(relay.run("where", TRACE, "--tree", "--json").stdout)

    assert told.returncode == 0
    assert "  GET /cart  shop" in told.stdout
    assert "    charge  shop" in told.stdout
    assert [each["name"] for each in document["trace"]["tree"]] == ["GET /cart", "charge"]
    assert "trace" not in json.loads(relay.run("where", TRACE, "--json").stdout)


def test_the_api_lists_single_items_and_only_those_after_a_row(relay: Relay) -> None:
    post(relay, request(span(name="before")))
    row = relay.status()["buffer"]["last_row"]
    fill(relay)

    found = {
        key: relay.get(f"/api/view/{key}?after={row}")[1] for key in ("spans", "logs", "points")
    }

    assert {each["name"] for each in found["spans"]["spans"]} == {"GET /cart", "charge"}
    assert [len(found[key][key]) for key in found] == [2, 1, 1]
    assert relay.get(f"/api/view/spans?after={row + 9}")[1]["spans"] == []
    assert relay.get("/api/view/spans?after=x")[0] == 400
