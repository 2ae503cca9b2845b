// Package follower is the duty of every provider towards its own clients in a
// room, wherever its hub is: it keeps the provider's copy of the room's log,
// knows which of its clients read it from where, and hands them their events.
//
// A room that is hosted here has one log for both duties: the hub appends to
// it, and calls Deliver in the same transaction.
package follower

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/tlspl"
)

// A Config configures a Follower.
type Config struct {
	Domain mimi.ProviderDomain
	Store  *store.Store
	Logger *slog.Logger
	Now    func() time.Time
	// MayInvite says whether a user of ours who is listed in a room without a
	// client hears of it: not if it never agreed to.
	MayInvite func(tx *store.Tx, user mimi.UserURI, room mimi.RoomURI) (bool, error)
	// MayBeListed returns the users of ours that a commit which can't be read here
	// may have listed without all of their clients (Decision 59).
	MayBeListed func(tx *store.Tx, room mimi.RoomURI) ([]mimi.UserURI, error)
}

// A Follower is safe for concurrent use.
type Follower struct {
	cfg    Config
	notify *notifier
	acks   *acks
	prints map[string]store.Footprint // of connected clients, when Look last looked; it alone uses it
}

// New returns a Follower; Run must run for cursors to be written.
func New(cfg Config) *Follower {
	return &Follower{cfg: cfg, notify: newNotifier(), acks: &acks{moved: map[ackKey]int64{}}, prints: map[string]store.Footprint{}}
}

// Run writes clients' cursors until ctx ends, and then a last time.
func (f *Follower) Run(ctx context.Context) {
	t := time.NewTicker(ackEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if err := f.acks.flush(last, f.cfg.Store); err != nil {
				f.cfg.Logger.Warn("cursors of clients not written; they will get some events again", "error", err)
			}
			return
		case <-t.C:
			if err := f.acks.flush(ctx, f.cfg.Store); err != nil && ctx.Err() == nil {
				f.cfg.Logger.Warn("cursors of clients not written yet", "error", err)
			}
		}
	}
}

// Connected returns how many clients are connected.
func (f *Follower) Connected() int { return f.notify.connected() }

// A Delivery is what Deliver found out, for Delivered after the commit.
type Delivery struct {
	room    int64
	events  []store.Event
	clients []string // whose rooms changed
}

// Deliver does what new events of a room mean for this provider's clients, in
// the transaction that appended them: those that a Welcome names begin to read
// at it, if they did not before, and users who are listed without having joined are invited.
func (f *Follower) Deliver(tx *store.Tx, room *store.Room, events []store.Event) (*Delivery, error) {
	d := &Delivery{room: room.ID, events: events}
	var users []string // who have come in by a Welcome
	for i := range events {
		e := &events[i]
		switch mimi.FanoutKind(e.Kind) {
		case mimi.FanoutWelcome:
			for _, client := range e.Clients {
				if client == nobody {
					continue
				}
				// Who reads already reads on: it may not have come to its removal yet.
				in, err := tx.IsMember(client, room.ID)
				switch {
				case err == nil && in:
					err = tx.ReadAnew(client, room.ID, e.Seq)
				case err == nil:
					err = tx.JoinRoom(client, room.ID, e.Seq)
				}
				if err != nil {
					return nil, err
				}
				c, err := tx.Client(client)
				if err != nil {
					return nil, err
				}
				if !slices.Contains(users, c.User) {
					users = append(users, c.User)
				}
				d.clients = append(d.clients, client)
			}
		case mimi.FanoutCommit:
			invited, err := f.invite(tx, room, e)
			if err != nil {
				return nil, err
			}
			d.clients = append(d.clients, invited...)
		}
	}
	// Devices that the Welcome left out, for want of KeyPackages, may join alone.
	for _, user := range users {
		outside, err := f.outside(tx, user, room.ID)
		if err != nil {
			return nil, err
		}
		if len(outside) == 0 {
			err = tx.Uninvite(user, room.URI)
		} else {
			err = tx.Invite(user, room.URI, events[0].AcceptedMillis)
		}
		if err != nil {
			return nil, err
		}
		d.clients = append(d.clients, outside...)
	}
	return d, nil
}

// outside returns the active clients of a user that don't read a room.
func (f *Follower) outside(tx *store.Tx, user string, room int64) (clients []string, err error) {
	list, err := tx.Clients(user)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if c.State != store.StateActive {
			continue
		}
		if in, err := tx.IsMember(c.URI, room); err != nil {
			return nil, err
		} else if !in {
			clients = append(clients, c.URI)
		}
	}
	return clients, nil
}

