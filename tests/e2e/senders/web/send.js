// An exporter, and what makes its tracer provider, go in; what came of one span comes out.
export function sendSpan(exporter, providerOf) {
  return new Promise((resolve) => {
    const processor = {
      onStart() {},
      onEnd(span) {
        const { traceId } = span.spanContext();
        exporter.export([span], ({ code, error }) => {
          resolve({ traceId, error: code === 0 ? '' : String(error) });
        });
      },
      forceFlush: () => Promise.resolve(),
      shutdown: () => Promise.resolve(),
    };
    const span = providerOf(processor).getTracer('page').startSpan('click');
    span.setAttribute('text', 'Grüße, 世界 🚀');
    span.end();
  });
}
