"""Finds out where a trace is, and what models did, from the files of a relay that does not run.

Read only: no data is changed, nothing is locked, and a relay that starts meanwhile is not in the
way. Why a destination has not taken what waits for it only a running relay knows.
"""

from collections.abc import Iterable
from typing import Any, Final

import anyio

from relay.buffer.sqlite.reader import ask_directly, read_one
from relay.buffer.sqlite.schema import fetch_value, number
from relay.buffer.sqlite.trace_lookup import TracesAtRest
from relay.config import Config
from relay.model.records import DestinationStatus, StoredRow
from relay.offline.file import BufferFile, open_buffer
from relay.traces.kept_calls import Asked, Kept, answer_of
from relay.traces.where import TraceReport, report_of, with_rows

NOT_RUNNING: Final = "the relay is not running"


def find_at_rest(config: Config, text: str) -> TraceReport:
    """What the files tell of a trace, without its spans.

    Raises NoBuffer where there is no buffer, BufferUnavailable when its file cannot be read.
    """
    with open_buffer(config.state_dir, is_of_this_version=True) as found:
        return anyio.run(_find, found, config, text)


async def _find(file: BufferFile, config: Config, text: str) -> TraceReport:
    index = TracesAtRest(ask_directly(file.connection))
    views = [view for destination in config.destinations for view in destination.views]
    statuses = [
        DestinationStatus(
            each.name,
            each.endpoint,
            encoding=each.encoding,
            reason=NOT_RUNNING,
            signal=each.signal,
        )
        for each in views
    ]
    report = await report_of(text, index, statuses, dict.fromkeys(await index.backlogs(), 0))
    return await with_rows(report, _kept(file).read, views, with_spans=False)


def calls_at_rest(config: Config, asked: Asked) -> dict[str, Any]:
    """What models and agents did, as `kept_calls.answer_of` tells it. Raises as `find_at_rest`."""
    with open_buffer(config.state_dir, is_of_this_version=True) as found:
        return anyio.run(answer_of, _kept(found), asked)


def _kept(file: BufferFile) -> Kept:
    connection = file.connection

    async def read(rows: Iterable[int]) -> list[StoredRow]:
        return [row for each in rows if (row := read_one(connection, each))]

    first = number(fetch_value(connection, "SELECT min(id) FROM rows"))
    return Kept(read, first, number(fetch_value(connection, "SELECT max(id) FROM rows")))
