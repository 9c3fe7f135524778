"""Finds out where a trace is from the files of a relay that does not run.

Read only: no data is changed, nothing is locked, and a relay that starts meanwhile is not in the
way. Why a destination has not taken what waits for it only a running relay knows.
"""

from collections.abc import Callable
from typing import Any, Final

import anyio
import apsw

from relay.buffer import owed_ranges
from relay.buffer.sqlite import schema, trace_lookup, trace_queries
from relay.buffer.sqlite.trace_lookup import Standing
from relay.buffer.views import TracePlace
from relay.config import Config
from relay.model.records import DestinationStatus
from relay.offline.file import kept
from relay.traces.where import Reach, TraceReport, destinations, read_all

NOT_RUNNING: Final = "the relay is not running"


def find_at_rest(config: Config, text: str) -> TraceReport:
    """What the files tell of a trace, without its spans.

    Raises NothingKept where there is no buffer, BufferUnavailable when its file cannot be read.
    """
    with kept(config.state_dir, is_of_this_version=True) as found:
        return anyio.run(_find, found.connection, config, text)


async def _find(connection: apsw.Connection, config: Config, text: str) -> TraceReport:
    async def ask(question: Callable[[apsw.Connection], Any]) -> Any:
        return question(connection)

    standings = [
        Standing(str(name), owed_ranges.decode(ranges), (), [])
        for name, ranges in schema.fetch(
            connection, "SELECT name, ranges FROM destinations ORDER BY name"
        )
    ]

    async def find(trace_id: bytes, written: str) -> list[TracePlace]:
        return trace_lookup.places(await trace_lookup.find(ask, trace_id, written), standings)

    ids, places = await read_all(text, find)
    reach = Reach(*trace_queries.reaches_back_ns(connection))
    if not places:
        return TraceReport(text, reach)
    statuses = [
        DestinationStatus(each.name, each.endpoint, encoding=each.encoding, reason=NOT_RUNNING)
        for each in config.destinations
    ]
    named = destinations(statuses, (each.name for each in standings), places)
    return TraceReport(text, reach, ids, places, (), named)
