package provider_test

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
)

func textContent(t *testing.T, from mimi.UserURI, uri mimi.RoomURI, s string) *content.Content {
	t.Helper()
	x, err := content.Composer{SenderURI: string(from), RoomURI: string(uri), Rand: rand.Reader}.Text(s)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// The example flow (MIMI protocol §3).
func TestStory(t *testing.T) {
	p := newPlay(t)
	alice, bob, cathy := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	bob.Adds(clubhouse, cathy)
	cathy.Enters(clubhouse)
	cathy.Says(clubhouse, "hello")
	alice.Reads(clubhouse, "hello")
	bob.Reads(clubhouse, "hello")
	p.Same(clubhouse, alice, bob, cathy)

	bob.Leaves(clubhouse)
	cathy.Pending(clubhouse, 1)
	cathy.Empties(clubhouse)
	bob.until("its own removal", func() bool { return bob.rooms[clubhouse] == nil })
	laptop := p.enter("cathy@c.example/laptop")
	laptop.Joins(clubhouse)
	laptop.Says(clubhouse, "from my laptop")
	alice.Reads(clubhouse, "from my laptop")
	cathy.Reads(clubhouse, "from my laptop")
	alice.drain()
	p.Same(clubhouse, alice, cathy, laptop)
	if role, ok := alice.rooms[clubhouse].View().RoleOf(bob.dev.User.Identifier()); ok {
		t.Errorf("bob left and has role %v", role)
	}
}

// Concurrent Commits and messages from three providers: one wins, the others
// rebase; every client reads all messages in one order.
func TestConcurrency(t *testing.T) {
	p := newPlay(t)
	alice, bob, cathy := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example")
	everybody := []*member{alice, bob, cathy}
	alice.Creates(clubhouse, policy.Cooperative, tolerant(3))
	alice.Adds(clubhouse, bob, cathy)
	bob.Enters(clubhouse)
	cathy.Enters(clubhouse)
	alice.drain()
	const rounds = 8
	var wg sync.WaitGroup
	for i, m := range everybody {
		wg.Go(func() {
			for n := range rounds {
				if n%2 == i%2 {
					m.Commits(clubhouse, func(r *room.Room) (*room.Staged, error) { return r.Commit(rand.Reader, 0) })
				}
				m.Says(clubhouse, fmt.Sprintf("%d of %d", n, i))
			}
		})
	}
	wg.Wait()
	for i, m := range everybody {
		for j := range everybody {
			if i == j {
				continue
			}
			for n := range rounds {
				m.Reads(clubhouse, fmt.Sprintf("%d of %d", n, j))
			}
		}
	}
	for _, m := range everybody {
		m.drain()
	}
	p.Same(clubhouse, everybody...)
	// Each read the others' messages once, in the hub's order.
	for _, m := range everybody {
		if len(m.texts) != 2*rounds {
			t.Errorf("%s read %d messages, not %d", m.dev.Client, len(m.texts), 2*rounds)
		}
		if !slices.IsSortedFunc(m.texts, func(x, y text) int { return int(x.fanout.Timestamp) - int(y.fanout.Timestamp) }) {
			t.Errorf("%s read in another order than the hub's", m.dev.Client)
		}
	}
}

// tolerant lets messages of so many past epochs be accepted.
func tolerant(epochs uint8) func(*policy.Components, *[]mimi.UserRolePair) {
	return func(c *policy.Components, _ *[]mimi.UserRolePair) {
		if c.Operational == nil {
			c.Operational = &mimi.OperationalParameters{ExternalProposalAllowed: true, ExternalCommitAllowed: true, HandshakeFormats: []mls.WireFormat{mls.WireFormatPublicMessage}}
		}
		c.Operational.AppMessagePolicy.EpochTolerance = epochs
	}
}

// wrongEpoch carries the current epoch, invalidProposal the references and
// notAllowed a reason; a repeat is answered as the first time (Decision 38).
func TestUpdateCodes(t *testing.T) {
	p := newPlay(t)
	alice, bob, cathy := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob, cathy)
	bob.Enters(clubhouse)
	cathy.Enters(clubhouse)
	alice.drain()

	stale, err := bob.rooms[clubhouse].Commit(rand.Reader, 0)
	bob.must(err)
	alice.Empties(clubhouse)
	resp, err := bob.Updates(clubhouse, stale.Bundle())
	bob.must(err)
	if resp.ResponseCode != mimi.UpdateWrongEpoch || resp.CurrentEpoch != alice.rooms[clubhouse].View().Epoch() {
		t.Errorf("a commit of a past epoch: %+v", resp)
	}
	p.Refused(domA, "update", "wrongEpoch", "from=b.example")

	// The same commit twice, as if the answer was lost.
	bob.Reaches(clubhouse, alice.rooms[clubhouse].View().Epoch())
	staged, err := bob.rooms[clubhouse].Commit(rand.Reader, 0)
	bob.must(err)
	first, err := bob.Updates(clubhouse, staged.Bundle())
	bob.must(err)
	bob.must(first.Err())
	again, err := bob.Updates(clubhouse, staged.Bundle())
	bob.must(err)
	if again.ResponseCode != mimi.UpdateSuccess || again.AcceptedTimestamp != first.AcceptedTimestamp {
		t.Errorf("a repeated commit is answered %+v, not %+v", again, first)
	}
	bob.must(bob.rooms[clubhouse].Merge(staged))
	alice.Reaches(clubhouse, bob.rooms[clubhouse].View().Epoch())
	// Not to another provider.
	other, err := p.providers[domA].Update(p.ctx, domC, clubhouse, &mimi.UpdateRequest{Bundle: *staged.Bundle()})
	if err == nil && other.ResponseCode == mimi.UpdateSuccess {
		t.Error("c.example was told that it made the commit of b.example")
	}

	// A policy that forbids says which.
	resp, err = bob.commit(clubhouse, func(r *room.Room) (*room.Staged, error) {
		return r.ChangeRole(rand.Reader, 4, bob.dev.User)
	})
	if err == nil && (resp.ResponseCode != mimi.UpdateNotAllowed || resp.ErrorDescription == "") {
		t.Errorf("a forbidden commit: %+v", resp)
	}

	// Who is about to be removed commits nothing.
	words, bundle := bob.message(clubhouse, "one more thing"), mustStage(t, bob, clubhouse)
	bob.Leaves(clubhouse)
	cathy.Pending(clubhouse, 1)
	if r, err := bob.Updates(clubhouse, bundle); err != nil || r.ResponseCode != mimi.UpdateNotAllowed || r.ErrorDescription != mimi.ReasonPending {
		t.Errorf("a commit of somebody who leaves: %+v, %v", r, err)
	}
	// And says nothing.
	if r, err := bob.svc.SubmitMessage(p.ctx, bob.dev, clubhouse, words); err != nil || r.StatusCode != mimi.SubmitNotAllowed {
		t.Errorf("a message of somebody who leaves: %+v, %v", r, err)
	}
	p.Refused(domA, "submitMessage", "notAllowed")
	// A commit that misses what is pending is refused for it.
	leaving, err := cathy.rooms[clubhouse].Commit(rand.Reader, 0)
	cathy.must(err)
	m := leaving.Bundle()
	if got, err := cathy.Updates(clubhouse, m); err != nil || got.ResponseCode != mimi.UpdateSuccess {
		t.Errorf("the commit of what is pending: %+v, %v", got, err)
	}
}

