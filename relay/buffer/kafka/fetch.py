"""Two readers of what the brokers keep, each a thread with a client of its own.

`Tail` follows partitions: all that comes goes to the event loop, once for all destinations of this
relay. `Seeker` fetches what is asked for, for destinations that are behind. Neither is a member of
any group: which partitions are this relay's, `member` knows.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple, Protocol, TypeVar, cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from relay.buffer.kafka.client import import_client
from relay.buffer.kafka.fetched import Fetched, record_of
from relay.buffer.kafka.records import Record
from relay.buffer.kafka.settings import ClientSettings, KafkaSettings
from relay.model.errors import BufferUnavailable

log = structlog.stdlib.get_logger(__name__)
T = TypeVar("T")

_BATCH = 512
_POLL_SECONDS = 0.1
# To wake the event loop costs more than a record does: what comes gathers for so long, as small
# batches on their way to a destination do (decision 0004), unless much has come already.
_GATHER_SECONDS = 0.01
_MUCH_BYTES = 256 * 1024
_RESTART_SECONDS = 1.0
ASK_SECONDS = 5.0  # a broker may be elected meanwhile
CHUNK_BYTES = 512 * 1024
# Each record of a damaged batch costs a fetch: the rest of it is met by the next call.
_DAMAGED_AT_ONCE = 64
_OUT_OF_RANGE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001
END_OF_PARTITION = KafkaError._PARTITION_EOF  # noqa: SLF001
_DAMAGED = (KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION)  # noqa: SLF001


def make_consumer(settings: ClientSettings) -> Consumer:
    """A client that reads. It says nothing on standard error."""
    made: Consumer = import_client().make(Consumer, settings)
    return made


def reader_settings(settings: KafkaSettings) -> ClientSettings:
    """Of a client that reads what it is told to read."""
    return {
        **settings.client(),
        # The client wants one. It is never joined, but asked for: so it is one of the fleet's.
        "group.id": f"{settings.group_prefix}readers",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "check.crcs": True,
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 50,
        # The queue is small, so it is full all the time: by default that stops it for a second.
        "fetch.queue.backoff.ms": 10,
        "fetch.max.bytes": 1024 * 1024,
        "message.max.bytes": 1024 * 1024,
        "queued.max.messages.kbytes": 1024,
    }


class Follows(Protocol):
    """Who is told what a followed partition brings; in the event loop."""

    def came(self, records: list[Record]) -> None:
        """Records of one partition, in order."""
        ...

    def reached(self, offset: int) -> None:
        """Everything before `offset` was told, and there is no more now."""
        ...


class Place(NamedTuple):
    """A partition to follow, from an offset on."""

    topic: str
    partition: int
    offset: int


_Assigned = dict[tuple[str, int], tuple[int, Follows]]


class Tail:
    """Follows partitions from given offsets on."""

    def __init__(self, settings: KafkaSettings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._loop = loop
        self._lock = threading.Lock()
        self._wanted: dict[tuple[str, int], tuple[int, Follows]] = {}
        self._next: dict[tuple[str, int], tuple[int, tuple[int, Follows]]] = {}
        self._is_stopping = threading.Event()
        self._taken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet-tail", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def follow(self, place: Place, follower: Follows) -> None:
        """Tell `follower` all that is kept from `place` on; any thread may call it."""
        with self._lock:
            self._wanted[place.topic, place.partition] = place.offset, follower

    def leave(self, topic: str, partition: int) -> None:
        """Tell nothing more of that partition."""
        with self._lock:
            self._wanted.pop((topic, partition), None)

    def stop(self) -> None:
        """End soon; the thread is not waited for."""
        self._is_stopping.set()
        self._taken.set()

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            version = self._settings.version
            try:
                self._live(make_consumer(reader_settings(self._settings)), version)
            except Exception as error:  # noqa: BLE001 - without it nothing that comes is delivered
                log.warning("fleet_reader_restarts", error=str(error))
                self._is_stopping.wait(_RESTART_SECONDS)

    def _live(self, consumer: Consumer, version: int) -> None:
        """Read until the end, the client fails, or the brokers are to be reached otherwise."""
        assigned: _Assigned = {}
        try:
            while not self._is_stopping.is_set() and self._settings.version == version:
                self._assign(consumer, assigned)
                if not assigned:
                    self._is_stopping.wait(_POLL_SECONDS)
                    continue
                messages = _messages(consumer)
                if messages and self._tell(consumer, assigned, messages) < _MUCH_BYTES:
                    self._is_stopping.wait(_GATHER_SECONDS)
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer, assigned: _Assigned) -> None:
        """Read what is wanted now. Who asks again for what is read gets it from its offset on."""
        with self._lock:
            wanted = dict(self._wanted)
        gone = [key for key, how in assigned.items() if wanted.get(key) is not how]
        if gone:
            consumer.incremental_unassign([TopicPartition(*key) for key in gone])
            for key in gone:
                del assigned[key]
        for key, how in list(self._next.items()):
            if wanted.get(key) is not how[1]:
                del self._next[key]
        new = {key: how for key, how in wanted.items() if key not in assigned}
        if new:
            consumer.incremental_assign(
                [TopicPartition(*key, self._offset(key, how)) for key, how in new.items()]
            )
            assigned.update(new)

    def _offset(self, key: tuple[str, int], how: tuple[int, Follows]) -> int:
        """Where to begin: after a failure of the client behind what was told before it."""
        told, of = self._next.get(key, (how[0], how))
        return told if of is how else how[0]

    def _tell(
        self,
        consumer: Consumer,
        assigned: _Assigned,
        messages: list[Message],
    ) -> int:
        """Hand it over to the event loop; how many bytes it was."""
        batches: dict[tuple[str, int], list[Record]] = {}
        ends: dict[tuple[str, int], int] = {}
        for message in messages:
            key = message.topic() or "", message.partition() or 0
            error = message.error()
            if key not in assigned:
                continue
            if error is None:
                batches.setdefault(key, []).append(record_of(message))
            elif error.code() == END_OF_PARTITION:
                ends[key] = message.offset() or 0
            elif not step_over(consumer, key, message, error):
                log.info("fleet_reader_waits", topic=key[0], partition=key[1], error=error.str())
        self._taken.clear()
        told = [(assigned[key][1], batches.get(key), ends.get(key)) for key in {**batches, **ends}]
        self._loop.call_soon_threadsafe(self._hand_over, told)
        # Not faster than the loop takes it: what it has not taken is not in memory.
        while not self._taken.wait(1.0) and not self._is_stopping.is_set():
            pass
        for key, records in batches.items():
            self._next[key] = records[-1].offset + 1, assigned[key]
        return sum(len(each.value or b"") for records in batches.values() for each in records)

    def _hand_over(self, told: list[tuple[Follows, list[Record] | None, int | None]]) -> None:
        try:
            for follower, records, end in told:
                if records:
                    follower.came(records)
                if end is not None:
                    follower.reached(end)
        finally:
            self._taken.set()


def step_over(
    consumer: Consumer, key: tuple[str, int], message: Message, error: KafkaError
) -> bool:
    """Go on behind what cannot be read: who takes it meets it again, and says so. False where there
    is nothing to step over: the brokers have to be waited for.
    """
    if error.code() in _DAMAGED:
        place = TopicPartition(*key, (message.offset() or 0) + 1)
    elif error.code() in _OUT_OF_RANGE:
        low, _high = consumer.get_watermark_offsets(TopicPartition(*key), ASK_SECONDS)
        place = TopicPartition(*key, low)
    else:
        return False
    consumer.incremental_unassign([place])
    consumer.incremental_assign([place])
    return True


class _Question(NamedTuple):
    ask: Callable[[Consumer], object]
    answer: Future[object]


class Seeker:
    """Answers what is asked of the brokers, one question after another."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="fleet-seeker", daemon=True)
        self._at: Place | None = None  # what the client would hand out next
        self._is_stopping = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; the thread is not waited for. What is asked from then on is not answered."""
        self._is_stopping = True
        self._questions.put(None)

    async def fetch(self, place: Place, most_bytes: int = CHUNK_BYTES) -> Fetched:
        """What is kept from `place` on, about so much. Raises BufferUnavailable."""
        return await self.ask(lambda consumer: self._fetch(consumer, place, most_bytes))

    async def ask(self, question: Callable[[Consumer], T]) -> T:
        """What `question` finds out from the client, in its thread. Raises BufferUnavailable."""
        if self._is_stopping:
            raise BufferUnavailable("the relay is stopping")
        answer: Future[object] = Future()
        self._questions.put(_Question(question, answer))
        return cast("T", await asyncio.wrap_future(answer))

    def _run(self) -> None:
        version = self._settings.version
        consumer = make_consumer(reader_settings(self._settings))
        try:
            while (asked := self._questions.get()) is not None:
                if not asked.answer.set_running_or_notify_cancel():
                    continue
                if self._settings.version != version:
                    version, self._at = self._settings.version, None
                    consumer.close()
                    consumer = make_consumer(reader_settings(self._settings))
                try:
                    asked.answer.set_result(asked.ask(consumer))
                except KafkaException as error:
                    self._at = None
                    asked.answer.set_exception(BufferUnavailable(error.args[0].str()))
                except Exception as error:  # noqa: BLE001 - whoever asked is told
                    self._at = None
                    asked.answer.set_exception(error)
        finally:
            consumer.close()

    def _fetch(self, consumer: Consumer, place: Place, most_bytes: int) -> Fetched:
        found = Fetched(next_offset=place.offset)
        self._go_to(consumer, place)
        until = time.monotonic() + ASK_SECONDS
        raw_bytes = 0
        while raw_bytes < most_bytes and len(found.damaged) < _DAMAGED_AT_ONCE:
            for message in _messages(consumer):
                if (message.topic(), message.partition()) != place[:2]:
                    continue
                error = message.error()
                if error is not None:
                    if self._is_over(consumer, place, found, message, error):
                        return found
                elif (message.offset() or 0) >= found.next_offset:
                    record = record_of(message)
                    found.records.append(record)
                    raw_bytes += len(record.value or b"")
                    found.next_offset = record.offset + 1
            self._at = Place(place.topic, place.partition, found.next_offset)
            if self._is_stopping or time.monotonic() > until:
                if found.next_offset > place.offset:
                    break
                self._at = None
                where = f"{place.topic}, partition {place.partition}"
                raise BufferUnavailable(f"no broker answers for {where}")
        return found

    def _go_to(self, consumer: Consumer, place: Place) -> None:
        if self._at != place:
            consumer.assign([TopicPartition(*place)])
            self._at = place

    def _is_over(
        self,
        consumer: Consumer,
        place: Place,
        found: Fetched,
        message: Message,
        error: KafkaError,
    ) -> bool:
        """What an error instead of a record means; whether there is nothing more to wait for."""
        here = TopicPartition(place.topic, place.partition)
        if error.code() == END_OF_PARTITION:
            end = message.offset() or 0
            self._at = None  # the client does not tell the same end twice
            if end >= found.next_offset:
                found.next_offset = end
                return True
        elif error.code() in _DAMAGED:
            found.damaged.append(found.next_offset)
            found.leader = leader_of(consumer, place.topic, place.partition)
            found.next_offset += 1
            # One record of a batch fails with all of it, so the rest of it is asked for again.
            self._go_to(consumer, Place(place.topic, place.partition, found.next_offset))
        elif error.code() in _OUT_OF_RANGE:
            found.first_offset, _high = consumer.get_watermark_offsets(here, ASK_SECONDS)
            self._at = None
            return True
        return False


def _messages(consumer: Consumer) -> list[Message]:
    """What has come. `consume` alone waits until it has as many as it was asked for."""
    first = consumer.poll(_POLL_SECONDS)
    return [] if first is None else [first, *consumer.consume(_BATCH, 0)]


def leader_of(consumer: Consumer, topic: str, partition: int) -> int:
    """The broker that leads a partition, -1 where nobody says."""
    try:
        found = consumer.list_topics(topic, ASK_SECONDS).topics[topic].partitions
        return int(found[partition].leader)
    except (KafkaException, KeyError):
        return -1
