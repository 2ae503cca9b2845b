package store

import (
	"context"
	"crypto/rand"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Hint tells the other nodes that share a database what to look at again. A
// hint may be lost: whoever depends on it also looks now and then by itself.
type Hint struct {
	Room   int64  // this room's log grew; 0: no room is meant
	Client string // this client's rooms or session changed
	Peer   string // this provider was heard of
}

// A Bus carries short texts between the nodes that share a database.
type Bus interface {
	// Publish sends a text of at most MaxBusText octets.
	Publish(ctx context.Context, text string) error
	// Listen calls up when texts are heard from now on, then f for each, until
	// ctx ends or the connection does.
	Listen(ctx context.Context, up func(), f func(text string)) error
	Close()
}

// MaxBusText is how many octets one text on a Bus may have.
const MaxBusText = 7900

const (
	// maxHints is how many hints wait to be sent; past it the others are told to
	// look at everything.
	maxHints = 4096
	// busAgain is how long to wait before a bus that failed is tried again.
	busAgain = time.Second
)

// hints are those of one store that wait to be sent.
type hints struct {
	bus     Bus
	node    string // of this store among those that share the database
	wake    chan struct{}
	hearing atomic.Bool

	mu      sync.Mutex
	waiting map[Hint]struct{}
	all     bool
}

func newHints(bus Bus) *hints {
	return &hints{bus: bus, node: rand.Text(), wake: make(chan struct{}, 1), waiting: map[Hint]struct{}{}}
}

// Shared says whether other processes may write to the same database.
func (s *Store) Shared() bool { return !s.d.SingleWriter }

// Hearing says whether hints of other nodes arrive at present.
func (s *Store) Hearing() bool { return s.hints != nil && s.hints.hearing.Load() }

// Tell sends hints to the other nodes, soon and if that is possible. It does not
// wait.
func (s *Store) Tell(list ...Hint) {
	h := s.hints
	if h == nil || len(list) == 0 {
		return
	}
	h.mu.Lock()
	for _, hint := range list {
		if len(h.waiting) >= maxHints {
			h.all = true
			clear(h.waiting)
		}
		h.waiting[hint] = struct{}{}
	}
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// take returns what waits as texts.
func (h *hints) take() (texts []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all {
		h.all = false
		clear(h.waiting)
		return []string{h.node + "\n*"}
	}
	var b strings.Builder
	for hint := range h.waiting {
		line := "\n"
		switch {
		case hint.Room != 0:
			line += "r" + strconv.FormatInt(hint.Room, 10)
		case hint.Client != "":
			line += "c" + hint.Client
		default:
			line += "p" + hint.Peer
		}
		if b.Len()+len(line) > MaxBusText {
			texts = append(texts, b.String())
			b.Reset()
		}
		if b.Len() == 0 {
			b.WriteString(h.node)
		}
		b.WriteString(line)
	}
	clear(h.waiting)
	if b.Len() > 0 {
		texts = append(texts, b.String())
	}
	return texts
}

// publish sends what is told until the store is closed. What comes while a text
// is under way goes together in the next.
func (s *Store) publish() {
	defer s.publishing.Done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-s.closing
		cancel()
	}()
	for {
		select {
		case <-s.closing:
			return
		case <-s.hints.wake:
		}
		for _, text := range s.hints.take() {
			if err := s.hints.bus.Publish(ctx, text); err != nil {
				// The others find it by themselves.
				select {
				case <-s.closing:
					return
				case <-time.After(busAgain):
				}
				break
			}
		}
	}
}

// Listen calls f with the hints of other nodes until ctx ends, and everything
// when hints may have been lost. It returns at once where no other node can be.
func (s *Store) Listen(ctx context.Context, f func([]Hint), everything func()) {
	h := s.hints
	if h == nil {
		return
	}
	for ctx.Err() == nil {
		h.bus.Listen(ctx, func() {
			h.hearing.Store(true)
			everything()
		}, func(text string) {
			lines := strings.Split(text, "\n")
			if lines[0] == h.node {
				return
			}
			var list []Hint
			for _, line := range lines[1:] {
				switch {
				case line == "*":
					everything()
				case strings.HasPrefix(line, "r"):
					if id, err := strconv.ParseInt(line[1:], 10, 64); err == nil {
						list = append(list, Hint{Room: id})
					}
				case strings.HasPrefix(line, "c"):
					list = append(list, Hint{Client: line[1:]})
				case strings.HasPrefix(line, "p"):
					list = append(list, Hint{Peer: line[1:]})
				}
			}
			f(list)
		})
		h.hearing.Store(false)
		select {
		case <-ctx.Done():
		case <-time.After(busAgain):
		}
	}
}
