"""Turns requests into rows of the table, and rows back into what couriers send.

A row is whole requests of one encoding; `parts` says which bytes are whose. The checksum is a
CRC-32 over every column but itself: 64 overwritten bytes are noticed by SQLite in one of ten
cases and by bare zstd in half.
"""

import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import msgspec

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.schema import number
from relay.buffer.sqlite.types import DamagedRow, Totals
from relay.buffer.sqlite.uptime import uptime_ns
from relay.model.reasons import Reason
from relay.model.records import (
    BodyFlag,
    DeadLetter,
    Encoding,
    OwedRange,
    Piece,
    Position,
    RejectedItem,
    Request,
    Signal,
    StoredRow,
    longest_way,
)
from relay.otlp.compression import ZSTD_OPTIONS

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Whatever else a row costs on disk: its cells, its share of inner pages, its trace ids' row.
ROW_OVERHEAD_BYTES = 192
# A size that is itself damaged must not make us unzip for ever.
MAX_DAMAGED_BYTES = 64 * 1024 * 1024

# Level 1, but for rows of all sizes a table of half the size, the matches of large ones, a window
# of 256 KiB, and two places in three where a match may begin (docs/decisions/0034, 0037).
_ZSTD: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.hash_log: 12,
    zstd.CompressionParameter.min_match: 7,
    zstd.CompressionParameter.window_log: 18,
}
# Beside longer steps zstd would leave literals as they are, unless it is told not to: by
# ZSTD_c_literalCompressionMode, which has a number and no name in its stable interface.
_STEPS: dict[int, int] = {zstd.CompressionParameter.target_length: 2, 1002: 1}


class _OwnCompressor(threading.local):
    """One a thread: to set one up takes six times as long as compressing a small row with it."""

    def __init__(self) -> None:
        try:
            self.compressor = zstd.ZstdCompressor(options=_ZSTD | _STEPS)
        except (zstd.ZstdError, ValueError):  # a zstd without that number
            self.compressor = zstd.ZstdCompressor(options=_ZSTD)


_OWN = _OwnCompressor()


def zstd_1(body: bytes) -> bytes:
    """Compress a body for the disk: one zstd frame, level 1. May be called in any thread."""
    compressor = _OWN.compressor
    compressor.set_pledged_input_size(len(body))
    return compressor.compress(body, zstd.ZstdCompressor.FLUSH_FRAME)


def unzstd(body: bytes, size: int) -> bytes:
    """Give back what `zstd_1` was given: exactly `size` bytes. Raises ValueError if it is not, and
    MemoryError where there is none: that says nothing of the bytes.
    """
    decoder = zstd.ZstdDecompressor(options=ZSTD_OPTIONS)
    try:
        # Room for one byte more: a frame that holds too much shows by its length, and no more of
        # it is unpacked.
        plain = decoder.decompress(body, size + 1)
    except zstd.ZstdError as error:
        if "memory" in str(error).lower():  # its own allocation failed
            raise MemoryError from None
        raise ValueError(f"not readable as zstd: {error}") from None
    if len(plain) != size or not decoder.eof or decoder.unused_data:
        raise ValueError(f"the zstd frame does not hold exactly {size} bytes")
    return plain


class Part(NamedTuple):
    """One request (or piece of one) inside a row. The order of the fields is on disk."""

    offset: int  # of its first byte in the unzipped body
    items: int
    received_ns: int
    trace_ids: int  # how many of the row's packed ids are its own
    address: str
    is_local: bool
    user_agent: str
    services: tuple[str, ...]
    hops: str = ""

    @classmethod
    def of(cls, piece: Piece, request: Request, offset: int = 0) -> Self:
        """A piece of a request that begins at `offset`."""
        sender = request.sender
        return cls(
            offset,
            piece.items,
            request.received_ns,
            len(piece.trace_ids) // 16,
            sender.address,
            sender.is_local,
            sender.user_agent,
            piece.services,
            sender.hops,
        )


class RowColumns(NamedTuple):
    """The columns of table `rows`, in their order."""

    id: int
    received_ns: int
    monotonic_ns: int
    signal: int
    encoding: int
    flags: int
    items: int
    raw_bytes: int
    rows_before: int
    items_before: int
    bytes_before: int
    checksum: int
    parts: bytes
    body: bytes


_encode_parts = msgspec.msgpack.Encoder().encode
_decode_parts = msgspec.msgpack.Decoder(list[Part]).decode
_NUMBERS = struct.Struct("<11q")
_SIGNALS: dict[object, Signal] = {int(each): each for each in Signal}


