"""The clearing up: what a killed run left goes, what another run is using stays."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import images
from tests.e2e.containers import LABEL_RUN, Ground, daemon, lives, sweep

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
ANOTHER_RUN = """
import signal, sys, tempfile
from pathlib import Path
from tests.e2e.containers import RUN, Ground
from tests.e2e.jaeger import Jaeger

# A run that was started in the background inherits Ctrl-C as ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with Ground() as ground, tempfile.TemporaryDirectory() as folder:
    with Jaeger(ground, sys.argv[1], Path(folder)):
        print(RUN, flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def another_run(ground: Ground) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs a Jaeger of its own, and the id of its run."""
    with subprocess.Popen(
        [sys.executable, "-c", ANOTHER_RUN, images.ready("jaeger")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()
    sweep(mine=False)


def made_by(run: str) -> int:
    """How many containers and networks carry the label of that run."""
    client = daemon()
    try:
        label = f"{LABEL_RUN}={run}"
        containers = client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return len(containers) + len(client.networks.list(filters={"label": label}))
    finally:
        client.close()


def test_sweep_leaves_what_a_living_run_uses(
    another_run: tuple[subprocess.Popen[str], str],
) -> None:
    _, run = another_run
    sweep(mine=False)

    assert lives(run)
    assert made_by(run) == 2


def test_sweep_removes_what_a_killed_run_left(
    another_run: tuple[subprocess.Popen[str], str],
) -> None:
    process, run = another_run
    process.kill()
    process.wait()
    assert made_by(run) == 2
    sweep(mine=False)

    assert made_by(run) == 0


def test_run_takes_everything_away_after_ctrl_c(
    another_run: tuple[subprocess.Popen[str], str],
) -> None:
    process, run = another_run
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)

    assert made_by(run) == 0
