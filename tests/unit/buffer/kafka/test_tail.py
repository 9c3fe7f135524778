"""What follows partitions goes on where it was when its client fails."""

import asyncio
from typing import Any

import anyio
import pytest
from confluent_kafka import KafkaError, KafkaException

from relay.buffer.kafka import fetch
from relay.buffer.kafka.fetch import Place, Tail
from relay.buffer.kafka.records import Record
from relay.buffer.kafka.settings import KafkaSettings
from relay.config.fleet import FleetConfig

SETTINGS = KafkaSettings(FleetConfig(brokers=("k1:9092",)), "r1")

pytestmark = pytest.mark.anyio


class Message:
    """A record as the client has it."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return b"%d" % self._offset

    def key(self) -> None: ...
    def headers(self) -> None: ...
    def error(self) -> None: ...
    def timestamp(self) -> tuple[int, int]:
        return 1, 7


class Client:
    """Hands out offsets from the one it was told, three at a time, and fails after each three."""

    begun: list[int] = []  # noqa: RUF012 - of all of them

    def __init__(self, _settings: object, **_more: object) -> None:
        self._at = -1
        self._polls = 0

    def incremental_assign(self, places: list[Any]) -> None:
        self._at = places[0].offset
        self.begun.append(self._at)

    def poll(self, _seconds: float) -> Message:
        self._polls += 1
        if self._polls > 1:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return Message(self._at)

    def consume(self, _count: int, _seconds: float) -> list[Message]:
        return [Message(self._at + 1), Message(self._at + 2)]

    def close(self) -> None: ...


class Hears:
    """Notes offsets, and says when there are enough."""

    def __init__(self, enough: int) -> None:
        self.offsets: list[int] = []
        self.has_enough = asyncio.Event()
        self._enough = enough

    def came(self, records: list[Record]) -> None:
        self.offsets += [each.offset for each in records]
        if len(self.offsets) >= self._enough:
            self.has_enough.set()

    def reached(self, offset: int) -> None: ...


async def test_a_client_that_fails_is_made_anew_and_nothing_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Client.begun = []
    monkeypatch.setattr(fetch, "Consumer", Client)
    monkeypatch.setattr(fetch, "_RESTART_SECONDS", 0.0)
    hears = Hears(9)
    tail = Tail(SETTINGS, asyncio.get_running_loop())
    tail.follow(Place("t", 0, 40), hears)
    tail.start()
    with anyio.fail_after(20):
        await hears.has_enough.wait()
    tail.stop()

    assert hears.offsets[:9] == list(range(40, 49))
    assert Client.begun[:3] == [40, 43, 46]
