//! The messages of OTLP, one row a field: what both encodings are read and written by.
//!
//! Fields stand in the order in which the relay writes JSON (that of `relay/otlp/messages*.py`);
//! protobuf is written by number. To add a field is to add a row here and one there. A test holds
//! the rows equal to the official descriptors.

/// What a field's value is, on both wires.
#[derive(Clone, Copy)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// The value of an attribute: base64 in JSON.
    Bytes,
    /// An id: hexadecimal in JSON.
    Id,
    /// One byte, 0 or 1.
    Bool,
    /// A varint; negative ones take ten bytes. A number in JSON. So is an enum.
    Int32,
    /// A varint, zigzag. A number in JSON.
    SInt32,
    /// A varint. A number in JSON.
    UInt32,
    /// Four bytes. A number in JSON.
    Fixed32,
    /// A varint; negative ones take ten bytes. Decimal text in JSON, as all of 64 bits.
    Int64,
    /// Eight bytes, signed.
    SFixed64,
    /// A varint.
    UInt64,
    /// Eight bytes.
    Fixed64,
    /// Eight bytes; in JSON a number, or the name of a special one.
    Double,
    /// A message inside.
    Message(&'static Message),
}

/// How often a field may stand in its message, and whether zero differs from absent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Once; a zero (or an empty text) is left out. A message is left out if it was never there.
    One,
    /// Once; a zero is written where it was sent.
    Optional,
    /// At most one of all fields so marked in a message; a zero is written where it was sent.
    OneOf,
    /// A list; an empty one is left out. Numbers are packed.
    Many,
}

/// What the checks ask of a field: see `checks`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Nothing.
    Plain,
    /// The id of a trace.
    Trace,
    /// The id of a span.
    Span,
    /// The id of a span's parent.
    Parent,
    /// When a span began.
    Start,
    /// When a span ended.
    End,
    /// When a log record or a data point is of.
    Time,
    /// When a log record was seen.
    Observed,
    /// The name of a span or metric.
    Name,
    /// The flags of a data point.
    Flags,
    /// The value of a number point or exemplar.
    Value,
    /// `aggregationTemporality`.
    Temporality,
    /// The count of a histogram's point.
    Count,
    /// The zero count of an exponential histogram's point.
    ZeroCount,
    /// Counts of buckets.
    Counts,
    /// Bounds of buckets.
    Bounds,
    /// The attributes of what holds this.
    Attributes,
    /// Links of a span, whose ids are checked.
    Links,
    /// Exemplars of a point, whose ids and values are checked.
    Exemplars,
    /// What items stand in, from the outside in, and items: entries, scopes, records, a metric's
    /// kind, points.
    Inside,
}

/// One field of a message.
pub struct Field {
    /// Its name in JSON.
    pub name: &'static str,
    /// Its number in protobuf.
    pub number: u32,
    /// What its value is.
    pub kind: Kind,
    /// How often it may stand there.
    pub holds: Holds,
    /// What it is to the checks.
    pub role: Role,
}

/// A message: its fields in the order of JSON.
pub struct Message {
    /// Its name in the official schema.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
    /// The index in `fields` by number; 255 where there is none.
    by_number: [u8; MOST_NUMBERS],
}

const MOST_NUMBERS: usize = 17;

impl Message {
    const fn new(name: &'static str, fields: &'static [Field]) -> Self {
        let mut by_number = [u8::MAX; MOST_NUMBERS];
        let mut index = 0;
        while index < fields.len() {
            // Fits: there are at most 16 fields.
            #[allow(clippy::cast_possible_truncation)]
            let place = index as u8;
            by_number[fields[index].number as usize] = place;
            index += 1;
        }
        Self { name, fields, by_number }
    }

    /// The field with this number, if it is known here.
    #[inline]
    #[must_use]
    pub fn by_number(&self, number: u32) -> Option<&'static Field> {
        self.fields.get(self.index_by_number(number)?)
    }

    /// Where it stands among `fields`.
    #[inline]
    #[must_use]
    pub fn index_by_number(&self, number: u32) -> Option<usize> {
        let index = usize::from(*self.by_number.get(number as usize)?);
        (index < self.fields.len()).then_some(index)
    }

    /// The field with this name in JSON, if it is known here.
    #[must_use]
    pub fn by_name(&self, name: &[u8]) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name.as_bytes() == name)
    }
}

