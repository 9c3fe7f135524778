"""What one backlog is owed of one stream, while that is this relay's to deliver."""

from relay.buffer import owed_ranges
from relay.buffer.kafka import owed_text
from relay.buffer.kafka.owed_text import OwedText
from relay.buffer.kafka.places import first_row, stream_of
from relay.buffer.kafka.streams import Stream
from relay.buffer.owed_ranges import Ranges
from relay.model.records import OwedRange, Position


class Lane:
    """Ranges of one stream: what is owed, what of it is in flight, what waits for a dead letter."""

    def __init__(self, stream: Stream, ranges: Ranges) -> None:
        self.stream = stream
        self.ranges = ranges  # owed, in flight included
        self.orders: set[str] = set()  # whose ranges it owes by now, and that are not done
        self.told: set[str] = set()  # of them those that were committed with it
        self._holds: list[Ranges] = []
        self.committed: OwedText | None = None
        self.is_changed = True  # since what is to be committed was looked at
        self.is_leaving = False  # another relay gets it: nothing more is taken
        self.rests_until = 0.0  # no broker could be asked for it; monotonic

    @property
    def number(self) -> int:
        """The stream's."""
        return self.stream.number

    @property
    def unwritten(self) -> Ranges:
        """Owed still as far as anybody else is to know: a dead letter of it is on its way."""
        return owed_ranges.union(item for held in self._holds for item in held)

    def hold(self, ranges: Ranges) -> None:
        """Commit none of it as settled until `let_go`."""
        self._holds.append(ranges)
        self.is_changed = True

    def let_go(self, ranges: Ranges) -> None:
        """What was held is safe by another way."""
        self._holds.remove(ranges)
        self.is_changed = True

    @property
    def to_commit(self) -> OwedText:
        """What is safe to say to whoever gets the stream next."""
        return owed_text.encode(
            owed_ranges.union((*self.ranges, *self.unwritten)), self.stream.next_row
        )

    def there(self, ranges: Ranges) -> Ranges:
        """What of `ranges` exists by now."""
        return owed_ranges.clip(ranges, self.stream.next_row - 1)

    @property
    def bounded(self) -> Ranges:
        """What it is owed, with an end where it would go on into other streams."""
        end = Position(first_row(self.number + 1))
        return tuple(OwedRange(item.start, item.end or end) for item in self.ranges)

    def free(self, held: Ranges, now: float) -> Ranges:
        """What of it may be handed out, when `held` may not."""
        if self.is_leaving or now < self.rests_until or not self.ranges:
            return ()
        start = self.ranges[0].start
        if start.row >= self.stream.next_row:
            return ()
        held = (*held, *self.unwritten, *self.stream.damaged)
        return self.there(owed_ranges.subtract(self.ranges, held) if held else self.ranges)

    def settle(self, ranges: Ranges) -> None:
        """No longer owed."""
        self.ranges = owed_ranges.subtract(self.ranges, ranges)
        self.is_changed = True

    def owe(self, ranges: Ranges) -> None:
        """Owed again."""
        self.ranges = owed_ranges.union((*self.ranges, *ranges))
        self.is_changed = True

    def evict(self) -> Ranges:
        """What is owed of rows that the brokers do not keep any more, and is not from now on."""
        first = self.stream.first_row
        if not self.ranges or self.ranges[0].start.row >= first:
            return ()  # nearly always, and asked of each lane whenever anything comes
        lost = owed_ranges.intersection(self.ranges, (owed_ranges.before(first),))
        if lost:
            self.settle(lost)
        return lost


def within(ranges: Ranges, stream: int) -> Ranges:
    """What of `ranges` lies in a stream."""
    end = first_row(stream + 1)
    return tuple(item for item in ranges if first_row(stream) <= item.start.row < end)


def streams_of(ranges: Ranges) -> set[int]:
    """The streams that `ranges` lie in; none of them reaches from one into another."""
    return {stream_of(item.start.row) for item in ranges}
