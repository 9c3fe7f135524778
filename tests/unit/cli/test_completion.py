"""What completes commands is a script that its shell reads, and it finds commands and names."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relay.cli.config import EXAMPLE
from tests.support.commands import run_here

BIN = Path(sys.executable).parent


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_is_one_of_its_shell(shell: str) -> None:
    done = run_here(["completion", shell], {})

    assert done.returncode == 0
    assert f"_OTLP_RELAY_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("otlp-relay se", {"serve", "send-test-trace"}),
        ("otlp-relay point claude", {"claude-code"}),
        ("otlp-relay destination li", {"list"}),
    ],
)
def test_commands_and_names_are_completed(words: str, expected: set[str]) -> None:
    script = run_here(["completion", "bash"], {}).stdout
    asked = f"""{script}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_otlp_relay_completion otlp-relay; printf '%s\\n' "${{COMPREPLY[@]}}" """
    environ = {"PATH": f"{BIN}:{os.environ['PATH']}"}

    done = subprocess.run(
        ["bash", "-c", asked], env=environ, capture_output=True, text=True, check=True
    )

    assert set(done.stdout.split()) == expected


def test_example_is_printed_as_it_is() -> None:
    assert run_here(["config", "example"], {}).stdout == EXAMPLE.read_text()
