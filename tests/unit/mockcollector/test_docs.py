"""The examples of the documents and of the README beside the code run as printed."""

import re
from pathlib import Path

import pytest

from mockcollector.script_text import parse_script

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[3]
DOCUMENT, README = ROOT / "docs" / "mockcollector.md", ROOT / "mockcollector" / "README.md"
START = ROOT / "docs" / "mockcollector-start.md"


def test_python_examples_run(pytester: pytest.Pytester) -> None:
    text = DOCUMENT.read_text() + README.read_text() + START.read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for at, block in enumerate(blocks):
        tests = "" if "def test_" in block else "\n\ndef test_ran():\n    pass\n"
        pytester.makepyfile(**{f"test_example_{at}": block + tests})

    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--strict-markers", "--mock-collector-update"
    )

    assert len(blocks) > 3
    result.assert_outcomes(passed=sum(max(1, block.count("def test_")) for block in blocks))


def test_scripts_of_the_table_are_scripts() -> None:
    table = DOCUMENT.read_text().partition("| text | Python |")[2].partition("\n\n")[0]
    texts = re.findall(r"^\| `([^|]*)` \|", table, re.MULTILINE)

    assert len(texts) == 10
    for cell in texts:
        for text in cell.split("`, `"):
            assert parse_script(text)
