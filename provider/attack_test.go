package provider_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
)

// c.example, with a certificate of its own that is good, acts for others. What a
// certificate is good for is tested in package federation; here its bearer is
// believed to be c.example.
func TestActsForAForeignDomain(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	hub := p.providers[domA]
	refused := func(what string, err error) {
		t.Helper()
		var r *mimi.RefusedError
		if !errors.As(err, &r) || r.Refusal != mimi.RefusedForbidden && r.Refusal != mimi.RefusedNotFound {
			t.Errorf("%s: %v", what, err)
		}
	}
	epoch := alice.rooms[clubhouse].View().Epoch()

	staged, err := bob.rooms[clubhouse].Commit(rand.Reader, 0)
	bob.must(err)
	resp, err := hub.Update(p.ctx, domC, clubhouse, &mimi.UpdateRequest{Bundle: *staged.Bundle()})
	if err != nil || resp.ResponseCode != mimi.UpdateNotAllowed {
		t.Errorf("a commit of bob's: %+v, %v", resp, err)
	}
	p.Refused(domA, "update", "notAllowed", "from=c.example", "may not act for")
	sent, err := hub.SubmitMessage(p.ctx, domC, clubhouse, bob.message(clubhouse, "hi"))
	if err != nil || sent.StatusCode != mimi.SubmitNotAllowed {
		t.Errorf("a message of bob's: %+v, %v", sent, err)
	}
	// bob's provider lets bob speak as alice.
	q := bob.message(clubhouse, "I am alice")
	q.SendingURI = alice.dev.User
	sent, err = hub.SubmitMessage(p.ctx, domB, clubhouse, q)
	if err != nil || sent.StatusCode != mimi.SubmitNotAllowed {
		t.Errorf("bob as alice: %+v, %v", sent, err)
	}
	q.SendingURI = "mimi://b.example/u/nobody"
	if sent, err = hub.SubmitMessage(p.ctx, domB, clubhouse, q); err != nil || sent.StatusCode != mimi.SubmitNotAllowed {
		t.Errorf("bob as somebody who isn't there: %+v, %v", sent, err)
	}
	req, _ := bob.groupInfo("")
	_, err = hub.GroupInfo(p.ctx, domC, clubhouse, req)
	refused("GroupInfo for bob", err)
	_, err = hub.KeyMaterial(p.ctx, domC, alice.dev.User, bob.claim(alice.dev.User, ""))
	refused("a claim for bob", err)
	_, err = hub.KeyMaterial(p.ctx, domC, bob.dev.User, bob.claim(bob.dev.User, clubhouse))
	refused("a claim for bob through the hub", err)
	p.Refused(domA, "keyMaterial", "forbidden", "from=c.example")

	// bob's client says that it is another's.
	var e *clientapi.Error
	_, err = bob.svc.KeyMaterial(p.ctx, bob.dev, alice.dev.User, alice.claim(alice.dev.User, ""))
	if !errors.As(err, &e) || e.Code != clientapi.CodeForbidden {
		t.Errorf("bob claims as alice: %v", err)
	}
	q.SendingURI = alice.dev.User
	if _, err = bob.svc.SubmitMessage(p.ctx, bob.dev, clubhouse, q); !errors.As(err, &e) || e.Code != clientapi.CodeForbidden {
		t.Errorf("bob submits as alice: %v", err)
	}
	areq, _ := alice.groupInfo("")
	if _, err = bob.svc.GroupInfo(p.ctx, bob.dev, clubhouse, areq); !errors.As(err, &e) || e.Code != clientapi.CodeForbidden {
		t.Errorf("bob asks as alice: %v", err)
	}
	// A claim with a broken signature.
	claim := bob.claim(alice.dev.User, "")
	claim.Signature[5] ^= 1
	_, err = hub.KeyMaterial(p.ctx, domB, alice.dev.User, claim)
	refused("a claim with another signature", err)
	areq.Signature[5] ^= 1
	if r, err := hub.GroupInfo(p.ctx, domA, clubhouse, areq); err != nil || r.Status != mimi.GroupInfoNotAuthorized {
		t.Errorf("GroupInfo with another signature: %+v, %v", r, err)
	}
	alice.drain()
	if alice.rooms[clubhouse].View().Epoch() != epoch || len(alice.texts) > 0 {
		t.Error("something of all that had an effect")
	}
}

