"""A trace id as somebody typed it in; the document of `/api/traces/ID` out.

What is typed may be the id that an app wrote and the relay mapped (`app_trace_001`), or one with
dashes: each reading is tried, and the document says which were right.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import anyio

from relay.admin import trace
from relay.buffer.sqlite import trace_queries
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.views import TracePlace
from relay.deliver.fleet import Fleet
from relay.model.errors import BufferUnavailable
from relay.model.records import DestinationStatus, StoredRow
from relay.process.check.ids import TRACE_ID_BYTES, derive

# Rows whose spans are shown; the rest of a large trace is told of all the same.
MOST_ROWS_SHOWN = 20
# A disk that hangs must not keep what is known from being told.
FLUSH_SECONDS = 2.0


class Traces:
    """Where traces are, of the buffer and the couriers of one process."""

    def __init__(self, buffer: Buffer, fleet: Fleet) -> None:
        self._buffer = buffer
        self._fleet = fleet

    async def find(self, text: str, *, with_spans: bool) -> tuple[bool, dict[str, Any]]:
        """Whether anything is known of the trace, and the document. Raises BufferUnavailable."""
        # What was just settled is told with its dead letter, which is only on disk.
        with anyio.move_on_after(FLUSH_SECONDS), contextlib.suppress(BufferUnavailable):
            await self._buffer.flush()
        ids, places = await read_all(text, self._buffer.find_trace)
        kept_ns, known_ns = await self._buffer.ask(trace_queries.reaches_back_ns)
        reach = trace.Reach(kept_ns, known_ns)
        if not places:
            return False, trace.unknown_document(text, reach)
        rows: list[StoredRow] = []
        if with_spans:
            kept = sorted({place.row for place in places if place.row and place.is_kept})
            rows = await self._buffer.read_rows(kept[:MOST_ROWS_SHOWN])
        return True, trace.trace_document(ids, places, rows, self._destinations(places), reach)

    def _destinations(self, places: list[TracePlace]) -> list[trace.Destination]:
        return destinations(self._fleet.statuses(), self._buffer.backlogs(), places)

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """What was received last, newest first."""
        return [trace.recent_trace(each) for each in await self._buffer.recent_traces(limit)]


def destinations(
    statuses: Iterable[DestinationStatus], known: Iterable[str], places: list[TracePlace]
) -> list[trace.Destination]:
    """Those configured, those `known` to the disk, and those that only dead letters name."""
    configured = {status.name: status for status in statuses}
    on_disk = set(known)
    named = {place.dead_letter.destination for place in places if place.dead_letter} - {""}
    return [
        trace.Destination(
            configured.get(name) or DestinationStatus(name, ""),
            is_configured=name in configured,
            is_known=name in configured or name in on_disk,
        )
        for name in sorted({*configured, *on_disk, *named})
    ]


async def read_all(
    text: str, find: Callable[[bytes, str], Awaitable[list[TracePlace]]]
) -> tuple[list[trace.Reading], list[TracePlace]]:
    """Which readings of `text` were right, and all that was found by them."""
    ids: list[trace.Reading] = []
    places: list[TracePlace] = []
    for reading in readings(text):
        found = await find(reading.trace_id, "" if places else text.strip())
        # A letter may be found by the text and by the id that it was mapped to.
        seen = {place.letter_id for place in places if place.letter_id}
        new = [place for place in found if place.letter_id not in seen]
        if new:
            ids.append(reading)
            places += new
    return ids, places


def readings(text: str) -> list[trace.Reading]:
    """What `text` may mean, the likeliest first; none for no text."""
    text = text.strip()
    digits = text.replace("-", "")
    found: list[trace.Reading] = []
    if len(digits) == 2 * TRACE_ID_BYTES and (trace_id := _from_hex(digits)):
        found.append(trace.Reading(trace_id, "id"))
    if (text and len(text) != 2 * TRACE_ID_BYTES) or not found:
        found.append(trace.Reading(derive(text.encode(), TRACE_ID_BYTES), "derived"))
        # Protobuf has bytes where others have text: shown as hex they are another id.
        if raw := _from_hex(text):
            found.append(trace.Reading(derive(raw, TRACE_ID_BYTES), "derived_from_bytes"))
    return found


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text) if text.isalnum() else b""
    except ValueError:
        return b""