macro_rules! message {
    ($name:ident, $title:literal: $($json:literal = $number:literal $holds:ident $kind:expr, $role:ident;)*) => {
        #[doc = concat!("`", $title, "`.")]
        pub static $name: Message = Message::new($title, &[
            $(Field { name: $json, number: $number, kind: $kind, holds: Holds::$holds, role: Role::$role }),*
        ]);
    };
}

use Kind::{
    Bool, Bytes, Double, Fixed32, Fixed64, Id, Int32, Int64, SFixed64, SInt32, Text, UInt32, UInt64,
};

const fn of(message: &'static Message) -> Kind {
    Kind::Message(message)
}

// --- common and resource ---------------------------------------------------------------------

message! { ANY_VALUE, "AnyValue":
    "boolValue" = 2 OneOf Bool, Plain;
    "intValue" = 3 OneOf Int64, Plain;
    "doubleValue" = 4 OneOf Double, Plain;
    "arrayValue" = 5 OneOf of(&ARRAY_VALUE), Plain;
    "kvlistValue" = 6 OneOf of(&KEY_VALUE_LIST), Plain;
    "bytesValue" = 7 OneOf Bytes, Plain;
    "stringValueStrindex" = 8 OneOf Int32, Plain;
    "stringValue" = 1 OneOf Text, Plain;
}
message! { ARRAY_VALUE, "ArrayValue":
    "values" = 1 Many of(&ANY_VALUE), Plain;
}
message! { KEY_VALUE, "KeyValue":
    "key" = 1 One Text, Plain;
    "value" = 2 One of(&ANY_VALUE), Plain;
    "keyStrindex" = 3 One Int32, Plain;
}
message! { KEY_VALUE_LIST, "KeyValueList":
    "values" = 1 Many of(&KEY_VALUE), Plain;
}
message! { ENTITY_REF, "EntityRef":
    "schemaUrl" = 1 One Text, Plain;
    "type" = 2 One Text, Plain;
    "idKeys" = 3 Many Text, Plain;
    "descriptionKeys" = 4 Many Text, Plain;
}
message! { RESOURCE, "Resource":
    "attributes" = 1 Many of(&KEY_VALUE), Attributes;
    "droppedAttributesCount" = 2 One UInt32, Plain;
    "entityRefs" = 3 Many of(&ENTITY_REF), Plain;
}
message! { SCOPE, "InstrumentationScope":
    "name" = 1 One Text, Name;
    "version" = 2 One Text, Plain;
    "attributes" = 3 Many of(&KEY_VALUE), Attributes;
    "droppedAttributesCount" = 4 One UInt32, Plain;
}

// --- traces ----------------------------------------------------------------------------------

message! { EVENT, "Event":
    "timeUnixNano" = 1 One Fixed64, Plain;
    "name" = 2 One Text, Plain;
    "attributes" = 3 Many of(&KEY_VALUE), Attributes;
    "droppedAttributesCount" = 4 One UInt32, Plain;
}
message! { LINK, "Link":
    "traceId" = 1 One Id, Trace;
    "spanId" = 2 One Id, Span;
    "traceState" = 3 One Text, Plain;
    "attributes" = 4 Many of(&KEY_VALUE), Attributes;
    "droppedAttributesCount" = 5 One UInt32, Plain;
    "flags" = 6 One Fixed32, Plain;
}
message! { STATUS, "Status":
    "message" = 2 One Text, Plain;
    "code" = 3 One Int32, Plain;
}
message! { SPAN, "Span":
    "traceId" = 1 One Id, Trace;
    "spanId" = 2 One Id, Span;
    "traceState" = 3 One Text, Plain;
    "parentSpanId" = 4 One Id, Parent;
    "flags" = 16 One Fixed32, Plain;
    "name" = 5 One Text, Name;
    "kind" = 6 One Int32, Plain;
    "startTimeUnixNano" = 7 One Fixed64, Start;
    "endTimeUnixNano" = 8 One Fixed64, End;
    "attributes" = 9 Many of(&KEY_VALUE), Attributes;
    "droppedAttributesCount" = 10 One UInt32, Plain;
    "events" = 11 Many of(&EVENT), Plain;
    "droppedEventsCount" = 12 One UInt32, Plain;
    "links" = 13 Many of(&LINK), Links;
    "droppedLinksCount" = 14 One UInt32, Plain;
    "status" = 15 One of(&STATUS), Plain;
}
message! { SCOPE_SPANS, "ScopeSpans":
    "scope" = 1 One of(&SCOPE), Plain;
    "spans" = 2 Many of(&SPAN), Inside;
    "schemaUrl" = 3 One Text, Plain;
}
message! { RESOURCE_SPANS, "ResourceSpans":
    "resource" = 1 One of(&RESOURCE), Plain;
    "scopeSpans" = 2 Many of(&SCOPE_SPANS), Inside;
    "schemaUrl" = 3 One Text, Plain;
}
message! { TRACES, "ExportTraceServiceRequest":
    "resourceSpans" = 1 Many of(&RESOURCE_SPANS), Inside;
}

