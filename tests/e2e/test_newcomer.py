"""README, quickstarts and the page on installing, typed word for word in a fresh container.

Nothing is there but a Debian with what the README asks for: no `.venv`, no history, no home of
anybody, no cargo. `tests/test_typed.py` types the same with the `.venv` of the checkout.
"""

import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.models.containers import Container

from tests.e2e import images
from tests.e2e.containers import LABELS, Ground, daemon, remove
from tests.support.relay_process import eventually
from tests.test_typed import DOCUMENTS, READY, blocks_of

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
HOME = "/home/newcomer"
CLONE = f"{HOME}/otlp-relay"
SETUP_SECONDS = 600  # `make run` installs everything first


def checkout() -> bytes:
    """What a clone has, as a tar file, everything the newcomer's."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout

    def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 1000
        return member

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).exists():
                tar.add(ROOT / name, arcname=name, filter=owned)
    return packed.getvalue()


@pytest.fixture(scope="module")
def newcomer(ground: Ground) -> Iterator[Container]:
    """A container in which `make run` is running in one terminal."""
    client = daemon()
    container = client.containers.run(
        images.own("tests/e2e/newcomer"), detach=True, labels=LABELS, init=True
    )
    try:
        assert container.put_archive(CLONE, checkout())
        script = f"exec make run >{HOME}/terminal 2>&1"
        container.exec_run(["bash", "-c", script], detach=True, workdir=CLONE)

        def is_serving() -> bool:
            printed = typed(container, f"cat {HOME}/terminal")
            assert "Error" not in printed, printed[-4000:]
            return READY in printed

        eventually(is_serving, seconds=SETUP_SECONDS, what="make run")
        yield container
    finally:
        remove(container)
        client.close()


def typed(container: Container, text: str) -> str:
    """What a shell in the clone prints for it; it must end well."""
    code, said = container.exec_run(["bash", "-euo", "pipefail", "-c", text], workdir=CLONE)
    assert isinstance(said, bytes)
    shown = said.decode(errors="replace")
    assert code == 0, f"{text}\nended with {code}:\n{shown}"
    return shown


@pytest.mark.parametrize("document", DOCUMENTS)
def test_blocks_work_as_typed_in_a_fresh_container(newcomer: Container, document: str) -> None:
    for block in blocks_of(document):
        shown = typed(newcomer, block)
        assert re.search(r"(?m)^HTTP/1\.1 [45]", shown) is None, f"{block}\n{shown}"


def test_lines_that_make_run_prints_work_in_a_fresh_container(newcomer: Container) -> None:
    printed = typed(newcomer, f"cat {HOME}/terminal").splitlines()
    lines = [line.strip() for line in printed if line.startswith("  .venv/bin/otlp-relay ")]

    assert len(lines) == 4
    for line in lines:
        typed(newcomer, line)
