"""Makes of a request's body what is kept of it: check → enrich → cut into pieces for the disk.

The same code runs in the event loop and in the offload process, and gives the same bytes.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from relay.model.reasons import ROW_BYTES, Reason
from relay.model.records import Encoding, Piece, RejectedItem, Sender
from relay.otlp import json, protobuf
from relay.otlp.json import JsonTraces
from relay.otlp.protobuf import ProtobufTraces
from relay.otlp.resources import ResourceCache
from relay.otlp.signals import TRACES
from relay.process.check.ids import MalformedIds
from relay.process.check.json_spans import check_json
from relay.process.check.protobuf_spans import check_protobuf
from relay.process.check.rejections import AllSpansRejected, Rejections
from relay.process.check.weight import MOST_VALUES, refuse_many_messages, refuse_many_tokens
from relay.process.check.words import LOGS_HINT, describe, describe_rejected
from relay.process.enrich import Enrich

_NONE: Final[Mapping[str, int]] = MappingProxyType({})


class PrepareSettings(msgspec.Struct, frozen=True, array_like=True):
    """What decides how a request is prepared; the offload process is told exactly this.

    `detected` attributes are for senders on this host, `configured` ones for all.
    """

    malformed_ids: MalformedIds = "auto"
    detected: dict[str, str] = {}
    configured: dict[str, str] = {}


class Prepared(NamedTuple):
    """A request of which `items` can be kept.

    `rejected` become dead letters: all rejected spans, or the first of very many.
    `rejected_by_reason` counts all of them, `warnings` times by code. `message` is for the
    sender, empty when there is nothing to say.
    """

    pieces: tuple[Piece, ...]
    items: int
    rejected: tuple[RejectedItem, ...] = ()
    rejected_by_reason: Mapping[str, int] = _NONE
    warnings: Mapping[str, int] = _NONE
    message: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """A request that can be kept: `spans` of it remain. `warnings` are times by code."""

    traces: JsonTraces | ProtobufTraces
    spans: int
    rejections: Rejections
    warnings: Counter[str]

    @property
    def rejected(self) -> tuple[RejectedItem, ...]:
        """The rejected spans that become dead letters: all, or the first if they are very many."""
        return tuple(self.rejections.kept)

    def message(self) -> str:
        """What the sender is told beside the number rejected: at most 1 KiB, empty if nothing."""
        return describe(self.spans, self.rejections, self.warnings)


class Prepare:
    """Prepares bodies of both encodings. Holds what is known of resources under `settings`."""

    def __init__(self, settings: PrepareSettings) -> None:
        self.settings = settings
        self._enrich = Enrich(detected=settings.detected, configured=settings.configured)
        self._json_resources = ResourceCache()
        self._protobuf_resources = ResourceCache()

    def __call__(
        self, body: bytes, encoding: Encoding, sender: Sender, *, is_bounded: bool = False
    ) -> Prepared:
        """Check, enrich and cut one body. Raises what `check` raises."""
        checked = self.check(body, encoding, is_bounded=is_bounded)
        traces = checked.traces
        pieces: tuple[Piece, ...] = ()
        if checked.spans:
            pieces = traces.pieces(ROW_BYTES, self._resources(traces, is_local=sender.is_local))
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

    def _resources(self, traces: JsonTraces | ProtobufTraces, *, is_local: bool) -> list[bytes]:
        """The enriched resources, nearly always remembered from an earlier request."""
        return [
            known.enriched[is_local] or self._enrich(known, traces.encoding, is_local=is_local)
            for known in traces.resources
        ]

    def check(self, body: bytes, encoding: Encoding, *, is_bounded: bool = False) -> Checked:
        """Decode and check a whole request.

        Raises Refusal (400) when the body cannot be decoded, AllSpansRejected when it holds spans
        and none of them is valid, and TooHeavy when it `is_bounded` and the body turns out to be
        more than the event loop should take.
        """
        traces: JsonTraces | ProtobufTraces
        if encoding is Encoding.JSON:
            traces = self._decode_json(body, is_bounded=is_bounded)
            rejections = check_json(traces, self.settings.malformed_ids, is_bounded=is_bounded)
        else:
            message = protobuf.parse(body)
            if is_bounded:
                refuse_many_messages(message, TRACES.lists[encoding])
            most_values = MOST_VALUES if is_bounded else None
            cache = self._protobuf_resources
            traces = protobuf.settle(message, body, cache, most_values=most_values)
            rejections = check_protobuf(traces, self.settings.malformed_ids, is_bounded=is_bounded)
        if rejections.counts and not traces.spans:
            hint = LOGS_HINT if _looks_like_logs(rejections) else ""
            raise AllSpansRejected(
                f"all {describe_rejected(rejections)}{hint}",
                tuple(rejections.kept),
                rejections.counts,
            )
        return Checked(traces, len(traces.spans), rejections, traces.findings.warnings)

    def _decode_json(self, body: bytes, *, is_bounded: bool) -> JsonTraces:
        cache = self._json_resources
        if not is_bounded:
            return json.decode(body, cache)
        with suppress(*json.NOT_FAST):
            return json.decode_fast(body, cache, _refuse_many_in_json)
        refuse_many_tokens(body)
        return json.decode_exact(body, cache)


def _refuse_many_in_json(request: msgspec.Struct) -> None:
    refuse_many_messages(request, TRACES.lists[Encoding.JSON])


def _looks_like_logs(rejections: Rejections) -> bool:
    """Whether every span of a protobuf body lacks its ids: field numbers of logs match ours."""
    return rejections.encoding is Encoding.PROTOBUF and rejections.counts.keys() <= {
        Reason.TRACE_ID_MISSING,
        Reason.SPAN_ID_MISSING,
    }
