"""Where commands that only look find what they show: the running daemon, or its files.

Both give the same documents, those of the admin API.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from relay.buffer.values import DeadLetterFilter
from relay.cli.client import DaemonRefused, NoDaemon, admin_client
from relay.cli.output import say
from relay.config import Config

if TYPE_CHECKING:
    from relay.dead_letters.look import Looking
    from relay.traces.kept_calls import Asked

Document = dict[str, Any]
Found = TypeVar("Found")
NEWEST = 2**63 - 1
LETTERS = "/api/dead-letters"


class Source:
    """The daemon where one runs, else its files, read only; the first question settles which.

    Every method raises RelayError, with what to do.
    """

    def __init__(self, config: Config, timeout_seconds: float) -> None:
        self._config = config
        self._client = admin_client(config, timeout_seconds)
        self._is_at_rest = False

    def trace(self, text: str) -> tuple[bool, Document]:
        """Whether a trace is known, and where it is; without its items. Why a destination takes
        nothing the files do not tell.
        """
        return self._ask(lambda: self._trace_of_daemon(text), lambda: self._trace_of_files(text))

    def calls(self, asked: "Asked") -> Document:
        """What models and agents did; of a session that is not found only how far was looked."""
        query = {"by": asked.by, "seconds": int(asked.seconds)}
        query |= {"since": asked.since_ns} if asked.since_ns else {}
        query |= {"personal": "true"} if asked.show_personal else {}
        session = f"/sessions/{quote(asked.session, safe='')}" if asked.session else ""
        path = f"/api/genai{session}?{urlencode(query)}"
        return self._ask(lambda: self._calls_of_daemon(path), lambda: self._calls_of_files(asked))

    def status(self) -> Document | None:
        """The daemon's status; None where none runs."""
        return None if self._is_at_rest else self._client.ask("GET", "/api/status")

    def letters(self, wanted: DeadLetterFilter, *, before: int, limit: int) -> Document:
        """A page of dead letters, the newest first; `before` an id, or NEWEST."""
        return self._look(
            path_of(LETTERS, wanted, before=before, limit=limit),
            lambda it: it.entries(wanted, before=before, limit=limit),
            lambda of: of.list_document,
        )

    def letter_groups(self, wanted: DeadLetterFilter) -> Document:
        """How many dead letters there are, by destination, reason, status and words."""
        path = path_of(f"{LETTERS}/groups", wanted)
        return self._look(path, lambda it: it.groups(wanted), lambda of: of.groups_document)

    def letter(self, letter_id: int, *, is_whole: bool) -> Document:
        """A dead letter with its items, redacted unless it `is_whole`."""
        path = f"{LETTERS}/{letter_id}{'?unredacted=true' if is_whole else ''}"
        return self._look(
            path,
            lambda it: it.show(letter_id, is_whole=is_whole),
            lambda of: of.letter_document,
        )

    def exported(self, wanted: DeadLetterFilter, after: int, *, is_whole: bool) -> Document:
        """A step of dead letters as OTLP JSON lines, likewise."""
        path = path_of(f"{LETTERS}/export", wanted, after=after, unredacted=is_whole)
        return self._look(path, lambda it: it.export(wanted, after=after, is_whole=is_whole))

    def _trace_of_daemon(self, text: str) -> tuple[bool, Document]:
        status, found = self._client.get(f"/api/traces/{quote(text, safe='')}?spans=false")
        if status not in (200, 404) or not isinstance(found, dict):
            raise DaemonRefused.of(status, found)
        return status == 200, found

    def _trace_of_files(self, text: str) -> tuple[bool, Document]:
        from relay.admin.trace_document import trace_document
        from relay.traces.offline import find_at_rest

        report = find_at_rest(self._config, text)
        return report.is_known, trace_document(report)

    def _calls_of_daemon(self, path: str) -> Document:
        status, found = self._client.get(path)
        if status not in (200, 404) or not isinstance(found, dict) or "looked" not in found:
            raise DaemonRefused.of(status, found)
        return found

    def _calls_of_files(self, asked: "Asked") -> Document:
        from relay.traces.offline import calls_at_rest

        return calls_at_rest(self._config, asked)

    def _look(
        self,
        path: str,
        question: "Callable[[Looking], Awaitable[Found]]",
        document_of: Callable[[Any], Callable[[Found], Document]] | None = None,
    ) -> Document:
        """What `path` of the daemon says, else `question` of the files, made a document by a
        function of `dead_letter_documents` unless it is one as it is.
        """

        def in_files() -> Document:
            from relay.admin import dead_letter_documents  # imported only where no daemon does it
            from relay.dead_letters.offline import look_at_rest

            found: Any = look_at_rest(self._config, question)
            if document_of:
                found = document_of(dead_letter_documents)(found)
            return dict(msgspec.json.decode(msgspec.json.encode(found)))  # spans are JSON already

        return self._ask(lambda: self._client.ask("GET", path), in_files)

    def _ask(self, daemon: Callable[[], Found], files: Callable[[], Found]) -> Found:
        if self._is_at_rest:
            return files()
        try:
            return daemon()
        except NoDaemon as no_daemon:
            from relay.offline.file import NoBuffer

            try:
                found = files()
            except NoBuffer:
                raise no_daemon from None
        self._is_at_rest = True
        say("no daemon is running; read from its files", err=True)
        return found


def path_of(path: str, wanted: DeadLetterFilter, **more: object) -> str:
    """A path of the admin API with the dead letters that are meant, and other parameters."""
    query = {
        "destination": wanted.destination,
        "reason": wanted.reason,
        "signal": wanted.signal and wanted.signal.word,
        "trace": wanted.trace,
        "since_ns": wanted.since_ns,
        "id": wanted.ids,
        "until": wanted.until,
        **more,
    }
    given = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in query.items()
        if value not in ("", None)
    }
    # An argument may hold bytes that are no UTF-8: then nothing is found, which is right.
    return f"{path}?{urlencode(given, doseq=True, errors='replace')}"
