"""The ground of the end-to-end tests: the installed wheel, Jaeger and Collectors in containers.

Each run has an id; every container and network carries it as a label, and the run holds a lock on
a file of that name. So a run can take away what it made, however it ends, and the next run can
tell what a killed one left behind from what another run is using.
"""

import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

import pytest

from tests.e2e import images
from tests.e2e.collector import Collector
from tests.e2e.containers import RUN, RUNS, Ground, sweep
from tests.e2e.jaeger import Jaeger
from tests.e2e.received import SIGNALS, Kept, collector_config
from tests.e2e.receivers import PROMETHEUS, VICTORIA_LOGS, VICTORIA_METRICS, Kind, Receiver

ROOT = Path(__file__).resolve().parents[2]
TEST_SECONDS = 180.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here gets its own deadline, which leaves the making of images out of account."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            # By signal: the other method ends the process without taking the containers away.
            item.add_marker(pytest.mark.timeout(TEST_SECONDS, method="signal", func_only=True))


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    """The daemon, this run's label and its network; what carries the label is gone afterwards."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # As Ctrl-C: fixtures are torn down and containers go.
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with Ground() as made:
            yield made
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def relay_command() -> tuple[str, ...]:
    """The argv prefix of the `otlp-relay` of the wheel, in an environment of its own.

    Made for `Relay(..., executable=relay_command)`: nothing of the source tree is imported. Where
    the system can do that, the relay ends with us even if we are killed.
    """
    command = [sys.executable, str(ROOT / "scripts" / "wheel.py")]
    shown = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    ends_with_us = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
    return (*ends_with_us, str(Path(shown.stdout.strip()) / "bin" / "otlp-relay"))


@pytest.fixture
def jaeger(ground: Ground, tmp_path: Path) -> Iterator[Jaeger]:
    """A Jaeger with an empty store in memory, which forgets when it is stopped."""
    with Jaeger(ground, images.ready("jaeger"), tmp_path) as made:
        yield made


@pytest.fixture
def durable_jaeger(ground: Ground, tmp_path: Path) -> Iterator[Jaeger]:
    """A Jaeger with an empty store on its disk, which is kept while it is stopped."""
    with Jaeger(ground, images.ready("jaeger"), tmp_path, storage="badger") as made:
        yield made


@pytest.fixture
def collector(ground: Ground, tmp_path: Path) -> Iterator[Callable[..., Collector]]:
    """Makes Collectors: `collector(config_text, files={"token": "…"}) -> Collector`.

    The files stand beside the configuration in `/etc/collector`, and `/var/lib/collector` may be
    written to. The OTLP/HTTP receiver is to listen on `0.0.0.0:4318`; Jaeger is at
    `http://jaeger:4318`. With `host_network=True` the Collector shares this host's network, so that
    it can send to a relay on 127.0.0.1; its receiver then listens on `receiver_port`.
    """
    made: list[Collector] = []

    def make(
        config_text: str,
        files: Mapping[str, str] | None = None,
        *,
        host_network: bool = False,
        receiver_port: int = 4318,
    ) -> Collector:
        folder = tmp_path / f"collector-{len(made)}"
        one = Collector(
            ground,
            images.ready("collector"),
            folder,
            {"config.yaml": config_text, **(files or {})},
            host_port=receiver_port if host_network else None,
        )
        made.append(one)
        return one.start()

    try:
        yield make
    finally:
        for one in made:
            one.remove()


@pytest.fixture(scope="session")
def collector_of_all(
    ground: Ground, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collector]:
    """The one Collector of all tests that keeps what it gets in a file."""
    made = Collector(
        ground,
        images.ready("collector"),
        tmp_path_factory.mktemp("collector"),
        {"config.yaml": collector_config(*SIGNALS)},
    )
    try:
        yield made.start()
    finally:
        made.remove()


@pytest.fixture
def kept(collector_of_all: Collector) -> Kept:
    """What comes to it during a test."""
    found = Kept(collector_of_all)
    found.forget()
    return found


def started(ground: Ground, factory: pytest.TempPathFactory, kind: Kind) -> Iterator[Receiver]:
    with Receiver(ground, images.ready(kind.image), kind, factory.mktemp(kind.image)) as made:
        yield made


@pytest.fixture(scope="session")
def prometheus(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """The one Prometheus of all tests, which tell their items apart by names."""
    yield from started(ground, tmp_path_factory, PROMETHEUS)


@pytest.fixture(scope="session")
def victoria_metrics(
    ground: Ground, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Receiver]:
    """The one VictoriaMetrics of all tests, which tell their items apart by names."""
    yield from started(ground, tmp_path_factory, VICTORIA_METRICS)


@pytest.fixture(scope="session")
def victoria_logs(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """The one VictoriaLogs of all tests, which tell their items apart by names."""
    yield from started(ground, tmp_path_factory, VICTORIA_LOGS)


@pytest.fixture
def service() -> str:
    """A name that only this test uses."""
    return f"shop_{secrets.token_hex(4)}"


def pytest_unconfigure() -> None:
    """Once more, for what an interrupted teardown left."""
    if Ground.was_made:
        sweep(mine=True)
        (RUNS / RUN).unlink(missing_ok=True)
