"""Moves what a single relay's buffer still owes into a fleet.

The buffer is emptied as a courier empties it: rows are taken, written to the fleet's topics for the
one destination that is owed them, and settled when the brokers have acknowledged them. So it may be
interrupted at any time and started again; what was on its way then comes twice.

What was delivered already, and the history of it, stays behind.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from relay.buffer.api import Consumer, Log
from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.control import pause_record
from relay.buffer.kafka.letter_text import record_of_letter
from relay.buffer.kafka.letters import Sends
from relay.buffer.kafka.records import Outgoing, records_of
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.values import DeadLetterFilter
from relay.model.records import Piece, Request, Sender, Signal, StoredRow, Taken
from relay.otlp.ids import trace_ids_of

_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_ITEMS = 100_000
_LETTERS = 50  # at a time: about 25 MiB at most
_NAMES = ("relay.db", "relay.db-wal", "relay.db-shm", "last-row")


@dataclass(slots=True)
class Moved:
    """What was moved, and what stays since nobody in the configuration gets it."""

    rows: int = 0
    items: dict[str, int] = field(default_factory=dict)  # by destination
    dead_letters: int = 0
    left: dict[str, int] = field(default_factory=dict)  # items, by destination


async def move_in(
    source: Log,
    wanted: Collection[BacklogName],
    settings: KafkaSettings,
    bridge: Sends,
) -> Moved:
    """Move what `source` owes to `wanted`, and all dead letters.

    Raises BufferFailure; what was moved by then is not moved again.
    """
    moved = Moved()
    for key in sorted(wanted):
        # One that is new to the buffer is owed what was kept for the first to come.
        consumer = source.consumer(key.destination, signal=key.signal)
        if consumer.is_paused:
            await bridge.send([pause_record(settings, key.destination)])
        await _move_backlog(consumer, key, settings, bridge, moved)
    await source.flush()
    await _move_letters(source, settings, bridge, moved)
    for key, each in source.consumers().items():
        waiting = each.statistics().owed_items
        if waiting:
            moved.left[key.text] = waiting
    return moved


async def _move_backlog(
    consumer: Consumer,
    key: BacklogName,
    settings: KafkaSettings,
    bridge: Sends,
    moved: Moved,
) -> None:
    while True:
        taken = await consumer.take(
            max_bytes=_BATCH_BYTES, max_items=_BATCH_ITEMS, one_encoding=False
        )
        if taken is None:
            return
        try:
            await bridge.send(_records(taken, key, settings))
        except BaseException:
            consumer.give_back(taken)
            raise
        consumer.settle(taken, status=0, at_ns=time.time_ns())
        moved.rows += len(taken.rows)
        moved.items[key.text] = moved.items.get(key.text, 0) + taken.items


def _records(taken: Taken, key: BacklogName, settings: KafkaSettings) -> list[Outgoing]:
    # Points keep their order in one partition alone.
    partition = 0 if key.signal is Signal.METRICS else -1
    return [
        record._replace(partition=partition)
        for row in taken.rows
        for record in records_of(_request_of(row), settings, key.destination)
    ]


def _request_of(row: StoredRow) -> Request:
    ids = trace_ids_of(row.body, row.encoding, row.signal)
    piece = Piece(row.encoding, row.body, row.items, ids, flags=row.flags, signal=row.signal)
    return Request((piece,), Sender(address="", hops=row.hops), row.received_ns)


async def _move_letters(source: Log, settings: KafkaSettings, bridge: Sends, moved: Moved) -> None:
    after: int | None = 0
    while after is not None:
        page = await source.dead_letters.oldest_first(DeadLetterFilter(), after)
        after = page.edge
        ids = [entry.letter_id for entry in page.entries]
        for at in range(0, len(ids), _LETTERS):
            found = await source.dead_letters.bodies(ids[at : at + _LETTERS])
            # The numbers of rows mean something else in a fleet.
            records = [
                record_of_letter(
                    replace(each.letter, row=0), settings.dead_letters_topic, each.set_aside_ns
                )
                for each in found
            ]
            if records:
                await bridge.send(records)
                await source.dead_letters.discard([each.letter_id for each in found])
                moved.dead_letters += len(found)


def set_aside(state_dir: Path) -> Path:
    """Name the closed and empty buffer's files as moved; the new name of the database."""
    ending = f"moved-{int(time.time())}"
    for name in _NAMES:
        file = state_dir / name
        if file.exists():
            file.rename(state_dir / f"{name}.{ending}")
    return state_dir / f"relay.db.{ending}"
