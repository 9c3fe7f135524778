import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.common.KeyValue;
import io.opentelemetry.api.common.Value;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.metrics.DoubleHistogram;
import io.opentelemetry.api.metrics.Meter;
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
 * <p>Its metrics and logs exporters are on by default, so some of each are sent first: what becomes
 * of them must not touch the trace.
 */
public final class Sender {
  // The child's times are given, so that each nanosecond of them can be checked.
  private static final Instant BEGAN =
      Instant.ofEpochSecond(Instant.now().getEpochSecond() - 1, 123456789);
  private static final long PATIENCE_SECONDS = 20;
  private static final String SCOPE = "shop.checkout";

  private Sender() {}

  public static void main(String[] arguments) {
    // We shut it down ourselves: its own hook would find that done, and say so.
    OpenTelemetrySdk sdk =
        AutoConfiguredOpenTelemetrySdk.builder()
            .disableShutdownHook()
            .build()
            .getOpenTelemetrySdk();
    Span parent = makeTrace(sdk.getTracerProvider().get(SCOPE, "1.2.3"));
    sendMetrics(sdk);
    sendLogs(sdk, Context.root().with(parent));
    if (!sdk.getSdkTracerProvider()
        .forceFlush()
        .join(PATIENCE_SECONDS, TimeUnit.SECONDS)
        .isSuccess()) {
      System.err.println("the trace was not flushed");
      System.exit(1);
    }
    sdk.shutdown().join(PATIENCE_SECONDS, TimeUnit.SECONDS);
    System.out.println(parent.getSpanContext().getTraceId());
  }

  private static void sendMetrics(OpenTelemetrySdk sdk) {
    Meter meter = sdk.getMeterProvider().meterBuilder(SCOPE).setInstrumentationVersion("1.2.3").build();
    meter
        .counterBuilder("orders")
        .setUnit("1")
        .setDescription("Orders taken")
        .build()
        .add(3, Attributes.builder().put("region", "eu").put("express", true).build());
    DoubleHistogram values =
        meter
            .histogramBuilder("order.value")
            .setUnit("EUR")
            .setDescription("What an order costs")
            .build();
    values.record(5.5);
    values.record(70);
    sdk.getSdkMeterProvider().forceFlush().join(PATIENCE_SECONDS, TimeUnit.SECONDS);
  }

  private static void sendLogs(OpenTelemetrySdk sdk, Context context) {
    Logger logger = sdk.getLogsBridge().loggerBuilder(SCOPE).setInstrumentationVersion("1.2.3").build();
    logger
        .logRecordBuilder()
        .setTimestamp(BEGAN)
        .setContext(context)
        .setSeverity(Severity.INFO)
        .setSeverityText("INFO")
        .setBody("Grüße, 世界 🚀")
        .setAttribute("big", (1L << 53) + 1)
        .emit();
    logger
        .logRecordBuilder()
        .setTimestamp(BEGAN)
        .setContext(context)
        .setEventName("order.declined")
        .setBody(
            Value.of(
                KeyValue.of("reason", Value.of("no funds")),
                KeyValue.of("total", Value.of(75.5))))
        .emit();
    sdk.getSdkLoggerProvider().forceFlush().join(PATIENCE_SECONDS, TimeUnit.SECONDS);
  }

  private static Span makeTrace(Tracer tracer) {
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
    return parent;
  }
}
