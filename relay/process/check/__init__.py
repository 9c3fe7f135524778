"""A body as it was sent in; traces in normal form, rejected spans and warnings out.

Bad ids reject a span, never its neighbours: relayed, one of them would make an upstream refuse
a whole batch. Everything else that breaks a rule without being undecodable is kept and counted.

- `ids`: what an id must be, reasons, derived ids
- `json_spans`, `protobuf_spans`: the checks of each span in its encoding
- `rejections`: rejected spans, all counted and so many kept
- `weight`: whether a body is too much for the event loop
- `words`: what the sender is told
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from relay.model.errors import Refusal
from relay.model.records import Encoding, RejectedSpan
from relay.otlp import json, protobuf
from relay.otlp.json import JsonTraces
from relay.otlp.protobuf import ProtobufTraces
from relay.otlp.resources import ResourceCache
from relay.process.check.ids import SPAN_ID_MISSING, TRACE_ID_MISSING, MalformedIds
from relay.process.check.json_spans import check_json
from relay.process.check.protobuf_spans import check_protobuf
from relay.process.check.rejections import Rejections
from relay.process.check.weight import (
    MOST_EXACT_BYTES,
    NEVER_HEAVY_BYTES,
    TooHeavy,
    is_heavy,
    refuse_many_messages,
)
from relay.process.check.words import LOGS_HINT, describe, describe_rejected

__all__ = [
    "NEVER_HEAVY_BYTES",
    "AllSpansRejected",
    "Check",
    "Checked",
    "MalformedIds",
    "TooHeavy",
    "is_heavy",
]


class AllSpansRejected(Refusal):
    """No span of the request is valid: 400 rather than a partial success (decision D4).

    `rejected` are the spans, so that they become dead letters all the same: as many as are kept.
    `counts` are all of them by reason.
    """

    code = "all_spans_rejected"

    def __init__(
        self, message: str, rejected: tuple[RejectedSpan, ...], counts: Mapping[str, int]
    ) -> None:
        super().__init__(message)
        self.rejected = rejected
        self.counts = counts


@dataclass(frozen=True, slots=True)
class Checked:
    """A request that can be kept: `spans` of it remain. `warnings` are times by code."""

    traces: JsonTraces | ProtobufTraces
    spans: int
    rejections: Rejections
    warnings: Counter[str]

    @property
    def rejected(self) -> tuple[RejectedSpan, ...]:
        """The rejected spans that become dead letters: all, or the first if they are very many."""
        return tuple(self.rejections.kept)

    def message(self) -> str:
        """What the sender is told beside the number rejected: at most 1 KiB, empty if nothing."""
        return describe(self.spans, self.rejections, self.warnings)


class Check:
    """Checks bodies of both encodings. Holds what is known of resources."""

    def __init__(self, malformed_ids: MalformedIds) -> None:
        self.malformed_ids = malformed_ids
        self._json_resources = ResourceCache()
        self._protobuf_resources = ResourceCache()

    def __call__(self, body: bytes, encoding: Encoding, *, is_bounded: bool = False) -> Checked:
        """Decode and check a whole request.

        Raises Refusal (400) when the body cannot be decoded, AllSpansRejected when it holds spans
        and none of them is valid, and TooHeavy when it `is_bounded` and the body turns out to be
        more than the event loop should take.
        """
        traces: JsonTraces | ProtobufTraces
        if encoding is Encoding.JSON:
            traces = self._decode_json(body, is_bounded=is_bounded)
            rejections = check_json(traces, self.malformed_ids)
        else:
            message = protobuf.parse(body)
            if is_bounded:
                refuse_many_messages(message)
            traces = protobuf.settle(message, body, self._protobuf_resources)
            rejections = check_protobuf(traces, self.malformed_ids, is_bounded=is_bounded)
        if rejections.counts and len(rejections) == len(traces.spans):
            hint = LOGS_HINT if _looks_like_logs(rejections) else ""
            raise AllSpansRejected(
                f"all {describe_rejected(rejections)}{hint}",
                tuple(rejections.kept),
                rejections.counts,
            )
        traces.drop_empty()
        return Checked(traces, len(traces.spans), rejections, traces.findings.warnings)

    def _decode_json(self, body: bytes, *, is_bounded: bool) -> JsonTraces:
        if not is_bounded or len(body) <= MOST_EXACT_BYTES:
            return json.decode(body, self._json_resources)
        try:
            return json.decode_fast(body, self._json_resources)
        except json.NOT_FAST:
            raise TooHeavy from None


def _looks_like_logs(rejections: Rejections) -> bool:
    """Whether every span of a protobuf body lacks its ids: field numbers of logs match ours."""
    return rejections.encoding is Encoding.PROTOBUF and rejections.counts.keys() <= {
        TRACE_ID_MISSING,
        SPAN_ID_MISSING,
    }
