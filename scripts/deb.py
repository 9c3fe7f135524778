"""From this checkout to dist/otlp-relay_VERSION_ARCH.deb, for `apt install ./…deb`.

The same checkout makes the same bytes: times are those of the last commit (SOURCE_DATE_EPOCH), the
owner is root. The package holds its dependencies in an environment of Debian's own Python and is
bound to that one's minor version. Prints the path of what it made. Run it with the Python of
`.venv`; `--repack` needs none of it.
"""

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from host_tree import HostPython, host_python, make, run

ROOT = Path(__file__).resolve().parent.parent
PREFIX = Path("/opt/otlp-relay")
CONFIG = Path("etc/otlp-relay/relay.toml")
FILES = {
    "systemd/otlp-relay.service": "lib/systemd/system/otlp-relay.service",
    "systemd/otlp-relay.socket": "lib/systemd/system/otlp-relay.socket",
    "systemd/otlp-relay-user.service": "usr/lib/systemd/user/otlp-relay.service",
    "systemd/otlp-relay.sysusers": "usr/lib/sysusers.d/otlp-relay.conf",
    "LICENSE": "usr/share/doc/otlp-relay/copyright",
}
# Where each shell looks by itself for how a command is completed.
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/otlp-relay",
    "zsh": "usr/share/zsh/vendor-completions/_otlp-relay",
    "fish": "usr/share/fish/vendor_completions.d/otlp-relay.fish",
}
CONTROL = """\
Package: otlp-relay
Version: {version}
Architecture: {architecture}
Maintainer: the authors of otlp-relay <otlp-relay@localhost>
Section: net
Priority: optional
Installed-Size: {kib}
Depends: python3 (>= {minor}), python3 (<< {next_minor}), libc6 (>= {libc}), init-system-helpers
Recommends: ca-certificates
Description: relay daemon for OpenTelemetry spans
 It takes OTLP over HTTP on localhost:4318, keeps spans on disk before it answers 200, and delivers
 them with auth headers to one or more upstreams. The mock collector beside it is a strict receiver
 for tests.
"""


def main() -> None:
    """Build it, or give a built one another version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="/usr/bin/python3", help="Debian's own")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--version", help="instead of the one in relay/version.py")
    parser.add_argument("--tree", type=Path, help="what scripts/host_tree.py made, instead of anew")
    parser.add_argument("--repack", type=Path, help="take the contents of this .deb")
    options = parser.parse_args()
    version = debian_version(options.version or project_version())
    options.output.mkdir(parents=True, exist_ok=True)
    # One time for all files, and the same for the same commit.
    os.environ.setdefault("SOURCE_DATE_EPOCH", commit_time())
    with tempfile.TemporaryDirectory() as scratch:
        stage = Path(scratch) / "stage"
        if options.repack:
            run(["dpkg-deb", "--raw-extract", str(options.repack), str(stage)])
            control = stage / "DEBIAN" / "control"
            text = re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text())
            control.write_text(text)
        else:
            fill(stage, host_python(options.python), version, options.tree)
        print(pack(stage, options.output, version))


def fill(stage: Path, python: HostPython, version: str, tree: Path | None) -> None:
    """All that the package holds, and its control files."""
    if tree is None:
        stage.mkdir(mode=0o755)
        make(python, PREFIX, stage)
    else:
        shutil.copytree(tree, stage, symlinks=True)
    for source, target in FILES.items():
        put(ROOT / source, stage / target)
    put(stage / "opt/otlp-relay/doc/relay.toml", stage / CONFIG)
    (stage / CONFIG).chmod(0o640)
    (stage / CONFIG).parent.joinpath("credentials").mkdir(mode=0o700)
    commands = stage / "usr" / "bin"
    commands.mkdir(parents=True)
    for command in ("otlp-relay", "mockcollector"):
        (commands / command).symlink_to(PREFIX / "bin" / command)
    put_pages(stage)
    kib = sum(path.lstat().st_size for path in stage.rglob("*")) // 1024
    major, minor = python.minor.split(".")
    debian = stage / "DEBIAN"
    debian.mkdir()
    architecture = run(["dpkg", "--print-architecture"], capture=True).strip()
    (debian / "control").write_text(
        CONTROL.format(
            version=version,
            architecture=architecture,
            kib=kib,
            libc=libc(stage),
            minor=python.minor,
            next_minor=f"{major}.{int(minor) + 1}",
        )
    )
    (debian / "conffiles").write_text(f"/{CONFIG}\n")
    (debian / "md5sums").write_text(checksums(stage))
    for script in ("postinst", "prerm", "postrm"):
        put(ROOT / "systemd" / "deb" / script, debian / script)
        (debian / script).chmod(0o755)


def put_pages(stage: Path) -> None:
    """A man page for each command, and what completes them: as those of this checkout say."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        run([sys.executable, "-m", "scripts.command_pages", "--man", str(made)], folder=ROOT)
        for page in sorted(made.glob("*.1")):
            packed = page.with_suffix(".gz")
            packed.write_bytes(gzip.compress(page.read_bytes(), mtime=0))
            put(packed, stage / "usr/share/man/man1" / f"{page.name}.gz")
        for shell, target in COMPLETIONS.items():
            command = [sys.executable, "-m", "relay.cli", "completion", shell]
            text = run(command, capture=True, folder=ROOT)
            (made / shell).write_text(text)
            put(made / shell, stage / target)


