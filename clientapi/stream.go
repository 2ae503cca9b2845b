package clientapi

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

const (
	// pingEvery is how often the provider looks whether a client is there.
	pingEvery = 50 * time.Second
	// writeTimeout is how long a client may take to read one message, and
	// pongTimeout to answer a ping; a slower one is cut off and resumes from its
	// cursor.
	writeTimeout = 20 * time.Second
	pongTimeout  = 2 * time.Minute
	// submitsAtOnce bounds the submits of one connection that are under way.
	submitsAtOnce = 64
)

// events opens a client's connection, which goes on when the request is over: a
// goroutine of its own reads from it, and what else there is to do is done by
// goroutines that live no longer than it takes. over is called when it ends.
func (h *Handler) events(w http.ResponseWriter, r *http.Request, d Device, token string, over func()) error {
	if err := h.begin(); err != nil {
		over()
		return err
	}
	ctx, cancel := context.WithCancelCause(h.streams)
	s := &stream{h: h, d: d, token: token, ctx: ctx, cancel: cancel}
	err := s.open(w, r)
	if err != nil {
		cancel(err)
		over()
		h.running.Done()
		return err
	}
	go func() {
		defer h.running.Done()
		defer over()
		s.run()
	}()
	return nil
}

type stream struct {
	h       *Handler
	d       Device
	token   string // of its session
	ctx     context.Context
	cancel  context.CancelCauseFunc
	conn    *websocket.Conn
	cork    *corked
	sub     Subscription
	out     *outbox
	bucket  *rate.Limiter // of the user's messages
	submits chan struct{}
	wg      sync.WaitGroup

	mu      sync.Mutex
	pushing bool
	again   bool        // there may be more than the goroutine that pushes has seen
	over    bool        // nobody may start to push or ping
	timer   *time.Timer // of the next ping
}

func (s *stream) open(w http.ResponseWriter, r *http.Request) (err error) {
	if s.sub, err = s.h.Service.Subscribe(r.Context(), s.d); err != nil {
		return err
	}
	hw := &hijacker{ResponseWriter: w}
	s.conn, err = websocket.Accept(hw, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled, Subprotocols: []string{subprotocol}})
	if err != nil {
		s.sub.Close()
		return err
	}
	s.cork = hw.conn
	s.conn.SetReadLimit(MaxMessage + togetherBytes)
	s.bucket = s.h.users.submits(s.d.User)
	s.out = newOutbox(s.write)
	return nil
}

// run serves the connection until either side ends it.
func (s *stream) run() {
	// Reads have no context of their own, which would cost more than they do.
	stop := context.AfterFunc(s.ctx, func() { s.conn.CloseNow() })
	defer stop()
	s.sub.Watch(s.push)
	s.pings()
	s.end(s.pull())
	s.mu.Lock()
	s.over = true
	s.timer.Stop()
	s.mu.Unlock()
	s.wg.Wait()
	s.sub.Close() // nobody takes from it any more
	err := context.Cause(s.ctx)
	switch status := websocket.CloseStatus(err); {
	case status == websocket.StatusNormalClosure, status == websocket.StatusGoingAway, errors.Is(err, context.Canceled):
	default:
		s.h.Logger.Debug("client connection ended", "client", string(s.d.Client), "error", err)
	}
	s.conn.CloseNow()
}

func (s *stream) end(err error) {
	if err == nil {
		err = context.Canceled
	}
	s.cancel(err)
}

// start runs f, unless the connection is over.
func (s *stream) start(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.wg.Go(f)
	}
}

func (s *stream) write(ctx context.Context, b []byte) error {
	err := s.cork.message(func() error { return s.conn.Write(ctx, websocket.MessageBinary, b) })
	if err != nil {
		s.end(err)
	}
	return err
}

// push makes sure that somebody sends the events that there may be.
func (s *stream) push() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again = true
	if !s.pushing && !s.over {
		s.pushing = true
		s.wg.Go(s.pushAll)
	}
}

// pushAll sends events until there are no more.
func (s *stream) pushAll() {
	for {
		s.mu.Lock()
		if !s.again || s.over {
			s.pushing = false
			s.mu.Unlock()
			return
		}
		s.again = false
		s.mu.Unlock()
		for {
			list, err := s.sub.Take(s.ctx)
			if err == nil && len(list) == 0 {
				break
			}
			if err == nil {
				err = s.out.put(&Frame{Type: FrameEvents, Events: list})
			}
			if err == nil {
				err = s.out.drain() // a slow client takes no memory
			}
			if err != nil {
				s.end(err)
				return
			}
		}
	}
}

// pings looks whether the client is there, again and again.
func (s *stream) pings() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.timer = time.AfterFunc(pingEvery, func() {
		s.start(func() {
			if err := s.ping(); err != nil {
				s.end(err)
				return
			}
			s.pings()
		})
	})
}

func (s *stream) ping() error {
	// A session that has ended ends its connections, whichever node ended it.
	if d, err := s.h.Service.Authenticate(s.ctx, s.token); err != nil && asError(err).Code == CodeUnauthorized || err == nil && d != s.d {
		return errors.Join(err, errors.New("the session has ended"))
	}
	ctx, cancel := context.WithTimeout(s.ctx, pongTimeout)
	defer cancel()
	return s.conn.Ping(ctx)
}

// pull reads what the client sends.
func (s *stream) pull() error {
	for {
		kind, b, err := s.conn.Read(context.Background())
		if err != nil {
			return err
		}
		var did error
		err = frames(b, func(f *Frame) error {
			did = s.take(f)
			return did
		})
		if did != nil {
			return did
		}
		if err != nil || kind != websocket.MessageBinary {
			s.conn.Close(websocket.StatusUnsupportedData, "a frame can't be read")
			return errors.Join(err, errors.New("a frame can't be read"))
		}
	}
}

// take does what a frame asks for.
func (s *stream) take(f *Frame) error {
	switch f.Type {
	case FrameAck:
		return s.sub.Ack(s.ctx, f.Room, int64(f.Seq))
	case FrameSubmit:
		// Who sends too fast is read more slowly.
		if err := s.bucket.Wait(s.ctx); err != nil {
			return err
		}
		if s.submits == nil {
			s.submits = make(chan struct{}, submitsAtOnce)
		}
		select {
		case s.submits <- struct{}{}:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
		s.wg.Go(func() {
			defer func() { <-s.submits }()
			if err := s.submit(f.ID, f.Room, f.Body); err != nil {
				s.end(err)
			}
		})
		return nil
	}
	return errors.New("a frame of this type comes from a provider")
}

func (s *stream) submit(id uint64, room mimi.RoomURI, body []byte) error {
	start := time.Now()
	ctx, span := otel.Tracer(tracer).Start(s.ctx, "client: submitMessage", trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	answer := &Frame{Type: FrameAnswer, ID: id}
	var q mimi.SubmitMessageRequest
	err := tlspl.UnmarshalAlias(body, &q)
	if err == nil {
		var v *mimi.SubmitMessageResponse
		if v, err = s.h.Service.SubmitMessage(ctx, s.d, room, &q); err == nil {
			answer.Body, err = tlspl.Marshal(v)
		}
	}
	status := http.StatusOK
	if err != nil {
		e := s.h.refused("submitMessage", s.d.Client, err)
		status = statuses[e.Code]
		answer = &Frame{Type: FrameRefuse, ID: id, Reason: e.Code, Body: []byte(e.Message)}
	}
	s.h.Observe("submitMessage", status, time.Since(start))
	if err := s.out.put(answer); err != nil || !s.out.full() {
		return err
	}
	return s.out.drain() // who doesn't read its answers doesn't get to send more
}
