package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

// A load is messages that were encrypted beforehand, and what became of them.
type load struct {
	next     atomic.Int64
	requests []*mimi.SubmitMessageRequest
	rooms    []mimi.RoomURI

	cpu               time.Duration // of the process before the first was sent
	accepted, refused atomic.Int64
	mu                sync.Mutex
	times             []time.Duration
	failed            error
}

// prepare encrypts messages of a member, in turn for each room.
func (l *load) prepare(m *member, rooms []mimi.RoomURI, n, size int) error {
	for i := range n {
		uri := rooms[i%len(rooms)]
		q, err := m.encrypt(uri, size)
		if err != nil {
			return err
		}
		l.requests = append(l.requests, q)
		l.rooms = append(l.rooms, uri)
	}
	return nil
}

// run sends with so many at a time until there are no more or time is up.
func (l *load) run(ctx context.Context, atOnce int, until time.Time, submit func(context.Context, mimi.RoomURI, *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error)) {
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			var times []time.Duration
			defer func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.times = append(l.times, times...)
			}()
			for {
				i := int(l.next.Add(1)) - 1
				start := time.Now()
				if i >= len(l.requests) || start.After(until) {
					return
				}
				resp, err := submit(ctx, l.rooms[i], l.requests[i])
				switch {
				case err != nil:
					l.refused.Add(1)
					l.mu.Lock()
					l.failed = err
					l.mu.Unlock()
				case resp.StatusCode != mimi.SubmitSuccess:
					l.refused.Add(1)
				default:
					l.accepted.Add(1)
					times = append(times, time.Since(start))
				}
			}
		})
	}
	wg.Wait()
}

func (l *load) answer(seconds float64) (*answer, error) {
	if l.accepted.Load() == 0 && l.failed != nil {
		return nil, l.failed
	}
	cpu := usageOf(os.Getpid()).cpu - l.cpu
	return &answer{N: l.accepted.Load(), Refused: l.refused.Load(), Seconds: seconds, Times: quantiles(l.times), CPU: cpu.Seconds()}, nil
}

// targets are the rooms of a command.
func (c *command) targets() []mimi.RoomURI {
	if c.Room != "" {
		return []mimi.RoomURI{c.Room}
	}
	return c.Rooms
}

// prepare encrypts what send will send.
func (w *worker) prepare(c *command) (*answer, error) {
	w.loads = make([]load, len(c.Devices))
	for i, name := range c.Devices {
		d, err := w.device(name)
		if err != nil {
			return nil, err
		}
		if err := w.loads[i].prepare(d.member, c.targets(), c.Count/len(c.Devices), c.Size); err != nil {
			return nil, err
		}
	}
	return &answer{}, nil
}

// send submits what was prepared over the devices' connections, as fast as may
// be.
func (w *worker) send(ctx context.Context, c *command) (*answer, error) {
	sum := &load{cpu: usageOf(os.Getpid()).cpu}
	start := time.Now()
	until := start.Add(time.Duration(c.Seconds * float64(time.Second)))
	var wg sync.WaitGroup
	for i := range w.loads {
		d, err := w.device(c.Devices[i])
		if err != nil {
			return nil, err
		}
		wg.Go(func() { w.loads[i].run(ctx, c.Window, until, d.conn.Submit) })
	}
	wg.Wait()
	seconds := time.Since(start).Seconds()
	for i := range w.loads {
		l := &w.loads[i]
		sum.accepted.Add(l.accepted.Load())
		sum.refused.Add(l.refused.Load())
		sum.times = append(sum.times, l.times...)
		sum.failed = errors.Join(sum.failed, l.failed)
	}
	w.loads = nil
	return sum.answer(seconds)
}

