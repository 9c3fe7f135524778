"""Code of a test that runs in the processes that are started from it."""

from pathlib import Path

import pytest

_CHECKING = """import gc, os, signal, relay.process.prepare as prepare
from relay.model.errors import Refusal
usual = prepare.Prepare.check
def check(self, body, *args, **options):
    {line}
    return usual(self, body, *args, **options)
prepare.Prepare.check = check
"""


def run_in_children(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Have each process run `code`, kept in `folder`, at its start."""
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.syspath_prepend(folder)


def run_before_checks(monkeypatch: pytest.MonkeyPatch, folder: Path, line: str) -> None:
    """Have each process run `line`, which sees `body`, before it checks one."""
    run_in_children(monkeypatch, folder, _CHECKING.format(line=line))
