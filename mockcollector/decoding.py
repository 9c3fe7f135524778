"""A plain body in; a decoded message, or in counts mode the number of its items alone, out.

One item that is invalid (`validity`) refuses the whole batch, as Grafana Tempo does for spans.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mockcollector import json_plain, otlp_json, validity
from mockcollector.json_plain_view import PlainView
from mockcollector.rules import Cause, Encoding, IdRule, Refused, Rules, Violation
from mockcollector.signals import TRAITS, Request, Signal
from mockcollector.summary import summary_of
from mockcollector.validity import SPAN_ID_BYTES, TRACE_ID_BYTES, is_bad_id

KEY_BYTES = TRACE_ID_BYTES + SPAN_ID_BYTES
_MAX_FLAWS = 20


@dataclass(frozen=True, slots=True)
class Decoded:
    """A body that broke no rule. `span_ids` packs 24 bytes a span: trace id, then span id.

    An id of another length, where the rule lets it pass, is filled up with zeros or cut there.
    `services` (with the number of their items) and `names` of the first items are None where only
    the items tell.
    `flaws` are places and what no sender may do there, though receivers take it; at most 20.
    `view` is of a plain body, of which no `message` is made here.
    """

    count: int
    span_ids: bytes = b""
    message: Request | None = None
    unknown_keys: tuple[str, ...] = ()
    flaws: tuple[str, ...] = ()
    services: list[tuple[str, int]] | None = None
    names: list[str] | None = None
    is_plain: bool = False
    view: PlainView | None = None

    @property
    def read(self) -> Request | PlainView | None:
        """What the body was read into: its message, or what reads like that."""
        return self.view if self.message is None else self.message


def read_message(
    body: bytes, encoding: Encoding, signal: Signal, *, is_plain: bool = False
) -> Request:
    """The message of a body that was decoded before, `is_plain` as was found then."""
    if is_plain:
        return json_plain.plain_message(body, signal)
    if encoding is Encoding.JSON:
        return otlp_json.decode_request(body, TRAITS[signal].request)[0]
    return _parse_protobuf(body, signal)


def read_again(
    body: bytes, encoding: Encoding, signal: Signal, *, is_plain: bool
) -> Request | PlainView:
    """The same as what can be looked at; for a plain body no message is made."""
    if is_plain:
        return json_plain.plain_view(body, signal)
    return read_message(body, encoding, signal)


def decode(body: bytes, encoding: Encoding, signal: Signal, rules: Rules) -> Decoded:
    """Decode and check everything. Raises `Refused` with status 400."""
    unknown: tuple[str, ...] = ()
    # A vendor's own checks look at the message, so it must be made.
    if encoding is Encoding.JSON and not rules.checks:
        plain = json_plain.read_plain(body, signal)
        if plain is not None:
            return Decoded(
                plain.count,
                plain.span_ids,
                services=plain.services,
                names=plain.names,
                is_plain=True,
                view=plain.view,
            )
    if encoding is Encoding.JSON:
        message, unknown = otlp_json.decode_request(body, TRAITS[signal].request)
    else:
        message = _parse_protobuf(body, signal)
    findings = _Findings(signal)
    match message:
        case ExportTraceServiceRequest():
            span_ids = _check_spans(message, rules.ids, findings)
            count = len(span_ids) // KEY_BYTES
        case ExportLogsServiceRequest():
            span_ids, count = b"", _check_log_records(message, rules.ids, findings)
        case ExportMetricsServiceRequest():
            span_ids, count = b"", _check_data_points(message, rules, findings)
    findings.refuse()
    services, names = summary_of(message)
    return Decoded(
        count, span_ids, message, unknown, tuple(findings.flaws), services=services, names=names
    )


class _Findings:
    """What is wrong in a request; the first few are named, all are counted."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._violations: list[Violation] = []
        self._total = 0
        self.flaws: list[str] = []

    def add(self, violations: Iterable[Violation]) -> None:
        """Take note of what makes an item invalid."""
        for violation in violations:
            self._total += 1
            if self._total <= validity.MAX_SHOWN:
                self._violations.append(violation)

    def note(self, flaws: Iterable[str]) -> None:
        """Take note of what receivers let pass."""
        for flaw in flaws:
            if len(self.flaws) < _MAX_FLAWS:
                self.flaws.append(flaw)

    def refuse(self) -> None:
        """Raise `Refused` if an item is invalid."""
        if not self._violations:
            return
        listed = "; ".join(f"{each.path} {each.description}" for each in self._violations)
        more = self._total - len(self._violations)
        what = "ids" if self._signal is Signal.TRACES else TRAITS[self._signal].items
        raise Refused(
            400,
            f"invalid {what}: {listed}{f'; and {more} more' if more else ''}",
            cause=Cause.IDS if self._signal is Signal.TRACES else Cause.ITEMS,
            violations=tuple(self._violations),
        )


