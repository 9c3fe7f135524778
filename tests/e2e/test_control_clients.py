"""Tests in other languages use the control API with what their language brings along."""

import subprocess
from pathlib import Path

import pytest

from mockcollector import MockCollector
from tests.e2e.sender_builds import ENVIRON, require

pytestmark = pytest.mark.e2e
CLIENTS = Path(__file__).parent / "clients"
COMMANDS = {"node": ("node", "client.mjs"), "go": ("go", "run", "client.go")}


@pytest.mark.parametrize("language", COMMANDS)
def test_client_makes_a_session_sends_and_asks(language: str) -> None:
    command = COMMANDS[language]
    require(f"run the {language} client", command[0])
    with MockCollector(control_port=0) as collector:
        ran = subprocess.run(
            [*command, collector.control_url],
            cwd=CLIENTS,
            env=ENVIRON,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "done\n"
