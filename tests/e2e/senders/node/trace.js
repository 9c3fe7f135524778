// A stock exporter goes in; a parent and its child go out through it, their trace id on stdout.
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, trace } from '@opentelemetry/api';
import { defaultResource, detectResources, envDetector } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';

// The child's times are given, so that each nanosecond of them can be checked.
const began = (nanoseconds) => [1767225600, 123456789 + nanoseconds];
const earlierOrder = {
  traceId: '0af7651916cd43dd8448eb211c80319c',
  spanId: 'b7ad6b7169203331',
  traceFlags: TraceFlags.SAMPLED,
  isRemote: true,
};

export async function sendTrace(exporter) {
  const provider = new BasicTracerProvider({
    resource: defaultResource().merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new BatchSpanProcessor(exporter)],
  });
  const traceId = makeTrace(provider.getTracer('shop.checkout', '1.2.3'));
  await provider.forceFlush();
  await provider.shutdown();
  console.log(traceId);
}

function makeTrace(tracer) {
  const parent = tracer.startSpan('POST /orders', {
    kind: SpanKind.SERVER,
    attributes: {
      text: 'Grüße, 世界 🚀',
      big: 2 ** 53 + 2, // odd integers of this size are no numbers of JavaScript
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
  return parent.spanContext().traceId;
}
