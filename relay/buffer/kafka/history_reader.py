"""Reads every record of the fleet for this relay's history, of whichever partition it is.

Kafka hands out headers only together with bodies, so each relay reads all that comes once more; the
bodies are let go at once. It begins with the newest records of each partition and then goes on
where it stopped. Everything here is in one thread.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from relay.buffer.kafka.fetch import (
    ASK_SECONDS,
    END_OF_PARTITION,
    make_consumer,
    reader_settings,
    step_over,
)
from relay.buffer.kafka.fetched import record_of
from relay.buffer.kafka.history_file import HistoryFile, Partition, Seen
from relay.buffer.kafka.history_merge import Merge
from relay.buffer.kafka.history_text import deliveries_of
from relay.buffer.kafka.places import first_row, row_of, stream_number
from relay.buffer.kafka.records import (
    CRC,
    PARTS,
    RECEIVED,
    TRACES,
    DamagedRecord,
    Incoming,
    NotOtlp,
    Record,
)
from relay.buffer.kafka.settings import ClientSettings, KafkaSettings
from relay.buffer.sqlite.rows import Part
from relay.buffer.sqlite.trace_queries import DeliveredEntry

log = structlog.stdlib.get_logger(__name__)

BACK_ROWS: Final = 20_000
_BATCH: Final = 512
_FETCH_BYTES: Final = 512 * 1024
_POLL_SECONDS: Final = 0.1
# To look costs more than a record does: so what comes gathers for a moment, unless there is nearly
# as much already as the client holds.
_REST_SECONDS: Final = 0.1
_MUCH_BYTES: Final = 768 * 1024
_LOOK_SECONDS: Final = 30.0
_LOOK_AGAIN_SECONDS: Final = 1.0
_START_SECONDS: Final = 10.0
_RESTART_SECONDS: Final = 2.0
_decode_parts = msgspec.msgpack.Decoder(list[Part]).decode

# A record's place and what is remembered of it, or deliveries; None: nothing to remember.
_Found = tuple[Partition, int, Seen | list[DeliveredEntry] | None]


class HistoryReader:
    """The thread that fills the history."""

    def __init__(
        self,
        settings: KafkaSettings,
        file: HistoryFile,
        decode: Callable[[Record], Incoming],
        back_rows: int = BACK_ROWS,
    ) -> None:
        self._settings = settings
        self._kinds = settings.rows_topics
        self._file = file
        self._decode = decode
        self._back_rows = back_rows
        self._is_waiting = False  # and it was said
        self._is_stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="fleet-history", daemon=True)

    def stop(self) -> None:
        """End soon; the thread closes the file."""
        self._is_stopping.set()

    def _run(self) -> None:
        try:
            while not self._is_stopping.is_set():
                version = self._settings.version
                try:
                    self._file.open()
                    self._live(make_consumer(_settings_of(self._settings)), version)
                except Exception as error:  # noqa: BLE001 - looking must go on
                    log.warning("fleet_history_restarts", error=repr(error))
                    self._file.discard_if(error)
                self._file.close()
                self._is_stopping.wait(_RESTART_SECONDS)
        finally:
            self._file.close()

    def _live(self, consumer: Consumer, version: int) -> None:
        merge: Merge[Partition, _Found] = Merge()
        followed: set[Partition] = set()
        held: set[Partition] = set()
        look_at, began = 0.0, time.monotonic()
        try:
            while not self._is_stopping.is_set() and self._settings.version == version:
                if time.monotonic() > look_at:
                    is_whole = self._look(consumer, followed)
                    merge.follow(followed, time.monotonic())
                    again = _LOOK_SECONDS if is_whole else _LOOK_AGAIN_SECONDS
                    look_at = time.monotonic() + again
                    # All together at the start, so that the order is right, unless one stays away.
                    is_early = time.monotonic() - began < _START_SECONDS
                    if not followed or (is_early and not is_whole):
                        self._is_stopping.wait(_POLL_SECONDS)
                        look_at = 0.0
                        continue
                has_much = self._take(consumer, merge)
                self._write(merge.ready(time.monotonic()))
                held = _hold(consumer, merge, held)
                if not has_much:
                    self._is_stopping.wait(_REST_SECONDS)
        finally:
            consumer.close()

    def _look(self, consumer: Consumer, followed: set[Partition]) -> bool:
        """Follow partitions that are new, and forget what the brokers have deleted. False where
        one of them has no leader now: those behind it are looked at with the next turn.
        """
        kinds = self._kinds
        read_to = self._file.read_to()
        lows, starts, is_whole = dict[int, int](), list[TopicPartition](), True
        try:
            there = consumer.list_topics(timeout=ASK_SECONDS).topics
            is_whole = all(topic in there for topic in kinds)
            for topic in (*kinds, self._settings.history_topic):
                for partition in there[topic].partitions if topic in there else ():
                    here = TopicPartition(topic, partition)
                    low, high = consumer.get_watermark_offsets(here, ASK_SECONDS)
                    if topic in kinds:
                        stream = stream_number(*kinds[topic], partition)
                        lows[stream] = first_row(stream) + low
                    if (topic, partition) not in followed:
                        begin = max(low, high - self._back_rows) if topic in kinds else low
                        at = read_to.get((topic, partition), begin)
                        at = at if low <= at <= high else begin
                        starts.append(TopicPartition(topic, partition, at))
        except KafkaException as error:
            if not self._is_waiting:
                log.info("fleet_history_waits", error=error.args[0].str())
            is_whole = False
        self._is_waiting = not is_whole
        if starts:
            consumer.incremental_assign(starts)
            followed |= {(each.topic, each.partition) for each in starts}
        self._file.forget_before(lows)
        return is_whole

    def _take(self, consumer: Consumer, merge: Merge[Partition, _Found]) -> bool:
        """Take what has come, if anything; whether it was much."""
        first = consumer.poll(_POLL_SECONDS)
        messages = [] if first is None else [first, *consumer.consume(_BATCH, 0)]
        now, size = time.monotonic(), 0
        for message in messages:
            key = message.topic() or "", message.partition() or 0
            error = message.error()
            if error is None:
                record = record_of(message)
                size += len(record.value or b"")
                headers = dict(record.headers)  # of one name the last counts
                found = key, record.offset + 1, self._remembered(record, headers)
                merge.came(key, (record.timestamp_ms, _received_ns(headers)), found, now)
            elif error.code() == END_OF_PARTITION:
                merge.reached_end(key)
            else:
                step_over(consumer, key, message, error)
        return size > _MUCH_BYTES or len(messages) > _BATCH

    def _remembered(
        self, record: Record, headers: Mapping[str, bytes]
    ) -> Seen | list[DeliveredEntry] | None:
        """What of a record is kept here."""
        if record.topic == self._settings.history_topic:
            return deliveries_of(record.value or b"")
        signal, encoding = self._kinds[record.topic]
        place = row_of(signal, encoding, record.partition, record.offset)
        try:
            if headers.get(CRC):
                part, ids = _decode_parts(headers.get(PARTS, b""))[0], headers.get(TRACES, b"")
            else:
                incoming = self._decode(record)
                part, ids = incoming.part, incoming.trace_ids
        except (DamagedRecord, NotOtlp, msgspec.MsgspecError, IndexError):
            return None
        return Seen(place, signal, encoding, len(record.value or b""), part, ids)

    def _write(self, found: list[_Found]) -> None:
        if not found:
            return
        records = [each for _, _, each in found if isinstance(each, Seen)]
        told = [entry for _, _, each in found if isinstance(each, list) for entry in each]
        self._file.add(records, told, {key: offset for key, offset, _ in found})


def _settings_of(settings: KafkaSettings) -> ClientSettings:
    """Lists may lag by a moment: what comes is fetched, and written, ten times a second and not one
    by one.
    """
    return {**reader_settings(settings), "fetch.min.bytes": _FETCH_BYTES}


def _received_ns(headers: Mapping[str, bytes]) -> int:
    """When a relay received it, by that relay's clock; 0 for a foreign one."""
    digits = headers.get(RECEIVED, b"")
    return int(digits) if digits.isdigit() else 0


def _hold(
    consumer: Consumer, merge: Merge[Partition, _Found], held: set[Partition]
) -> set[Partition]:
    """Fetch nothing of partitions that are far ahead of others."""
    full = merge.full() - held
    hungry = merge.hungry(held)
    if full:
        consumer.pause([TopicPartition(*key) for key in full])
    if hungry:
        consumer.resume([TopicPartition(*key) for key in hungry])
    return (held | full) - hungry
