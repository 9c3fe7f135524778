"""docs/cli.md and docs/senders are what the commands and the table of senders say."""

import shutil
import subprocess
import sys
from pathlib import Path

from scripts.command_pages import man_pages

ROOT = Path(__file__).resolve().parent.parent


def test_pages_are_current() -> None:
    # In a process of its own: what other tests did to the terminal's width does not count.
    command = [sys.executable, "-m", "scripts.command_pages", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `make docs`\n{done.stdout}{done.stderr}"


def test_man_pages_are_read_without_a_complaint(tmp_path: Path) -> None:
    pages = man_pages("1.2.3")
    assert {"otlp-relay.1", "otlp-relay-point.1", "mockcollector.1"} <= pages.keys()
    assert all("\b" not in text for text in pages.values())
    groff = shutil.which("groff")
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
        if groff:
            done = subprocess.run(
                [groff, "-K", "utf8", "-man", "-ww", "-T", "utf8", "-z", str(tmp_path / name)],
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stderr == ""
