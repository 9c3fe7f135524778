"""Typed structs of OTLP/JSON's logs, field for field as logs.proto; see `messages`."""

from msgspec import UNSET, Raw, UnsetType

from relay.otlp.messages import (
    NO_RESOURCE,
    AnyValue,
    InstrumentationScope,
    Int32,
    Int64,
    KeyValue,
    Message,
    UInt32,
)


class LogRecord(Message):
    timeUnixNano: Int64 = "0"
    severityNumber: Int32 = 0
    severityText: str = ""
    body: AnyValue | UnsetType = UNSET
    attributes: list[KeyValue] = []
    droppedAttributesCount: UInt32 = 0
    flags: UInt32 = 0
    traceId: str = ""
    spanId: str = ""
    observedTimeUnixNano: Int64 = "0"
    eventName: str = ""


class ScopeLogs(Message):
    scope: InstrumentationScope | UnsetType = UNSET
    logRecords: list[LogRecord] = []
    schemaUrl: str = ""


class ResourceLogs(Message):
    """`resource` stays text here: it is decoded once per distinct text (`resources`)."""

    resource: Raw = NO_RESOURCE
    scopeLogs: list[ScopeLogs] = []
    schemaUrl: str = ""


class ExportLogsServiceRequest(Message):
    resourceLogs: list[ResourceLogs] = []
