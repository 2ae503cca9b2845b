package bench

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/comity-im/comity/mimi"
)

// A receiver is an OTLP collector that keeps what it gets.
type receiver struct {
	mu    sync.Mutex
	spans map[string]span // by span ID
}

type span struct {
	*tracepb.Span
	provider string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	b, err := io.ReadAll(q.Body)
	var m collector.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(b, &m) != nil {
		http.Error(w, "not a trace request", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, from := range m.ResourceSpans {
		provider := ""
		for _, a := range from.Resource.Attributes {
			if a.Key == "service.instance.id" {
				provider = a.Value.GetStringValue()
			}
		}
		for _, scope := range from.ScopeSpans {
			for _, s := range scope.Spans {
				r.spans[string(s.SpanId)] = span{s, provider}
			}
		}
	}
}

// way is the chain of spans from the root to one, as "provider: name".
func (r *receiver) way(s span) (list []string, root span) {
	for {
		list = append([]string{s.provider + ": " + s.Name}, list...)
		up, ok := r.spans[string(s.ParentSpanId)]
		if !ok {
			return list, s
		}
		s = up
	}
}

// waitFor calls ok until it returns true.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// One message is followed from its sender's provider over the hub to another
// follower, in one trace, and is counted where it should be; then what waits for
// a follower that is down is seen.
func TestMessageIsTracedAndCounted(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	got := &receiver{spans: map[string]span{}}
	server := httptest.NewServer(got)
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	r := &run{Options: tiny(t, "hot"), ctx: ctx, byName: map[string]*process{}}
	defer r.stop()
	if err := r.start(2, 2); err != nil {
		t.Fatal(err)
	}
	uri, _, err := r.hotRoom(2, false)
	if err != nil {
		t.Fatal(err)
	}
	sender := r.byName[r.follower(1)]
	do := func(p *process, c command) {
		t.Helper()
		if _, err := p.do(c); err != nil {
			t.Fatal(err)
		}
	}
	c := command{Devices: []string{r.reader()}, Rooms: []mimi.RoomURI{uri}, Size: 50, Count: 1, Window: 1, Seconds: 20}
	c.Op = "prepare"
	do(sender, c)
	c.Op = "send"
	do(sender, c)

	var list []string
	var end, root span
	waitFor(t, "the trace of the message at the other follower", func() bool {
		got.mu.Lock()
		defer got.mu.Unlock()
		for _, s := range got.spans {
			if s.provider == r.follower(2) && s.Name == "notify" {
				// The root is sent by another process, perhaps later.
				if list, root = got.way(s); root.Name == "client: submitMessage" {
					end = s
					return true
				}
			}
		}
		return false
	})
	want := []string{"f1.example: client: submitMessage", "f1.example: submitMessage", "hub.example: submitMessage", "hub.example: hub: accept a message",
		"hub.example: hub: notify a follower", "hub.example: notify", "f2.example: notify"}
	if strings.Join(list, "\n") != strings.Join(want, "\n") {
		t.Errorf("trace %s went\n%s\nnot\n%s", hex.EncodeToString(end.TraceId), strings.Join(list, "\n"), strings.Join(want, "\n"))
	}
	got.mu.Lock()
	at := end
	for string(at.TraceId) == string(root.TraceId) && len(at.ParentSpanId) > 0 {
		at = got.spans[string(at.ParentSpanId)]
	}
	ack := got.spans[string(end.ParentSpanId)] // the request, which ends with the acknowledgement
	got.mu.Unlock()
	if string(at.SpanId) != string(root.SpanId) || ack.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR || ack.EndTimeUnixNano < end.StartTimeUnixNano {
		t.Errorf("the follower's acknowledgement is not in the trace: %v", ack.Span)
	}

	counted := func(n int, series string, least float64) {
		t.Helper()
		waitFor(t, series, func() bool {
			m, err := scrape(ctx, r.targets[n].admin)
			return err == nil && m[series] >= least
		})
	}
	counted(0, `comity_federation_peer_requests_total{endpoint="submitMessage",peer="f1.example",result="ok"}`, 1)
	counted(0, `comity_delivered_events_total{peer="f2.example"}`, 1)
	counted(0, `comity_hub_events_total{kind="commit"}`, 1) // an epoch
	counted(0, `comity_hub_events_total{kind="application"}`, 1)
	counted(0, "comity_store_sync_seconds_count", 1)
	counted(1, `comity_client_request_seconds_count{operation="submitMessage",result="ok"}`, 1)
	counted(2, `comity_federation_peer_requests_total{endpoint="notify",peer="hub.example",result="ok"}`, 1)
	counted(1, `comity_federation_client_requests_total{endpoint="submitMessage",outcome="ok",peer="hub.example"}`, 1)
	counted(1, "comity_key_package_stock_low", 1) // the floor is above the few that the load generator has

	r.targets[2].Stop()
	c.Op, c.Devices, c.Count = "prepare", r.senders[:1], 3
	do(r.hubLoad(), c)
	c.Op = "send"
	do(r.hubLoad(), c)
	counted(0, `comity_queue_events{peer="f2.example"}`, 3)
	counted(0, `comity_queue_oldest_seconds{peer="f2.example"}`, 0.001)
	counted(0, `comity_delivery_requests_total{peer="f2.example",result="failed"}`, 1)
	if err := r.targets[2].Restart(ctx); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "an empty queue", func() bool {
		m, err := scrape(ctx, r.targets[0].admin)
		return err == nil && m["comity_rooms"] > 0 && m[`comity_queue_events{peer="f2.example"}`] == 0
	})
}
