package federation

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/comity-im/comity/mimi"
)

// tracer is the name under which spans are made.
const tracer = "github.com/comity-im/comity/federation"

// traced begins the span of a peer's request, in the trace that its traceparent
// header names (W3C Trace Context). A peer must be proven before: strangers
// don't write into our traces.
func traced(r *http.Request, endpoint string, from mimi.ProviderDomain) (context.Context, trace.Span) {
	ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	return otel.Tracer(tracer).Start(ctx, endpoint, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("comity.peer", string(from))))
}
