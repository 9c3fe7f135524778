"""How the daemon fares, as one line for people in `systemctl status`.

    3 destinations, 1 blocked: axiom 403 “bad token…”; 12.0 MiB waiting, oldest 4 min 10 s

What is wrong stands first, numbers last. Reasons are the upstream's own words and masked already.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.model.nouns import counted
from relay.model.units import about_bytes, about_duration

MAX_CHARACTERS = 400
_REASON_CHARACTERS = 140
_NAMED = 2  # destinations of a kind with their reasons; of others only the number is told
_TROUBLES = ("blocked", "waiting", "paused")


@dataclass(frozen=True, slots=True)
class Summary:
    """`condition` is what somebody may have to act on; `amounts` are numbers that always move."""

    condition: str
    amounts: str

    def __str__(self) -> str:
        room = MAX_CHARACTERS - len(self.amounts) - 2
        return f"{cut(self.condition, room)}; {self.amounts}" if self.amounts else self.condition


def summarize(status: Mapping[str, Any], problem: str = "") -> Summary:
    """The line for a status document; `problem` is what else should be known, and comes first."""
    destinations: Sequence[Mapping[str, Any]] = status["destinations"]
    parts = [problem] if problem else []
    if not status["ready"]:
        reason = status["not_ready_reason"]
        parts.append("stopping" if reason == "stopping" else f"NOT READY: {reason}")
    parts.append(_destinations(destinations))
    condition = cut(one_line("; ".join(parts)), MAX_CHARACTERS)
    return Summary(condition, _amounts(status["buffer"], destinations))


def one_line(text: str) -> str:
    """Any text without line breaks and what else a terminal would obey."""
    return "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))


def cut(text: str, characters: int) -> str:
    """At most so many characters, the last of them … where something is missing."""
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def _destinations(destinations: Sequence[Mapping[str, Any]]) -> str:
    if not destinations:
        return "no destination is configured: what comes is kept until there is one"
    number = len({each["name"] for each in destinations})
    counted = f"{number} destination{'s' if number > 1 else ''}"
    entries = Counter(each["name"] for each in destinations)
    troubles = [
        _trouble(state, [each for each in destinations if each["state"] == state], entries)
        for state in _TROUBLES
        if any(each["state"] == state for each in destinations)
    ]
    return ", ".join([counted, *troubles]) if troubles else f"{counted}, all well"


def _trouble(
    state: str, destinations: Sequence[Mapping[str, Any]], entries: Mapping[str, int]
) -> str:
    """The entries of one state; the signal is named where a destination has several."""
    names = [
        f"{each['name']} ({each['signal']})" if entries[each["name"]] > 1 else str(each["name"])
        for each in destinations
    ]
    shown = [
        f"{name} {cut(each['reason'], _REASON_CHARACTERS)}".rstrip()
        if state != "paused"  # its reason says no more than its name
        else name
        for name, each in zip(names[:_NAMED], destinations, strict=False)
    ]
    if len(destinations) > _NAMED:
        shown.append(f"{len(destinations) - _NAMED} more")
    number = len({each["name"] for each in destinations})
    return f"{number} {state}: {', '.join(shown)}"


def _amounts(buffer: Mapping[str, Any], destinations: Sequence[Mapping[str, Any]]) -> str:
    if not destinations:
        return f"{counted(buffer['spans'], 'item')} kept"
    behind = [each for each in destinations if each["waiting_spans"]]
    if not behind:
        return "nothing waiting"
    waiting = sum(each["waiting_bytes"] for each in behind)
    oldest = max(each["oldest_waiting_seconds"] for each in behind)
    return f"{about_bytes(waiting)} waiting, oldest {about_duration(oldest)}"
