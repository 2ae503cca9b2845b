package clientapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

const testRoom = mimi.RoomURI("mimi://a.example/r/room")

// talking is a provider that answers submits and has events to hand out.
type talking struct {
	busy
	subs chan *feed
	most int64 // events of one feed
}

// A feed hands out events numbered from 1, each of size octets.
type feed struct {
	size, most int64
	taken      atomic.Int64
	acked      atomic.Int64
	closed     chan struct{}
	watch      func()
}

func (f *feed) Take(context.Context) ([]Event, error) {
	n := f.taken.Add(1)
	if n > f.most {
		return nil, nil
	}
	return []Event{{Room: testRoom, Seq: n, Fanout: make([]byte, f.size)}}, nil
}

func (f *feed) Next(context.Context) ([]Event, error) { return nil, errors.New("not used") }
func (f *feed) Watch(w func())                        { f.watch = w; w() }
func (f *feed) Close()                                { close(f.closed) }
func (f *feed) Ack(_ context.Context, _ mimi.RoomURI, seq int64) error {
	f.acked.Store(seq)
	return nil
}

func (s *talking) Subscribe(_ context.Context, d Device) (Subscription, error) {
	f := &feed{size: 100_000, most: s.most, closed: make(chan struct{})}
	s.subs <- f
	return f, nil
}

func (s *talking) SubmitMessage(_ context.Context, _ Device, room mimi.RoomURI, r *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	if r.SendingURI == "mimi://a.example/u/mallory" {
		return nil, Errorf(CodeForbidden, "not you")
	}
	return &mimi.SubmitMessageResponse{Protocol: mimi.MLS10, StatusCode: mimi.SubmitSuccess, AcceptedTimestamp: 7}, nil
}

func serve(t *testing.T, s Service) (*Handler, func(user string) *Client) {
	t.Helper()
	h := NewHandler(HandlerConfig{Service: s, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	t.Cleanup(h.Close)
	return h, func(user string) *Client {
		return &Client{base: server.URL + Prefix, token: user, http: server.Client()}
	}
}

func message(sender mimi.UserURI) *mimi.SubmitMessageRequest {
	m := mimi.Message{}
	m.MLSMessage = mls.MLSMessage{Version: mls.MLS10, WireFormat: mls.WireFormatPrivateMessage, PrivateMessage: &mls.PrivateMessage{GroupID: []byte("g"), ContentType: mls.ContentApplication}}
	return &mimi.SubmitMessageRequest{Protocol: mimi.MLS10, AppMessage: m, SendingURI: sender}
}

// Answers and events share a connection; each submit gets its own answer.
func TestConnectionCarriesEventsAndAnswers(t *testing.T) {
	s := &talking{subs: make(chan *feed, 1), most: 5}
	h, client := serve(t, s)
	conn, err := client("alice").Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := <-s.subs
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			sender := mimi.UserURI("mimi://a.example/u/alice")
			if i%10 == 0 {
				sender = "mimi://a.example/u/mallory"
			}
			v, err := conn.Submit(t.Context(), testRoom, message(sender))
			var e *Error
			if i%10 == 0 && (!errors.As(err, &e) || e.Code != CodeForbidden) || i%10 != 0 && (err != nil || v.AcceptedTimestamp != 7) {
				t.Errorf("submit %d: %+v, %v", i, v, err)
			}
		})
	}
	seen := make(chan int64, 5)
	go func() {
		for {
			list, err := conn.Next(context.Background())
			if err != nil {
				return
			}
			for _, e := range list {
				seen <- e.Seq
			}
		}
	}()
	for want := range int64(5) {
		if got := <-seen; got != want+1 {
			t.Errorf("event %d, not %d", got, want+1)
		}
	}
	wg.Wait()
	if err := conn.Ack(t.Context(), testRoom, 5); err != nil {
		t.Error(err)
	}
	conn.Close()
	<-f.closed
	if f.acked.Load() != 5 {
		t.Errorf("acknowledged up to %d, not 5", f.acked.Load())
	}
	h.Close()
	if u := h.users.get("mimi://a.example/u/alice"); u.connections != 0 || u.inFlight != 0 {
		t.Errorf("%+v after the connection ended", u)
	}
}

