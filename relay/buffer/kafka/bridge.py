"""Hands records to the client's threads, and brings their acknowledgements back to the event loop.

The client compresses, sends and retries in threads of its own. One more thread here waits for its
reports; those of one moment reach the event loop in one wake-up. A record that was not acknowledged
in time may still arrive: its sender retries, so it comes twice. At least once is the promise.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from relay.buffer.kafka.client import import_client
from relay.buffer.kafka.records import Outgoing
from relay.buffer.kafka.settings import ClientSettings, KafkaSettings
from relay.model.errors import BufferFull, BufferUnavailable, Refusal

PATIENCE_SECONDS: Final = 7.5  # stock senders give up after 10 s
SILENT_SECONDS: Final = 2.0  # nothing acknowledged for so long: new records are refused at once
QUEUE_BYTES: Final = 32 * 2**20
MOST_RECORD_BYTES: Final = 24 * 2**20  # raw: what the broker takes it judges, compressed, itself
_POLL_SECONDS = 0.1
_CLOSE_SECONDS = 5.0


def producer_settings(settings: KafkaSettings, patience_seconds: float) -> ClientSettings:
    """What the client is told that writes."""
    patience_ms = int(patience_seconds * 1000)
    return {
        **settings.client(),
        "acks": "all",
        # At least once is the promise: exactly once would fail for good on some errors.
        "enable.idempotence": False,
        # What comes while a batch is being synced gathers to the next: group commit.
        "max.in.flight.requests.per.connection": 1,
        "linger.ms": 0,
        "message.timeout.ms": patience_ms,
        "request.timeout.ms": min(3000, patience_ms),
        "socket.timeout.ms": max(4000, patience_ms),
        "compression.type": settings.fleet.compression,
        "compression.level": 1,
        "queue.buffering.max.kbytes": QUEUE_BYTES // 1024,
        "message.max.bytes": MOST_RECORD_BYTES + 2**20,
        "topic.metadata.refresh.interval.ms": 30_000,
        "statistics.interval.ms": 10_000,
    }


class Kept(NamedTuple):
    """Where a record is."""

    partition: int
    offset: int


class _Made(NamedTuple):
    """A producer, the topics whose partitions it knows, and of which settings it was made."""

    producer: Any
    known: set[str]
    version: int


class _Sending:
    """Records that are acknowledged together. Belongs to the event loop."""

    __slots__ = ("kept", "open", "waiter")

    def __init__(self, count: int, waiter: "asyncio.Future[list[Kept]]") -> None:
        self.kept = [Kept(-1, -1)] * count
        self.open = count
        self.waiter = waiter


class _Sent(msgspec.Struct):
    """Of the client's statistics, bytes since its start: of values, and as they were sent."""

    txmsg_bytes: int = 0
    tx_bytes: int = 0


class _Report(NamedTuple):
    sending: _Sending
    at: int
    size: int
    error: Any
    kept: Kept


