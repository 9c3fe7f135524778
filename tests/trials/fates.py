"""What collectors took and dead letters hold goes in; the `Fate` of each destination comes out."""

import asyncio
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mockcollector.received import ReceivedRequest
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.values import StoredDeadLetter
from relay.model.counters import Counters
from relay.model.records import Encoding
from tests.trials.rows import Fate

KEY_BYTES = 24  # trace id and span id, as the collector packs them
# Settled ranges are on disk after 200 ms at the latest; the rest is for a request and a busy host:
# what arrived so long before a crash may come again after it.
IN_FLIGHT_SECONDS = 1.0

# A request that was out at a crash may lie in the collector's socket, and be read a moment later.
LAG_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that was taken: when it came, its span ids, whether its sender got an answer."""

    at: float
    ids: tuple[str, ...]
    is_answered: bool


class Recorder:
    """Give it to a MockCollector as `on_request`; it remembers every span that was accepted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals: list[Arrival] = []
        self._ids: set[str] = set()

    def __call__(self, request: ReceivedRequest) -> None:
        count = request.accepted_spans
        if not count:
            return
        packed = request.span_ids
        ids = tuple(
            packed[at + 16 : at + KEY_BYTES].hex() for at in range(0, count * KEY_BYTES, KEY_BYTES)
        )
        arrival = Arrival(
            request.received_unix_nano / 1e9, ids, is_answered=request.status is not None
        )
        with self._lock:
            self._arrivals.append(arrival)
            self._ids.update(ids)

    def holds(self, ids: Iterable[str]) -> bool:
        """Whether all of `ids` have arrived."""
        with self._lock:
            return self._ids.issuperset(ids)

    @property
    def ids(self) -> set[str]:
        """The ids that have arrived."""
        with self._lock:
            return set(self._ids)

    def fate(self, crashes: Iterable[tuple[float, float]] = ()) -> tuple[Fate, list[str]]:
        """What arrived, and a sentence for each repetition that no crash explains.

        A crash is two times by the wall clock: since when what arrives may come again, and until.
        """
        crashes = list(crashes)
        with self._lock:
            arrivals = sorted(self._arrivals, key=lambda arrival: arrival.at)
        fate = Fate()
        first: dict[str, Arrival] = {}
        problems = []
        for arrival in arrivals:
            fate.arrived += arrival.ids
            if not arrival.is_answered or any(
                since <= arrival.at <= until + LAG_SECONDS for since, until in crashes
            ):
                fate.bound += len(arrival.ids)
            for each in arrival.ids:
                before = first.setdefault(each, arrival)
                is_explained = (
                    before is arrival
                    or not before.is_answered
                    or any(
                        since <= before.at <= until + LAG_SECONDS and until <= arrival.at
                        for since, until in crashes
                    )
                )
                if not is_explained:
                    problems.append(
                        f"{each} came again after {arrival.at - before.at:.2f} s without a crash"
                    )
                first[each] = arrival
        return fate, problems


def letters_in(state_dir: Path) -> list[StoredDeadLetter]:
    """Every dead letter of a relay that is not running."""

    async def read() -> list[StoredDeadLetter]:
        buffer = Buffer(state_dir, BufferSettings(min_free_bytes=0), Counters())
        buffer.open()
        try:
            return await buffer.dead_letters.newest(1_000_000)
        finally:
            await buffer.close()

    return asyncio.run(read())


def span_ids_in(body: bytes, encoding: Encoding) -> list[str]:
    """The span ids of a fragment; none where it cannot be read."""
    if encoding is Encoding.JSON:
        return [found.decode() for found in re.findall(rb'"spanId": ?"([0-9a-f]{16})"', body)]
    try:
        message = ExportTraceServiceRequest.FromString(body)
    except ValueError:
        return []
    return [
        span.span_id.hex()
        for entry in message.resource_spans
        for scope in entry.scope_spans
        for span in scope.spans
    ]


def dead_by_destination(letters: Iterable[StoredDeadLetter]) -> dict[str, dict[str, str]]:
    """For each destination the span ids in its dead letters, with reason, status and words."""
    found: dict[str, dict[str, str]] = {}
    for stored in letters:
        letter = stored.letter
        said = f"{letter.reason} {letter.status} {letter.words}"
        for each in span_ids_in(letter.body, letter.encoding):
            found.setdefault(letter.destination, {})[each] = said
    return found
