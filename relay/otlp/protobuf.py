"""A request in OTLP protobuf in, the official messages and fragments for the disk out.

Unknown fields survive: what was parsed is what is serialised. Raises Refusal for what is no
ExportTraceServiceRequest; the parser's own words may quote the body and are not passed on.
"""

import math
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from relay.model.errors import Refusal, TooHeavy
from relay.model.records import BodyFlag, Encoding, Piece
from relay.otlp.cuts import SizedItem, group_items
from relay.otlp.json_values import Findings
from relay.otlp.protobuf_writer import delimited
from relay.otlp.resources import KnownResource, ResourceCache, know_protobuf
from relay.otlp.signals import TRACES

# Tag of AnyValue.double_value, and the top bytes of a double whose exponent is all ones. It may
# stand there by chance: whatever matches is looked at properly.
_MAYBE_SPECIAL: Final = re.compile(rb"\x21.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)
# A nested message costs its tag and a length; four of those around each span.
_FRAME_BYTES: Final = 6
_NO_RESOURCE: Final = b""


class ProtobufTraces:
    """A decoded request. `resources` stands parallel to `message.resource_spans`.

    `records` are all spans in order. `findings` holds flags and warnings by code.
    """

    encoding: Final = Encoding.PROTOBUF
    wire: Final = TRACES

    def __init__(
        self,
        message: ExportTraceServiceRequest,
        resources: list[KnownResource],
        findings: Findings,
    ) -> None:
        self.message = message
        self.resources = resources
        self.findings = findings
        self.records = all_spans(message)

    @property
    def entries(self) -> list[trace_pb2.ResourceSpans]:
        """The entries, in order."""
        return list(self.message.resource_spans)

    def changed(self) -> None:
        """Spans were taken out."""
        self.records = all_spans(self.message)

    def count_items(self) -> int:
        """How many spans there are."""
        return len(self.records)

    def fragment_of(self, index: int, scope: trace_pb2.ScopeSpans, span: trace_pb2.Span) -> bytes:
        """A fragment with this span alone, its resource and scope around it."""
        entry = self.message.resource_spans[index]
        alone = ExportTraceServiceRequest()
        around = alone.resource_spans.add(schema_url=entry.schema_url)
        if entry.HasField("resource"):
            around.resource.CopyFrom(entry.resource)
        inner = around.scope_spans.add(schema_url=scope.schema_url)
        if scope.HasField("scope"):
            inner.scope.CopyFrom(scope.scope)
        inner.spans.add().CopyFrom(span)
        return alone.SerializeToString()

    def pieces(self, limit_bytes: int, resources: list[bytes] | None = None) -> tuple[Piece, ...]:
        """The request as fragments within the limit; none without spans.

        `resources` are encoded resources to put in the place of its own, one an entry. What holds
        no span is left out. A single span that is larger than the limit stays whole.
        """
        if resources is not None:
            for index, encoded in enumerate(resources):
                if encoded != self.resources[index].normal:
                    self.message.resource_spans[index].resource.ParseFromString(encoded)
        for index in drop_empty(self.message):
            del self.resources[index]
        if not self.records:
            return ()
        body = self.message.SerializeToString()
        if len(body) <= limit_bytes or len(self.records) == 1:
            return (self._piece(body, self.records, range(len(self.resources))),)
        return self._cut(limit_bytes)

    def _piece(
        self, body: bytes, spans: list[trace_pb2.Span], resources: range | list[int]
    ) -> Piece:
        distinct = dict.fromkeys([span.trace_id for span in spans])
        services = dict.fromkeys([self.resources[index].service for index in resources])
        services.pop("", None)
        return Piece(
            encoding=Encoding.PROTOBUF,
            body=body,
            items=len(spans),
            trace_ids=b"".join(distinct),
            services=tuple(services),
            flags=self.findings.flags,
        )

    def _cut(self, limit_bytes: int) -> tuple[Piece, ...]:
        # Of a copy the spans are taken out: what is left are the envelopes, unknown fields too.
        envelopes = ExportTraceServiceRequest()
        envelopes.CopyFrom(self.message)
        for entry in envelopes.resource_spans:
            for scope in entry.scope_spans:
                scope.ClearField("spans")
        sized = []
        texts: dict[tuple[int, ...], bytes] = {}  # by place: of entries, scopes, spans
        for i, entry in enumerate(self.message.resource_spans):
            envelope = envelopes.resource_spans[i]
            for j, around in enumerate(envelope.scope_spans):
                texts[i, j] = around.SerializeToString()
            envelope.ClearField("scope_spans")
            texts[(i,)] = envelope.SerializeToString()
            entry_bytes = len(texts[(i,)]) + _FRAME_BYTES
            for j, scope in enumerate(entry.scope_spans):
                scope_bytes = len(texts[i, j]) + _FRAME_BYTES
                for k, span in enumerate(scope.spans):
                    text = texts[i, j, k] = span.SerializeToString()
                    span_bytes = len(text) + _FRAME_BYTES
                    sized.append(SizedItem((i, j, k), span_bytes, (entry_bytes, scope_bytes)))
        return tuple(self._group_piece(group, texts) for group in group_items(sized, limit_bytes))

    def _group_piece(self, group: list[SizedItem], texts: dict[tuple[int, ...], bytes]) -> Piece:
        scopes: dict[tuple[int, int], list[bytes]] = {}
        spans = []
        entries = self.message.resource_spans
        for (i, j, k), *_ in group:
            scopes.setdefault((i, j), []).append(delimited(b"\x12", texts[i, j, k]))
            spans.append(entries[i].scope_spans[j].spans[k])
        by_entry: dict[int, list[bytes]] = {}
        for place, framed in scopes.items():
            content = texts[place] + b"".join(framed)
            by_entry.setdefault(place[0], []).append(delimited(b"\x12", content))
        body = b"".join(
            delimited(b"\x0a", texts[(i,)] + b"".join(framed)) for i, framed in by_entry.items()
        )
        return self._piece(body, spans, list(by_entry))


def drop_empty(message: ExportTraceServiceRequest) -> list[int]:
    """Take out what holds no span; the indices of such resources, from the last to the first."""
    entries = message.resource_spans
    gone = []
    for index in reversed(range(len(entries))):
        scopes = entries[index].scope_spans
        for place in reversed(range(len(scopes))):
            if not scopes[place].spans:
                del scopes[place]
        if not scopes:
            del entries[index]
            gone.append(index)
    return gone


def all_spans(message: ExportTraceServiceRequest) -> list[trace_pb2.Span]:
    """Every span, in order."""
    return [
        span
        for entry in message.resource_spans
        for scope in entry.scope_spans
        for span in scope.spans
    ]


Holder = (
    resource_pb2.Resource
    | common_pb2.InstrumentationScope
    | trace_pb2.Span
    | trace_pb2.Span.Event
    | trace_pb2.Span.Link
)


def holders(request: ExportTraceServiceRequest) -> Iterator[Holder]:
    """Everything in a request that has attributes."""
    for entry in request.resource_spans:
        if entry.HasField("resource"):
            yield entry.resource
        for scope_spans in entry.scope_spans:
            if scope_spans.HasField("scope"):
                yield scope_spans.scope
            for span in scope_spans.spans:
                yield span
                yield from span.events
                yield from span.links


def parse(body: bytes) -> ExportTraceServiceRequest:
    """The message as it was sent. Raises Refusal (400), and MemoryError as Python does."""
    try:
        return ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        if "alloc" in str(error):
            raise MemoryError from None
        raise Refusal(_describe(str(error))) from None


def settle(
    message: ExportTraceServiceRequest,
    body: bytes,
    cache: ResourceCache,
    *,
    most_values: int | None = None,
) -> ProtobufTraces:
    """What is known of a parsed request: its resources, its findings. `body` is its bytes.

    Raises TooHeavy when more than `most_values` would have to be looked at one by one.
    """
    findings = Findings()
    resources = []
    for entry in message.resource_spans:
        known = _known(entry, cache)
        resources.append(known)
        for code in known.warnings:
            findings.warnings[code] += 1
    if _MAYBE_SPECIAL.search(body) and has_special_double(message, most_values):
        findings.flags |= BodyFlag.SPECIAL_DOUBLES
    return ProtobufTraces(message, resources, findings)


def _describe(words: str) -> str:
    lower = words.lower()
    if "utf" in lower:
        why = "a string is not UTF-8"
    elif "depth" in lower or "recursion" in lower:
        why = "it is nested too deeply: at most 100 messages"
    else:
        why = "its bytes are damaged, cut short, or another kind of message"
    return f"the body is not an ExportTraceServiceRequest in protobuf: {why}"


def _known(entry: trace_pb2.ResourceSpans, cache: ResourceCache) -> KnownResource:
    encoded = entry.resource.SerializeToString() if entry.HasField("resource") else _NO_RESOURCE
    known = cache.get(encoded)
    return known or cache.put(encoded, know_protobuf(entry.resource, encoded))


def has_special_double(message: ExportTraceServiceRequest, most_values: int | None = None) -> bool:
    """Whether any value is NaN or an infinity. Raises TooHeavy for more than `most_values`."""
    left = sys.maxsize if most_values is None else most_values
    values: list[common_pb2.AnyValue] = []
    lists: Iterator[Sequence[common_pb2.KeyValue]]
    lists = (holder.attributes for holder in holders(message))
    while True:
        for pairs in lists:
            left -= 1 + len(pairs)
            if left < 0:
                raise TooHeavy
            values.extend(pair.value for pair in pairs)
        if not values:
            return False
        value = values.pop()
        match value.WhichOneof("value"):
            case "double_value":
                if not math.isfinite(value.double_value):
                    return True
            case "array_value":
                left -= len(value.array_value.values)
                if left < 0:
                    raise TooHeavy
                values.extend(value.array_value.values)
            case "kvlist_value":
                lists = iter((value.kvlist_value.values,))
            case _:
                pass
