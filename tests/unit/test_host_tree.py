"""The configuration of a packaged service is made from the example, which changes now and then."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_packaged_configuration_sets_the_folders_of_the_service() -> None:
    made = subprocess.run(
        [sys.executable, "-c", "import host_tree; print(host_tree.packaged_config())"],
        cwd=ROOT / "scripts",
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr

    assert tomllib.loads(made.stdout) == {
        "state_dir": "/var/lib/otlp-relay",
        "destinations_dir": "/var/lib/otlp-relay/destinations.d",
    }
