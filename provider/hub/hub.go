// Package hub is the duty of a provider that hosts rooms: it orders their
// events, enforces their policy, stamps their messages and makes them available
// to followers (MIMI protocol §5.3–5.6).
//
// A room changes in one way: its state is loaded, room.Hub says what a request
// makes of it, and one transaction puts the new state in place of the old, if
// that is still there, together with the events. Only then anybody hears of it.
package hub

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/provider/follower"
	"github.com/comity-im/comity/store"
)

// keepLoaded is how many rooms that nothing happens in stay in memory at most,
// and keepIdle for how long. A room is read again when something happens. manyRooms
// is how many must leave for their memory to be given back to the system.
const (
	keepLoaded = 2000
	keepIdle   = 15 * time.Second
	manyRooms  = 500
)

// Credentials say whose a credential is, for package room and for requests. Need
// makes sure that the issuers of a credential's provider are known here, and may
// ask that provider.
type Credentials interface {
	room.Verifier
	Need(ctx context.Context, credentials ...*mls.Credential) error
	VerifyKey(ctx context.Context, credential *mls.Credential, signatureKey []byte) (mimi.UserURI, mimi.ClientURI, error)
}

// A Config configures a Hub.
type Config struct {
	Domain      mimi.ProviderDomain
	Store       *store.Store
	Keys        *Keys
	Credentials Credentials
	Follower    *follower.Follower
	// Wake is called when a room's log has something new for a follower: events,
	// which are not changed any more.
	Wake func(follower mimi.ProviderDomain, room int64, events []store.Event)
	// Accepted is told of events that a room took together. May be nil.
	Accepted func(events []store.Event)
	// Traced is told, before Wake, of the trace that an event belongs to. May be
	// nil.
	Traced func(room, seq int64, span trace.SpanContext)
	// WakeRemovals is called when there are users to be taken out of rooms.
	WakeRemovals func()
	Logger       *slog.Logger
	Now          func() time.Time
	// Refused is told of every refusal, for the log and the metrics.
	// code is what the peer hears.
	Refused func(room mimi.RoomURI, from mimi.ProviderDomain, endpoint, code string, err error)
	// KeyMaterial asks the target's provider, us or another.
	KeyMaterial func(ctx context.Context, target mimi.UserURI, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error)
}

// A Hub hosts the rooms of one provider. Safe for concurrent use.
type Hub struct {
	cfg Config
	wg  sync.WaitGroup

	mu    sync.Mutex
	rooms map[mimi.RoomURI]*hosted
}

// New returns the hub of a provider.
func New(cfg Config) *Hub {
	return &Hub{cfg: cfg, rooms: map[mimi.RoomURI]*hosted{}}
}

// Wait waits until no operation is under way.
func (h *Hub) Wait() { h.wg.Wait() }

// Loaded returns how many rooms are in memory.
func (h *Hub) Loaded() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.rooms)
}

// room returns the place of a room in memory.
func (h *Hub) room(uri mimi.RoomURI) (*hosted, error) {
	if uri.Host() != h.cfg.Domain {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: string(uri) + " is not hosted here"}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rooms[uri]
	if r == nil {
		if len(h.rooms) >= keepLoaded {
			h.evict()
		}
		r = &hosted{h: h, uri: uri, used: h.cfg.Now()}
		h.rooms[uri] = r
	}
	return r, nil
}

// evict drops the half of the idle rooms that was used longest ago; h.mu is
// held.
func (h *Hub) evict() {
	var idle []*hosted
	for _, r := range h.rooms {
		r.mu.Lock()
		if !r.busy {
			idle = append(idle, r)
		}
		r.mu.Unlock()
	}
	slices.SortFunc(idle, func(a, b *hosted) int { return a.used.Compare(b.used) })
	for _, r := range idle[:len(idle)/2] {
		delete(h.rooms, r.uri)
	}
}

// Run drops rooms in which nothing happens from memory until ctx ends.
func (h *Hub) Run(ctx context.Context) {
	t := time.NewTicker(keepIdle / 3)
	defer t.Stop()
	dropped := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		n, left := h.dropIdle(h.cfg.Now().Add(-keepIdle))
		// When it has become quiet after a time when much happened, the memory of
		// that time is given back at once, which the runtime would do bit by bit.
		if dropped += n; dropped >= manyRooms && left < dropped/4 {
			dropped = 0
			if err := h.cfg.Store.Shrink(ctx); err != nil && ctx.Err() == nil {
				h.cfg.Logger.Warn("the database's memory is not given back", "error", err)
			}
			debug.FreeOSMemory()
		}
	}
}

// dropIdle drops the rooms in which nothing happened since a time, and says how
// many, and how many are left.
func (h *Hub) dropIdle(since time.Time) (dropped, left int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for uri, r := range h.rooms {
		r.mu.Lock()
		if !r.busy && r.used.Before(since) {
			delete(h.rooms, uri)
			dropped++
		}
		r.mu.Unlock()
	}
	if len(h.rooms) == 0 {
		h.rooms = map[mimi.RoomURI]*hosted{} // maps don't shrink
	}
	return dropped, len(h.rooms)
}

// state is a room in memory.
type state struct {
	row   store.Room
	room  *room.Hub
	agent *suite.Signer // signs franks; nil if the room has no franking agent of ours
	// followers have cursors into the log; nil: not read yet.
	followers []mimi.ProviderDomain
}

