"""The environment goes in; one trace by the stock HTTP exporter comes out, its id on stdout.

With the argument `signals` a metric and a log record are sent first, as by an app that has every
exporter on: what becomes of them must not touch the trace.
"""

import sys

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

# The child's times are given, so that each nanosecond of them can be checked.
BEGAN_UNIX_NANO = 1767225600_123456789
EARLIER_ORDER = SpanContext(
    trace_id=0x0AF7651916CD43DD8448EB211C80319C,
    span_id=0xB7AD6B7169203331,
    is_remote=True,
    trace_flags=TraceFlags(TraceFlags.SAMPLED),
)


def send_other_signals() -> None:
    """One metric and one log record, each flushed: both answered before there is a span."""
    metrics = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())])
    metrics.get_meter("shop.checkout").create_counter("orders").add(1)
    metrics.force_flush()
    metrics.shutdown()
    logs = LoggerProvider()
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    logs.get_logger("shop.checkout").emit(
        LogRecord(body="order taken", severity_number=SeverityNumber.INFO)
    )
    logs.force_flush()
    logs.shutdown()


def make_trace(provider: TracerProvider) -> int:
    """A parent and its child; the trace id."""
    tracer = provider.get_tracer("shop.checkout", "1.2.3")
    attributes: dict[str, AttributeValue] = {
        "text": "Grüße, 世界 🚀",
        "big": 2**53 + 1,
        "ratio": 0.1,
        "paid": True,
        "items": ["tea", "cup"],
    }
    parent = tracer.start_span("POST /orders", kind=SpanKind.SERVER, attributes=attributes)
    child = tracer.start_span(
        "charge card",
        context=set_span_in_context(parent),
        kind=SpanKind.CLIENT,
        links=[Link(EARLIER_ORDER, {"why": "second try"})],
        start_time=BEGAN_UNIX_NANO,
    )
    child.add_event(
        "declined", {"reason": "no funds", "attempt": 2}, timestamp=BEGAN_UNIX_NANO + 1_000_001
    )
    child.set_status(Status(StatusCode.ERROR, "card declined"))
    child.end(BEGAN_UNIX_NANO + 2_000_003)
    parent.end()
    return parent.get_span_context().trace_id


def main() -> None:
    """Send it all; exit with 1 when the trace could not be flushed."""
    if "signals" in sys.argv:
        send_other_signals()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace_id = make_trace(provider)
    if not provider.force_flush():
        sys.exit("the trace was not flushed")
    provider.shutdown()
    print(f"{trace_id:032x}")


if __name__ == "__main__":
    main()
