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

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

const (
	// pingEvery is how often the provider looks whether a client is there.
	pingEvery = 50 * time.Second
	// writeTimeout is how long a client may take to read one frame; a slower
	// one is cut off and resumes from its cursor.
	writeTimeout = 20 * time.Second
	// submitsAtOnce bounds the submits of one connection that are under way.
	submitsAtOnce = 64
)

// events serves one client's connection until either side ends it.
func (h *handler) events(w http.ResponseWriter, r *http.Request, d Device, _ string) error {
	sub, err := h.Service.Subscribe(r.Context(), d)
	if err != nil {
		return err
	}
	defer sub.Close()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled, Subprotocols: []string{subprotocol}})
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	conn.SetReadLimit(MaxMessage + 4096)
	ctx, cancel := context.WithCancelCause(r.Context())
	s := &stream{h: h, d: d, request: r, conn: conn, sub: sub, cancel: cancel, submits: make(chan struct{}, submitsAtOnce)}
	var wg sync.WaitGroup
	wg.Go(func() { s.end(s.push(ctx)) })
	wg.Go(func() { s.end(s.ping(ctx)) })
	s.end(s.pull(ctx, &wg))
	wg.Wait()
	err = context.Cause(ctx)
	switch status := websocket.CloseStatus(err); {
	case status == websocket.StatusNormalClosure, status == websocket.StatusGoingAway, errors.Is(err, context.Canceled):
		conn.Close(websocket.StatusNormalClosure, "")
	default:
		h.Logger.Debug("client connection ended", "client", string(d.Client), "error", err)
	}
	return nil
}

type stream struct {
	h       *handler
	d       Device
	request *http.Request // that opened the connection
	conn    *websocket.Conn
	sub     Subscription
	cancel  context.CancelCauseFunc
	submits chan struct{}
}

func (s *stream) end(err error) {
	if err == nil {
		err = context.Canceled
	}
	s.cancel(err)
}

func (s *stream) write(ctx context.Context, f *Frame) error {
	b, err := tlspl.Marshal(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageBinary, b)
}

// push sends events as they come.
func (s *stream) push(ctx context.Context) error {
	for {
		list, err := s.sub.Next(ctx)
		if err != nil {
			return err
		}
		if err := s.write(ctx, &Frame{Type: FrameEvents, Events: list}); err != nil {
			return err
		}
	}
}

func (s *stream) ping(ctx context.Context) error {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			// A session that has ended ends its connections, whichever node ended it.
			if d, err := s.h.authenticate(s.request); err != nil && asError(err).Code == CodeUnauthorized || err == nil && d != s.d {
				return errors.Join(err, errors.New("the session has ended"))
			}
			if err := s.conn.Ping(ctx); err != nil {
				return err
			}
		}
	}
}

// pull reads what the client sends.
func (s *stream) pull(ctx context.Context, wg *sync.WaitGroup) error {
	for {
		kind, b, err := s.conn.Read(ctx)
		if err != nil {
			return err
		}
		var f Frame
		if err := tlspl.UnmarshalAlias(b, &f); err != nil || kind != websocket.MessageBinary {
			s.conn.Close(websocket.StatusUnsupportedData, "a frame can't be read")
			return errors.Join(err, errors.New("a frame can't be read"))
		}
		switch f.Type {
		case FrameAck:
			if err := s.sub.Ack(ctx, f.Room, int64(f.Seq)); err != nil {
				return err
			}
		case FrameSubmit:
			// Who sends too fast is read more slowly.
			if err := s.h.users.submits(s.d.User).Wait(ctx); err != nil {
				return err
			}
			select {
			case s.submits <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			wg.Go(func() {
				defer func() { <-s.submits }()
				if err := s.submit(ctx, f.ID, f.Room, f.Body); err != nil {
					s.end(err)
				}
			})
		default:
			return errors.New("a frame of this type comes from a provider")
		}
	}
}

func (s *stream) submit(ctx context.Context, id uint64, room mimi.RoomURI, body []byte) error {
	start := time.Now()
	ctx, span := otel.Tracer(tracer).Start(ctx, "client: submitMessage", trace.WithSpanKind(trace.SpanKindServer))
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
	return s.write(ctx, answer)
}
