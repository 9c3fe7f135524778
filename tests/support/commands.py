"""A command of ours without a process of its own: the same streams, arguments and environment."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TextIO

from relay.cli import main


def run_here(
    arguments: Sequence[str], environ: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Its exit code and what it wrote; nobody is at its terminal.

    What no command expects is raised, not shown as code 1. Only one can run at a time: it has the
    streams and the environment of this process.
    """
    with ExitStack() as stack:
        stack.enter_context(_environment(environ))
        out, err = (stack.enter_context(_stream(name)) for name in ("stdout", "stderr"))
        stdin, sys.stdin = sys.stdin, stack.enter_context(open(os.devnull))  # noqa: PTH123
        stack.callback(setattr, sys, "stdin", stdin)
        try:
            main(list(arguments), prog_name="otlp-relay")
        except SystemExit as end:
            code = end.code
        assert code is None or isinstance(code, int), code
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(list(arguments), code or 0, out.read(), err.read())


@contextmanager
def _environment(environ: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _stream(name: str) -> Iterator[TextIO]:
    """A file in memory, with a descriptor as a pipe has one, in the place of `sys.<name>`."""
    before = getattr(sys, name)
    with os.fdopen(os.memfd_create(name), "w+", encoding="utf-8", newline="") as stream:
        setattr(sys, name, stream)
        try:
            yield stream
        finally:
            setattr(sys, name, before)
