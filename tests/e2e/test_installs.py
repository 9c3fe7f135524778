"""The wheel, installed as people do: pip, pipx and uvx. What it carries works from there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.environments import ENVIRON, environment
from tests.support.relay_process import Relay

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "scripts" / "requirements.lock"
ASKED = (
    (("--version",), "otlp-relay"),
    (("config", "example"), "#max_batch_bytes"),
    (("destination", "presets"), "honeycomb"),
    (("point", "claude-code"), "OTEL_EXPORTER_OTLP_ENDPOINT"),
    (("completion", "bash"), "_otlp_relay_completion"),
    (("serve", "--help"), "Run the daemon"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make wheel`, into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [str(ROOT / ".venv/bin/python"), "-m", "hatchling", "build", "--target", "wheel",
         "--directory", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Somebody with an empty home, who gets the versions that are tested here."""
    versions = tmp_path / "constraints.txt"
    entries = re.findall(r"(?m)^([a-z][^\s\\]*==[^\\\n]*)", LOCK.read_text())
    versions.write_text("\n".join(entries) + "\n")
    (tmp_path / "home").mkdir()
    return ENVIRON | {
        "HOME": str(tmp_path / "home"),
        "PIP_CONSTRAINT": str(versions),
        "UV_CONSTRAINT": str(versions),
        "UV_SYSTEM_CERTS": "true",
    }


def check(command: list[str], environ: dict[str, str], folder: Path) -> None:
    """Everything that is in the wheel as a file is found by what was installed."""
    for words, expected in ASKED:
        done = subprocess.run(
            [*command, *words], env=environ, cwd=folder, capture_output=True, text=True,
            timeout=150, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        assert expected in done.stdout, words


def test_pip_installs_the_wheel_with_all_that_it_carries(
    tmp_path: Path, relay_command: tuple[str, ...]
) -> None:
    check(list(relay_command), ENVIRON, tmp_path)
    with Relay(tmp_path, executable=relay_command) as relay:
        told = relay.run("send-test-trace")
        status, page = relay.ask("GET", "/", parse=False)
        found = set(re.findall(r'(?:src|href)="(/[^"#]+\.(?:js|css|svg))"', str(page)))
        answers = {path: relay.ask("GET", path, parse=False)[0] for path in found}

    assert "kept       row 1" in told.stdout
    assert status == 200
    assert len(found) > 2
    assert set(answers.values()) == {200}


def test_pipx_installs_the_wheel(tmp_path: Path, wheel: Path, environ: dict[str, str]) -> None:
    pipx = environment("tools") / "bin" / "pipx"
    places = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    done = subprocess.run(
        [str(pipx), "install", str(wheel)], env=environ | places, capture_output=True, text=True,
        timeout=150, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    check([str(tmp_path / "bin" / "otlp-relay")], environ, tmp_path)


def test_uvx_runs_the_wheel(tmp_path: Path, wheel: Path, environ: dict[str, str]) -> None:
    uvx = environment("tools") / "bin" / "uvx"
    python = os.path.realpath(shutil.which("python3") or "python3")

    check([str(uvx), "--quiet", "--python", python, "--from", str(wheel), "otlp-relay"],
          environ, tmp_path)  # fmt: skip
