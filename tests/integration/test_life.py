"""The daemon's life: readiness, signals, reload, the death of a part, and what it costs idle."""

import http.client
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from mockcollector.server import MockCollector
from tests.support.load import request_of, span_ids
from tests.support.relay_process import SERVED, Relay, eventually

STUBBORN = """
import sys
from relay import daemon
from relay.ingest import pipeline
from relay.cli import main

{patch}
sys.argv = ["otlp-relay", *sys.argv[1:]]
main()
"""


def patched(tmp_path: Path, patch: str) -> tuple[str, ...]:
    """A command that runs the relay with a part replaced, in a process of its own."""
    script = tmp_path / "patched.py"
    script.write_text(STUBBORN.format(patch=patch))
    return (str(script),)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def test_sigterm_lets_the_request_in_flight_be_answered_and_exits_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = """
import anyio
kept = pipeline.Pipeline.accept
async def accept(self, body, encoding, sender, signal):
    open("in-flight", "w").close()
    await anyio.sleep(1.0)
    return await kept(self, body, encoding, sender, signal)
pipeline.Pipeline.accept = accept
"""
    monkeypatch.chdir(tmp_path)
    with MockCollector() as upstream:
        config = {"mock": {"endpoint": upstream.endpoint}}
        with Relay(tmp_path, config, command=patched(tmp_path, slow)) as relay:
            answers: list[int] = []
            ids = span_ids(3)
            poster = threading.Thread(target=lambda: answers.append(relay.post(request_of(ids))[0]))
            poster.start()
            eventually((tmp_path / "in-flight").exists)
            code = relay.stop()
            poster.join()

            assert answers == [200]
            assert code == 0
            assert {span.span_id for span in upstream.journal.spans()} == set(ids)


def test_death_of_a_vital_part_ends_the_process_with_70_and_closes_the_buffer(
    tmp_path: Path,
) -> None:
    dying = """
async def watch(self):
    import anyio
    while not self._ledger.counters.kept_items:
        await anyio.sleep(0.01)
    raise RuntimeError("the writer is dead")
daemon.Buffer.wait_failed = watch
"""
    with Relay(tmp_path, command=patched(tmp_path, dying)) as relay:
        assert relay.post(request_of(span_ids(1)))[0] == 200

        assert relay.wait(20) == 70
        assert "the writer is dead" in relay.log()
        # A clean close leaves no write-ahead log behind.
        wal = relay.state_dir / "relay.db-wal"
        assert not wal.exists() or wal.stat().st_size == 0


def test_second_signal_skips_the_waiting_but_not_the_closing(tmp_path: Path) -> None:
    with MockCollector(script="hang*") as upstream:
        with Relay(tmp_path, {"mock": {"endpoint": upstream.endpoint}}) as relay:
            relay.post(request_of(span_ids(1)))
            upstream.journal.wait_for_requests(1, timeout=10)
            began = time.monotonic()
            relay.signal(signal.SIGTERM)
            eventually(lambda: "stopping" in relay.log())
            relay.signal(signal.SIGTERM)

            assert relay.wait(20) == 0
            assert time.monotonic() - began < 10
            assert "stopped" in relay.log()


def test_signals_while_the_buffer_closes_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = """
import anyio, signal
closed = daemon.Buffer.close
async def close(self):
    open("closing", "w").close()
    with anyio.fail_after(20):
        while not __import__("os").path.exists("signalled"):
            await anyio.sleep(0.01)
    await closed(self)
daemon.Buffer.close = close
"""
    monkeypatch.chdir(tmp_path)
    with Relay(tmp_path, command=patched(tmp_path, slow)) as relay:
        relay.post(request_of(span_ids(3)))
        relay.signal(signal.SIGTERM)
        eventually((tmp_path / "closing").exists)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            relay.signal(number)
        (tmp_path / "signalled").touch()

        assert relay.wait(20) == 0
        wal = relay.state_dir / "relay.db-wal"
        assert not wal.exists() or wal.stat().st_size == 0


def test_sighup_during_the_start_does_not_end_it_and_is_heeded_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = """
import os, time
opened = daemon.Buffer.open
def open_slowly(self):
    open("opening", "w").close()
    deadline = time.monotonic() + 20
    while not os.path.exists("signalled") and time.monotonic() < deadline:
        time.sleep(0.01)
    opened(self)
daemon.Buffer.open = open_slowly
"""
    monkeypatch.chdir(tmp_path)
    relay = Relay(tmp_path, command=patched(tmp_path, slow)).start(wait=False)
    try:
        eventually((tmp_path / "opening").exists)
        relay.signal(signal.SIGHUP)
        (tmp_path / "signalled").touch()

        eventually(lambda: "reloaded" in relay.log(), what=f"the reload; log: {relay.log()}")
    finally:
        assert relay.stop() == 0


def test_second_daemon_on_one_state_directory_is_refused_and_says_who_holds_it(
    tmp_path: Path,
) -> None:
    with Relay(tmp_path) as first:
        second = Relay(tmp_path / "state")  # only for another configuration file
        second.config.write_text(
            second.config.read_text().replace('"state"', f'"{first.state_dir}"')
        )
        shown = second.run("serve")

        assert first.process is not None
        assert shown.returncode == 2
        assert str(first.process.pid) in shown.stderr


def test_second_daemon_of_one_configuration_is_told_about_the_first(tmp_path: Path) -> None:
    with Relay(tmp_path) as first:
        shown = first.run("serve")

        assert first.process is not None
        assert shown.returncode == 2
        assert f"127.0.0.1:{first.ingest_port} is taken" in shown.stderr
        assert f"already runs with {first.state_dir} (pid {first.process.pid}): stop it first" in (
            shown.stderr
        )


