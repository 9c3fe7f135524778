"""A command of ours without a process of its own: the same streams, arguments and environment."""

import os
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
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


def run_on(
    stdout: TextIO | None, arguments: Sequence[str], environ: Mapping[str, str]
) -> tuple[int, str]:
    """Its exit code and its standard error, with that as its standard output."""
    before = sys.stdout
    with ExitStack() as stack:
        stack.enter_context(_environment(environ))
        err = stack.enter_context(_stream("stderr"))
        stack.callback(setattr, sys, "stdout", before)
        sys.stdout = stdout
        try:
            main(list(arguments), prog_name="otlp-relay")
        except SystemExit as end:
            code = end.code
        assert code is None or isinstance(code, int), code
        err.seek(0)
        return code or 0, err.read()


def run_on_terminal(
    arguments: Sequence[str], environ: Mapping[str, str], *, encoding: str, columns: int = 80
) -> tuple[int, str, str]:
    """Its exit code, what a terminal of that encoding and width was sent, and standard error."""
    terminal, theirs = os.openpty()
    tty.setraw(theirs)
    sent = bytearray()

    def read() -> None:
        with suppress(OSError):  # the other side is closed
            while piece := os.read(terminal, 65536):
                sent.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(theirs, "w", encoding=encoding, newline="") as stdout:
            more = {"COLUMNS": str(columns), "NO_COLOR": "1"}
            code, err = run_on(stdout, arguments, {**environ, **more})
    finally:
        reader.join()
        os.close(terminal)
    return code, sent.decode(encoding), err
