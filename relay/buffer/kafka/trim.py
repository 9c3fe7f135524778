"""Deletes from the brokers what every destination has had for long enough, where that is asked for.

A topic knows nothing of who is still owed what is in it: whoever deletes needs to know every
consumer group of the fleet. So only that goes which is settled for each group there is, among them
one for each destination of this relay, and only where a look a minute before found the same groups:
while one broker takes over from another, some may be missing from the list for a moment. A group
that comes later begins a minute in the past (`member`), and what is as young as that is never
deleted: `fleet.keep_delivered` is five minutes at least.

Brokers leave out of the list what this account may not see, without a word. So nothing goes unless
it may see any group of the fleet.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping

import structlog
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.client import import_client, renewed_admin
from relay.buffer.kafka.coordinator import Committed, Partition, committed_of
from relay.buffer.kafka.orders import Orders
from relay.buffer.kafka.overview import groups_of, offsets_of, partitions_of
from relay.buffer.kafka.places import place_of
from relay.buffer.kafka.rights import Lacking, hidden_groups
from relay.buffer.kafka.settings import KafkaSettings
from relay.model.records import Signal

log = structlog.stdlib.get_logger(__name__)

EVERY_SECONDS = 60.0
_ASK_SECONDS = 10.0


class GroupsHidden(Exception):
    """What others have not had may be out of sight: its text says what right is missing."""


def settled_by_all(
    committed: Mapping[BacklogName, Committed],
    own: Collection[BacklogName],
    partitions: Iterable[tuple[Partition, Signal]],
) -> dict[Partition, int]:
    """Of each partition the offset below which nobody is owed anything. Pure.

    Left out is a partition that a group has committed nothing for, or whose signal has no group at
    all, or none for one of this relay's `own` backlogs.
    """
    found = {}
    for partition, signal in partitions:
        known = {key: places for key, places in committed.items() if key.signal is signal}
        wanted = {key for key in own if key.signal is signal}
        if not known or not wanted <= known.keys():
            continue
        if all(partition in places for places in known.values()):
            found[partition] = min(places[partition][0] for places in known.values())
    return found


class Trim:
    """Every relay looks once a minute: brokers do not mind being told twice."""

    def __init__(
        self,
        settings: KafkaSettings,
        keep_seconds: float,
        own: Callable[[], Collection[BacklogName]],
        orders: Orders,
    ) -> None:
        """`own` are the backlogs of this relay; `orders` keep what is to be sent again."""
        self._settings = settings
        self._keep_ms = int(keep_seconds * 1000)
        self._own = own
        self._orders = orders
        self._admin = renewed_admin(settings)
        self._groups: set[str] = set()  # as the look before found them
        self._problem = ""
        self.hidden: Lacking | None = None  # the right that is missing to see all groups

    async def run(self) -> None:
        """Look, and delete, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self.look()

    async def look(self) -> dict[Partition, int]:
        """Look once: up to which offsets was deleted now."""
        held = {
            (self._settings.rows_topic(place.signal, place.encoding), place.partition): place.offset
            for place in map(place_of, self._orders.lowest())
        }
        try:
            trimmed = await asyncio.to_thread(self._trim, set(self._own()), held)
        except (KafkaException, TimeoutError, GroupsHidden) as error:
            if str(error) != self._problem:
                log.warning("fleet_trim_waits", error=str(error))
            self._problem = str(error)
            return {}
        self._problem = ""
        return trimmed

    def _trim(
        self, own: Collection[BacklogName], held: Mapping[Partition, int]
    ) -> dict[Partition, int]:
        self.hidden = hidden_groups(import_client(), self._settings)
        if self.hidden is not None:
            raise GroupsHidden(self.hidden.words(self._settings))
        admin = self._admin()
        listed = admin.list_consumer_groups(request_timeout=_ASK_SECONDS).result(_ASK_SECONDS)
        if listed.errors:
            raise listed.errors[0]
        groups = groups_of(self._settings, listed.valid)
        before, self._groups = self._groups, set(groups.values())
        if before != self._groups:
            return {}
        partitions = partitions_of(admin, self._settings)
        committed = {
            key: committed_of(
                self._settings, group, [each for each, of in partitions if of is key.signal]
            )
            for key, group in groups.items()
        }
        settled = settled_by_all(committed, own, partitions)
        since = OffsetSpec.for_timestamp(int(time.time() * 1000) - self._keep_ms)
        young = offsets_of(admin, settled, since)  # -1: nothing is that young
        low = offsets_of(admin, settled, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        ends = {
            place: min(
                offset,
                held.get(place, offset),
                young[place] if young[place] >= 0 else offset,
            )
            for place, offset in settled.items()
        }
        gone = {place: end for place, end in ends.items() if end > low[place]}
        wanted = [TopicPartition(*place, end) for place, end in gone.items()]
        answers = admin.delete_records(wanted, request_timeout=_ASK_SECONDS) if wanted else {}
        for answer in answers.values():
            answer.result(_ASK_SECONDS)
        return gone
