package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A room outlives its MLS group (Decision 31). Who may send a ReInit can end the group in favour of another one, with the
// same participants, policy and history; the device that is first founds it, the others come in by external commits. Where
// the group can't even take a ReInit any more, a new one is made from what the hub has.

const (
	// whyEnded is what a room says of itself between two groups.
	whyEnded = "its MLS group has ended; another one is being made"
	// foundedAnew is why a device comes into another group.
	foundedAnew = "the room was founded anew"
	// gatherPackages is for how long the founder of a group claims KeyPackages of the members of the last one, and
	// claimsAtOnce of how many users at once.
	gatherPackages, claimsAtOnce = 20 * time.Second, 8
	// welcomeWithin is how long a device waits for the Welcome into a group that another one has founded.
	welcomeWithin = 3 * time.Second
	// reinitAttempts is how often a ReInit is made anew because others proposed something before it.
	reinitAttempts = 5
)

// Refound gives a room another MLS group under the same URI, with the same participants and policy: by a ReInit if this
// device can commit one, else from what the hub has of the room. The hub decides who may (room policy §7.5,
// canSendMLSReinitProposal; anybody who may be there, where a ReInit has ended the group). Who left or was removed stays
// out: the hub compares the participants, and if it has gone back to an older state this device takes out again whom it
// has seen go.
func (c *Client) Refound(ctx context.Context, uri mimi.RoomURI) error {
	c.mu.Lock()
	r := c.rooms[uri]
	if r == nil || r.rec.standing == 0 {
		c.mu.Unlock()
		return &NoRoomError{Room: uri}
	}
	c.mu.Unlock()
	if err := r.acquire(ctx); err != nil {
		return err
	}
	defer r.release()
	for range reinitAttempts {
		c.mu.Lock()
		g, err := c.held(ctx, r)
		ended := err == nil && g != nil && r.rec.standing == Joined && g.Ended() != nil
		able := err == nil && g != nil && r.rec.standing == Joined && r.rec.repair == "" && g.Active() && !targeted(g) &&
			g.Authorize(policy.Change{Kind: policy.ReInit, User: c.self.user.Identifier()}) == nil
		c.mu.Unlock()
		if err != nil {
			return err
		}
		if ended {
			return c.foundNext(ctx, r)
		}
		if !able {
			break
		}
		if err := c.end(ctx, r); err != nil && !errors.Is(err, errPending) {
			if ctx.Err() != nil {
				return err
			}
			c.cfg.Logger.Info("the room takes no ReInit", "room", string(uri), "error", err)
			break
		}
	}
	c.mu.Lock()
	lost := r.rec.standing == Lost
	c.mu.Unlock()
	if lost {
		return c.foundAgain(ctx, r)
	}
	return c.foundFromHub(ctx, r)
}

// errPending says that proposals have to be committed before a ReInit, which must be alone (RFC 9420 §12.2).
var errPending = errors.New("client: proposals are pending")

// end commits a ReInit, or first what is pending.
func (c *Client) end(ctx context.Context, r *roomState) error {
	c.mu.Lock()
	g, err := c.held(ctx, r)
	var id suite.ID
	franked := false
	if err == nil && g != nil {
		id, franked = suiteOf(g), g.View().FrankingAgent() != nil
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	p, err := c.refoundParams(ctx, r.uri, id, franked)
	if err != nil {
		return err
	}
	first := false
	err = c.changeHeld(ctx, r, func(g *room.Room) (handshake, error) {
		if first = len(g.Group().Pending()) > 0; first {
			s, err := g.Commit(c.rand, 0)
			return handshake{staged: s}, err
		}
		next, err := g.Successor(p)
		if err != nil {
			return handshake{}, err
		}
		s, err := g.ReInit(c.rand, next)
		return handshake{staged: s}, err
	})
	if err == nil && first {
		return errPending
	}
	return err
}

// refoundParams is what this device makes a new group from. At its own provider it takes the keys that the hub has now,
// elsewhere they stay.
func (c *Client) refoundParams(ctx context.Context, uri mimi.RoomURI, id suite.ID, franked bool) (p room.RefoundParams, err error) {
	group, err := mimi.NewGroupURI(uri.Host(), randomName(20))
	if err != nil {
		return p, err
	}
	p.GroupID, p.CipherSuite = []byte(group), id
	now := c.cfg.Now()
	p.Lifetime = mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(packageLifetime).Unix())}
	if p.Leaf, err = c.leaf(ctx, id); err != nil || uri.Host() != c.self.user.Host() {
		return p, err
	}
	info, err := c.Info(ctx)
	if err != nil {
		return p, err
	}
	i := slices.IndexFunc(info.HubSenders, func(h clientapi.HubSender) bool { return suite.ID(h.Suite) == id })
	if i < 0 {
		return p, nil
	}
	h := &info.HubSenders[i]
	p.HubSender = new(mls.ExternalSender)
	if err := tlspl.Unmarshal(h.ExternalSender, p.HubSender); err != nil {
		return p, fmt.Errorf("client: the provider's external sender can't be read: %w", err)
	}
	if len(h.ExternalReceiver) > 0 {
		p.HubReceiver = new(mls.ExternalReceiver)
		if err := tlspl.Unmarshal(h.ExternalReceiver, p.HubReceiver); err != nil {
			return p, fmt.Errorf("client: the provider's external receiver can't be read: %w", err)
		}
	}
	if franked && len(h.FrankingAgent) > 0 {
		p.FrankingAgent = new(mimi.FrankingAgentData)
		if err := tlspl.Unmarshal(h.FrankingAgent, p.FrankingAgent); err != nil {
			return p, fmt.Errorf("client: the provider's franking agent can't be read: %w", err)
		}
	}
	return p, nil
}

