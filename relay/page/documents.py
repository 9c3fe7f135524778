"""What screens say beyond the API: a line for each destination, what is wrong. Pure."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from relay.model.units import about_duration

# The worst first. What is not here is well.
WORST_FIRST: Final = ("blocked", "waiting", "paused")
Document = Mapping[str, Any]


def destinations_of(status: Document, rates: Document) -> list[dict[str, Any]]:
    """A line for each destination, of all its signals, the worst first."""
    series = {(each["name"], each["signal"]): each for each in rates["destinations"]}
    found: dict[str, list[Document]] = {}
    for queue in status["destinations"]:
        found.setdefault(queue["name"], []).append(queue)
    lines = []
    for name, queues in found.items():
        worst = min(queues, key=_badness)
        own = [series[key] for each in queues if (key := (name, each["signal"])) in series]
        lines.append(
            {
                "name": name,
                "worst": worst,
                "state": "delivering" if worst["state"] == "idle" else worst["state"],
                "queues": queues,
                "waiting": sum(each["waiting_spans"] for each in queues),
                "delivered": sum(each["delivered_spans"] for each in queues),
                "filtered": _summed(each["filtered_spans"] for each in queues),
                "changed": _summed(each["changed_spans"] for each in queues),
                "oldest": max(each["oldest_waiting_seconds"] for each in queues),
                "series": _sum(each["delivered"] for each in own),
                "letters": status["buffer"]["dead_letters_by_destination"].get(name, 0),
            }
        )
    return sorted(lines, key=lambda line: (_badness(line["worst"]), -line["waiting"]))


def _badness(queue: Document) -> int:
    state = queue["state"]
    if state in WORST_FIRST:
        return WORST_FIRST.index(state)
    return len(WORST_FIRST) - 1 if queue["reason"] else len(WORST_FIRST)


def _sum(lists: Iterable[Sequence[int]]) -> list[int]:
    return [sum(each) for each in zip(*lists, strict=True)]


def totals(rates: Document, what: str) -> list[int]:
    """A series of all signals."""
    return _sum(rates[what].values())


def wrong_with(status: Document) -> list[str]:
    """What the relay itself suffers from, a sentence each."""
    buffer = status["buffer"]
    found = [f"not ready: {status['not_ready_reason']}"] if not status["ready"] else []
    if buffer["is_full"]:
        found.append(f"the disk's share is full: {buffer['limit']}")
    elif buffer["full_in_seconds"] is not None:
        found.append(f"full in {about_duration(buffer['full_in_seconds'])} at this pace")
    dropped = [each for each in buffer["evicted"] if each["items"]]
    found += [
        f"{each['items']:,} {each['signal']} for {each['destination']} were dropped"
        for each in dropped
    ]
    return [*found, *status["warnings"]]


def rejected_in(status: Document) -> int:
    """How many items were rejected since the start."""
    signals = status["ingest"]["signals"].values()
    return sum(sum(each["rejected"].values()) for each in signals)


def sentence(event: Document) -> str:
    """What happened, for people."""
    kind = event["kind"]
    if kind == "destination":
        status = (
            f" ({event['status']})" if event["status"] and event["state"] != "delivering" else ""
        )
        return f"{event['name']} ({event['signal']}) is {event['state']}{status}"
    if kind == "rejected":
        return f"{event['items']} of {event['signal']} rejected: {event['reason']}"
    if kind == "refused":
        return f"{event['times']} requests refused: {event['reason']}"
    return "the disk's share is full" if event["is_full"] else "the disk has room again"


def chart_of(rates: Document, name: str = "") -> dict[str, Any]:
    """The last hour for the chart: in, out and owed of everything, or of one destination."""
    own = [each for each in rates["destinations"] if name in ("", each["name"])]
    lines = {
        "delivered": _sum(each["delivered"] for each in own),
        "waiting": _sum(each["owed"] for each in own),
    }
    received = {} if name else {"received": totals(rates, "received")}
    return {"step": rates["step_seconds"], **received, **lines}


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Items by step, of all signals."""
    return dict(sum(map(Counter, counts), Counter[str]()))


def since_ns(seconds: str) -> str:
    """The moment so long ago in nanoseconds, as the API wants it; everything where that is 0."""
    ago = int(seconds) if seconds.isascii() and seconds.isdigit() and len(seconds) < 9 else 0
    return str(time.time_ns() - ago * 1_000_000_000) if ago else "1"