def test_sighup_takes_up_a_new_token_without_losing_a_span(tmp_path: Path) -> None:
    with MockCollector(required_headers={"Authorization": "Bearer right"}) as upstream:
        token = tmp_path / "token"
        token.write_text("wrong\n")
        config = {
            "mock": {
                "endpoint": upstream.endpoint,
                "headers": {"Authorization": "Bearer ${file:token}"},
            }
        }
        with Relay(tmp_path, config) as relay:
            ids = span_ids(5)
            assert relay.post(request_of(ids))[0] == 200
            blocked = eventually(
                lambda: (d := relay.destination("mock"))["state"] == "blocked" and d
            )
            assert "403" in blocked["reason"]
            token.write_text("right\n")
            relay.signal(signal.SIGHUP)
            upstream.journal.wait_for_spans(5, timeout=10)

            assert {span.span_id for span in upstream.journal.spans()} == set(ids)
            assert "wrong" not in relay.log()


def test_reload_takes_up_a_second_destination_and_refuses_a_broken_config(tmp_path: Path) -> None:
    with MockCollector() as first, MockCollector() as second:
        with Relay(tmp_path, {"first": {"endpoint": first.endpoint}}) as relay:
            relay.config.write_text(relay.config.read_text() + "\nnonsense = 1\n")
            relay.signal(signal.SIGHUP)
            eventually(lambda: "reload_refused" in relay.log())
            relay.write_config(
                {"first": {"endpoint": first.endpoint}, "second": {"endpoint": second.endpoint}}
            )
            relay.signal(signal.SIGHUP)
            eventually(lambda: "reloaded" in relay.log())
            ids = span_ids(3)
            assert relay.post(request_of(ids))[0] == 200

            first.journal.wait_for_spans(3, timeout=10)
            second.journal.wait_for_spans(3, timeout=10)


def test_paused_destination_gets_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        with Relay(tmp_path, {"mock": {"endpoint": upstream.endpoint, "paused": True}}) as relay:
            ids = span_ids(3)
            assert relay.post(request_of(ids))[0] == 200
            assert relay.destination("mock")["state"] == "paused"
            relay.write_config({"mock": {"endpoint": upstream.endpoint}})
            relay.signal(signal.SIGHUP)
            spans = upstream.journal.wait_for_spans(3, timeout=10)

            assert {span.span_id for span in spans} == set(ids)


def test_config_error_exits_2_and_names_key_and_file(tmp_path: Path) -> None:
    relay = Relay(tmp_path, settings="[buffer]\nmax_siez = 1")
    shown = relay.run("serve")

    assert shown.returncode == 2
    for word in ("max_siez", "max_size", "relay.toml"):
        assert word in shown.stderr


def test_port_in_use_is_said_with_the_address(tmp_path: Path) -> None:
    relay = Relay(tmp_path)
    with socket.create_server(("127.0.0.1", relay.ingest_port)):
        shown = relay.run("serve")

    assert shown.returncode == 2
    assert f"127.0.0.1:{relay.ingest_port}" in shown.stderr


@pytest.mark.proofs
@pytest.mark.alone
def test_startup_idle_cpu_and_memory_stay_small(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        destinations = {"mock": {"endpoint": upstream.endpoint}}
        relay = Relay(tmp_path, destinations, command=SERVED)
        began = time.monotonic()
        with relay:
            took = [time.monotonic() - began]
            while len(took) < 3 and took[-1] >= 1.0:  # the best of three, if the machine is busy
                relay.stop()
                began = time.monotonic()
                relay.start()
                took.append(time.monotonic() - began)
            assert relay.post(request_of(span_ids(1)))[0] == 200
            upstream.journal.wait_for_spans(1, timeout=10)
            assert relay.process is not None
            pid = relay.process.pid
            before = cpu_seconds(pid)
            threading.Event().wait(6)  # what is measured is that nothing happens
            idle = (cpu_seconds(pid) - before) / 6
            resident = resident_mib(pid)
        print(f"ready in {min(took):.2f} s, idle CPU {idle:.2%}, resident {resident:.0f} MiB")

        assert min(took) < 2.0  # the goal is 1 s on a quiet machine
        assert idle <= 0.01
        assert resident < 80


def test_admin_listener_demands_the_token_and_its_own_host_name(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        assert relay.get("/api/status", token="x" * 43)[0] == 401
        connection = http.client.HTTPConnection("127.0.0.1", relay.admin_port, timeout=5)
        connection.request("GET", "/healthz", headers={"Host": "evil.example"})
        assert connection.getresponse().status == 421
        connection.close()
        mode = (relay.state_dir / "admin-token").stat().st_mode & 0o777
        assert mode == 0o600
        assert len((relay.state_dir / "admin-token").read_text().strip()) == 43
        assert relay.state_dir.stat().st_mode & 0o777 == 0o700


def test_metrics_name_what_is_received_kept_and_waiting(tmp_path: Path) -> None:
    with Relay(tmp_path, {"gone": {"endpoint": "http://127.0.0.1:1/v1/traces"}}) as relay:
        assert relay.post(request_of(span_ids(4)))[0] == 200
        eventually(lambda: relay.destination("gone")["state"] == "waiting")
        status, text = relay.get("/metrics", parse=False)

        assert status == 200
        for line in (
            'otlp_relay_received_spans_total{signal="traces"} 4.0',
            'otlp_relay_kept_spans_total{signal="traces"} 4.0',
            'otlp_relay_waiting_spans{destination="gone",signal="traces"} 4.0',
            'otlp_relay_blocked{destination="gone",signal="traces"} 0.0',
            "otlp_relay_commits_total",
            "otlp_relay_buffer_bytes",
            "otlp_relay_oldest_undelivered_age_seconds",
        ):
            assert line in text, line