// foundNext makes the group that the ReInit names, unless another device was faster: then it comes into that one. The
// room's op is held.
func (c *Client) foundNext(ctx context.Context, r *roomState) error {
	c.mu.Lock()
	g, err := c.held(ctx, r)
	var next *mls.ReInit
	if err == nil && g != nil && r.rec.standing == Joined {
		next = g.Ended()
	}
	c.mu.Unlock()
	if err != nil || next == nil {
		return err
	}
	leaf, err := c.leaf(ctx, next.CipherSuite)
	if err != nil {
		return err
	}
	if done, err := c.foundAlready(ctx, r); err != nil {
		return err
	} else if done {
		return c.follow(ctx, r)
	}
	now := c.cfg.Now()
	p := room.RefoundParams{Leaf: leaf, Lifetime: mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(packageLifetime).Unix())},
		Members: c.formerMembers(ctx, r, next.CipherSuite)}
	err = c.believing(ctx, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if r.group == nil || r.group.Ended() == nil {
			return nil
		}
		f, err := r.group.Refound(c.rand, p)
		if err != nil {
			return err
		}
		return c.pendFounding(ctx, r, f)
	})
	if err != nil {
		return err
	}
	err = c.resolve(ctx, r)
	var refused *RefusedError
	if errors.Is(err, errAgain) || errors.As(err, &refused) {
		return c.follow(ctx, r)
	}
	return err
}

// foundAlready asks the hub whether it has another group for the room by now, before KeyPackages are claimed for one.
func (c *Client) foundAlready(ctx context.Context, r *roomState) (bool, error) {
	tbe, err := c.groupInfo(ctx, r.uri, nil)
	var denied *JoinError
	if errors.As(err, &denied) {
		return false, nil // a hub that tells nothing of a group that has ended
	}
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return r.group == nil || !bytes.Equal(r.group.Group().GroupID(), tbe.GroupInfo.GroupContext.GroupID), nil
}

// formerMembers claims KeyPackages of the clients of the group that a ReInit has ended. Those of whom there is none in time
// come into the next one by external commits.
func (c *Client) formerMembers(ctx context.Context, r *roomState, id suite.ID) (list []mls.KeyPackage) {
	clients := make(map[mimi.ClientURI]bool)
	var users []mimi.UserURI
	c.mu.Lock()
	if r.group != nil {
		for _, p := range r.group.View().Participants() {
			user, ok := p.User.User()
			if !ok {
				continue
			}
			others := 0
			for _, client := range r.group.Clients(user) {
				if client != c.self.client && !clients[client] {
					clients[client] = true
					others++
				}
			}
			if others > 0 {
				users = append(users, user)
			}
		}
	}
	c.mu.Unlock()
	for _, k := range c.gather(ctx, r, users, id) {
		if who, err := c.trust.Identify(&k.LeafNode.Credential); err == nil && clients[who.Client] {
			delete(clients, who.Client)
			list = append(list, k)
		}
	}
	return list
}

// gather claims KeyPackages of users for a group of a room, for some time at most. Those of whom there is none are left out.
func (c *Client) gather(ctx context.Context, r *roomState, users []mimi.UserURI, id suite.ID) (list []mls.KeyPackage) {
	ctx, cancel := context.WithTimeout(ctx, gatherPackages)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	places := make(chan struct{}, claimsAtOnce)
	for _, user := range users {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			packages, err := c.materialIn(ctx, r, user, id)
			if err != nil {
				c.cfg.Logger.Info("the devices of a user come into the room's new group by themselves", "user", string(user), "room", string(r.uri), "error", err)
			}
			mu.Lock()
			defer mu.Unlock()
			list = append(list, packages...)
		})
	}
	wg.Wait()
	return list
}

