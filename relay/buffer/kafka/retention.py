"""How near the brokers are to deleting what is still owed.

They delete by size and by age, owed or not. New requests bring nearer what goes by size: near the
limit they are refused, as a full disk refuses them. What goes by age no refusal can keep: of that
the relay warns.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from relay.model.units import about_bytes, about_duration

FULL: Final = 0.9
NEAR: Final = 0.7

Partition = tuple[str, int]  # a topic and the number of one of its partitions


class Room(NamedTuple):
    """What is owed of the fullest partition, in parts of what the brokers keep; and what to say.

    `bytes_owed` is of all partitions together, about.
    """

    share: float = 0.0
    bytes_owed: int = 0
    limit: str = ""  # only near the limit: which, and what to do about it

    @property
    def is_full(self) -> bool:
        """Whether what comes now would push out what is owed."""
        return self.share >= FULL


def room_by_size(
    ends: Mapping[Partition, int],
    owed: Mapping[Partition, int],
    record_bytes: Mapping[str, float],
    partition_bytes: int,
) -> Room:
    """How full the partitions are with what is owed.

    `ends` are the offsets after the last record, `owed` the lowest that is owed, `record_bytes` the
    mean size of a record by topic, as brokers store it; `partition_bytes` what they keep of each,
    0 for all. Partitions of which nothing is known are left out.
    """
    sizes = {
        partition: max(0, ends[partition] - offset) * record_bytes.get(partition[0], 0.0)
        for partition, offset in owed.items()
        if partition in ends
    }
    together = int(sum(sizes.values()))
    if not sizes or not partition_bytes:
        return Room(bytes_owed=together)
    fullest = max(sizes, key=lambda each: sizes[each])
    share = sizes[fullest] / partition_bytes
    if share < NEAR:
        return Room(share, together)
    topic, number = fullest
    words = (
        f"about {about_bytes(sizes[fullest])} wait in partition {number} of {topic}, of which the "
        f"brokers keep {about_bytes(partition_bytes)}: mend the destination that does not take "
        "them, or raise fleet.retention_size"
    )
    return Room(share, together, words)


def warning_by_age(oldest_owed_ns: int, now_ns: int, retention_ms: int) -> str:
    """What to say where the oldest of what is owed is nearly too old to be kept; else empty."""
    if not oldest_owed_ns or retention_ms <= 0:
        return ""
    seconds, kept_seconds = (now_ns - oldest_owed_ns) / 1e9, retention_ms / 1000
    if seconds < NEAR * kept_seconds:
        return ""
    return (
        f"the oldest of what waits is {about_duration(seconds)} old, and the brokers delete it "
        f"after {about_duration(kept_seconds)}: mend the destination that does not take it, or "
        "raise fleet.retention"
    )
