// The environment goes in; one trace by a stock exporter comes out, its id on stdout. With the
// argument `signals` metrics and log records are sent first, with `metrics` or `logs` these alone.
import {
  DiagConsoleLogger,
  DiagLogLevel,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  ValueType,
  diag,
  trace,
} from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { defaultResource, detectResources, envDetector } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';

diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);
// The child's times are given, so that each nanosecond of them can be checked.
const second = Math.floor(Date.now() / 1000) - 1;
const began = (nanoseconds) => [second, 123456789 + nanoseconds];
const big = 2 ** 53 + 2; // odd integers of this size are no numbers of JavaScript
const earlierOrder = {
  traceId: '0af7651916cd43dd8448eb211c80319c',
  spanId: 'b7ad6b7169203331',
  traceFlags: TraceFlags.SAMPLED,
  isRemote: true,
};

// Two packages for each signal: this variable is what tells them apart.
const encoding = process.env.OTEL_EXPORTER_OTLP_PROTOCOL === 'http/json' ? 'http' : 'proto';
const exporters = (signal) => import(`@opentelemetry/exporter-${signal}-otlp-${encoding}`);
// As the SDKs do by themselves where they are set up by the environment.
const resource = defaultResource().merge(detectResources({ detectors: [envDetector] }));

async function sendMetrics() {
  const { OTLPMetricExporter } = await exporters('metrics');
  const reader = new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter() });
  const provider = new MeterProvider({ resource, readers: [reader] });
  const meter = provider.getMeter('shop.checkout', '1.2.3');
  meter
    .createCounter('orders', { unit: '1', description: 'Orders taken', valueType: ValueType.INT })
    .add(3, { region: 'eu', express: true });
  const values = meter.createHistogram('order.value', {
    unit: 'EUR',
    description: 'What an order costs',
  });
  values.record(5.5);
  values.record(70);
  await provider.forceFlush();
  await provider.shutdown();
}

async function sendLogs(parent) {
  const { OTLPLogExporter } = await exporters('logs');
  const processor = new BatchLogRecordProcessor({ exporter: new OTLPLogExporter() });
  const provider = new LoggerProvider({ resource, processors: [processor] });
  const logger = provider.getLogger('shop.checkout', '1.2.3');
  const context = trace.setSpan(ROOT_CONTEXT, parent);
  logger.emit({
    timestamp: began(0),
    context,
    severityNumber: SeverityNumber.INFO,
    severityText: 'INFO',
    body: 'Grüße, 世界 🚀',
    attributes: { big },
  });
  logger.emit({
    timestamp: began(0),
    context,
    eventName: 'order.declined',
    body: { reason: 'no funds', total: 75.5 },
  });
  await provider.forceFlush();
  await provider.shutdown();
}

function makeTrace(tracer) {
  const parent = tracer.startSpan('POST /orders', {
    kind: SpanKind.SERVER,
    attributes: {
      text: 'Grüße, 世界 🚀',
      big,
      ratio: 0.1,
      paid: true,
      items: ['tea', 'cup'],
    },
  });
  const child = tracer.startSpan(
    'charge card',
    {
      kind: SpanKind.CLIENT,
      startTime: began(0),
      links: [{ context: earlierOrder, attributes: { why: 'second try' } }],
    },
    trace.setSpan(ROOT_CONTEXT, parent),
  );
  child.addEvent('declined', { reason: 'no funds', attempt: 2 }, began(1000001));
  child.setStatus({ code: SpanStatusCode.ERROR, message: 'card declined' });
  child.end(began(2000003));
  parent.end();
  return parent;
}

if (process.argv.includes('metrics')) {
  await sendMetrics();
  process.exit();
}
if (process.argv.includes('logs')) {
  await sendLogs(trace.wrapSpanContext(earlierOrder));
  process.exit();
}
const { OTLPTraceExporter } = await exporters('trace');
const provider = new BasicTracerProvider({
  resource,
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
});
const parent = makeTrace(provider.getTracer('shop.checkout', '1.2.3'));
if (process.argv.includes('signals')) {
  await sendMetrics();
  await sendLogs(parent);
}
await provider.forceFlush();
await provider.shutdown();
console.log(parent.spanContext().traceId);