// invite notes the users of ours that a commit puts on the participant list. A
// Welcome that follows takes the note back. It returns their clients.
func (f *Follower) invite(tx *store.Tx, room *store.Room, e *store.Event) (clients []string, err error) {
	users, certain, err := f.listed(tx, mimi.RoomURI(room.URI), e.Body)
	if err != nil {
		return nil, err
	}
	for _, user := range users {
		u, err := tx.User(string(user))
		if errors.Is(err, store.ErrNotFound) || err == nil && u.State != store.StateActive {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !certain {
			if outside, err := f.outside(tx, u.URI, room.ID); err != nil {
				return nil, err
			} else if len(outside) == 0 {
				continue
			}
		}
		if may, err := f.cfg.MayInvite(tx, user, mimi.RoomURI(room.URI)); err != nil {
			return nil, err
		} else if !may {
			continue
		}
		if err := tx.Invite(u.URI, room.URI, e.AcceptedMillis); err != nil {
			return nil, err
		}
		list, err := tx.Clients(u.URI)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			if c.State == store.StateActive {
				clients = append(clients, c.URI)
			}
		}
	}
	return clients, nil
}

// listed returns the users of ours that a commit adds to the participant list by
// value; of a SemiPrivateMessage, which says nothing here, those that it may add,
// without being certain.
func (f *Follower) listed(tx *store.Tx, room mimi.RoomURI, fanout []byte) (users []mimi.UserURI, certain bool, err error) {
	var m mimi.FanoutMessage
	if tlspl.UnmarshalAlias(fanout, &m) != nil {
		return nil, false, nil
	}
	if m.Message.SemiPrivateMessage != nil && m.Kind() == mimi.FanoutCommit {
		users, err = f.cfg.MayBeListed(tx, room)
		return users, false, err
	}
	if m.Message.PublicMessage == nil || m.Message.PublicMessage.Content.Commit == nil {
		return nil, false, nil
	}
	for _, p := range m.Message.PublicMessage.Content.Commit.Proposals {
		if p.Proposal == nil || p.Proposal.AppDataUpdate == nil || p.Proposal.AppDataUpdate.ComponentID != mimi.ComponentParticipantList {
			continue
		}
		var u mimi.ParticipantListUpdate
		if tlspl.UnmarshalAlias(p.Proposal.AppDataUpdate.Update, &u) != nil {
			continue
		}
		for _, pair := range u.AddedParticipants {
			if user, ok := pair.User.User(); ok && user.Host() == f.cfg.Domain {
				users = append(users, user)
			}
		}
	}
	return users, true, nil
}

// Delivered tells connected clients, and the other nodes, what was delivered;
// call it when the transaction is on disk.
func (f *Follower) Delivered(d *Delivery) {
	if d == nil {
		return
	}
	hints := make([]store.Hint, 0, 1+len(d.clients))
	hints = append(hints, store.Hint{Room: d.room})
	for _, c := range d.clients {
		f.notify.changed(c)
		hints = append(hints, store.Hint{Client: c})
	}
	f.notify.published(d.room, d.events)
	f.cfg.Store.Tell(hints...)
}

// Joining starts a local client's reading of a room at the events that come
// next, whose position it returns, before it joins by itself. Joined follows when
// the hub has taken it, or Left when it has not.
func (f *Follower) Joining(tx *store.Tx, client mimi.ClientURI, room *store.Room) (int64, error) {
	return room.LastSeq + 1, tx.JoinRoom(string(client), room.ID, room.LastSeq+1)
}

// Joined says that a local client has joined a room by itself: its user is
// invited no more if this was the last of its clients.
func (f *Follower) Joined(tx *store.Tx, user mimi.UserURI, uri mimi.RoomURI) error {
	room, err := tx.Room(string(uri))
	if err != nil {
		return err
	}
	outside, err := f.outside(tx, string(user), room.ID)
	if err != nil || len(outside) > 0 {
		return err
	}
	return tx.Uninvite(string(user), string(uri))
}

// Changed tells a client's connections, at all nodes, that its rooms changed.
func (f *Follower) Changed(client mimi.ClientURI) {
	f.notify.changed(string(client))
	f.cfg.Store.Tell(store.Hint{Client: string(client)})
}

// FollowedRoom returns the entry of a room that is hosted elsewhere and creates
// it if need be.
func FollowedRoom(tx *store.Tx, uri mimi.RoomURI, nowMillis int64) (store.Room, error) {
	r, err := tx.Room(string(uri))
	if !errors.Is(err, store.ErrNotFound) {
		return r, err
	}
	if _, err := tx.CreateRoom(store.Room{URI: string(uri), Hub: string(uri.Host()), CreatedMillis: nowMillis}); err != nil {
		return store.Room{}, err
	}
	return tx.Room(string(uri))
}

// Notify takes events of a room from its hub (MIMI protocol §5.5): all or none
// of them. Those that are known already change nothing. Decisions 55–58
func (f *Follower) Notify(ctx context.Context, from mimi.ProviderDomain, uri mimi.RoomURI, req *mimi.NotifyRequest) error {
	if uri.Host() != from {
		return &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s is not the hub of %s", from, uri)}
	}
	if from == f.cfg.Domain {
		return &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s is hosted here", uri)}
	}
	events := make([]store.Event, 0, len(req.Messages))
	for i := range req.Messages {
		e, err := NewEvent(&req.Messages[i], from)
		if err != nil {
			return &mimi.MalformedError{Err: err}
		}
		events = append(events, e)
	}
	// Messages are new, but for the few that are repeated after a fault, of which
	// the log then says so.
	look := slices.ContainsFunc(events, func(e store.Event) bool { return mimi.FanoutKind(e.Kind) != mimi.FanoutApplication })
	d, err := f.take(ctx, uri, events, look)
	if !look && errors.Is(err, store.ErrConflict) {
		d, err = f.take(ctx, uri, events, true)
	}
	if err != nil {
		return err
	}
	f.Delivered(d)
	return nil
}

