"""What the running daemon finds wrong with itself, its senders and its destinations. Pure.

Made of its own status, so that it is told what the daemon sees, with its environment and secrets,
and not what the account of whoever asks does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from relay.model.nouns import counted, counted_items
from relay.model.units import about_duration
from relay.otlp import native

MOST_REFUSED: Final = 8
MOST_SERVICES: Final = 8
SILENT_SECONDS: Final = 600.0
RECENT_SECONDS: Final = 3600.0

State = Literal["ok", "failed", "skipped", "warning"]
_NATIVE_STATES: Final[Mapping[str, State]] = {native.ACTIVE: "ok", native.NOT_INSTALLED: "skipped"}

# What a warning of the way in means, and what to do; the others need nobody.
FLAWS: Final[Mapping[str, str]] = {
    "time_ahead": "a time more than an hour ahead: set the sender's clock",
    "time_old": "a time more than 7 days ago: set the sender's clock, unless it was stored there",
    "time_before_2000": "a time before 2000: set the sender's clock",
    **{
        f"time_in_{unit}": f"a time in {unit}, where OTLP has nanoseconds: multiply it"
        for unit in ("microseconds", "milliseconds", "seconds")
    },
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about this relay; `state` as of a step of the connection test."""

    name: str
    state: State
    found: str


@dataclass(frozen=True, slots=True)
class ServiceSeen:
    """A service as it was seen last on the way in; `signal` by its word, `seen_at` RFC 3339."""

    name: str
    signal: str
    seen_at: str
    sender: str


def findings_of(
    status: Mapping[str, Any], services: Sequence[ServiceSeen], now: datetime
) -> list[Finding]:
    """What is to be known of a daemon with this status document, the worst of each part first."""
    return [
        *_daemon(status),
        *_refused(status["ingest"]),
        *_silence(status, now),
        *_services(services, now),
        *_flaws(status["ingest"]),
        *_buffer(status["buffer"], now),
        *(each for destination in status["destinations"] for each in _destination(destination)),
        *(Finding("removed", "failed", removed_text(each)) for each in status["removed"]),
    ]


def refused_text(refused: Mapping[str, Any]) -> str:
    """One kind of refused requests: how often, what, whose, and what to do."""
    what = f"{refused['reason']} {refused['path']}".rstrip()
    agent = f" ({refused['user_agent']})" if refused["user_agent"] else ""
    who = f"{refused['sender'] or 'others'}{agent}"
    return f"{refused['times']:,} x {what} from {who}: {refused['message']}"


def removed_text(removed: Mapping[str, Any]) -> str:
    """What waits for nobody, and the command that drops it."""
    name = _named(removed)
    waiting = counted_items(removed["waiting_spans"], removed["signal"])
    return f"{name}: gone from the configuration, {waiting} waiting: `{removed['drop_command']}`"


def silence_text(status: Mapping[str, Any], now: datetime) -> str:
    """That nothing came for long, and where senders reach this relay; empty while they do."""
    last_at, up_seconds = status["ingest"]["last_kept_at"], status["uptime_seconds"]
    reach = f"senders reach it with OTEL_EXPORTER_OTLP_ENDPOINT={status['ingest']['endpoint']}"
    if last_at is None:
        since = f"no request was kept since the start, {about_duration(up_seconds)} ago"
    elif (seconds := _seconds_since(last_at, now)) > SILENT_SECONDS:
        since = f"no request was kept for {about_duration(seconds)}"
    else:
        return ""
    return (
        f"{since}: {reach}; one that sends nothing may use another port, sample everything out "
        "(OTEL_TRACES_SAMPLER) or have its SDK turned off (OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER)"
    )


