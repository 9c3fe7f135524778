"""From the name of a program to an image of it that the daemon has: pulled, or built from source.

Where an image registry answers, the published image is pulled. Where none does, the recipe in
`recipes/NAME/` makes what is put into an image without anything else, tagged by a hash of the
recipe: a static program from Go modules, or the files of a base image. `E2E_IMAGES=pull` or
`=build` forces either way. The project's own images are built on those bases, each time anew.

`python -m tests.e2e.images` makes all of them ready and says what it does.
"""

import contextlib
import enum
import fcntl
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
from docker.errors import BuildError, DockerException, ImageNotFound

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path.home() / ".cache" / "otlp-relay"
RECIPES = Path(__file__).parent / "recipes"
PUBLISHED = {
    "jaeger": "jaegertracing/jaeger:2.13.0",
    "collector": "otel/opentelemetry-collector-contrib:0.165.0",
    "prometheus": "prom/prometheus:v3.16.0",
    "victoria-metrics": "victoriametrics/victoria-metrics:v1.148.9",
    "victoria-logs": "victoriametrics/victoria-logs:v1.52.2",
    # What the project's own images are built on: the defaults of its Dockerfile.
    "base": "debian:bookworm-slim",
    "rust": "rust:1.95-slim-bookworm",
}
# What a recipe is made with, where that is not Go.
TOOLS = {"base": "bash", "rust": "rustc"}
FORCE = "E2E_IMAGES"
REGISTRY_SECONDS = 10
PULL_SECONDS = 600  # without a sign of life
BUILD_SECONDS = 900  # likewise


class Source(enum.StrEnum):
    """Where an image comes from."""

    PULL = "pull"
    BUILD = "build"


def choose(
    forced: str,
    *,
    has_pulled: Callable[[], bool],
    has_built: Callable[[], bool],
    can_pull: Callable[[], bool],
) -> Source:
    """What was forced; else what the daemon has, the published first; else pull if that works.

    The registry is asked last, so a machine without one waits for that only once. Raises
    ValueError when something else than `pull` or `build` was forced.
    """
    if forced:
        return Source(forced)
    if has_pulled():
        return Source.PULL
    if has_built() or not can_pull():
        return Source.BUILD
    return Source.PULL


@functools.cache
def ready(name: str) -> str:
    """The tag of the image of that name, which the daemon has when this returns.

    Raises ValueError for a wrong `E2E_IMAGES`, DockerException where the daemon or a forced pull
    fails, and CalledProcessError or FileNotFoundError (no Go) where a build does.
    """
    published, built = PUBLISHED[name], f"otlp-relay-e2e/{name}:{recipe_hash(RECIPES / name)}"
    client = docker.from_env()
    try:
        forced = os.environ.get(FORCE, "")
        source = choose(
            forced,
            has_pulled=lambda: has(client, published),
            has_built=lambda: has(client, built),
            can_pull=lambda: has_registry(published) and pull(published),
        )
        if source is Source.PULL:
            if not has(client, published):  # forced: then it is to fail aloud
                client.images.pull(published)
            return published
        with exclusive(name):
            if not has(client, built):
                build(client, name, built)
        return built
    finally:
        client.close()


def has(client: docker.DockerClient, tag: str) -> bool:
    """Whether the daemon has an image of that tag."""
    try:
        client.images.get(tag)
    except ImageNotFound:
        return False
    return True


def has_registry(tag: str) -> bool:
    """Whether the image's registry tells the daemon about it, within ten seconds."""
    client = docker.from_env(timeout=REGISTRY_SECONDS)
    try:
        client.images.get_registry_data(tag)
    except (DockerException, OSError) as error:  # OSError: requests' own, for the timeout
        tell(f"no registry tells us about {tag} ({type(error).__name__}): we build it")
        return False
    finally:
        client.close()
    return True


def pull(tag: str) -> bool:
    """Pull it, however long that takes; whether that worked: registries also set limits."""
    tell(f"pulling {tag} …")
    client = docker.from_env(timeout=PULL_SECONDS)
    try:
        client.images.pull(tag)
    except (DockerException, OSError) as error:
        tell(f"pulling {tag} failed ({error}): we build it")
        return False
    finally:
        client.close()
    return True


def recipe_hash(folder: Path) -> str:
    """A short hash of every file of a recipe, its name included, and of the processor's kind."""
    known = hashlib.sha256(platform.machine().encode())
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        known.update(f"\n{file.relative_to(folder)}\n".encode() + file.read_bytes())
    return known.hexdigest()[:16]


def build(client: docker.DockerClient, name: str, tag: str) -> None:
    """Program, unless it is in the cache, and the image around it."""
    made = cached(name)
    if not made.exists():
        compile_program(name, made)
    with tempfile.TemporaryDirectory() as context:
        shutil.copy(RECIPES / name / "Dockerfile", context)
        shutil.copy(made, Path(context) / "program")
        client.images.build(path=context, tag=tag, rm=True)


def cached(name: str) -> Path:
    """Where what the recipe `name` makes is kept, once it was made."""
    return CACHE / "images" / f"{name}-{recipe_hash(RECIPES / name)}"


def program(name: str) -> Path:
    """What the recipe `name` makes, without an image around it. Raises as `ready`."""
    made = cached(name)
    with exclusive(name):
        if not made.exists():
            compile_program(name, made)
    return made


def compile_program(name: str, program: Path) -> None:
    """What the recipe `name` makes, as `program`. Raises as `ready` says."""
    tell(f"building {name} by its recipe; the first time may take minutes …")
    tool = TOOLS.get(name, "go")
    if shutil.which(tool) is None:
        raise FileNotFoundError(f"{tool} is needed to build {name}, since it cannot be pulled")
    unfinished = program.with_suffix(".unfinished")
    subprocess.run([RECIPES / name / "build", unfinished], check=True, stdout=sys.stderr)
    unfinished.rename(program)


@functools.cache
def own(folder: str = ".") -> str:
    """The id of the image of the Dockerfile in that folder of the checkout, built as it is now.

    Raises as `ready`, and AssertionError with the end of the log where the build fails.
    """
    bases = {"BASE": ready("base")} | ({"RUST": ready("rust")} if folder == "." else {})
    client = docker.from_env(timeout=BUILD_SECONDS)
    try:
        tell(f"building the image of {folder}/Dockerfile …")
        # The host's network: it may be the only one that reaches packages.
        built, _log = client.images.build(
            path=str(ROOT / folder), buildargs=bases, network_mode="host", rm=True,
            tag="otlp-relay-e2e/relay" if folder == "." else f"otlp-relay-e2e/{Path(folder).name}",
        )  # fmt: skip
        return str(built.id)
    except BuildError as error:
        said = "".join(str(line.get("stream", "")) for line in error.build_log)
        raise AssertionError(f"{folder}/Dockerfile: {error}\n{said[-4000:]}") from error
    finally:
        client.close()


@contextlib.contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Others that want to build the same wait until we are done."""
    folder = CACHE / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def tell(line: str) -> None:
    """For the person who waits."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Make all ready."""
    for name in PUBLISHED:
        began = time.monotonic()
        tag = ready(name)
        tell(f"{name}: {tag} ({time.monotonic() - began:.1f} s)")


if __name__ == "__main__":
    main()
