"""The pytest fixture `mock_collector_snapshot` and the option that writes what it compares with."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mockcollector.server import MockCollector

UPDATE = "--mock-collector-update"
FOLDER = "snapshots"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes snapshots instead of comparing with them."""
    parser.getgroup("mockcollector").addoption(
        UPDATE, action="store_true", help="write the snapshots of mock collectors anew"
    )


@pytest.fixture
def mock_collector_snapshot(
    request: pytest.FixtureRequest,
) -> "Callable[..., None]":
    """Compare what a collector accepted with a golden file, `snapshots/TEST.json` beside the test.

    `mock_collector_snapshot(collector, "name", varying=["order.id"])`; the name is the test's
    unless one is given.
    """

    def compare(collector: "MockCollector", name: str = "", **options: Any) -> None:
        from mockcollector.snapshot import assert_snapshot

        file = re.sub(r"[^\w.-]+", "-", name or request.node.name).strip("-")
        path = Path(request.node.path).parent / FOLDER / f"{file}.json"
        is_update = bool(request.config.getoption(UPDATE))
        assert_snapshot(collector.journal, path, is_update=is_update, **options)

    return compare
