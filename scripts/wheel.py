"""From this checkout to an installed wheel: prints the folder of a virtual environment that has it.

The environment holds the wheel and what it requires, at the versions and hashes of the lock, and
nothing for development: an import that `pyproject.toml` does not declare fails there. It lies in
`~/.cache/otlp-relay/wheel/`, named by a hash of all that went into it, and is used again as long
as that does not change. Run it with the Python of `.venv`, which has the build backend.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

from hatchling.build import build_wheel

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "scripts" / "requirements.lock"
HOME = Path.home() / ".cache" / "otlp-relay" / "wheel"
UNUSED_SECONDS = 24 * 3600
SINGLE_FILES = (
    "pyproject.toml",
    "mockcollector/pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "scripts/wheel.py",
)


def main() -> None:
    """Build and install unless it is there, and print where."""
    HOME.mkdir(parents=True, exist_ok=True)
    folder = HOME / key()
    with (HOME / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = folder / "installed"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            install(folder)
        done.touch()
        remove_unused()
    print(folder / "venv")


def key() -> str:
    """What the result depends on: the package's files, the lock, the Python."""
    known = hashlib.sha256(sys.version.encode() + sys.prefix.encode())
    files = [ROOT / name for name in SINGLE_FILES] + [LOCK]
    for package in ("relay", "mockcollector"):
        files += sorted(p for p in (ROOT / package).rglob("*") if p.is_file())
    for file in files:
        if "__pycache__" not in file.parts:
            known.update(f"\n{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return known.hexdigest()[:16]


def install(folder: Path) -> None:
    """Wheel, environment, the locked packages that the wheel asks for, the wheel itself."""
    print("building the wheel and installing it into an environment of its own …", file=sys.stderr)
    (folder / "dist").mkdir(parents=True)
    wheel, mock = build_wheels(folder / "dist")
    venv.create(folder / "venv", with_pip=True)
    pip = [str(folder / "venv" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(needed(pip, wheel, folder)))
    hashed = ["--require-hashes", "--only-binary=:all:", "--requirement", str(requirements)]
    run([*pip, "install", "--quiet", "--no-deps", *hashed])
    run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel), str(mock)])
    run([*pip, "check"])


def build_wheels(dist: Path) -> tuple[Path, Path]:
    """The relay's wheel and the mock collector's, which needs nothing that the first does not."""
    built = []
    for source in (ROOT, ROOT / "mockcollector"):
        os.chdir(source)
        built.append(dist / build_wheel(str(dist)))
    os.chdir(ROOT)
    return built[0], built[1]


def needed(pip: list[str], wheel: Path, folder: Path, extra: str = "") -> list[str]:
    """The entries of the lock for what the wheel requires here, directly or not.

    With `extra` also what that asks for.

    pip takes versions from a constraints file, but in its hash-checking mode wants every package
    named; so it is asked for the names first.
    """
    entries = {}
    for entry in LOCK.read_text().replace("\\\n", " ").splitlines():
        if "==" in entry:
            entries[canonical(entry.split("==")[0])] = entry
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(entry.split(" --hash")[0] for entry in entries.values()))
    report = folder / "report.json"
    asked = f"{wheel}[{extra}]" if extra else str(wheel)
    run([*pip, "install", "--quiet", "--dry-run", "--only-binary=:all:", "--report", str(report),
         "--constraint", str(constraints), asked])  # fmt: skip
    found = [item["metadata"]["name"] for item in json.loads(report.read_text())["install"]]
    names = {canonical(name) for name in found} - {"otlp-relay"}
    return [entries[name] for name in sorted(names)]


def canonical(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def remove_unused() -> None:
    """Environments of older states of the code, once no run can still be using them."""
    for done in HOME.glob("*/installed"):
        if time.time() - done.stat().st_mtime > UNUSED_SECONDS:
            shutil.rmtree(done.parent, ignore_errors=True)


def run(command: list[str]) -> None:
    """Run it; what it writes is for people, since our own output is the answer."""
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
