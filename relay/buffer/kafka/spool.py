"""Keeps requests on this relay's own disk while the brokers take none, and hands them over later.

For senders that never come again. It is a single relay's buffer in a folder of its own, whose one
destination are the brokers. Until it is handed over, what is in it is safe as far as this disk is.
What comes meanwhile overtakes it: to divert that, too, could go on for ever.
"""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import anyio
import structlog

from relay.buffer.api import Consumer
from relay.buffer.kafka.letter_text import record_of_letter
from relay.buffer.kafka.letters import Sends
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.values import BufferStatistics, DeadLetterFilter
from relay.model.counters import Counters
from relay.model.errors import BufferFailure, Refusal
from relay.model.records import Piece, Request, Sender, Signal, StoredRow

log = structlog.stdlib.get_logger(__name__)

_NAME: Final = "brokers"
_AGAIN_SECONDS: Final = 1.0
_TAKE_BYTES: Final = 4 * 2**20
_TAKE_ITEMS: Final = 100_000


class Appends(Protocol):
    """Who keeps requests on the brokers: `writer.Writer`."""

    async def append(self, request: Request) -> list[int]:
        """Return when the brokers have it. Raises BufferFailure."""
        ...


class Spool:
    """Requests that wait for the brokers. `open` first; the rest belongs to the event loop."""

    def __init__(self, state_dir: Path, settings: BufferSettings, letters_topic: str) -> None:
        self._buffer = Buffer(folder_of(state_dir), settings, Counters())
        self._letters_topic = letters_topic
        self._consumers: dict[Signal, Consumer] = {}

    def open(self) -> None:
        """Raises BufferFailure."""
        self._buffer.open()

    async def close(self) -> None:
        """Commit what waits, then end; safe twice."""
        await self._buffer.close()

    def _consumer(self, signal: Signal) -> Consumer:
        if signal not in self._consumers:
            self._consumers[signal] = self._buffer.consumer(_NAME, "beginning", signal=signal)
        return self._consumers[signal]

    @property
    def waiting_items(self) -> int:
        """How many items wait for the brokers."""
        return sum(self._consumer(each).statistics().owed_items for each in Signal)

    def statistics(self) -> BufferStatistics:
        """Those of the file."""
        return self._buffer.statistics()

    async def append(self, request: Request) -> None:
        """Return when `request` is on this disk. Raises BufferFailure."""
        await self._buffer.append(request)

    async def run(self, writer: Appends, bridge: Sends) -> None:
        """Hand over what waits, whenever the brokers take it. Raises what the buffer died of."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._buffer.wait_failed)
            group.start_soon(self._hand_over_letters, bridge)
            for signal in Signal:
                group.start_soon(self._hand_over, self._consumer(signal), writer)

    async def _hand_over(self, consumer: Consumer, writer: Appends) -> None:
        most_bytes = _TAKE_BYTES
        while True:
            await consumer.wait()
            try:
                taken = await consumer.take(max_bytes=most_bytes, max_items=_TAKE_ITEMS)
            except BufferFailure:
                taken = None
            if taken is None:
                await anyio.sleep(_AGAIN_SECONDS)
                continue
            requests = [await self._request_of(row) for row in taken.rows]
            answers = await asyncio.gather(
                *(writer.append(each) for each in requests), return_exceptions=True
            )
            failures = [each for each in answers if isinstance(each, BaseException)]
            for each in failures:
                if not isinstance(each, BufferFailure | Refusal):
                    raise each
            if not failures:
                consumer.settle(taken, status=200, at_ns=time.time_ns())
            elif any(isinstance(each, BufferFailure) for each in failures):
                consumer.give_back(taken)
                await anyio.sleep(_AGAIN_SECONDS)
            elif len(taken.rows) > 1:
                consumer.give_back(taken)
                most_bytes = 1  # row by row, to the one that they never take
            else:
                _tell(failures[0], consumer.signal.word)
                consumer.park(taken, b"")  # it stays on this disk, and others go on
                most_bytes = _TAKE_BYTES

    async def _request_of(self, row: StoredRow) -> Request:
        """The row as one request; where several came in it, of the first sender."""
        arrivals = [
            each for each in await self._buffer.browse.arrivals(row.row - 1) if each.row == row.row
        ]
        services = dict.fromkeys(name for each in arrivals for name in each.services)
        address, agent = (arrivals[0].address, arrivals[0].user_agent) if arrivals else ("", "")
        piece = Piece(
            row.encoding,
            row.body,
            row.items,
            b"".join(each.trace_ids for each in arrivals),
            tuple(services),
            row.flags,
            row.signal,
        )
        return Request((piece,), Sender(address, user_agent=agent, hops=row.hops), row.received_ns)

    async def _hand_over_letters(self, bridge: Sends) -> None:
        """Dead letters of what was rejected meanwhile, and of rows that this disk damaged."""
        letters = self._buffer.dead_letters
        after = 0
        while True:
            await anyio.sleep(_AGAIN_SECONDS)
            if not self._buffer.statistics().dead_letters:
                continue
            with suppress(BufferFailure):
                page = await letters.oldest_first(DeadLetterFilter(), after)
                for each in await letters.bodies([entry.letter_id for entry in page.entries]):
                    topic, set_aside_ns = self._letters_topic, each.set_aside_ns
                    try:
                        await bridge.send([record_of_letter(each.letter, topic, set_aside_ns)])
                    except Refusal as refusal:  # it stays on this disk
                        _tell(refusal, "dead letter")
                        after = each.letter_id
                        continue
                    await letters.discard([each.letter_id])


def _tell(refusal: BaseException, signal: str) -> None:
    log.error("fleet_spool_refused", signal=signal, reason=str(refusal))


def folder_of(state_dir: Path) -> Path:
    """Where a relay of a fleet has its spool."""
    return state_dir / "spool"


def spool_of(
    state_dir: Path, settings: BufferSettings, letters_topic: str, *, is_wanted: bool
) -> Spool | None:
    """The spool, if it is wanted or something may be left in one."""
    if is_wanted or (folder_of(state_dir) / "relay.db").exists():
        return Spool(state_dir, settings, letters_topic)
    return None
