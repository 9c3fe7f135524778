"""`make install` and `make uninstall` on a host with systemd; what it builds is built before."""

import shutil
from pathlib import Path

import pytest

from mockcollector import MockCollector
from tests.systemd.machine import Machine, installed
from tests.systemd.service import (
    CONFIG,
    SERVICE,
    SOCKET,
    STATE,
    Sender,
    Service,
    post_kept,
    wait_for_all,
)

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def host(bare_machine: Machine, ground: Path) -> Machine:
    """A machine that sees the tree and of the checkout what `make install` needs."""
    shared = bare_machine.shared
    shutil.copytree(ground / "tree", shared / "tree", symlinks=True)
    shutil.copytree(CHECKOUT / "systemd", shared / "checkout" / "systemd")
    (shared / "checkout" / "scripts").mkdir()
    shutil.copy(CHECKOUT / "scripts" / "install", shared / "checkout" / "scripts")
    return bare_machine


def install(machine: Machine) -> str:
    script = "/shared/checkout/scripts/install"
    return machine.run(script, "install", "/usr/bin/python3", "/shared/tree").stdout


def test_install_again_and_uninstall(host: Machine) -> None:
    said = install(host)
    assert "active (running)" in said

    service = Service(host)
    with MockCollector() as upstream:
        service.configure(mock={"endpoint": upstream.endpoint})
        service.control("reload")
        config, pid = host.path(CONFIG).read_text(), service.pid
        with Sender() as sender:
            sender.wait_for_more(50)
            install(host)
            sender.wait_for_more(50)
        assert (sender.refused, sender.broken) == (0, [])
        assert service.pid not in (0, pid)
        assert host.path(CONFIG).read_text() == config
        wait_for_all(sender.acknowledged | post_kept(1), upstream)
    for unit in (SERVICE, SOCKET):
        assert host.show(unit, "UnitFileState") == "enabled"
    shown = host.sh(f"stat -c '%U:%G %a' {CONFIG} {STATE}").splitlines()
    assert shown == ["root:otlp-relay 640", "otlp-relay:otlp-relay 700"]

    said = host.run("/shared/checkout/scripts/install", "uninstall").stdout

    assert CONFIG.rpartition("/")[0] in said
    assert STATE in said
    assert host.path(CONFIG).read_text() == config
    assert host.path(f"{STATE}/relay.db").exists()
    left = host.sh(
        "find / -xdev -name '*otlp-relay*' -not -path '/shared/*' -not -path '/var/log/*'"
    )
    assert set(left.split()) == {CONFIG.rpartition("/")[0], STATE}
    listed = host.run("systemctl", "list-unit-files", "--no-legend", "otlp-relay*", check=False)
    assert listed.stdout == ""


def test_install_refuses_beside_the_package(host: Machine, debs: tuple[Path, Path]) -> None:
    host.sh(f"rm -rf {CONFIG.rpartition('/')[0]} {STATE}")  # as uninstall says
    installed(host, debs[0])
    for words in (("install", "/usr/bin/python3", "/shared/tree"), ("uninstall",)):
        done = host.run("/shared/checkout/scripts/install", *words, check=False)
        assert done.returncode == 1
        assert "apt" in done.stderr
    assert host.show(SERVICE, "ActiveState") == "active"
