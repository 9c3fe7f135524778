"""The mock collector and the relay answer the same requests; they share no code to err alike.

Where they differ, one of `tests.differential.kinds` is why; whatever else they differ in is a fault
of one of them. It is always the mock that refuses: what it takes, the relay takes whole.
"""

from pathlib import Path

import pytest

from mockcollector.profiles import build
from tests.differential import kinds
from tests.differential.judging import compare

DOCUMENT = Path(__file__).parents[2] / "docs" / "mockcollector.md"


def test_mock_and_relay_differ_only_as_documented(tmp_path: Path) -> None:
    found = compare("relay", tmp_path, range(20_000, 20_300))
    assert found.unknown == []
    assert found.same > 200


@pytest.mark.proofs
def test_mock_and_relay_differ_only_as_documented_in_4000_requests(tmp_path: Path) -> None:
    found = compare("relay", tmp_path, range(4_000))
    assert found.unknown == []
    assert found.same > 3_000


def test_every_kind_of_disagreement_with_the_relay_is_in_the_document() -> None:
    words = " ".join(DOCUMENT.read_text().partition("The relay judges otherwise")[2].split())
    assert [kind.words for kind in kinds.RELAY if kind.words not in words] == []


def test_every_kind_of_disagreement_with_the_collector_is_listed_by_its_profile() -> None:
    listed = "; ".join(build("otel-collector").unconfirmed)
    assert [kind.words for kind in kinds.COLLECTOR if kind.words not in listed] == []