// A member without a client in stock is listed all the same; its devices hear of
// it by the commit, and join by themselves.
func TestExhaustedIsInvited(t *testing.T) {
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("follower=%v", known), func(t *testing.T) {
			p := newPlay(t)
			alice, bob := p.As("alice@a.example"), p.enter("bob@b.example")
			alice.Creates(clubhouse, policy.Cooperative)
			if known {
				dave := p.As("dave@b.example")
				alice.Adds(clubhouse, dave)
				dave.Enters(clubhouse)
			}
			resp := alice.Claims(bob, clubhouse)
			if resp.UserStatus != mimi.KeyMaterialNoCompatible || len(resp.Clients) != 1 || resp.Clients[0].ClientStatus != mimi.ClientKeyMaterialExhausted {
				t.Fatalf("claim: %+v", resp)
			}
			alice.Adds(clubhouse, bob)
			bob.until("the invitation", func() bool { return slices.Contains(bob.invited, clubhouse) })
			bob.Joins(clubhouse)
			bob.Says(clubhouse, "here I am")
			alice.Reads(clubhouse, "here I am")
			// It is said once.
			bob.sub.Close()
			bob.sub, _ = bob.svc.Subscribe(p.ctx, bob.dev)
			bob.invited = nil
			bob.drain()
			if len(bob.invited) > 0 {
				t.Error("invited again after having joined")
			}
		})
	}
}

