"""What the couriers of one destination share to send traces whole."""

from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from relay.admin.status_document import warnings_of
from relay.buffer.sqlite.buffer import Buffer
from relay.config import DestinationConfig
from relay.config.sample import SampleConfig
from relay.deliver import fleet, whole_traces
from relay.deliver.whole_traces import WholeTraces
from relay.model.records import DestinationState, Signal
from relay.process.sample.kept_traces import KeptTraces
from relay.upstream.exchange import Upstream
from tests.support import builders
from tests.unit.buffer.making import deliver_all, eventually, opened, piece, request, trace_id

pytestmark = pytest.mark.anyio
SAMPLE = SampleConfig(ratio=0.0, keep='status == "ERROR"', wait_seconds=600.0)
ERROR = {"code": 2}


def of(*numbers: int) -> bytes:
    made = builders.request(
        *(builders.span(traceId=trace_id(n).hex(), status=ERROR) for n in numbers)
    )
    return builders.to_body(made["resourceSpans"])[1:-1]


async def keep(buffer: Buffer, *numbers: int) -> None:
    await buffer.append(request(piece(of(*numbers), spans=len(numbers), traces=numbers)))


async def test_rows_of_before_that_are_owed_again_are_looked_at_when_they_are_taken(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        consumer = buffer.consumer("a")
        await keep(buffer, 1)
        rows = await buffer.read_rows([1])
        await deliver_all(consumer)
        await buffer.flush()
        whole = WholeTraces("a", SAMPLE, buffer)
        whole.follow(consumer, tasks)
        await keep(buffer, 2)
        await eventually(lambda: whole.held_items(Signal.TRACES) == 1)
        whole.scout.kept = KeptTraces()
        await whole.look_at(await buffer.read_rows([2]))
        assert trace_id(2) not in whole.scout.kept  # it was seen as it came
        await whole.look_at(rows)
        assert trace_id(1) in whole.scout.kept
        whole.end()


async def test_rows_are_looked_at_however_long_they_are(tmp_path: Path) -> None:
    many = range(1, 501)
    assert len(of(*many)) > whole_traces._THREAD_FROM_BYTES
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        whole = WholeTraces("a", SAMPLE, buffer)
        whole.follow(buffer.consumer("a"), tasks)
        await keep(buffer, *many)
        await eventually(lambda: whole.held_items(Signal.TRACES) == len(many))
        assert all(trace_id(n) in whole.scout.kept for n in many)
        whole.leave(Signal.TRACES)
        assert whole.held_items(Signal.TRACES) == 0


async def test_what_was_to_be_sent_once_stays_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        whole = WholeTraces("a", SAMPLE, buffer)
        whole.follow(buffer.consumer("a"), tasks)
        whole.pin(trace_id(7) + trace_id(8))
        assert trace_id(7) in whole.scout.kept
        assert trace_id(8) in whole.scout.kept
        whole.end()


async def test_more_traces_than_are_remembered_are_told_of_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        whole = WholeTraces("a", SAMPLE, buffer)
        whole.scout.kept = KeptTraces(4)
        with capture_logs() as logged:
            whole.follow(buffer.consumer("a"), tasks)
            for first in (1, 11, 21):
                await keep(buffer, *range(first, first + 10))
            await eventually(lambda: whole.held_items(Signal.TRACES) == 30)
        assert [each["event"] for each in logged].count("kept_traces_overflow") == 1
        assert all(trace_id(n) in whole.scout.kept for n in range(1, 31))
        whole.end()


async def test_more_traces_than_are_remembered_are_counted_and_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_traces, "KeptTraces", lambda: KeptTraces(4))
    signals = (Signal.TRACES, Signal.LOGS)
    common = DestinationConfig(name="a", endpoint="http://127.0.0.1:1/v1/traces", sample=SAMPLE)
    views = tuple(replace(common, signal=signal) for signal in signals)
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        couriers = fleet.Fleet(buffer, {}, lambda view: Upstream(view, hops="own"))
        couriers.start(tasks, [replace(common, by_signal=views)])
        await keep(buffer, *range(1, 5))
        await eventually(lambda: couriers.statuses()[0].held_items == 4)
        before = [warnings_of(each, 0) for each in couriers.statuses()]
        await keep(buffer, *range(11, 21))
        await eventually(lambda: couriers.statuses()[0].held_items == 14)
        traces, logs = couriers.statuses()
        await couriers.stop(0.0)
    assert before == [[], []]
    assert (traces.overflowed_traces, logs.overflowed_traces) == (10, 0)
    (told,) = warnings_of(traces, 0)
    assert told.startswith("10 traces worth keeping came within wait beyond those")
    assert told.endswith("shorten wait of sample, or let keep mean fewer traces")
    assert warnings_of(logs, 0) == []


async def test_a_buffer_that_cannot_look_ahead_blocks_the_destination_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WholeTraces, "can_follow", staticmethod(lambda _consumer: False))
    view = DestinationConfig(name="a", endpoint="http://127.0.0.1:1/v1/traces", sample=SAMPLE)
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        couriers = fleet.Fleet(buffer, {}, lambda view: Upstream(view, hops="own"))
        couriers.start(tasks, [view])
        await keep(buffer, 1)
        await eventually(lambda: couriers.statuses()[0].state is DestinationState.BLOCKED)
        assert "ratio works without it" in couriers.statuses()[0].reason
        await couriers.stop(0.0)
