"""What all `dead-letter` commands share: flags that choose letters in, pages of the daemon out."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlencode

import click

from relay.cli.client import NoDaemon
from relay.cli.options import printable
from relay.cli.send_test_trace import Duration
from relay.cli.target import admin_client
from relay.config import Config

if TYPE_CHECKING:
    from relay.dead_letters.offline import StoredLetters

Command = TypeVar("Command", bound=Callable[..., Any])

LETTERS = "/api/dead-letters"
# A step takes milliseconds, but waits for its turn; erasing may take a minute.
STEP_SECONDS = 90.0
_IDS_A_REQUEST = 200


@dataclass(frozen=True, slots=True)
class Selection:
    """The letters that flags choose; nothing chosen is all of them."""

    ids: tuple[int, ...] = ()
    destination: str | None = None
    reason: str | None = None
    since_ns: int = 0
    trace: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no flag chooses any."""
        return self == Selection()

    def queries(self) -> list[list[tuple[str, str]]]:
        """The parameters of each pass: many ids take several."""
        named = {"destination": self.destination, "reason": self.reason, "trace": self.trace}
        query = [(name, text) for name, text in named.items() if text]
        if self.since_ns:
            query.append(("since_ns", str(self.since_ns)))
        if not self.ids:
            return [query]
        return [
            query + [("id", str(each)) for each in self.ids[at : at + _IDS_A_REQUEST]]
            for at in range(0, len(self.ids), _IDS_A_REQUEST)
        ]


def filter_options(command: Command) -> Command:
    """`--destination`, `--reason`, `--since` and `--trace`."""
    for option in reversed(
        (
            click.option(
                "--destination",
                metavar="NAME",
                help='Those of this destination; "ingest": spans refused on the way in.',
            ),
            click.option("--reason", metavar="CODE", help="Such as upstream_refused."),
            click.option(
                "--since",
                "since_seconds",
                type=Duration(),
                metavar="DURATION",
                help="Set aside within this time, such as 1h.",
            ),
            click.option(
                "--trace", metavar="ID", help="Of this trace; ingest's also by an id that is none."
            ),
        )
    ):
        command = option(command)
    return command


def selection_of(
    ids: tuple[int, ...] = (),
    *,
    destination: str | None,
    reason: str | None,
    since_seconds: float | None,
    trace: str | None,
) -> Selection:
    """The flags as they came from click."""
    since_ns = 0 if since_seconds is None else time.time_ns() - int(since_seconds * 1e9)
    return Selection(tuple(dict.fromkeys(ids)), destination, reason, since_ns, trace)


class Reading:
    """The daemon's answers, or where none runs those of the file itself; asked as the daemon."""

    def __init__(self, config: Config) -> None:
        self._client = admin_client(config, STEP_SECONDS)
        self._state_dir = config.state_dir
        self._stored: StoredLetters | None = None

    def ask(self, method: str, path: str) -> dict[str, Any]:
        """The document. Raises RelayError, with what to do."""
        if self._stored is None:
            try:
                return self._client.ask(method, path)
            except NoDaemon:
                from relay.dead_letters.offline import StoredLetters

                stored = StoredLetters(self._state_dir)
                if not stored.is_there:
                    raise
                self._stored = stored
                click.echo("no daemon answers: read from its file", err=True)
        return self._stored.get(path)


class Asked(Protocol):
    """The daemon, or what answers in its place."""

    def ask(self, method: str, path: str) -> dict[str, Any]:
        """The document of a request. Raises RelayError."""


def must_choose(selection: Selection, *, takes_all: bool) -> None:
    """Raise click.UsageError unless letters, or all of them, are named."""
    if takes_all and not selection.is_empty:
        raise click.UsageError("--all and a choice of letters contradict each other")
    if selection.is_empty and not takes_all:
        raise click.UsageError(
            "say which: ids, --destination, --reason, --since, --trace, or --all"
        )


def path_of(path: str, query: list[tuple[str, str]]) -> str:
    """A path of the admin API with its parameters."""
    # An argument may hold bytes that are no UTF-8: then nothing is found, which is right.
    encoded = urlencode(query, errors="replace")
    return f"{path}?{encoded}" if encoded else path


def count(client: Asked, selection: Selection) -> tuple[int, int]:
    """How many letters and spans are meant. Raises DaemonRefused, DaemonUnreachable."""
    letters = spans = 0
    for query in selection.queries():
        found = client.ask("GET", path_of(f"{LETTERS}/groups", query))
        letters, spans = letters + found["letters"], spans + found["spans"]
    return letters, spans


def steps(
    client: Asked,
    method: str,
    path: str,
    selection: Selection,
    more: tuple[tuple[str, str], ...] = (),
) -> Iterator[dict[str, Any]]:
    """What the daemon answers to each step, until it has gone over all that are meant.

    Raises DaemonRefused, DaemonUnreachable; the steps before are done then.
    """
    for query in selection.queries():
        after, until = 0, None
        while after is not None:
            paging = [("after", str(after))]
            if until is not None:
                paging.append(("until", str(until)))
            found = client.ask(method, path_of(path, [*query, *more, *paging]))
            yield found
            after, until = found["next"], found["until"]


def merge(into: dict[str, tuple[int, list[int]]], stayed: list[dict[str, Any]]) -> None:
    """Add a step's letters that were left out, by why."""
    for each in stayed:
        times, ids = into.get(each["why"], (0, []))
        into[each["why"]] = (times + each["letters"], (ids + each["ids"])[:20])


def stayed_documents(stayed: dict[str, tuple[int, list[int]]]) -> list[dict[str, Any]]:
    """The merged ones as JSON says it."""
    return [
        {"why": why, "letters": times, "ids": ids} for why, (times, ids) in sorted(stayed.items())
    ]


def tell_stayed(stayed: dict[str, tuple[int, list[int]]], verb: str) -> None:
    """A line on standard error for each reason."""
    for why, (times, ids) in sorted(stayed.items()):
        named = ", ".join(map(str, ids)) + (", …" if times > len(ids) else "")
        click.echo(printable(f"{verb} {letters_text(times)} ({named}): {why}"), err=True)


def letters_text(times: int) -> str:
    """So many letters."""
    return f"{times:,} dead letter{'' if times == 1 else 's'}"


def spans_text(times: int) -> str:
    """So many spans."""
    return f"{times:,} span{'' if times == 1 else 's'}"


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Gives what to call with how many more are done: a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _more: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda more: bar.advance(task, more)
