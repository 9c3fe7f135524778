"""One destination's membership and its backlog, brought together: lanes come, go, are committed."""

import asyncio
from collections.abc import Callable, Collection, Sequence

import structlog

from relay.buffer import owed_ranges
from relay.buffer.api import Start
from relay.buffer.kafka import owed_text
from relay.buffer.kafka.backlog import Backlog
from relay.buffer.kafka.fetch import Place, Tail
from relay.buffer.kafka.lane import Lane
from relay.buffer.kafka.member import Commit, Commits, Gained, Group, Member, Partition
from relay.buffer.kafka.orders import Orders
from relay.buffer.kafka.owed_text import OwedText
from relay.buffer.kafka.places import stream_number
from relay.buffer.kafka.records import Record
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.kafka.streams import Stream, Streams
from relay.model.records import Encoding

log = structlog.stdlib.get_logger(__name__)

# What is so near to the end is read by all at once, and then is in memory.
_TAIL_ROWS = 1000


class Followed:
    """Streams that some destination of this relay has, each read once for all of them."""

    def __init__(self, streams: Streams, tail: Tail) -> None:
        self._streams = streams
        self._tail = tail
        self._users: dict[int, list[Backlog]] = {}

    def add(self, stream: Stream, backlog: Backlog, from_row: int) -> None:
        """`backlog` has it, and begins at `from_row` at the earliest."""
        users = self._users.setdefault(stream.number, [])
        users.append(backlog)
        if len(users) == 1:
            row = max(from_row, stream.first_row, stream.next_row - _TAIL_ROWS)
            row = min(row, stream.next_row)
            place = Place(stream.topic, stream.partition, stream.offset_of(row))
            stream.begin_sums(row)
            self._tail.follow(place, Follower(self._streams, stream, users))

    def remove(self, number: int, backlog: Backlog) -> None:
        """`backlog` has it no more."""
        users = self._users.get(number, [])
        if backlog in users:
            users.remove(backlog)
        stream = self._streams.get(number)
        if not users and stream is not None:
            self._users.pop(number, None)
            self._tail.leave(stream.topic, stream.partition)
            self._streams.close(number)


class Follower:
    """Hears of what comes in one stream."""

    def __init__(self, streams: Streams, stream: Stream, users: list[Backlog]) -> None:
        self._streams = streams
        self._stream = stream
        self._users = users

    def came(self, records: list[Record]) -> None:
        """Records, in order."""
        self._streams.came(self._stream, records)
        self._wake()

    def reached(self, offset: int) -> None:
        """There is nothing but what was told before `offset`."""
        row = self._stream.row_at(offset)
        if row > self._stream.next_row:
            self._stream.next_row = row
            self._wake()

    def _wake(self) -> None:
        for backlog in self._users:
            backlog.grew(self._stream)


