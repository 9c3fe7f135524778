"""What a fleet looks like from its brokers: who is a member, and how far each destination is.

Asked of the brokers alone, so that any host that reaches them may ask, without a running relay.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import BacklogName, backlog_name
from relay.buffer.kafka import owed_text
from relay.buffer.kafka.access import BrokersAway
from relay.buffer.kafka.coordinator import Group, Partition, committed_of, describe_groups
from relay.buffer.kafka.places import first_row, stream_number
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.kafka.topics import Topics
from relay.model.errors import BufferUnavailable
from relay.model.records import Signal

_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """A partition for one destination: rows it is owed of those that the brokers have."""

    topic: str
    partition: int
    relay: str  # who delivers it; empty: nobody
    waiting_rows: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class DestinationLag:
    """A destination and a signal. `relays` are members of its group; `state` the brokers' word."""

    name: str
    signal: str
    state: str
    waiting_rows: int
    relays: tuple[str, ...]
    partitions: tuple[PartitionLag, ...]


@dataclass(frozen=True, slots=True)
class RelayMember:
    """A relay, by its id, and of how many partitions of all destinations it is in charge."""

    relay: str
    host: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole fleet."""

    name: str
    brokers: tuple[str, ...]
    relays: tuple[RelayMember, ...]
    destinations: tuple[DestinationLag, ...]


def overview(settings: KafkaSettings) -> Overview:
    """Ask the brokers. Raises BufferUnavailable when they do not answer, or not this account."""
    topics = Topics(settings)
    try:
        topics.metadata(_SECONDS)  # which says why, where they do not let us in
        return _overview(topics.admin, settings)
    except BrokersAway as error:
        raise BufferUnavailable(f"the brokers do not say how the fleet is: {error}") from None
    except KafkaException as error:
        words = f"the brokers do not say how the fleet is: {error.args[0].str()}"
        hint = f"does one of {', '.join(settings.fleet.brokers)} answer?"
        raise BufferUnavailable(words, hint=hint) from None


def _overview(admin: AdminClient, settings: KafkaSettings) -> Overview:
    cluster = admin.list_topics(timeout=_SECONDS)
    there = cluster.topics
    topics = {topic: kind for topic, kind in settings.rows_topics.items() if topic in there}
    partitions = [(topic, each) for topic in topics for each in there[topic].partitions]
    lows = offsets_of(admin, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    highs = offsets_of(admin, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    known = admin.list_consumer_groups(request_timeout=_SECONDS).result(_SECONDS).valid
    groups = groups_of(settings, known)
    described = describe_groups(settings, groups.values())
    found = {key: described[group] for key, group in groups.items()}
    destinations = []
    for key, group in found.items():
        if group.error:
            raise BufferUnavailable(f"the brokers do not say how {groups[key]} is: {group.words}")
        own = [each for each in partitions if topics[each[0]][0] is key.signal]
        committed, owners = committed_of(settings, groups[key], own), _owners(group)
        lags = []
        for topic, partition in own:
            place = topic, partition
            base = first_row(stream_number(*topics[topic], partition))
            low, high = lows[place], highs[place]
            rows = _waiting(base, committed.get(place, (low, "")), low, high)
            lags.append(PartitionLag(topic, partition, owners.get(place, ""), rows, low, high))
        destinations.append(
            DestinationLag(
                key.destination,
                key.signal.word,
                group.state,
                sum(each.waiting_rows for each in lags),
                tuple(sorted(each.relay for each in group.members)),
                tuple(lags),
            )
        )
    brokers = (f"{each.host}:{each.port}" for _id, each in sorted(cluster.brokers.items()))
    return Overview(
        settings.fleet.name, tuple(brokers), _relays(found.values()), tuple(destinations)
    )


def groups_of(settings: KafkaSettings, listed: Iterable[Any]) -> dict[BacklogName, str]:
    """The fleet's groups among all that were `listed`, in the order of their names."""
    prefix = settings.group(BacklogName(""))
    own = sorted(each.group_id for each in listed if each.group_id.startswith(prefix))
    return {backlog_name(each.removeprefix(prefix).replace(".", ":")): each for each in own}


def _owners(group: Group) -> dict[Partition, str]:
    return {each: member.relay for member in group.members for each in member.partitions}


def _relays(groups: Iterable[Group]) -> tuple[RelayMember, ...]:
    hosts, counts = dict[str, str](), Counter[str]()
    for each in groups:
        hosts |= {member.relay: member.host for member in each.members}
        counts.update(_owners(each).values())
    return tuple(RelayMember(relay, host, counts[relay]) for relay, host in sorted(hosts.items()))


def offsets_of(admin: AdminClient, places: Iterable[Partition], spec: Any) -> dict[Partition, int]:
    """An offset of each of `places`, as `spec` asks for it. Raises KafkaException."""
    asked = {TopicPartition(*each): spec for each in places}
    if not asked:
        return {}
    answers = admin.list_offsets(asked, request_timeout=_SECONDS)
    return {
        (place.topic, place.partition): int(answer.result(_SECONDS).offset)
        for place, answer in answers.items()
    }


def partitions_of(admin: AdminClient, settings: KafkaSettings) -> list[tuple[Partition, Signal]]:
    """Every partition of rows that there is. Raises KafkaException."""
    there = admin.list_topics(timeout=_SECONDS).topics
    return [
        ((topic, partition), signal)
        for topic, (signal, _encoding) in settings.rows_topics.items()
        if topic in there
        for partition in there[topic].partitions
    ]


def _waiting(base: int, committed: tuple[int, str], low: int, high: int) -> int:
    """Rows from `low` up to `high` that are owed, by what was committed; `base` is row 0."""
    offset, metadata = committed
    owed = owed_text.decode(base + offset, metadata).ranges
    there = owed_ranges.clip(owed, base + high - 1)
    gone = owed_ranges.before(base + low)
    left = owed_ranges.subtract(there, (gone,))
    return sum(end.row + bool(end.item) - start.row for start, end in left if end is not None)
