"""The page on troubleshooting has a section for each cause, with the words that a command prints.

That the commands do print them is held by tests/integration/test_causes.py, by the same table.
"""

import re
from pathlib import Path

import pytest

from tests.support.causes import CAUSES, Cause

PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"


def sections() -> dict[str, str]:
    """The text below each heading of the third level."""
    parts = re.split(r"^### (.*)\n", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_page_has_a_section_for_each_cause_and_no_other() -> None:
    assert set(sections()) == {cause.section for cause in CAUSES}


@pytest.mark.parametrize("cause", [pytest.param(each, id=each.key) for each in CAUSES])
def test_section_names_the_command_and_its_words(cause: Cause) -> None:
    text = sections()[cause.section]

    assert f"otlp-relay {cause.command.split()[0]}" in text
    missing = [each for each in cause.words if each.strip() not in text]
    assert not missing
