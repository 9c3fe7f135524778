"""Commands find the configuration of a relay that runs; what is dead or foreign does not count."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from relay.config.running import announced, folder_of, running

HELD = """
import os, signal, sys
from pathlib import Path
from relay.config.running import announced
with announced(Path(sys.argv[1]), os.environ):
    print("announced", flush=True)
    signal.pause()
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "PATH": os.environ["PATH"]}


def test_found_while_it_runs_and_not_after(environ: dict[str, str]) -> None:
    source = Path("/etc/somewhere/relay.toml")
    with announced(source, environ):
        assert running(environ) == [source]
        assert running(environ) == [source]  # to look removes nothing

    assert running(environ) == []
    assert list(Path(environ["XDG_RUNTIME_DIR"], "otlp-relay").iterdir()) == []


def test_relay_whose_file_is_where_commands_look_anyway_leaves_nothing(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """The service has a home of its own too, its state directory: nothing is added to it."""
    environ["XDG_CONFIG_HOME"] = str(tmp_path / "own")
    own = tmp_path / "own" / "otlp-relay" / "relay.toml"
    for source in (Path("/etc/otlp-relay/relay.toml"), own):
        with announced(source, environ):
            assert running(environ) == []
            assert not Path(environ["XDG_RUNTIME_DIR"]).exists()


def test_killed_relay_is_forgotten(environ: dict[str, str]) -> None:
    command = [sys.executable, "-c", HELD, "/somewhere/relay.toml"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"announced\n"
        assert running(environ) == [Path("/somewhere/relay.toml")]
        process.send_signal(signal.SIGKILL)
        process.wait()

    folder = Path(environ["XDG_RUNTIME_DIR"], "otlp-relay")
    assert len(list(folder.iterdir())) == 1
    assert running(environ) == []
    assert list(folder.iterdir()) == []


def test_links_and_other_files_are_not_followed(environ: dict[str, str], tmp_path: Path) -> None:
    folder = folder_of(environ)
    assert folder is not None
    folder.mkdir(parents=True)
    target = tmp_path / "precious"
    target.write_text("/somewhere/relay.toml")
    (folder / "123").symlink_to(target)
    (folder / "notes").write_text("/somewhere/relay.toml")

    assert running(environ) == []
    assert target.exists()
    assert (folder / "notes").exists()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_RUNTIME_DIR": "/r", "HOME": "/h"}, "/r/otlp-relay"),
        ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c/otlp-relay/running"),
        ({"XDG_RUNTIME_DIR": "relative", "HOME": "/h"}, "/h/.cache/otlp-relay/running"),
    ],
)
def test_folder(environ: dict[str, str], expected: str) -> None:
    assert folder_of(environ) == Path(expected)


def test_relay_runs_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for environ in ({}, {"HOME": str(tmp_path / "file")}):
        with announced(Path("/somewhere/relay.toml"), environ):
            assert running(environ) == []
