"""All text for people leaves the command line in one place, where it is made safe to show."""

import re
from pathlib import Path

import relay.cli

PRINTS = re.compile(r"click\.echo|\bConsole\(|^\s*print\(|sys\.std(?:out|err)\.write", re.MULTILINE)


def test_only_one_module_prints() -> None:
    folder = Path(relay.cli.__file__).parent
    found = {path.name for path in folder.rglob("*.py") if PRINTS.search(path.read_text("utf-8"))}
    assert found == {"output.py"}
