package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A hub may lose a room: its database is gone, or went back to a backup of before the room. Nobody is removed by that, and
// each device still has its state and history. The devices notice, and one of the hub's own users founds the room again under
// its URI, from what its device holds; the others follow if it is plainly the same room. Decision 123

const (
	// foundedElsewhere is why a device comes into another group whose founding it has not seen: only if it is the same room.
	foundedElsewhere = "the room has another MLS group"
	// unknownHere is why a device comes in anew whose provider has forgotten that it is in.
	unknownHere = "the provider does not hand this device the room's events any more"
)

// whyLost is what a room says whose hub does not know it any more.
func (c *Client) whyLost(uri mimi.RoomURI) string {
	who := "room refound makes it again, with its participants"
	if uri.Host() != c.self.user.Host() {
		who = "a user of " + string(uri.Host()) + " can make it again, by room refound"
	}
	return fmt.Sprintf("its hub %s does not have the room any more; what was said stays here; %s", uri.Host(), who)
}

// notFound reports whether a provider answered that there is no such room.
func notFound(err error) bool {
	var e *clientapi.Error
	return errors.As(err, &e) && e.Code == clientapi.CodeNotFound
}

// lost looks whether the hub has lost a room, after it said so, or this device's provider did not name the room. If the hub
// has it still, or may have and not let this device in, the device tries to come in anew.
func (c *Client) lost(ctx context.Context, r *roomState, said bool) (bool, error) {
	_, err := c.groupInfo(ctx, r.uri, nil)
	var denied *JoinError
	denies := errors.As(err, &denied) || notFound(err)
	if err != nil && !denies {
		return false, err
	}
	gone := denies && (said || r.uri.Host() == c.self.user.Host())
	c.mu.Lock()
	events, err := c.write(ctx, func(b *batch) error {
		if r.rec.standing != Joined {
			return nil
		}
		if !gone {
			r.rec.cursor = 0 // where it comes in the positions may begin anew
			delete(c.newest, r.uri)
			return b.repair(r, unknownHere)
		}
		r.rec.standing, r.rec.why, r.rec.repair = Lost, c.whyLost(r.uri), ""
		if r.uri.Host() == c.self.user.Host() {
			r.rec.cursor = 0 // the positions begin anew
			delete(c.newest, r.uri)
		}
		r.commitAt, r.suspect = time.Time{}, ""
		if err := b.abandon(r); err != nil {
			return err
		}
		return b.problem(r, "%s", r.rec.why)
	}, r)
	c.mu.Unlock()
	c.notify.tell(events...)
	return gone, err
}

