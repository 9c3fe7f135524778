import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import java.time.Instant;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * The environment goes in; one trace by the autoconfigured SDK comes out, its id on stdout.
 *
 * <p>Its metrics and logs exporters are on by default, so one of each is sent first: what becomes of
 * them must not touch the trace.
 */
public final class Sender {
  // The child's times are given, so that each nanosecond of them can be checked.
  private static final Instant BEGAN = Instant.ofEpochSecond(1767225600, 123456789);
  private static final long PATIENCE_SECONDS = 20;

  private Sender() {}

  public static void main(String[] arguments) {
    OpenTelemetrySdk sdk = AutoConfiguredOpenTelemetrySdk.initialize().getOpenTelemetrySdk();
    sendOtherSignals(sdk);
    String traceId = makeTrace(sdk.getTracerProvider().get("shop.checkout", "1.2.3"));
    if (!sdk.getSdkTracerProvider()
        .forceFlush()
        .join(PATIENCE_SECONDS, TimeUnit.SECONDS)
        .isSuccess()) {
      System.err.println("the trace was not flushed");
      System.exit(1);
    }
    sdk.shutdown().join(PATIENCE_SECONDS, TimeUnit.SECONDS);
    System.out.println(traceId);
  }

  private static void sendOtherSignals(OpenTelemetrySdk sdk) {
    sdk.getMeter("shop.checkout").counterBuilder("orders").build().add(1);
    sdk.getSdkMeterProvider().forceFlush().join(PATIENCE_SECONDS, TimeUnit.SECONDS);
    sdk.getLogsBridge()
        .get("shop.checkout")
        .logRecordBuilder()
        .setSeverity(Severity.INFO)
        .setBody("order taken")
        .emit();
    sdk.getSdkLoggerProvider().forceFlush().join(PATIENCE_SECONDS, TimeUnit.SECONDS);
  }

  private static String makeTrace(Tracer tracer) {
    Span parent =
        tracer
            .spanBuilder("POST /orders")
            .setSpanKind(SpanKind.SERVER)
            .setAttribute("text", "Grüße, 世界 🚀")
            .setAttribute("big", (1L << 53) + 1)
            .setAttribute("ratio", 0.1)
            .setAttribute("paid", true)
            .setAttribute(AttributeKey.stringArrayKey("items"), List.of("tea", "cup"))
            .startSpan();
    SpanContext earlierOrder =
        SpanContext.createFromRemoteParent(
            "0af7651916cd43dd8448eb211c80319c",
            "b7ad6b7169203331",
            TraceFlags.getSampled(),
            TraceState.getDefault());
    Span child =
        tracer
            .spanBuilder("charge card")
            .setParent(Context.root().with(parent))
            .setSpanKind(SpanKind.CLIENT)
            .setStartTimestamp(BEGAN)
            .addLink(earlierOrder, Attributes.of(AttributeKey.stringKey("why"), "second try"))
            .startSpan();
    Attributes decline =
        Attributes.builder().put("reason", "no funds").put("attempt", 2L).build();
    child.addEvent("declined", decline, BEGAN.plusNanos(1000001));
    child.setStatus(StatusCode.ERROR, "card declined");
    child.end(BEGAN.plusNanos(2000003));
    parent.end();
    return parent.getSpanContext().getTraceId();
  }
}
