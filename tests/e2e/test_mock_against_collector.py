"""The profile `otel-collector` answers generated requests as a real Collector does."""

from pathlib import Path

import pytest

from tests.differential.judging import compare
from tests.e2e.sender_builds import require

pytestmark = pytest.mark.e2e


def test_profile_and_collector_differ_only_as_it_lists(tmp_path: Path) -> None:
    require("build the Collector", "go")
    found = compare("collector", tmp_path, range(2_000))
    assert found.unknown == []
    assert found.same > 1_750
