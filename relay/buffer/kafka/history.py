"""The history of a fleet as one relay knows it: what there is, and what became of it.

`HistoryReader` learns of records, `Told` tells the other relays of deliveries. What is waiting is
never remembered but asked: of this relay's own backlogs, and of what the others have committed.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka import owed_text
from relay.buffer.kafka.backlog import Backlog
from relay.buffer.kafka.client import renewed_admin
from relay.buffer.kafka.coordinator import Committed, committed_of
from relay.buffer.kafka.gather import Decode
from relay.buffer.kafka.history_file import HistoryFile, Indexed, delivered_entries
from relay.buffer.kafka.history_reader import BACK_ROWS, HistoryReader
from relay.buffer.kafka.history_text import values_of
from relay.buffer.kafka.letters import Sends
from relay.buffer.kafka.overview import partitions_of
from relay.buffer.kafka.places import first_row, stream_number
from relay.buffer.kafka.records import Outgoing
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.owed_ranges import Ranges
from relay.buffer.rejected_senders import RejectedSenders
from relay.buffer.sqlite.trace_lookup import Standing
from relay.buffer.sqlite.trace_queries import DeliveredEntry, PartPlace
from relay.model.errors import BufferFailure, BufferUnavailable
from relay.model.records import OwedRange, Position, Request, Sender, Taken

FILE: Final = "fleet-history.db"
_MOST_OWN: Final = 10_000  # deliveries of this relay that may not have come back from the brokers
_FRESH_SECONDS: Final = 1.0
TELL_SECONDS: Final = 0.2


class History:
    """What this relay's looking is made of. Belongs to the event loop, but for the reader."""

    def __init__(
        self,
        settings: KafkaSettings,
        bridge: Sends,
        decode: Decode,
        path: Path,
        most_bytes: int,
        back_rows: int = BACK_ROWS,
    ) -> None:
        self._settings = settings
        self.file = HistoryFile(path, most_bytes)
        self._reader = HistoryReader(settings, self.file, decode, back_rows)
        self.told = Told(settings, bridge)
        self._admin = renewed_admin(settings)
        self._committed: dict[BacklogName, tuple[float, Committed]] = {}
        self._rejected = RejectedSenders()
        self.backlogs: Callable[[], Mapping[BacklogName, Backlog]] = dict

    def start(self) -> None:
        """Begin to read."""
        if not self._reader.thread.is_alive():
            self._reader.thread.start()

    def stop(self) -> None:
        """End soon."""
        self._reader.stop()

    def note_rejected(self, request: Request) -> None:
        """Remember whose request it is that dead letters are made of; of the newest thousand."""
        self._rejected.note(request)

    def sender_of_rejected(self, received_ns: int) -> Sender | None:
        """Who sent a request that this relay rejected items of, if that is remembered."""
        return self._rejected.of(received_ns)

    async def standings(self, trace_id: bytes = b"") -> list[Standing]:
        """What each destination is owed now, whichever relay delivers it.

        Raises BufferUnavailable.
        """
        found = []
        for key, backlog in sorted(self.backlogs().items()):
            own = {number: lane.bounded for number, lane in backlog.lanes.items()}
            parked, of_others = backlog.parked_of(trace_id)
            ranges = [item for each in own.values() for item in each]
            committed = await self._committed_of(key)
            for number, owed in committed.items():
                if number not in own:
                    ranges += owed
            owed_now = owed_ranges.subtract(owed_ranges.union(ranges), of_others)
            settled = self.told.own(key.text)
            found.append(Standing(key, owed_now, backlog.in_flight, settled, parked))
        return found

    async def _committed_of(self, key: BacklogName) -> dict[int, Ranges]:
        """What the group of a backlog is owed of each stream, as committed a second ago at most."""
        asked, committed = self._committed.get(key, (-_FRESH_SECONDS, {}))
        if time.monotonic() - asked > _FRESH_SECONDS:
            try:
                committed = await asyncio.to_thread(self._ask_committed, key)
            except KafkaException as error:
                words = f"the brokers do not say what waits: {error.args[0].str()}"
                raise BufferUnavailable(words) from error
            self._committed[key] = time.monotonic(), committed
        kinds = self._settings.rows_topics
        found = {}
        for (topic, partition), (offset, metadata) in committed.items():
            if topic in kinds:
                number = stream_number(*kinds[topic], partition)
                ranges = owed_text.decode(first_row(number) + offset, metadata).ranges
                end = Position(first_row(number + 1))
                found[number] = tuple(OwedRange(start, stop or end) for start, stop in ranges)
        return found

    def _ask_committed(self, key: BacklogName) -> Committed:
        partitions = partitions_of(self._admin(), self._settings)
        own = [each for each, signal in partitions if signal is key.signal]
        return committed_of(self._settings, self._settings.group(key), own)


class Told:
    """What this relay delivered, on its way to the others."""

    def __init__(self, settings: KafkaSettings, bridge: Sends) -> None:
        self._topic = settings.history_topic
        self._bridge = bridge
        self._new: dict[tuple[str, int], tuple[Ranges, int]] = {}
        self._own: deque[DeliveredEntry] = deque(maxlen=_MOST_OWN)
        # Brokers that are away for long cost what was delivered first, not memory.
        self._untold: deque[DeliveredEntry] = deque(maxlen=_MOST_OWN)
        self._telling = asyncio.Lock()

    def delivered(self, key: BacklogName, taken: Taken, status: int, at_ns: int) -> None:
        """What was settled; deliveries of a moment are told as one."""
        ranges, _ = self._new.get((key.text, status), ((), 0))
        self._new[key.text, status] = owed_ranges.union((*ranges, *taken.ranges)), at_ns

    def own(self, destination: str) -> list[DeliveredEntry]:
        """The last deliveries of this relay to that one."""
        self._take()
        return [each for each in self._own if each.destination == destination]

    def _take(self) -> None:
        entries = [
            entry
            for (destination, status), (ranges, at_ns) in self._new.items()
            for entry in delivered_entries(destination, ranges, at_ns, status)
        ]
        self._new.clear()
        self._own += entries
        self._untold += entries

    async def run(self) -> None:
        """Tell what is new, until cancelled."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            await self.tell()

    async def tell(self) -> None:
        """Tell what is new, or try again with the next turn. Cancelled, it is not told."""
        async with self._telling:
            self._take()
            entries = list(self._untold)
            self._untold.clear()
            records = [Outgoing(self._topic, value, partition=0) for value in values_of(entries)]
            try:
                if records:
                    await self._bridge.send(records)
            except BufferFailure:
                self._untold.extendleft(reversed(entries))


def places_of(found: Iterable[Indexed]) -> list[PartPlace]:
    """Records as a search finds them."""
    return [
        PartPlace(seen.place, seen.encoding, seen.part, 0, signal=seen.signal) for _, seen in found
    ]


def by_place(found: Sequence[Indexed]) -> dict[int, int]:
    """The number of each by its place."""
    return {each.seen.place: each.number for each in found}
