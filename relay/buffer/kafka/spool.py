"""Keeps requests on this relay's own disk while the brokers take none, and hands them over later.

For senders that never come again. It is a single relay's buffer in a folder of its own, whose one
destination are the brokers. Until it is handed over, what is in it is safe as far as this disk is.
What comes meanwhile overtakes it: to divert that, too, could go on for ever.
"""

import time
from collections.abc import Sequence
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
from relay.buffer.values import Arrival, BufferStatistics, DeadLetterFilter
from relay.model.counters import Counters
from relay.model.errors import BufferFailure, Refusal
from relay.model.records import Piece, Request, Sender, Signal, StoredRow, Taken

log = structlog.stdlib.get_logger(__name__)

_NAME: Final = "brokers"
_AGAIN_SECONDS: Final = 1.0
_TAKE_BYTES: Final = 4 * 2**20
_TAKE_ITEMS: Final = 100_000
_LETTERS_AT_ONCE: Final = 50  # of half a MiB each at most
_ROWS_AT_ONCE: Final = 1000  # some ten milliseconds of the event loop


class Appends(Protocol):
    """Who keeps requests on the brokers: `writer.Writer`."""

    async def append_in_order(self, requests: Sequence[Request]) -> None:
        """Return when the brokers have them. Raises BufferFailure, and Refusal for one of them."""
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
        """Many rows at once, and the next when the brokers have them: that keeps their order."""
        most_bytes = _TAKE_BYTES
        while True:
            await consumer.wait()
            taken: Taken | None = None
            with suppress(BufferFailure):
                taken = await consumer.take(
                    max_bytes=most_bytes, max_items=_TAKE_ITEMS, one_encoding=False
                )
            if taken is None:
                await anyio.sleep(_AGAIN_SECONDS)
            while taken is not None:
                some, rest = await _first_rows(consumer, taken)
                try:
                    await writer.append_in_order(await self._requests_of(some.rows))
                except BufferFailure:
                    consumer.give_back(taken)
                    await anyio.sleep(_AGAIN_SECONDS)
                    break
                except Refusal as refusal:
                    if len(some.rows) > 1:
                        consumer.give_back(taken)
                        # Of so little the largest goes alone: that is the one they never take.
                        most_bytes = max(len(row.body) for row in some.rows)
                        break
                    _tell(refusal, consumer.signal.word)
                    consumer.park(some, b"")  # it stays on this disk, and others go on
                    most_bytes = _TAKE_BYTES
                else:
                    consumer.settle(some, status=200, at_ns=time.time_ns())
                taken = rest

    async def _requests_of(self, rows: Sequence[StoredRow]) -> list[Request]:
        """Each row as one request; where several came in it, of the first sender."""
        wanted = {row.row for row in rows}
        arrivals: dict[int, list[Arrival]] = {}
        after, last = rows[0].row - 1, rows[-1].row
        while after < last:
            found = await self._buffer.browse.arrivals(after)
            for each in found:
                if each.row in wanted:
                    arrivals.setdefault(each.row, []).append(each)
            after = found[-1].row if found else last
        return [_request_of(row, arrivals.get(row.row, [])) for row in rows]

    async def _hand_over_letters(self, bridge: Sends) -> None:
        """Dead letters of what was rejected meanwhile, and of rows that this disk damaged."""
        letters = self._buffer.dead_letters
        after, most = 0, _LETTERS_AT_ONCE
        while True:
            await anyio.sleep(_AGAIN_SECONDS)
            if not self._buffer.statistics().dead_letters:
                continue
            with suppress(BufferFailure):
                page = await letters.oldest_first(DeadLetterFilter(), after)
                ids = [entry.letter_id for entry in page.entries]
                for at in range(0, len(ids), most):
                    found = await letters.bodies(ids[at : at + most])
                    records = [
                        record_of_letter(each.letter, self._letters_topic, each.set_aside_ns)
                        for each in found
                    ]
                    try:
                        if records:
                            await bridge.send(records)
                    except Refusal as refusal:
                        if len(found) > 1:
                            most = 1  # to find the one that they do not take
                            break
                        _tell(refusal, "dead letter")
                        after = found[0].letter_id  # it stays on this disk
                        continue
                    await letters.discard([each.letter_id for each in found])
                else:
                    most = _LETTERS_AT_ONCE


async def _first_rows(consumer: Consumer, taken: Taken) -> tuple[Taken, Taken | None]:
    """What of a batch goes at once, and the rest of it."""
    if len(taken.rows) <= _ROWS_AT_ONCE:
        return taken, None
    return await consumer.split(taken, sum(row.items for row in taken.rows[:_ROWS_AT_ONCE]))


def _request_of(row: StoredRow, arrivals: Sequence[Arrival]) -> Request:
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
