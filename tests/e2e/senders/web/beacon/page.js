// The generation of exporters that send by `navigator.sendBeacon`, or by XMLHttpRequest once they
// have headers of their own.
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { BasicTracerProvider } from '@opentelemetry/sdk-trace-base';
import { sendSpan } from '../send.js';

globalThis.send = (options) =>
  sendSpan(new OTLPTraceExporter(options), (processor) => {
    const provider = new BasicTracerProvider();
    provider.addSpanProcessor(processor);
    return provider;
  });