// seek looks after the rooms of which a provider has lost something: those that this device is in and its provider does not
// name; and those whose hub had lost them, which may have been founded again.
func (c *Client) seek(ctx context.Context, unheard map[*roomState]bool) error {
	c.mu.Lock()
	var missing, lost []*roomState
	for _, r := range c.rooms {
		switch {
		case r.rec.standing == Lost:
			lost = append(lost, r)
		case unheard[r] && r.rec.standing == Joined && r.rec.repair == "" && r.pending == nil:
			missing = append(missing, r)
		}
	}
	c.mu.Unlock()
	for _, r := range missing {
		if _, err := c.lost(ctx, r, false); err != nil {
			return err
		}
	}
	for _, r := range lost {
		if _, err := c.rediscover(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// rediscover looks whether a room that the hub had lost is there again, and if it is notes that this device is to come in.
func (c *Client) rediscover(ctx context.Context, r *roomState) (bool, error) {
	_, err := c.groupInfo(ctx, r.uri, nil)
	var denied *JoinError
	if errors.As(err, &denied) || notFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err = c.write(ctx, func(b *batch) error {
		if r.rec.standing != Lost {
			return nil
		}
		r.rec.standing, r.rec.why = Joined, ""
		return b.repair(r, foundedElsewhere)
	}, r)
	return err == nil, err
}

// foundAgain makes a room anew that its hub has lost, and brings the others in. The room's op is held.
func (c *Client) foundAgain(ctx context.Context, r *roomState) error {
	if r.uri.Host() != c.self.user.Host() {
		return fmt.Errorf("client: %s does not have %s any more; only one of its own users can found it again", r.uri.Host(), r.uri)
	}
	c.mu.Lock()
	g, err := c.held(ctx, r)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if g == nil {
		return &NoRoomError{r.uri, r.rec.standing, r.rec.why}
	}
	if there, err := c.rediscover(ctx, r); err != nil {
		return err
	} else if there { // somebody was faster
		return c.comeIn(ctx, r)
	}
	var others []mimi.UserURI
	for _, p := range g.View().Participants() {
		user, ok := p.User.User()
		if ok && g.View().Roles().MayBeActive(p.RoleIndex) && (user != c.self.user || len(g.Clients(user)) > 1) {
			others = append(others, user)
		}
	}
	p, err := c.refoundParams(ctx, r.uri, suiteOf(g), g.View().FrankingAgent() != nil)
	if err != nil {
		return err
	}
	err = c.believing(ctx, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		next, err := g.Again(c.rand, p)
		if err != nil {
			return err
		}
		return c.pendAgain(ctx, r, next)
	})
	if err != nil {
		return err
	}
	if err := c.resolve(ctx, r); err != nil {
		var e *clientapi.Error
		if errors.As(err, &e) && e.Code == clientapi.CodeConflict {
			return fmt.Errorf("client: %s has another room of that name now, which you are not in: %w", r.uri.Host(), err)
		}
		return err
	}
	return c.bringBack(ctx, r, others)
}

// pendAgain stores a group for a lost room as the one that the hub is to take up. c.mu is held.
func (c *Client) pendAgain(ctx context.Context, r *roomState, next *room.Room) error {
	info, tree, err := next.First(c.rand)
	if err != nil {
		return err
	}
	p := &pendingRecord{kind: pendingAgain}
	if p.body, err = tlspl.Marshal(&clientapi.CreateRoomRequest{GroupInfo: *info, RatchetTree: tree}); err != nil {
		return err
	}
	if p.records, err = next.Flush(); err != nil {
		return err
	}
	_, err = c.write(ctx, func(b *batch) error {
		r.pending, r.prepared, r.next = p, p, next
		return put(b.tx, key(keyPending, r.rec.number), p)
	}, r)
	return err
}

// bringBack adds the devices of participants of a room that was founded again, as far as this user may. The others, and those
// of whom there is nothing to add, come in by themselves when they find the room there again. The room's op is held.
func (c *Client) bringBack(ctx context.Context, r *roomState, users []mimi.UserURI) error {
	c.mu.Lock()
	g := r.group
	users = slices.DeleteFunc(users, func(user mimi.UserURI) bool {
		kind := policy.AddClient
		if user == c.self.user {
			kind = policy.AddOwnClient
		}
		role, listed := g.View().RoleOf(user.Identifier())
		return !listed || g.Authorize(policy.Change{Kind: kind, User: user.Identifier(), From: role, To: role}) != nil
	})
	id := suiteOf(g)
	c.mu.Unlock()
	packages := c.gather(ctx, r, users, id)
	err := c.changeHeld(ctx, r, func(g *room.Room) (handshake, error) {
		of := make(map[mimi.UserURI][]mls.KeyPackage)
		for _, k := range absent(g, packages, c.trust) {
			if who, err := c.trust.Identify(&k.LeafNode.Credential); err == nil {
				of[who.User] = append(of[who.User], k)
			}
		}
		var list []room.Addition
		for _, user := range users {
			if len(of[user]) > 0 {
				list = append(list, room.Addition{User: user, KeyPackages: of[user]})
			}
		}
		if len(list) == 0 {
			return handshake{}, errNothing
		}
		s, err := g.AddUsers(c.rand, uint64(c.cfg.Now().Unix()), list...)
		return handshake{staged: s}, err
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// strange says why this device does not come into another group by itself that the hub has for a room, nil if it does: the
// group that a ReInit named or whose founding it saw, which the hub compared with the one before, or one of plainly the same
// room. c.mu is held.
func strange(r *roomState, mine *room.Room, theirs *room.View) error {
	id := theirs.Context().GroupID
	switch {
	case mine == nil, bytes.Equal(id, mine.Group().GroupID()), r.rec.repair == foundedAnew,
		mine.Ended() != nil && bytes.Equal(id, mine.Ended().GroupID):
		return nil
	}
	if err := mine.Continues(theirs); err != nil {
		return &strangeError{err}
	}
	return nil
}

// A strangeError is another group for a room that is not plainly the same room.
type strangeError struct{ err error }

func (e *strangeError) Error() string {
	return "the room has another MLS group, which this device does not follow by itself, for it is not as it knows the room; join follows it: " + e.err.Error()
}

func (e *strangeError) Unwrap() error { return e.err }

// keepOut says once why the device does not follow another group, and lets it look again later: who should not be there may be
// taken out yet.
func (c *Client) keepOut(ctx context.Context, r *roomState, why *strangeError) error {
	c.mu.Lock()
	said := r.kept == why.Error()
	r.kept = why.Error()
	c.mu.Unlock()
	if !said {
		if err := c.complain(ctx, r, why); err != nil {
			return err
		}
	}
	return why
}
