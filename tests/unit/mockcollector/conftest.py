"""A collector for each test that asks for one by name."""

from collections.abc import Iterator

import pytest

from mockcollector import MockCollector


@pytest.fixture
def collector() -> Iterator[MockCollector]:
    with MockCollector() as running:
        yield running
