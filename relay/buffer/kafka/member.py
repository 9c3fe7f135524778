"""Membership of one consumer group: which partitions are this relay's to deliver, and the commits.

A thread with a client of its own, which fetches nothing: it is told no partition to read. Every
relay of a fleet is a static member under its id, so that a restart within the session moves
nothing; the one that is gone for longer loses its partitions to the others after six seconds.

What a callback of the client raises is lost in it, so none raises.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from relay.buffer.api import Start
from relay.buffer.kafka.fetch import make_consumer
from relay.buffer.kafka.rights import REFUSED
from relay.buffer.kafka.settings import ClientSettings, KafkaSettings

log = structlog.stdlib.get_logger(__name__)

SESSION_MS = 6_000
RELEASE_SECONDS = 4.0  # what is in flight may land before its partition goes to another relay
_POLL_SECONDS = 0.1
_ASK_SECONDS = 5.0
_JOIN_AGAIN_SECONDS = 5.0
_SHORT_SECONDS = 15.0
_BEGIN_MARGIN_MS = 60_000  # of clocks, and of relays that are told of a destination one by one

Partition = tuple[str, int]


class Gained(NamedTuple):
    """A partition that is this relay's now.

    `offset` is what was committed (None: nothing ever was) with its `metadata`; the brokers keep
    offsets from `low` up to `high`.
    """

    partition: Partition
    offset: int | None
    metadata: str
    low: int
    high: int


class Commit(NamedTuple):
    """An offset to commit, and the metadata beside it."""

    offset: int
    metadata: str


Commits = Mapping[Partition, Commit]


class Owner(Protocol):
    """Whose membership it is. Everything is called in the event loop."""

    def gained(self, gained: Sequence[Gained]) -> None:
        """Those are this relay's until `leave` or `lost`."""
        ...

    async def leave(self, partitions: Collection[Partition], seconds: float) -> Commits:
        """Others get them: let land what is in flight in time; what is to be committed."""
        ...

    def lost(self, partitions: Collection[Partition]) -> None:
        """They are others'; nothing can be committed for them."""
        ...

    def committed(self, commits: Commits) -> None:
        """Those are safe."""
        ...

    def commit_failed(self) -> None:
        """What was to be committed last was not, and is to be tried again."""
        ...


class Group(NamedTuple):
    """A consumer group, and what its members share."""

    name: str
    topics: Sequence[str]


