"""The service on a real systemd, in its real sandbox: its life, and that nothing is lost in it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mockcollector import MockCollector
from mockcollector.script import hang, ok, refuse
from tests.support.load import span_ids
from tests.support.relay_process import eventually
from tests.systemd.machine import Machine
from tests.systemd.service import (
    CONFIG,
    CREDENTIALS,
    SERVICE,
    SOCKET,
    STATE,
    Sender,
    Service,
    arrived,
    post,
    post_kept,
    wait_for_all,
)

RESTARTS = 3
MOST_STARTS_BY_SENDERS = 6  # TriggerLimitBurst= of the socket, and the one that finds it passed


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    """As the package leaves it, running, with nothing kept."""
    made = Service(machine).reset()
    yield made
    print(f"--- journal of the service ---\n{made.log()[-5000:]}")


@pytest.fixture
def upstream() -> Iterator[MockCollector]:
    with MockCollector() as collector:
        yield collector


def test_a_span_arrives_and_the_status_line_tells(
    service: Service, upstream: MockCollector
) -> None:
    service.machine.run("otlp-relay", "destination", "add", "mock", "--endpoint", upstream.endpoint)

    posted = post_kept()

    wait_for_all(posted, upstream)

    def shown() -> bool:
        text = service.machine.run("systemctl", "status", SERVICE).stdout
        return "active (running)" in text and 'Status: "1 destination' in text

    eventually(shown, what="the destination in the status line")


def test_the_status_line_names_a_destination_that_is_blocked_and_why(service: Service) -> None:
    with MockCollector(script="403*") as upstream:
        service.configure(axiom={"endpoint": upstream.endpoint})
        service.control("reload")
        eventually(lambda: service.destination("axiom"))
        assert post(span_ids(3)) == 200

        def told() -> bool:
            line = service.show("StatusText")
            return "1 blocked" in line and "axiom" in line and "403" in line

        eventually(told, what="the blocked destination in the status line")


def test_a_reload_takes_up_a_destination_and_goes_on_in_the_same_process(
    service: Service, upstream: MockCollector
) -> None:
    pid = service.pid
    kept = post_kept()
    service.configure(mock={"endpoint": upstream.endpoint})

    service.control("reload")

    wait_for_all(kept, upstream)
    service.wait_until_active()
    assert service.pid == pid
    assert service.show("NRestarts") == "0"
    assert "reload" not in service.show("Result")


def test_a_reload_of_a_wrong_configuration_leaves_the_running_one(service: Service) -> None:
    pid = service.pid
    service.machine.path(CONFIG).write_text("[ingest]\nlisten_on = 1\n")

    service.control("reload")

    eventually(lambda: "listen_on" in service.log(), what="the wrong key in the journal")
    service.wait_until_active()
    assert service.pid == pid
    assert post(span_ids(1)) == 200


def test_a_kill_is_followed_by_a_start_and_nothing_is_lost(
    service: Service, upstream: MockCollector
) -> None:
    service.configure(mock={"endpoint": upstream.endpoint})
    service.control("restart")
    pid = service.pid

    with Sender() as sender:
        sender.wait_for_more(100)
        service.kill("KILL")
        service.wait_until_active(other_than=pid)
        sender.wait_for_more(100)

    wait_for_all(sender.acknowledged, upstream)
    assert service.show("NRestarts") == "1"
    assert sender.refused == 0
    assert set(sender.statuses) == {200}


def test_the_watchdog_restarts_a_process_that_hangs_and_nothing_is_lost(
    service: Service, upstream: MockCollector
) -> None:
    upstream.script.default = refuse(503)
    service.configure(mock={"endpoint": upstream.endpoint})
    service.drop_in("[Service]\nWatchdogSec=2s\n")
    service.control("restart")
    pid = service.pid
    kept = post_kept()

    service.kill("STOP")
    service.wait_until_active(other_than=pid)

    assert "watchdog" in service.log().lower()
    upstream.script.default = ok()
    wait_for_all(kept, upstream)
    assert service.show("NRestarts") == "1"


def test_a_watchdog_finds_nothing_to_do_while_all_is_well(service: Service) -> None:
    service.drop_in("[Service]\nWatchdogSec=1s\n")
    service.control("restart")
    pid = service.pid

    with Sender() as sender:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            sender.wait_for_more(1)

    assert service.pid == pid


def test_no_sender_is_refused_while_the_service_restarts_under_load(
    service: Service, upstream: MockCollector
) -> None:
    service.configure(mock={"endpoint": upstream.endpoint})
    service.control("restart")

    with Sender() as sender:
        for _ in range(RESTARTS):
            sender.wait_for_more(100)
            pid = service.pid
            service.control("restart")
            assert service.pid != pid
        sender.wait_for_more(100)

    assert (sender.refused, sender.broken) == (0, [])
    assert set(sender.statuses) == {200}
    wait_for_all(sender.acknowledged, upstream)


def test_without_the_socket_unit_the_service_listens_itself(
    service: Service, upstream: MockCollector
) -> None:
    service.machine.run("systemctl", "stop", SERVICE, SOCKET)
    service.configure(mock={"endpoint": upstream.endpoint})
    service.control("start")

    with pytest.raises(AssertionError, match="inactive"):
        service.machine.run("systemctl", "is-active", SOCKET)
    posted = post_kept()
    ids = span_ids(1)
    assert post(ids, host="::1") == 200
    wait_for_all(posted | set(ids), upstream)


def test_a_connection_starts_a_service_that_was_stopped(service: Service) -> None:
    service.control("stop")
    assert service.show("ActiveState") == "inactive"

    assert post(span_ids(1)) == 200
    assert post(span_ids(1), host="::1") == 200

    assert service.show("ActiveState") == "active"


def test_a_wrong_configuration_fails_once_and_the_journal_says_why(service: Service) -> None:
    service.machine.path(CONFIG).write_text('[buffer]\nmax_sise = "1GiB"\n')
    service.machine.run("systemctl", "stop", SOCKET, SERVICE)

    done = service.machine.run("systemctl", "start", SERVICE, check=False)

    assert done.returncode != 0
    assert service.show("ActiveState") == "failed"
    assert service.show("ExecMainStatus") == "2"
    # One that is to be started again would be "activating (auto-restart)".
    assert service.show("SubState") == "failed"
    assert service.show("NRestarts") == "0"
    entries = service.machine.journal(SERVICE)
    told = [entry["MESSAGE"] for entry in entries if "max_sise" in entry["MESSAGE"]]
    assert told, entries
    assert "max_size" in told[0]  # the nearest right one
    assert "Traceback" not in service.log()


def test_senders_do_not_keep_a_wrong_configuration_starting(
    service: Service, upstream: MockCollector
) -> None:
    machine = service.machine
    good = machine.path(CONFIG).read_text()
    machine.path(CONFIG).write_text("[buffer]\nmax_sise = 1\n")

    def starts() -> int:
        entries = machine.journal(SERVICE)
        return sum(entry["MESSAGE"].startswith("Starting otlp-relay") for entry in entries)

    before = starts()
    machine.run("systemctl", "restart", SERVICE, check=False)

    with Sender(threads=1) as sender:
        eventually(
            lambda: machine.show(SOCKET, "ActiveState") == "failed",
            seconds=30,
            what="the end of starts by senders",
        )
        eventually(lambda: sender.refused, what="a sender that is refused")
    assert service.show("ActiveState") == "failed"
    assert 1 < starts() - before <= 1 + MOST_STARTS_BY_SENDERS

    machine.path(CONFIG).write_text(good)
    machine.run("systemctl", "start", SOCKET, SERVICE)
    assert post(span_ids(1)) == 200


@pytest.mark.timeout(240, method="signal", func_only=True)
def test_a_stop_while_upstream_hangs_asks_for_time_and_loses_nothing(
    service: Service, upstream: MockCollector
) -> None:
    upstream.script.default = hang()
    service.configure(mock={"endpoint": upstream.endpoint})
    # Less than the daemon gives the request that is out: it has to ask for more.
    service.drop_in("[Service]\nTimeoutStopSec=5s\n")
    service.control("restart")
    kept = post_kept()
    eventually(lambda: service.destination("mock").get("in_flight_spans"))
    service.machine.run("systemctl", "stop", SOCKET)

    begun = time.monotonic()
    service.control("stop")
    took = time.monotonic() - begun

    assert service.show("Result") == "success"
    assert service.show("ExecMainStatus") == "0"
    assert 5 < took < 60
    upstream.script.default = ok()
    upstream.release()
    service.machine.run("systemctl", "start", SOCKET, SERVICE)
    wait_for_all(kept, upstream)


def test_a_credential_of_the_unit_is_the_token_that_upstream_sees(service: Service) -> None:
    token = "xaat-0123456789"
    secret = service.machine.path(f"{CREDENTIALS}/mock-token")
    secret.write_text(token + "\n")
    secret.chmod(0o600)
    with MockCollector(required_headers={"authorization": f"Bearer {token}"}) as upstream:
        header = {"Authorization": "Bearer ${credential:mock-token}"}
        service.configure(mock={"endpoint": upstream.endpoint, "headers": header})
        service.drop_in(f"[Service]\nLoadCredential=mock-token:{CREDENTIALS}/mock-token\n")
        service.control("restart")

        posted = post_kept(2)

        wait_for_all(posted, upstream)
    # Root's file, which the daemon's user may not read: it came by the credential.
    read = service.machine.run("cat", f"{CREDENTIALS}/mock-token", user="otlp-relay", check=False)
    assert read.returncode != 0
    assert token not in service.log()


def test_events_are_fields_of_the_journal(service: Service) -> None:
    with MockCollector(script="403*") as upstream:
        service.configure(axiom={"endpoint": upstream.endpoint})
        service.control("restart")
        assert post(span_ids(1)) == 200

        def blocked() -> list[dict[str, str]]:
            entries = service.machine.journal(SERVICE)
            return [entry for entry in entries if entry.get("DESTINATION") == "axiom"]

        entry = eventually(blocked, what="an entry of the destination")[-1]

    assert int(entry["PRIORITY"]) <= 4
    assert entry["EVENT"]
    assert not entry["MESSAGE"].startswith("{")
    assert "403" in entry["MESSAGE"]


def test_what_is_kept_belongs_to_the_user_of_the_service_alone(service: Service) -> None:
    post_kept(1)
    listed = service.machine.sh(f"find {STATE} -printf '%u:%g %m %y %p\\n'").splitlines()

    assert f"otlp-relay:otlp-relay 700 d {STATE}" in listed
    assert any(line.endswith("/relay.db") for line in listed)
    wrong = [
        line
        for line in listed
        if not line.startswith(("otlp-relay:otlp-relay 700 d", "otlp-relay:otlp-relay 600 f"))
    ]
    assert wrong == []
    limits = service.machine.sh(f"cat /proc/{service.pid}/limits").splitlines()
    by_name = {line[:26].strip(): line[26:].split()[:2] for line in limits}
    assert by_name["Max core file size"] == ["0", "0"]
    assert by_name["Max open files"] == ["16384", "16384"]


def test_a_large_body_is_taken_in_the_sandbox(service: Service, upstream: MockCollector) -> None:
    service.configure(mock={"endpoint": upstream.endpoint})
    service.control("restart")
    ids = span_ids(2000)

    assert post(ids, padding="x" * 1500) == 200

    wait_for_all(set(ids), upstream)
    assert arrived(upstream) == set(ids)
    helper = service.status()["helper"]  # a process of its own, with a limit on its memory
    assert (helper["jobs"], helper["failures"]) == (1, {})


def test_a_command_of_root_tells_the_daemon_and_leaves_it_its_files(
    service: Service, upstream: MockCollector, tmp_path: Path
) -> None:
    service.machine.run("otlp-relay", "destination", "add", "mock", "--endpoint", upstream.endpoint)

    saved = service.machine.path(f"{STATE}/destinations.d/mock.toml")
    owner = service.machine.sh("id -u otlp-relay").strip()
    assert (str(saved.stat().st_uid), saved.stat().st_mode & 0o777) == (owner, 0o600)
    assert service.destination("mock")
    as_itself = service.machine.run("otlp-relay", "check-config", user="otlp-relay")
    assert "mock" in as_itself.stdout
