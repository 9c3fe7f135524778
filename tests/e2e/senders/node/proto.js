// The environment goes in; one trace as OTLP protobuf comes out, its id on stdout.
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { sendTrace } from './trace.js';

await sendTrace(new OTLPTraceExporter());
