"""The environment goes in; one span by the stock gRPC exporter comes out, its trace id printed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "packages"))

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # type: ignore[import-not-found]
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
span = provider.get_tracer("shop.checkout").start_span("POST /orders")
span.end()
provider.force_flush()
provider.shutdown()
print(f"{span.get_span_context().trace_id:032x}")
