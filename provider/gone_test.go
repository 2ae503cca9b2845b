package provider_test

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/store"
)

// A notice that somebody is gone: only of one's own users, and what is not in the
// room is nobody's business.
func TestGoneNotice(t *testing.T) {
	p := newPlay(t)
	alice, bob, cathy := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example")
	tablet := p.As("bob@b.example/tablet")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob, cathy)
	for _, m := range []*member{bob, cathy, tablet} {
		m.Enters(clubhouse)
	}
	hub := p.providers[domA]
	var r *mimi.RefusedError
	for name, x := range map[string]struct {
		from   mimi.ProviderDomain
		room   mimi.RoomURI
		notice mimi.GoneNotice
		want   mimi.Refusal
	}{
		"another's user":   {domC, clubhouse, mimi.GoneNotice{User: bob.dev.User}, mimi.RefusedForbidden},
		"another's client": {domC, clubhouse, mimi.GoneNotice{User: cathy.dev.User, Clients: []mimi.ClientURI{bob.dev.Client}}, mimi.RefusedForbidden},
		"a room elsewhere": {domB, "mimi://c.example/r/x", mimi.GoneNotice{User: bob.dev.User}, mimi.RefusedNotFound},
		"too many":         {domB, clubhouse, mimi.GoneNotice{User: bob.dev.User, Clients: make([]mimi.ClientURI, 101)}, mimi.RefusedTooLarge},
	} {
		if err := hub.Gone(p.ctx, x.from, x.room, &x.notice); !errors.As(err, &r) || r.Refusal != x.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.Refused(domA, "comityGone", "forbidden", "from=c.example")
	for name, x := range map[string]struct {
		room   mimi.RoomURI
		notice mimi.GoneNotice
	}{
		"no such room":           {"mimi://a.example/r/nowhere", mimi.GoneNotice{User: bob.dev.User}},
		"nobody there":           {clubhouse, mimi.GoneNotice{User: "mimi://b.example/u/nobody"}},
		"no such client":         {clubhouse, mimi.GoneNotice{User: bob.dev.User, Clients: []mimi.ClientURI{"mimi://b.example/d/bob/none"}}},
		"another user's clients": {clubhouse, mimi.GoneNotice{User: bob.dev.User, Clients: []mimi.ClientURI{"mimi://b.example/d/eve/phone"}}},
	} {
		if err := hub.Gone(p.ctx, domB, x.room, &x.notice); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	none := func() bool {
		n := -1
		alice.must(p.stores[domA].View(p.ctx, func(tx *store.Tx) error {
			list, err := tx.Removals(store.Removal{}, 10)
			n = len(list)
			return err
		}))
		return n == 0
	}
	p.Eventually("that nothing is to be done", none)
	alice.drain()
	if n := len(alice.rooms[clubhouse].Group().Pending()); n != 0 {
		t.Fatalf("%d proposals", n)
	}

	// One client, twice; then an external commit undoes the proposal, and the hub
	// proposes it again, stapled.
	gone := &mimi.GoneNotice{User: bob.dev.User, Clients: []mimi.ClientURI{tablet.dev.Client}}
	for range 2 {
		alice.must(hub.Gone(p.ctx, domB, clubhouse, gone))
	}
	alice.Pending(clubhouse, 1)
	p.Eventually("that it is proposed", none)
	laptop := p.enter("cathy@c.example/laptop")
	laptop.Joins(clubhouse)
	alice.Reaches(clubhouse, laptop.rooms[clubhouse].View().Epoch())
	alice.Pending(clubhouse, 1)
	alice.Empties(clubhouse)
	tablet.until("its removal", func() bool { return tablet.rooms[clubhouse] == nil })
	bob.Reaches(clubhouse, alice.rooms[clubhouse].View().Epoch())
	if n := len(alice.rooms[clubhouse].Clients(bob.dev.User)); n != 1 {
		t.Errorf("bob has %d clients", n)
	}
	// The user, whose clients then can't speak though nobody has committed it.
	q := bob.message(clubhouse, "still here?")
	alice.must(hub.Gone(p.ctx, domB, clubhouse, &mimi.GoneNotice{User: bob.dev.User}))
	bob.Pending(clubhouse, 2)
	if resp, err := bob.svc.SubmitMessage(p.ctx, bob.dev, clubhouse, q); err != nil || resp.StatusCode != mimi.SubmitNotAllowed {
		t.Errorf("a user who is about to go speaks: %+v, %v", resp, err)
	}
	resp, err := bob.commit(clubhouse, func(r *room.Room) (*room.Staged, error) { return r.Commit(rand.Reader, 0) })
	if err == nil && resp.ResponseCode == mimi.UpdateSuccess {
		t.Error("who is about to go commits it")
	}
	alice.Pending(clubhouse, 2)
	alice.Empties(clubhouse)
	bob.until("its removal", func() bool { return bob.rooms[clubhouse] == nil })
	cathy.Reaches(clubhouse, alice.rooms[clubhouse].View().Epoch())
	p.Same(clubhouse, alice, cathy)
}
