"""`otlp-relay buffer check|export|snapshot` on a real daemon's files, while it runs and after."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from tests.support.load import Load, request_of, span_ids
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually


def nowhere() -> dict[str, dict[str, Any]]:
    """A destination that nobody answers for: everything stays owed to it."""
    return {"away": {"endpoint": f"http://127.0.0.1:{free_port()}/v1/traces"}}


def and_mock(upstream: MockCollector) -> dict[str, dict[str, Any]]:
    return {**nowhere(), "mock": {"endpoint": upstream.endpoint}}


def post(relay: Relay, requests: int, spans: int = 3, padding: int = 400) -> list[str]:
    """Post so many requests; the ids of their spans."""
    ids: list[str] = []
    for _ in range(requests):
        own = span_ids(spans)
        assert relay.post(request_of(own, padding=os.urandom(padding).hex()))[0] == 200
        ids += own
    return ids


def spans_in(text: str) -> list[str]:
    return [
        span["spanId"]
        for line in text.splitlines()
        for entry in json.loads(line)["resourceSpans"]
        for scope in entry["scopeSpans"]
        for span in scope["spans"]
    ]


def overwrite(path: Path, needle: bytes) -> None:
    """Wherever it stands: pages that were split leave copies behind."""
    content = path.read_bytes()
    assert needle in content
    path.write_bytes(content.replace(needle, os.urandom(len(needle))))


def stored_bodies(relay: Relay) -> dict[int, bytes]:
    code = (
        "import apsw, sys, json; c = apsw.Connection(sys.argv[1]);"
        "print(json.dumps({i: b.hex() for i, b in c.execute('SELECT id, body FROM rows')}))"
    )
    command = [sys.executable, "-c", code, str(relay.state_dir / "relay.db")]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return {int(row): bytes.fromhex(body) for row, body in json.loads(found.stdout).items()}


@pytest.mark.parametrize("is_running", [True, False])
def test_a_sound_buffer_is_checked(tmp_path: Path, is_running: bool) -> None:
    with Relay(tmp_path, nowhere()) as relay:
        post(relay, 5)
        if not is_running:
            relay.stop()
        done = relay.run("buffer check", "--json")
        text = relay.run("buffer check")

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["sound"], found["is_running"]) == (True, is_running)
    assert (found["rows"], found["spans"]) == (5, 15)
    assert found["destinations"][0]["spans"] == 15
    assert found["destinations"][0]["name"] == "away"
    assert text.stdout.rstrip().endswith("sound")
    assert text.stderr == ""


def test_damage_is_named_and_the_exit_code_says_so(tmp_path: Path) -> None:
    with Relay(tmp_path, nowhere()) as relay:
        post(relay, 5)
        relay.stop()
        body = stored_bodies(relay)[3]
        middle = len(body) // 2
        overwrite(relay.state_dir / "relay.db", body[middle : middle + 30])
        done = relay.run("buffer check", "--json")
        text = relay.run("buffer check")
        exported = relay.run("buffer export")

    assert done.returncode == text.returncode == 1
    assert json.loads(done.stdout)["damaged_rows"] == [3]
    assert json.loads(done.stdout)["rows"] == 4
    assert "damaged rows: 3" in text.stdout
    assert exported.returncode == 1
    assert len(spans_in(exported.stdout)) == 12
    assert "row 3 left out" in exported.stderr


def test_a_file_that_is_no_database_is_said_to_be_set_aside(tmp_path: Path) -> None:
    with Relay(tmp_path, nowhere()) as relay:
        post(relay, 5)
        relay.stop()
        with (relay.state_dir / "relay.db").open("r+b") as file:
            file.write(bytes(100))
        done = relay.run("buffer check", "--json")
        exported = relay.run("buffer export")

    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["rows"] == 5
    assert found["structure"]
    assert len(spans_in(exported.stdout)) == 15


def test_a_file_that_was_cut_short_is_checked_and_exported_as_far_as_it_goes(
    tmp_path: Path,
) -> None:
    with Relay(tmp_path, nowhere()) as relay:
        ids = post(relay, 60)
        relay.stop()
        path = relay.state_dir / "relay.db"
        os.truncate(path, path.stat().st_size * 3 // 4)
        done = relay.run("buffer check", "--json")
        exported = relay.run("buffer export")

    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["structure"]
    assert 0 < found["rows"] < 60
    assert len(spans_in(exported.stdout)) == found["spans"]
    assert set(spans_in(exported.stdout)) < set(ids)


@pytest.mark.parametrize("is_running", [True, False])
def test_everything_that_is_kept_is_exported(tmp_path: Path, is_running: bool) -> None:
    target = tmp_path / "out.jsonl"
    with Relay(tmp_path, nowhere()) as relay:
        ids = post(relay, 20)
        if not is_running:
            relay.stop()
        piped = relay.run("buffer export")
        to_file = relay.run("buffer export", "--output", str(target))
        again = relay.run("buffer export", "--output", str(target))

    assert (piped.returncode, piped.stderr) == (0, "")
    assert spans_in(piped.stdout) == ids
    assert to_file.returncode == 0
    assert target.read_text() == piped.stdout
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert again.returncode == 1
    assert "exists" in again.stderr


def test_export_chooses_by_destination_trace_and_time(tmp_path: Path) -> None:
    with MockCollector() as upstream, Relay(tmp_path, and_mock(upstream)) as relay:
        ids = post(relay, 4)
        upstream.journal.wait_for_spans(len(ids), timeout=20)
        eventually(lambda: relay.destination("mock")["waiting_spans"] == 0)
        relay.stop()
        away = relay.run("buffer export", "--destination", "away")
        mock = relay.run("buffer export", "--destination", "mock")
        unknown = relay.run("buffer export", "--destination", "who")
        every = [json.loads(line) for line in away.stdout.splitlines()]
        wanted = every[1]["resourceSpans"][0]["scopeSpans"][0]["spans"][2]
        one = relay.run("buffer export", "--trace", wanted["traceId"])
        none = relay.run("buffer export", "--trace", "f" * 32)
        recent = relay.run("buffer export", "--since", "1h")
        wrong = relay.run("buffer export", "--since", "soon")

    assert spans_in(away.stdout) == ids
    assert (mock.returncode, mock.stdout) == (0, "")
    assert unknown.returncode == 1
    assert "away, mock" in unknown.stderr
    assert spans_in(one.stdout) == [wanted["spanId"]]
    assert (none.returncode, none.stdout) == (0, "")
    assert spans_in(recent.stdout) == ids
    assert wrong.returncode == 2


def test_protobuf_is_exported_as_json(tmp_path: Path) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
    )

    message = ExportTraceServiceRequest()
    span = message.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = bytes(range(16)), bytes(range(8)), "p"
    span.start_time_unix_nano, span.end_time_unix_nano = 1, 2
    with Relay(tmp_path, nowhere()) as relay:
        headers = {"Content-Type": "application/x-protobuf"}
        assert relay.post(message.SerializeToString(), headers=headers)[0] == 200
        done = relay.run("buffer export")

    assert spans_in(done.stdout) == ["0001020304050607"]


def test_a_snapshot_of_a_busy_daemon_delivers_all_it_holds_when_it_is_put_back(
    tmp_path: Path,
) -> None:
    target = tmp_path / "copy.db"
    with Relay(tmp_path, nowhere()) as relay:
        before = post(relay, 30)
        with Load(relay.ingest_port):
            done = relay.run("buffer snapshot", str(target), "--json")
        assert done.returncode == 0, done.stderr
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert not list(tmp_path.glob("copy.db.*"))
        again = relay.run("buffer snapshot", str(target))
        relay.stop()
        found = json.loads(done.stdout)
        for name in ("relay.db", "relay.db-wal", "relay.db-shm", "last-row"):
            (relay.state_dir / name).unlink(missing_ok=True)
        shutil.copy(target, relay.state_dir / "relay.db")
        checked = relay.run("buffer check", "--json")
        upstream = MockCollector()
        with upstream:
            relay.write_config({"away": {"endpoint": upstream.endpoint}})
            relay.start()
            spans = upstream.journal.wait_for_spans(found["spans"], timeout=30)

    assert again.returncode == 1
    assert "exists" in again.stderr
    assert found["damaged_rows"] == []
    assert json.loads(checked.stdout)["sound"]
    assert json.loads(checked.stdout)["spans"] == found["spans"] >= 90
    assert set(before) <= {span.span_id for span in spans}
    assert "lost" not in relay.log()


def test_a_snapshot_owes_what_was_owed_and_no_more(tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    with MockCollector() as upstream, Relay(tmp_path, and_mock(upstream)) as relay:
        ids = post(relay, 4)
        upstream.journal.wait_for_spans(len(ids), timeout=20)
        eventually(lambda: relay.destination("mock")["waiting_spans"] == 0)
        relay.stop()
        assert relay.run("buffer snapshot", str(target)).returncode == 0
        (relay.state_dir / "last-row").unlink()
        shutil.copy(target, relay.state_dir / "relay.db")
        found = json.loads(relay.run("buffer check", "--json").stdout)

    owed = {each["name"]: each["spans"] for each in found["destinations"]}
    assert owed == {"away": 12, "mock": 0}


@pytest.mark.parametrize("command", ["check", "export", "snapshot"])
def test_where_nothing_was_kept_the_error_says_so(tmp_path: Path, command: str) -> None:
    relay = Relay(tmp_path, nowhere())
    more = [str(tmp_path / "copy")] if command == "snapshot" else []
    done = relay.run(f"buffer {command}", *more)

    assert done.returncode == 1
    assert "there is no relay.db" in done.stderr
    assert not (tmp_path / "copy").exists()
    assert not list(tmp_path.glob("copy*"))


def test_another_users_files_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with Relay(tmp_path, nowhere()) as relay:
        post(relay, 1)
        relay.stop()
    code = (
        "import os, sys; from relay.offline.file import open_buffer; from pathlib import Path\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "else: os.chmod(sys.argv[1], 0)\n"
        "try:\n"
        "    with open_buffer(Path(sys.argv[1])): pass\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", code, str(relay.state_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    relay.state_dir.chmod(0o700)

    assert done.stdout.startswith("BufferUnavailable"), done.stderr
    assert "run this as root: `sudo otlp-relay …`" in done.stdout or "sudo -u" in done.stdout