// One exhausted, one added, in one commit, at a provider that was not in the
// room: both get there.
func TestExhaustedBesideAdded(t *testing.T) {
	p := newPlay(t)
	alice, bob, dave := p.As("alice@a.example"), p.enter("bob@b.example"), p.As("dave@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob, dave)
	dave.Enters(clubhouse)
	bob.until("the invitation", func() bool { return slices.Contains(bob.invited, clubhouse) })
	bob.Joins(clubhouse)
	bob.Says(clubhouse, "both")
	dave.Reads(clubhouse, "both")
}

// A device that the Welcome left out joins by itself.
func TestSecondDeviceWithoutStock(t *testing.T) {
	p := newPlay(t)
	alice, bob, laptop := p.As("alice@a.example"), p.As("bob@b.example"), p.enter("bob@b.example/laptop")
	alice.Creates(clubhouse, policy.Cooperative)
	if resp := alice.Claims(bob, clubhouse); resp.UserStatus != mimi.KeyMaterialPartialSuccess {
		t.Errorf("claim: %v", resp.UserStatus)
	}
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	laptop.until("the invitation", func() bool { return slices.Contains(laptop.invited, clubhouse) })
	laptop.Joins(clubhouse)
	laptop.Says(clubhouse, "two of me")
	alice.Reads(clubhouse, "two of me")
	bob.Reads(clubhouse, "two of me")
	if len(bob.invited) > 0 {
		t.Error("a device that is in was invited")
	}
}

// The Welcome goes only to those whom it names; the others see no Welcome.
func TestWelcomeOnlyForThoseItNames(t *testing.T) {
	p := newPlay(t)
	alice, dave, bob, eve := p.As("alice@a.example"), p.As("dave@b.example"), p.As("bob@b.example"), p.As("eve@a.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, dave, eve)
	dave.Enters(clubhouse)
	eve.Enters(clubhouse)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	bob.Says(clubhouse, "in")
	for _, m := range []*member{alice, dave, eve} {
		m.Reads(clubhouse, "in")
		welcomes := 0
		for _, e := range m.order {
			if strings.HasSuffix(e, mimi.FanoutWelcome.String()) {
				welcomes++
			}
		}
		if want := map[*member]int{alice: 0, dave: 1, eve: 1}[m]; welcomes != want {
			t.Errorf("%s got %d Welcomes, not %d", m.dev.Client, welcomes, want)
		}
	}
	// c.example, which has nobody there, got nothing at all.
	if n := len(p.notified[domC]); n > 0 {
		t.Errorf("c.example got %d notifications of a room that it has nobody in", n)
	}
}

// A follower that was down gets what it missed in order; one that is down delays
// nobody else.
func TestFollowerDown(t *testing.T) {
	p := newPlay(t)
	alice, bob, cathy := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob, cathy)
	bob.Enters(clubhouse)
	cathy.Enters(clubhouse)
	p.cut(domB, &mimi.FailedError{Status: 503})
	alice.Empties(clubhouse)
	for i := range 10 {
		alice.Says(clubhouse, fmt.Sprint("while you were away ", i))
	}
	cathy.Reads(clubhouse, "while you were away 9")
	// What b.example had before is counted until the cursors are written, a fifth of a second later.
	p.Eventually("11 events that wait for b.example", func() bool {
		q, err := p.providers[domA].Queue(p.ctx, domB)
		return err == nil && q.Events == 11 && q.Failures > 0
	})
	p.cut(domB, nil)
	p.providers[domA].PeerQueue(p.ctx, domB, "retry")
	for i := range 10 {
		bob.Reads(clubhouse, fmt.Sprint("while you were away ", i))
	}
	if len(bob.texts) != 10 {
		t.Errorf("bob read %d messages", len(bob.texts))
	}
	p.Same(clubhouse, alice, bob)
	p.Eventually("an empty queue", func() bool { q, _ := p.providers[domA].Queue(p.ctx, domB); return q.Events == 0 && q.Failures == 0 })
}

// Byte-exact duplicates of a notification, and batches cut in another way, have
// no second effect.
func TestDuplicateNotify(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	alice.Says(clubhouse, "once")
	bob.Reads(clubhouse, "once")
	before := len(bob.order)
	var all mimi.NotifyRequest
	p.mu.Lock()
	list := slices.Clone(p.notified[domB])
	p.mu.Unlock()
	for _, req := range list {
		all.Messages = append(all.Messages, req.Messages...)
		if err := p.providers[domB].Notify(p.ctx, domA, clubhouse, req); err != nil {
			t.Error("a duplicate:", err)
		}
	}
	if err := p.providers[domB].Notify(p.ctx, domA, clubhouse, &all); err != nil {
		t.Error("another batch of the same:", err)
	}
	bob.drain()
	if len(bob.order) != before {
		t.Errorf("duplicates had an effect: %q", bob.order[before:])
	}
	alice.Says(clubhouse, "twice")
	bob.Reads(clubhouse, "twice")
}

// epochTooOld by the room's tolerance.
func TestEpochTooOld(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative, tolerant(1))
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	req := bob.message(clubhouse, "in time")
	late := bob.message(clubhouse, "too late")
	alice.Empties(clubhouse)
	resp, err := bob.svc.SubmitMessage(p.ctx, bob.dev, clubhouse, req)
	if err != nil || resp.StatusCode != mimi.SubmitSuccess {
		t.Errorf("one epoch late: %+v, %v", resp, err)
	}
	alice.Reads(clubhouse, "in time")
	alice.Empties(clubhouse)
	resp, err = bob.svc.SubmitMessage(p.ctx, bob.dev, clubhouse, late)
	if err != nil || resp.StatusCode != mimi.SubmitEpochTooOld || resp.CurrentEpoch != alice.rooms[clubhouse].View().Epoch() {
		t.Errorf("two epochs late: %+v, %v", resp, err)
	}
	p.Refused(domA, "submitMessage", "epochTooOld")
	// What was accepted is answered as it was, however late it is repeated.
	again, err := bob.svc.SubmitMessage(p.ctx, bob.dev, clubhouse, req)
	if err != nil || again.StatusCode != mimi.SubmitSuccess {
		t.Errorf("a repeat: %+v, %v", again, err)
	}
}

