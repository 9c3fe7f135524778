"""Counts dead letters by what they say, so that a thousand alike are one line."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from relay.buffer.values import DeadLetterEntry
from relay.model.records import Signal

MOST_GROUPS = 1000
# Numbers and whatever else is made of hex digits: counts, ages, request ids.
_PARTICULAR = re.compile(r"[0-9a-fA-F-]*[0-9][0-9a-fA-F-]*")


@dataclass(slots=True)
class DeadLetterGroup:
    """Letters that say the same."""

    newest: DeadLetterEntry
    first_ns: int
    last_ns: int
    letters: int = 0
    spans: int = 0
    stored_bytes: int = 0

    def add(self, entry: DeadLetterEntry) -> None:
        """One more."""
        self.letters += 1
        self.spans += entry.letter.affected
        self.stored_bytes += entry.stored_bytes
        self.first_ns = min(self.first_ns, entry.set_aside_ns)
        self.last_ns = max(self.last_ns, entry.set_aside_ns)
        if entry.letter_id > self.newest.letter_id:
            self.newest = entry


class Groups:
    """Letters by destination, signal, reason, status and words.

    Words that differ in numbers or ids only are the same: an upstream that counts, or names the
    request, would else have a group for each letter. Of ingest the words are a trace id: no part.
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[str, Signal, str, int, str], DeadLetterGroup] = {}

    def add(self, entries: Iterable[DeadLetterEntry]) -> None:
        """Count these, too."""
        for entry in entries:
            letter = entry.letter
            words = _PARTICULAR.sub("#", letter.words) if letter.destination else ""
            key = (letter.destination, letter.signal, letter.reason, letter.status, words)
            if key not in self._groups and len(self._groups) >= MOST_GROUPS:
                key = (*key[:4], "")
            group = self._groups.get(key)
            if group is None:
                at_ns = entry.set_aside_ns
                group = self._groups[key] = DeadLetterGroup(entry, at_ns, at_ns)
            group.add(entry)

    def newest_first(self) -> list[DeadLetterGroup]:
        """The groups, the one with the newest letter first."""
        return sorted(self._groups.values(), key=lambda it: it.newest.letter_id, reverse=True)