// errNoRoom is what a request for a room that there isn't gets.
func errNoRoom(uri mimi.RoomURI) error {
	return &mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: "there is no room " + string(uri)}
}

// load returns the room's state, from the database if it isn't in memory.
func (r *hosted) load() (*state, error) {
	if r.state != nil {
		return r.state, nil
	}
	st := &state{}
	var records []store.Record
	err := r.h.cfg.Store.View(context.Background(), func(tx *store.Tx) (err error) {
		if st.row, err = tx.Room(string(r.uri)); err != nil {
			return err
		}
		records, err = tx.RoomRecords(st.row.ID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNoRoom(r.uri)
	}
	if err != nil {
		return nil, err
	}
	if len(st.row.Head) != 2 {
		return nil, fmt.Errorf("hub: %s: the stored state can't be read", r.uri)
	}
	cfg, err := r.h.roomConfig(suite.ID(binary.BigEndian.Uint16(st.row.Head)))
	if err != nil {
		return nil, err
	}
	st.room, err = room.LoadHub(cfg, func(yield func(k, v []byte) bool) {
		for _, rec := range records {
			if !yield(rec.Name, rec.Value) {
				return
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("hub: %s: %w", r.uri, err)
	}
	st.agent = r.h.agent(st.room)
	r.state = st
	return st, nil
}

// current is load for those who judge by the state without writing: it makes
// sure that no other node has changed the room meanwhile.
func (r *hosted) current() (*state, error) {
	if r.state != nil {
		ok, err := r.isCurrent(r.state)
		if err != nil {
			return nil, err
		}
		if !ok {
			r.state = nil
		}
	}
	return r.load()
}

// isCurrent says whether a state is still the one in the database. Who can't
// know must not refuse anything for good by it.
func (r *hosted) isCurrent(st *state) (bool, error) {
	var row store.Room
	err := r.h.cfg.Store.View(context.Background(), func(tx *store.Tx) (err error) {
		row, err = tx.Room(string(r.uri))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return row.ID == st.row.ID && row.Version == st.row.Version, err
}

// agent is the key that signs the franks of a room, if its franking agent is
// ours.
func (h *Hub) agent(s *room.Hub) *suite.Signer {
	data := s.View().FrankingAgent()
	if data == nil {
		return nil
	}
	k := h.cfg.Keys.agents[s.GroupInfo().GroupContext.CipherSuite]
	if k == nil || !slices.Equal(k.signer.Public(), data.FrankingSignatureKey) {
		return nil
	}
	return k.signer
}

// nextMillis is the acceptance time of an event after one at last: strictly
// increasing in a room, whatever the clock does. Decision 39
func (h *Hub) nextMillis(last int64) int64 {
	return max(h.cfg.Now().UnixMilli(), last+1)
}

// A change is what an update makes of a room's state beside its events.
type change struct {
	head    []byte
	records []mls.Record
	anew    bool // records are all there are, those before go
	also    func(tx *store.Tx, events []store.Event) error
}

// append puts events at the end of the room's log, with the change of its state
// that goes with them, in one transaction; then it tells those who wait.
// spans are those that the events belong to, or none.
func (r *hosted) append(st *state, events []store.Event, c *change, spans ...trace.SpanContext) error {
	var delivery *follower.Delivery
	var followers []store.Follower
	row := st.row
	err := r.h.cfg.Store.Update(context.Background(), func(tx *store.Tx) (err error) {
		row = st.row
		if err := tx.AppendEvents(row.ID, row.Version, events); err != nil {
			return err
		}
		row.LastSeq, row.LastMillis = events[len(events)-1].Seq, events[len(events)-1].AcceptedMillis
		if c != nil && c.anew {
			if err := tx.DropRecords(row.ID); err != nil {
				return err
			}
		}
		if c != nil {
			if err := tx.SwapRoom(row.ID, row.Version, c.head, storeRecords(c.records)); err != nil {
				return err
			}
			row.Version++
			if err := c.also(tx, events); err != nil {
				return err
			}
		}
		if delivery, err = r.h.cfg.Follower.Deliver(tx, &row, events); err != nil {
			return err
		}
		if c != nil || st.followers == nil {
			followers, err = tx.Followers(row.ID)
		}
		return err
	})
	if err != nil {
		return err
	}
	st.row = row
	if c != nil || st.followers == nil {
		st.followers = domains(followers)
	}
	if r.h.cfg.Accepted != nil {
		r.h.cfg.Accepted(events)
	}
	r.h.cfg.Follower.Delivered(delivery)
	if r.h.cfg.Traced != nil {
		for i, span := range spans {
			if span.IsSampled() {
				r.h.cfg.Traced(row.ID, events[i].Seq, span)
			}
		}
	}
	for _, d := range st.followers {
		r.h.cfg.Wake(d, row.ID, events)
	}
	return nil
}

func storeRecords(list []mls.Record) []store.Record {
	out := make([]store.Record, len(list))
	for i, r := range list {
		out[i] = store.Record{Name: r.Key, Value: r.Value}
	}
	return out
}

func domains(list []store.Follower) []mimi.ProviderDomain {
	out := make([]mimi.ProviderDomain, 0, len(list))
	for _, f := range list {
		if d := mimi.ProviderDomain(f.Domain); !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}
