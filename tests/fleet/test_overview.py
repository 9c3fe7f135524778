"""`fleet status` says what waits on the brokers, whoever delivers, and nothing of other fleets."""

import anyio.to_thread
import pytest

from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.overview import overview
from relay.model.errors import BufferUnavailable
from relay.model.records import Signal
from tests.fleet.making import (
    SECONDS,
    deliver_all,
    fleet_on,
    numbers_of,
    running,
    settings_of,
    take,
)
from tests.support.kafka import Brokers
from tests.support.relay_process import eventually

pytestmark = pytest.mark.anyio
A, LOGS = BacklogName("a"), BacklogName("a", Signal.LOGS)


async def test_the_overview_counts_what_waits_by_destination_and_who_delivers(
    broker: Brokers,
) -> None:
    settings = fleet_on(broker)
    async with running(settings) as relay:
        a, logs = relay.readers.consumer(A), relay.readers.consumer(LOGS)
        await relay.put(*range(20))
        held = await take(a, max_items=5)
        kept = set(numbers_of(held))
        await deliver_all(a, set(range(20)) - kept)
        await relay.readers.flush()
        await anyio.to_thread.run_sync(
            lambda: eventually(lambda: len(logs.lanes) == len(a.lanes) == 8, seconds=SECONDS)
        )
        found = await anyio.to_thread.run_sync(overview, settings)

    assert [(each.name, each.signal, each.waiting_rows) for each in found.destinations] == [
        ("a", "traces", len(kept)),
        ("a", "logs", 0),
    ]
    assert found.destinations[0].relays == ("r1",)
    assert {each.relay for each in found.destinations[0].partitions} == {"r1"}
    assert [(each.relay, each.partitions) for each in found.relays] == [("r1", 16)]


async def test_the_overview_says_which_brokers_do_not_answer(broker: Brokers) -> None:
    settings = settings_of(broker)
    away = settings_of(Brokers(broker.node(1).folder.parent / "none", 1))

    with pytest.raises(BufferUnavailable, match="do not say"):
        overview(away)
    assert overview(settings).destinations == ()
