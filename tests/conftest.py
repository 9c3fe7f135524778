"""What every test stands on: an empty environment, asyncio under anyio, a turn where it measures.

In CI a test that was skipped proves nothing, so it fails.
"""

import os
import signal
from collections.abc import Generator

import pytest

from tests.support import examples, turns

OURS = ("OTLP_RELAY_", "OTEL_", "XDG_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
SYSTEMD = (
    *("STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
    *("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "JOURNAL_STREAM"),
)
SKIPPED = "skipped, which is a failure in CI"

examples.register()


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every variable away that the product reads: a developer's shell decides no test."""
    for name in list(os.environ):
        if name.upper().startswith(OURS) or name in SYSTEMD:
            monkeypatch.delenv(name)


@pytest.fixture
def anyio_backend() -> str:
    """We run on asyncio only, as uvicorn and uvloop do."""
    return "asyncio"


def pytest_configure(config: pytest.Config) -> None:
    """Before a run, and at the start of each of its workers."""
    turns.prepare(config)
    # A shell has what it starts in the background ignore Ctrl-C, and commands under test with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than processors, since many tests wait; none where a few tests are named."""
    return 0 if config.option.keyword else (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test marked `alone` has no other beside it; waiting for that is not counted as its time."""
    with turns.turn(is_alone=item.get_closest_marker("alone") is not None):
        return (yield)


def _failed_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"{SKIPPED}: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that was skipped, which in CI is a failure."""
    report = yield
    _failed_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a file that was skipped as a whole."""
    report = yield
    _failed_if_skipped(report)
    return report