// A message that is submitted twice, at once or later, is there once.
func TestSubmitTwice(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	req := bob.message(clubhouse, "one")
	var mu sync.Mutex
	var wg sync.WaitGroup
	stamps := map[mimi.Millis]int{}
	for range 8 {
		wg.Go(func() {
			for {
				resp, err := bob.svc.SubmitMessage(p.ctx, bob.dev, clubhouse, req)
				if err != nil {
					var e *clientapi.Error
					if asError(err, &e) && e.Code == clientapi.CodeTooMany {
						time.Sleep(time.Millisecond)
						continue
					}
					t.Error(err)
					return
				}
				mu.Lock()
				stamps[resp.AcceptedTimestamp]++
				mu.Unlock()
				return
			}
		})
	}
	wg.Wait()
	if len(stamps) != 1 {
		t.Errorf("one message was accepted at %v", stamps)
	}
	alice.Reads(clubhouse, "one")
	alice.drain()
	if len(alice.texts) != 1 {
		t.Errorf("alice read it %d times", len(alice.texts))
	}
}

// A room that is founded again because the answer was lost is the same room; by
// somebody else it is taken.
func TestCreateTwice(t *testing.T) {
	p := newPlay(t)
	alice, eve := p.As("alice@a.example"), p.As("eve@a.example")
	_, req := alice.founds(clubhouse, policy.Cooperative)
	first, err := alice.svc.CreateRoom(p.ctx, alice.dev, clubhouse, req)
	alice.must(err)
	again, err := alice.svc.CreateRoom(p.ctx, alice.dev, clubhouse, req)
	if err != nil || *again != *first {
		t.Errorf("a repeat: %+v, %v; first %+v", again, err, first)
	}
	if err := eve.create(clubhouse, policy.Cooperative); err == nil {
		t.Error("a room was founded twice")
	}
	if _, err := eve.svc.CreateRoom(p.ctx, eve.dev, "mimi://b.example/r/elsewhere", req); err == nil {
		t.Error("a room of b.example was founded at a.example")
	}
}