def _check_spans(message: ExportTraceServiceRequest, rule: IdRule, findings: _Findings) -> bytes:
    ids = bytearray()
    for path, span in _spans_of(message):
        findings.add(validity.span_violations(span, path, rule))
        ids += _key(span.trace_id, span.span_id)
    return bytes(ids)


def _check_log_records(message: ExportLogsServiceRequest, rule: IdRule, findings: _Findings) -> int:
    count = 0
    for path, record in _log_records_of(message):
        if not count:
            validity.check_is_no_metric(record)
        count += 1
        findings.add(validity.optional_id_violations(record, path, rule))
        findings.note(validity.log_record_flaws(record, path))
    return count


def _check_data_points(
    message: ExportMetricsServiceRequest, rules: Rules, findings: _Findings
) -> int:
    count = 0
    for path, metric in _metrics_of(message):
        if not rules.takes_invalid_points:
            findings.add(validity.metric_violations(metric, path))
        findings.note(validity.metric_flaws(metric, path))
        kind = metric.WhichOneof("data")
        kind_path = f"{path}.{metric.DESCRIPTOR.fields_by_name[kind].json_name}" if kind else path
        for at, point in enumerate(validity.points_of(metric)):
            place = f"{kind_path}.dataPoints[{at}]"
            findings.add(
                validity.point_violations(
                    point, place, rules.ids, takes_invalid=rules.takes_invalid_points
                )
            )
            findings.note(validity.point_flaws(point, place))
            count += 1
    return count


