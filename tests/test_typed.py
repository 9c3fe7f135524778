"""What a newcomer is told to type works as it stands, against a relay that `make run` started.

Every `sh` block of the documents below is run word for word, in the order of the page, in a copy of
the checkout without its history, with a home and a network of its own. A block that cannot be run
here says so, with its reason, in a comment before it: `<!-- not typed: … -->`.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "docs/quickstart.md", "docs/openrouter.md", "docs/install.md")
COPIED = (
    *("relay", "mockcollector", "native", "scripts", "docs", "Makefile", "pyproject.toml"),
    *("README.md", "CHANGELOG.md", "LICENSE"),
)
BLOCK = re.compile(r"(?ms)^(<!-- not typed: [^>]+ -->\n+)?```sh\n(.*?)^```")
READY = "Ctrl-C stops. See it in a browser:"
# An error of HTTP is none for curl, and none for a shell.
REFUSED = re.compile(r"(?m)^HTTP/1\.1 [45]")


def blocks_of(document: str) -> list[str]:
    """What is to be typed, without `make run`, which runs in another terminal."""
    found = [text for mark, text in BLOCK.findall((ROOT / document).read_text()) if not mark]
    return [re.sub(r"(?m)^make run\b.*\n", "", text) for text in found]


class Newcomer:
    """Somebody in a fresh clone: `make run` in one terminal, all else in another."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder / "otlp-relay", folder / "home"
        self.home.mkdir()
        self.folder.mkdir()
        for name in COPIED:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, self.folder / name)
        (self.folder / ".venv").symlink_to(ROOT / ".venv")
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8"}
        self.environ["RELAY_PURE"] = "1"  # .venv is everybody's: nothing is built into it here
        own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self.running = subprocess.Popen(
            ["unshare", *own_user, "--net", "sh", "-c", "ip link set lo up && exec make run"],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.printed = ""

    def wait_until_serving(self) -> None:
        """Read what `make run` prints up to its last line."""
        assert self.running.stdout is not None
        for line in self.running.stdout:
            self.printed += line
            if line.strip() == READY:
                return
        pytest.fail(f"make run ended:\n{self.printed}")

    def types(self, text: str) -> str:
        """What a shell prints for it."""
        own_user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        enter = ["nsenter", f"--target={self.running.pid}", *own_user, "--net", "--"]
        done = subprocess.run(
            [*enter, "bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{done.stdout}"
        assert REFUSED.search(done.stdout) is None, f"{text}\n{done.stdout}"
        return done.stdout

    def close(self) -> None:
        """Ctrl-C in the terminal of `make run`."""
        os.killpg(self.running.pid, signal.SIGINT)
        self.running.communicate(timeout=60)


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    found = Newcomer(tmp_path)
    try:
        found.wait_until_serving()
        yield found
    finally:
        found.close()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_blocks_work_as_typed(newcomer: Newcomer, document: str) -> None:
    blocks = blocks_of(document)
    assert blocks

    for block in blocks:
        newcomer.types(block)


def test_lines_that_make_run_prints_work_as_typed(newcomer: Newcomer) -> None:
    lines = [line.strip() for line in newcomer.printed.splitlines() if line.startswith("  ")]
    typed = [line for line in lines if line.startswith((".venv/bin/otlp-relay ", "export "))]
    assert len(typed) == 6

    shown = [newcomer.types(line) for line in typed]

    assert any("mock" in text and "idle" in text for text in shown)
    assert any("delivered" in text and "otlp-relay-test" in text for text in shown)


def test_only_what_is_for_who_watches_is_printed(newcomer: Newcomer) -> None:
    """What is logged is in the file that is named."""
    named = re.search(r"a line in (\S+)\.\n", newcomer.printed)
    assert named is not None
    logged = (newcomer.folder / named[1]).read_text()
    events = [line for line in logged.splitlines() if re.match(r"\S+ \[\w+ *\] ", line)]

    assert any("request_kept" in line for line in events)
    assert any("batch_delivered" in line for line in events)
    assert re.search(r"\[(debug|info) *\]", newcomer.printed) is None
    assert "from otlp-relay-test (" not in newcomer.printed  # the mock's line for a request


def test_other_relay_of_the_user_is_not_chosen_by_chance(newcomer: Newcomer) -> None:
    """With a configuration in its usual place, the printed lines name theirs."""
    folder = newcomer.home / ".config" / "otlp-relay"
    folder.mkdir(parents=True)
    (folder / "relay.toml").write_text('[admin]\nlisten = "127.0.0.1:4999"\n')

    command = ".venv/bin/otlp-relay status"

    assert "mock" in newcomer.types(f"{command} --config .otlp-relay/relay.toml")
    assert "no daemon" in newcomer.types(f"{command} 2>&1 || true")
