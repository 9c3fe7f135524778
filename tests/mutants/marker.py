"""A plugin of pytest that writes down which test is running, for a run that does not end by itself.

A test that hangs takes the whole run with it, before pytest has named anything.
"""

import os
from pathlib import Path
from typing import Final

import pytest

VARIABLE: Final = "MUTANTS_RUNNING"


def pytest_runtest_logstart(nodeid: str) -> None:
    """A test begins."""
    Path(os.environ[VARIABLE]).write_text(nodeid, "utf-8")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file was read, or could not be."""
    if report.failed:
        Path(os.environ[VARIABLE]).write_text(report.nodeid, "utf-8")
