"""A body as it was sent in; traces in normal form, rejected spans and warnings out.

Bad ids reject a span, never its neighbours: relayed, one of them would make an upstream refuse
a whole batch. Everything else that breaks a rule without being undecodable is kept and counted.

- `ids`: what an id must be, reasons, derived ids
- `json_spans`, `protobuf_spans`: the checks of each span in its encoding
- `words`: what the sender is told
"""

from collections import Counter
from dataclasses import dataclass

from relay.check.ids import SPAN_ID_MISSING, TRACE_ID_MISSING, MalformedIds
from relay.check.json_spans import check_json
from relay.check.protobuf_spans import check_protobuf
from relay.check.words import LOGS_HINT, describe, describe_rejected
from relay.errors import Refusal
from relay.otlp import json, protobuf
from relay.otlp.json import JsonTraces
from relay.otlp.protobuf import ProtobufTraces
from relay.otlp.resources import ResourceCache
from relay.records import Encoding, RejectedSpan

__all__ = ["AllSpansRejected", "Check", "Checked", "MalformedIds"]


class AllSpansRejected(Refusal):
    """No span of the request is valid: 400 rather than a partial success (decision D4).

    `rejected` are the spans, so that they become dead letters all the same.
    """

    code = "all_spans_rejected"

    def __init__(self, message: str, rejected: tuple[RejectedSpan, ...]) -> None:
        super().__init__(message)
        self.rejected = rejected


@dataclass(frozen=True, slots=True)
class Checked:
    """A request that can be kept: `spans` of it remain. `warnings` are times by code."""

    traces: JsonTraces | ProtobufTraces
    spans: int
    rejected: tuple[RejectedSpan, ...]
    warnings: Counter[str]

    def message(self) -> str:
        """What the sender is told beside the number rejected: at most 1 KiB, empty if nothing."""
        return describe(self.spans, self.rejected, self.warnings)


class Check:
    """Checks bodies of both encodings. Holds what is known of resources."""

    def __init__(self, malformed_ids: MalformedIds) -> None:
        self.malformed_ids = malformed_ids
        self._json_resources = ResourceCache()
        self._protobuf_resources = ResourceCache()

    def __call__(self, body: bytes, encoding: Encoding) -> Checked:
        """Decode and check a whole request.

        Raises Refusal (400) when the body cannot be decoded, and AllSpansRejected when it holds
        spans and none of them is valid.
        """
        traces: JsonTraces | ProtobufTraces
        if encoding is Encoding.JSON:
            traces = json.decode(body, self._json_resources)
            rejected = check_json(traces, self.malformed_ids)
        else:
            traces = protobuf.decode(body, self._protobuf_resources)
            rejected = check_protobuf(traces, self.malformed_ids)
        if rejected and len(rejected) == len(traces.spans):
            hint = LOGS_HINT if _looks_like_logs(rejected) else ""
            raise AllSpansRejected(f"all {describe_rejected(rejected)}{hint}", tuple(rejected))
        traces.drop_empty()
        return Checked(traces, len(traces.spans), tuple(rejected), traces.findings.warnings)


def _looks_like_logs(rejected: list[RejectedSpan]) -> bool:
    """Whether every span of a protobuf body lacks its ids: field numbers of logs match ours."""
    return all(
        span.reason in (TRACE_ID_MISSING, SPAN_ID_MISSING) and span.encoding is Encoding.PROTOBUF
        for span in rejected
    )
