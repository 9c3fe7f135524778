"""docs/architecture.md: the picture is what the code imports, and the table names every room."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import architecture
from scripts.architecture import DOCUMENT, arrows, level_of, levels, reduced, room_of


def rooms_of_the_table() -> list[str]:
    section = DOCUMENT.read_text().split("\n## The rooms\n")[1].split("\n## ")[0]
    return re.findall(r"(?m)^\| `([\w.]+)` \|", section)


def test_picture_is_what_the_code_imports() -> None:
    script = Path(architecture.__file__)

    check = subprocess.run([sys.executable, script, "--check"], check=False, capture_output=True)

    assert check.returncode == 0, check.stderr.decode()


def test_check_fails_for_a_stale_picture_and_writing_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "architecture.md"
    stale.write_text(DOCUMENT.read_text().replace("  cli --> daemon\n", ""))
    monkeypatch.setattr(architecture, "DOCUMENT", stale)

    monkeypatch.setattr(sys, "argv", ["architecture.py", "--check"])
    assert architecture.main() == 1
    assert "make architecture" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["architecture.py"])
    assert architecture.main() == 0
    assert stale.read_text() == DOCUMENT.read_text()


def test_table_names_every_room_from_the_top_level_down() -> None:
    known = levels()
    rooms = {room_of(module) for module in architecture.modules()}
    named = rooms_of_the_table()

    assert sorted(named) == sorted(room.removeprefix("relay.") for room in rooms)
    heights = [level_of(f"relay.{room}", known) for room in named]
    assert heights == sorted(heights, reverse=True)


def test_arrow_that_others_imply_is_left_out() -> None:
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set[str]()}

    assert reduced(graph) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_arrows_of_a_circle_all_stay() -> None:
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": {"b"}}

    assert reduced(graph) == graph


def test_picture_leaves_no_room_out() -> None:
    order = arrows()

    kept = reduced(order)

    for room, targets in order.items():
        assert targets <= architecture.reachable(room, kept)
