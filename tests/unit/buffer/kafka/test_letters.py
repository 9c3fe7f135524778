"""A dead letter is written until it is safe, without its body where that is too large."""

import asyncio
from collections.abc import Sequence

import anyio
import pytest

from relay.buffer.kafka import letters as module
from relay.buffer.kafka.fetch import Seeker
from relay.buffer.kafka.letter_text import key_of, letter_of_record
from relay.buffer.kafka.letters import Letters
from relay.buffer.kafka.records import Outgoing, Record
from relay.buffer.kafka.settings import KafkaSettings
from relay.config.fleet import FleetConfig
from relay.model.counters import Counters
from relay.model.errors import BufferUnavailable, Refusal
from relay.model.records import DeadLetter, Encoding

pytestmark = pytest.mark.anyio
SETTINGS = KafkaSettings(FleetConfig(brokers=("k1:9092",)), "r1")
LETTER = DeadLetter("a", "upstream_refused", "no", 2, Encoding.JSON, b"{}" * 9, row=77)


class Bridge:
    """Answers with what is wrong, by turns, and then takes all."""

    def __init__(self, *wrong: Exception) -> None:
        self._wrong = list(wrong)
        self.sent: list[Outgoing] = []

    async def send(self, records: Sequence[Outgoing]) -> Sequence[object]:
        if self._wrong:
            raise self._wrong.pop(0)
        self.sent += records
        return ()


async def written(bridge: Bridge, *letters: DeadLetter) -> list[DeadLetter]:
    """What `bridge` was sent when `letters` are safe."""
    store = Letters(SETTINGS, bridge, Seeker(SETTINGS), Counters())
    is_safe = asyncio.Event()
    store.write(letters, is_safe.set)
    with anyio.fail_after(10):
        await is_safe.wait()
    found = [
        letter_of_record(Record(each.topic, 0, at, each.value, key=each.key))
        for at, each in enumerate(bridge.sent)
    ]
    return [each.letter for each in found if each is not None]


async def test_a_letter_is_tried_until_the_brokers_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.0)
    bridge = Bridge(BufferUnavailable("away"), BufferUnavailable("away"))

    assert await written(bridge, LETTER, LETTER) == [LETTER, LETTER]


async def test_a_letter_that_is_too_large_is_kept_without_its_body() -> None:
    (letter,) = await written(Bridge(Refusal("too large", status=413)), LETTER)

    assert (letter.body, letter.items, letter.row) == (b"", 2, 77)
    assert letter.words == "no (too large for a dead letter: row 77 has its 18 bytes)"


def test_the_same_items_of_the_same_place_have_one_key() -> None:
    other = DeadLetter("a", "too_large", "other words", 2, Encoding.JSON, LETTER.body, row=77)
    elsewhere = DeadLetter("b", "too_large", "no", 2, Encoding.JSON, LETTER.body, row=77)

    assert key_of(LETTER) == key_of(other)
    assert key_of(LETTER) != key_of(elsewhere)
