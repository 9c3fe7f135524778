"""What waited on a relay's own disk comes to the brokers in its order."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from relay.buffer.kafka.bridge import Bridge
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.kafka.spool import Spool
from relay.buffer.kafka.topics import Topics
from relay.buffer.kafka.watch import Watch
from relay.buffer.kafka.writer import Writer
from relay.config.fleet import FleetConfig
from relay.model.counters import Counters
from relay.model.records import Encoding, Request, Sender, Signal
from tests.fleet.making import SECONDS
from tests.fleet.reading import messages_in
from tests.support.kafka import Brokers
from tests.unit.buffer.making import NOW_NS, SETTINGS, piece

pytestmark = pytest.mark.anyio
ROWS = 1000


async def test_metrics_of_several_senders_come_in_their_order_and_a_thousand_in_a_moment(
    broker: Brokers, tmp_path: Path
) -> None:
    spool = Spool(tmp_path, replace(SETTINGS, sync="normal"), "letters")
    spool.open()
    for number in range(ROWS):
        encoding = (*Encoding,)[number % 2]
        made = piece(b"(%04d)" % number, encoding=encoding, signal=Signal.METRICS)
        await spool.append(Request((made,), Sender(f"192.0.{number % 7}.1"), NOW_NS))
    fleet = FleetConfig(
        brokers=tuple(broker.bootstrap), partitions=6, replication=1, min_in_sync=1, allow_weak=True
    )
    settings = KafkaSettings(fleet, "r1")
    bridge, watch = Bridge(settings), Watch(settings, Topics(settings))
    watch.check()
    bridge.start()
    writer = Writer(settings, bridge, watch, Counters(), lambda _request: [])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(spool.run, writer, bridge)
        with anyio.fail_after(SECONDS):
            while spool.waiting_items:  # noqa: ASYNC110 - there is no event for it
                await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()
    await bridge.close()
    await spool.close()

    for encoding in Encoding:
        topic = settings.rows_topic(Signal.METRICS, encoding)
        came: dict[int | None, list[int]] = defaultdict(list)
        for message in messages_in(broker, topic):
            body = bytes(message.value() or b"")
            came[message.partition()].append(int(body[body.index(b"(") + 1 :][:4]))
        (numbers,) = came.values()
        first = (*Encoding,).index(encoding)
        assert numbers == list(range(first, ROWS, 2))