def checksum(columns: RowColumns) -> int:
    """CRC-32 over all columns but the checksum itself."""
    head = _NUMBERS.pack(*columns[:11]) + columns.parts
    return zlib.crc32(columns.body, zlib.crc32(head))


def pack(bodies: Sequence[bytes], joint: bytes, head: bytes) -> tuple[bytes, bytes, int]:
    """The bodies joined, the same for the disk, and the checksum over `head` and that.

    All that a row costs by its size is in here: nothing of it needs Python's objects.
    """
    body = bodies[0] if len(bodies) == 1 else joint.join(bodies)
    stored = zstd_1(body)
    return body, stored, zlib.crc32(stored, zlib.crc32(head))


@dataclass(slots=True)
class _Draft:
    """A row that still grows."""

    signal: Signal
    encoding: Encoding
    received_ns: int
    raw_bytes: int = 0
    items: int = 0
    flags: BodyFlag = BodyFlag.NONE
    bodies: list[bytes] = field(default_factory=list)
    trace_ids: list[bytes] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    hops: str = ""

    def add(self, piece: Piece, request: Request) -> None:
        if self.bodies and self.encoding is Encoding.JSON:
            self.raw_bytes += 1  # the comma
        sender = request.sender
        self.parts.append(Part.of(piece, request, self.raw_bytes))
        if sender.hops:
            self.flags |= BodyFlag.RELAYED
            self.hops = longest_way((self.hops, sender.hops))
        self.bodies.append(piece.body)
        self.trace_ids.append(piece.trace_ids)
        self.raw_bytes += len(piece.body)
        self.items += piece.items
        if piece.flags:
            self.flags |= piece.flags

    def finish(
        self, row_id: int, received_ns: int, monotonic_ns: int, before: tuple[int, int, int]
    ) -> tuple[RowColumns, StoredRow]:
        """As it is on disk, `before` being the sums of all before it, and as couriers get it."""
        numbers = (
            row_id,
            received_ns,
            monotonic_ns,
            int(self.signal),
            int(self.encoding),
            int(self.flags),
            self.items,
            self.raw_bytes,
            *before,
        )
        parts = _encode_parts(self.parts)
        joint = b"," if self.encoding is Encoding.JSON else b""
        body, stored, crc = pack(self.bodies, joint, _NUMBERS.pack(*numbers) + parts)
        row = StoredRow(
            row_id,
            received_ns,
            self.encoding,
            self.flags,
            self.items,
            body,
            hops=self.hops,
            monotonic_ns=monotonic_ns,
            signal=self.signal,
        )
        return RowColumns(*numbers, crc, parts, stored), row


@dataclass(slots=True)
class Group:
    """What one transaction writes of its requests."""

    rows: list[RowColumns] = field(default_factory=list)
    traces: list[tuple[int, bytes]] = field(default_factory=list)
    stored: list[StoredRow] = field(default_factory=list)  # the same rows for the couriers
    letters: list[DeadLetter] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)  # after its last row
    sums: dict[Signal, Totals] = field(default_factory=dict)  # over its rows, by signal
    need_bytes: int = 0  # on disk, about

    def add(self, columns: RowColumns, trace_ids: bytes, stored: StoredRow) -> None:
        """One more row."""
        self.rows.append(columns)
        self.traces.append((columns.id, trace_ids))
        self.stored.append(stored)
        sums = self.sums.get(stored.signal)
        if sums is None:
            sums = self.sums[stored.signal] = Totals()
        sums.rows += 1
        sums.items += stored.items
        sums.raw_bytes += len(stored.body)
        self.need_bytes += (
            len(columns.body) + len(columns.parts) + len(trace_ids) + ROW_OVERHEAD_BYTES
        )

    @property
    def range(self) -> OwedRange:
        """All of its rows; there must be one."""
        return OwedRange(Position(self.rows[0].id), Position(self.rows[-1].id + 1))


def _drafts(requests: Iterable[Request], row_bytes: int) -> list[_Draft]:
    drafts: list[_Draft] = []
    growing: dict[tuple[Signal, Encoding], _Draft] = {}
    for request in requests:
        for piece in request.pieces:
            if not piece.body:
                continue
            kind = (piece.signal, piece.encoding)
            draft = growing.get(kind)
            if draft is None or draft.raw_bytes + 1 + len(piece.body) > row_bytes:
                draft = growing[kind] = _Draft(*kind, request.received_ns)
                drafts.append(draft)
            draft.add(piece, request)
    # What is of one signal stands together: few runs, whatever came mixed.
    drafts.sort(key=lambda draft: draft.signal)
    return drafts


