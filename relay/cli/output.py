"""What commands print: JSON or text, tables, a bar on a terminal, an error and its exit code."""

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

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    Columns = Mapping[str, Callable[[Any], str | Text]]

# In a pipe nothing is folded, so that a line there is a row and its words can be found.
PIPE_WIDTH: Final = 10_000


def say(*lines: str, err: bool = False) -> None:
    """Print lines, on standard error with `err`."""
    for line in lines:
        click.echo(printable(line), err=err)


def printable(line: str) -> str:
    """Paths and variables may hold bytes that are no UTF-8; they are shown as escapes."""
    return line.encode("utf-8", "backslashreplace").decode()


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
    say(f"otlp-relay: {error}", err=True)
    sys.exit(1)


def counted(number: int, noun: str) -> str:
    """So many of them, such as `1 span` or `1,200 spans`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def console() -> "Console":
    """Standard output for tables and colours."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(highlight=False, soft_wrap=True, width=width)


def print_table(columns: "Columns", items: Iterable[Any]) -> None:
    """A line an item, each with a cell a column: titles, and what makes the cells of an item."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in columns:
        table.add_column(title, overflow="fold")
    for item in items:
        table.add_row(*(cell(item) for cell in columns.values()))
    console().print(table)


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

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)
