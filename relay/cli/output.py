"""What commands print: JSON or text, tables, a bar on a terminal, an error and its exit code.

All text for people leaves here, and nothing in it can command a terminal: see `model.printable`.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn

import click

from relay.model.errors import RelayError
from relay.model.printable import escaped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    Columns = Mapping[str, Callable[[Any], str | Text]]

# In a pipe nothing is folded, so that a line there is a row and its words can be found.
PIPE_WIDTH: Final = 10_000


def say(*lines: str, err: bool = False) -> None:
    """Print lines, on standard error with `err`. A line break inside of one is shown as such."""
    for line in lines:
        click.echo(escaped(line), err=err)


def say_styled(line: str, style: str) -> None:
    """Print a line, on a terminal in the colours of a style of rich."""
    from rich.text import Text

    _console().print(Text(escaped(line), style))


def say_json(document: Any) -> None:
    """Print a document, or a dataclass as one."""
    click.echo(json.dumps(document, indent=2, default=asdict))


def say_result(document: Any, tell: Callable[..., None], *, as_json: bool) -> None:
    """Print `document` as JSON, or have `tell` say it in words."""
    if as_json:
        say_json(document)
    else:
        tell(document)


def fail(error: RelayError) -> NoReturn:
    """The error on standard error; exit code 1."""
    say_error(error)
    sys.exit(1)


def say_error(error: RelayError) -> None:
    """The error and what to do, on standard error."""
    say(f"otlp-relay: {error.message}", err=True)
    if error.hint:
        say(f"  hint: {error.hint}", err=True)


def _console() -> "Console":
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


def columns_of(columns: "Columns", signals: Iterable[str]) -> "Columns":
    """`columns` for what is of `signals`: SIGNAL and ITEMS where any is not of traces, else SPANS
    alone, so that nobody without logs and metrics reads of them.
    """
    if {*signals} - {"traces"}:
        return columns
    found = columns.items()
    return {title.replace("ITEMS", "SPANS"): it for title, it in found if title != "SIGNAL"}


def print_table(columns: "Columns", items: Iterable[Any]) -> None:
    """A line an item, each with a cell a column: titles, and what makes the cells of an item."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in columns:
        table.add_column(title, overflow="fold")
    for item in items:
        table.add_row(*(_cell(make(item)) for make in columns.values()))
    _console().print(table)


def _cell(content: "str | Text") -> "Text":
    from rich.text import Text

    if isinstance(content, str):
        return Text(escaped(content))
    return Text(escaped(content.plain), content.style)


@contextmanager
def opened(path: Path | None) -> Iterator[IO[bytes]]:
    """Standard output, or a new file, 0600 and synced at the end. Raises RelayError."""
    try:
        if path is None:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise RelayError(f"{path} already exists", hint="choose another name") from None
    except OSError as error:
        where = path or "standard output"
        raise RelayError(f"cannot write {where}: {error.strerror or error}") from None


@contextmanager
def progress_bar(
    title: str, total: int | None = None
) -> Iterator[Callable[[int, int | None], None]]:
    """Gives what to call with how many are done, of how many: a bar on standard error where that
    is a terminal, nothing elsewhere.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Remaining(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)
