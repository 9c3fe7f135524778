"""The couriers of all destinations, and what a reload does to them, over a real buffer."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from relay.buffer.backlog_name import BacklogName
from relay.config import DestinationConfig
from relay.config.sample import SampleConfig
from relay.deliver.batches import Batch
from relay.deliver.fleet import Fleet
from relay.model.records import DestinationState, Signal
from relay.upstream.outcomes import Delivered, Outcome, Wait
from tests.unit.buffer.making import eventually, opened, piece, request, take_all
from tests.unit.deliver.delivering import InProcess

pytestmark = pytest.mark.anyio
TRACES, LOGS = Signal.TRACES, Signal.LOGS
BODY = {
    TRACES: b'{"scopeSpans":[{"spans":[{"name":"x"}]}]}',
    LOGS: b'{"scopeLogs":[{"logRecords":[{"severityText":"x"}]}]}',
}


class Upstream(InProcess):
    """Takes everything unless it is away, and knows of whom it is."""

    def __init__(self, made: "Upstreams", settings: DestinationConfig) -> None:
        self._made = made
        self._settings = settings

    def update(self, settings: DestinationConfig) -> None:
        self._settings = settings

    async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
        key = (self._settings.name, self._settings.signal)
        if self._settings.name in self._made.away:
            return Wait("it is away", status=503)
        self._made.took[key] = self._made.took.get(key, 0) + batch.items
        return Delivered(200)


class Upstreams:
    """Makes one for each courier."""

    def __init__(self) -> None:
        self.took: dict[tuple[str, Signal], int] = {}
        self.away: set[str] = set()

    def __call__(self, settings: DestinationConfig) -> Any:
        return Upstream(self, settings)


def destination(name: str, *signals: Signal, **more: Any) -> DestinationConfig:
    one = DestinationConfig(name=name, endpoint=f"http://127.0.0.1:1/{name}", **more)
    return replace(one, by_signal=tuple(replace(one, signal=each) for each in signals or (TRACES,)))


async def keep(buffer: Any, signal: Signal = TRACES, count: int = 1) -> None:
    for _ in range(count):
        await buffer.append(request(piece(BODY[signal], signal=signal)))


def waiting(fleet: Fleet) -> list[tuple[str, Signal, int, bool]]:
    return [
        (each.backlog.name, each.backlog.signal, each.backlog.owed_items, each.is_configured)
        for each in fleet.removed()
    ]


def shown(fleet: Fleet) -> list[tuple[str, Signal]]:
    found = [(each.name, each.signal) for each in fleet.views()]
    assert found == [(each.name, each.signal) for each in fleet.statuses()]
    return found


def states(fleet: Fleet, name: str) -> set[DestinationState]:
    return {each.state for each in fleet.statuses() if each.name == name}


def events(logged: Iterable[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    return [dict(each) for each in logged if each["event"] == name]


async def test_each_signal_of_each_destination_gets_what_is_kept_of_it(tmp_path: Path) -> None:
    upstreams = Upstreams()
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        fleet = Fleet(buffer, {}, upstreams)
        fleet.start(tasks, [destination("b", LOGS, TRACES), destination("a")])
        assert shown(fleet) == [("a", TRACES), ("b", TRACES), ("b", LOGS)]
        await keep(buffer, TRACES, 2)
        await keep(buffer, LOGS, 3)
        await eventually(lambda: sum(upstreams.took.values()) == 7)
        await fleet.stop(1.0)
    assert upstreams.took == {("a", TRACES): 2, ("b", TRACES): 2, ("b", LOGS): 3}


async def test_reload_starts_what_is_new_and_keeps_what_those_that_went_are_owed(
    tmp_path: Path,
) -> None:
    upstreams = Upstreams()
    upstreams.away.add("old")
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        fleet = Fleet(buffer, {}, upstreams)
        with capture_logs() as logged:
            fleet.start(tasks, [destination("old", TRACES, LOGS), destination("a")])
            await keep(buffer, TRACES, 2)
            await keep(buffer, LOGS)
            await eventually(lambda: upstreams.took.get(("a", TRACES)) == 2)
            assert waiting(fleet) == []
            assert events(logged, "destination_begins_now") == []
            await fleet.reload([destination("old"), destination("a"), destination("new")])
        assert shown(fleet) == [("a", TRACES), ("new", TRACES), ("old", TRACES)]
        assert waiting(fleet) == [("old", LOGS, 1, True)]
        (told,) = fleet.removed()
        assert told.drop_command == "otlp-relay destination remove old --signal logs --drop-waiting"
        (warned,) = events(logged, "removed_destination_waits")
        assert (warned["destination"], warned["signal"], warned["waiting"]) == ("old", "logs", 1)
        assert warned["hint"] == f"put it back, or drop them: {told.drop_command}"
        (begins,) = events(logged, "destination_begins_now")
        assert (begins["destination"], begins["signal"]) == ("new", "traces")
        assert "replay --to new" in begins["hint"]

        await fleet.reload([destination("a"), destination("new")])
        assert waiting(fleet) == [("old", TRACES, 2, False), ("old", LOGS, 1, False)]
        command = "otlp-relay destination remove old --drop-waiting"
        assert {each.drop_command for each in fleet.removed()} == {command}
        await keep(buffer)  # nobody is owed it for `old`
        await eventually(lambda: upstreams.took.get(("new", TRACES)) == 1)
        assert waiting(fleet)[0] == ("old", TRACES, 2, False)

        upstreams.away.clear()
        await fleet.reload([destination("old", TRACES, LOGS), destination("a")])
        await eventually(lambda: upstreams.took.get(("old", LOGS)) == 1)
        await eventually(lambda: upstreams.took.get(("old", TRACES)) == 2)
        assert waiting(fleet) == []
        assert upstreams.took["a", TRACES] == 3
        await fleet.stop(1.0)


async def test_what_left_the_configuration_between_two_runs_is_owed_nothing_new(
    tmp_path: Path,
) -> None:
    upstreams = Upstreams()
    upstreams.away.add("old")
    async with opened(tmp_path) as buffer:
        async with anyio.create_task_group() as tasks:
            fleet = Fleet(buffer, {}, upstreams)
            fleet.start(tasks, [destination("old"), destination("a")])
            await keep(buffer)
            await eventually(lambda: upstreams.took == {("a", TRACES): 1})
            await fleet.stop(0.0)
        async with anyio.create_task_group() as tasks:
            fleet = Fleet(buffer, {}, upstreams)
            with capture_logs() as logged:
                fleet.start(tasks, [destination("a")])
            (warned,) = events(logged, "removed_destination_waits")
            assert (warned["destination"], warned["waiting"]) == ("old", 1)
            await keep(buffer)
            await eventually(lambda: upstreams.took == {("a", TRACES): 2})
            assert waiting(fleet) == [("old", TRACES, 1, False)]
            await fleet.stop(0.0)


async def test_reload_makes_every_courier_try_at_once_with_the_new_settings(tmp_path: Path) -> None:
    upstreams = Upstreams()
    upstreams.away.add("a")
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        fleet = Fleet(buffer, {}, upstreams)
        fleet.start(tasks, [destination("a")])
        await keep(buffer)
        (status,) = fleet.statuses()
        await eventually(lambda: status.state is DestinationState.WAITING)
        upstreams.away.clear()
        await fleet.reload([destination("a", encoding="json")])
        await eventually(lambda: upstreams.took == {("a", TRACES): 1})
        assert [view.encoding for view in fleet.views()] == ["json"]
        await fleet.stop(1.0)


async def test_pause_is_for_every_signal_and_outlives_the_couriers(tmp_path: Path) -> None:
    upstreams = Upstreams()
    wanted = [destination("a", TRACES, LOGS), destination("b")]
    async with opened(tmp_path) as buffer:
        async with anyio.create_task_group() as tasks:
            fleet = Fleet(buffer, {}, upstreams)
            fleet.start(tasks, wanted)
            assert not await fleet.set_paused("other", is_paused=True)
            assert await fleet.set_paused("a", is_paused=True)
            assert [each.is_paused for each in buffer.consumers().values()].count(True) == 2
            await keep(buffer)
            await keep(buffer, LOGS)
            await eventually(lambda: upstreams.took == {("b", TRACES): 1})
            await fleet.stop(1.0)
        async with anyio.create_task_group() as tasks:
            fleet = Fleet(buffer, {}, upstreams)
            fleet.start(tasks, wanted)
            await eventually(lambda: states(fleet, "a") == {DestinationState.PAUSED})
            await keep(buffer)
            await eventually(lambda: upstreams.took == {("b", TRACES): 2})
            assert await fleet.set_paused("a", is_paused=False)
            await eventually(lambda: upstreams.took.get(("a", TRACES)) == 2)
            await eventually(lambda: upstreams.took.get(("a", LOGS)) == 1)
            await fleet.stop(1.0)
        assert not any(each.is_paused for each in buffer.consumers().values())


async def test_destination_whose_sample_is_another_starts_anew_and_others_go_on(
    tmp_path: Path,
) -> None:
    upstreams = Upstreams()
    sample = SampleConfig(ratio=0.0, keep='status == "ERROR"', wait_seconds=3600.0)
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        fleet = Fleet(buffer, {}, upstreams)
        fleet.start(tasks, [destination("a", TRACES, LOGS, sample=sample), destination("b")])
        before = {(each.name, each.signal): each for each in fleet.statuses()}
        await keep(buffer, TRACES, 2)
        await keep(buffer, LOGS)
        await eventually(lambda: upstreams.took.get(("b", TRACES)) == 2)
        assert ("a", TRACES) not in upstreams.took  # it waits for the rest of the traces
        same = [destination("a", TRACES, LOGS, sample=sample), destination("b")]
        await fleet.reload(same)
        assert {(each.name, each.signal): each for each in fleet.statuses()} == before

        await fleet.reload([destination("a", TRACES, LOGS), destination("b")])
        await eventually(lambda: upstreams.took.get(("a", TRACES)) == 2)
        await eventually(lambda: upstreams.took.get(("a", LOGS)) == 1)
        after = {(each.name, each.signal): each for each in fleet.statuses()}
        assert after["b", TRACES] is before["b", TRACES]
        assert after["a", TRACES] is not before["a", TRACES]

        await fleet.reload([destination("a", TRACES, LOGS, sample=sample), destination("b")])
        await keep(buffer)
        await eventually(lambda: upstreams.took.get(("b", TRACES)) == 3)
        await eventually(lambda: buffer.consumer("a").statistics().owed_items == 1)
        assert upstreams.took["a", TRACES] == 2
        await fleet.reload([destination("b")])  # whole traces are not followed for it any more
        await fleet.stop(1.0)
        assert BacklogName("a", TRACES) in buffer.consumers()


async def test_buffer_hears_how_a_courier_fares_while_there_is_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        fleet = Fleet(buffer, {}, Upstreams())
        fleet.start(tasks, [destination("a", hold_seconds=60.0), destination("b")])
        known = buffer.consumers()[BacklogName("a", TRACES)]
        health = known.health()
        assert health is not None
        assert health.hold_ns == 60 * 10**9
        await fleet.reload([destination("b")])
        assert known.health() is None
        await fleet.stop(1.0)


async def test_courier_is_paused_and_resumed_by_what_another_relay_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    upstreams = Upstreams()
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        monkeypatch.setattr(type(buffer.consumer("a")), "attach", lambda *each: heard.append(each))
        fleet = Fleet(buffer, {}, upstreams)
        fleet.start(tasks, [destination("a")])
        ((_consumer, _health, on_pause),) = heard
        on_pause(True)
        await eventually(lambda: states(fleet, "a") == {DestinationState.PAUSED})
        await keep(buffer)
        on_pause(False)
        await eventually(lambda: upstreams.took == {("a", TRACES): 1})
        await fleet.stop(1.0)


async def test_new_destination_of_a_signal_that_nobody_else_has_is_not_told_what_it_misses(
    tmp_path: Path,
) -> None:
    upstreams = Upstreams()
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        fleet = Fleet(buffer, {}, upstreams)
        fleet.start(tasks, [destination("a")])
        await keep(buffer)
        await eventually(lambda: upstreams.took == {("a", TRACES): 1})
        with capture_logs() as logged:
            await fleet.reload([destination("a"), destination("b", LOGS)])
        assert events(logged, "destination_begins_now") == []
        await fleet.stop(1.0)


async def test_traces_that_are_sampled_by_ratio_alone_wait_for_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        fleet = Fleet(buffer, {}, Upstreams())
        fleet.start(tasks, [destination("a", sample=SampleConfig(ratio=0.5))])
        await keep(buffer, count=3)
        await eventually(lambda: buffer.consumer("a").statistics().owed_items == 0)
        await fleet.stop(1.0)


async def test_signal_that_leaves_a_destination_of_whole_traces_is_held_no_more(
    tmp_path: Path,
) -> None:
    sample = SampleConfig(ratio=0.0, keep='status == "ERROR"', wait_seconds=3600.0)
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        fleet = Fleet(buffer, {}, Upstreams())
        fleet.start(tasks, [destination("a", TRACES, LOGS, sample=sample)])
        await keep(buffer, LOGS)
        logs = buffer.consumer("a", signal=LOGS)
        await eventually(lambda: fleet.statuses()[1].held_items == 1)
        assert await take_all(logs) == []
        await fleet.reload([destination("a", TRACES, sample=sample)])
        assert len(await take_all(logs)) == 1  # it was not filtered either
        await fleet.stop(1.0)


async def test_traces_worth_keeping_are_sent_whole_and_others_not_at_all(tmp_path: Path) -> None:
    upstreams = Upstreams()
    sample = SampleConfig(ratio=0.0, keep='status == "ERROR"', wait_seconds=0.2)
    bodies = [
        b'{"scopeSpans":[{"spans":[{"traceId":"%032d","status":{"code":%d}}]}]}' % each
        for each in ((1, 0), (1, 2), (2, 0))
    ]
    async with opened(tmp_path) as buffer, anyio.create_task_group() as tasks:
        fleet = Fleet(buffer, {}, upstreams, age_ns=buffer.age_ns)
        fleet.start(tasks, [destination("a", sample=sample)])
        for body in bodies:
            await buffer.append(request(piece(body)))
        await eventually(lambda: buffer.consumer("a").statistics().owed_items == 0)
        await fleet.stop(1.0)
    assert upstreams.took == {("a", TRACES): 2}