def build_group(
    requests: Iterable[Request],
    *,
    after_row: int,
    totals: Totals,
    settings: BufferSettings,
    received_ns: int | None = None,
    uptime: Callable[[], int] = uptime_ns,
) -> Group:
    """Rows, trace ids and dead letters of `requests`; ids follow on `after_row`.

    `received_ns` is the rows' where they come again: their parts keep the time of the requests.
    """
    requests = list(requests)
    group = Group(
        letters=[letter for item in requests if item.rejected for letter in rejected_letters(item)]
    )
    rows, items, raw_bytes = totals.rows, totals.items, totals.raw_bytes
    monotonic_ns = uptime()
    row_id = after_row
    for draft in _drafts(requests, settings.row_bytes):
        row_id += 1
        received = draft.received_ns if received_ns is None else received_ns
        before = (rows, items, raw_bytes)
        columns, stored = draft.finish(row_id, received, monotonic_ns, before)
        group.add(columns, b"".join(draft.trace_ids), stored)
        rows, items, raw_bytes = rows + 1, items + draft.items, raw_bytes + draft.raw_bytes
    group.totals = Totals(rows, items, raw_bytes)
    group.need_bytes += sum(len(letter.body) + ROW_OVERHEAD_BYTES for letter in group.letters)
    return group


def rejected_letters(request: Request) -> list[DeadLetter]:
    """Dead letters of the spans that check refused; `words` is the trace id as it was sent.

    Of a whole body that could not be read it is why, and there are no spans.
    """
    return [_rejected_letter(each, request.received_ns) for each in request.rejected]


def _rejected_letter(rejected: RejectedItem, received_ns: int) -> DeadLetter:
    is_body = rejected.reason == Reason.BODY_UNREADABLE
    return DeadLetter(
        destination="",
        reason=rejected.reason,
        words=rejected.trace_id,
        items=rejected.items,
        affected=rejected.items,
        encoding=rejected.encoding,
        body=rejected.body,
        status=400 if is_body else 0,
        path=rejected.path,
        trace_ids=b"" if is_body else _packed(rejected.trace_id),
        received_ns=received_ns,
        signal=rejected.signal,
    )


def _packed(trace_id: str) -> bytes:
    if len(trace_id) != 32:
        return b""
    try:
        return bytes.fromhex(trace_id)
    except ValueError:
        return b""


def read_row(columns: RowColumns) -> StoredRow | DamagedRow:
    """The row with its body unzipped, or what is left of it when its checksum is wrong."""
    try:
        if checksum(columns) != columns.checksum:
            return _damaged(columns, "the checksum of this row is wrong")
        body = unzstd(columns.body, columns.raw_bytes)
        hops = ""
        if columns.flags & BodyFlag.RELAYED:
            hops = longest_way(part.hops for part in read_parts(columns.parts))
        return StoredRow(
            columns.id,
            columns.received_ns,
            Encoding(columns.encoding),
            BodyFlag(columns.flags),
            columns.items,
            body,
            hops=hops,
            monotonic_ns=columns.monotonic_ns,
            signal=Signal(columns.signal),
        )
    except (TypeError, ValueError, OverflowError, struct.error) as error:
        # The types in a damaged row need not be those of its columns.
        return _damaged(columns, f"this row cannot be read: {error}")


def _damaged(columns: RowColumns, words: str) -> DamagedRow:
    found: object = columns.body
    body = found if isinstance(found, bytes) else b""
    try:
        body = unzstd(body, min(number(columns.raw_bytes), MAX_DAMAGED_BYTES))
    except (ValueError, OverflowError, MemoryError):
        words += "; the bytes kept are its zstd frame as found"
    encoding = Encoding.PROTOBUF if columns.encoding == Encoding.PROTOBUF else Encoding.JSON
    flags = number(columns.flags)
    return DamagedRow(
        columns.id,
        number(columns.received_ns),
        encoding,
        BodyFlag(flags & (BodyFlag.SPECIAL_DOUBLES | BodyFlag.DEEP)),
        min(number(columns.items), 10_000_000),
        body,
        words,
        signal=signal_of(columns.signal) or Signal.TRACES,
    )


def signal_of(value: object) -> Signal | None:
    """What a column says that a row holds; None when it is damaged."""
    return _SIGNALS.get(value)


def read_parts(parts: bytes) -> list[Part]:
    """The requests of a row. Raises ValueError when the bytes are not those of `parts`."""
    try:
        return _decode_parts(parts)
    except msgspec.MsgspecError as error:
        raise ValueError("unreadable parts") from error
