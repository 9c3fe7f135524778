// The environment goes in; one trace by the stock HTTP exporter comes out, its id on stdout. With the
// argument `signals` metrics and log records are sent first, with `metrics` or `logs` these alone.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otellog "go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// The child's times are given, so that each nanosecond of them can be checked.
var began = time.Unix(time.Now().Unix()-1, 123456789)

func main() {
	log.SetFlags(0)
	ctx := context.Background()
	if slices.Contains(os.Args, "metrics") {
		sendMetrics(ctx)
		return
	}
	if slices.Contains(os.Args, "logs") {
		sendLogs(trace.ContextWithSpanContext(ctx, earlierOrder()))
		return
	}
	exporter, err := otlptracehttp.New(ctx)
	check(err)
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter))
	parent := makeTrace(ctx, provider)
	if slices.Contains(os.Args, "signals") {
		sendMetrics(ctx)
		sendLogs(trace.ContextWithSpanContext(ctx, parent))
	}
	check(provider.ForceFlush(ctx))
	check(provider.Shutdown(ctx))
	fmt.Println(parent.TraceID())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func sendMetrics(ctx context.Context) {
	exporter, err := otlpmetrichttp.New(ctx)
	check(err)
	provider := sdkmetric.NewMeterProvider(
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	meter := provider.Meter("shop.checkout", metric.WithInstrumentationVersion("1.2.3"))
	orders, err := meter.Int64Counter("orders",
		metric.WithUnit("1"), metric.WithDescription("Orders taken"))
	check(err)
	orders.Add(ctx, 3, metric.WithAttributes(
		attribute.String("region", "eu"), attribute.Bool("express", true)))
	values, err := meter.Float64Histogram("order.value",
		metric.WithUnit("EUR"), metric.WithDescription("What an order costs"))
	check(err)
	values.Record(ctx, 5.5)
	values.Record(ctx, 70)
	check(provider.ForceFlush(ctx))
	check(provider.Shutdown(ctx))
}

func sendLogs(ctx context.Context) {
	exporter, err := otlploghttp.New(ctx)
	check(err)
	provider := sdklog.NewLoggerProvider(
		sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)))
	logger := provider.Logger("shop.checkout", otellog.WithInstrumentationVersion("1.2.3"))

	var line otellog.Record
	line.SetTimestamp(began)
	line.SetSeverity(otellog.SeverityInfo)
	line.SetSeverityText("INFO")
	line.SetBody(attribute.StringValue("Grüße, 世界 🚀"))
	line.AddAttributes(attribute.Int64("big", 1<<53+1))
	logger.Emit(ctx, line)

	var event otellog.Record
	event.SetTimestamp(began)
	event.SetEventName("order.declined")
	event.SetBody(attribute.MapValue(
		attribute.String("reason", "no funds"), attribute.Float64("total", 75.5)))
	logger.Emit(ctx, event)
	check(provider.ForceFlush(ctx))
	check(provider.Shutdown(ctx))
}

func makeTrace(ctx context.Context, provider trace.TracerProvider) trace.SpanContext {
	tracer := provider.Tracer("shop.checkout", trace.WithInstrumentationVersion("1.2.3"))
	ctx, parent := tracer.Start(ctx, "POST /orders",
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(
			attribute.String("text", "Grüße, 世界 🚀"),
			attribute.Int64("big", 1<<53+1),
			attribute.Float64("ratio", 0.1),
			attribute.Bool("paid", true),
			attribute.StringSlice("items", []string{"tea", "cup"}),
		))
	_, child := tracer.Start(ctx, "charge card",
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithTimestamp(began),
		trace.WithLinks(trace.Link{SpanContext: earlierOrder(), Attributes: []attribute.KeyValue{
			attribute.String("why", "second try"),
		}}))
	child.AddEvent("declined", trace.WithTimestamp(began.Add(1000001)), trace.WithAttributes(
		attribute.String("reason", "no funds"),
		attribute.Int("attempt", 2),
	))
	child.SetStatus(codes.Error, "card declined")
	child.End(trace.WithTimestamp(began.Add(2000003)))
	parent.End()
	return parent.SpanContext()
}

func earlierOrder() trace.SpanContext {
	traceID, _ := trace.TraceIDFromHex("0af7651916cd43dd8448eb211c80319c")
	spanID, _ := trace.SpanIDFromHex("b7ad6b7169203331")
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: spanID, TraceFlags: trace.FlagsSampled, Remote: true,
	})
}
