package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/clientdb"
	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
)

// errCrashed is what the store of a device says once the device has crashed.
var errCrashed = errors.New("chaos: the device has crashed")

// A crashStore makes a device crash at one of its writes: the write is done or
// not, the device hears that it failed, and nothing works any more.
type crashStore struct {
	client.Store
	mu   sync.Mutex
	left int // writes until the crash; negative: no crash is planned
	late bool
	dead bool
}

func (s *crashStore) View(ctx context.Context, f func(client.Tx) error) error {
	s.mu.Lock()
	dead := s.dead
	s.mu.Unlock()
	if dead {
		return errCrashed
	}
	return s.Store.View(ctx, f)
}

func (s *crashStore) Update(ctx context.Context, f func(client.Tx) error) error {
	s.mu.Lock()
	if s.dead {
		s.mu.Unlock()
		return errCrashed
	}
	if s.left--; s.left != 0 {
		s.mu.Unlock()
		return s.Store.Update(ctx, f)
	}
	s.dead = true
	late := s.late
	s.mu.Unlock()
	if late {
		s.Store.Update(ctx, f)
	}
	return errCrashed
}

// crashAfter plans a crash.
func (s *crashStore) crashAfter(writes int, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.late = writes, late
}

func (s *crashStore) crashed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// A member is one device of a user of its own, which runs, crashes and starts
// again.
type member struct {
	name, domain string
	user         mimi.UserURI
	dir          string
	w            *world
	api          *clientapi.Client // with its session
	db           *clientdb.DB

	mu     sync.Mutex
	store  *crashStore
	client *client.Client
	stop   func()

	seenMu sync.Mutex
	shown  map[mimi.RoomURI]map[content.MessageID]int // by notification
	events map[client.EventKind]int
	odd    []string // repairs and problems

	sent map[string]sending // by text, which is never used twice; only the member's goroutine writes it
	n    int
}

// A sending is what is known of a message that was sent.
type sending struct {
	room  mimi.RoomURI
	id    content.MessageID
	sure  bool // Send returned: it is in the outbox on disk
	begun time.Time
}

// register makes the account and the device.
func (w *world) member(ctx context.Context, name, domain, url string) (*member, error) {
	m := &member{name: name, domain: domain, w: w, dir: filepath.Join(w.dir, name), shown: map[mimi.RoomURI]map[content.MessageID]int{}, events: map[client.EventKind]int{}, sent: map[string]sending{}}
	api, err := clientapi.NewClient(clientapi.ClientConfig{URL: url, Roots: w.cluster.Roots})
	if err != nil {
		return nil, err
	}
	s, err := api.Register(ctx, clientapi.Login{User: name, Password: "correct horse battery", Device: "phone"})
	if err != nil {
		return nil, fmt.Errorf("registering %s: %w", name, err)
	}
	if m.db, err = clientdb.Open(ctx, m.dir); err != nil {
		return nil, err
	}
	roots, err := os.ReadFile(w.cluster.CAFile)
	if err != nil {
		return nil, err
	}
	if err := client.SaveSession(ctx, m.db, client.Session{Session: s, URL: url, Roots: roots}); err != nil {
		return nil, err
	}
	m.user, m.api = s.User, api.WithToken(s.Token)
	if err := m.start(ctx); err != nil {
		return nil, err
	}
	return m, m.client.Synced(ctx)
}

func (m *member) start(ctx context.Context) error {
	store := &crashStore{Store: m.db, left: -1}
	logger := slog.New(slog.NewTextHandler(m.w.logs, &slog.HandlerOptions{Level: slog.LevelWarn})).With("device", m.name)
	c, err := client.Open(ctx, client.Config{Store: store, Provider: client.Over(m.api), Notify: m.notify, Logger: logger,
		CommitDelay: func() time.Duration { return rand.N(200 * time.Millisecond) }})
	if err != nil {
		return fmt.Errorf("%s can't be opened: %w", m.name, err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(run); err != nil && !errors.Is(err, errCrashed) {
			m.w.finding("%s stopped: %v", m.name, err)
		}
	}()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.store, m.client = store, c
	m.stop = func() {
		cancel()
		<-done
	}
	return nil
}

// revive starts the device again if it has crashed.
func (m *member) revive(ctx context.Context) error {
	if !m.store.crashed() {
		return nil
	}
	m.stop()
	m.w.count("device crashed and restarted")
	return m.start(ctx)
}

func (m *member) notify(e client.Event) {
	m.seenMu.Lock()
	defer m.seenMu.Unlock()
	m.events[e.Kind]++
	switch e.Kind {
	case client.EventMessage:
		if e.Message == nil {
			return
		}
		if m.shown[e.Room] == nil {
			m.shown[e.Room] = map[content.MessageID]int{}
		}
		m.shown[e.Room][e.Message.ID]++
	case client.EventRepaired, client.EventProblem, client.EventFailed:
		m.odd = append(m.odd, fmt.Sprintf("%s: %s", m.name, e.Line()))
	}
}

// send writes a message to a room.
func (m *member) send(ctx context.Context, room mimi.RoomURI) {
	m.n++
	text := fmt.Sprintf("%s-%d", m.name, m.n)
	s := sending{room: room, begun: time.Now()}
	m.sent[text] = s
	id, err := m.client.Send(ctx, room, text)
	if err != nil {
		// Not in the room, or crashed: then nobody knows.
		if !errors.Is(err, errCrashed) {
			delete(m.sent, text)
		}
		m.w.count("send: " + kind(err))
		return
	}
	s.id, s.sure = id, true
	m.sent[text] = s
	m.w.count("send: queued")
}

// history is what the device shows of a room.
func (m *member) history(ctx context.Context, room mimi.RoomURI) ([]client.Item, error) {
	return m.client.History(ctx, room, client.HistoryOptions{Peek: true, Events: true})
}

// kind puts errors into a few classes, for the report.
func kind(err error) string {
	var api *clientapi.Error
	var no *client.NoRoomError
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, errCrashed):
		return "device crashed"
	case errors.As(err, &no):
		return "not in the room"
	case errors.As(err, &api):
		return "provider: " + string(api.Code)
	case errors.Is(err, context.DeadlineExceeded):
		return "took too long"
	}
	return "refused"
}