class Bridge:
    """The one producer of a relay. `start` first; the rest belongs to one event loop."""

    def __init__(
        self, settings: KafkaSettings, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._settings = settings
        self._patience_seconds = patience_seconds
        self._made = _Made(None, set(), 0)
        self._old: list[Any] = []  # producers that were replaced, and may still have records
        self._thread = threading.Thread(target=self._poll, name="kafka-reports", daemon=True)
        self._reports: deque[_Report] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_woken = False
        self._is_closing = False
        self._waiting = 0  # records that no report has come of
        self._quiet_since = 0.0  # since when records wait and none is acknowledged
        self._sizes: dict[str, list[int]] = {}  # by topic: records, and their bytes
        self._shrunk = 1.0  # bytes on the wire for one of a value
        self.last_error = ""  # the last word of the client; empty after an acknowledgement

    def start(self) -> None:
        """Make the client; no broker is asked yet. Raises ConfigError where it is not installed, or
        cannot use what it is told.
        """
        self._made = self._make()
        self._thread.start()

    def _make(self) -> "_Made":
        client, version = import_client(), self._settings.version
        told = producer_settings(self._settings, self._patience_seconds)
        heard = {"error_cb": self._note, "stats_cb": self._measure}
        return _Made(client.make(client.module.Producer, told, **heard), set(), version)

    @property
    def waiting(self) -> int:
        """Records that are on their way."""
        return self._waiting

    @property
    def record_bytes(self) -> dict[str, float]:
        """Mean size of a record by topic, about as the brokers store it."""
        return {
            topic: size / records * self._shrunk for topic, (records, size) in self._sizes.items()
        }

    @property
    def silent_seconds(self) -> float:
        """How long records have waited while none was acknowledged; 0.0 while all goes well."""
        return time.monotonic() - self._quiet_since if self._waiting else 0.0

    @property
    def is_silent(self) -> bool:
        """Whether that is so long that new records are refused."""
        return self.silent_seconds > SILENT_SECONDS

    async def send(self, outgoings: Sequence[Outgoing]) -> list[Kept]:
        """Return where the records are when every one was acknowledged.

        Raises BufferUnavailable when one was not, or not within the patience of a sender (at once
        while the brokers have been silent for two seconds), BufferFull while too much is on its
        way, and Refusal (413) for a record that is larger than they take. Then some of them may
        have been kept.
        """
        if self._is_closing:
            raise BufferUnavailable("the relay is stopping; retry")
        if self.is_silent:
            raise BufferUnavailable(
                f"the brokers have acknowledged nothing for {self.silent_seconds:.0f} s; retry"
            )
        loop = self._loop = asyncio.get_running_loop()
        made = self._made
        if unknown := {outgoing.topic for outgoing in outgoings} - made.known:
            await asyncio.to_thread(self._learn, made, unknown)
        sending = _Sending(len(outgoings), loop.create_future())
        for index, outgoing in enumerate(outgoings):
            self._produce(outgoing, sending, index)
        timer = loop.call_later(self._patience_seconds, self._give_up, sending)
        try:
            return await sending.waiter
        finally:
            timer.cancel()

    def _produce(self, outgoing: Outgoing, sending: _Sending, index: int) -> None:
        size = len(outgoing.value or b"")
        if size > MOST_RECORD_BYTES:
            raise Refusal(_too_large(size), status=413)
        try:
            self._made.producer.produce(
                outgoing.topic,
                value=outgoing.value,
                key=outgoing.key,
                partition=outgoing.partition,
                timestamp=outgoing.timestamp_ms,
                headers=list(outgoing.headers),
                on_delivery=partial(self._reported, sending, index, size),
            )
        except BufferError:
            words = "as much as the relay holds in memory waits for the brokers; retry"
            raise BufferFull(words) from None
        except import_client().module.KafkaException as error:  # what it knows without asking
            raise self._failure(error.args[0], size) from None
        if not self._waiting:
            self._quiet_since = time.monotonic()
        self._waiting += 1
        sizes = self._sizes.setdefault(outgoing.topic, [0, 0])
        sizes[0] += 1
        sizes[1] += size + sum(len(content) for _, content in outgoing.headers)

    def _learn(self, made: "_Made", topics: set[str]) -> None:
        """Ask for the partitions of topics before the first record of each.

        The client sets records of an unknown topic aside until it knows; one that comes in that
        moment overtakes them, and the points of a metric would be out of order.
        """
        for topic in topics:
            try:
                told = made.producer.list_topics(topic, timeout=SILENT_SECONDS).topics[topic]
            except import_client().module.KafkaException as error:
                words = self.last_error or error.args[0].str()
                raise BufferUnavailable(f"the brokers do not answer ({words}); retry") from None
            if told.error is None:
                made.known.add(topic)

    # -- in the thread of reports ---------------------------------------------------------------

    def _poll(self) -> None:
        while not self._is_closing:
            self._made.producer.poll(_POLL_SECONDS)
            for old in list(self._old):
                old.poll(0)
                if not len(old):
                    self._old.remove(old)
            if self._made.version != self._settings.version:
                # What is on its way may be overtaken now, as by a retry.
                self._old.append(self._made.producer)
                self._made = self._make()

    def _reported(self, sending: _Sending, index: int, size: int, error: Any, message: Any) -> None:
        kept = Kept(-1, -1) if error else Kept(message.partition(), message.offset())
        self._reports.append(_Report(sending, index, size, error, kept))
        if not self._is_woken and self._loop is not None:
            self._is_woken = True
            try:
                self._loop.call_soon_threadsafe(self._take_reports)
            except RuntimeError:  # the loop has ended: nobody waits any more
                self._is_closing = True

    def _measure(self, statistics: str) -> None:
        """How much smaller batches are than what is in them: compression of the last while."""
        told = msgspec.json.decode(statistics, type=_Sent)
        if told.txmsg_bytes and told.tx_bytes:
            self._shrunk = min(1.0, told.tx_bytes / told.txmsg_bytes)

    def _note(self, error: Any) -> None:
        self.last_error = error.str()

    # -- in the event loop ----------------------------------------------------------------------

    def _take_reports(self) -> None:
        self._is_woken = False  # before the deque is emptied: what comes now wakes again
        while self._reports:
            report = self._reports.popleft()
            self._waiting -= 1
            sending = report.sending
            if report.error is None:
                self._quiet_since = time.monotonic()
                self.last_error = ""
                sending.kept[report.at] = report.kept
                sending.open -= 1
                if not sending.open and not sending.waiter.done():
                    sending.waiter.set_result(sending.kept)
            elif not sending.waiter.done():
                sending.waiter.set_exception(self._failure(report.error, report.size))

    def _failure(self, error: Any, size: int) -> Exception:
        if error.name() == "MSG_SIZE_TOO_LARGE":
            return Refusal(_too_large(size), status=413)
        if error.name() != "_MSG_TIMED_OUT":
            self.last_error = error.str()
        words = self.last_error or error.str()
        return BufferUnavailable(f"the brokers did not keep this request ({words}); retry")

    def _give_up(self, sending: _Sending) -> None:
        if not sending.waiter.done():
            why = f" ({self.last_error})" if self.last_error else ""
            words = f"the brokers did not keep this request within {self._patience_seconds:g} s"
            sending.waiter.set_exception(BufferUnavailable(f"{words}{why}; retry"))

    async def close(self) -> None:
        """Let what waits go out, for some seconds, then end; safe twice."""
        if self._made.producer is None or self._is_closing:
            return
        if not self.is_silent:
            await asyncio.to_thread(self._made.producer.flush, _CLOSE_SECONDS)
        self._is_closing = True
        await asyncio.to_thread(self._thread.join)


def _too_large(size: int) -> str:
    return (
        f"a single item of {size:,} bytes is larger than the brokers take: raise "
        "max.message.bytes of the topic, or send less in one item"
    )