// Proposals of the hub: an account is deleted; a device is lost. An external
// Commit in between does not undo it: the hub proposes it again, stapled.
func TestGoneUsers(t *testing.T) {
	p := newPlay(t)
	alice, bob, cathy := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example")
	dave := p.As("dave@a.example")
	tablet := p.As("alice@a.example/tablet")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob, cathy, dave)
	for _, m := range []*member{bob, cathy, dave} {
		m.Enters(clubhouse)
	}
	tablet.Joins(clubhouse)
	alice.Reaches(clubhouse, tablet.rooms[clubhouse].View().Epoch())

	dave.must(dave.svc.DeleteAccount(p.ctx, dave.dev, password))
	bob.Pending(clubhouse, 2)
	// Somebody's new device comes in before anybody commits that.
	laptop := p.enter("cathy@c.example/laptop")
	laptop.Joins(clubhouse)
	bob.Reaches(clubhouse, laptop.rooms[clubhouse].View().Epoch())
	bob.Pending(clubhouse, 2)
	bob.Empties(clubhouse)
	if _, ok := bob.rooms[clubhouse].View().RoleOf(dave.dev.User.Identifier()); ok {
		t.Error("dave's account is gone, and he is still in the room")
	}
	if n := len(bob.rooms[clubhouse].Clients(dave.dev.User)); n > 0 {
		t.Errorf("dave's account is gone, and he has %d clients in the room", n)
	}
	// His session has ended, on the open connection too.
	dave.next(100 * time.Millisecond)
	dave.next(100 * time.Millisecond)
	if dave.ended == nil {
		t.Error("the connection of a deleted account is still open")
	}

	alice.Reaches(clubhouse, bob.rooms[clubhouse].View().Epoch())
	alice.must(alice.svc.RemoveDevice(p.ctx, alice.dev, tablet.dev.Client))
	bob.Pending(clubhouse, 1)
	bob.Empties(clubhouse)
	if n := len(bob.rooms[clubhouse].Clients(alice.dev.User)); n != 1 {
		t.Errorf("alice has %d clients in the room", n)
	}
	bob.Says(clubhouse, "gone")
	alice.Reads(clubhouse, "gone")
	for _, m := range []*member{alice, cathy} {
		m.Reads(clubhouse, "gone")
	}
	p.Same(clubhouse, alice, bob, cathy)
}

// Leaving the parent room leaves the rooms that depend on it, across providers.
func TestLeavingTheParent(t *testing.T) {
	p := newPlay(t)
	alice, bob, cathy := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example")
	child := mimi.RoomURI("mimi://a.example/r/sauna")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob, cathy)
	bob.Enters(clubhouse)
	cathy.Enters(clubhouse)
	alice.Creates(child, policy.Cooperative, func(c *policy.Components, _ *[]mimi.UserRolePair) {
		c.Base.ParentDependant, c.Base.ParentRoom = true, clubhouse
	})
	alice.Adds(child, bob)
	bob.Enters(child)
	// Nobody comes in who is not in the parent.
	eve := p.As("eve@c.example")
	kp := alice.Claims(eve, child).Clients[0].KeyPackage
	resp, err := alice.commit(child, func(r *room.Room) (*room.Staged, error) {
		return r.AddUsers(rand.Reader, 0, room.Addition{User: eve.dev.User, Role: memberRole(r), KeyPackages: []mls.KeyPackage{*kp}})
	})
	if err != nil || resp.ResponseCode != mimi.UpdateNotAllowed || !strings.Contains(resp.ErrorDescription, "parent") {
		t.Errorf("a stranger to the parent was added: %+v, %v", resp, err)
	}

	bob.Leaves(clubhouse)
	cathy.Pending(clubhouse, 1)
	cathy.Empties(clubhouse)
	alice.Pending(child, 1)
	alice.Empties(child)
	if _, ok := alice.rooms[child].View().RoleOf(bob.dev.User.Identifier()); ok {
		t.Error("bob left the parent and is still in the child")
	}
	bob.until("its removal from the child", func() bool { return bob.rooms[child] == nil })
}

// After a removal there is nothing more from the room for the provider.
func TestKickedAndBanned(t *testing.T) {
	p := newPlay(t)
	alice, bob, cathy := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob, cathy)
	bob.Enters(clubhouse)
	cathy.Enters(clubhouse)
	alice.Commits(clubhouse, func(r *room.Room) (*room.Staged, error) { return r.Ban(rand.Reader, bob.dev.User) })
	bob.until("its removal", func() bool { return bob.rooms[clubhouse] == nil })
	alice.Says(clubhouse, "without bob")
	cathy.Reads(clubhouse, "without bob")
	p.Eventually("an empty queue", func() bool { q, _ := p.providers[domA].Queue(p.ctx, domB); return q.Events == 0 })
	bob.drain()
	if last := bob.order[len(bob.order)-1]; last != "removed" {
		t.Errorf("after its removal bob got %q", last)
	}
	if err := bob.join(clubhouse, ""); err == nil {
		t.Error("a banned user came back")
	}
	p.Refused(domA, "groupInfo", "notAuthorized")
}
