"""The way in: a request becomes records, and is kept when every one was acknowledged."""

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Final

from relay.buffer.kafka.bridge import Bridge, Kept
from relay.buffer.kafka.places import row_of
from relay.buffer.kafka.records import Outgoing, records_of
from relay.buffer.kafka.retention import Partition
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.kafka.watch import Watch
from relay.model.counters import Counters
from relay.model.errors import BufferFull, BufferUnavailable
from relay.model.records import Piece, Request, Signal

# What comes after another goes to the same partition for a while, so that it shares its sync.
STAY_SECONDS: Final = 0.02
STAY_BYTES: Final = 1024 * 1024


class _Turn:
    """Which partition of a topic is next: one after another, staying a while at each."""

    def __init__(self) -> None:
        self._numbers = count()
        self._chosen = -1
        self._until = 0.0
        self._bytes = 0

    def choose(self, usable: Sequence[int], size: int) -> int:
        """One of `usable`, which is not empty, for a record of so many bytes."""
        now = time.monotonic()
        if now > self._until or self._bytes > STAY_BYTES or self._chosen not in usable:
            self._chosen = usable[next(self._numbers) % len(usable)]
            self._until, self._bytes = now + STAY_SECONDS, 0
        self._bytes += size
        return self._chosen


class Writer:
    """Keeps requests. Belongs to the event loop."""

    def __init__(
        self,
        settings: KafkaSettings,
        bridge: Bridge,
        watch: Watch,
        counters: Counters,
        of_rejected: Callable[[Request], Sequence[Outgoing]],
    ) -> None:
        """`of_rejected` makes records of what a request has of rejected items: dead letters."""
        self._settings = settings
        self._bridge = bridge
        self._watch = watch
        self._counters = counters
        self._of_rejected = of_rejected
        self._ends: dict[Partition, int] = {}  # after the last record that came from here
        self.full = ""  # why what comes would push out what is owed; empty: it does not
        self._turns = {name: _Turn() for name in settings.rows_topics}

    @property
    def problem(self) -> str:
        """Why nothing can be kept now; empty if something can."""
        if self._watch.problem:
            return self._watch.problem
        if self._bridge.is_silent:
            seconds = self._bridge.silent_seconds
            return f"the brokers have acknowledged nothing for {seconds:.0f} s"
        return ""

    def ends(self, seen: Mapping[Partition, int]) -> dict[Partition, int]:
        """Offsets after the last record: those that were `seen`, or what came from here since."""
        own = self._ends
        return {key: max(seen.get(key, 0), own.get(key, 0)) for key in seen.keys() | own.keys()}

    async def append(self, request: Request) -> list[int]:
        """Return the rows of a request when the brokers have all of it.

        Raises BufferFull, BufferUnavailable, and Refusal (413) for an item that is larger than they
        take: then some pieces may have been kept, and come twice when it is sent again.
        """
        self._refuse_where_nothing_is_taken()
        outgoings = self._records(request, request.sender.account)
        began = time.monotonic()
        try:
            kept = await self._bridge.send([*outgoings, *self._of_rejected(request)])
        except BufferUnavailable:
            self._watch.is_doubted = True  # for want of a right?
            raise
        seconds = time.monotonic() - began
        self._note_ends(outgoings, kept)
        self._counters.commits += 1
        self._counters.commit_seconds_sum += seconds
        self._counters.recent_commit_seconds.append(seconds)
        return [
            row_of(piece.signal, piece.encoding, *place)
            for piece, place in zip(request.pieces, kept, strict=False)
        ]

    async def append_in_order(self, requests: Sequence[Request]) -> None:
        """Return when the brokers have all of `requests`, which nobody waits for; as `append`.

        All are on their way at once. Metrics go to one partition, whoever sent them: a row of the
        spool may be of several senders, and each one's points are to stay in order.
        """
        self._refuse_where_nothing_is_taken()
        account = self._settings.relay_id
        outgoings = [record for each in requests for record in self._records(each, account)]
        self._note_ends(outgoings, await self._bridge.send(outgoings))

    def _refuse_where_nothing_is_taken(self) -> None:
        if self._watch.problem:
            # How rights are granted is nothing to tell senders: it is in the log and in `status`.
            problem = self._watch.problem.partition(": kafka-acls")[0]
            raise BufferUnavailable(f"the fleet's brokers: {problem}; retry")
        if self.full:
            raise BufferFull(f"{self.full}; retry later")

    def _records(self, request: Request, account: str) -> list[Outgoing]:
        """Those of its pieces, each with its partition. Raises BufferUnavailable."""
        return [
            outgoing._replace(partition=self._partition_of(piece, outgoing, account))
            for piece, outgoing in zip(
                request.pieces, records_of(request, self._settings), strict=True
            )
        ]

    def _note_ends(self, outgoings: Sequence[Outgoing], kept: Sequence[Kept]) -> None:
        for outgoing, place in zip(outgoings, kept, strict=False):
            self._ends[outgoing.topic, place.partition] = place.offset + 1

    def _partition_of(self, piece: Piece, outgoing: Outgoing, account: str) -> int:
        """Those of an account's metrics that come later must not overtake: they stay in one.

        All else goes where it is taken now. Raises BufferUnavailable.
        """
        usable = self._watch.usable.get(outgoing.topic, ())
        if piece.signal is Signal.METRICS:
            partitions = self._watch.partitions.get(outgoing.topic, 0)
            if partitions:
                chosen = zlib.crc32(account.encode()) % partitions
                if chosen in usable:
                    return chosen
        elif usable:
            return self._turns[outgoing.topic].choose(usable, len(piece.body))
        raise BufferUnavailable(f"no broker takes what is for {outgoing.topic} now; retry")
