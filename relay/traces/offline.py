"""Finds out where a trace is from the files of a relay that does not run.

Read only: no data is changed, nothing is locked, and a relay that starts meanwhile is not in the
way. Why a destination has not taken what waits for it only a running relay knows.
"""

from typing import Final

import anyio

from relay.buffer.sqlite.reader import ask_directly
from relay.buffer.sqlite.trace_lookup import TracesAtRest
from relay.config import Config
from relay.model.records import DestinationStatus
from relay.offline.file import open_buffer
from relay.traces.where import TraceReport, report_of

NOT_RUNNING: Final = "the relay is not running"


def find_at_rest(config: Config, text: str) -> TraceReport:
    """What the files tell of a trace, without its spans.

    Raises NoBuffer where there is no buffer, BufferUnavailable when its file cannot be read.
    """
    with open_buffer(config.state_dir, is_of_this_version=True) as found:
        return anyio.run(_find, TracesAtRest(ask_directly(found.connection)), config, text)


async def _find(index: TracesAtRest, config: Config, text: str) -> TraceReport:
    statuses = [
        DestinationStatus(
            each.name,
            each.endpoint,
            encoding=each.encoding,
            reason=NOT_RUNNING,
            signal=each.signal,
        )
        for destination in config.destinations
        for each in destination.views
    ]
    return await report_of(text, index, statuses, await index.backlogs())