// A provider that claims rooms which it doesn't host, and a hub that answers or
// notifies with garbage.
func TestHostileHub(t *testing.T) {
	p := newPlay(t)
	alice, bob, mallory := p.As("alice@a.example"), p.As("bob@b.example"), p.As("mallory@c.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	alice.Says(clubhouse, "true")
	bob.Reads(clubhouse, "true")
	p.mu.Lock()
	seen := slices.Clone(p.notified[domB])
	p.mu.Unlock()
	follower := p.providers[domB]
	var r *mimi.RefusedError
	if err := follower.Notify(p.ctx, domC, clubhouse, seen[len(seen)-1]); !errors.As(err, &r) || r.Refusal != mimi.RefusedForbidden {
		t.Errorf("c.example notifies of a room of a.example: %v", err)
	}
	p.Refused(domB, "notify", "forbidden", "from=c.example")
	if err := p.providers[domA].Notify(p.ctx, domA, clubhouse, seen[0]); !errors.As(err, &r) {
		t.Errorf("a notification of our own room: %v", err)
	}
	own := mimi.RoomURI("mimi://c.example/r/own")
	if err := follower.Notify(p.ctx, domC, own, seen[len(seen)-1]); !errors.As(err, &r) || r.Refusal != mimi.RefusedNotFound {
		t.Errorf("c.example notifies of a room that nobody is in: %v", err)
	}
	// It replays a Welcome of another room in its own.
	for _, n := range seen {
		for i := range n.Messages {
			if n.Messages[i].Kind() == mimi.FanoutWelcome {
				if err := follower.Notify(p.ctx, domC, own, &mimi.NotifyRequest{Messages: n.Messages[i : i+1]}); !errors.As(err, &r) {
					t.Errorf("a Welcome that was stolen: %v", err)
				}
			}
		}
	}
	if list, err := bob.svc.Rooms(p.ctx, bob.dev); err != nil || len(list) != 1 {
		t.Errorf("bob's rooms: %+v, %v", list, err)
	}
	// It lists users who don't exist: the answer is the one for those who do, and
	// nothing is kept.
	mallory.Creates(own, policy.Cooperative)
	staged, err := mallory.rooms[own].AddUsers(rand.Reader, 0, room.Addition{User: "mimi://b.example/u/nobody", Role: 2})
	mallory.must(err)
	commit := mimi.FanoutMessage{Timestamp: 1, Message: staged.Bundle().ProposalOrCommit}
	if err := follower.Notify(p.ctx, domC, own, &mimi.NotifyRequest{Messages: []mimi.FanoutMessage{commit}}); err != nil {
		t.Errorf("a commit that lists nobody who exists: %v", err)
	}
	st, err := follower.Status(p.ctx)
	if err != nil || st.Rooms != 1 {
		t.Errorf("b.example keeps %d rooms, %v", st.Rooms, err)
	}
	// Rooms that it doesn't have, by every endpoint.
	nowhere := mimi.RoomURI("mimi://a.example/r/nowhere")
	if _, err := p.providers[domA].Update(p.ctx, domC, nowhere, &mimi.UpdateRequest{Bundle: *staged.Bundle()}); !errors.As(err, &r) || r.Refusal != mimi.RefusedNotFound {
		t.Errorf("an update of no room: %v", err)
	}
	if _, err := p.providers[domA].Update(p.ctx, domC, own, &mimi.UpdateRequest{Bundle: *staged.Bundle()}); !errors.As(err, &r) || r.Refusal != mimi.RefusedNotFound {
		t.Errorf("an update of a room of c.example at a.example: %v", err)
	}
	if _, err := p.providers[domA].SubmitMessage(p.ctx, domC, nowhere, mallory.message(own, "x")); !errors.As(err, &r) || r.Refusal != mimi.RefusedNotFound {
		t.Errorf("a message to no room: %v", err)
	}
	if err := p.providers[domA].ReportAbuse(p.ctx, domC, nowhere, &mimi.AbuseReport{AllegedAbuserURI: bob.dev.User}); !errors.As(err, &r) {
		t.Errorf("a report about no room: %v", err)
	}
}

// Replayed and reordered requests have no second effect.
func TestReplaysAndReorders(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative, tolerant(2))
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	hub := p.providers[domA]
	var messages []*mimi.SubmitMessageRequest
	for i := range 5 {
		messages = append(messages, bob.message(clubhouse, fmt.Sprint("number ", i)))
	}
	slices.Reverse(messages)
	first := map[int]mimi.Millis{}
	for round := range 3 {
		for i, q := range messages {
			resp, err := hub.SubmitMessage(p.ctx, domB, clubhouse, q)
			if err != nil || resp.StatusCode != mimi.SubmitSuccess {
				t.Fatalf("message %d: %+v, %v", i, resp, err)
			}
			if round == 0 {
				first[i] = resp.AcceptedTimestamp
			} else if resp.AcceptedTimestamp != first[i] {
				t.Errorf("message %d was accepted twice", i)
			}
		}
	}
	// Another provider that replays them learns nothing.
	if resp, err := hub.SubmitMessage(p.ctx, domC, clubhouse, messages[0]); err == nil && resp.StatusCode == mimi.SubmitSuccess {
		t.Error("c.example replayed a message of b.example")
	}
	staged, err := bob.rooms[clubhouse].Commit(rand.Reader, 0)
	bob.must(err)
	var at mimi.Millis
	for i := range 3 {
		resp, err := bob.Updates(clubhouse, staged.Bundle())
		if err != nil || resp.ResponseCode != mimi.UpdateSuccess || i > 0 && resp.AcceptedTimestamp != at {
			t.Errorf("a commit, time %d: %+v, %v", i, resp, err)
		}
		at = resp.AcceptedTimestamp
	}
	bob.must(bob.rooms[clubhouse].Merge(staged))
	for i := range 5 {
		alice.Reads(clubhouse, fmt.Sprint("number ", i))
	}
	alice.Reaches(clubhouse, bob.rooms[clubhouse].View().Epoch())
	alice.drain()
	if len(alice.texts) != 5 {
		t.Errorf("alice read %d messages", len(alice.texts))
	}
	p.Same(clubhouse, alice, bob)
}

