// The generation of exporters that send by `fetch`.
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { TracerProvider } from '@opentelemetry/sdk-trace';
import { sendSpan } from '../send.js';

globalThis.send = (options) =>
  sendSpan(
    new OTLPTraceExporter(options),
    (processor) => new TracerProvider({ spanProcessors: [processor] }),
  );
