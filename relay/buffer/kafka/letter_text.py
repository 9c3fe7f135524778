"""A dead letter as a record of its topic: the key that names it, the value that holds it. Pure.

The key is a digest of destination, place and content: written twice because a relay died before it
had committed, a letter is one letter still, since the topic is compacted.
"""

import hashlib

import msgspec

from relay.buffer.kafka.records import Outgoing, Record
from relay.buffer.values import StoredDeadLetter
from relay.model.records import DeadLetter, Encoding, Signal

_KEY_BYTES = 16
_VERSION = 1


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    """The value, as MessagePack: fields may be added at the end."""

    version: int
    set_aside_ns: int
    destination: str
    reason: str
    words: str
    items: int
    encoding: int
    body: bytes
    status: int
    affected: int
    path: str
    trace_ids: bytes
    row: int
    received_ns: int
    signal: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


def key_of(letter: DeadLetter) -> bytes:
    """Names a letter: the same for the same items of the same place and destination."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    place = letter.row or letter.received_ns
    for part in (letter.destination, str(int(letter.signal)), str(place), letter.path):
        digest.update(part.encode("utf-8", "replace") + b"\0")
    digest.update(letter.body)
    return digest.digest()


def record_of_letter(letter: DeadLetter, topic: str, set_aside_ns: int) -> Outgoing:
    """`letter`, to be written to `topic`."""
    stored = _Stored(
        _VERSION,
        set_aside_ns,
        letter.destination,
        str(letter.reason),
        letter.words.encode("utf-8", "replace").decode(),
        letter.items,
        int(letter.encoding),
        letter.body,
        letter.status,
        letter.affected,
        letter.path.encode("utf-8", "replace").decode(),
        letter.trace_ids,
        letter.row,
        letter.received_ns,
        int(letter.signal),
    )
    return Outgoing(topic, _encode(stored), partition=0, key=key_of(letter))


def letter_of_record(record: Record) -> StoredDeadLetter | None:
    """The letter in a record; None where there is none. Its id is its offset + 1, everywhere."""
    if record.value is None:
        return None
    try:
        stored = _decode(record.value)
        letter = DeadLetter(
            destination=stored.destination,
            reason=stored.reason,
            words=stored.words,
            items=stored.items,
            encoding=Encoding(stored.encoding),
            body=stored.body,
            status=stored.status,
            affected=stored.affected,
            path=stored.path,
            trace_ids=stored.trace_ids,
            row=stored.row,
            received_ns=stored.received_ns,
            signal=Signal(stored.signal),
        )
    except (msgspec.MsgspecError, ValueError):
        return None
    return StoredDeadLetter(record.offset + 1, stored.set_aside_ns, letter)
