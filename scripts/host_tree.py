"""From this checkout to the tree of files that a host gets: `make install` and `make deb` use it.

::

    PREFIX/lib/python3.X/site-packages   what the lock names for the wheel and for a fleet, hashes
                                         checked, and it; the native pass, where cargo builds it
    PREFIX/bin/python3.X, pyvenv.cfg     an environment of the host's own Python, as `venv` makes it
    PREFIX/bin/otlp-relay, mockcollector launchers that say so when that Python is gone
    PREFIX/doc                           docs/operations.md, the licence, the example configuration

The environment is bound to the minor version of the Python that it is made with. Nothing in it
names a path of the machine it was made on. Run this with the Python of `.venv`, which has the build
backend; `--python` is the one that will run it.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import native_pass
from wheel import build_wheels, needed

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {"otlp-relay": "relay.cli", "mockcollector": "mockcollector.cli"}
# Below these the service cannot look (ProtectHome=), so a Python there could not run it.
HIDDEN_FROM_SERVICE = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108
EXTRA = "fleet"  # nobody can add a package to what lies in /opt
DOCUMENTS = ("docs/operations.md", "docs/configuration.md", "LICENSE", "CHANGELOG.md")

LAUNCHER = """\
#!/bin/sh
# {command}, for the Python that its packages were built for. --isolated: neither PYTHONPATH nor the
# working directory decides what is imported.
python={prefix}/bin/python{minor}
if [ ! -x "$python" ]; then
  echo "{command}: it was installed for Python {minor}, and {executable} is gone." >&2
  echo "Install Python {minor} again, or otlp-relay anew for the Python of this host." >&2
  exit 2 # as a wrong configuration: systemd does not try again
fi
exec "$python" -I {prefix}/libexec/{command} "$@"
"""
MAIN = """\
# What {prefix}/bin/{command} runs.
from {module} import main

if __name__ == "__main__":  # not in a process that multiprocessing spawns
    main(prog_name="{command}")
"""
PACKAGED_HEAD = """\
# otlp-relay: every option with its default. Take the # away where you want something else, then
# `sudo -u otlp-relay otlp-relay check-config` and `sudo systemctl reload otlp-relay`.
# /opt/otlp-relay/doc explains each option.
"""
PACKAGED_LINES = {
    '#state_dir = "/var/lib/otlp-relay"\n': 'state_dir = "/var/lib/otlp-relay"\n',
    """\
# One destination in each file NAME.toml; beside this file by default.
#destinations_dir = "destinations.d"
""": """\
# One destination in each file NAME.toml: `otlp-relay destination add` saves them here. Beside this
# file, which is the default elsewhere, the service must not write.
destinations_dir = "/var/lib/otlp-relay/destinations.d"
""",
}


class HostPython(NamedTuple):
    """The Python that will run what is installed."""

    executable: Path  # with its minor version: the plain name may become another
    version: str

    @property
    def minor(self) -> str:
        """Such as 3.11."""
        return ".".join(self.version.split(".")[:2])


def main() -> None:
    """Make the tree below --destination."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--prefix", type=Path, default=Path("/opt/otlp-relay"))
    parser.add_argument("--destination", type=Path, required=True, help="stands for / of the host")
    options = parser.parse_args()
    make(host_python(options.python), options.prefix, options.destination)


def host_python(named: str) -> HostPython:
    """Look at the Python that was named; exit with what to do when it cannot serve."""
    found = shutil.which(named)
    if found is None:
        sys.exit(f"there is no {named}. Debian: apt install python3 python3-venv")
    ask = "import os,sys,platform;print(os.path.realpath(sys.executable));"
    ask += "print(platform.python_version())"
    executable, version = run([found, "-I", "-c", ask], capture=True).split()
    if not executable.startswith("/") or executable.startswith(HIDDEN_FROM_SERVICE):
        sys.exit(
            f"{named} is {executable}, which the service's sandbox does not see.\n"
            "Name one of the host: HOST_PYTHON=/usr/bin/python3"
        )
    python = HostPython(Path(executable), version)
    if tuple(map(int, python.minor.split("."))) < (3, 11):
        sys.exit(f"otlp-relay needs Python 3.11 or newer; {named} is {version}.")
    return python


def make(python: HostPython, prefix: Path, destination: Path) -> None:
    """The tree for `python` at `prefix`, below `destination`."""
    home = destination / prefix.relative_to("/")
    packages = home / "lib" / f"python{python.minor}" / "site-packages"
    packages.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        install_packages(python, packages, Path(scratch))
    tidy(packages)
    make_environment(python, prefix, home)
    doc = home / "doc"
    doc.mkdir()
    for name in DOCUMENTS:
        shutil.copyfile(ROOT / name, doc / Path(name).name)
    (doc / "relay.toml").write_text(packaged_config())
    compile_all(python, home, destination)
    set_modes(home)
    refuse_traces_of_this_machine(home, [str(ROOT), str(destination), scratch])


