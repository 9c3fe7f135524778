"""Turns pieces of requests into records, and records back into rows: ours, and those of others.

A record is one piece. Its value is an OTLP request by itself, so that whoever reads the topic
understands it: in protobuf the fragment as it is, in JSON `{"resourceSpans":[…]}` around it. What a
relay must know besides stands in headers; others pass over them::

    relay-row          16 bytes, the same on every retry of the client
    relay-received-ns  when the request came, nanoseconds since the epoch, in digits
    relay-flags        BodyFlag, in digits
    relay-items        how many spans, log records or data points, in digits
    relay-hops         ids of the relays that it came through, comma-separated
    relay-parts        who sent it, as MessagePack: a list of `Part`
    relay-traces       its distinct trace ids, 16 bytes each
    relay-only         the one destination that is owed it; absent: all
    relay-crc          CRC-32 over the value and the headers above, 8 hex digits

A record without `relay-crc` is foreign, a Collector's for example: it is checked and counted as a
request is that comes over HTTP.
"""

import secrets
import zlib
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from relay.buffer.kafka.places import row_of
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.sqlite.rows import Part
from relay.model.records import (
    BodyFlag,
    Encoding,
    Piece,
    RejectedItem,
    Request,
    Signal,
    StoredRow,
)
from relay.otlp.signals import WIRE
from relay.process.foreign import FOREIGN, PrepareForeign

ROW: Final = "relay-row"
RECEIVED: Final = "relay-received-ns"
FLAGS: Final = "relay-flags"
ITEMS: Final = "relay-items"
HOPS: Final = "relay-hops"
PARTS: Final = "relay-parts"
TRACES: Final = "relay-traces"
ONLY: Final = "relay-only"
CRC: Final = "relay-crc"
_CHECKED: Final = frozenset({ROW, RECEIVED, FLAGS, ITEMS, HOPS, PARTS, TRACES, ONLY})

Headers = tuple[tuple[str, bytes], ...]
_encode_parts = msgspec.msgpack.Encoder().encode
_decode_parts = msgspec.msgpack.Decoder(list[Part]).decode


class Outgoing(NamedTuple):
    """A record on its way to the brokers. A `value` of None is a tombstone."""

    topic: str
    value: bytes | None
    headers: Headers = ()
    partition: int = -1  # chosen by the client where it is negative
    key: bytes | None = None
    timestamp_ms: int = 0  # 0: now