// --- logs ------------------------------------------------------------------------------------

message! { LOG_RECORD, "LogRecord":
    "timeUnixNano" = 1 One Fixed64, Time;
    "severityNumber" = 2 One Int32, Plain;
    "severityText" = 3 One Text, Plain;
    "body" = 5 One of(&ANY_VALUE), Plain;
    "attributes" = 6 Many of(&KEY_VALUE), Attributes;
    "droppedAttributesCount" = 7 One UInt32, Plain;
    "flags" = 8 One Fixed32, Plain;
    "traceId" = 9 One Id, Trace;
    "spanId" = 10 One Id, Span;
    "observedTimeUnixNano" = 11 One Fixed64, Observed;
    "eventName" = 12 One Text, Plain;
}
message! { SCOPE_LOGS, "ScopeLogs":
    "scope" = 1 One of(&SCOPE), Plain;
    "logRecords" = 2 Many of(&LOG_RECORD), Inside;
    "schemaUrl" = 3 One Text, Plain;
}
message! { RESOURCE_LOGS, "ResourceLogs":
    "resource" = 1 One of(&RESOURCE), Plain;
    "scopeLogs" = 2 Many of(&SCOPE_LOGS), Inside;
    "schemaUrl" = 3 One Text, Plain;
}
message! { LOGS, "ExportLogsServiceRequest":
    "resourceLogs" = 1 Many of(&RESOURCE_LOGS), Inside;
}

// --- metrics ---------------------------------------------------------------------------------