def install_packages(python: HostPython, packages: Path, scratch: Path) -> None:
    """The wheel and what it needs, with the pip of that very Python, into `packages`."""
    dist = scratch / "dist"
    dist.mkdir()
    wheel, _ = build_wheels(dist)
    tools = scratch / "tools"
    try:
        run([str(python.executable), "-m", "venv", str(tools)])
    except subprocess.CalledProcessError:
        sys.exit(f"{python.executable} has no venv. Debian: apt install python3-venv")
    pip = [str(tools / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    requirements = scratch / "requirements.txt"
    requirements.write_text("\n".join(needed(pip, wheel, scratch, EXTRA)))
    into = [*pip, "install", "--quiet", "--no-deps", "--no-compile", "--target", str(packages)]
    run([*into, "--require-hashes", "--only-binary=:all:", "--requirement", str(requirements)])
    shutil.rmtree(packages / "bin", ignore_errors=True)  # else pip warns that it is there
    # By its name, not by its path: pip would keep the path (direct_url.json).
    run([*into, "--no-index", "--find-links", str(dist), "otlp-relay", "mockcollector"])
    try:
        built = native_pass.wheel().parent
        run([*into, "--no-index", "--find-links", str(built), native_pass.NAME])
    except native_pass.NotBuilt as reason:
        print(f"without the native pass: {reason}", file=sys.stderr)


def tidy(packages: Path) -> None:
    """Take away the scripts, whose first line names the build, and their entries in RECORD."""
    shutil.rmtree(packages / "bin", ignore_errors=True)
    for record in packages.glob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(("../../bin/", "bin/"))]
        record.write_text("".join(kept))


def make_environment(python: HostPython, prefix: Path, home: Path) -> None:
    """What makes `home` a virtual environment of the host's Python, and the launchers."""
    # As `venv` writes it; that would write the paths of this build.
    (home / "pyvenv.cfg").write_text(
        f"home = {python.executable.parent}\n"
        "include-system-site-packages = false\n"
        f"version = {python.version}\n"
    )
    (home / "bin").mkdir()
    (home / "libexec").mkdir()
    (home / "bin" / f"python{python.minor}").symlink_to(python.executable)
    values = {"prefix": prefix, "minor": python.minor, "executable": python.executable}
    for command, module in COMMANDS.items():
        launcher = home / "bin" / command
        launcher.write_text(LAUNCHER.format(command=command, **values))
        code = home / "libexec" / command
        code.write_text(MAIN.format(command=command, module=module, prefix=prefix))


def packaged_config() -> str:
    """The example, with what a service of the host needs: its folders, and how it is changed."""
    text = (ROOT / "relay" / "config" / "example.toml").read_text()
    head, _, options = text.partition("#\n# Lines ")
    if "Copy to /etc/otlp-relay/relay.toml" not in head:
        sys.exit("relay/config/example.toml has changed: its first lines are not those known here")
    text = f"{PACKAGED_HEAD}#\n# Lines {options}"
    for old, new in PACKAGED_LINES.items():
        if text.count(old) != 1:
            sys.exit(f"relay/config/example.toml has changed: it no longer has\n{old}")
        text = text.replace(old, new)
    return text


def compile_all(python: HostPython, home: Path, destination: Path) -> None:
    """Byte code beside each module: the service's user could not write it.

    It counts as true for what lies beside it, whatever the times of the files: nobody edits those.
    """
    run([str(python.executable), "-I", "-m", "compileall", "-q", "-j", "0", "-s", str(destination),
         "-p", "/", "--invalidation-mode", "unchecked-hash", str(home / "lib")])  # fmt: skip


def set_modes(home: Path) -> None:
    """Readable by all, writable by root, whatever the umask was."""
    for path in [home, *home.rglob("*")]:
        if path.is_symlink():
            continue
        is_run = path.is_dir() or path.suffix == ".so" or path.parent == home / "bin"
        path.chmod(0o755 if is_run else 0o644)


def refuse_traces_of_this_machine(home: Path, traces: list[str]) -> None:
    """Exit when a file names a path of this build: it would be wrong on every other host."""
    wanted = [trace.encode() for trace in traces if len(trace) > 1]
    found = [
        f"{path.relative_to(home)}: {trace.decode()}"
        for path in home.rglob("*")
        if path.is_file() and not path.is_symlink()
        for trace in wanted
        if trace in path.read_bytes()
    ]
    if found:
        sys.exit("paths of this machine are in the tree:\n  " + "\n  ".join(found[:10]))


def run(command: list[str], *, capture: bool = False, folder: Path | None = None) -> str:
    """Run it, in `folder`; what it writes is for people unless it is captured."""
    out = subprocess.PIPE if capture else sys.stderr
    done = subprocess.run(command, check=True, stdout=out, text=True, cwd=folder)
    return done.stdout if capture else ""


if __name__ == "__main__":
    main()
