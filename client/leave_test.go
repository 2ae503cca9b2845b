package client_test

import (
	"context"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/tlspl"
)

// kindOf is what an event of a room is; 0 if it is something else.
func kindOf(e clientapi.Event) mimi.FanoutKind {
	var f mimi.FanoutMessage
	if e.Invited || len(e.Fanout) == 0 || tlspl.Unmarshal(e.Fanout, &f) != nil {
		return 0
	}
	return f.Kind()
}

func (l *link) setTamper(f func(clientapi.Event) []clientapi.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tamper = f
}

// TestAddedAgain: a device that has not read yet that it is out, and is added
// again, reads everything in its order.
func TestAddedAgain(t *testing.T) {
	w, alice, bob, uri := pair(t)
	// Bob's provider reads on, Bob does not.
	bob.setUnreachable(true)
	if err := alice.Remove(w.ctx, uri, bob.User()); err != nil {
		t.Fatal(err)
	}
	if err := alice.Add(w.ctx, uri, bob.User(), ""); err != nil {
		t.Fatal(err)
	}
	w.settled("b.example", uri, bob)
	bob.setUnreachable(false)
	bob.waitRoom(uri, "being in again", func(r client.Room) bool { return r.Standing == client.Joined && r.Epoch >= 3 })
	inStep(t, uri, alice, bob)
	want := []client.EventKind{client.EventJoined, client.EventOut, client.EventJoined}
	told := func() (kinds []client.EventKind) { // after it is stored
		bob.mu.Lock()
		defer bob.mu.Unlock()
		for _, e := range bob.events {
			switch e.Kind {
			case client.EventJoined, client.EventOut, client.EventRepaired:
				kinds = append(kinds, e.Kind)
			}
		}
		return kinds
	}
	for begun := time.Now(); len(told()) < len(want) && time.Since(begun) < 20*time.Second; {
		time.Sleep(10 * time.Millisecond)
	}
	if kinds := told(); !slices.Equal(kinds, want) {
		t.Errorf("Bob was told %v", kinds)
	}
}

// setUnreachable is setCut, and waits until the device knows.
func (d *device) setUnreachable(yes bool) {
	d.link.setCut(yes)
	for yes == d.Online() {
		time.Sleep(time.Millisecond)
	}
}

// settled waits until a provider has a Welcome for a device that reads nothing.
func (w *world) settled(domain mimi.ProviderDomain, uri mimi.RoomURI, d *device) {
	w.t.Helper()
	svc := w.providers[domain].Clients()
	last := int64(0)
	for begun := time.Now(); time.Since(begun) < 40*time.Second; time.Sleep(20 * time.Millisecond) {
		rooms, err := svc.Rooms(w.ctx, d.link.dev)
		if err != nil {
			w.t.Fatal(err)
		}
		i := slices.IndexFunc(rooms, func(r clientapi.RoomInfo) bool { return r.Room == uri })
		if i < 0 {
			continue
		}
		// A Welcome, the removal, and another Welcome.
		if rooms[i].Newest >= 3 && rooms[i].Newest == last {
			return
		}
		last = rooms[i].Newest
	}
	w.t.Fatal("the provider has no further events of the room")
}

