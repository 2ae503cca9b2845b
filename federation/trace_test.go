package federation

import (
	"context"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// A request between providers is one trace: what the answering side does belongs
// to the asking side's request.
func TestTraceGoesAlong(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	before, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	otel.SetTracerProvider(sdk.NewTracerProvider(sdk.WithSpanProcessor(spans)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	t.Cleanup(func() {
		otel.SetTracerProvider(before)
		otel.SetTextMapPropagator(propagator)
	})
	_, b := two(t, providerConfig{})
	ctx, root := otel.Tracer("test").Start(context.Background(), "root")
	if _, err := b.client.Peer("a.example").SubmitMessage(ctx, "b.example", roomA, submitRequest(t)); err != nil {
		t.Fatal(err)
	}
	root.End()
	var asked, answered sdk.ReadOnlySpan
	for deadline := time.Now().Add(5 * time.Second); answered == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, s := range spans.Ended() {
			switch {
			case s.Name() != "submitMessage":
			case s.SpanKind() == trace.SpanKindClient:
				asked = s
			case s.SpanKind() == trace.SpanKindServer:
				answered = s
			}
		}
	}
	if asked == nil || answered == nil {
		t.Fatalf("the spans of both sides are missing: %v", spans.Ended())
	}
	if asked.Parent().SpanID() != root.SpanContext().SpanID() {
		t.Error("the request is not below the one who made it")
	}
	if answered.Parent().SpanID() != asked.SpanContext().SpanID() || answered.SpanContext().TraceID() != root.SpanContext().TraceID() {
		t.Errorf("the answering side's span is below %v, not below the request %v", answered.Parent().SpanID(), asked.SpanContext().SpanID())
	}
}
