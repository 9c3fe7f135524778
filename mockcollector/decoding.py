"""A plain body in; a decoded message, or in counts mode its span ids alone, out.

Ids are judged here for both encodings, by an `IdRule`. By the strict one, `VALID`, trace.proto
demands 16 and 8 bytes, not all zero, and one bad span refuses the whole batch, as Grafana Tempo
does; a parent is empty or a whole id; a link's ids may be empty or zero (the trace API lets invalid
contexts be linked), but not of another length.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mockcollector import otlp_json
from mockcollector.rules import Cause, Encoding, IdRule, Refused, Violation

TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8
KEY_BYTES = TRACE_ID_BYTES + SPAN_ID_BYTES
_MAX_VIOLATIONS = 5


@dataclass(frozen=True, slots=True)
class Decoded:
    """A body that broke no rule. `span_ids` packs 24 bytes a span: trace id, then span id.

    An id of another length, where the rule lets it pass, is filled up with zeros or cut there.
    """

    span_ids: bytes
    message: ExportTraceServiceRequest | None = None
    unknown_keys: tuple[str, ...] = ()


Decode = Callable[[bytes, Encoding, IdRule], Decoded]


def decode(body: bytes, encoding: Encoding, rule: IdRule = IdRule.VALID) -> Decoded:
    """Decode and check everything. Raises `Refused` with status 400."""
    unknown: tuple[str, ...] = ()
    if encoding is Encoding.JSON:
        message, unknown = otlp_json.decode_request(body)
    else:
        message = _parse_protobuf(body)
    violations: list[Violation] = []
    total = 0
    ids = bytearray()
    for path, span in _walk(message):
        wrong = list(_flaws_of(span, path, rule))
        total += len(wrong)
        violations += wrong[: _MAX_VIOLATIONS - len(violations)]
        ids += _key(span.trace_id, span.span_id)
    if violations:
        _refuse_ids(violations, total)
    return Decoded(bytes(ids), message, unknown)


def decode_ids(body: bytes, encoding: Encoding, rule: IdRule = IdRule.VALID) -> Decoded:
    """Read the ids alone, cheaply: of everything else only the syntax is checked.

    Raises `Refused` with status 400 for an undecodable body or a trace or span id that is no id.
    """
    if encoding is Encoding.PROTOBUF:
        spans = [span for _, span in _walk(_parse_protobuf(body))]
        pairs = [(span.trace_id, span.span_id) for span in spans]
    else:
        pairs = _read_json_ids(body)
    for trace_id, span_id in pairs:
        if _is_bad(trace_id, TRACE_ID_BYTES, rule) or _is_bad(span_id, SPAN_ID_BYTES, rule):
            raise Refused(400, "a span has a malformed or zero traceId or spanId", cause=Cause.IDS)
    if rule is IdRule.VALID:  # load tests: nothing to fill up
        return Decoded(b"".join([part for pair in pairs for part in pair]))
    return Decoded(b"".join([_key(trace_id, span_id) for trace_id, span_id in pairs]))


def _key(trace_id: bytes, span_id: bytes) -> bytes:
    trace = trace_id.ljust(TRACE_ID_BYTES, b"\0")[:TRACE_ID_BYTES]
    return trace + span_id.ljust(SPAN_ID_BYTES, b"\0")[:SPAN_ID_BYTES]


def _parse_protobuf(body: bytes) -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    try:
        message.ParseFromString(body)
    except DecodeError:
        # The parser's own words are left out: they may quote the body.
        raise Refused(400, "the body is not an ExportTraceServiceRequest in protobuf") from None
    return message


def _walk(message: ExportTraceServiceRequest) -> Iterator[tuple[tuple[int, int, int], Span]]:
    for resource_at, resource_spans in enumerate(message.resource_spans):
        for scope_at, scope_spans in enumerate(resource_spans.scope_spans):
            for span_at, span in enumerate(scope_spans.spans):
                yield (resource_at, scope_at, span_at), span


def _flaws_of(span: Span, place: tuple[int, int, int], rule: IdRule) -> Iterator[Violation]:
    if rule is IdRule.ANY:
        return
    path = "resourceSpans[{}].scopeSpans[{}].spans[{}]".format(*place)
    if _is_bad(span.trace_id, TRACE_ID_BYTES, rule):
        yield Violation(f"{path}.traceId", _demand(TRACE_ID_BYTES, rule))
    if _is_bad(span.span_id, SPAN_ID_BYTES, rule):
        yield Violation(f"{path}.spanId", _demand(SPAN_ID_BYTES, rule))
    if rule is IdRule.PRESENT:
        return
    parent_rule = IdRule.SIZED if rule is IdRule.NONZERO else rule
    if span.parent_span_id and _is_bad(span.parent_span_id, SPAN_ID_BYTES, parent_rule):
        yield Violation(f"{path}.parentSpanId", "must be empty or 8 bytes, not all zero")
    for at, link in enumerate(span.links):
        if len(link.trace_id) not in {0, TRACE_ID_BYTES}:
            yield Violation(f"{path}.links[{at}].traceId", "must be empty or 16 bytes")
        if len(link.span_id) not in {0, SPAN_ID_BYTES}:
            yield Violation(f"{path}.links[{at}].spanId", "must be empty or 8 bytes")


def _is_bad(an_id: bytes, size_bytes: int, rule: IdRule) -> bool:
    if rule is IdRule.VALID or rule is IdRule.NONZERO:
        return len(an_id) != size_bytes or not any(an_id)
    if rule is IdRule.SIZED:
        return len(an_id) not in {0, size_bytes}
    return rule is IdRule.PRESENT and not an_id


def _demand(size_bytes: int, rule: IdRule) -> str:
    if rule is IdRule.PRESENT:
        return "must be there"
    return f"must be {size_bytes} bytes" + (
        ", not all zero" if rule is IdRule.VALID else " or none"
    )


def _refuse_ids(violations: list[Violation], total: int) -> None:
    listed = "; ".join(f"{violation.path} {violation.description}" for violation in violations)
    more = f"; and {total - len(violations)} more" if total > len(violations) else ""
    raise Refused(
        400, f"invalid ids: {listed}{more}", cause=Cause.IDS, violations=tuple(violations)
    )


class _Ids(msgspec.Struct, gc=False):
    traceId: str = ""  # noqa: N815 - the wire's name
    spanId: str = ""  # noqa: N815


class _Scope(msgspec.Struct, gc=False):
    spans: list[_Ids] | None = None


class _Resource(msgspec.Struct, gc=False):
    scopeSpans: list[_Scope] | None = None  # noqa: N815


class _Request(msgspec.Struct, gc=False):
    resourceSpans: list[_Resource] | None = None  # noqa: N815


_read_skeleton = msgspec.json.Decoder(_Request).decode


def _read_json_ids(body: bytes) -> list[tuple[bytes, bytes]]:
    try:
        request = _read_skeleton(body)
        return [
            (bytes.fromhex(span.traceId), bytes.fromhex(span.spanId))
            for resource in request.resourceSpans or ()
            for scope in resource.scopeSpans or ()
            for span in scope.spans or ()
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        raise Refused(400, "the body is not an ExportTraceServiceRequest in JSON") from None
