"""Metrics sent again: what counts twice is asked about, and what is to be sent is measured once."""

from pathlib import Path
from typing import Any, cast

import pytest

from relay.buffer.sqlite import replay_query
from relay.buffer.sqlite.buffer import Buffer
from relay.deliver.fleet import Fleet
from relay.model.errors import ControlRefused
from relay.model.records import DestinationStatus, Signal
from relay.traces.replay import Replay
from tests.support.builders import to_body
from tests.unit.buffer.making import deliver_all, opened, piece, request

pytestmark = pytest.mark.anyio
DELTA, CUMULATIVE = 1, 2


class Configured:
    """A fleet of which only the destinations matter."""

    def statuses(self) -> list[DestinationStatus]:
        return [DestinationStatus("a", "", signal=Signal.METRICS)]


def replay_of(buffer: Buffer) -> Replay:
    return Replay(buffer, cast("Fleet", Configured()))


async def keep(buffer: Buffer, temporality: int) -> None:
    point = {"timeUnixNano": "7", "asInt": "1"}
    data = {"dataPoints": [point], "aggregationTemporality": temporality}
    body = to_body([{"scopeMetrics": [{"metrics": [{"name": "calls", "sum": data}]}]}])[1:-1]
    await buffer.append(request(piece(body, signal=Signal.METRICS)))


async def test_what_is_to_be_sent_again_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    measure = replay_query.measure

    async def counted(*args: Any, **named: Any) -> replay_query.Measured:
        measured.append(args)
        return await measure(*args, **named)

    monkeypatch.setattr(replay_query, "measure", counted)
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a", signal=Signal.METRICS)
        for _ in range(3):
            await keep(buffer, CUMULATIVE)
        await deliver_all(backlog)
        replay = replay_of(buffer)
        dry = await replay.since("a", 0, is_dry_run=True)
        assert (dry.spans, len(measured)) == (3, 1)
        done = await replay.since("a", 0, is_dry_run=False)
        assert (done.spans, len(measured)) == (3, 2)


async def test_delta_points_that_are_owed_already_are_no_reason_to_send_nothing(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a", signal=Signal.METRICS)
        await keep(buffer, CUMULATIVE)
        await deliver_all(backlog)
        await keep(buffer, DELTA)
        replay = replay_of(buffer)
        assert (await replay.since("a", 0, is_dry_run=False)).spans == 1
        assert backlog.statistics().owed_items == 2

        await deliver_all(backlog)
        assert (await replay.since("a", 0, is_dry_run=True)).has_deltas
        with pytest.raises(ControlRefused, match="delta points are among them"):
            await replay.since("a", 0, is_dry_run=False)