// TestLeftUnseen: a device that misses the Commit that takes it out learns from
// the hub that it has left.
func TestLeftUnseen(t *testing.T) {
	w, alice, bob, uri := pair(t)
	ben := w.device("ben@b.example/phone") // so that Bob's provider stays in the room
	if err := alice.Add(w.ctx, uri, ben.User(), ""); err != nil {
		t.Fatal(err)
	}
	ben.waitKind(client.EventJoined)
	inStep(t, uri, alice, bob, ben)
	lossy(bob, func(k mimi.FanoutKind, n int) bool { return k == mimi.FanoutCommit && n == 1 })
	if err := bob.Leave(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	alice.waitRoom(uri, "Bob's departure", func(r client.Room) bool { return r.Participants == 2 })
	if err := alice.Commit(w.ctx, uri); err != nil { // which Bob's provider hands him, too
		t.Fatal(err)
	}
	bob.waitRoom(uri, "having left", func(r client.Room) bool { return r.Standing == client.Left })
}

// lossy lets events of a kind get lost between a device and its provider, by how
// many of them came.
func lossy(d *device, lose func(k mimi.FanoutKind, n int) bool) {
	counts := map[mimi.FanoutKind]int{}
	d.link.setTamper(func(e clientapi.Event) []clientapi.Event {
		k := kindOf(e)
		if counts[k]++; k != 0 && lose(k, counts[k]) {
			return nil
		}
		return []clientapi.Event{e}
	})
}

// TestLeaveAgain: a device whose departure came to nothing, because it was added
// again and missed all that, leaves once more.
func TestLeaveAgain(t *testing.T) {
	w, alice, bob, uri := pair(t)
	ben := w.device("ben@b.example/phone") // so that Bob's provider stays in the room
	if err := alice.Add(w.ctx, uri, ben.User(), ""); err != nil {
		t.Fatal(err)
	}
	ben.waitKind(client.EventJoined)
	inStep(t, uri, alice, bob, ben)
	lossy(bob, func(k mimi.FanoutKind, n int) bool {
		return k == mimi.FanoutCommit && n <= 2 || k == mimi.FanoutWelcome && n == 1
	})
	if err := bob.Leave(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	alice.waitRoom(uri, "Bob's departure", func(r client.Room) bool { return r.Participants == 2 })
	if err := alice.Add(w.ctx, uri, bob.User(), ""); err != nil {
		t.Fatal(err)
	}
	if err := alice.Commit(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	bob.waitRoom(uri, "having left", func(r client.Room) bool { return r.Standing == client.Left })
	alice.waitRoom(uri, "Bob's second departure", func(r client.Room) bool { return r.Participants == 2 && r.Pending == 0 })
}

// TestLeaveTogether: somebody else's proposals that come in while this device's
// own are under way are not forgotten when those are accepted.
func TestLeaveTogether(t *testing.T) {
	w, alice, bob, uri := pair(t)
	cathy := w.device("cathy@a.example/phone")
	if err := alice.Add(w.ctx, uri, cathy.User(), ""); err != nil {
		t.Fatal(err)
	}
	cathy.waitKind(client.EventJoined)
	inStep(t, uri, alice, bob, cathy)
	alice.link.setCut(true) // nobody commits
	hold, held := make(chan struct{}), make(chan struct{})
	var once sync.Once
	bob.link.setTamper(func(e clientapi.Event) []clientapi.Event {
		if kindOf(e) == mimi.FanoutProposal {
			once.Do(func() { close(held) })
			<-hold
		}
		return []clientapi.Event{e}
	})
	if err := cathy.Leave(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	<-held // at Bob's door
	var open sync.Once
	bob.link.mu.Lock()
	bob.link.lose = func(op string) bool {
		if op == "update" {
			// The hub has accepted Bob's proposals; he hears of Cathy's first.
			open.Do(func() { close(hold) })
			bob.waitRoom(uri, "Cathy's proposals", func(r client.Room) bool { return r.Pending > 0 })
		}
		return false
	}
	bob.link.mu.Unlock()
	if err := bob.Leave(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	bob.waitRoom(uri, "all proposals", func(r client.Room) bool { return r.Pending == 4 })
	alice.link.setCut(false)
	for _, d := range []*device{bob, cathy} {
		out := d.waitKind(client.EventOut)
		if r, err := d.Room(w.ctx, uri); err != nil || r.Standing != client.Left || out.Text != "left" {
			t.Errorf("%s stands as %v, was told %q (%v)", d.name, r.Standing, out.Text, err)
		}
	}
	bob.mu.Lock()
	defer bob.mu.Unlock()
	if i := slices.IndexFunc(bob.events, func(e client.Event) bool { return e.Kind == client.EventRepaired || e.Kind == client.EventProblem }); i >= 0 {
		t.Errorf("Bob was told: %s", bob.events[i].Line())
	}
}

// TestCommitAfterRestart: who was about to commit what others proposed, and was
// started again, does it though nothing comes any more that would tell it to.
func TestCommitAfterRestart(t *testing.T) {
	w, alice, bob, uri := pair(t)
	alice.stop()
	slow, err := client.Open(w.ctx, client.Config{Store: alice.store, Provider: alice.link, CommitDelay: func() time.Duration { return time.Hour }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error)
	go func() { done <- slow.Run(ctx) }()
	if err := bob.Leave(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	alice.Client = slow
	alice.waitRoom(uri, "Bob's proposals", func(r client.Room) bool { return r.Pending == 2 })
	time.Sleep(1200 * time.Millisecond) // what was acknowledged does not come again
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	alice.delay = nil // as the room says
	alice.launch()
	bob.waitRoom(uri, "having left", func(r client.Room) bool { return r.Standing == client.Left })
}

// TestAddedWhileSayingOut: a device that was removed is added again before its provider hears from it that it is out. That
// word is of its earlier stay, and ends nothing.
func TestAddedWhileSayingOut(t *testing.T) {
	w, alice, bob, uri := pair(t)
	said, back := make(chan struct{}), make(chan struct{})
	once, release := sync.OnceFunc(func() { close(said) }), sync.OnceFunc(func() { close(back) })
	defer release()
	bob.link.mu.Lock()
	bob.link.before = func(op string) {
		if op == "leaveRoom" {
			once()
			<-back
		}
	}
	bob.link.mu.Unlock()
	if err := alice.Remove(w.ctx, uri, bob.User()); err != nil {
		t.Fatal(err)
	}
	<-said
	if err := alice.Add(w.ctx, uri, bob.User(), ""); err != nil {
		t.Fatal(err)
	}
	bob.waitRoom(uri, "being in again", func(r client.Room) bool { return r.Standing == client.Joined })
	release()
	if err := bob.Idle(w.ctx); err != nil {
		t.Fatal(err)
	}
	alice.say(uri, "welcome back")
	bob.waitText("welcome back")
	inStep(t, uri, alice, bob)
}

// TestUnheard: a device whose provider lost track of its being in a room notices when it connects, and comes in anew.
func TestUnheard(t *testing.T) {
	w, alice, bob, uri := pair(t)
	bob.setUnreachable(true)
	err := w.stores["b.example"].Update(w.ctx, func(tx *store.Tx) error {
		room, err := tx.Room(string(uri))
		if err != nil {
			return err
		}
		return tx.LeaveRoom(string(bob.link.dev.Client), room.ID, math.MaxInt64)
	})
	if err != nil {
		t.Fatal(err)
	}
	bob.setUnreachable(false)
	bob.waitKind(client.EventRepaired)
	inStep(t, uri, alice, bob) // a message of the epoch before is not for a device that came in since
	alice.say(uri, "there you are")
	bob.waitText("there you are")
	inStep(t, uri, alice, bob)
}