// A client that doesn't read holds no more than what is on its way, and nobody
// else.
func TestSlowReaderHoldsNobody(t *testing.T) {
	s := &talking{subs: make(chan *feed, 2), most: 2000} // 200 MB each
	_, client := serve(t, s)
	slow, err := client("slow").Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.conn.CloseNow()
	lazy := <-s.subs
	fast, err := client("fast").Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer fast.conn.CloseNow()
	<-s.subs
	for last := int64(0); last < s.most; {
		list, err := fast.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Seq != last+1 {
				t.Fatalf("event %d after %d", e.Seq, last)
			}
			last = e.Seq
		}
	}
	if n := lazy.taken.Load(); n > 400 {
		t.Errorf("%d events of 100 kB were taken for a client that reads none", n)
	}
	// Its answers don't pile up either: they are in the same outbox, which is full.
	if _, err := slow.Next(t.Context()); err != nil {
		t.Errorf("the slow client was cut off: %v", err)
	}
}

// A frame that can't be read ends the connection with a reason.
func TestBrokenFrameEndsConnection(t *testing.T) {
	s := &talking{subs: make(chan *feed, 1)}
	_, client := serve(t, s)
	conn, err := client("alice").Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := <-s.subs
	good, _ := tlspl.Marshal(&Frame{Type: FrameAck, Room: testRoom, Seq: 3})
	if err := conn.write(t.Context(), append(good, 0xff)); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Next(t.Context())
	if websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Errorf("it ended with %v", err)
	}
	<-f.closed
	if f.acked.Load() != 3 {
		t.Error("the frame before the broken one was not taken")
	}
}

// An idle connection has one goroutine.
func TestIdleConnectionsAreCheap(t *testing.T) {
	s := &talking{subs: make(chan *feed, 64)}
	h, client := serve(t, s)
	before := runtime.NumGoroutine()
	for range 20 {
		conn, err := client("alice").Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.conn.CloseNow()
	}
	// The request's goroutine ends when the connection is taken over.
	deadline := time.Now().Add(20 * time.Second)
	for runtime.NumGoroutine() > before+20+5 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine() - before; n > 25 {
		t.Errorf("20 connections have %d goroutines", n)
	}
	h.Close()
	if _, err := client("alice").Connect(t.Context()); err == nil {
		t.Error("a closed handler took a connection")
	}
}

// What comes while a message is written goes into the next, together.
func TestOutboxGathers(t *testing.T) {
	started, proceed := make(chan []byte), make(chan error)
	o := newOutbox(func(_ context.Context, b []byte) error { started <- b; return <-proceed })
	put := func(from, to uint64) {
		for i := from; i <= to; i++ {
			if err := o.put(&Frame{Type: FrameAck, Room: testRoom, Seq: i}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(1, 1)
	first := <-started
	put(2, 50)
	proceed <- nil
	second := <-started
	next := uint64(1)
	for _, b := range [][]byte{first, second} {
		if err := frames(b, func(f *Frame) error {
			if f.Seq != next {
				t.Errorf("frame %d, not %d", f.Seq, next)
			}
			next++
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	if next != 51 {
		t.Errorf("two messages have %d frames", next-1)
	}
	// A large frame goes by itself.
	if err := o.put(&Frame{Type: FrameAnswer, Body: make([]byte, 2*togetherBytes)}); err != nil {
		t.Fatal(err)
	}
	put(51, 51)
	proceed <- nil
	if b := <-started; len(b) < 2*togetherBytes || len(b) > 2*togetherBytes+64 {
		t.Errorf("a large frame came in a message of %d octets", len(b))
	}
	// A write that fails is what everybody hears.
	broken := errors.New("broken")
	proceed <- broken
	if err := o.drain(); err != broken {
		t.Errorf("drain = %v", err)
	}
	if err := o.put(&Frame{Type: FrameAck, Room: testRoom}); err != broken {
		t.Errorf("put = %v", err)
	}
}

// pieces is a connection that notes what is written at once.
type pieces struct {
	net.Conn
	written [][]byte
}

func (p *pieces) Write(b []byte) (int, error) {
	p.written = append(p.written, bytes.Clone(b))
	return len(b), nil
}

func (p *pieces) Read(b []byte) (int, error)       { return copy(b, "later"), nil }
func (p *pieces) SetWriteDeadline(time.Time) error { return nil }

// A message is written at once, however small the buffer before it is.
func TestCorkedWritesAtOnce(t *testing.T) {
	p := &pieces{}
	c := &corked{Conn: p, ahead: []byte("early")}
	if err := c.message(func() error {
		w := bufio.NewWriterSize(c, writeBuffer)
		w.WriteString("header")
		w.Write(make([]byte, 1000))
		return w.Flush()
	}); err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("control"))
	if len(p.written) != 2 || len(p.written[0]) != 1006 || string(p.written[1]) != "control" {
		t.Errorf("%d writes", len(p.written))
	}
	b := make([]byte, 3)
	var got []byte
	for range 3 {
		n, _ := c.Read(b)
		got = append(got, b[:n]...)
	}
	if string(got) != "earlylat" {
		t.Errorf("read %q", got)
	}
}
