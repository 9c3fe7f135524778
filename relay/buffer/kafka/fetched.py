"""What asking the brokers for records found."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import Message

from relay.buffer.kafka.records import Record


def record_of(message: Message) -> Record:
    """`message`, which is no error, as a plain value."""
    pairs: Iterable[tuple[str, bytes | None]] = message.headers() or ()  # type: ignore[assignment]
    headers = tuple((name, content or b"") for name, content in pairs)
    return Record(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.value(),
        headers,
        message.timestamp()[1],
        message.key(),
    )


@dataclass(slots=True)
class Fetched:
    """What there is from an offset on.

    All before `next_offset` that is not in `records` is not there, unless its offset is among the
    `damaged`, which the partition's leader `leader` cannot read. `first_offset`: the brokers keep
    nothing before it (0: not asked).
    """

    records: list[Record] = field(default_factory=list)
    next_offset: int = 0
    damaged: list[int] = field(default_factory=list)
    leader: int = -1
    first_offset: int = 0
