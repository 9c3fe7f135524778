"""`otlp-relay tail`: what arrives, a line each, for as long as somebody looks."""

import json
import queue
import select
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import click

from relay.cli.client import DaemonClient, DaemonUnreachable, admin_client
from relay.cli.options import config_option, load_or_exit
from relay.cli.output import say, say_error
from relay.cli.trace_tree import tree_lines, tree_of
from relay.model.errors import RelayError
from relay.model.records import Signal
from relay.model.units import three_figures

Line = dict[str, Any]

LISTS: Final = {Signal.TRACES: "spans", Signal.LOGS: "logs", Signal.METRICS: "points"}
PAGE: Final = 500
MOST_AT_ONCE: Final = 10_000  # of a signal that are held to be printed, oldest first
LAST_WITHOUT_FOLLOWING: Final = 10
AGAIN_SECONDS: Final = 0.5
QUIET_SECONDS: Final = 2.0
RESPONSE_SECONDS: Final = 30.0


@click.command()
@click.argument("terms", nargs=-1)
@config_option
@click.option(
    "--signal",
    "signals",
    type=click.Choice(Signal, case_sensitive=False),
    multiple=True,
    help="Only these: traces, logs or metrics; may be given again.",
)
@click.option("--service", default="", help="Only of services whose name holds this.")
@click.option("--error", "only_errors", is_flag=True, help="Only failed spans and log errors.")
@click.option("--as", "name", default="", metavar="DEST", help="As that destination gets them.")
@click.option("--tree", "as_tree", is_flag=True, help="Each trace as a tree, once it is quiet.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@click.option("--last", type=click.IntRange(0, MOST_AT_ONCE), help="Begin with the newest N.")
@click.option("--no-follow", is_flag=True, help="End after those; 10 without --last.")
def tail(
    *,
    terms: Sequence[str],
    config_path: str | None,
    signals: Sequence[Signal],
    service: str,
    only_errors: bool,
    name: str,
    as_tree: bool,
    as_json: bool,
    last: int | None,
    no_follow: bool,
) -> None:
    """Show spans, log records and data points as they arrive, a line each, until Ctrl-C.

    TERMS are those of the page's search, and all must hold: a word of the name or service,
    key=value of an attribute, ">500ms", trace:ID, -TERM for its opposite. A minus is read as a term
    after "--". With --as what a destination gets of them is shown, after its steps; of its sample
    only what one request tells. When the relay restarts it goes on, with what came meanwhile. Exits
    0 when it is ended by Ctrl-C or by whoever reads it, 1 when no daemon responds at the beginning.
    """
    if as_tree and name:
        raise click.UsageError("--as shows items, not trees: leave one out")
    if as_tree and set(signals) - {Signal.TRACES}:
        raise click.UsageError("--tree is for traces: leave --signal out")
    words = list(terms)
    words += [f"service:{service}"] if service else []
    words += ["error"] if only_errors else []
    feed = Feed(
        admin_client(load_or_exit(config_path), RESPONSE_SECONDS),
        (Signal.TRACES,) if as_tree else tuple(signals) or tuple(Signal),
        " ".join(map(quoted, words)),
        name,
    )
    printer = Trees(feed, as_json=as_json) if as_tree else Lines(as_json=as_json)
    first = (LAST_WITHOUT_FOLLOWING if no_follow else 0) if last is None else last
    try:
        printer.take(feed.newest(first))
        if no_follow:
            printer.end()
        else:
            feed.follow(printer)
    except (KeyboardInterrupt, BrokenPipeError):
        return


def quoted(term: str) -> str:
    """A term as one word of a search line."""
    return f'"{term}"' if any(each.isspace() for each in term) and '"' not in term else term


class Lines:
    """Prints each item as it comes."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def take(self, lines: Sequence[Line]) -> None:
        """Print these."""
        for line in lines:
            say(json.dumps(line) if self._as_json else text_of(line))

    def tick(self) -> None:
        """Nothing waits."""

    def end(self) -> None:
        """Nothing waits."""


class Trees:
    """Prints each trace once nothing of it has come for a while."""

    def __init__(self, feed: "Feed", *, as_json: bool) -> None:
        self._feed = feed
        self._as_json = as_json
        self._heard: dict[str, float] = {}

    def take(self, lines: Sequence[Line]) -> None:
        """Remember which traces these are of."""
        for line in lines:
            self._heard.pop(line["trace_id"], None)
            self._heard[line["trace_id"]] = time.monotonic()

    def tick(self) -> None:
        """Print those that are quiet by now."""
        self._print(time.monotonic() - QUIET_SECONDS)

    def end(self) -> None:
        """Print all."""
        self._print(time.monotonic())

    def _print(self, heard_until: float) -> None:
        for trace_id in [each for each, at in self._heard.items() if at <= heard_until]:
            trace = tree_of(self._feed.client, trace_id)
            del self._heard[trace_id]
            if trace is not None and self._as_json:
                say(json.dumps(trace))
            elif trace is not None:
                say(*tree_lines(trace))


class Feed:
    """The items that a search means, each once, in the order in which they were kept."""

    def __init__(
        self, client: DaemonClient, signals: Sequence[Signal], search: str, name: str
    ) -> None:
        """`name` is the destination that gets them, empty for what is kept."""
        self.client = client
        self._name = name
        self._signals = signals
        self._search = search
        self._seen = 0  # the newest row that was looked at

    def newest(self, number: int) -> list[Line]:
        """The newest `number` of what is kept. Raises RelayError."""
        self._seen = self._last_row()
        for signal in self._signals:  # what cannot be searched for is told now
            self._page(signal, f"{self._seen}.{self._seen}.0", after=self._seen, limit=1)
        if not number:
            return []
        return self._between(0, self._seen, number)[-number:]

    def follow(self, printer: "Lines | Trees") -> None:
        """Give `printer` what comes, until it is interrupted."""
        is_away = False
        while True:
            try:
                for name in self._happenings():
                    if name == "hello" and is_away:
                        is_away = False
                        say("otlp-relay: the relay is back", err=True)
                    if name in ("hello", "arrived"):
                        printer.take(self._new())
                    printer.tick()
                    _raise_if_nobody_reads()
            except RelayError as error:
                if not is_away:
                    say_error(error)
                    say("  waiting for it to be back", err=True)
            is_away = True
            time.sleep(AGAIN_SECONDS)

    def _happenings(self) -> Iterator[str]:
        """The name of each event, and an empty one now and then where there is none. Ends by
        raising RelayError.
        """
        names: queue.Queue[str | RelayError] = queue.Queue()

        def read() -> None:
            try:
                for name, _data in self.client.events("/api/view/events"):
                    names.put(name)
                names.put(DaemonUnreachable("the relay has stopped"))
            except RelayError as error:
                names.put(error)

        threading.Thread(target=read, daemon=True).start()
        while True:
            try:
                found = names.get(timeout=AGAIN_SECONDS)
            except queue.Empty:
                found = ""
            if isinstance(found, RelayError):
                raise found
            yield found

    def _last_row(self) -> int:
        return int(self.client.ask("GET", "/api/status")["buffer"]["last_row"])

    def _new(self) -> list[Line]:
        until = self._last_row()
        after = self._seen if self._seen <= until else 0  # else the buffer is another one
        found = self._between(after, until, MOST_AT_ONCE) if until > after else []
        self._seen = until
        return found

    def _between(self, after: int, until: int, most: int) -> list[Line]:
        """The newest `most` of each signal in rows above `after`, the oldest first."""
        found: list[Line] = []
        for signal in self._signals:
            cursor: str | None = f"{until}.{until}.0"
            own: list[Line] = []
            while cursor and len(own) < most:
                limit = min(PAGE, most - len(own))
                page = self._page(signal, cursor, after=after, limit=limit)
                own += ({"signal": signal.word, **each} for each in page[LISTS[signal]])
                cursor = page["next"]
            if cursor and after:
                say(f"otlp-relay: more {signal.item}s came than can be shown", err=True)
            found += reversed(own)
        return sorted(found, key=lambda line: line["row"])

    def _page(self, signal: Signal, cursor: str, *, after: int, limit: int) -> Line:
        query = {"q": self._search, "cursor": cursor, "limit": limit, "after": after}
        query |= {"as": self._name} if self._name else {}
        return self.client.ask("GET", f"/api/view/{LISTS[signal]}?{urlencode(query)}")


def _raise_if_nobody_reads() -> None:
    """BrokenPipeError where standard output is closed, or a pipe whose reader has gone."""
    if sys.stdout is None:
        raise BrokenPipeError
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if any(event & select.POLLERR for _fd, event in poll.poll(0)):
        raise BrokenPipeError


def text_of(line: Line) -> str:
    """An item in one line: when, whose, what, how long or how much, how it went, of which trace."""
    told = {"traces": _of_span, "logs": _of_record, "metrics": _of_point}[line["signal"]](line)
    return "  ".join((line["time"], line["service"] or "-", *filter(None, told)))


def _of_span(line: Line) -> tuple[str, ...]:
    status = "ERROR" if line["status"] == "error" else line["status"]
    took = three_figures(line["duration_ns"])
    return line["name"], took, status, line["trace_id"], line["message"]


def _of_record(line: Line) -> tuple[str, ...]:
    level = line["level"].upper() or line["severity"] or "-"
    return level, line["event"], line["body"]["value"], line["trace_id"]


def _of_point(line: Line) -> tuple[str, ...]:
    value = "-" if line["value"] is None else f"{line['value']:g}"
    of = f"mean of {line['count']:,}" if line["count"] is not None else ""
    labels = " ".join(f"{each['key']}={each['value']}" for each in line["attributes"])
    return line["name"], f"{value} {line['unit']}".rstrip(), of, labels
