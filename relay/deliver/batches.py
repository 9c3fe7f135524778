"""Rows taken from the buffer go in; the body of one request comes out, joined and compressed.

Under `encoding = auto` rows go as they came in, unless this upstream was seen to take only the
other encoding: `LearntEncodings` knows that.

Rows are fragments that concatenate, so a batch whose rows are already in the destination's
encoding is a join. Only rows of the other encoding are transcoded, and only rows that are flagged
for special doubles are looked into.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import anyio.to_thread

from relay.model.records import BodyFlag, Encoding, StoredRow, longest_way
from relay.otlp import doubles, transcode
from relay.otlp.compression import gzip_level_1
from relay.upstream.settings import DestinationSettings

# Work on more than this goes to a thread: the hop costs about 0.1 ms, gzip at level 1 or a
# transcoding of as many bytes more than that.
THREAD_FROM_BYTES = 32 * 1024
# Below this gzip saves less than a packet.
GZIP_FROM_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """One request's body. `fragment` is it without the envelope, as dead letters keep it."""

    encoding: Encoding
    fragment: bytes
    content: bytes
    content_encoding: str
    spans: int
    rows: int
    hops: str = ""  # the relays that its spans came through, this one not among them


class LearntEncodings:
    """What one upstream was seen to take under `auto`, by the encoding that rows came in.

    Kept in memory only and for one configuration: what an upstream takes is learnt again by one
    refused request.
    """

    def __init__(self) -> None:
        self._sent_as: dict[Encoding, tuple[Encoding, int]] = {}

    def sent_as(self, came_in: Encoding) -> Encoding:
        """The encoding for rows that came in `came_in`: the same, if nothing else was learnt."""
        encoding, _status = self._sent_as.get(came_in, (came_in, 0))
        return encoding

    def learn(self, came_in: Encoding, passed: Encoding, refusal_status: int) -> None:
        """Rows of `came_in` were refused in the encoding beside `passed`, and taken in that."""
        if passed is came_in:
            self._sent_as.pop(came_in, None)
        else:
            self._sent_as[came_in] = (passed, refusal_status)

    def notes(self) -> list[str]:
        """What was learnt, each as a sentence for status."""
        return [
            f"refuses {spoken(came_in)} ({status}): sent as {spoken(encoding)}"
            for came_in, (encoding, status) in sorted(self._sent_as.items())
        ]


def other_than(encoding: Encoding) -> Encoding:
    """The other one of the two encodings."""
    return Encoding.PROTOBUF if encoding is Encoding.JSON else Encoding.JSON


def spoken(encoding: Encoding) -> str:
    """The name of an encoding as sentences have it."""
    return "JSON" if encoding is Encoding.JSON else "protobuf"


def encoding_of(
    rows: Sequence[StoredRow],
    settings: DestinationSettings,
    learnt: LearntEncodings | None = None,
) -> Encoding:
    """The encoding to send `rows` in: the destination's, or under `auto` as they came in, but for
    what was `learnt`.

    Under `auto` the rows must be of one encoding, which is how the courier takes them.
    """
    if settings.encoding == "auto":
        came_in = rows[0].encoding
        return learnt.sent_as(came_in) if learnt is not None else came_in
    return Encoding.JSON if settings.encoding == "json" else Encoding.PROTOBUF


async def build(
    rows: Sequence[StoredRow], settings: DestinationSettings, encoding: Encoding | None = None
) -> Batch:
    """The batch of `rows` for the destination of `settings`, in `encoding` or by `encoding_of`.

    Long work is done in a thread. Raises TranscodeError when a row cannot be put into it.
    """
    if encoding is None:
        encoding = encoding_of(rows, settings)
    gzips = _gzips(settings)
    size = sum(len(row.body) for row in rows)
    # Joins of megabytes stay on the loop: they are copies.
    is_work = gzips or any(_needs_work(row, encoding, settings) for row in rows)
    make = functools.partial(make_batch, rows, encoding, settings, gzips=gzips)
    if is_work and size > THREAD_FROM_BYTES:
        return await anyio.to_thread.run_sync(make)
    return make()


def make_batch(
    rows: Sequence[StoredRow],
    encoding: Encoding,
    settings: DestinationSettings,
    *,
    gzips: bool,
) -> Batch:
    """`build` without threads."""
    fragments = [_fragment(row, encoding, settings) for row in rows]
    if encoding is Encoding.JSON:
        fragment = b",".join(part for part in fragments if part)
        body = b'{"resourceSpans":[%b]}' % fragment
    else:
        fragment = body = b"".join(fragments)
    content, content_encoding = body, ""
    if gzips and (settings.compression == "gzip" or len(body) >= GZIP_FROM_BYTES):
        content, content_encoding = gzip_level_1(body), "gzip"
    spans = sum(row.spans for row in rows)
    hops = longest_way(row.hops for row in rows)
    return Batch(encoding, fragment, content, content_encoding, spans, len(rows), hops)


def _gzips(settings: DestinationSettings) -> bool:
    if settings.compression == "auto":
        return not settings.is_loopback
    return settings.compression == "gzip"


def _needs_work(row: StoredRow, encoding: Encoding, settings: DestinationSettings) -> bool:
    return row.encoding is not encoding or (
        settings.special_doubles != "keep" and bool(row.flags & BodyFlag.SPECIAL_DOUBLES)
    )


def _fragment(row: StoredRow, encoding: Encoding, settings: DestinationSettings) -> bytes:
    body = row.body
    if row.encoding is not encoding:
        into = transcode.to_json if encoding is Encoding.JSON else transcode.to_protobuf
        body = into(body)
    if settings.special_doubles != "keep" and row.flags & BodyFlag.SPECIAL_DOUBLES:
        body = doubles.rewrite_special_doubles(body, encoding, settings.special_doubles)
    return body
