"""A Debian that boots: copy of the cached root → systemd-nspawn → commands inside, files beside.

The machine shares the loopback of the tests and nothing else of the host: `scripts/test-systemd`
gave both a network namespace of their own. There is no machined to ask for a shell, so commands
enter the namespaces of its process 1. Its files are a folder here: tests read and write them there.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.relay_process import eventually

BOOT_SECONDS = 60.0
COMMAND_SECONDS = 120.0
NAME = "relay-test"
INSIDE = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}


class Machine:
    """One booted Debian. A context manager: off, and its files gone, when it is left."""

    def __init__(self, root: Path, folder: Path) -> None:
        """`root` is the cached one, `folder` what is made for this machine."""
        self.root = folder / "root"
        self._cached = root
        self._folder = folder
        self._console = folder / "console"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0  # its process 1, as we number it

    def __enter__(self) -> Self:
        self._folder.mkdir()
        copy = ["cp", "--archive", "--reflink=auto", str(self._cached), str(self.root)]
        subprocess.run(copy, check=True)
        self.path("/etc/hostname").write_text(f"{NAME}\n")
        self.path("/etc/hosts").write_text(f"127.0.0.1 localhost {NAME}\n::1 localhost\n")
        (self._folder / "shared").mkdir()
        try:
            return self.boot()
        except BaseException:
            self._end()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def boot(self) -> Self:
        """Boot it and wait until nothing is starting any more."""
        command = [
            "systemd-nspawn",
            f"--directory={self.root}",
            # Neither machined nor a systemd of the host takes part.
            "--register=no",
            "--keep-unit",
            "--boot",
            "--console=pipe",
            f"--machine={NAME}",
            f"--bind-ro={self.shared}:/shared",
        ]
        in_cgroups = 'for d in $CGROUPS; do echo $$ > "$d/cgroup.procs"; done; exec "$@"'
        with self._console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                ["sh", "-euc", in_cgroups, "sh", *command],
                env={**os.environ, "CGROUPS": " ".join(map(str, make_cgroups(self._folder)))},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        eventually(self._has_booted, seconds=BOOT_SECONDS, what=f"the boot; {self.console()}")
        return self

    @property
    def shared(self) -> Path:
        """A folder that it sees as /shared."""
        return self._folder / "shared"

    def run(
        self, *command: str, check: bool = True, user: str | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root or `user`; with `check` it has to end with 0."""
        as_user = ["sudo", f"--user={user}", "--set-home"] if user else []
        variables = [f"{name}={value}" for name, value in {**INSIDE, **environ}.items()]
        done = subprocess.run(
            ["nsenter", f"--target={self._init}", "--all", "--root", "--wd",
             "/usr/bin/env", "--ignore-environment", *variables, *as_user, *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=COMMAND_SECONDS,
        )  # fmt: skip
        if check and done.returncode != 0:
            shown = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{shown}")
        return done

    def sh(self, script: str) -> str:
        """What a shell script prints; it has to end with 0."""
        return self.run("sh", "-euc", script).stdout

    def path(self, inside: str) -> Path:
        """Where a file of the machine lies for us."""
        return self.root / inside.lstrip("/")

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def journal(self, unit: str, *more: str) -> list[dict[str, Any]]:
        """The journal's entries of a unit, with all their fields."""
        lines = self.run("journalctl", "--output=json", f"--unit={unit}", *more).stdout
        return [json.loads(line) for line in lines.splitlines()]

    def journal_text(self, unit: str) -> str:
        """The same as a person reads it."""
        return self.run("journalctl", "--no-pager", f"--unit={unit}").stdout

    def console(self) -> str:
        """The end of what it wrote on its console."""
        return self._console.read_text(errors="replace")[-3000:] if self._console.exists() else ""

    def _has_booted(self) -> bool:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise AssertionError(f"it did not boot: {self.console()}")
        self._init = self._find_init()
        if not self._init:
            return False
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def _find_init(self) -> int:
        assert self._nspawn is not None
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in map(int, children):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return child
        return 0

    def _end(self) -> None:
        """By process ids, at once: there is nothing in it to save."""
        if self._nspawn is not None and self._nspawn.poll() is None:
            init = self._find_init()
            with contextlib.suppress(ProcessLookupError):
                # With its process 1 all of a process namespace ends.
                os.kill(init or self._nspawn.pid, signal.SIGKILL)
            try:
                self._nspawn.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def make_cgroups(folder: Path) -> list[Path]:
    """Control groups of its own, in each hierarchy that systemd uses: nspawn divides the one that
    it is started in. `scripts/test-systemd` knows them by the name of the run and removes them.
    """
    made = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, name, ours = line.split(":", 2)
        if number != "0" and name != "name=systemd":
            continue  # a version 1 controller: nspawn leaves those alone
        mounts = ("unified", "") if number == "0" else ("systemd",)
        root = next(
            found
            for mount in mounts
            if (found := Path("/sys/fs/cgroup") / mount / "cgroup.procs").exists()
        ).parent
        group = root / ours.lstrip("/") / f"otlp-relay-{folder.parent.name}-{folder.name}"
        group.mkdir(exist_ok=True)
        made.append(group)
    return made


def installed(machine: Machine, deb: Path) -> str:
    """Install a package in it, as a user does. What apt said."""
    shutil.copyfile(deb, machine.shared / deb.name)
    (machine.shared / deb.name).chmod(0o644)
    done = machine.run("apt-get", "install", "--quiet", "--yes", f"/shared/{deb.name}")
    return done.stdout + done.stderr
