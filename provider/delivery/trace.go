package delivery

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// keptSpans is how many events are remembered with their trace. One that was
// forgotten is delivered outside of it.
const keptSpans = 4096

// spans joins the delivery of events, which comes later and by another
// goroutine, to the traces that they were submitted in.
type spans struct {
	mu   sync.Mutex
	kept map[spanKey]trace.SpanContext
}

type spanKey struct{ room, seq int64 }

// Traced says which trace an event belongs to.
func (d *Deliverer) Traced(room, seq int64, span trace.SpanContext) {
	s := &d.spans
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil || len(s.kept) >= keptSpans {
		s.kept = map[spanKey]trace.SpanContext{}
	}
	s.kept[spanKey{room, seq}] = span
}

// start begins the span of a request to a follower: in the trace of its first
// event that has one, with links to the others.
func (s *spans) start(ctx context.Context, to mimi.ProviderDomain, room store.Room, events []store.Event) (context.Context, func(error)) {
	var found []trace.SpanContext
	s.mu.Lock()
	if len(s.kept) > 0 {
		for i := range events {
			if span, ok := s.kept[spanKey{room.ID, events[i].Seq}]; ok {
				found = append(found, span)
			}
		}
	}
	s.mu.Unlock()
	if len(found) == 0 {
		return ctx, func(error) {}
	}
	var links []trace.Link
	for _, other := range found[1:] {
		links = append(links, trace.Link{SpanContext: other})
	}
	ctx, span := otel.Tracer("github.com/comity-im/comity/provider/delivery").Start(trace.ContextWithRemoteSpanContext(ctx, found[0]), "hub: notify a follower",
		trace.WithLinks(links...), trace.WithAttributes(attribute.String("comity.follower", string(to)), attribute.String("comity.room", room.URI), attribute.Int("comity.events", len(events))))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}