// paced sends at a rate, each message encrypted when it is sent, so that those
// who decrypt it know how long it took.
func (w *worker) paced(ctx context.Context, c *command) (*answer, error) {
	d, err := w.device(c.Devices[0])
	if err != nil {
		return nil, err
	}
	l := &load{cpu: usageOf(os.Getpid()).cpu}
	start := time.Now()
	var wg sync.WaitGroup
	rooms := c.targets()
	for i := 0; ; i++ {
		at := start.Add(time.Duration(float64(i) / c.Rate * float64(time.Second)))
		if at.Sub(start).Seconds() > c.Seconds {
			break
		}
		time.Sleep(time.Until(at))
		uri := rooms[i%len(rooms)]
		sent := time.Now()
		q, err := d.encrypt(uri, c.Size)
		if err != nil {
			return nil, err
		}
		wg.Go(func() {
			resp, err := d.conn.Submit(ctx, uri, q)
			took := time.Since(sent)
			l.mu.Lock()
			defer l.mu.Unlock()
			if err != nil || resp.StatusCode != mimi.SubmitSuccess {
				l.refused.Add(1)
				l.failed = err
				return
			}
			l.accepted.Add(1)
			l.times = append(l.times, took)
		})
	}
	wg.Wait()
	return l.answer(time.Since(start).Seconds())
}

// prepareForeign encrypts what federate will send.
func (w *worker) prepareForeign(ctx context.Context, c *command) (*answer, error) {
	w.foreign.mu.Lock()
	var m *member
	for _, s := range w.foreign.senders {
		if s.user == c.Users[0] {
			m = s
		}
	}
	w.foreign.mu.Unlock()
	if m == nil {
		return nil, fmt.Errorf("bench: %s is nobody here", c.Users[0])
	}
	for _, uri := range c.targets() {
		if _, err := m.room(ctx, uri); err != nil {
			return nil, err
		}
	}
	w.loads = make([]load, 1)
	return &answer{}, w.loads[0].prepare(m, c.targets(), c.Count, c.Size)
}

// federate submits as a follower does: one request a message.
func (w *worker) federate(ctx context.Context, c *command) (*answer, error) {
	l := &w.loads[0]
	l.cpu = usageOf(os.Getpid()).cpu
	start := time.Now()
	l.run(ctx, c.Window, start.Add(time.Duration(c.Seconds*float64(time.Second))), func(ctx context.Context, uri mimi.RoomURI, q *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
		return w.foreign.client.Peer(uri.Host()).SubmitMessage(ctx, foreignDomain, uri, q)
	})
	a, err := l.answer(time.Since(start).Seconds())
	w.loads = nil
	return a, err
}

// floor posts bodies to the empty handler, over one HTTP/2 connection, as the
// providers do among themselves.
func (w *worker) floor(ctx context.Context, c *command) (*answer, error) {
	cfg := w.tls.Clone()
	cfg.ServerName = string(foreignDomain)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	body := randomBytes(c.Size)
	l := &load{requests: make([]*mimi.SubmitMessageRequest, c.Count), rooms: make([]mimi.RoomURI, c.Count)}
	l.cpu = usageOf(os.Getpid()).cpu
	start := time.Now()
	l.run(ctx, c.Window, start.Add(time.Duration(c.Seconds*float64(time.Second))), func(ctx context.Context, _ mimi.RoomURI, _ *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(r)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return &mimi.SubmitMessageResponse{StatusCode: mimi.SubmitSuccess}, err
	})
	return l.answer(time.Since(start).Seconds())
}

// commits makes empty commits one after the other: each has a new path.
func (w *worker) commits(ctx context.Context, c *command) (*answer, error) {
	d, err := w.device(c.Devices[0])
	if err != nil {
		return nil, err
	}
	r, err := d.room(ctx, c.Room)
	if err != nil {
		return nil, err
	}
	d.group.Lock()
	defer d.group.Unlock()
	var times []time.Duration
	a := &answer{}
	start := time.Now()
	for a.N == 0 || time.Since(start).Seconds() < c.Seconds && a.N < int64(c.Count) {
		s, err := r.Commit(rand.Reader, 0)
		if err != nil {
			return nil, err
		}
		q := &mimi.UpdateRequest{Bundle: *s.Bundle()}
		b, err := tlspl.Marshal(q)
		if err != nil {
			return nil, err
		}
		a.Bytes = int64(len(b))
		sent := time.Now()
		if err := d.commit(ctx, c.Room, r, s); err != nil {
			return nil, err
		}
		times = append(times, time.Since(sent))
		a.N++
	}
	a.Seconds, a.Times = time.Since(start).Seconds(), quantiles(times)
	return a, nil
}