// foundDelay is how long a device waits before it founds the group that a ReInit asks for: who sent that one does so at
// once, and takes a while in a room of many.
func (c *Client) foundDelay(g *room.Room) time.Duration {
	if c.cfg.CommitDelay != nil {
		return c.cfg.CommitDelay()
	}
	many := min(time.Duration(len(g.View().Participants()))*50*time.Millisecond, time.Minute)
	return 2*time.Second + many + mathrand.N(2*time.Second+many)
}

// pendFounding stores a new group as the one that the hub is to take up. c.mu is held.
func (c *Client) pendFounding(ctx context.Context, r *roomState, f *room.Refounding) error {
	next := f.Room()
	e := Event{Kind: EventRefounded, Epoch: next.View().Epoch()}
	return c.pend(ctx, r, &pendingRecord{kind: pendingJoin}, next, f.Bundle(), []Event{e})
}

// follow comes into the group that another device has founded: by its Welcome, which may be on its way, or else by an
// external commit. The room's op is held.
func (c *Client) follow(ctx context.Context, r *roomState) error {
	wait, cancel := context.WithTimeout(ctx, welcomeWithin)
	err := c.await(wait, func() bool { return r.group == nil || r.group.Ended() == nil })
	cancel()
	if err == nil || ctx.Err() != nil {
		return err
	}
	c.mu.Lock()
	_, err = c.write(ctx, func(b *batch) error {
		r.commitAt = time.Time{}
		return b.repair(r, foundedAnew)
	}, r)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.comeIn(ctx, r)
}

// foundFromHub makes a new group from what the hub has of the room. The room's op is held.
func (c *Client) foundFromHub(ctx context.Context, r *roomState) error {
	for range reinitAttempts {
		if err := c.resolve(ctx, r); err != nil && !errors.Is(err, errAgain) {
			var refused *RefusedError
			if !errors.As(err, &refused) {
				return err
			}
		}
		tbe, err := c.groupInfo(ctx, r.uri, nil)
		if err != nil {
			return err
		}
		theirs, err := room.NewView(&tbe.GroupInfo.GroupContext)
		if err != nil {
			return err
		}
		p, err := c.refoundParams(ctx, r.uri, tbe.GroupInfo.GroupContext.CipherSuite, theirs.FrankingAgent() != nil)
		if err != nil {
			return err
		}
		var gone []departure
		err = c.believing(ctx, func() error {
			c.mu.Lock()
			defer c.mu.Unlock()
			f, err := room.Refound(c.rand, c.roomConfig(), &tbe.GroupInfo, tbe.RatchetTreeOption, tbe.PendingProposals, p)
			if err != nil {
				return err
			}
			gone = departed(r, theirs)
			return c.pendFounding(ctx, r, f)
		})
		if err != nil {
			return err
		}
		if err = c.resolve(ctx, r); !errors.Is(err, errAgain) {
			if err != nil {
				return err
			}
			return c.depart(ctx, r, gone)
		}
	}
	return errors.New("client: others were faster; try again")
}

// A departure is a user whom this device has seen leave a room, or be banned.
type departure struct {
	user   mimi.UserURI
	banned bool
}

// departed compares the hub's state of a room with this device's, where the hub's is an older one of the same group: it
// returns whom this device has seen go since. c.mu is held.
func departed(r *roomState, theirs *room.View) (list []departure) {
	if r.group == nil || !bytes.Equal(r.group.Group().GroupID(), theirs.Context().GroupID) || theirs.Epoch() >= r.group.View().Epoch() {
		return nil
	}
	mine := r.group.View()
	for _, p := range theirs.Participants() {
		user, ok := p.User.User()
		if !ok || theirs.Roles().Banned(p.RoleIndex) {
			continue
		}
		switch role, listed := mine.RoleOf(p.User); {
		case !listed:
			list = append(list, departure{user: user})
		case mine.Roles().Banned(role):
			list = append(list, departure{user, true})
		}
	}
	return list
}

