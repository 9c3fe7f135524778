"""Every test here needs real brokers: it is marked `fleet` (make test-fleet).

Brokers are shared by the tests of one file that only use them; what kills brokers makes its own.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kafka import Brokers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands in this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.fleet)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """One broker."""
    with Brokers(tmp_path_factory.mktemp("kafka"), 1) as brokers:
        yield brokers


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """Three brokers that nobody hurts."""
    with Brokers(tmp_path_factory.mktemp("kafka"), 3) as three:
        yield three


@pytest.fixture
def own_brokers(tmp_path: Path) -> Iterator[Brokers]:
    """Three brokers of this test alone, to be killed, frozen and wiped."""
    with Brokers(tmp_path, 3) as three:
        yield three
