"""The name of a recipe goes in; a virtual environment with what its lock names comes out.

Made once for each lock, under `~/.cache/otlp-relay/NAME`, from `recipes/NAME/requirements.lock`.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"
CACHE = Path.home() / ".cache" / "otlp-relay"
# As it was when the tests began: pip may need its own settings.
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}


def environment(name: str) -> Path:
    """The environment, made if it is not there. Raises CalledProcessError where pip fails."""
    lock = RECIPES / name / "requirements.lock"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = CACHE / name
    made = home / f"{version}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (made / "whole").exists():
            shutil.rmtree(made, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(made)], check=True, env=ENVIRON)
            # The lock is whole. Asked for what it depends on, pip looks for the newest of a package
            # that stands there with extras only, and misses its hash.
            subprocess.run(
                [str(made / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps",
                 "--disable-pip-version-check", "--require-hashes", "--only-binary=:all:",
                 "--requirement", str(lock)],
                check=True, env=ENVIRON,
            )  # fmt: skip
            (made / "whole").touch()
    return made
