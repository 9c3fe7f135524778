"""A single relay's buffer moves into a fleet: all that it owes, nothing that it does not."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.bridge import Bridge
from relay.buffer.kafka.move_in import move_in
from relay.buffer.kafka.records import Outgoing
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.sqlite.buffer import Buffer
from relay.model.errors import BufferUnavailable
from relay.model.records import DeadLetter, Encoding
from tests.fleet.making import deliver_all, fleet_on, now_request, running
from tests.support.kafka import Brokers
from tests.unit.buffer.making import opened, piece, take

pytestmark = pytest.mark.anyio
A, B, GONE = BacklogName("a"), BacklogName("b"), BacklogName("gone")


class Broken:
    """A bridge that fails after so many records."""

    def __init__(self, bridge: Bridge, left: int) -> None:
        self._bridge = bridge
        self._left = left

    async def send(self, records: Sequence[Outgoing]) -> Sequence[object]:
        """Fails where it has sent enough."""
        self._left -= len(records)
        if self._left < 0:
            raise BufferUnavailable("away")
        return await self._bridge.send(records)


async def fill(buffer: Buffer) -> None:
    """Rows 0…5, of which `a` has had the first; a dead letter; one who left the configuration."""
    a, _b, _gone = (buffer.consumer(key.destination) for key in (A, B, GONE))
    for number in range(6):
        await buffer.append(now_request(piece(b"%d" % number, encoding=Encoding.PROTOBUF)))
    first = await take(a, max_items=1)
    dead = DeadLetter("a", "upstream_refused", "no", 1, Encoding.PROTOBUF, b"x", row=1)
    a.settle_with(first, [dead], status=400, at_ns=1)
    await buffer.flush()


async def arrived(settings: KafkaSettings) -> tuple[list[int], list[int], list[bytes]]:
    """What comes to `a` and `b` of the fleet, and its dead letters."""
    async with running(settings) as relay:
        a, b = relay.readers.consumer(A), relay.readers.consumer(B)
        to_a = await deliver_all(a, set(range(1, 6)))
        to_b = await deliver_all(b, set(range(6)))
        assert not a.has_more
        assert not b.has_more
        letters = await relay.readers.dead_letters.newest()
        return sorted(to_a), sorted(to_b), [each.letter.body for each in letters]


async def test_what_is_owed_and_the_dead_letters_move_and_the_rest_is_told(
    broker: Brokers, tmp_path: Path
) -> None:
    settings = fleet_on(broker)
    bridge = Bridge(settings)
    bridge.start()
    async with opened(tmp_path) as buffer:
        await fill(buffer)
        moved = await move_in(buffer, [A, B], settings, bridge)
        again = await move_in(buffer, [A, B], settings, bridge)
    await bridge.close()

    assert moved.items == {"a": 5, "b": 6}
    assert moved.dead_letters == 1
    assert moved.left == again.left == {"gone": 6}
    assert (again.rows, again.dead_letters) == (0, 0)
    assert await arrived(settings) == ([1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [b"x"])


async def test_an_import_that_was_interrupted_goes_on_where_it_was(
    broker: Brokers, tmp_path: Path
) -> None:
    settings = fleet_on(broker)
    bridge = Bridge(settings)
    bridge.start()
    async with opened(tmp_path) as buffer:
        await fill(buffer)
        with pytest.raises(BufferUnavailable):
            await move_in(buffer, [A, B], settings, Broken(bridge, 5))
    async with opened(tmp_path) as buffer:
        moved = await move_in(buffer, [A, B], settings, bridge)
    await bridge.close()

    assert moved.items == {"b": 6}
    assert await arrived(settings) == ([1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [b"x"])