message! { EXEMPLAR, "Exemplar":
    "filteredAttributes" = 7 Many of(&KEY_VALUE), Attributes;
    "timeUnixNano" = 2 One Fixed64, Plain;
    "asDouble" = 3 OneOf Double, Value;
    "asInt" = 6 OneOf SFixed64, Value;
    "spanId" = 4 One Id, Span;
    "traceId" = 5 One Id, Trace;
}
message! { NUMBER_POINT, "NumberDataPoint":
    "attributes" = 7 Many of(&KEY_VALUE), Attributes;
    "startTimeUnixNano" = 2 One Fixed64, Plain;
    "timeUnixNano" = 3 One Fixed64, Time;
    "asDouble" = 4 OneOf Double, Value;
    "asInt" = 6 OneOf SFixed64, Value;
    "exemplars" = 5 Many of(&EXEMPLAR), Exemplars;
    "flags" = 8 One UInt32, Flags;
}
message! { HISTOGRAM_POINT, "HistogramDataPoint":
    "attributes" = 9 Many of(&KEY_VALUE), Attributes;
    "startTimeUnixNano" = 2 One Fixed64, Plain;
    "timeUnixNano" = 3 One Fixed64, Time;
    "count" = 4 One Fixed64, Count;
    "sum" = 5 Optional Double, Plain;
    "bucketCounts" = 6 Many Fixed64, Counts;
    "explicitBounds" = 7 Many Double, Bounds;
    "exemplars" = 8 Many of(&EXEMPLAR), Exemplars;
    "flags" = 10 One UInt32, Flags;
    "min" = 11 Optional Double, Plain;
    "max" = 12 Optional Double, Plain;
}
message! { BUCKETS, "Buckets":
    "offset" = 1 One SInt32, Plain;
    "bucketCounts" = 2 Many UInt64, Counts;
}
message! { EXPONENTIAL_POINT, "ExponentialHistogramDataPoint":
    "attributes" = 1 Many of(&KEY_VALUE), Attributes;
    "startTimeUnixNano" = 2 One Fixed64, Plain;
    "timeUnixNano" = 3 One Fixed64, Time;
    "count" = 4 One Fixed64, Count;
    "sum" = 5 Optional Double, Plain;
    "scale" = 6 One SInt32, Plain;
    "zeroCount" = 7 One Fixed64, ZeroCount;
    "positive" = 8 One of(&BUCKETS), Plain;
    "negative" = 9 One of(&BUCKETS), Plain;
    "flags" = 10 One UInt32, Flags;
    "exemplars" = 11 Many of(&EXEMPLAR), Exemplars;
    "min" = 12 Optional Double, Plain;
    "max" = 13 Optional Double, Plain;
    "zeroThreshold" = 14 One Double, Plain;
}
message! { QUANTILE, "ValueAtQuantile":
    "quantile" = 1 One Double, Plain;
    "value" = 2 One Double, Plain;
}
message! { SUMMARY_POINT, "SummaryDataPoint":
    "attributes" = 7 Many of(&KEY_VALUE), Attributes;
    "startTimeUnixNano" = 2 One Fixed64, Plain;
    "timeUnixNano" = 3 One Fixed64, Time;
    "count" = 4 One Fixed64, Count;
    "sum" = 5 One Double, Plain;
    "quantileValues" = 6 Many of(&QUANTILE), Plain;
    "flags" = 8 One UInt32, Flags;
}
message! { GAUGE, "Gauge":
    "dataPoints" = 1 Many of(&NUMBER_POINT), Inside;
}
message! { SUM, "Sum":
    "dataPoints" = 1 Many of(&NUMBER_POINT), Inside;
    "aggregationTemporality" = 2 One Int32, Temporality;
    "isMonotonic" = 3 One Bool, Plain;
}
message! { HISTOGRAM, "Histogram":
    "dataPoints" = 1 Many of(&HISTOGRAM_POINT), Inside;
    "aggregationTemporality" = 2 One Int32, Temporality;
}
message! { EXPONENTIAL_HISTOGRAM, "ExponentialHistogram":
    "dataPoints" = 1 Many of(&EXPONENTIAL_POINT), Inside;
    "aggregationTemporality" = 2 One Int32, Temporality;
}
message! { SUMMARY, "Summary":
    "dataPoints" = 1 Many of(&SUMMARY_POINT), Inside;
}
message! { METRIC, "Metric":
    "name" = 1 One Text, Name;
    "description" = 2 One Text, Plain;
    "unit" = 3 One Text, Plain;
    "gauge" = 5 OneOf of(&GAUGE), Inside;
    "sum" = 7 OneOf of(&SUM), Inside;
    "histogram" = 9 OneOf of(&HISTOGRAM), Inside;
    "exponentialHistogram" = 10 OneOf of(&EXPONENTIAL_HISTOGRAM), Inside;
    "summary" = 11 OneOf of(&SUMMARY), Inside;
    "metadata" = 12 Many of(&KEY_VALUE), Attributes;
}
message! { SCOPE_METRICS, "ScopeMetrics":
    "scope" = 1 One of(&SCOPE), Plain;
    "metrics" = 2 Many of(&METRIC), Inside;
    "schemaUrl" = 3 One Text, Plain;
}
message! { RESOURCE_METRICS, "ResourceMetrics":
    "resource" = 1 One of(&RESOURCE), Plain;
    "scopeMetrics" = 2 Many of(&SCOPE_METRICS), Inside;
    "schemaUrl" = 3 One Text, Plain;
}
message! { METRICS, "ExportMetricsServiceRequest":
    "resourceMetrics" = 1 Many of(&RESOURCE_METRICS), Inside;
}

/// The three signals, numbered as `relay.model.records.Signal` is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// Spans.
    Traces = 1,
    /// Log records.
    Logs = 2,
    /// Metrics, whose data points are the items.
    Metrics = 3,
}

impl Signal {
    /// The signal of that number.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Traces),
            2 => Some(Self::Logs),
            3 => Some(Self::Metrics),
            _ => None,
        }
    }

    /// What a request of this signal is.
    #[must_use]
    pub fn request(self) -> &'static Message {
        match self {
            Self::Traces => &TRACES,
            Self::Logs => &LOGS,
            Self::Metrics => &METRICS,
        }
    }
}
