package hub

import (
	"context"
	"sync"
	"time"

	"github.com/comity-im/comity/mimi"
)

// waiting bounds how many operations wait for one room; further ones are told
// to come again.
const waiting = 4096

// A hosted room does its operations one after the other, on a goroutine that
// lives while there are any. No lock is held while one runs: mu covers the queue
// alone.
type hosted struct {
	h   *Hub
	uri mimi.RoomURI

	mu    sync.Mutex
	queue []operation
	busy  bool
	used  time.Time

	// Only the goroutine that works has these.
	state *state // nil: not loaded
}

// An operation is a *submission, many of which are done together, or a *task,
// which is done alone.
type operation interface{ finish(error) }

// A task is any operation but a submission.
type task struct {
	do   func(*hosted) error
	err  error
	done chan struct{}
}

func (t *task) finish(err error) {
	t.err = err
	close(t.done)
}

// enqueue adds an operation and makes sure that somebody works.
func (r *hosted) enqueue(op operation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) >= waiting {
		return &mimi.RefusedError{Refusal: mimi.RefusedTooMany, Reason: "the room has more to do than it can at present", RetryAfter: time.Second}
	}
	r.queue = append(r.queue, op)
	if !r.busy {
		r.busy = true
		r.h.wg.Go(r.work)
	}
	return nil
}

// run does f when it is its turn and returns what it gave. If ctx ends before,
// f may still run, and nobody hears of it.
func run[T any](ctx context.Context, r *hosted, f func(*hosted) (T, error)) (T, error) {
	var none, out T
	t := &task{done: make(chan struct{})}
	t.do = func(r *hosted) (err error) {
		out, err = f(r)
		return err
	}
	if err := r.enqueue(t); err != nil {
		return none, err
	}
	select {
	case <-t.done:
		return out, t.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// nothing is what an operation returns that has nothing to return.
type nothing = struct{}

func (r *hosted) work() {
	for {
		r.mu.Lock()
		list := r.queue
		r.queue = nil
		if len(list) == 0 {
			r.busy = false
			r.used = r.h.cfg.Now()
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		for len(list) > 0 {
			n := 0
			var batch []*submission
			for n < len(list) && n < batchMessages {
				s, ok := list[n].(*submission)
				if !ok {
					break
				}
				batch = append(batch, s)
				n++
			}
			if n > 0 {
				r.submit(batch)
			} else {
				t := list[0].(*task)
				t.finish(t.do(r))
				n = 1
			}
			list = list[n:]
		}
	}
}
