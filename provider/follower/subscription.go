package follower

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// readAtOnce bounds how many events of one room are read from the database at
// a time, and readBytes how many octets of them are handed over together.
const (
	readAtOnce = 100
	readBytes  = 1 << 20
)

// A Subscription hands a connected client the events after its cursors.
type Subscription struct {
	f      *Follower
	device clientapi.Device
	wake   chan struct{}          // holds one token when there may be something
	watch  atomic.Pointer[func()] // if set, called instead
	token  *[32]byte              // hash of the session's token; only Take uses it

	mu      sync.Mutex
	ended   bool // the session is over
	stale   bool // the list of rooms must be read again
	rooms   map[int64]*position
	ready   []int64 // rooms that may have events, each once
	invited []mimi.RoomURI
	told    map[mimi.RoomURI]bool // invitations that were handed over
	events  int                   // in all buffers
	bytes   int
}

// A position is how far a client was handed a room's log.
type position struct {
	room   mimi.RoomURI
	sent   int64
	shown  int64         // the last event that was handed over
	acked  int64         // what the client has stored
	queued bool          // in ready
	buffer []store.Event // follows sent without a gap; nil: read the database
}

// Subscribe starts handing out a client's events.
func (f *Follower) Subscribe(ctx context.Context, d clientapi.Device) (*Subscription, error) {
	s := &Subscription{f: f, device: d, wake: make(chan struct{}, 1), stale: true, rooms: map[int64]*position{}, told: map[mimi.RoomURI]bool{}}
	f.notify.mu.Lock()
	add(f.notify.clients, string(d.Client), s)
	f.notify.mu.Unlock()
	s.signal()
	return s, nil
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.f.notify.mu.Lock()
	defer s.f.notify.mu.Unlock()
	remove(s.f.notify.clients, string(s.device.Client), s)
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.rooms {
		remove(s.f.notify.rooms, id, s)
	}
}

// Watch makes f be called at once and whenever Take may have something.
func (s *Subscription) Watch(f func()) {
	s.watch.Store(&f)
	f()
}

func (s *Subscription) signal() {
	if f := s.watch.Load(); f != nil {
		(*f)()
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// End ends the connections that a client has, at all nodes: its session is over.
func (f *Follower) End(client mimi.ClientURI) {
	defer f.cfg.Store.Tell(store.Hint{Client: string(client)})
	f.notify.mu.Lock()
	defer f.notify.mu.Unlock()
	for s := range f.notify.clients[string(client)] {
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
		s.signal()
	}
}

func (s *Subscription) reload() {
	s.mu.Lock()
	s.stale = true
	s.mu.Unlock()
	s.signal()
}

// offer gives new events of a room; nil: there is something in the database.
func (s *Subscription) offer(id int64, events []store.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.rooms[id]
	if p == nil {
		return
	}
	next := p.sent + 1
	if n := len(p.buffer); n > 0 {
		next = p.buffer[n-1].Seq + 1
	}
	size := 0
	for i := range events {
		size += len(events[i].Body)
	}
	switch {
	case len(events) > 0 && events[0].Seq == next && s.events+len(events) <= bufferedEvents && s.bytes+size <= bufferedBytes && (len(p.buffer) > 0 || !p.queued):
		p.buffer = append(p.buffer, events...)
		s.events += len(events)
		s.bytes += size
	default:
		s.drop(p)
	}
	s.queue(id, p)
}

// drop empties the buffer of a room and returns what was in it.
func (s *Subscription) drop(p *position) []store.Event {
	list := p.buffer
	p.buffer = nil
	s.events -= len(list)
	for i := range list {
		s.bytes -= len(list[i].Body)
	}
	return list
}

// queue puts a room among those that may have events.
func (s *Subscription) queue(id int64, p *position) {
	if !p.queued {
		p.queued = true
		s.ready = append(s.ready, id)
	}
	s.signal()
}

// Next waits for events, at least one.
func (s *Subscription) Next(ctx context.Context) ([]clientapi.Event, error) {
	for {
		list, err := s.Take(ctx)
		if err != nil || len(list) > 0 {
			return list, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.wake:
		}
	}
}

// Take returns the events that wait, if any.
func (s *Subscription) Take(ctx context.Context) ([]clientapi.Event, error) {
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	return s.take(ctx)
}

// errEnded is what a connection ends with when its session has.
var errEnded = clientapi.Errorf(clientapi.CodeUnauthorized, "the session has ended: this device was removed or logged in anew; log in again")

// refresh reads the client's rooms again if they changed.
func (s *Subscription) refresh(ctx context.Context) error {
	s.mu.Lock()
	stale, ended := s.stale, s.ended
	s.stale = false
	s.mu.Unlock()
	if ended {
		return errEnded
	}
	if !stale {
		return nil
	}
	var list []store.Membership
	var invited []string
	err := s.f.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		// Another node may have ended the session.
		c, err := tx.Client(string(s.device.Client))
		if errors.Is(err, store.ErrNotFound) || err == nil && (c.State != store.StateActive || s.token != nil && *s.token != c.Token) {
			return errEnded
		}
		if err != nil {
			return err
		}
		s.token = &c.Token
		if list, err = tx.Memberships(string(s.device.Client)); err != nil {
			return err
		}
		invited, err = tx.Invitations(string(s.device.User))
		return err
	})
	if err != nil {
		s.reload()
		return err
	}
	s.f.notify.mu.Lock()
	defer s.f.notify.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[int64]bool{}
	joined := map[mimi.RoomURI]bool{}
	for _, m := range list {
		seen[m.RoomID] = true
		joined[mimi.RoomURI(m.RoomURI)] = true
		p := s.rooms[m.RoomID]
		// Who was brought in again while it read (ReadAnew) reads on from its cursor.
		if p == nil || p.sent < min(m.FirstSeq-1, m.CursorSeq) {
			if p != nil {
				s.drop(p)
			}
			at := m.CursorSeq
			p = &position{room: mimi.RoomURI(m.RoomURI), sent: at, shown: at, acked: at}
			s.rooms[m.RoomID] = p
			add(s.f.notify.rooms, m.RoomID, s)
			// The room may have grown between the reading and now, unseen.
			s.queue(m.RoomID, p)
		} else if m.LastSeq > p.sent {
			s.drop(p)
			s.queue(m.RoomID, p)
		}
	}
	for id, p := range s.rooms {
		if !seen[id] {
			s.drop(p)
			delete(s.rooms, id)
			remove(s.f.notify.rooms, id, s)
		}
	}
	for r := range s.told {
		if !slices.Contains(invited, string(r)) {
			delete(s.told, r) // it may be invited once more
		}
	}
	for _, r := range invited {
		room := mimi.RoomURI(r)
		if !joined[room] && !s.told[room] {
			s.told[room] = true
			s.invited = append(s.invited, room)
		}
	}
	return nil
}