def libc(stage: Path) -> str:
    """The oldest C library that all compiled modules run with; wheels of others want 2.28."""
    wanted = {(2, 28)}
    for module in stage.rglob("*.so"):
        found = re.findall(rb"GLIBC_(\d+)\.(\d+)", module.read_bytes())
        wanted |= {(int(major), int(minor)) for major, minor in found}
    return ".".join(map(str, max(wanted)))


def put(source: Path, target: Path) -> None:
    """A copy with the mode of a file that everybody may read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)


def checksums(stage: Path) -> str:
    """What `dpkg --verify` compares with. MD5 is the format's."""
    files = sorted(
        path
        for path in stage.rglob("*")
        if path.is_file() and not path.is_symlink() and "DEBIAN" not in path.parts
    )
    return "".join(
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  "
        f"{path.relative_to(stage)}\n"
        for path in files
        if path != stage / CONFIG
    )


def pack(stage: Path, output: Path, version: str) -> Path:
    """The .deb."""
    for folder in [stage, *(path for path in stage.rglob("*") if path.is_dir())]:
        if folder.name != "credentials":
            folder.chmod(0o755)
    architecture = run(["dpkg", "--print-architecture"], capture=True).strip()
    made = output / f"otlp-relay_{version}_{architecture}.deb"
    # zstd would be unknown to the dpkg of Debian 11; xz at 6 takes four times as long for a tenth.
    run(["dpkg-deb", "--root-owner-group", "-Zxz", "-z3", "--build", str(stage), str(made)])
    return made


def project_version() -> str:
    """The one in relay/version.py, read without importing."""
    found = re.search(r'__version__ = "(.+)"', (ROOT / "relay" / "version.py").read_text())
    if found is None:
        sys.exit("relay/version.py has no __version__")
    return found[1]


def debian_version(version: str) -> str:
    """1.0rc1 and 1.0.dev2 come before 1.0: Debian says that with a tilde."""
    return re.sub(r"\.?(a|b|rc|dev)(\d+)", r"~\1\2", version)


def commit_time() -> str:
    """Seconds since 1970 of the last commit; of the version's file where there is no git."""
    asked = subprocess.run(
        ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    fallback = str(int((ROOT / "relay" / "version.py").stat().st_mtime))
    return asked.stdout.strip() if asked.returncode == 0 else fallback


if __name__ == "__main__":
    main()
