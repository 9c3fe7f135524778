"""The environment goes in; one trace by the stock HTTP exporter comes out, its id on stdout.

With the argument `signals` metrics and log records are sent first, as by an app that has every
exporter on: what becomes of them must not touch the trace. With `metrics` or `logs` these alone.
"""

import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

# What builds this for JSON puts its exporters there.
sys.path.insert(0, str(Path(__file__).parent / "packages"))

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

# Two packages of exporters with the same names: this variable is what tells them apart.
JSON = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "http/json"
EXPORTERS = f"opentelemetry.exporter.otlp.{'json' if JSON else 'proto'}.http"
# The child's times are given, so that each nanosecond of them can be checked.
BEGAN_UNIX_NANO = (int(time.time()) - 1) * 1_000_000_000 + 123456789
EARLIER_ORDER = SpanContext(
    trace_id=0x0AF7651916CD43DD8448EB211C80319C,
    span_id=0xB7AD6B7169203331,
    is_remote=True,
    trace_flags=TraceFlags(TraceFlags.SAMPLED),
)


def exporter(module: str, name: str) -> Any:
    """An exporter as the environment sets it up."""
    return getattr(importlib.import_module(f"{EXPORTERS}.{module}"), name)()


def send_metrics() -> None:
    """A counter and a histogram, flushed."""
    reader = PeriodicExportingMetricReader(exporter("metric_exporter", "OTLPMetricExporter"))
    provider = MeterProvider([reader])
    meter = provider.get_meter("shop.checkout", "1.2.3")
    meter.create_counter("orders", "1", "Orders taken").add(3, {"region": "eu", "express": True})
    values = meter.create_histogram("order.value", "EUR", "What an order costs")
    for value in (5.5, 70.0):
        values.record(value)
    provider.force_flush()
    provider.shutdown()


def send_logs(context: Context) -> None:
    """A line and an event of the span of that context, flushed."""
    provider = LoggerProvider()
    processor = BatchLogRecordProcessor(exporter("_log_exporter", "OTLPLogExporter"))
    provider.add_log_record_processor(processor)
    logger = provider.get_logger("shop.checkout", "1.2.3")
    logger.emit(
        LogRecord(
            timestamp=BEGAN_UNIX_NANO,
            context=context,
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            body="Grüße, 世界 🚀",
            attributes={"big": 2**53 + 1},
        )
    )
    logger.emit(
        LogRecord(
            timestamp=BEGAN_UNIX_NANO,
            context=context,
            event_name="order.declined",
            body={"reason": "no funds", "total": 75.5},
        )
    )
    provider.force_flush()
    provider.shutdown()


def make_trace(provider: TracerProvider) -> SpanContext:
    """A parent and its child; who the parent is."""
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
    return parent.get_span_context()


def main() -> None:
    """Send it all; exit with 1 when the trace could not be flushed."""
    if "metrics" in sys.argv:
        send_metrics()
        return
    if "logs" in sys.argv:
        send_logs(set_span_in_context(NonRecordingSpan(EARLIER_ORDER)))
        return
    provider = TracerProvider()
    processor = BatchSpanProcessor(exporter("trace_exporter", "OTLPSpanExporter"))
    provider.add_span_processor(processor)
    parent = make_trace(provider)
    if "signals" in sys.argv:
        send_metrics()
        send_logs(set_span_in_context(NonRecordingSpan(parent)))
    if not provider.force_flush():
        sys.exit("the trace was not flushed")
    provider.shutdown()
    print(f"{parent.trace_id:032x}")


if __name__ == "__main__":
    main()
