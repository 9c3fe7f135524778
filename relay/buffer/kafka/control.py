"""What operators ordered for the whole fleet: a compacted topic that every relay follows.

Which destinations are paused, for every relay and over restarts; and which rows are to be sent
again (`orders`).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable

from confluent_kafka import OFFSET_BEGINNING

from relay.buffer.kafka.fetch import Place
from relay.buffer.kafka.letters import Sends
from relay.buffer.kafka.orders import REPLAY, Order, Orders, done_key
from relay.buffer.kafka.records import Outgoing, Record
from relay.buffer.kafka.settings import KafkaSettings
from relay.model.errors import BufferUnavailable

_PAUSE = b"pause/"
_SECONDS = 10.0


def pause_record(settings: KafkaSettings, destination: str, *, is_paused: bool = True) -> Outgoing:
    """The order to pause a destination, or to go on."""
    key, value = _PAUSE + destination.encode(), b"1" if is_paused else None
    return Outgoing(settings.control_topic, value, partition=0, key=key)


class Control:
    """Orders, as they stand. `on_paused` hears of every destination whose pause changes, `on_read`
    when all orders that there were are known.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        bridge: Sends,
        on_paused: Callable[[str, bool], None],
        on_read: Callable[[], None],
        on_ordered: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._topic = settings.control_topic
        self._bridge = bridge
        self._on_paused = on_paused
        self._on_read = on_read
        self._on_ordered = on_ordered
        self.orders = Orders()
        self._changed = asyncio.Event()
        self.paused: set[str] = set()
        self.has_read = False  # to the end, once: before that nothing is delivered

    @property
    def place(self) -> Place:
        """What of the brokers is to be followed for it."""
        return Place(self._topic, 0, OFFSET_BEGINNING)

    async def set_paused(self, destination: str, *, is_paused: bool) -> None:
        """Returns when every relay will know. Raises BufferUnavailable."""
        await self._bridge.send([pause_record(self._settings, destination, is_paused=is_paused)])
        await self._wait_until(lambda: (destination in self.paused) is is_paused)

    async def order(self, name: str, order: Order) -> None:
        """Have `order` carried out; every relay knows it when this returns.

        Raises BufferUnavailable.
        """
        key = REPLAY + name.encode()
        await self._bridge.send([Outgoing(self._topic, order.value, partition=0, key=key)])
        await self._wait_until(lambda: name in self.orders)

    async def done(self, names: Iterable[str], stream: int) -> None:
        """Those orders were carried out in that stream, and committed. Raises BufferFailure."""
        keys = [done_key(name, stream) for name in names]
        await self._bridge.send([Outgoing(self._topic, b"1", partition=0, key=key) for key in keys])

    async def tidy(self) -> None:
        """Take away what is done everywhere. Raises BufferFailure."""
        keys = self.orders.finished()
        if keys:
            await self._bridge.send(
                [Outgoing(self._topic, None, partition=0, key=key) for key in keys]
            )

    async def _wait_until(self, is_so: Callable[[], bool]) -> None:
        until = time.monotonic() + _SECONDS
        while not is_so():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), max(until - time.monotonic(), 0.0))
                continue
            raise BufferUnavailable("the order was written, and the brokers do not tell of it yet")

    def came(self, records: list[Record]) -> None:
        """Orders, in the order they were given."""
        for record in records:
            key = record.key or b""
            if key.startswith(_PAUSE):
                self._pause(key.removeprefix(_PAUSE).decode("utf-8", "replace"), record.value)
            else:
                self.orders.heard(key, record.value)
        self._on_ordered()
        self._tell()

    def reached(self, _offset: int) -> None:
        """There are no others now."""
        if not self.has_read:
            self.has_read = True
            self._on_read()

    def _pause(self, destination: str, value: bytes | None) -> None:
        is_paused = value is not None
        if is_paused is (destination in self.paused):
            return
        (self.paused.add if is_paused else self.paused.discard)(destination)
        self._on_paused(destination, is_paused)

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
