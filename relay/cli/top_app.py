"""The screens of `otlp-relay top`, over the admin API.

Nothing that is shown can command a terminal: see `model.printable`.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Static

from relay.cli.client import DaemonClient, destination_path
from relay.model.errors import RelayError
from relay.model.printable import escaped, escaped_lines
from relay.model.units import about_duration

Document = dict[str, Any]

REFRESH_SECONDS: Final = 1.0
RATE_STEPS: Final = 7  # of ten seconds; the last one is not over yet
MOST_HAPPENED: Final = 8
SORTS: Final[dict[str, Callable[[Document], Any]]] = {
    "name": lambda it: (it["name"], it["signal"]),
    "waiting": lambda it: -it["waiting_spans"],
    "state": lambda it: (it["state"] in ("idle", "delivering"), it["name"], it["signal"]),
}


class Words(ModalScreen[None]):
    """A text over everything, until Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,q", "dismiss", "Back")]
    DEFAULT_CSS = "Words VerticalScroll { margin: 2 4; padding: 1; border: solid $primary; }"

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def compose(self) -> ComposeResult:
        """The text, and the keys."""
        with VerticalScroll():
            yield Static(Text(escaped_lines(self.text)), id="words")
        yield Footer()


class Top(App[None]):
    """The first screen. What it asks of the daemon it asks in threads."""

    TITLE = "otlp-relay"
    ENABLE_COMMAND_PALETTE = False
    CSS = "DataTable { height: 1fr; } #destinations { height: 2fr; } Static { height: auto; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "Quit"),
        ("p", "freeze", "Freeze"),
        ("s", "sort", "Sort"),
        ("t", "test", "Test"),
        ("r", "switch", "Pause or resume"),
        ("l", "letter", "Dead letter"),
    ]

    def __init__(self, client: DaemonClient) -> None:
        super().__init__()
        self.client = client
        self.is_frozen = False
        self.sort = "state"
        self._destinations: list[Document] = []

    def compose(self) -> ComposeResult:
        """How it stands; destinations, senders, what happened; the keys."""
        yield Static(id="head")
        yield DataTable[Text](id="destinations", cursor_type="row")
        yield DataTable[Text](id="senders", cursor_type="none")
        yield Static(id="happened")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self._table("destinations").add_columns(
            "DESTINATION", "SIGNAL", "STATE", "/s", "WAITING", "OLDEST", "WHY"
        )
        self._table("senders").add_columns("SENDER", "PROGRAM", "FROM", "/s")
        self._table("destinations").focus()
        self.set_interval(REFRESH_SECONDS, self._look)
        self._look()

    def _look(self) -> None:
        if not self.is_frozen:
            self._fetch()

    @work(thread=True, exclusive=True, group="look")
    def _fetch(self) -> None:
        try:
            status = self.client.ask("GET", "/api/status")
            rates = self.client.ask("GET", f"/api/view/rates?steps={RATE_STEPS}")
        except RelayError as error:
            self.call_from_thread(self._say, error.message)
        else:
            self.call_from_thread(self._show, status, rates)

    def _say(self, text: str) -> None:
        self.query_one("#head", Static).update(Text(escaped(text)))

    def _show(self, status: Document, rates: Document) -> None:
        if self.is_frozen:
            return
        ready = "ready" if status["ready"] else f"NOT READY: {status['not_ready_reason']}"
        up = about_duration(status["uptime_seconds"])
        self._say(
            f"otlp-relay {status['version']}  {ready}  up {up}"
            f"  {status['buffer']['dead_letters']:,} dead letters  by {self.sort}"
        )
        delivered = {(it["name"], it["signal"]): it["delivered"] for it in rates["destinations"]}
        self._destinations = sorted(status["destinations"], key=SORTS[self.sort])
        _fill(
            self._table("destinations"),
            [
                (
                    it["name"],
                    it["signal"],
                    it["state"],
                    _rate(delivered.get((it["name"], it["signal"]), []), rates),
                    f"{it['waiting_spans']:,}",
                    about_duration(it["oldest_waiting_seconds"]) if it["waiting_spans"] else "-",
                    it["reason"],
                )
                for it in self._destinations
            ],
        )
        _fill(
            self._table("senders"),
            [
                (it["service"] or "-", it["user_agent"], it["address"], _rate(it["items"], rates))
                for it in rates["senders"]
            ],
        )
        lines = [_happening(it) for it in rates["happened"][:MOST_HAPPENED]]
        text = "\n".join(map(escaped, lines)) or "nothing out of the ordinary has happened"
        self.query_one("#happened", Static).update(Text(text))

    def _table(self, name: str) -> DataTable[Text]:
        return self.query_one(f"#{name}", DataTable)

    def _chosen(self) -> Document | None:
        row = self._table("destinations").cursor_row
        return self._destinations[row] if 0 <= row < len(self._destinations) else None

    def action_freeze(self) -> None:
        """Leave what is shown as it is, or look again."""
        self.is_frozen = not self.is_frozen
        if self.is_frozen:
            self._say("frozen: p looks again")
        self._look()

    def action_sort(self) -> None:
        """Order destinations by the next thing."""
        names = list(SORTS)
        self.sort = names[(names.index(self.sort) + 1) % len(names)]
        self._look()

    def on_data_table_row_selected(self) -> None:
        """Open the destination."""
        if chosen := self._chosen():
            self.push_screen(Words("\n".join(f"{k}: {v}" for k, v in chosen.items())))

    def action_test(self) -> None:
        """Test the connection of the destination."""
        if chosen := self._chosen():
            path = f"{destination_path(chosen['name'])}/test"
            self._ask("POST", path, partial(json.dumps, indent=2))

    def action_switch(self) -> None:
        """Pause the destination, or resume it."""
        if chosen := self._chosen():
            verb = "resume" if chosen["state"] == "paused" else "pause"
            self._ask("POST", f"{destination_path(chosen['name'])}/{verb}", None)

    def action_letter(self) -> None:
        """Read the newest dead letter."""
        self._ask("GET", "/api/dead-letters?limit=1", self._letter)

    def _letter(self, page: Document) -> str:
        if not page["letters"]:
            return "there is no dead letter"
        found = self.client.ask("GET", f"/api/dead-letters/{page['letters'][0]['id']}")
        return json.dumps(found, indent=2)

    @work(thread=True, group="ask")
    def _ask(self, method: str, path: str, tell: Callable[[Document], str] | None) -> None:
        """Ask the daemon, and show what `tell` makes of the answer, or why it was refused."""
        try:
            found = self.client.ask(method, path)
            text = tell(found) if tell else ""
        except RelayError as error:
            text = "\n".join(filter(None, (error.message, error.hint)))
        if text:
            self.call_from_thread(self.push_screen, Words(text))
        self.call_from_thread(self._look)


def _fill(table: DataTable[Text], rows: list[tuple[str, ...]]) -> None:
    """Put those rows into a table, with its cursor where it was."""
    at = table.cursor_row
    table.clear()
    for row in rows:
        table.add_row(*(Text(escaped(cell)) for cell in row))
    table.move_cursor(row=at)


def _rate(steps: list[int], rates: Document) -> str:
    """Items a second of the last minute; the step that is not over counts for what it is."""
    past = max(len(steps) - 1, 0) * rates["step_seconds"] + rates["last_step_seconds"]
    return f"{sum(steps) / past:,.1f}" if past else "0.0"


def _happening(it: Document) -> str:
    facts = " ".join(f"{key}={it[key]}" for key in it if key not in ("at", "kind"))
    return f"{it['at']}  {it['kind']}  {facts}"
