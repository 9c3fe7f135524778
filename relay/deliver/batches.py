"""Rows taken from the buffer go in; the body of one request comes out, joined and compressed.

Rows are fragments that concatenate, so a batch whose rows are already in the encoding it is sent in
is a join. Only rows of the other encoding are transcoded, only rows that are flagged for special
doubles are looked into, and only for a destination with steps is each row stepped (`stepping`).
"""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import anyio.to_thread

from relay.config import DestinationConfig
from relay.deliver.left_out import Judge, LeftOut, sift
from relay.model.records import BodyFlag, Encoding, Signal, StoredRow, longest_way
from relay.otlp import doubles, transcode
from relay.otlp.compression import gzip_level_1
from relay.otlp.signals import WIRE
from relay.upstream.exchange import Body

if TYPE_CHECKING:
    from relay.deliver.stepping import SteppedRow
    from relay.process.steps.run import Steps

# Work on more than this goes to a thread: the hop costs about 0.1 ms, gzip at level 1 or a
# transcoding of as many bytes more than that.
THREAD_FROM_BYTES = 32 * 1024
# A row of that size is sent from where it is. Of smaller ones many would be a piece each, with TLS
# a record each.
APART_FROM_BYTES = 64 * 1024
# Below this gzip saves less than a packet.
GZIP_FROM_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(Body):
    """One request's body, made of the fragments `parts`.

    `items` are those in it. Those `left_out` are not: of a batch that has none there is nothing to
    send.
    """

    parts: Sequence[bytes]
    rows: int
    left_out: Sequence[LeftOut] = ()
    stepped: Sequence["SteppedRow"] = ()

    @property
    def fragment(self) -> bytes:
        """The body without its envelope and uncompressed."""
        return joined(self.parts, self.encoding)

    def originals(self) -> tuple[Encoding, bytes]:
        """What was sent, as it was kept: without the envelope, and before any step."""
        encoding, parts = self.encoding, self.parts
        if self.stepped:
            from relay.deliver.stepping import originals

            encoding, parts = originals(self.stepped)
        return encoding, joined(parts, encoding)

    def count(self, told: Literal["filtered", "changed"]) -> Counter[str]:
        """How many items were filtered or changed, by step."""
        return sum((getattr(each, told) for each in self.stepped), Counter())


def other_than(encoding: Encoding) -> Encoding:
    """The other one of the two encodings."""
    return Encoding.PROTOBUF if encoding is Encoding.JSON else Encoding.JSON


def spoken(encoding: Encoding) -> str:
    """The name of an encoding as sentences have it."""
    return "JSON" if encoding is Encoding.JSON else "protobuf"


async def build(
    rows: Sequence[StoredRow],
    settings: DestinationConfig,
    encoding: Encoding,
    *,
    gzips: bool,
    judges: Sequence[Judge] = (),
    steps: "Steps | None" = None,
) -> Batch:
    """The batch of `rows` for the destination of `settings`, in `encoding`, as gzip if it `gzips`.

    What one of `judges` speaks against is left out. Long work is done in a thread. Raises
    TranscodeError when a row cannot be put into it.
    """
    size = sum(len(row.body) for row in rows)
    # Joins of megabytes stay on the loop: they are copies.
    is_work = (
        gzips
        or bool(judges)
        or steps is not None
        or any(_needs_work(row, encoding, settings) for row in rows)
    )
    make = functools.partial(
        make_batch, rows, encoding, settings, gzips=gzips, judges=judges, steps=steps
    )
    if is_work and size > THREAD_FROM_BYTES:
        return await anyio.to_thread.run_sync(make)
    return make()


def make_batch(
    rows: Sequence[StoredRow],
    encoding: Encoding,
    settings: DestinationConfig,
    *,
    gzips: bool,
    judges: Sequence[Judge] = (),
    steps: "Steps | None" = None,
) -> Batch:
    """`build` without threads."""
    left_out: list[LeftOut] = []
    stepped: list[SteppedRow] = []
    items = sum(row.items for row in rows)
    if steps is None:
        parts = [_fragment(row, encoding, settings) for row in rows]
    else:
        from relay.deliver.stepping import step_row

        # In the encoding they came in: what lies deep in JSON is folded into texts in protobuf.
        stepped = [step_row(row, steps, judges) for row in rows]
        parts = [_fragment(each.row, encoding, settings) for each in stepped if each.row.items]
        items = sum(each.row.items for each in stepped)
        left_out += [one for each in stepped for one in each.left_out]
        judges = ()
    for judge in judges:
        fragment, more = sift(joined(parts, encoding), encoding, rows[0].signal, judge)
        parts = [fragment]
        left_out += more
        items -= sum(each.items for each in more)
    pieces, content_encoding = _pieces(parts, encoding, rows[0].signal), ""
    if gzips and (settings.compression == "gzip" or sum(map(len, pieces)) >= GZIP_FROM_BYTES):
        pieces, content_encoding = [gzip_level_1(b"".join(pieces))], "gzip"
    return Batch(
        encoding=encoding,
        content=pieces[0],
        rest=pieces[1:],
        content_encoding=content_encoding,
        hops=longest_way(row.hops for row in rows) if any(row.hops for row in rows) else "",
        parts=parts,
        items=items,
        rows=len(rows),
        left_out=left_out,
        stepped=stepped,
    )


def joined(fragments: Iterable[bytes], encoding: Encoding) -> bytes:
    """The fragment that holds all of these, which are in `encoding`."""
    joint = b"," if encoding is Encoding.JSON else b""
    return joint.join(part for part in fragments if part)


def _pieces(parts: Iterable[bytes], encoding: Encoding, signal: Signal) -> list[bytes]:
    """A request of these, in one piece but for large ones, which are not copied."""
    before = joint = after = b""
    if encoding is Encoding.JSON:
        before, _, after = WIRE[signal].json_request.partition(b"%b")
        joint = b","
    pieces, run = [], [before]
    for number, part in enumerate(filter(None, parts)):
        if number:
            run.append(joint)
        if len(part) < APART_FROM_BYTES:
            run.append(part)
        else:
            pieces += [b"".join(run), part]
            run = []
    pieces.append(b"".join((*run, after)))
    return [piece for piece in pieces if piece] or [b""]


def gzips_for(settings: DestinationConfig) -> bool:
    """Whether bodies for the destination of `settings` are compressed."""
    if settings.compression == "auto":
        return not settings.is_loopback
    return settings.compression == "gzip"


def _needs_work(row: StoredRow, encoding: Encoding, settings: DestinationConfig) -> bool:
    return row.encoding is not encoding or (
        settings.special_doubles != "keep" and bool(row.flags & BodyFlag.SPECIAL_DOUBLES)
    )


def _fragment(row: StoredRow, encoding: Encoding, settings: DestinationConfig) -> bytes:
    body = row.body
    if row.encoding is not encoding:
        into = transcode.to_json if encoding is Encoding.JSON else transcode.to_protobuf
        body = into(body, row.signal)
    if settings.special_doubles != "keep" and row.flags & BodyFlag.SPECIAL_DOUBLES:
        body = doubles.rewrite_special_doubles(body, encoding, settings.special_doubles, row.signal)
    return body
