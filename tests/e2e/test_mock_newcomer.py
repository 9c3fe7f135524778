"""docs/mockcollector-start.md, typed word for word in an empty folder: files and commands."""

import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.sender_builds import ENVIRON, require

pytestmark = pytest.mark.e2e

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "mockcollector-start.md"
# Of CPU, which a busy machine does not change; Go compiles an exporter with all it needs.
MOST_CPU_SECONDS: Final = {"Python": 60, "Node.js and Go": 120}
SAID: Final = {
    "Python": (r"1 passed", r"\d+ of \d+ passed, \d+ MUST failed"),
    "Node.js and Go": (r"(?m)^\S+ pass 1$", r"(?m)^ok\s+shop\s"),
}
BLOCK: Final = re.compile(r"(?:`([\w.]+)`[^`]*)?```(\w+)\n(.*?)```", re.DOTALL)


def script_of(section: str) -> str:
    """The section as a shell script; what is started in the background ends with it."""
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for name, language, text in BLOCK.findall(section):
        if language == "sh":
            # The pip of this checkout's Python, and the collector of this checkout.
            lines.append(text.replace("./mockcollector", f"{ROOT}/mockcollector"))
        else:
            assert name, f"a block of {language} without the name of its file"
            lines.append(f"cat > {name} <<'END'\n{text}END\n")
    return "\n".join(lines)


@pytest.mark.timeout(900, method="signal", func_only=True)
def test_newcomer_gets_to_a_first_test_and_card_by_the_document_alone(tmp_path: Path) -> None:
    require("test from Node.js", "npm", "node")
    require("test from Go", "go")
    _, *parts = DOCUMENT.read_text().split("\n## ")
    sections = {title: text for title, _, text in (part.partition("\n") for part in parts)}
    assert sections.keys() == MOST_CPU_SECONDS.keys()
    head = f'python3() {{ {sys.executable} "$@"; }}\n'
    for title, section in sections.items():
        again = "" if title == "Python" else ". .venv/bin/activate\n"
        began, before = time.monotonic(), children_seconds()
        ran = subprocess.run(
            ["bash", "-c", head + again + script_of(section)],
            cwd=tmp_path,
            env=ENVIRON,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{title}\n{ran.stdout[-4000:]}"
        cpu = children_seconds() - before
        print(f"{title}: {time.monotonic() - began:.0f} s, {cpu:.0f} s of CPU")
        assert cpu < MOST_CPU_SECONDS[title]
        for words in SAID[title]:
            assert re.search(words, ran.stdout), f"{title}: no {words}\n{ran.stdout[-4000:]}"


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
