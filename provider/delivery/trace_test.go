package delivery

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/comity-im/comity/store"
)

// A delivery belongs to the trace of its first message and names the others'.
func TestDeliveryJoinsTraces(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder)))
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	span := func() trace.SpanContext {
		_, s := otel.Tracer("test").Start(context.Background(), "message")
		return s.SpanContext()
	}
	first, second, elsewhere := span(), span(), span()
	d := New(Config{})
	d.Traced(1, 5, first)
	d.Traced(1, 6, second)
	d.Traced(2, 5, elsewhere)
	ctx, end := d.spans.start(context.Background(), "b.example", store.Room{ID: 1}, []store.Event{{Seq: 4}, {Seq: 5}, {Seq: 6}})
	if got := trace.SpanContextFromContext(ctx).TraceID(); got != first.TraceID() {
		t.Errorf("the request goes in trace %v, the message's is %v", got, first.TraceID())
	}
	end(nil)
	ended := recorder.Ended()
	if len(ended) != 1 || ended[0].Parent().SpanID() != first.SpanID() || len(ended[0].Links()) != 1 || ended[0].Links()[0].SpanContext.TraceID() != second.TraceID() {
		t.Errorf("not one span below the first message with a link to the second: %v", ended)
	}
	if ctx, _ := d.spans.start(context.Background(), "b.example", store.Room{ID: 3}, []store.Event{{Seq: 5}}); trace.SpanContextFromContext(ctx).IsValid() {
		t.Error("a delivery of messages without a trace is in one")
	}
	for i := range int64(2 * keptSpans) {
		d.Traced(9, i, first)
	}
	if n := len(d.spans.kept); n > keptSpans {
		t.Errorf("%d spans are kept", n)
	}
}