// depart takes out again who is back only because the hub has gone back to an older state, as far as this user may. The
// room's op is held.
func (c *Client) depart(ctx context.Context, r *roomState, gone []departure) error {
	for _, d := range gone {
		err := c.changeHeld(ctx, r, func(g *room.Room) (handshake, error) {
			role, listed := g.View().RoleOf(d.user.Identifier())
			if !listed || g.View().Roles().Banned(role) {
				return handshake{}, errNothing // others were faster
			}
			var s *room.Staged
			var err error
			if d.banned {
				s, err = g.Ban(c.rand, d.user)
			} else {
				s, err = g.RemoveUsers(c.rand, d.user)
			}
			return handshake{staged: s}, err
		})
		if err == nil || errors.Is(err, errNothing) {
			continue
		}
		if room.Denied(err) == nil {
			return err
		}
		if err := c.complain(ctx, r, fmt.Errorf("%s is back in the room, because its hub went back to an older state, and you may not remove them: %w", d.user, err)); err != nil {
			return err
		}
	}
	return nil
}

// elsewhere handles a handshake or message of another MLS group than this device's: it is of before this device's time,
// or the room was founded anew.
func (b *batch) elsewhere(r *roomState, m *mimi.Message, at mimi.Millis) (bool, error) {
	var id []byte
	switch {
	case m.PublicMessage != nil:
		id = m.PublicMessage.Content.GroupID
	case m.SemiPrivateMessage != nil:
		id = m.SemiPrivateMessage.GroupID
	case m.PrivateMessage != nil:
		id = m.PrivateMessage.GroupID
	}
	switch {
	case r.group == nil || bytes.Equal(id, r.group.Group().GroupID()):
		return false, nil
	case r.began != 0 && at <= r.began:
		return true, nil
	case r.rec.standing == Refused:
		// It does not follow what policy forbids; the new group may be without that.
		if m.PrivateMessage == nil {
			r.suspect = foundedAnew
			b.touch(r)
		}
		return true, nil
	}
	r.retryAt, r.failures = time.Time{}, 0
	if r.group.Ended() != nil {
		r.retryAt = b.c.cfg.Now().Add(welcomeWithin) // its Welcome comes next, if it has one for this device
	}
	if !founding(m) {
		return true, b.repair(r, foundedElsewhere)
	}
	if r.rec.repair == foundedElsewhere {
		r.rec.repair = "" // now its founding is seen
	}
	return true, b.repair(r, foundedAnew)
}

// founding reports whether a Commit is the first one of a group that was founded for a room from what its hub has of it, which
// the hub compared with the group before: it does nothing. The first Commit of a new room, of the same name, that is sent to
// others lists or adds somebody.
func founding(m *mimi.Message) bool {
	p := m.PublicMessage
	return p != nil && p.Content.Epoch == 0 && p.Content.Commit != nil && len(p.Content.Commit.Proposals) == 0
}

// another decides whether to come into another group that the hub has for the room. A device that did not follow what
// policy forbids does so if the participants are those of the last state that it follows.
func (b *batch) another(r *roomState, theirs *mls.GroupContext) error {
	if r.rec.standing == Refused {
		view, err := room.NewView(theirs)
		if err != nil || !sameParticipants(view, r.group.View()) {
			return b.problem(r, "%s, with other participants than in the last state that this device follows; join follows the hub", foundedAnew)
		}
		r.rec.standing, r.rec.why = Joined, ""
	}
	r.retryAt, r.failures = time.Time{}, 0
	return b.repair(r, foundedAnew)
}

// ended notes that a ReInit has ended the room's group.
func (b *batch) ended(r *roomState) {
	if r.group != nil && r.group.Ended() != nil && r.rec.standing == Joined {
		r.rec.why = whyEnded
		b.touch(r)
	}
}

// sameParticipants reports whether two states of a room have the same participants with the same roles.
func sameParticipants(a, b *room.View) bool {
	if len(a.Participants()) != len(b.Participants()) {
		return false
	}
	for _, p := range a.Participants() {
		if role, ok := b.RoleOf(p.User); !ok || role != p.RoleIndex {
			return false
		}
	}
	return true
}

// unneed lets what waits in the outbox be encrypted in whatever epoch there is now: the hub counts anew in another group.
func (b *batch) unneed(r *roomState) error {
	var keys [][]byte
	err := b.tx.Scan(key(keyOutbox, r.rec.number), nil, func(k, _ []byte) (bool, error) {
		keys = append(keys, bytes.Clone(k))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, k := range keys {
		var o outboxRecord
		if found, err := get(b.tx, k, &o); err != nil {
			return err
		} else if !found || o.need == 0 {
			continue
		}
		o.need = 0
		if err := put(b.tx, k, &o); err != nil {
			return err
		}
	}
	return nil
}