// take appends events to the log of a room that is hosted elsewhere. look says to
// look first for those that the log has already, instead of failing with
// ErrConflict.
func (f *Follower) take(ctx context.Context, uri mimi.RoomURI, events []store.Event, look bool) (d *Delivery, err error) {
	err = f.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		d = nil
		room, err := tx.Room(string(uri))
		known := err == nil
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		fresh := make([]store.Event, 0, len(events))
		// What comes for a room that nobody reads any more is not kept.
		concerns, listed := false, false
		if known {
			if concerns, err = tx.HasMembers(room.ID); err != nil {
				return err
			}
		}
		for _, e := range events {
			if known && look {
				if _, err := tx.EventByDigest(room.ID, e.Digest); err == nil {
					continue
				} else if !errors.Is(err, store.ErrNotFound) {
					return err
				}
			}
			if slices.ContainsFunc(fresh, func(o store.Event) bool { return o.Digest == e.Digest }) {
				continue
			}
			if mimi.FanoutKind(e.Kind) == mimi.FanoutWelcome {
				if e.Clients, err = Welcomed(tx, e.Body, uri); err != nil {
					return err
				}
				if len(e.Clients) == 1 {
					continue // for nobody here
				}
				concerns = true
			}
			if !concerns {
				users, _, err := f.listed(tx, uri, e.Body)
				if err != nil {
					return err
				}
				for _, user := range users {
					listed = true
					if u, err := tx.User(string(user)); err == nil && u.State == store.StateActive {
						concerns = true
					}
				}
			}
			fresh = append(fresh, e)
		}
		if !concerns && listed {
			// The hub is not told that there are no such users.
			return nil
		}
		if !concerns && known {
			return nil // the last of ours is out, which the hub will see by a commit
		}
		if !concerns {
			return &mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: fmt.Sprintf("nobody of %s is in %s, and none of these events brings anybody in", f.cfg.Domain, uri)}
		}
		if len(fresh) == 0 {
			return nil
		}
		if room, err = FollowedRoom(tx, uri, f.cfg.Now().UnixMilli()); err != nil {
			return err
		}
		if err := tx.AppendFollowed(room.ID, fresh); err != nil {
			return err
		}
		d, err = f.Deliver(tx, &room, fresh)
		return err
	})
	return d, err
}

// NewEvent returns the log entry of a fanned-out message.
func NewEvent(m *mimi.FanoutMessage, source mimi.ProviderDomain) (store.Event, error) {
	digest, err := m.Message.Digest()
	if err != nil {
		return store.Event{}, err
	}
	return DigestedEvent(m, source, digest)
}

// DigestedEvent is NewEvent for who has the digest of m's MLSMessage already.
func DigestedEvent(m *mimi.FanoutMessage, source mimi.ProviderDomain, digest [32]byte) (store.Event, error) {
	body, err := m.Bytes()
	if err != nil {
		return store.Event{}, err
	}
	return store.Event{
		Kind: uint8(m.Kind()), Epoch: epochOf(&m.Message.MLSMessage), AcceptedMillis: int64(m.Timestamp),
		Digest: digest, Source: string(source), Body: body,
	}, nil
}

func epochOf(m *mls.MLSMessage) uint64 {
	switch {
	case m.PublicMessage != nil:
		return uint64(m.PublicMessage.Content.Epoch)
	case m.PrivateMessage != nil:
		return uint64(m.PrivateMessage.Epoch)
	case m.SemiPrivateMessage != nil:
		return uint64(m.SemiPrivateMessage.Epoch)
	}
	return 0
}

// nobody is among the clients of every Welcome, so that one for none of ours is
// not taken for one for all.
const nobody = "-"

// Welcomed returns the local clients that a Welcome is for: those whose
// KeyPackages it names, if they were claimed for this room or for none.
func Welcomed(tx *store.Tx, fanout []byte, room mimi.RoomURI) (clients []string, err error) {
	var m mimi.FanoutMessage
	if err := tlspl.UnmarshalAlias(fanout, &m); err != nil {
		return nil, err
	}
	if m.Message.Welcome == nil {
		return nil, nil
	}
	clients = []string{nobody}
	for _, s := range m.Message.Welcome.Secrets {
		client, claimedFor, err := tx.ClaimedBy(s.NewMember)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if claimedFor != "" && claimedFor != string(room) {
			continue
		}
		if c, err := tx.Client(client); err != nil || c.State != store.StateActive {
			continue
		}
		clients = append(clients, client)
	}
	return clients, nil
}
