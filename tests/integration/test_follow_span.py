"""How many files of relay/ one span goes through: a reader has to open no more of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.proofs
ROOT = Path(__file__).resolve().parent.parent.parent
# By trip: files, and moves back into a file that was left before.
MOST = {"in": (22, 12), "out": (25, 35)}


def test_one_span_goes_through_few_files_and_back_into_few_of_them() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/follow_span.py", "--runs", "2", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    trips = json.loads(done.stdout)

    for name, (most_files, most_returns) in MOST.items():
        for run in trips[name]["calls"]:
            assert run["files"] <= most_files, (name, run, trips[name]["files"])
            assert run["returns"] <= most_returns, (name, run)