def _daemon(status: Mapping[str, Any]) -> Iterable[Finding]:
    if not status["ready"]:
        words = f"running, but it keeps nothing: {status['not_ready_reason']}"
        yield Finding("daemon", "failed", words)
    else:
        up = about_duration(status["uptime_seconds"])
        yield Finding("daemon", "ok", f"running, version {status['version']}, up {up}")
    state = status["native_pass"]
    yield Finding("native", _NATIVE_STATES.get(state, "warning"), native.describe(state))
    if status["reload_problem"]:
        yield Finding("daemon", "failed", status["reload_problem"])


def _refused(ingest: Mapping[str, Any]) -> Iterable[Finding]:
    refused = ingest["refused_last_hour"]
    for each in refused[:MOST_REFUSED]:
        yield Finding("refused", "failed", refused_text(each))
    if len(refused) > MOST_REFUSED:
        more = counted(len(refused) - MOST_REFUSED, "kind")
        words = f"{more} more in the last hour: `otlp-relay status --json`"
        yield Finding("refused", "failed", words)


def _silence(status: Mapping[str, Any], now: datetime) -> Iterable[Finding]:
    words = silence_text(status, now)
    if words:
        yield Finding("requests", "warning", words)
    else:
        seconds = _seconds_since(status["ingest"]["last_kept_at"], now)
        yield Finding("requests", "ok", f"the last was kept {about_duration(seconds)} ago")


def _services(services: Sequence[ServiceSeen], now: datetime) -> Iterable[Finding]:
    for each in services[:MOST_SERVICES]:
        seen = about_duration(_seconds_since(each.seen_at, now))
        words = f"{each.name or 'without a name'}: {each.signal} last seen {seen} ago"
        yield Finding("service", "ok", f"{words}, from {each.sender or 'this host'}")


def clock_text(code: str, times: int, signal: str) -> str:
    """So many items whose times no clock shows, and what to do; `code` is one of `FLAWS`."""
    return f"{counted_items(times, signal)} with {FLAWS[code]}"


def _flaws(ingest: Mapping[str, Any]) -> Iterable[Finding]:
    for signal, each in ingest["signals"].items():
        for code in FLAWS:
            if times := each["warnings"].get(code, 0):
                yield Finding("clock", "warning", clock_text(code, times, signal))
        for reason, times in sorted(each["rejected"].items()):
            words = f"{counted_items(times, signal)} rejected since the start: {reason}"
            look = "`otlp-relay dead-letter list --destination ingest`"
            yield Finding("rejected", "warning", f"{words}; {look}")


def _buffer(buffer: Mapping[str, Any], now: datetime) -> Iterable[Finding]:
    for each in buffer["evicted"]:
        last_at = buffer["last_evicted_at"]
        is_recent = last_at is not None and _seconds_since(last_at, now) < RECENT_SECONDS
        lost = counted_items(each["items"], each["signal"])
        yield Finding(
            "evicted",
            "failed" if is_recent else "warning",
            f"{lost} for {each['destination']} evicted undelivered, for want of space: repair that "
            "destination, or raise [buffer] max_size",
        )
    if letters := buffer["dead_letters"]:
        words = f"{counted(letters, 'dead letter')}: `otlp-relay dead-letter list` says why"
        yield Finding("letters", "warning", words)


def _destination(destination: Mapping[str, Any]) -> Iterable[Finding]:
    state = destination["state"]
    waiting = counted_items(destination["waiting_spans"], destination["signal"])
    words = f"{_named(destination)}: {state}, {waiting} waiting"
    if destination["reason"]:
        words += f": {destination['reason']}"
    is_well = state in ("idle", "delivering")
    yield Finding("delivery", "ok" if is_well else "failed", words)
    for warning in destination["warnings"]:
        yield Finding("delivery", "warning", f"{_named(destination)}: {warning}")


def _named(of: Mapping[str, Any]) -> str:
    return str(of["name"]) + ("" if of["signal"] == "traces" else f" ({of['signal']})")


def _seconds_since(iso: str, now: datetime) -> float:
    return max((now - datetime.fromisoformat(iso)).total_seconds(), 0.0)
