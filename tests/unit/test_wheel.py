"""What is read at run time is in the wheel: presets, senders, the page, the example settings."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files in the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    with zipfile.ZipFile(folder / done.stdout.split()[-1]) as wheel:
        return set(wheel.namelist())


def test_every_file_of_the_package_is_in_the_wheel(names: set[str]) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "relay").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert wanted <= names


@pytest.mark.parametrize(
    "name",
    [
        "relay/config/example.toml",
        "relay/config/presets/honeycomb.toml",
        "relay/cli/senders/claude-code.toml",
        "relay/page/static/page.css",
        "relay/page/templates/flow.html",
        "relay/py.typed",
    ],
)
def test_wheel_has_what_is_read_at_run_time(names: set[str], name: str) -> None:
    assert name in names


def test_wheel_has_nothing_that_is_not_the_programs(names: set[str]) -> None:
    tops = {name.split("/")[0].partition("-")[0] for name in names}

    assert tops <= {"relay", "mockcollector", "otlp_relay"}
