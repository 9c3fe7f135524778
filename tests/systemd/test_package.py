"""The package's life on a host: installed, upgraded under load, removed, purged."""

import re
from pathlib import Path

import pytest

from mockcollector import MockCollector
from mockcollector.script import ok
from tests.support.relay_process import eventually
from tests.systemd.machine import Machine, installed
from tests.systemd.service import (
    CONFIG,
    CREDENTIALS,
    SERVICE,
    SOCKET,
    STATE,
    Sender,
    Service,
    post_kept,
    wait_for_all,
)

# What a system keeps of a package that is gone: its own history.
HISTORY = r"^/(proc|sys|run|dev|shared|tmp|var/(log|cache|lib/(apt|dpkg/status|systemd)))(/|$|-)"


def named(machine: Machine) -> set[str]:
    """Every path of the machine that has our name in it, but for logs and the package manager's."""
    found = machine.sh("find / -xdev -name '*otlp-relay*' -print").splitlines()
    return {path for path in found if not re.match(HISTORY, path)}


def version_of(machine: Machine) -> str:
    """The installed version; empty when there is none."""
    asked = ["dpkg-query", "--show", "--showformat=${Version} ${db:Status-Status}", "otlp-relay"]
    version, _, state = machine.run(*asked, check=False).stdout.partition(" ")
    return version if state == "installed" else ""


def test_the_packages_life_from_install_to_purge(
    bare_machine: Machine, debs: tuple[Path, Path]
) -> None:
    machine = bare_machine
    current, lower = debs
    before = machine.sh("cut -d: -f1 /etc/passwd /etc/group | sort")

    check_fresh_install(machine, lower)
    with MockCollector(script="403*") as upstream:
        service = Service(machine)
        service.configure(mock={"endpoint": upstream.endpoint})
        service.control("reload")
        kept = post_kept()
        config = machine.path(CONFIG).read_text()
        check_upgrade_under_load(machine, current, service, kept)
        assert machine.path(CONFIG).read_text() == config

        check_remove_keeps(machine, config)
        installed(machine, current)
        assert service.show("ActiveState") == "active"
        assert machine.path(CONFIG).read_text() == config

        upstream.script.clear()
        upstream.script.default = ok()
        service.control("reload")  # probes at once
        wait_for_all(kept, upstream)

    machine.path(f"{CREDENTIALS}/token").write_text("t\n")
    machine.run("apt-get", "purge", "--quiet", "--yes", "otlp-relay")

    assert named(machine) == set()
    assert machine.sh("cut -d: -f1 /etc/passwd /etc/group | sort") == before
    listed = machine.run("systemctl", "list-unit-files", "--no-legend", "otlp-relay*", check=False)
    assert listed.stdout == ""
    assert machine.run("dpkg", "-s", "otlp-relay", check=False).returncode != 0


def check_fresh_install(machine: Machine, deb: Path) -> None:
    """It runs, it is enabled, and each file is readable by whom it should be."""
    assert named(machine) == set()

    said = installed(machine, deb)

    assert "rror" not in said, said
    for unit in (SERVICE, SOCKET):
        assert machine.show(unit, "ActiveState") == "active"
        assert machine.show(unit, "UnitFileState") == "enabled"
    shown = machine.sh(f"stat -c '%U:%G %a %n' {CONFIG} {CREDENTIALS} {STATE}")
    assert shown.splitlines() == [
        f"root:otlp-relay 640 {CONFIG}",
        f"root:root 700 {CREDENTIALS}",
        f"otlp-relay:otlp-relay 700 {STATE}",
    ]
    assert machine.run("dpkg", "--verify", "otlp-relay").stdout == ""
    machine.run("otlp-relay", "--version")
    machine.run("mockcollector", "--help")
    machine.run("otlp-relay", "check-config")


def check_upgrade_under_load(machine: Machine, deb: Path, service: Service, kept: set[str]) -> None:
    """No sender is refused; what was kept is kept, and so is the configuration."""
    old, pid = version_of(machine), service.pid
    with Sender() as sender:
        sender.wait_for_more(50)
        installed(machine, deb)
        sender.wait_for_more(50)
    kept |= sender.acknowledged

    assert old == "0.0.1"
    assert version_of(machine) not in ("", old)
    assert service.pid not in (0, pid)
    assert (sender.refused, sender.broken) == (0, [])
    assert set(sender.statuses) == {200}
    waiting = eventually(lambda: service.destination("mock").get("waiting_spans"))
    assert waiting == len(kept)


def check_remove_keeps(machine: Machine, config: str) -> None:
    """Without the program, what is somebody's stays."""
    machine.run("apt-get", "remove", "--quiet", "--yes", "otlp-relay")

    assert machine.path(CONFIG).read_text() == config
    assert machine.path(f"{STATE}/relay.db").exists()
    assert not machine.path("/opt/otlp-relay").exists()
    assert machine.show(SERVICE, "ActiveState") == "inactive"
    assert machine.show(SOCKET, "ActiveState") == "inactive"


def test_man_finds_a_page_for_each_command_and_shells_complete_them(machine: Machine) -> None:
    found = machine.run("man", "-w", "otlp-relay").stdout
    shown = machine.sh("MANWIDTH=80 man otlp-relay-where | cat")
    commands = "sed -n '/^Commands:/,$p' | awk '/^  [a-z]/ {print $1}'"
    listed = machine.sh(f"otlp-relay --help | {commands}")

    assert found.strip() == "/usr/share/man/man1/otlp-relay.1.gz"
    assert "otlp-relay-where - " in shown
    assert "otlp-relay where [OPTIONS]" in shown
    assert len(listed.split()) > 10
    for command in listed.split():
        machine.run("man", "-w", f"otlp-relay-{command}")
    # As bash does it at a Tab behind `otlp-relay sta`.
    typed = "COMP_WORDS=(otlp-relay sta); COMP_CWORD=1; _otlp_relay_completion otlp-relay"
    file = "/usr/share/bash-completion/completions/otlp-relay"
    completed = machine.run("bash", "-c", f'source {file}; {typed}; echo "${{COMPREPLY[*]}}"')
    assert completed.stdout == "status\n"
    head = machine.sh("head -n 1 /usr/share/zsh/vendor-completions/_otlp-relay")
    assert head == "#compdef otlp-relay\n"
    fish = machine.sh("cat /usr/share/fish/vendor_completions.d/otlp-relay.fish")
    assert "complete --no-files --command otlp-relay" in fish


def test_a_missing_python_is_named_and_the_service_does_not_try_for_ever(machine: Machine) -> None:
    service = Service(machine)
    python = machine.path("/usr/bin/python3.11")
    if not python.exists():
        pytest.fail("the root's python3 is not 3.11: say here which one it is")
    aside = python.with_name("aside")
    python.rename(aside)
    try:
        done = machine.run("otlp-relay", "--version", check=False)
        machine.run("systemctl", "restart", SERVICE, check=False)
        status, log = service.show("ExecMainStatus"), service.log()
    finally:
        aside.rename(python)

    assert done.returncode == 2
    assert "Python 3.11" in done.stderr
    assert "/usr/bin/python3.11 is gone" in done.stderr
    assert status == "2"
    assert "/usr/bin/python3.11 is gone" in log
    assert service.show("NRestarts") == "0"


def test_a_package_holds_no_path_of_the_machine_that_built_it(
    machine: Machine, debs: tuple[Path, Path]
) -> None:
    for place in {str(debs[0].parents[1]), str(Path(__file__).parents[2])}:
        found = machine.run("grep", "-rlF", place, "/opt/otlp-relay", check=False)
        assert found.stdout == ""
