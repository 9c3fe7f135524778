//! The environment goes in; one trace by the stock HTTP exporter comes out, its id on stdout. With the
//! argument `signals` metrics and log records are sent first, with `metrics` or `logs` these alone.

use std::error::Error;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{
    Link, Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Array, Context, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("metrics") => return send_metrics(),
        Some("logs") => return send_logs(&earlier_order()),
        _ => {}
    }
    let exporter = SpanExporter::builder().with_http().build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .build();
    let parent = make_trace(&provider);
    if std::env::args().any(|argument| argument == "signals") {
        send_metrics()?;
        send_logs(&parent)?;
    }
    provider.force_flush()?;
    provider.shutdown()?;
    println!("{}", parent.trace_id());
    Ok(())
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("shop.checkout")
        .with_version("1.2.3")
        .build()
}

fn send_metrics() -> Result<(), Box<dyn Error>> {
    let exporter = MetricExporter::builder().with_http().build()?;
    let provider = SdkMeterProvider::builder()
        .with_periodic_exporter(exporter)
        .build();
    let meter = provider.meter_with_scope(scope());
    let orders = meter
        .u64_counter("orders")
        .with_unit("1")
        .with_description("Orders taken")
        .build();
    orders.add(
        3,
        &[
            KeyValue::new("region", "eu"),
            KeyValue::new("express", true),
        ],
    );
    let values = meter
        .f64_histogram("order.value")
        .with_unit("EUR")
        .with_description("What an order costs")
        .build();
    values.record(5.5, &[]);
    values.record(70.0, &[]);
    provider.force_flush()?;
    provider.shutdown()?;
    Ok(())
}

fn send_logs(parent: &SpanContext) -> Result<(), Box<dyn Error>> {
    let exporter = LogExporter::builder().with_http().build()?;
    let provider = SdkLoggerProvider::builder()
        .with_batch_exporter(exporter)
        .build();
    let logger = provider.logger_with_scope(scope());
    let mut line = logger.create_log_record();
    line.set_timestamp(began(0));
    line.set_severity_number(Severity::Info);
    line.set_severity_text("INFO");
    line.set_body("Grüße, 世界 🚀".into());
    line.add_attribute("big", (1_i64 << 53) + 1);
    let mut event = logger.create_log_record();
    event.set_timestamp(began(0));
    event.set_event_name("order.declined");
    event.set_body(AnyValue::from_iter([
        ("reason", AnyValue::from("no funds")),
        ("total", AnyValue::from(75.5)),
    ]));
    for mut record in [line, event] {
        record.set_trace_context(
            parent.trace_id(),
            parent.span_id(),
            Some(parent.trace_flags()),
        );
        logger.emit(record);
    }
    provider.force_flush()?;
    provider.shutdown()?;
    Ok(())
}

/// The child's times are given, so that each nanosecond of them can be checked.
fn began(later_nanoseconds: u64) -> SystemTime {
    static SECOND: LazyLock<u64> =
        LazyLock::new(|| UNIX_EPOCH.elapsed().expect("a clock after 1970").as_secs() - 1);
    UNIX_EPOCH + Duration::new(*SECOND, 123_456_789) + Duration::from_nanos(later_nanoseconds)
}

fn make_trace(provider: &SdkTracerProvider) -> SpanContext {
    let tracer = provider.tracer_with_scope(scope());
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
    let made = parent.span_context().clone();
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
    made
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