// Bytes that are good by themselves, put together wrongly.
func TestHandshakesThatLie(t *testing.T) {
	p := newPlay(t)
	alice, bob, cathy := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	kp := *bob.Claims(cathy, clubhouse).Clients[0].KeyPackage
	for _, x := range []struct {
		name  string
		twist func(*mimi.HandshakeBundle)
	}{
		{"no GroupInfo", func(b *mimi.HandshakeBundle) { b.GroupInfoOption = mimi.GroupInfoOption{} }},
		{"no Welcome", func(b *mimi.HandshakeBundle) { b.Welcome = nil }},
		{"a Welcome for nobody", func(b *mimi.HandshakeBundle) {
			w := *b.Welcome
			w.Secrets = nil
			b.Welcome = &w
		}},
		{"a Welcome for another", func(b *mimi.HandshakeBundle) {
			w := *b.Welcome
			w.Secrets = slices.Clone(w.Secrets)
			w.Secrets[0].NewMember = slices.Repeat([]byte{1}, 32)
			b.Welcome = &w
		}},
		{"a tree from elsewhere", func(b *mimi.HandshakeBundle) {
			b.RatchetTreeOption = mls.RatchetTreeOption{Representation: mls.RatchetTreeHTTPSURI}
		}},
		{"a GroupInfo signed otherwise", func(b *mimi.HandshakeBundle) {
			o := b.GroupInfoOption
			partial := *o.PartialGroupInfo
			partial.Signature = slices.Clone(partial.Signature)
			partial.Signature[3] ^= 1
			o.PartialGroupInfo = &partial
			b.GroupInfoOption = o
		}},
	} {
		staged, err := bob.rooms[clubhouse].AddUsers(rand.Reader, 0, room.Addition{User: cathy.dev.User, Role: 2, KeyPackages: []mls.KeyPackage{kp}})
		bob.must(err)
		bundle := *staged.Bundle()
		x.twist(&bundle)
		resp, err := bob.Updates(clubhouse, &bundle)
		var e *clientapi.Error
		if err == nil && (resp.ResponseCode != mimi.UpdateNotAllowed || resp.ErrorDescription == "") || err != nil && (!errors.As(err, &e) || e.Code != clientapi.CodeBadRequest) {
			t.Errorf("%s: %+v, %v", x.name, resp, err)
		}
	}
	// None of that has hurt the room.
	bob.AddsWith(clubhouse, cathy, kp)
	cathy.Enters(clubhouse)
	cathy.Says(clubhouse, "unhurt")
	alice.Reads(clubhouse, "unhurt")
}

// More than a room can take at once is told to come again, and nothing of what
// was accepted is lost.
func TestFlood(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	q := bob.message(clubhouse, "flood")
	hub := p.providers[domA]
	const n = 6000
	type result struct {
		resp *mimi.SubmitMessageResponse
		err  error
	}
	results := make(chan result, n)
	for range n {
		go func() {
			resp, err := hub.SubmitMessage(p.ctx, domB, clubhouse, q)
			results <- result{resp, err}
		}()
	}
	stamps := map[mimi.Millis]bool{}
	for range n {
		r := <-results
		var busy *mimi.RefusedError
		switch {
		case r.err == nil && r.resp.StatusCode == mimi.SubmitSuccess:
			stamps[r.resp.AcceptedTimestamp] = true
		case errors.As(r.err, &busy) && busy.Refusal == mimi.RefusedTooMany && busy.RetryAfter > 0:
		default:
			t.Fatalf("%+v, %v", r.resp, r.err)
		}
	}
	if len(stamps) != 1 {
		t.Errorf("one message has %d times of acceptance", len(stamps))
	}
	alice.Reads(clubhouse, "flood")
	alice.Says(clubhouse, "still here")
	bob.Reads(clubhouse, "still here")
}
