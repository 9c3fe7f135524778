"""The pytest fixtures `mock_collector` and `mock_collector_factory`: running collectors.

Registered by the `pytest11` entry point, hence loaded in every run of pytest where this
distribution is installed: the collector itself is imported when a test asks for it.
"""

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from mockcollector.pytest_snapshot import mock_collector_snapshot, pytest_addoption

if TYPE_CHECKING:
    from mockcollector.server import MockCollector

__all__ = ["mock_collector", "mock_collector_snapshot", "pytest_addoption", "pytest_configure"]

MARKER = "mock_collector"
_KEY = pytest.StashKey[list["MockCollector"]]()
_SHOWN_REQUESTS = 30


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, so that `--strict-markers` accepts it."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(**options): options of the fixture's MockCollector, such as script='503*3,ok'; "
        "clean=True fails the test when a request broke a rule",
    )


@pytest.fixture
def mock_collector(request: pytest.FixtureRequest) -> "Iterator[MockCollector]":
    """A strict OTLP/HTTP receiver on a free port, new for each test.

    The markers of that name set it up, those of the test before those of its class and module;
    `indirect` parameters before all.
    """
    options = _options(request)
    is_clean = options.pop("clean", False)
    with _collector(request, options) as collector:
        yield collector
    if is_clean:
        collector.journal.assert_clean()


@pytest.fixture(scope="session")
def mock_collector_factory(
    request: pytest.FixtureRequest,
) -> "Iterator[Callable[..., MockCollector]]":
    """Makes running collectors, for fixtures of any scope: `mock_collector_factory(script="503")`.

    They are stopped at the end of the session, if not before.
    """
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(_collector(request, options))


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers(MARKER))):  # the closest comes last
        if marker.args:
            raise pytest.UsageError(f"@pytest.mark.{MARKER} takes options by name only")
        options |= marker.kwargs
    parameter = getattr(request, "param", {})
    if not isinstance(parameter, dict):
        raise pytest.UsageError(f"an indirect parameter of {MARKER} is a dict of options")
    return options | parameter


def _collector(request: pytest.FixtureRequest, options: dict[str, Any]) -> "MockCollector":
    from mockcollector.server import MockCollector

    collector = MockCollector(**options)
    request.node.stash.setdefault(_KEY, []).append(collector)
    return collector


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> "Generator[None, Any, Any]":
    """Show what arrived at its collectors beside a test that failed."""
    report: Any = yield
    if report.failed:
        collectors = [
            collector for node in (item.session, item) for collector in node.stash.get(_KEY, [])
        ]
        for collector in collectors:
            report.sections.append(("mock collector", _story(collector)))
    return report


def _story(collector: "MockCollector") -> str:
    from mockcollector.lines import request_line, stranger_line

    lines = [repr(collector)]
    lines += map(stranger_line, collector.journal.strangers()[:_SHOWN_REQUESTS])
    requests = collector.journal.requests()
    lines += map(request_line, requests[:_SHOWN_REQUESTS])
    if len(requests) > _SHOWN_REQUESTS:
        lines.append(f"and {len(requests) - _SHOWN_REQUESTS} more requests")
    return "\n".join(lines)
