"""The pytest fixture `mock_collector`: a running collector, new for each test.

Registered by the `pytest11` entry point, hence loaded in every run of pytest where this
distribution is installed: the collector itself is imported when a test asks for it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mockcollector.server import MockCollector

MARKER = "mock_collector"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, so that `--strict-markers` accepts it."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(**options): options of the fixture's MockCollector, such as script='503*3,ok'",
    )


@pytest.fixture
def mock_collector(request: pytest.FixtureRequest) -> "Iterator[MockCollector]":
    """A strict OTLP/HTTP receiver on a free port; the marker of that name sets it up."""
    from mockcollector.server import MockCollector

    marker = request.node.get_closest_marker(MARKER)
    if marker is not None and marker.args:
        raise pytest.UsageError(f"@pytest.mark.{MARKER} takes options by name only")
    with MockCollector(**(marker.kwargs if marker is not None else {})) as collector:
        yield collector