def decode_counts(body: bytes, encoding: Encoding, signal: Signal, rules: Rules) -> Decoded:
    """Read ids and numbers alone, cheaply: of everything else only the syntax is checked.

    Raises `Refused` with status 400 for an undecodable body or a span's id that is no id.
    """
    if encoding is Encoding.JSON:
        found = _read_skeleton(body, signal)
        return _span_keys(found, rules.ids) if isinstance(found, list) else Decoded(found)
    message = _parse_protobuf(body, signal)
    match message:
        case ExportTraceServiceRequest():
            pairs = [
                (span.trace_id, span.span_id)
                for resource in message.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
            return _span_keys(pairs, rules.ids)
        case ExportLogsServiceRequest():
            return Decoded(
                sum(len(s.log_records) for each in message.resource_logs for s in each.scope_logs)
            )
        case ExportMetricsServiceRequest():
            return Decoded(sum(len(validity.points_of(m)) for _, m in _metrics_of(message)))


def _span_keys(pairs: list[tuple[bytes, bytes]], rule: IdRule) -> Decoded:
    for trace_id, span_id in pairs:
        if is_bad_id(trace_id, TRACE_ID_BYTES, rule) or is_bad_id(span_id, SPAN_ID_BYTES, rule):
            raise Refused(400, "a span has a malformed or zero traceId or spanId", cause=Cause.IDS)
    if rule is IdRule.VALID:  # load tests: nothing to fill up
        return Decoded(len(pairs), b"".join([part for pair in pairs for part in pair]))
    return Decoded(len(pairs), b"".join([_key(trace_id, span_id) for trace_id, span_id in pairs]))


def _key(trace_id: bytes, span_id: bytes) -> bytes:
    trace = trace_id.ljust(TRACE_ID_BYTES, b"\0")[:TRACE_ID_BYTES]
    return trace + span_id.ljust(SPAN_ID_BYTES, b"\0")[:SPAN_ID_BYTES]


def _parse_protobuf(body: bytes, signal: Signal) -> Request:
    message = TRAITS[signal].request()
    try:
        message.ParseFromString(body)
    except DecodeError:
        # The parser's own words are left out: they may quote the body.
        raise Refused(400, f"the body is not an {_name_of(signal)} in protobuf") from None
    return message


def _name_of(signal: Signal) -> str:
    return str(TRAITS[signal].request.DESCRIPTOR.name)


def _spans_of(message: ExportTraceServiceRequest) -> Iterator[tuple[str, Span]]:
    for outer, resource in enumerate(message.resource_spans):
        for inner, scope in enumerate(resource.scope_spans):
            for at, span in enumerate(scope.spans):
                yield f"resourceSpans[{outer}].scopeSpans[{inner}].spans[{at}]", span


def _log_records_of(message: ExportLogsServiceRequest) -> Iterator[tuple[str, LogRecord]]:
    for outer, resource in enumerate(message.resource_logs):
        for inner, scope in enumerate(resource.scope_logs):
            for at, record in enumerate(scope.log_records):
                yield f"resourceLogs[{outer}].scopeLogs[{inner}].logRecords[{at}]", record


def _metrics_of(message: ExportMetricsServiceRequest) -> Iterator[tuple[str, Metric]]:
    for outer, resource in enumerate(message.resource_metrics):
        for inner, scope in enumerate(resource.scope_metrics):
            for at, metric in enumerate(scope.metrics):
                yield f"resourceMetrics[{outer}].scopeMetrics[{inner}].metrics[{at}]", metric


# Counts mode reads no more of JSON than these.


class _Ids(msgspec.Struct, gc=False):
    traceId: str = ""  # noqa: N815 - the wire's name
    spanId: str = ""  # noqa: N815


class _ScopeSpans(msgspec.Struct, gc=False):
    spans: list[_Ids] | None = None


class _ResourceSpans(msgspec.Struct, gc=False):
    scopeSpans: list[_ScopeSpans] | None = None  # noqa: N815


class _Traces(msgspec.Struct, gc=False):
    resourceSpans: list[_ResourceSpans] | None = None  # noqa: N815


class _Anything(msgspec.Struct, gc=False):
    pass


class _ScopeLogs(msgspec.Struct, gc=False):
    logRecords: list[_Anything] | None = None  # noqa: N815


class _ResourceLogs(msgspec.Struct, gc=False):
    scopeLogs: list[_ScopeLogs] | None = None  # noqa: N815


class _Logs(msgspec.Struct, gc=False):
    resourceLogs: list[_ResourceLogs] | None = None  # noqa: N815


class _Points(msgspec.Struct, gc=False):
    dataPoints: list[_Anything] | None = None  # noqa: N815


class _Metric(msgspec.Struct, gc=False):
    gauge: _Points | None = None
    sum: _Points | None = None
    histogram: _Points | None = None
    exponentialHistogram: _Points | None = None  # noqa: N815
    summary: _Points | None = None


class _ScopeMetrics(msgspec.Struct, gc=False):
    metrics: list[_Metric] | None = None


class _ResourceMetrics(msgspec.Struct, gc=False):
    scopeMetrics: list[_ScopeMetrics] | None = None  # noqa: N815


class _Metrics(msgspec.Struct, gc=False):
    resourceMetrics: list[_ResourceMetrics] | None = None  # noqa: N815


_read_traces = msgspec.json.Decoder(_Traces).decode
_read_logs = msgspec.json.Decoder(_Logs).decode
_read_metrics = msgspec.json.Decoder(_Metrics).decode


def _read_skeleton(body: bytes, signal: Signal) -> list[tuple[bytes, bytes]] | int:
    """The ids of spans, or how many items there are."""
    try:
        match signal:
            case Signal.TRACES:
                return _read_ids(body)
            case Signal.LOGS:
                return _count_log_records(body)
            case Signal.METRICS:
                return _count_data_points(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        raise Refused(400, f"the body is not an {_name_of(signal)} in JSON") from None


def _read_ids(body: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (bytes.fromhex(span.traceId), bytes.fromhex(span.spanId))
        for resource in _read_traces(body).resourceSpans or ()
        for scope in resource.scopeSpans or ()
        for span in scope.spans or ()
    ]


def _count_log_records(body: bytes) -> int:
    return sum(
        len(scope.logRecords or ())
        for resource in _read_logs(body).resourceLogs or ()
        for scope in resource.scopeLogs or ()
    )


def _count_data_points(body: bytes) -> int:
    return sum(
        len(points.dataPoints or ())
        for resource in _read_metrics(body).resourceMetrics or ()
        for scope in resource.scopeMetrics or ()
        for metric in scope.metrics or ()
        for points in (getattr(metric, kind) for kind in _Metric.__struct_fields__)
        if points is not None
    )
