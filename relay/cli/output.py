"""What commands print: JSON or text, tables, a bar on a terminal, an error and its exit code.

All text for people leaves here, and nothing in it can command a terminal: see `model.printable`.
"""

import codecs
import contextlib
import errno
import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, NoReturn, TextIO

import click

from relay.model.errors import RelayError
from relay.model.printable import escaped
from relay.model.units import about_duration

Columns = Mapping[str, Callable[[Any], str]]

_GAP: Final = "  "
_STYLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "green": {"fg": "green"},
    "yellow": {"fg": "yellow"},
    "red": {"fg": "red"},
    "bold red": {"fg": "red", "bold": True},
}
# What stands for typographers' signs on a terminal that has no such letters.
_PLAIN: Final = {
    "\u201c": '"',
    "\u201d": '"',
    "\u2019": "'",
    "\u2026": "...",
    "\u2192": "->",
    "\u2013": "-",
    "\u2014": "-",
    "\u00d7": "x",
}
_LEGIBLE: Final = "relay.legible"


def _legible(error: UnicodeError) -> tuple[str | bytes, int]:
    """For what a stream's encoding lacks: a plain sign that says the same, else an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    shown = "".join(_PLAIN.get(each) or f"\\u{ord(each):04x}" for each in missing)
    return shown, error.end


codecs.register_error(_LEGIBLE, _legible)


def fit_streams() -> None:
    """Let no text fail for the encoding of the terminal."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a closed one is None, a test's own may lack it
            stream.reconfigure(errors=_LEGIBLE)  # type: ignore[union-attr]


class OutputFailed(RelayError):
    """Standard output takes nothing more."""

    code = "output_failed"


def _write(text: str, stream: TextIO | None) -> None:
    """Raises OutputFailed, and BrokenPipeError where the reader has gone. Nothing tells where
    standard error fails, and nobody waits for what goes to a stream that is closed.
    """
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if stream is sys.stdout:
            raise failed_output(error) from None


def failed_output(error: OSError) -> OSError | OutputFailed:
    """What to raise for an error of standard output; what is left in its memory is given up, since
    Python would try it again at the end.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        return error
    return OutputFailed(f"cannot write standard output: {error.strerror or error}")


def say(*lines: str, err: bool = False) -> None:
    """Print lines, on standard error with `err`. A line break inside of one is shown as such."""
    for line in lines:
        _write(f"{escaped(line)}\n", sys.stderr if err else sys.stdout)


def say_styled(line: str, style: str) -> None:
    """Print a line, on a terminal in colours."""
    _write(f"{_styled(escaped(line), style)}\n", sys.stdout)


def say_json(document: Any, *, indent: int | None = 2) -> None:
    """Print a document, or a dataclass as one."""
    _write(f"{json.dumps(document, indent=indent, default=asdict)}\n", sys.stdout)


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


def is_terminal() -> bool:
    """Whether standard output is one; else a program reads it, or a file keeps it."""
    return sys.stdout is not None and sys.stdout.isatty()


def is_watched() -> bool:
    """Whether somebody sees standard error come."""
    return sys.stderr is not None and sys.stderr.isatty()


def _styled(text: str, style: str) -> str:
    is_plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    if not style or is_plain or not is_terminal():
        return text
    return click.style(text, **_STYLES[style])


def when(iso: str | None) -> str:
    """A time of the API for a table: how long ago on a terminal, as it is elsewhere."""
    if iso is None:
        return "-"
    return f"{ago(iso)} ago" if is_terminal() else iso


def until(iso: str | None) -> str:
    """A time to come for a table: in how long on a terminal, as it is elsewhere."""
    if iso is None or not is_terminal():
        return iso or "-"
    return f"in {about_duration(max(-seconds_since(iso), 0.0))}"


def ago(iso: str) -> str:
    """How long ago a time of the API is, in words."""
    return about_duration(max(seconds_since(iso), 0.0))


def seconds_since(iso: str) -> float:
    """How long ago a time of the API is; negative for one to come."""
    return (datetime.now(UTC) - datetime.fromisoformat(iso)).total_seconds()


def columns_of(columns: Columns, signals: Iterable[str]) -> Columns:
    """`columns` for what is of `signals`: SIGNAL and ITEMS where any is not of traces, else SPANS
    alone, so that nobody without logs and metrics reads of them.
    """
    if {*signals} - {"traces"}:
        return columns
    found = columns.items()
    return {title.replace("ITEMS", "SPANS"): it for title, it in found if title != "SIGNAL"}


def print_table(
    columns: Columns, items: Iterable[Any], *, styles: Mapping[str, str] | None = None
) -> None:
    """A line an item, each with a cell a column: titles, and what makes the cells of an item.

    No cell is ever folded or cut: on a terminal that is too narrow the widest columns stand
    indented below their line. Elsewhere tabs separate the cells, and nothing is padded. `styles`
    are those of cells with that text.
    """
    titles = list(columns)
    rows = [[escaped(make(item)) for make in columns.values()] for item in items]
    if not is_terminal():
        for cells in (titles, *rows):
            _write("\t".join(cells) + "\n", sys.stdout)
        return
    widths = [max(map(_width, cells)) for cells in zip(titles, *rows, strict=True)]
    below = _too_wide(widths, shutil.get_terminal_size().columns)
    for cells in (titles, *rows):
        line = _GAP.join(
            _styled(cell, (styles or {}).get(cell, "")) + " " * (width - _width(cell))
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
            if at not in below
        )
        _write(f"{line.rstrip()}\n", sys.stdout)
        for at in below if cells is not titles else ():
            if cells[at] not in ("", "-"):
                _write(f"    {titles[at].lower()}: {cells[at]}\n", sys.stdout)


def _too_wide(widths: Sequence[int], room: int) -> list[int]:
    """The columns that must stand elsewhere for the others to fit; the first one stays."""
    stays = list(range(len(widths)))
    while len(stays) > 1 and sum(widths[at] + len(_GAP) for at in stays) - len(_GAP) > room:
        stays.remove(max(stays[1:], key=lambda at: widths[at]))
    return [at for at in range(len(widths)) if at not in stays]


def _width(text: str) -> int:
    """Columns of a terminal that it takes."""
    if text.isascii():
        return len(text)
    return sum(1 + (unicodedata.east_asian_width(each) in "WF") for each in text)


def asked_output(path: Path | None) -> Path | None:
    """The file that `--output` names, None for standard output; `-` is that, too.

    Raises click.UsageError where it is a terminal and was not asked for with `-`.
    """
    if path == Path("-"):
        return None
    if path is None and is_terminal():
        raise click.UsageError(
            "this would show what apps sent, prompts included, on your terminal: give "
            "--output FILE, a pipe, or --output -"
        )
    return path


@contextmanager
def opened(path: Path | None) -> Iterator[IO[bytes]]:
    """Standard output, or a new file, 0600 and synced at the end. Raises RelayError."""
    try:
        if path is None:
            if sys.stdout is None:
                raise OutputFailed("cannot write standard output: it is closed")
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
        if path is None:
            raise failed_output(error) from None
        raise RelayError(f"cannot write {path}: {error.strerror or error}") from None


@contextmanager
def progress_bar(
    title: str, total: int | None = None
) -> Iterator[Callable[[int, int | None], None]]:
    """Gives what to call with how many are done, of how many: a bar on standard error where that
    is a terminal, nothing elsewhere.
    """
    if not is_watched():
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