class Member:
    """Keeps this relay's membership of a group. `start` says where it begins if it is new."""

    def __init__(
        self,
        settings: KafkaSettings,
        group: Group,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
        *,
        start: Start,
        is_first: Callable[[], bool],
    ) -> None:
        """`is_first` is asked in the thread, with `start` "auto": whether no other destination of
        the fleet has delivered anything of this yet.
        """
        self.group = group.name
        self._settings = settings
        self._topics = list(group.topics)
        self._owner = owner
        self._loop = loop
        self._start: Start = start
        self._is_first = is_first
        self._jobs: queue.SimpleQueue[Commits] = queue.SimpleQueue()
        self._is_stopping = threading.Event()
        self._unknown: set[Partition] = set()  # ours, and what was committed is not known yet
        self._ours: set[Partition] = set()
        self._short_since: dict[Partition, float] = {}
        self._is_fatal = False
        self.problem = ""
        self.is_forbidden = False  # for want of a right
        self.ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"fleet {group}", daemon=True)

    def start(self) -> None:
        """Join, and stay in the group."""
        self._thread.start()

    def commit(self, commits: Commits) -> None:
        """Commit those soon; the owner is told when that is done."""
        self._jobs.put(commits)

    def stop(self) -> None:
        """Commit what is to be committed, and leave; `ended` is set then."""
        self._is_stopping.set()

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            self._is_fatal = False
            version = self._settings.version
            try:
                self._live(make_consumer(self._client()), version)
            except Exception as error:
                log.exception("fleet_member_restarts", group=self.group, error=type(error).__name__)
                self._is_fatal = True
            self._is_stopping.wait(_JOIN_AGAIN_SECONDS if self._is_fatal else 0)
        self._post(self.ended.set)

    def _client(self) -> ClientSettings:
        return {
            **self._settings.client(),
            "group.id": self.group,
            "group.instance.id": self._settings.relay_id,
            "group.protocol": "classic",
            "partition.assignment.strategy": "range",
            "session.timeout.ms": SESSION_MS,
            "socket.timeout.ms": 10_000,
            "heartbeat.interval.ms": 1_000,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "topic.metadata.refresh.interval.ms": 10_000,
        }

    def _live(self, consumer: Consumer, version: int) -> None:
        """Once from joining to leaving, or until the brokers are to be reached otherwise."""

        def is_over() -> bool:
            return self._is_stopping.is_set() or self._settings.version != version

        try:
            while not is_over() and not self._begin(consumer):
                self._is_stopping.wait(1.0)
            if not is_over():
                consumer.subscribe(
                    self._topics,
                    on_assign=self._assigned,
                    on_revoke=self._revoked,
                    on_lost=self._lost,
                )
            while not is_over() and not self._is_fatal:
                message = consumer.poll(_POLL_SECONDS)
                if message is not None:
                    self._heed(message)
                self._look_up(consumer)
                self._commit_waiting(consumer)
        except KafkaException as error:
            self._blame(error.args[0])
            self._is_fatal = True
        finally:
            self._commit_waiting(consumer)
            consumer.close()  # which revokes
            if self._ours:
                self._lost(consumer, [TopicPartition(*each) for each in self._ours])

    def _heed(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            self._blame(error)

    def _blame(self, error: KafkaError) -> None:
        """Say what is wrong; what is fatal ends this membership, and a new one is tried."""
        is_fenced = error.code() == KafkaError.FENCED_INSTANCE_ID
        if (error.fatal() or is_fenced) and not self._is_fatal:
            self._is_fatal = True
            hint = "does another relay have the same `fleet.relay_id`?"
            log.error("fleet_member_fenced", group=self.group, error=error.str(), hint=hint)
        self.is_forbidden = error.name() in REFUSED
        self._say(error.str())

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("fleet_group_waits", group=self.group, error=problem)
        self.problem = problem

    # -- where a group begins that nobody has committed for -----------------------------------

    def _begin(self, consumer: Consumer) -> bool:
        """Give a new group its beginning; false where no broker answers."""
        if self._start == "beginning":
            return True
        try:
            places = self._places(consumer)
            known = consumer.committed(places, _ASK_SECONDS)
            if any(each.offset >= 0 or each.error is not None for each in known):
                return True
            if self._start == "auto" and self._is_first():
                return True
            since_ms = int(time.time() * 1000) - _BEGIN_MARGIN_MS
            asked = [TopicPartition(each.topic, each.partition, since_ms) for each in places]
            begins = []
            for each in consumer.offsets_for_times(asked, _ASK_SECONDS):
                offset = each.offset
                if offset < 0:
                    _low, offset = consumer.get_watermark_offsets(each, _ASK_SECONDS)
                begins.append(TopicPartition(each.topic, each.partition, offset))
            if begins:
                consumer.commit(offsets=begins, asynchronous=False)
        except KafkaException as error:
            problem = error.args[0]
            if problem.code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION):
                return True  # another relay has begun meanwhile
            told = consumer.poll(0)  # of a group that is forbidden it says no more than "timed out"
            if told is not None:
                self._heed(told)
            else:
                self._say(problem.str())
            return False
        return True

    def _places(self, consumer: Consumer) -> list[TopicPartition]:
        found = consumer.list_topics(timeout=_ASK_SECONDS).topics
        return [
            TopicPartition(topic, partition)
            for topic in self._topics
            if topic in found
            for partition in found[topic].partitions
        ]

    # -- what the group says ------------------------------------------------------------------

    def _assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._ours = {(each.topic, each.partition) for each in places}
        self._unknown = set(self._ours)
        self._try(lambda: consumer.assign([]))

    def _revoked(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        partitions = {(each.topic, each.partition) for each in places} & self._ours
        self._unknown -= partitions
        waiting = self._ask_to_leave(partitions)
        self._try(lambda: self._commit(consumer, waiting) if waiting else None)
        self._ours -= partitions
        self._post(lambda: self._owner.lost(partitions))
        self._try(consumer.unassign)

    def _lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        partitions = {(each.topic, each.partition) for each in places}
        self._ours -= partitions
        self._unknown -= partitions
        self._post(lambda: self._owner.lost(partitions))
        self._try(consumer.unassign)

    def _ask_to_leave(self, partitions: set[Partition]) -> Commits:
        try:
            leaving = self._owner.leave(partitions, RELEASE_SECONDS)
            asked = asyncio.run_coroutine_threadsafe(leaving, self._loop)
            return asked.result(RELEASE_SECONDS + 2.0)
        except (RuntimeError, TimeoutError):  # the event loop has ended, or hangs
            return {}

    def _look_up(self, consumer: Consumer) -> None:
        """Ask what was committed for partitions that are new here."""
        if not self._unknown:
            return
        asked = [TopicPartition(*each) for each in sorted(self._unknown)]
        gained = []
        try:
            for each in consumer.committed(asked, _ASK_SECONDS):
                if each.error is not None:
                    raise KafkaException(each.error)
                low, high = consumer.get_watermark_offsets(
                    TopicPartition(each.topic, each.partition), _ASK_SECONDS
                )
                offset = None if each.offset < 0 else each.offset
                partition = each.topic, each.partition
                if offset is not None and self._is_short(partition, offset, high):
                    continue
                gained.append(Gained(partition, offset, each.metadata or "", low, high))
        except KafkaException as error:
            self._blame(error.args[0])
        if gained:
            self._unknown -= {each.partition for each in gained}
            self.problem, self.is_forbidden = "", False
            self._post(lambda: self._owner.gained(gained))

    def _is_short(self, partition: Partition, offset: int, high: int) -> bool:
        """Whether less is kept than was committed: after an election that may pass in a moment. If
        it does not, the topic was made anew.
        """
        if offset <= high:
            self._short_since.pop(partition, None)
            return False
        since = self._short_since.setdefault(partition, time.monotonic())
        return time.monotonic() - since < _SHORT_SECONDS

    # -- commits ------------------------------------------------------------------------------

    def _commit_waiting(self, consumer: Consumer) -> None:
        while not self._jobs.empty():
            wanted = self._jobs.get()
            commits = {place: each for place, each in wanted.items() if place in self._ours}
            if commits:
                self._try(lambda: self._commit(consumer, commits))  # noqa: B023 - called at once
            else:
                self._post(self._owner.commit_failed)

    def _commit(self, consumer: Consumer, commits: Commits) -> None:
        offsets = [
            TopicPartition(*place, each.offset, each.metadata) for place, each in commits.items()
        ]
        try:
            done = consumer.commit(offsets=offsets, asynchronous=False) or []
        except KafkaException:
            self._post(self._owner.commit_failed)
            raise
        safe = {(each.topic, each.partition) for each in done if each.error is None}
        made = {place: each for place, each in commits.items() if place in safe}
        self._post(lambda: self._owner.committed(made))
        if len(made) < len(commits):
            self._post(self._owner.commit_failed)

    def _try(self, step: Callable[[], object]) -> None:
        try:
            step()
        except KafkaException as error:
            self._blame(error.args[0])
        except RuntimeError as error:  # the client was closed
            self._say(str(error))

    def _post(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the event loop has ended
            return