class Delivery:
    """A backlog and its membership. Everything but the member's thread is in the event loop."""

    def __init__(
        self,
        settings: KafkaSettings,
        backlog: Backlog,
        streams: Streams,
        followed: Followed,
        *,
        orders: Orders,
        start: Start,
        is_first: Callable[[], bool],
    ) -> None:
        self.backlog = backlog
        self._orders = orders
        # Orders that are in what is committed now, by stream, and those that are so for good.
        self._in_commit: dict[int, set[str]] = {}
        self.finished: dict[int, set[str]] = {}
        self._streams = streams
        self._followed = followed
        self._kinds = {
            settings.rows_topic(backlog.signal, encoding): encoding for encoding in Encoding
        }
        self._is_committing = False
        self.is_left = False
        group = Group(settings.group(backlog.key), tuple(self._kinds))
        self.member = Member(
            settings,
            group,
            self,
            asyncio.get_running_loop(),
            start=start,
            is_first=is_first,
        )

    # -- what the member's thread tells -------------------------------------------------------

    def gained(self, gained: Sequence[Gained]) -> None:
        """Deliver of those partitions."""
        for each in gained:
            number = self._number(each.partition)
            stream = self._streams.open(number, each.low, each.high)
            lane = Lane(stream, owed_ranges.open_from(stream.row_at(each.low)))
            if each.offset is not None:
                self._take_up(lane, each.offset, each)
            first = lane.ranges[0].start.row if lane.ranges else stream.next_row
            self._followed.add(stream, self.backlog, first)
            self.backlog.gain(lane)
        self.heed_orders()

    async def leave(self, partitions: Collection[Partition], seconds: float) -> Commits:
        """Let land what is in flight; what is to be committed."""
        lanes = await self.backlog.release(map(self._number, partitions), seconds)
        return self._texts(lanes)

    def lost(self, partitions: Collection[Partition]) -> None:
        """They are others'."""
        numbers = [self._number(each) for each in partitions]
        self.backlog.forget(numbers)
        for each in numbers:
            self._followed.remove(each, self.backlog)
            self._in_commit.pop(each, None)

    def committed(self, commits: Commits) -> None:
        """Those are safe."""
        self._is_committing = False
        for partition, each in commits.items():
            lane = self.backlog.lanes.get(self._number(partition))
            if lane is not None:
                row = lane.stream.row_at(each.offset)
                lane.committed = OwedText(row, each.metadata)
        for partition in commits:
            number = self._number(partition)
            names = self._in_commit.pop(number, None)
            if names:
                self.finished.setdefault(number, set()).update(names)
                lane = self.backlog.lanes.get(number)
                if lane is not None:
                    lane.told |= names

    def commit_failed(self) -> None:
        """Commit with the next turn."""
        self._is_committing = False
        self._in_commit.clear()
        for lane in self.backlog.lanes.values():
            lane.is_changed = True

    # -- what the readers ask -----------------------------------------------------------------

    def commit(self) -> None:
        """Have committed what is settled, unless that is being done."""
        if self._is_committing or self.is_left:
            return
        changed = [lane for lane in self.backlog.lanes.values() if lane.is_changed]
        commits = self._texts(changed)
        for lane in changed:
            lane.is_changed = False
        if commits:
            self._is_committing = True
            self.member.commit(commits)

    def heed_orders(self) -> None:
        """Owe what is ordered, as far as it is not done and its streams are here."""
        for lane in self.backlog.lanes.values():
            due = self._orders.due(self.backlog.key, lane.number)
            for name, ranges in due.items():
                if name not in lane.orders:
                    self.backlog.owe(ranges)
            lane.orders = set(due)

    @property
    def is_safe(self) -> bool:
        """Whether everything that was settled is committed, and its dead letters are written."""
        lanes = self.backlog.lanes.values()
        is_open = any(lane.is_changed or lane.unwritten for lane in lanes)
        return not self._is_committing and not is_open

    def stop(self) -> None:
        """Leave the group, after a last commit."""
        self.is_left = True
        self.member.stop()

    def _texts(self, lanes: Collection[Lane]) -> Commits:
        """What of those is to be committed because it is not what was committed last."""
        commits = {}
        for lane in lanes:
            text = lane.to_commit
            is_safe = text == lane.committed
            if not is_safe:
                offset = lane.stream.offset_of(text.row)
                commits[lane.stream.topic, lane.stream.partition] = Commit(offset, text.metadata)
            heeded = lane.orders - lane.told
            if heeded:
                to = self.finished if is_safe else self._in_commit
                to.setdefault(lane.number, set()).update(heeded)
        return commits

    def _number(self, partition: Partition) -> int:
        topic, number = partition
        return stream_number(self.backlog.signal, self._kinds[topic], number)

    def _take_up(self, lane: Lane, offset: int, gained: Gained) -> None:
        """What was committed for it, as far as it can be believed."""
        stream = lane.stream
        if offset > gained.high:
            log.error(
                "fleet_topic_is_new",
                destination=self.backlog.name,
                signal=self.backlog.signal.word,
                topic=stream.topic,
                partition=stream.partition,
                offset=offset,
                hint="less is kept than was delivered: all that there is is owed",
            )
            return
        row = stream.row_at(offset)
        read = owed_text.decode(row, gained.metadata)
        lane.ranges = read.ranges
        lane.committed = OwedText(row, gained.metadata)
        if not read.is_exact:
            log.error(
                "fleet_commit_unreadable",
                destination=self.backlog.name,
                signal=self.backlog.signal.word,
                topic=stream.topic,
                partition=stream.partition,
                offset=offset,
                hint="everything from the offset on is owed again",
            )
