"""What arrived, as objects that tests read: a request with its spans as plain Python values.

Times are nanoseconds since the epoch. A `repr` shows header names, never values.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from mockcollector.content import header_values
from mockcollector.rules import Encoding


def to_python(value: AnyValue) -> Any:
    """An attribute value as str, bool, int, float, list, dict, bytes, or None for an empty one."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [to_python(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return to_dict(value.kvlist_value.values)
    # An index into a string table means nothing on traces; it stays readable in the raw message.
    if kind is None or kind == "string_value_strindex":
        return None
    return getattr(value, kind)


def to_dict(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """A list of attributes as a dict; of the same key twice the last wins."""
    return {attribute.key: to_python(attribute.value) for attribute in attributes}


class ReceivedResource:
    """The resource of some spans, shared between them."""

    def __init__(self, raw: Resource, schema_url: str) -> None:
        self.raw = raw
        self.schema_url = schema_url

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The resource's attributes as Python values."""
        return to_dict(self.raw.attributes)


class ReceivedScope:
    """The instrumentation scope of some spans, shared between them."""

    def __init__(self, raw: InstrumentationScope, schema_url: str) -> None:
        self.raw = raw
        self.schema_url = schema_url
        self.name = raw.name
        self.version = raw.version

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The scope's attributes as Python values."""
        return to_dict(self.raw.attributes)


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event of a span."""

    time_unix_nano: int
    name: str
    attributes: dict[str, Any]
    dropped_attributes_count: int


@dataclass(frozen=True, slots=True)
class ReceivedLink:
    """A link of a span; ids in lower-case hex."""

    trace_id: str
    span_id: str
    trace_state: str
    attributes: dict[str, Any]
    dropped_attributes_count: int
    flags: int


class ReceivedSpan:
    """One span. Whatever has no property of its own is in `raw`, the official message."""

    def __init__(
        self,
        raw: trace_pb2.Span,
        resource: ReceivedResource,
        scope: ReceivedScope,
        request_number: int,
    ) -> None:
        self.raw = raw
        self.resource = resource
        self.scope = scope
        self.request_number = request_number
        self.is_accepted = False
        """Whether its request was answered 2xx (or taken and cut) and this span not rejected."""

    @property
    def trace_id(self) -> str:
        """32 lower-case hexadecimal digits."""
        return self.raw.trace_id.hex()

    @property
    def span_id(self) -> str:
        """16 lower-case hexadecimal digits."""
        return self.raw.span_id.hex()

    @property
    def parent_span_id(self) -> str:
        """16 lower-case hexadecimal digits, or the empty string for a root."""
        return self.raw.parent_span_id.hex()

    @property
    def name(self) -> str:
        """The span's name."""
        return self.raw.name

    @property
    def kind(self) -> int:
        """The number of the kind: 1 internal, 2 server, 3 client, 4 producer, 5 consumer."""
        return self.raw.kind

    @property
    def start_time_unix_nano(self) -> int:
        """When it began."""
        return self.raw.start_time_unix_nano

    @property
    def end_time_unix_nano(self) -> int:
        """When it ended."""
        return self.raw.end_time_unix_nano

    @property
    def status_code(self) -> int:
        """0 unset, 1 ok, 2 error."""
        return self.raw.status.code

    @property
    def status_message(self) -> str:
        """The words of the status."""
        return self.raw.status.message

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The span's own attributes as Python values."""
        return to_dict(self.raw.attributes)

    @cached_property
    def events(self) -> tuple[ReceivedEvent, ...]:
        """The span's events, in order."""
        return tuple(
            ReceivedEvent(
                e.time_unix_nano, e.name, to_dict(e.attributes), e.dropped_attributes_count
            )
            for e in self.raw.events
        )

    @cached_property
    def links(self) -> tuple[ReceivedLink, ...]:
        """The span's links, in order."""
        return tuple(
            ReceivedLink(
                trace_id=link.trace_id.hex(),
                span_id=link.span_id.hex(),
                trace_state=link.trace_state,
                attributes=to_dict(link.attributes),
                dropped_attributes_count=link.dropped_attributes_count,
                flags=link.flags,
            )
            for link in self.raw.links
        )

    def __repr__(self) -> str:
        return f"<span {self.name!r} trace {self.trace_id} span {self.span_id}>"


def flatten(message: ExportTraceServiceRequest, request_number: int) -> tuple[ReceivedSpan, ...]:
    """All spans of a request, in order, each with its resource and scope."""
    spans = []
    for resource_spans in message.resource_spans:
        resource = ReceivedResource(resource_spans.resource, resource_spans.schema_url)
        for scope_spans in resource_spans.scope_spans:
            scope = ReceivedScope(scope_spans.scope, scope_spans.schema_url)
            spans += [
                ReceivedSpan(raw, resource, scope, request_number) for raw in scope_spans.spans
            ]
    return tuple(spans)


@dataclass(slots=True, eq=False)
class ReceivedRequest:
    """One request, whatever became of it.

    `status` is None until it is answered, and stays so where no answer was given; `answer` says
    in a word what was done (`200`, `503`, `partial 3`, `hang`, `cut`, `client left`, …) and
    `reason` why it was refused. `wire_bytes` is the body as it came, `decoded_bytes` unpacked.
    `unknown_keys` are paths of JSON keys that OTLP does not know.
    `is_complete` turns false when the journal gave up body, message and spans for space.
    """

    received_unix_nano: int
    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    number: int = 0
    encoding: Encoding | None = None
    content_encoding: str = "identity"
    wire_bytes: int = 0
    decoded_bytes: int = 0
    body: bytes = b""
    message: ExportTraceServiceRequest | None = None
    unknown_keys: tuple[str, ...] = ()
    span_ids: bytes = field(default=b"", repr=False)
    span_count: int = 0
    spans: tuple[ReceivedSpan, ...] = ()
    accepted_spans: int = 0
    status: int | None = None
    answer: str = ""
    reason: str = ""
    is_complete: bool = True

    def header(self, name: str) -> str | None:
        """The value of a header, several joined by a comma; None where it was not sent."""
        values = header_values(self.headers, name.lower())
        return ", ".join(values) if values else None

    @property
    def header_names(self) -> tuple[str, ...]:
        """The names of all headers, lower case, in order of arrival."""
        return tuple(name for name, _ in self.headers)

    def has_headers(self, wanted: str | Mapping[str, str]) -> bool:
        """Whether a header is there, or all of a mapping are there with these values."""
        if isinstance(wanted, str):
            return self.header(wanted) is not None
        return all(self.header(name) == value for name, value in wanted.items())

    def forget_contents(self) -> None:
        """Give up what takes space; what was counted stays."""
        self.body = b""
        self.message = None
        self.spans = ()
        self.span_ids = b""
        self.is_complete = False

    def __repr__(self) -> str:
        return (
            f"<request {self.number} {self.method} {self.path}"
            f" {self.encoding or 'unknown encoding'} {self.span_count} spans"
            f" → {self.answer or 'not answered yet'}, headers {', '.join(self.header_names)}>"
        )
