//! The environment goes in; one trace by the stock HTTP exporter comes out, its id on stdout.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    Link, Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Array, Context, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::SdkTracerProvider;

fn main() -> Result<(), Box<dyn Error>> {
    let exporter = SpanExporter::builder().with_http().build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .build();
    let trace_id = make_trace(&provider);
    provider.force_flush()?;
    provider.shutdown()?;
    println!("{trace_id}");
    Ok(())
}

/// The child's times are given, so that each nanosecond of them can be checked.
fn began(later_nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::new(1_767_225_600, 123_456_789) + Duration::from_nanos(later_nanoseconds)
}

fn make_trace(provider: &SdkTracerProvider) -> TraceId {
    let scope = InstrumentationScope::builder("shop.checkout")
        .with_version("1.2.3")
        .build();
    let tracer = provider.tracer_with_scope(scope);
    let items: Vec<StringValue> = vec!["tea".into(), "cup".into()];
    let parent = tracer
        .span_builder("POST /orders")
        .with_kind(SpanKind::Server)
        .with_attributes([
            KeyValue::new("text", "Grüße, 世界 🚀"),
            KeyValue::new("big", (1_i64 << 53) + 1),
            KeyValue::new("ratio", 0.1),
            KeyValue::new("paid", true),
            KeyValue::new("items", Value::Array(Array::String(items))),
        ])
        .start(&tracer);
    let trace_id = parent.span_context().trace_id();
    let context = Context::new().with_span(parent);
    let mut child = tracer
        .span_builder("charge card")
        .with_kind(SpanKind::Client)
        .with_start_time(began(0))
        .with_links(vec![Link::new(
            earlier_order(),
            vec![KeyValue::new("why", "second try")],
            0,
        )])
        .start_with_context(&tracer, &context);
    let decline = vec![
        KeyValue::new("reason", "no funds"),
        KeyValue::new("attempt", 2),
    ];
    child.add_event_with_timestamp("declined", began(1_000_001), decline);
    child.set_status(Status::error("card declined"));
    child.end_with_timestamp(began(2_000_003));
    context.span().end();
    trace_id
}

fn earlier_order() -> SpanContext {
    SpanContext::new(
        TraceId::from(0x0af7651916cd43dd8448eb211c80319c_u128),
        SpanId::from(0xb7ad6b7169203331_u64),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    )
}
