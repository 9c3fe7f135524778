"""The ground of the tests on a real systemd: a machine that boots, with and without the package.

They run by `make test-systemd`, which makes the root, the packages and the namespaces around us.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from tests.systemd.machine import Machine, installed

TEST_SECONDS = 180.0
ROOT = os.environ.get("SYSTEMD_TEST_ROOT", "")
RUN = os.environ.get("SYSTEMD_TEST_RUN", "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these need a systemd; each gets a deadline that leaves booting out of account."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.systemd)
            if item.get_closest_marker("timeout") is None:
                # By signal: the other method ends the process without ending the machine.
                item.add_marker(pytest.mark.timeout(TEST_SECONDS, method="signal", func_only=True))


@pytest.fixture(scope="session")
def ground() -> Iterator[Path]:
    """The folder of this run. SIGTERM and SIGHUP are as Ctrl-C: machines end."""
    if not ROOT or not RUN:
        pytest.skip("runs by `make test-systemd`, as root on Debian")

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield Path(RUN)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def debs(ground: Path) -> tuple[Path, Path]:
    """The package of this checkout, and the same with a lower version."""
    lower, current = sorted((ground / "debs").glob("*.deb"))
    return current, lower


@pytest.fixture(scope="module")
def bare_machine(ground: Path, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A booted Debian without the package, for one file of tests."""
    name = request.module.__name__.rpartition(".")[2]
    with Machine(Path(ROOT), ground / name) as machine:
        yield machine


@pytest.fixture(scope="module")
def machine(bare_machine: Machine, debs: tuple[Path, Path]) -> Machine:
    """The same with the package."""
    installed(bare_machine, debs[0])
    return bare_machine
