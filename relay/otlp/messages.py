"""Typed structs of OTLP/JSON, field for field as trace.proto, common.proto and resource.proto.

They are what the *fast way* decodes into and what is encoded again in normal form: unknown keys
are errors here (the exact way takes them), defaults are left out when encoding, 64-bit integers
are decimal strings. Structs are mutable: check normalises them in place.

Decoding typed and encoding again costs 2.0 µs a span of 870 bytes; it also drops white space
and resolves duplicate keys (last wins, D13), which splicing the sender's own bytes cannot.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

UInt32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
# 64-bit fields come as decimal strings or as numbers; check turns numbers into strings and holds
# the range (Meta(le=2**64-1) raises in msgspec 0.22).
Int64 = str | int


class Message(Struct, omit_defaults=True, forbid_unknown_fields=True):
    pass


class AnyValue(Message, gc=False):
    """One member is set, or none (an empty value, which is valid).

    `stringValue` stands last on purpose: encoded, a second member beside it shows as
    `,"stringValue":`, which one search over the whole text finds.
    """

    boolValue: bool | UnsetType = UNSET
    intValue: Int64 | UnsetType = UNSET
    doubleValue: float | str | UnsetType = UNSET
    arrayValue: "ArrayValue | UnsetType" = UNSET
    kvlistValue: "KeyValueList | UnsetType" = UNSET
    bytesValue: str | UnsetType = UNSET
    stringValueStrindex: Int32 | UnsetType = UNSET  # of profiles; carried unchanged
    stringValue: str | UnsetType = UNSET


class ArrayValue(Message):
    values: list[AnyValue] = []


class KeyValue(Message, gc=False):
    key: str = ""
    value: AnyValue | UnsetType = UNSET
    keyStrindex: Int32 = 0


class KeyValueList(Message):
    values: list[KeyValue] = []


class EntityRef(Message):
    schemaUrl: str = ""
    type: str = ""
    idKeys: list[str] = []
    descriptionKeys: list[str] = []


class Resource(Message):
    attributes: list[KeyValue] = []
    droppedAttributesCount: UInt32 = 0
    entityRefs: list[EntityRef] = []


class InstrumentationScope(Message):
    name: str = ""
    version: str = ""
    attributes: list[KeyValue] = []
    droppedAttributesCount: UInt32 = 0


class Event(Message):
    timeUnixNano: Int64 = "0"
    name: str = ""
    attributes: list[KeyValue] = []
    droppedAttributesCount: UInt32 = 0


class Link(Message):
    traceId: str = ""
    spanId: str = ""
    traceState: str = ""
    attributes: list[KeyValue] = []
    droppedAttributesCount: UInt32 = 0
    flags: UInt32 = 0


class Status(Message):
    message: str = ""
    code: Int32 = 0


class Span(Message):
    traceId: str = ""
    spanId: str = ""
    traceState: str = ""
    parentSpanId: str = ""
    flags: UInt32 = 0
    name: str = ""
    kind: Int32 = 0
    startTimeUnixNano: Int64 = "0"
    endTimeUnixNano: Int64 = "0"
    attributes: list[KeyValue] = []
    droppedAttributesCount: UInt32 = 0
    events: list[Event] = []
    droppedEventsCount: UInt32 = 0
    links: list[Link] = []
    droppedLinksCount: UInt32 = 0
    status: Status | UnsetType = UNSET


class ScopeSpans(Message):
    scope: InstrumentationScope | UnsetType = UNSET
    spans: list[Span] = []
    schemaUrl: str = ""


NO_RESOURCE = Raw(b"{}")
"""The default of every entry, told from a resource that was sent by identity."""


class ResourceSpans(Message):
    """`resource` stays text here: it is decoded once per distinct text (`resources`)."""

    resource: Raw = NO_RESOURCE
    scopeSpans: list[ScopeSpans] = []
    schemaUrl: str = ""


class ExportTraceServiceRequest(Message):
    resourceSpans: list[ResourceSpans] = []


decode_resource = msgspec.json.Decoder(Resource).decode
encode = msgspec.json.Encoder().encode
