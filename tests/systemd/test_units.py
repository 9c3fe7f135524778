"""What systemd itself says of the units."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from mockcollector import MockCollector
from tests.support.relay_process import eventually
from tests.systemd.machine import Machine
from tests.systemd.service import SERVICE, SOCKET, post_kept, wait_for_all

UNITS = (SERVICE, SOCKET)
USER = "alice"
MOST_EXPOSURE = 1.5


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_to_say_about_a_unit(machine: Machine, unit: str) -> None:
    done = machine.run("systemd-analyze", "verify", f"/lib/systemd/system/{unit}", check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def user(machine: Machine) -> Iterator[dict[str, str]]:
    """The environment of somebody whose own systemd runs, though nobody is logged in."""
    machine.run("systemctl", "stop", SOCKET, SERVICE)
    machine.run("useradd", "--create-home", USER)
    machine.run("loginctl", "enable-linger", USER)
    number = machine.sh(f"id -u {USER}").strip()
    folder = machine.path(f"/home/{USER}")
    runtime = f"/run/user/{number}"
    eventually(
        lambda: machine.run("test", "-S", f"{runtime}/bus", check=False).returncode == 0,
        what="the user's systemd",
    )
    assert folder.is_dir()
    yield {"XDG_RUNTIME_DIR": runtime, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus"}
    machine.run("loginctl", "disable-linger", USER)


def test_a_user_runs_it_without_root(machine: Machine, user: dict[str, str]) -> None:
    def as_user(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        variables = [f"{name}={value}" for name, value in user.items()]
        return machine.run("env", *variables, *command, user=USER, check=check)

    unit = "/usr/lib/systemd/user/otlp-relay.service"
    done = as_user("systemd-analyze", "--user", "verify", unit, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    # A file of one's own, if an empty one: else the configuration of the host counts.
    as_user("sh", "-c", "mkdir -p ~/.config/otlp-relay; touch ~/.config/otlp-relay/relay.toml")
    as_user("systemctl", "--user", "enable", "--now", "otlp-relay")
    with MockCollector() as upstream:
        as_user("otlp-relay", "destination", "add", "mock", "--endpoint", upstream.endpoint)
        posted = post_kept(2)
        wait_for_all(posted, upstream)
    assert machine.path(f"/home/{USER}/.local/state/otlp-relay/relay.db").exists()
    as_user("systemctl", "--user", "reload", "otlp-relay")
    shown = as_user("systemctl", "--user", "status", "otlp-relay").stdout
    assert "active (running)" in shown
    assert 'Status: "1 destination' in shown
    as_user("systemctl", "--user", "stop", "otlp-relay")
    result = as_user("systemctl", "--user", "show", "--value", "--property=Result", "otlp-relay")
    assert result.stdout.strip() == "success"


def test_the_service_is_exposed_no_more_than_it_has_to_be(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    told = machine.run("systemd-analyze", "--no-pager", "security", UNITS[0], check=False).stdout

    found = re.search(r"Overall exposure level for otlp-relay.service: (\d+\.\d+)", told)
    assert found, told
    with capsys.disabled():
        print(f"\nsystemd-analyze security otlp-relay: {found[1]}")
    assert float(found[1]) <= MOST_EXPOSURE, told
