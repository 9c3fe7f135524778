// The environment goes in; one trace as OTLP/JSON comes out, its id on stdout.
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { sendTrace } from './trace.js';

await sendTrace(new OTLPTraceExporter());
