"""The mock collector's own tests beside the oldest packages that it takes, and beside the newest.

usage: scripts/mock_floors.py [oldest] [newest] [-- PYTEST ARGUMENTS]

For each end it makes an environment in `~/.cache/otlp-relay/mock/` with the wheel built from
`mockcollector/`, without the relay, and runs `tests/unit/mockcollector` from a copy, so that
nothing is imported from this checkout. Exits with the first failure.
"""

import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = Path.home() / ".cache" / "otlp-relay" / "mock"
TOOLS = ["pytest>=8.4", "pytest-timeout", "hypothesis", "cryptography", "googleapis-common-protos"]
# The exporter of the documents' examples pins the classes that it was built with.
EXPORTER = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
COPIED = (
    "tests/unit/mockcollector",
    "tests/support",
    "tests/fixtures",
    "docs",
    "mockcollector/README.md",
    "tests/conftest.py",
)


def main() -> None:
    """Both ends, or the ones named."""
    ends, _, options = " ".join(sys.argv[1:]).partition("--")
    for end in ends.split() or ["oldest", "newest"]:
        print(f"== the mock collector beside its {end} packages", flush=True)
        folder = HOME / end
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        wheel = build(folder)
        python = install(folder, wheel, is_oldest=end == "oldest")
        test(folder, python, options.split())


def build(folder: Path) -> Path:
    """The wheel of this checkout."""
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")],
        folder=ROOT / "mockcollector")  # fmt: skip
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def install(folder: Path, wheel: Path, *, is_oldest: bool) -> Path:
    """The Python of an environment with the wheel at the floors of its pyproject, or above."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    pins: list[str] = []
    if is_oldest:
        declared = tomllib.loads((ROOT / "mockcollector" / "pyproject.toml").read_text())
        for line in declared["project"]["dependencies"]:
            name, _, rest = line.partition(";")[0].partition(">=")
            floor = rest.partition(",")[0].strip()
            pins.append(
                f"{name.strip()}=={floor}{'.*' if name.strip() != 'backports.zstd' else '.0'}"
            )
        pins += [f"{name}==1.20.*" for name in EXPORTER]
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins))
    run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--constraint", str(constraints), str(wheel), *TOOLS, *EXPORTER])  # fmt: skip
    return python


def test(folder: Path, python: Path, options: list[str]) -> None:
    """The tests from a copy, in which there is no `mockcollector` but the installed one."""
    here = folder / "checkout"
    for name in COPIED:
        source, target = ROOT / name, here / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    (here / "pytest.ini").write_text(
        "[pytest]\npythonpath = .\naddopts = --import-mode=importlib -ra\ntimeout = 180\n"
    )
    run([str(python), "-m", "pytest", "tests/unit/mockcollector", "-q", *options], folder=here)


def run(command: list[str], *, folder: Path | None = None) -> None:
    """Run it; a failure ends this, too."""
    done = subprocess.run(command, cwd=folder, check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
