package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"slices"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/provider/follower"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/tlspl"
)

// tracer is the name under which spans are made.
const tracer = "github.com/comity-im/comity/provider/hub"

// batchMessages bounds how many messages of a room are accepted together.
const batchMessages = 256

// A submission is an application message that waits to be accepted.
type submission struct {
	from   mimi.ProviderDomain
	req    *mimi.SubmitMessageRequest
	digest [32]byte
	span   trace.SpanContext

	// Of a message that may be accepted:
	tag      []byte
	audience []string // empty: all
	fanout   mimi.FanoutMessage

	resp *mimi.SubmitMessageResponse
	err  error
	done chan struct{}
}

func (s *submission) finish(err error) {
	s.err = err
	close(s.done)
}

func (s *submission) answer(resp *mimi.SubmitMessageResponse) {
	s.resp = resp
	close(s.done)
}

// SubmitMessage accepts an application message (MIMI protocol §5.4). It returns
// when the message is on disk.
func (h *Hub) SubmitMessage(ctx context.Context, from mimi.ProviderDomain, uri mimi.RoomURI, req *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	digest, err := req.AppMessage.Digest()
	if err != nil {
		return nil, &mimi.MalformedError{Err: err}
	}
	r, err := h.room(uri)
	if err != nil {
		return nil, err
	}
	ctx, span := otel.Tracer(tracer).Start(ctx, "hub: accept a message")
	defer span.End()
	s := &submission{from: from, req: req, digest: digest, span: span.SpanContext(), done: make(chan struct{})}
	if err := r.enqueue(s); err != nil {
		return nil, err
	}
	select {
	case <-s.done:
		return s.resp, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// submit accepts a batch of messages: each is judged by the room's state, then
// all are appended in one transaction.
func (r *hosted) submit(batch []*submission) {
	for tries := 0; ; tries++ {
		st, err := r.load()
		if err != nil {
			for _, s := range batch {
				s.finish(err)
			}
			return
		}
		accepted := r.judge(st, batch)
		if len(accepted) == 0 {
			return
		}
		err = r.accept(st, accepted)
		if !errors.Is(err, store.ErrConflict) || tries >= 20 {
			for _, s := range accepted {
				if err != nil {
					s.finish(err)
				} else {
					s.answer(success(s))
				}
			}
			return
		}
		// The room changed on another node, or one of them was accepted before.
		r.state = nil
		if batch = r.unseen(accepted); len(batch) == 0 {
			return
		}
	}
}

func success(s *submission) *mimi.SubmitMessageResponse {
	return &mimi.SubmitMessageResponse{Protocol: mimi.MLS10, StatusCode: mimi.SubmitSuccess, AcceptedTimestamp: s.fanout.Timestamp, Frank: s.fanout.Frank}
}

// judge answers the messages that may not be accepted and returns the others.
func (r *hosted) judge(st *state, batch []*submission) []*submission {
	accepted := batch[:0:0]
	seen := map[[32]byte]bool{}
	checked := false
	for i, s := range batch {
		sub, err := st.room.Submit(room.SubmitInput{From: s.from, Sending: s.req.SendingURI, Message: &s.req.AppMessage})
		if err != nil {
			// Nothing is refused by a state that another node has left behind.
			if !checked {
				checked = true
				fresh, failed := r.current()
				if failed != nil {
					for _, s := range batch[i:] {
						s.finish(failed)
					}
					return accepted
				}
				if fresh != st {
					return append(accepted, r.judge(fresh, batch[i:])...)
				}
			}
			// What was accepted before is answered as it was, whatever has
			// changed since. Decision 38
			var refusal *room.SubmitRefusal
			if resp, failed := r.repeated(s); failed != nil {
				s.finish(failed)
			} else if resp != nil {
				s.answer(resp)
			} else if errors.As(err, &refusal) {
				r.h.cfg.Refused(r.uri, s.from, "submitMessage", refusal.Code.String(), err)
				s.answer(refusal.Response())
			} else {
				s.finish(err)
			}
			continue
		}
		if seen[s.digest] {
			s.finish(&mimi.RefusedError{Refusal: mimi.RefusedTooMany, Reason: "the same message is being accepted at this moment", RetryAfter: time.Second})
			continue
		}
		seen[s.digest] = true
		s.tag = sub.FrankingTag
		s.audience = nil
		if len(sub.Providers) != len(st.room.Providers()) {
			for _, d := range sub.Providers {
				s.audience = append(s.audience, string(d))
			}
		}
		accepted = append(accepted, s)
	}
	return accepted
}

// repeated finds the answer to a message that was accepted before; nil if it was
// not.
func (r *hosted) repeated(s *submission) (*mimi.SubmitMessageResponse, error) {
	st, err := r.load()
	if err != nil {
		return nil, err
	}
	var e store.Event
	err = r.h.cfg.Store.View(context.Background(), func(tx *store.Tx) (err error) {
		e, err = tx.EventByDigest(st.row.ID, s.digest)
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && e.Source != string(s.from) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := tlspl.UnmarshalAlias(e.Body, &s.fanout); err != nil {
		return nil, err
	}
	return success(s), nil
}

// unseen answers those of a batch that were accepted before and returns the
// others.
func (r *hosted) unseen(batch []*submission) []*submission {
	rest := batch[:0:0]
	for _, s := range batch {
		switch resp, err := r.repeated(s); {
		case err != nil:
			s.finish(err)
		case resp != nil:
			s.answer(resp)
		default:
			rest = append(rest, s)
		}
	}
	return rest
}

// accept gives each message its time and frank and appends all of them.
func (r *hosted) accept(st *state, batch []*submission) error {
	at := r.h.nextMillis(st.row.LastMillis)
	for i, s := range batch {
		s.fanout = mimi.FanoutMessage{Timestamp: mimi.Millis(at + int64(i)), Message: s.req.AppMessage}
	}
	if err := r.frank(st, batch); err != nil {
		return err
	}
	events := make([]store.Event, len(batch))
	for i, s := range batch {
		var err error
		if events[i], err = follower.DigestedEvent(&s.fanout, s.from, s.digest); err != nil {
			return err
		}
		events[i].Audience = s.audience
	}
	var spans []trace.SpanContext
	if slices.ContainsFunc(batch, func(s *submission) bool { return s.span.IsSampled() }) {
		for _, s := range batch {
			spans = append(spans, s.span)
		}
	}
	return r.append(st, events, nil, spans...)
}

// frank stamps the messages that carry a tag (MIMI protocol §5.4.1.2), over the
// cores if there are many.
func (r *hosted) frank(st *state, batch []*submission) error {
	if st.agent == nil {
		return nil
	}
	errs := make([]error, len(batch))
	// All have one key but around the time that a new one begins.
	first, last := uint64(batch[0].fanout.Timestamp), uint64(batch[len(batch)-1].fanout.Timestamp)
	shared, err := r.h.cfg.Keys.HubKey(r.uri, first)
	if err != nil {
		return err
	}
	if !r.h.cfg.Keys.Same(first, last) {
		shared = nil
	}
	one := func(i int) {
		s := batch[i]
		if s.tag == nil {
			return
		}
		key := shared
		if key == nil {
			if key, errs[i] = r.h.cfg.Keys.HubKey(r.uri, uint64(s.fanout.Timestamp)); errs[i] != nil {
				return
			}
		}
		x := &mimi.ServerFrankingContext{SenderURI: s.req.SendingURI, RoomURI: r.uri, AcceptedTimestamp: s.fanout.Timestamp}
		s.fanout.Frank, errs[i] = mimi.NewFrank(rand.Reader, st.agent, key, mimi.FrankingTag(s.tag), x)
	}
	if workers := min(runtime.GOMAXPROCS(0), len(batch)/4); workers > 1 {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := w; i < len(batch); i += workers {
					one(i)
				}
			})
		}
		wg.Wait()
	} else {
		for i := range batch {
			one(i)
		}
	}
	return errors.Join(errs...)
}
