"""The document of `/api/status`: counters, statistics and courier states as plain dicts.

`/metrics` and the line for the service manager are made of it too, so that they cannot disagree.
Header values and bodies are not in it.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import anyio

from relay.buffer.api import Log
from relay.buffer.backlog_name import BacklogName
from relay.buffer.sqlite.append_timeout import stalled
from relay.buffer.values import BacklogStatistics, BufferStatistics
from relay.config import ListenAddress
from relay.deliver.fleet import Fleet, Removed
from relay.ingest.offload.offload import Offload
from relay.ingest.refusals import Refusals
from relay.model.counters import Counters
from relay.model.errors import BufferUnavailable, ConfigError
from relay.model.nouns import counted, counted_items
from relay.model.records import DestinationStatus, ParkedSpan, Signal
from relay.model.units import about_duration, iso
from relay.otlp import native
from relay.reload import Control
from relay.salvage.salvage import QuarantinedFile, Salvage
from relay.version import __version__

# A disk that hangs must not keep the rest from being told.
LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Status:
    """How the daemon fares: the parts that know it, and the document that is made of it."""

    started_ns: int
    listening: Sequence[str]
    counters: Counters
    refusals: Refusals
    buffer: Log
    fleet: Fleet
    offload: Offload
    salvage: Salvage | None
    control: Control

    @property
    def endpoint(self) -> str:
        """What senders on this host have as OTEL_EXPORTER_OTLP_ENDPOINT."""
        config = self.control.config.ingest
        scheme = "https" if config.tls_cert else "http"
        try:
            return f"{scheme}://{ListenAddress.parse(self.listening[0]).reachable}"
        except ConfigError:  # an inherited socket that is none of TCP
            return f"{scheme}://{config.listen[0].reachable}"

    def not_ready_reason(self) -> str:
        """Empty when a span could be kept now; else one sentence."""
        if self.control.is_stopping:
            return "stopping"
        buffer = self.buffer.statistics()
        if buffer.is_stalled:
            return stalled(buffer.stalled_seconds)
        if buffer.last_error or not (buffer.is_full or buffer.is_writable):
            return f"the buffer cannot write: {buffer.last_error or 'it is closed'}"
        return f"the buffer is full: {buffer.limit}" if buffer.is_full else ""

    @property
    def _quarantined(self) -> Sequence[QuarantinedFile]:
        return self.salvage.quarantined if self.salvage is not None else ()

    async def fresh(self) -> dict[str, Any]:
        """The document, after a look at the disk for how old is what waits."""
        with anyio.move_on_after(LOOK_SECONDS), contextlib.suppress(BufferUnavailable):
            await self.buffer.find_oldest()
        return self.document()

    def document(self) -> dict[str, Any]:
        """The document of `/api/status`."""
        now_ns = time.time_ns()
        reason = self.not_ready_reason()
        config = self.control.config
        buffer = self.buffer.statistics()
        destinations = [
            (status, self.buffer.consumer(status.name, signal=status.signal).statistics())
            for status in self.fleet.statuses()
        ]
        return {
            "version": __version__,
            "native_pass": native.STATE,
            "started_at": iso(self.started_ns),
            "uptime_seconds": (now_ns - self.started_ns) / 1e9,
            "ready": not reason,
            "not_ready_reason": reason,
            "reload_problem": self.control.problem,
            "config": str(config.source or ""),
            "warnings": list(config.warnings),
            "ingest": {
                "listening": list(self.listening),
                "endpoint": self.endpoint,
                **_ingest(self.counters),
                "refused_last_hour": self.refusals.last_hour(),
                "refused_bodies": self.refusals.bodies(),
            },
            "helper": asdict(self.offload.statistics()),
            "buffer": _buffer(self.counters, buffer, [backlog for _, backlog in destinations])
            | {"set_aside": [asdict(each) for each in self._quarantined]},
            "destinations": [
                _destination(status, backlog, now_ns, _evicted_of(buffer, status))
                for status, backlog in destinations
            ],
            "removed": [_removed(each, now_ns) for each in self.fleet.removed()],
        }


def _evicted_of(buffer: BufferStatistics, status: DestinationStatus) -> int:
    return buffer.evicted_items.get(BacklogName(status.name, status.signal), 0)


def _evicted(buffer: BufferStatistics) -> dict[str, int]:
    """Spans evicted, by destination."""
    return {
        key.destination: number
        for key, number in buffer.evicted_items.items()
        if key.signal is Signal.TRACES
    }


def _ingest(counters: Counters) -> dict[str, Any]:
    signals = {signal.word: _of_signal(counters, signal) for signal in Signal}
    traces = signals["traces"]
    return {
        "requests": {str(status): number for status, number in counters.requests.items()},
        "received_spans": traces["received"],
        "received_bytes": counters.received_bytes,
        "kept_spans": traces["kept"],
        "rejected_spans": traces["rejected"],
        "warnings": traces["warnings"],
        "signals": signals,
        "refused": dict(counters.refused),
        "connections_closed": dict(counters.connections_closed),
        "last_kept_at": iso(counters.last_kept_ns),
        "tested_by_sender_at": iso(counters.last_connection_test_ns),
    }


def _of_signal(counters: Counters, signal: Signal) -> dict[str, Any]:
    """Items of one signal: spans, log records or data points."""
    return {
        "received": counters.received_items[signal],
        "kept": counters.kept_items[signal],
        "rejected": _of(signal, counters.rejected_items),
        "processed": _of(signal, counters.processed_items),
        "warnings": _of(signal, counters.warnings),
    }


def _of(signal: Signal, counted: Counter[tuple[Signal, str]]) -> dict[str, int]:
    return {code: number for (of, code), number in counted.items() if of is signal}


def _buffer(
    counters: Counters, buffer: BufferStatistics, backlogs: Sequence[BacklogStatistics]
) -> dict[str, Any]:
    # What is owed to anybody is looked at every few seconds: what came since, each knows at once.
    of_signals = [[each for each in backlogs if each.signal is signal] for signal in Signal]
    owed_rows = sum(max((each.owed_rows for each in them), default=0) for them in of_signals)
    owed_spans = sum(max((each.owed_items for each in them), default=0) for them in of_signals)
    return {
        "rows": buffer.rows,
        "spans": buffer.items,
        "first_row": buffer.first_row,
        "last_row": buffer.last_row,
        "bytes_on_disk": buffer.disk_bytes,
        "max_bytes": buffer.max_size_bytes,
        "reserve_bytes": buffer.reserve_bytes,
        "owed_rows": max(buffer.owed_rows, owed_rows),
        "owed_spans": max(buffer.owed_items, owed_spans),
        "owed_bytes_on_disk": buffer.owed_disk_bytes,
        "full_in_seconds": buffer.full_in_seconds,
        "last_evicted_at": iso(buffer.last_evicted_ns),
        "evicted_spans": _evicted(buffer),
        "evicted": [
            {"destination": name, "signal": signal.word, "items": number}
            for (name, signal), number in buffer.evicted_items.items()
        ],
        "file_system_free_bytes": buffer.file_system_free_bytes,
        "oldest_received_at": iso(buffer.oldest_received_ns),
        "dead_letters": sum(each.count for each in buffer.dead_letters.values()),
        "dead_letters_by_destination": {
            name or "ingest": each.count for name, each in buffer.dead_letters.items()
        },
        "dead_letters_dropped": buffer.dead_letters_dropped,
        "promise": buffer.promise,
        "is_writable": buffer.is_writable,
        "is_full": buffer.is_full,
        "limit": buffer.limit,
        "last_error": buffer.last_error,
        "stalled_seconds": buffer.stalled_seconds,
        "commits": counters.commits,
        "commit_seconds_sum": counters.commit_seconds_sum,
        "commit_seconds_p50": counters.commit_quantile(0.5),
        "commit_seconds_p99": counters.commit_quantile(0.99),
    }


def _destination(
    status: DestinationStatus, backlog: BacklogStatistics, now_ns: int, evicted_spans: int
) -> dict[str, Any]:
    # What waits for the rest of its traces is no backlog: it is meant to wait.
    waiting = max(backlog.owed_items - status.held_items, 0)
    return {
        "name": status.name,
        "signal": status.signal.word,
        "endpoint": status.endpoint,
        "encoding": status.encoding,
        "header_names": list(status.header_names),
        "state": str(status.state),
        "reason": status.reason,
        "since": iso(status.since_ns),
        "next_try_at": iso(status.next_try_ns),
        "last_success_at": iso(status.last_success_ns),
        "last_status": status.last_status,
        "requests": status.requests,
        "delivered_spans": status.delivered_items,
        "refused_spans": status.refused_items,
        "in_flight_spans": backlog.in_flight_items,
        "waiting_spans": waiting,
        "held_spans": backlog.owed_items - waiting,
        "waiting_rows": backlog.owed_rows,
        "waiting_bytes": backlog.owed_bytes,
        "oldest_waiting_seconds": _waited_seconds(backlog, now_ns) if waiting else 0.0,
        "evicted_spans": evicted_spans,
        "stepped_around_spans": sum(each.items for each in status.parked),
        "filtered_spans": dict(status.filtered_items),
        "changed_spans": dict(status.changed_items),
        "overflowed_traces": status.overflowed_traces,
        "failed_conditions": dict(status.failed_conditions),
        "warnings": warnings_of(status, now_ns),
    }


def warnings_of(status: DestinationStatus, now_ns: int) -> list[str]:
    """What somebody should look at, though it delivers: a sentence each, with what to do."""
    sentences = [*status.warnings, *parked_sentences(status, now_ns)]
    if traces := status.overflowed_traces:
        sentences.append(
            f"{counted(traces, 'trace')} worth keeping came within wait beyond those that are "
            "remembered by their ids: none is lost, and some others are sent whole with them; "
            "shorten wait of sample, or let keep mean fewer traces"
        )
    sentences += [
        f"{name} could not be told for {number} items and counted as false: "
        f"{status.condition_words[name]}"
        for name, number in status.failed_conditions.items()
    ]
    return sentences


def _removed(removed: Removed, now_ns: int) -> dict[str, Any]:
    """What waits for nobody: its destination, or that signal of it, left the configuration."""
    backlog = removed.backlog
    return {
        "name": backlog.name,
        "signal": backlog.signal.word,
        "waiting_spans": backlog.owed_items,
        "waiting_bytes": backlog.owed_bytes,
        "oldest_waiting_seconds": _waited_seconds(backlog, now_ns),
        "drop_command": removed.drop_command,
    }


def _waited_seconds(backlog: BacklogStatistics, now_ns: int) -> float:
    oldest_ns = backlog.oldest_owed_ns
    return max(0.0, (now_ns - oldest_ns) / 1e9) if oldest_ns else 0.0


def parked_sentences(status: DestinationStatus, now_ns: int) -> list[str]:
    """What is owed and not in the way of others, in one sentence for all that fare the same."""
    alike: dict[str, list[ParkedSpan]] = {}
    for each in status.parked:
        alike.setdefault(each.said, []).append(each)
    sentences = []
    for said, those in alike.items():
        items = sum(each.items for each in those)
        it_is = "it is" if items == 1 else "each is"
        seconds = max(min(each.next_try_ns for each in those) - now_ns, 0) / 1e9
        following = f"next in {about_duration(seconds)}" if seconds else "next at once"
        sentences.append(
            f"{counted_items(items, status.signal.word)} parked: {said}, each time while others "
            f"pass; {it_is} still owed and retried alone, {following}"
        )
    return sentences
