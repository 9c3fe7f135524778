"""What the admin API says of dead letters: entries, groups, items as OTLP JSON. Pure."""

import base64
from typing import Any

import msgspec

from relay.buffer.values import DeadLetterEntry, StoredDeadLetter
from relay.dead_letters.groups import DeadLetterGroup
from relay.dead_letters.look import INGEST, Counted, Listed
from relay.dead_letters.otlp_lines import json_fragment
from relay.model.records import DeadLetter, Encoding
from relay.model.units import iso
from relay.otlp.signals import WIRE
from relay.otlp.transcode import TranscodeError


def list_document(found: Listed) -> dict[str, Any]:
    """A page of letters, the newest first."""
    return {
        "letters": [entry_document(entry) for entry in found.entries],
        "next": found.next,
        "dropped": found.dropped,
    }


def groups_document(found: Counted) -> dict[str, Any]:
    """How many letters there are, and of which kinds."""
    return {
        "letters": found.letters,
        "spans": found.spans,
        "by_signal": found.by_signal,
        "groups": [group_document(group) for group in found.groups],
        "dropped": found.dropped,
        "until": found.until,
    }


def entry_document(entry: DeadLetterEntry) -> dict[str, Any]:
    """A letter as a list has it."""
    return {
        "id": entry.letter_id,
        "set_aside_at": iso(entry.set_aside_ns),
        **_letter(entry.letter),
        "bytes": entry.raw_bytes,
        "stored_bytes": entry.stored_bytes,
    }


def summary(letter: DeadLetter) -> dict[str, Any]:
    """What became of its items, and why; for `where`, too."""
    return {
        "destination": letter.destination or INGEST,
        "reason": letter.reason,
        "status": letter.status,
        "words": letter.words,
        "path": letter.path,
        "signal": letter.signal.word,
        "spans": letter.items,
        "affected": letter.affected,
        "received_at": iso(letter.received_ns),
    }


def _letter(letter: DeadLetter) -> dict[str, Any]:
    trace_ids = letter.trace_ids.hex()
    return {
        **summary(letter),
        "encoding": letter.encoding.name.lower(),
        "trace_ids": [trace_ids[at : at + 32] for at in range(0, len(trace_ids), 32)],
    }


def letter_document(stored: StoredDeadLetter) -> dict[str, Any]:
    """Everything about one. Its items are under the key that a request of its signal has, such as
    `resourceSpans`; that is null where its bytes are none any more: then they are in `body_base64`.
    Of one whose items are hidden, `unreadable` says why, and there are no bytes.
    """
    letter = stored.letter
    key = WIRE[letter.signal].lists[Encoding.JSON].entries
    document: dict[str, Any] = {
        "id": stored.letter_id,
        "set_aside_at": iso(stored.set_aside_ns),
        **_letter(letter),
        "row": letter.row,
        "bytes": None if stored.hidden else len(letter.body),
        "is_damaged": stored.is_damaged,
        key: None,
    }
    if stored.hidden:
        return {**document, "unreadable": stored.hidden}
    try:
        document[key] = msgspec.Raw(b"[%b]" % json_fragment(letter))
    except TranscodeError as error:
        document["unreadable"] = error.message
        document["body_base64"] = base64.b64encode(letter.body).decode()
    return document


def group_document(group: DeadLetterGroup) -> dict[str, Any]:
    """A group; words and path are those of its newest letter, verbatim."""
    letter = group.newest.letter
    return {
        "destination": letter.destination or INGEST,
        "reason": letter.reason,
        "status": letter.status,
        "signal": letter.signal.word,
        "letters": group.letters,
        "spans": group.spans,
        "bytes": group.stored_bytes,
        "first_at": iso(group.first_ns),
        "last_at": iso(group.last_ns),
        "words": letter.words,
        "path": letter.path,
        "newest_id": group.newest.letter_id,
    }
