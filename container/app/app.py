"""An app that sends: a trace of two spans every two seconds, whose id it prints.

It knows nothing of the relay. Where to send is in OTEL_EXPORTER_OTLP_ENDPOINT and its companions,
which the SDK reads.
"""

import time

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

SECONDS = 2

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=500))
tracer = provider.get_tracer("shop")

while True:
    with tracer.start_as_current_span("checkout") as span:
        trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        with tracer.start_as_current_span("charge card", kind=trace.SpanKind.CLIENT):
            time.sleep(0.01)
    print(f"trace {trace_id}")
    time.sleep(SECONDS)
