// The environment goes in; one trace by the stock HTTP exporter comes out, its id on stdout.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// The child's times are given, so that each nanosecond of them can be checked.
var began = time.Unix(1767225600, 123456789)

func main() {
	log.SetFlags(0)
	ctx := context.Background()
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		log.Fatal(err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter))
	id := makeTrace(ctx, provider)
	if err := provider.ForceFlush(ctx); err != nil {
		log.Fatal(err)
	}
	if err := provider.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(id)
}

func makeTrace(ctx context.Context, provider trace.TracerProvider) trace.TraceID {
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
	return parent.SpanContext().TraceID()
}

func earlierOrder() trace.SpanContext {
	traceID, _ := trace.TraceIDFromHex("0af7651916cd43dd8448eb211c80319c")
	spanID, _ := trace.SpanIDFromHex("b7ad6b7169203331")
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: spanID, TraceFlags: trace.FlagsSampled, Remote: true,
	})
}