class Record(NamedTuple):
    """A record as it was read."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int = 0
    key: bytes | None = None


class Incoming(NamedTuple):
    """What a record is to a courier.

    `trace_ids` are packed. `rejected` is what of a foreign record cannot be delivered; `only` the
    destination that alone is owed it, else empty. `part` tells who sent it. `processed` is how many
    items of a foreign record each step of `[process]` dropped or changed.
    """

    row: StoredRow
    trace_ids: bytes
    part: Part
    only: str = ""
    rejected: tuple[RejectedItem, ...] = ()
    processed: Mapping[str, int] = {}


class DamagedRecord(Exception):
    """A record of ours does not hold what was written: its checksum says so."""


class NotOtlp(Exception):
    """Nothing of a foreign record can be delivered: `rejected` says why, for dead letters.

    None are there where it held nothing, or nothing that `[process]` keeps: `processed` tells.
    """

    def __init__(
        self, words: str, rejected: tuple[RejectedItem, ...], processed: Mapping[str, int]
    ) -> None:
        super().__init__(words)
        self.rejected = rejected
        self.processed = processed


def _crc(value: bytes, headers: Iterable[tuple[str, bytes]]) -> bytes:
    words = b"".join(each for name, content in headers for each in (name.encode(), content))
    return b"%08x" % zlib.crc32(words, zlib.crc32(value))


def _digits(headers: Mapping[str, bytes], name: str) -> int:
    return int(headers.get(name, b"0"))


def records_of(request: Request, settings: KafkaSettings, only: str = "") -> list[Outgoing]:
    """A record for each piece of a request, in their order; the partition is not chosen yet."""
    return [_record_of(piece, request, settings, only) for piece in request.pieces]


def _record_of(piece: Piece, request: Request, settings: KafkaSettings, only: str) -> Outgoing:
    sender, body = request.sender, piece.body
    if piece.encoding is Encoding.JSON:
        body = WIRE[piece.signal].json_request % body
    part = Part.of(piece, request)
    flags = piece.flags | BodyFlag.RELAYED if sender.hops else piece.flags
    headers = [
        (ROW, secrets.token_bytes(16)),
        (RECEIVED, b"%d" % request.received_ns),
        (FLAGS, b"%d" % flags),
        (ITEMS, b"%d" % piece.items),
        (PARTS, _encode_parts([part])),
        (TRACES, piece.trace_ids),
    ]
    if sender.hops:
        headers.append((HOPS, sender.hops.encode()))
    if only:
        headers.append((ONLY, only.encode()))
    return Outgoing(
        settings.rows_topic(piece.signal, piece.encoding),
        body,
        (*headers, (CRC, _crc(body, headers))),
        timestamp_ms=request.received_ns // 1_000_000,
    )


def header_of(record: Record, name: str) -> bytes:
    """The last header of that name, which is the one that counts in Kafka; empty if none is."""
    return next((content for each, content in reversed(record.headers) if each == name), b"")


class Decoder:
    """Reads records of the topics of rows, in any thread."""

    def __init__(self, settings: KafkaSettings, prepare: PrepareForeign) -> None:
        self._topics = settings.rows_topics
        self._prepare = prepare

    def __call__(self, record: Record) -> Incoming:
        """The row of a record. Raises DamagedRecord, and NotOtlp for a foreign one."""
        signal, encoding = self._topics[record.topic]
        if not header_of(record, CRC):
            return self._foreign(record, signal, encoding)
        value = record.value or b""
        own = [each for each in record.headers if each[0] in _CHECKED]
        if header_of(record, CRC) != _crc(value, own):
            place = f"offset {record.offset} of {record.topic}, partition {record.partition}"
            raise DamagedRecord(f"{place}: the record is not what was written")
        headers = dict(own)
        try:
            part = _decode_parts(headers[PARTS])[0]
            numbers = [_digits(headers, name) for name in (RECEIVED, FLAGS, ITEMS)]
        except (KeyError, IndexError, ValueError) as error:
            raise DamagedRecord(f"offset {record.offset}: a header cannot be read") from error
        row = StoredRow(
            row_of(signal, encoding, record.partition, record.offset),
            numbers[0],
            encoding,
            BodyFlag(numbers[1]),
            numbers[2],
            _fragment(value, signal, encoding),
            hops=headers.get(HOPS, b"").decode(),
            signal=signal,
        )
        return Incoming(row, headers.get(TRACES, b""), part, headers.get(ONLY, b"").decode())

    def _foreign(self, record: Record, signal: Signal, encoding: Encoding) -> Incoming:
        """What can be delivered of a record that somebody else wrote."""
        value, received_ns = record.value or b"", record.timestamp_ms * 1_000_000
        prepared, processed = self._prepare(value, encoding, signal)
        pieces = prepared.pieces
        if not pieces:
            raise NotOtlp(prepared.message or "it holds nothing", prepared.rejected, processed)
        flags, services, ids = BodyFlag.NONE, dict[str, None](), dict[bytes, None]()
        for piece in pieces:
            flags |= piece.flags
            services |= dict.fromkeys(piece.services)
            packed = piece.trace_ids
            ids |= dict.fromkeys(packed[at : at + 16] for at in range(0, len(packed), 16))
        joint = b"," if encoding is Encoding.JSON else b""
        row = StoredRow(
            row_of(signal, encoding, record.partition, record.offset),
            received_ns,
            encoding,
            flags,
            prepared.items,
            joint.join(piece.body for piece in pieces),
            signal=signal,
        )
        sender = (FOREIGN.address, False, FOREIGN.user_agent, tuple(services))
        part = Part(0, prepared.items, received_ns, len(ids), *sender)
        return Incoming(row, b"".join(ids), part, "", prepared.rejected, processed)


def _fragment(value: bytes, signal: Signal, encoding: Encoding) -> bytes:
    """The inside of a request that we wrote."""
    if encoding is Encoding.PROTOBUF:
        return value
    head, _, tail = WIRE[signal].json_request.partition(b"%b")
    return value[len(head) : len(value) - len(tail)]
