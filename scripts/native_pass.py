"""Builds the native pass (`native/`) and installs it into .venv; `make native`, `run` and `test`.

The wheel lies in `~/.cache/otlp-relay/native/`, named by a hash of all that went into it: what was
built once costs nothing again, in any checkout. Without cargo, or with `--optional` when the build
fails, the relay works all the same: one line says so. Run it with the Python of `.venv`.
"""

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "native"
HOME = Path.home() / ".cache" / "otlp-relay" / "native"
UNUSED_SECONDS = 30 * 24 * 3600
NAME = "otlp-relay-native"


class NotBuilt(Exception):
    """Why there is no wheel."""


def main() -> None:
    """Have it in .venv, as the sources here are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--optional", action="store_true", help="go on when it cannot be built")
    options = parser.parse_args()
    if options.optional and os.environ.get("RELAY_PURE") == "1":
        print("native pass: turned off by RELAY_PURE=1")
        return
    stamp = Path(sys.prefix) / "native"
    try:
        made = wheel()
    except NotBuilt as reason:
        # One that was built from other sources would not be what is tested.
        if stamp.exists():
            pip("uninstall", "--yes", NAME)
            stamp.unlink()
        print(f"native pass: {reason}; the relay runs without it, several times slower")
        sys.exit(0 if options.optional else 1)
    if not stamp.exists() or stamp.read_text() != str(made):
        pip("install", "--no-deps", "--no-index", "--force-reinstall", str(made))
        stamp.write_text(str(made))
    print(f"native pass: in {Path(sys.prefix).name} ({made.parent.name})")


def wheel() -> Path:
    """The wheel of this checkout, built unless it is there. Raises NotBuilt."""
    folder = HOME / key()
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not list(folder.glob("*.whl")):
            build(folder)
        folder.touch()
        remove_unused()
    return next(folder.glob("*.whl"))


def key() -> str:
    """What the result depends on: the sources, the recipe, the compiler, the machine."""
    compiler = ""
    if shutil.which("cargo"):
        compiler = subprocess.run(
            ["cargo", "--version"], capture_output=True, text=True, check=False, cwd=SOURCES
        ).stdout
    known = hashlib.sha256(f"{compiler}\n{platform.machine()}".encode())
    files = [path for path in SOURCES.rglob("*") if path.is_file()]
    for file in sorted([*files, Path(__file__)]):
        if not {"target", "tests"} & set(file.relative_to(ROOT).parts):
            known.update(f"\n{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return known.hexdigest()[:16]


def build(folder: Path) -> None:
    """Build it with maturin and cargo, from the crates that Cargo.lock names."""
    if not shutil.which("cargo"):
        raise NotBuilt("cargo is not here (https://rustup.rs)")
    print("native pass: building it, once …", flush=True)
    made = folder.with_suffix(".new")
    shutil.rmtree(made, ignore_errors=True)
    # No path of this machine is in what is built.
    cargo_home = os.environ.get("CARGO_HOME", Path.home() / ".cargo")
    flags = [f"--remap-path-prefix={cargo_home}=cargo", f"--remap-path-prefix={ROOT}=."]
    environ = os.environ | {
        "CARGO_TARGET_DIR": str(HOME / "target"),
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
    }
    command = [
        *(str(Path(sys.executable).parent / "maturin"), "build", "--release", "--locked"),
        *("--manifest-path", str(SOURCES / "Cargo.toml"), "--out", str(made)),
        *("--interpreter", sys.executable),
    ]
    built = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if built.returncode:
        log = HOME / "failed.log"
        log.write_text(built.stdout + built.stderr)
        raise NotBuilt(f"it could not be built ({log} says why)")
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)


def remove_unused() -> None:
    """Wheels of older sources."""
    for made in HOME.glob("*/*.whl"):
        if time.time() - made.parent.stat().st_mtime > UNUSED_SECONDS:
            shutil.rmtree(made.parent, ignore_errors=True)


def pip(*arguments: str) -> None:
    """Run pip in .venv, with nothing to say unless it fails."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
