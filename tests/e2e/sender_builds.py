"""A sender's name goes in; the command that starts its program comes out, built at first need.

::

    ~/.cache/otlp-relay/senders/
        go-5c0f1b9e3a7d2846/     a finished build, named by the hash of its recipe: used as it is
        building-go-x7k2p9/      one under way; it gets its name when it is whole
        go.lock                  held while one process builds, so that others wait for it

`python -m tests.e2e.sender_builds` builds all of them and prints how long each took.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent / "senders"
CACHE = Path.home() / ".cache" / "otlp-relay" / "senders"
STEP_SECONDS = 900
SHOWN_CHARACTERS = 3000
# As it was when pytest began: tests see an emptied environment, but npm and Maven may need a proxy.
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}

WHERE_TO_GET = {
    "go": "Go 1.26 or newer, from go.dev/dl",
    "node": "Node.js 20.6 or newer, from nodejs.org",
    "npm": "npm, which comes with Node.js or as the Debian package npm",
    "java": "Java 17 or newer, the Debian package default-jdk-headless",
    "javac": "a JDK 17 or newer, the Debian package default-jdk-headless",
    "mvn": "Maven 3.8 or newer, the Debian package maven",
    "cargo": "Rust 1.88 or newer, from rustup.rs",
    "cc": "a linker for Rust, the Debian package gcc",
}


class SenderBuildError(Exception):
    """A sender cannot be built or run on this machine; the text says what is missing or failed."""


@dataclass(frozen=True)
class Recipe:
    """How the programs of one folder are built: `steps` in a copy of it, `keep` what they made.

    The first word of a step and every one of `tools` must be on the PATH to build.
    """

    folder: str
    steps: tuple[tuple[str, ...], ...] = ()
    keep: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    @property
    def source(self) -> Path:
        """The folder in the checkout."""
        return SOURCES / self.folder

    def files(self) -> list[Path]:
        """What the programs are made of, in a fixed order."""
        return sorted(
            path
            for path in self.source.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )

    def hash(self) -> str:
        """16 hexadecimal digits that change with the sources, the steps and the kind of machine."""
        digest = hashlib.sha256()
        machine = (platform.system(), platform.machine())
        digest.update(repr((machine, self.steps, self.keep)).encode())
        for path in self.files():
            content = path.read_bytes()
            name = path.relative_to(self.source).as_posix()
            digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Program:
    """One sender: the recipe it is built by, and its command with {build} for where that is."""

    recipe: Recipe
    command: tuple[str, ...]


NPM_CI = ("ci", "--ignore-scripts", "--no-audit", "--no-fund")
NODE = Recipe(
    "node",
    steps=(("npm", *NPM_CI),),
    keep=("node_modules", "package.json", "sender.js"),
)
# Two generations of exporters, each bundled as `dist/GENERATION/page.js` for a page of a browser.
WEB = Recipe(
    "web",
    steps=(
        ("npm", "--prefix", "beacon", *NPM_CI),
        ("npm", "--prefix", "fetch", *NPM_CI),
        (
            *("node", "fetch/node_modules/esbuild/bin/esbuild", "beacon/page.js", "fetch/page.js"),
            *("--bundle", "--format=iife", "--outdir=dist"),
        ),
    ),
    keep=("dist",),
)
# Into a folder beside the program, which looks there.
PIP = (
    *("python3", "-m", "pip", "install", "--quiet", "--no-deps"),
    *("--disable-pip-version-check", "--require-hashes", "--only-binary=:all:"),
    *("--target", "packages", "--requirement", "requirements.lock"),
)
MAVEN = ("mvn", "--batch-mode", "--quiet", "--no-transfer-progress")
# Two HTTP clients are on the class path; this chooses.
CHOOSES = "-Dio.opentelemetry.sdk.common.export.HttpSenderProvider=io.opentelemetry.exporter.sender"
OKHTTP = f"{CHOOSES}.okhttp.internal.OkHttpHttpSenderProvider"
JDK = f"{CHOOSES}.jdk.internal.JdkHttpSenderProvider"
JAVA_CLASSES = "{build}/target/classes:{build}/target/lib/*"
JAVA = Recipe(
    "java",
    steps=(
        (
            *MAVEN,
            "compile",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=target/lib",
        ),
    ),
    keep=("target/classes", "target/lib"),
    tools=("javac",),
)
PROGRAMS = {
    # The exporter is in the virtual environment that runs the tests: there is nothing to build.
    "python": Program(Recipe("python"), (sys.executable, str(SOURCES / "python" / "sender.py"))),
    # Its exporters of JSON are a beta of other packages, which want an older SDK than we have.
    "python-json": Program(
        Recipe("python", steps=(PIP,), keep=("packages", "sender.py")),
        ("python3", "{build}/sender.py"),
    ),
    "python-grpc": Program(
        Recipe("python-grpc", steps=(PIP,), keep=("packages", "sender.py")),
        ("python3", "{build}/sender.py"),
    ),
    "node": Program(NODE, ("node", "{build}/sender.js")),
    "go": Program(
        Recipe(
            "go",
            steps=(("go", "build", "-mod=readonly", "-trimpath", "-o", "sender", "."),),
            keep=("sender",),
        ),
        ("{build}/sender",),
    ),
    "java": Program(JAVA, ("java", OKHTTP, "-cp", JAVA_CLASSES, "Sender")),
    "java-jdk": Program(JAVA, ("java", JDK, "-cp", JAVA_CLASSES, "Sender")),
    "rust": Program(
        Recipe(
            "rust",
            steps=(
                ("python3", "lock.py"),
                ("cargo", "build", "--locked", "--quiet", "--target-dir", "target"),
            ),
            keep=("target/debug/sender",),
            tools=("cargo", "cc"),
        ),
        ("{build}/target/debug/sender",),
    ),
}
# Built when cards are made: TLS and gzip take twice as long to compile.
RUST_CARD = Program(
    Recipe(
        "rust",
        steps=(
            ("python3", "lock.py"),
            (
                *("cargo", "build", "--locked", "--quiet", "--features", "card"),
                *("--target-dir", "target"),
            ),
        ),
        keep=("target/debug/sender",),
        tools=("cargo", "cc"),
    ),
    ("{build}/target/debug/sender",),
)


def command_of(name: str) -> tuple[str, ...]:
    """The command of a sender, built if it is not yet.

    Raises SenderBuildError when a tool is missing or a step fails.
    """
    program = RUST_CARD if name == "rust-card" else PROGRAMS[name]
    build = built(program.recipe) if program.recipe.steps else program.recipe.source
    command = tuple(word.replace("{build}", str(build)) for word in program.command)
    require(f"run the {name} sender", command[0])
    return command


def built(recipe: Recipe) -> Path:
    """Where the finished build is. Raises SenderBuildError when it cannot be made."""
    finished = CACHE / f"{recipe.folder}-{recipe.hash()}"
    if finished.is_dir():
        return finished
    require(f"build the {recipe.folder} sender", *(step[0] for step in recipe.steps), *recipe.tools)
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / f"{recipe.folder}.lock"):
        if not finished.is_dir():  # another process may have been faster
            make(recipe, finished)
    return finished


def make(recipe: Recipe, finished: Path) -> None:
    """Run the steps aside and move what they made to its place in one go."""
    with tempfile.TemporaryDirectory(prefix=f"building-{recipe.folder}-", dir=CACHE) as scratch:
        work, kept = Path(scratch) / "work", Path(scratch) / "kept"
        shutil.copytree(recipe.source, work)
        for step in recipe.steps:
            run_step(recipe, step, work)
        for name in recipe.keep:
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).rename(kept / name)
        kept.rename(finished)


def run_step(recipe: Recipe, step: tuple[str, ...], work: Path) -> None:
    """One step of a recipe. Raises SenderBuildError with the end of what it printed."""
    try:
        ran = subprocess.run(
            step,
            cwd=work,
            env=ENVIRON,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=STEP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise SenderBuildError(
            f"`{' '.join(step)}` for the {recipe.folder} sender took over {STEP_SECONDS} s"
        ) from late
    if ran.returncode != 0:
        said = ran.stdout.decode(errors="replace")[-SHOWN_CHARACTERS:]
        raise SenderBuildError(
            f"`{' '.join(step)}` for the {recipe.folder} sender failed"
            f" with {ran.returncode}:\n{said}"
        )


def require(purpose: str, *tools: str) -> None:
    """Raise SenderBuildError unless every tool is there, with how to get the first that is not."""
    for tool in tools:
        if shutil.which(tool, path=ENVIRON.get("PATH")) is None:
            raise SenderBuildError(
                f"{tool} is not on the PATH; to {purpose} install"
                f" {WHERE_TO_GET.get(tool, tool)}, then run the tests again"
            )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of this file; it is free again when its process ends, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Build every sender; the exit code."""
    for name in PROGRAMS:
        began = time.monotonic()
        try:
            command_of(name)
        except SenderBuildError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{name:<11} ready after {time.monotonic() - began:6.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
