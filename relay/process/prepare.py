"""A body in; pieces for the disk and what its sender is told out: check → enrich → cut.

Pure, so that it is the same in the event loop and in the helper process.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from relay.model.records import Encoding, Piece, RejectedSpan, Sender
from relay.process.check import Check
from relay.process.enrich import Enrich

# A row on disk holds whole requests up to this; a larger request is cut at span borders.
ROW_BYTES = 512 * 1024

_NONE: Mapping[str, int] = MappingProxyType({})


class Prepared(NamedTuple):
    """A request of which `spans` can be kept.

    `rejected` become dead letters: all rejected spans, or the first of very many.
    `rejected_by_reason` counts all of them, `warnings` times by code. `message` is for the
    sender, empty when there is nothing to say.
    """

    pieces: tuple[Piece, ...]
    spans: int
    rejected: tuple[RejectedSpan, ...] = ()
    rejected_by_reason: Mapping[str, int] = _NONE
    warnings: Mapping[str, int] = _NONE
    message: str = ""


def prepare(
    check: Check,
    enrich: Enrich,
    body: bytes,
    encoding: Encoding,
    sender: Sender,
    *,
    is_bounded: bool = False,
) -> Prepared:
    """Check, enrich and cut one body.

    Raises Refusal (400), AllSpansRejected among them, and TooHeavy if it `is_bounded` and the
    body is more than the event loop should take.
    """
    checked = check(body, encoding, is_bounded=is_bounded)
    pieces: tuple[Piece, ...] = ()
    if checked.spans:
        enrich(checked.traces, sender)
        pieces = checked.traces.pieces(ROW_BYTES)
    if not checked.rejections.counts and not checked.warnings:
        return Prepared(pieces, checked.spans)
    return Prepared(
        pieces,
        checked.spans,
        checked.rejected,
        checked.rejections.counts,
        checked.warnings,
        checked.message(),
    )
