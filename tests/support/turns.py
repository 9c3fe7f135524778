"""A test that measures has the machine to itself, also where others run in parallel."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_FOLDER = "TEST_TURNS"  # the environment variable that names it; workers inherit it


def prepare(config: pytest.Config) -> None:
    """Make the folder at which the processes of this run wait, unless we are a worker of one."""
    if _FOLDER not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="test-turns-")
        os.environ[_FOLDER] = folder.name
        config.add_cleanup(folder.cleanup)


@contextmanager
def turn(*, is_alone: bool) -> Iterator[None]:
    """Wait for a turn among the processes of this run, beside others unless `is_alone`."""
    folder = Path(os.environ[_FOLDER])
    with (folder / "queue").open("w") as queue, (folder / "turn").open("w") as held:
        # Who waits to be alone holds the queue meanwhile: else the others would always pass it.
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(held, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        fcntl.flock(queue, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(held, fcntl.LOCK_UN)  # a forked child may hold the file open for longer
