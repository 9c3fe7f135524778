"""Dead letters in; what the admin API says of them out: entries, groups, spans as OTLP JSON."""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from relay.admin.answers import iso
from relay.buffer.views import LetterEntry, StoredLetter
from relay.model.records import DeadLetter, Encoding
from relay.otlp import transcode
from relay.otlp.transcode import TranscodeError

INGEST = "ingest"
MOST_GROUPS = 1000
# Numbers and whatever else is made of hex digits: counts, ages, request ids.
_PARTICULAR = re.compile(r"[0-9a-fA-F-]*[0-9][0-9a-fA-F-]*")
_is_json = msgspec.json.Decoder(list[msgspec.Raw]).decode


def entry_document(entry: LetterEntry) -> dict[str, Any]:
    """A letter as a list has it."""
    return {
        "id": entry.letter_id,
        "set_aside_at": iso(entry.set_aside_ns),
        **_letter(entry.letter),
        "bytes": entry.raw_bytes,
        "stored_bytes": entry.stored_bytes,
    }


def _letter(letter: DeadLetter) -> dict[str, Any]:
    trace_ids = letter.trace_ids.hex()
    return {
        "destination": letter.destination or INGEST,
        "reason": letter.reason,
        "status": letter.status,
        "words": letter.words,
        "path": letter.path,
        "spans": letter.spans,
        "affected": letter.affected,
        "encoding": letter.encoding.name.lower(),
        "received_at": iso(letter.received_ns),
        "trace_ids": [trace_ids[at : at + 32] for at in range(0, len(trace_ids), 32)],
    }


def full_document(stored: StoredLetter) -> dict[str, Any]:
    """Everything about one. `resourceSpans` is null where its bytes are no spans any more; then
    they are in `body_base64`.
    """
    letter = stored.letter
    document = {
        "id": stored.letter_id,
        "set_aside_at": iso(stored.set_aside_ns),
        **_letter(letter),
        "row": letter.row,
        "bytes": len(letter.body),
        "is_damaged": stored.is_damaged,
        "resourceSpans": None,
    }
    try:
        document["resourceSpans"] = msgspec.Raw(b"[%b]" % json_fragment(letter))
    except TranscodeError as error:
        document["unreadable"] = error.message
        document["body_base64"] = base64.b64encode(letter.body).decode()
    return document


def json_line(letter: DeadLetter) -> str:
    """The letter's spans as one ExportTraceServiceRequest on one line. Raises TranscodeError."""
    return (b'{"resourceSpans":[%b]}' % json_fragment(letter)).decode()


def json_fragment(letter: DeadLetter) -> bytes:
    """Its `resourceSpans` entries as JSON of one line, comma-joined. Raises TranscodeError."""
    if letter.encoding is Encoding.PROTOBUF:
        return transcode.to_json(letter.body)
    # Inside a JSON text a line break stands between values only.
    fragment = letter.body.replace(b"\n", b" ").replace(b"\r", b" ")
    try:
        _is_json(b"[%b]" % fragment)
        fragment.decode()
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise TranscodeError(transcode.describe_error("JSON", error)) from None
    return fragment


@dataclass(slots=True)
class Group:
    """Letters that say the same."""

    newest: LetterEntry
    first_ns: int
    last_ns: int
    letters: int = 0
    spans: int = 0
    stored_bytes: int = 0

    def add(self, entry: LetterEntry) -> None:
        """One more."""
        self.letters += 1
        self.spans += entry.letter.affected
        self.stored_bytes += entry.stored_bytes
        self.first_ns = min(self.first_ns, entry.set_aside_ns)
        self.last_ns = max(self.last_ns, entry.set_aside_ns)
        if entry.letter_id > self.newest.letter_id:
            self.newest = entry

    def document(self) -> dict[str, Any]:
        """As JSON says it; words and path are those of the newest, verbatim."""
        letter = self.newest.letter
        return {
            "destination": letter.destination or INGEST,
            "reason": letter.reason,
            "status": letter.status,
            "letters": self.letters,
            "spans": self.spans,
            "bytes": self.stored_bytes,
            "first_at": iso(self.first_ns),
            "last_at": iso(self.last_ns),
            "words": letter.words,
            "path": letter.path,
            "newest_id": self.newest.letter_id,
        }


class Groups:
    """Letters by destination, reason, status and words.

    Words that differ in numbers or ids only are the same: an upstream that counts, or names the
    request, would else have a group for each letter. Of ingest the words are a trace id: no part.
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, int, str], Group] = {}
        self.letters = 0
        self.spans = 0

    def add(self, entries: Iterable[LetterEntry]) -> None:
        """Count these, too."""
        for entry in entries:
            letter = entry.letter
            self.letters += 1
            self.spans += letter.affected
            words = _PARTICULAR.sub("#", letter.words) if letter.destination else ""
            key = (letter.destination, letter.reason, letter.status, words)
            if key not in self._groups and len(self._groups) >= MOST_GROUPS:
                key = (*key[:3], "")
            group = self._groups.get(key)
            if group is None:
                at_ns = entry.set_aside_ns
                group = self._groups[key] = Group(entry, at_ns, at_ns)
            group.add(entry)

    def documents(self) -> list[dict[str, Any]]:
        """The groups, the one with the newest letter first."""
        ordered = sorted(self._groups.values(), key=lambda it: it.newest.letter_id, reverse=True)
        return [group.document() for group in ordered]
