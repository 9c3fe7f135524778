"""Where commands that only look find what they show: the running daemon, or its files.

Both give the same documents, those of the admin API.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

import click
import msgspec

from relay.buffer.values import DeadLetterFilter
from relay.cli.client import DaemonClient, DaemonRefused, NoDaemon
from relay.cli.target import admin_client
from relay.config import Config

if TYPE_CHECKING:
    from relay.dead_letters.look import Looking

Document = dict[str, Any]
Found = TypeVar("Found")
NEWEST = 2**63 - 1
LETTERS = "/api/dead-letters"


class Source(Protocol):
    """What can be looked at. Every method raises RelayError, with what to do."""

    def trace(self, text: str) -> tuple[bool, Document]:
        """Whether a trace is known, and where it is; without its spans."""

    def letters(self, wanted: DeadLetterFilter, *, before: int, limit: int) -> Document:
        """A page of dead letters, the newest first; `before` an id, or NEWEST."""

    def letter_groups(self, wanted: DeadLetterFilter) -> Document:
        """How many dead letters there are, by destination, reason, status and words."""

    def letter(self, letter_id: int) -> Document:
        """A dead letter with its spans."""

    def exported(self, wanted: DeadLetterFilter, *, after: int) -> Document:
        """A step of dead letters as OTLP JSON lines."""


class DaemonSource:
    """The running daemon."""

    def __init__(self, client: DaemonClient) -> None:
        self._client = client

    def trace(self, text: str) -> tuple[bool, Document]:
        """As Source says."""
        status, found = self._client.get(f"/api/traces/{quote(text, safe='')}?spans=false")
        if status not in (200, 404) or not isinstance(found, dict):
            raise DaemonRefused.of(status, found)
        return status == 200, found

    def letters(self, wanted: DeadLetterFilter, *, before: int, limit: int) -> Document:
        """As Source says."""
        query = [*query_of(wanted), ("before", str(before)), ("limit", str(limit))]
        return self._client.ask("GET", path_of(LETTERS, query))

    def letter_groups(self, wanted: DeadLetterFilter) -> Document:
        """As Source says."""
        return self._client.ask("GET", path_of(f"{LETTERS}/groups", query_of(wanted)))

    def letter(self, letter_id: int) -> Document:
        """As Source says."""
        return self._client.ask("GET", f"{LETTERS}/{letter_id}")

    def exported(self, wanted: DeadLetterFilter, *, after: int) -> Document:
        """As Source says."""
        query = [*query_of(wanted), ("after", str(after))]
        return self._client.ask("GET", path_of(f"{LETTERS}/export", query))


class FileSource:
    """The state directory, read only. Why a destination takes nothing it cannot know."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def trace(self, text: str) -> tuple[bool, Document]:
        """As Source says."""
        from relay.admin.trace_document import trace_document
        from relay.traces.offline import find_at_rest

        report = find_at_rest(self._config, text)
        return report.is_known, trace_document(report)

    def letters(self, wanted: DeadLetterFilter, *, before: int, limit: int) -> Document:
        """As Source says."""
        from relay.admin.dead_letter_documents import list_document

        found = self._look(lambda it: it.entries(wanted, before=before, limit=limit))
        return list_document(found)

    def letter_groups(self, wanted: DeadLetterFilter) -> Document:
        """As Source says."""
        from relay.admin.dead_letter_documents import groups_document

        return groups_document(self._look(lambda it: it.groups(wanted)))

    def letter(self, letter_id: int) -> Document:
        """As Source says."""
        from relay.admin.dead_letter_documents import letter_document

        found = letter_document(self._look(lambda it: it.show(letter_id)))
        return dict(msgspec.json.decode(msgspec.json.encode(found)))  # its spans are JSON already

    def exported(self, wanted: DeadLetterFilter, *, after: int) -> Document:
        """As Source says."""
        return dict(msgspec.to_builtins(self._look(lambda it: it.export(wanted, after=after))))

    def _look(self, question: "Callable[[Looking], Awaitable[Found]]") -> Found:
        from relay.dead_letters.offline import look_at_rest

        return look_at_rest(self._config.state_dir, question)


class Sources:
    """The daemon where one runs, else the files; the first answer settles which."""

    def __init__(self, config: Config, timeout_seconds: float) -> None:
        self._daemon = DaemonSource(admin_client(config, timeout_seconds))
        self._files = FileSource(config)
        self._is_at_rest = False

    def ask(self, question: Callable[[Source], Found]) -> Found:
        """What `question` finds. Raises RelayError, with what to do."""
        if self._is_at_rest:
            return question(self._files)
        try:
            return question(self._daemon)
        except NoDaemon as no_daemon:
            from relay.offline.file import NoBuffer

            try:
                found = question(self._files)
            except NoBuffer:
                raise no_daemon from None
        self._is_at_rest = True
        click.echo("no daemon is running; read from its files", err=True)
        return found


def query_of(wanted: DeadLetterFilter) -> list[tuple[str, str]]:
    """The parameters of the admin API that say which dead letters are meant."""
    named = {"destination": wanted.destination, "reason": wanted.reason, "trace": wanted.trace}
    query = [(name, text) for name, text in named.items() if text]
    if wanted.since_ns:
        query.append(("since_ns", str(wanted.since_ns)))
    query += [("id", str(each)) for each in wanted.ids]
    if wanted.until is not None:
        query.append(("until", str(wanted.until)))
    return query


def path_of(path: str, query: list[tuple[str, str]]) -> str:
    """A path of the admin API with its parameters."""
    # An argument may hold bytes that are no UTF-8: then nothing is found, which is right.
    encoded = urlencode(query, errors="replace")
    return f"{path}?{encoded}" if encoded else path
