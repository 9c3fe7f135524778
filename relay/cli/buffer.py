"""`otlp-relay buffer …`: the group of commands that read the buffer's file, and what they share."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import Progress

from relay.cli.lazy import LazyGroup
from relay.model.errors import RelayError


@click.group(
    cls=LazyGroup,
    lazy={
        "check": "relay.cli.buffer_check:check",
        "export": "relay.cli.buffer_export:export",
        "snapshot": "relay.cli.buffer_snapshot:snapshot",
    },
)
def buffer() -> None:
    """Check, export or copy what is kept on disk, with or without a running daemon."""


@contextmanager
def progress_bar(words: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error where that is a terminal; nothing in a pipe."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(words, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def errors_exit() -> Iterator[None]:
    """What goes wrong goes to standard error, and the exit code is 1."""
    try:
        yield
    except RelayError as error:
        click.echo(f"otlp-relay: {error}", err=True)
        sys.exit(1)
