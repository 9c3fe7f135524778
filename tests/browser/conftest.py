"""The ground of the tests in a real browser: one Chromium for all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.chromium import Chromium, Page
from tests.browser.tab import chromium as started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these need the browser."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as made:
        yield made


@pytest.fixture
def page(chromium: Chromium) -> Iterator[Page]:
    """An empty page for one test; what its console said is shown when the test fails."""
    with chromium.page() as made:
        yield made


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser of the tests of our own page."""
    with sync_playwright() as playwright:
        made = started(playwright)
        yield made
        made.close()