// take returns events that wait, of one room or of several, up to a bound.
func (s *Subscription) take(ctx context.Context) ([]clientapi.Event, error) {
	var out []clientapi.Event
	size := 0
	s.mu.Lock()
	for _, room := range s.invited {
		out = append(out, clientapi.Event{Room: room, Invited: true})
	}
	s.invited = nil
	s.mu.Unlock()
	for size < readBytes {
		s.mu.Lock()
		if len(s.ready) == 0 {
			s.mu.Unlock()
			return out, nil
		}
		id := s.ready[0]
		s.ready = s.ready[1:]
		p := s.rooms[id]
		if p == nil {
			s.mu.Unlock()
			continue
		}
		p.queued = false
		events := s.drop(p)
		from := p.sent
		s.mu.Unlock()

		full, shown := false, int64(0)
		if len(events) == 0 || events[0].Seq != from+1 {
			var err error
			err = s.f.cfg.Store.View(ctx, func(tx *store.Tx) error {
				events, full, err = tx.EventsWithin(id, from, readAtOnce, readBytes-size)
				return err
			})
			if err != nil {
				s.mu.Lock()
				if s.rooms[id] == p {
					s.queue(id, p)
				}
				s.mu.Unlock()
				if len(out) > 0 {
					return out, nil // the error comes again
				}
				return nil, err
			}
		}
		for _, e := range events {
			if e.Seq <= from {
				continue
			}
			from = e.Seq
			if len(e.Clients) > 0 && !slices.Contains(e.Clients, string(s.device.Client)) || len(e.Audience) > 0 && !slices.Contains(e.Audience, string(s.f.cfg.Domain)) {
				continue
			}
			if len(e.Body) == 0 {
				continue
			}
			out = append(out, clientapi.Event{Room: p.room, Seq: e.Seq, Fanout: e.Body})
			shown = e.Seq
			if size += len(e.Body); size >= readBytes {
				break
			}
		}
		if shown < from && len(events) > 0 {
			// The end was not for this client; that it has come so far it must know
			// all the same, and acknowledge, so that the log can be trimmed.
			out = append(out, clientapi.Event{Room: p.room, Seq: from})
			shown = from
		}
		s.mu.Lock()
		if s.rooms[id] == p && p.sent < from {
			p.sent = from
			p.shown = max(p.shown, shown)
		}
		more := full || len(events) > 0 && events[len(events)-1].Seq > from
		if more && s.rooms[id] == p {
			s.drop(p)
			s.queue(id, p)
		}
		s.mu.Unlock()
	}
	return out, nil
}

// Ack records that everything in room up to seq is in the client's store.
func (s *Subscription) Ack(ctx context.Context, room mimi.RoomURI, seq int64) error {
	s.mu.Lock()
	id := int64(0)
	for k, p := range s.rooms {
		if p.room == room {
			id, seq = k, min(seq, p.sent)
			if p.acked = max(p.acked, seq); p.acked >= p.shown {
				p.acked, seq = p.sent, p.sent
			}
			break
		}
	}
	s.mu.Unlock()
	if id != 0 { // else it left the room meanwhile
		s.f.acks.put(string(s.device.Client), id, seq)
	}
	return nil
}
