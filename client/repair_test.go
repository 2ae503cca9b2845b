package client_test

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// pair is a room of Alice and Bob.
func pair(t *testing.T) (w *world, alice, bob *device, uri mimi.RoomURI) {
	t.Helper()
	w = newWorld(t, "a.example", "b.example")
	alice, bob = w.device("alice@a.example/phone"), w.device("bob@b.example/phone")
	uri, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "clubhouse"})
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.Add(w.ctx, uri, bob.User(), ""); err != nil {
		t.Fatal(err)
	}
	bob.waitKind(client.EventJoined)
	return w, alice, bob, uri
}

func inStep(t *testing.T, uri mimi.RoomURI, devices ...*device) {
	t.Helper()
	var epoch mls.Epoch
	for _, d := range devices {
		r, err := d.Room(d.w.ctx, uri)
		if err != nil {
			t.Fatal(err)
		}
		epoch = max(epoch, r.Epoch)
	}
	var first string
	for _, d := range devices {
		r := d.waitRoom(uri, "the newest epoch", func(r client.Room) bool { return r.Epoch >= epoch && r.Standing == client.Joined && r.Repair == "" })
		if first == "" {
			first = r.Authenticator
		} else if r.Authenticator != first {
			t.Errorf("%s is in another epoch %d", d.name, r.Epoch)
		}
	}
}

// TestStateLost: a device that lost all it had comes back in by itself.
func TestStateLost(t *testing.T) {
	w, alice, bob, uri := pair(t)
	alice.say(uri, "before")
	bob.waitText("before")
	if err := bob.Idle(w.ctx); err != nil {
		t.Fatal(err)
	}
	alice.waitRoom(uri, "nothing", func(client.Room) bool { return true })
	bob.stop()
	again := w.deviceIn("bob@b.example/phone", client.NewMemory())
	again.wait("being in", func(e *client.Event) bool { return e.Kind == client.EventRepaired || e.Kind == client.EventJoined })
	alice.say(uri, "after")
	again.waitText("after")
	inStep(t, uri, alice, again)
	if r, err := alice.Room(w.ctx, uri); err != nil || r.Clients != 2 {
		t.Errorf("the room has %d clients (%v); the lost one's leaf must be gone", r.Clients, err)
	}
}

// copyOf is a store with the same records.
func copyOf(t *testing.T, from client.Store) client.Store {
	t.Helper()
	to := client.NewMemory()
	err := from.View(t.Context(), func(a client.Tx) error {
		return to.Update(t.Context(), func(b client.Tx) error {
			return a.Scan(nil, nil, func(k, v []byte) (bool, error) { return true, b.Put(k, v) })
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestBackup: a device that was restored from a backup notices before it uses
// old keys, and comes in anew.
func TestBackup(t *testing.T) {
	w, alice, bob, uri := pair(t)
	bob.say(uri, "one")
	alice.waitText("one")
	backup := copyOf(t, bob.store)
	bob.say(uri, "two")
	alice.say(uri, "three")
	bob.waitText("three")
	if err := alice.SetMetadata(w.ctx, uri, func(m *mimi.RoomMetaData) { m.RoomSubject = "later" }); err != nil {
		t.Fatal(err)
	}
	bob.waitRoom(uri, "the new subject", func(r client.Room) bool { return r.Subject == "later" })
	bob.restart()
	for { // until the provider has noted how far it has come
		list, err := bob.link.Rooms(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 && list[0].Read == list[0].Newest {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	bob.stop()
	bob.store = backup
	bob.launch()
	repaired := bob.waitKind(client.EventRepaired)
	t.Log(repaired.Text)
	bob.say(uri, "four")
	alice.waitText("four")
	alice.say(uri, "five")
	bob.waitText("five")
	inStep(t, uri, alice, bob)
	if got := alice.texts(uri); !slices.Equal(got, []string{"one", "two", "three", "four", "five"}) {
		t.Errorf("Alice reads %q", got)
	}
}

// TestCopy: of two devices with the same state one stays, the other is told.
func TestCopy(t *testing.T) {
	w, alice, bob, uri := pair(t)
	bob.stop()
	other := &device{w: w, name: "bob's copy", store: copyOf(t, bob.store), more: make(chan struct{})}
	other.link = &link{svc: bob.link.svc, dev: bob.link.dev, insert: make(chan clientapi.Event)}
	bob.start()
	other.start()
	bob.say(uri, "I am Bob")
	alice.waitText("I am Bob")
	// The copy finds a message that it did not send, comes in anew, and by that takes the original's place.
	other.waitKind(client.EventRepaired)
	out := bob.waitKind(client.EventOut)
	if !strings.Contains(out.Text, "copy") {
		t.Errorf("Bob is told: %s", out.Text)
	}
	other.say(uri, "no, I am")
	alice.waitText("no, I am")
	if r, err := bob.Room(w.ctx, uri); err != nil || r.Standing != client.Replaced {
		t.Errorf("the original stands as %v (%v)", r.Standing, err)
	}
}

// TestExhausted: somebody without KeyPackages is a participant all the same, and
// comes in when next online.
func TestExhausted(t *testing.T) {
	w := newWorld(t, "a.example", "b.example")
	alice := w.device("alice@a.example/phone")
	uri, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "clubhouse"})
	if err != nil {
		t.Fatal(err)
	}
	svc := w.providers["b.example"].Clients()
	if _, err := svc.Register(w.ctx, clientapi.Login{User: "bob", Password: "correct horse", Device: "phone"}); err != nil {
		t.Fatal(err)
	}
	if err := alice.Add(w.ctx, uri, "mimi://b.example/u/bob", ""); err != nil {
		t.Fatal(err)
	}
	members, err := alice.Members(w.ctx, uri)
	if err != nil || len(members) != 3 || len(members[2].Clients) != 0 {
		t.Fatalf("members: %+v (%v)", members, err)
	}
	bob := w.device("bob@b.example/phone")
	bob.waitKind(client.EventJoined)
	bob.say(uri, "here I am")
	alice.waitText("here I am")
	inStep(t, uri, alice, bob)
}

// lax lets everything through, as a hub might that is in league with somebody.
type lax struct{ mls.DefaultRules }

// forbidden is a Commit by which a device takes out a leaf, whatever the room's
// policy says of that.
func forbidden(t *testing.T, d *device, uri mimi.RoomURI, victim mimi.UserURI) mimi.Message {
	t.Helper()
	var leaf mls.LeafIndex
	err := d.Inspect(d.w.ctx, uri, func(g *room.Room) error {
		for l := range g.Clients(victim) {
			leaf = l
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return secretCommit(t, d, mls.Proposal{Type: mls.ProposalRemove, Remove: &mls.Remove{Removed: leaf}})
}

// secretCommit is a Commit that a device makes and sends nobody.
func secretCommit(t *testing.T, d *device, proposals ...mls.Proposal) mimi.Message {
	t.Helper()
	var group *mls.Group
	err := d.store.View(t.Context(), func(tx client.Tx) (err error) {
		group, err = mls.LoadGroup(mls.Config{Rules: lax{}}, func(yield func([]byte, []byte) bool) {
			tx.Scan([]byte{'g'}, nil, func(k, v []byte) (bool, error) {
				if k[5] != 'g' { // not of the MLS group
					return true, nil
				}
				return yield(k[6:], v), nil
			})
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	format := mls.WireFormatPublicMessage
	if receivers, err := group.Context().Extensions.ExternalReceivers(); err == nil && len(receivers) > 0 {
		format = mls.WireFormatSemiPrivateMessage
	}
	staged, err := group.Stage(rand.Reader, mls.CommitOptions{AuthenticatedData: []byte{0}, Proposals: proposals, WireFormat: format})
	if err != nil {
		t.Fatal(err)
	}
	m, err := mimi.NewMessage(*staged.Message())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestForbiddenCommit: a device does not follow a Commit that policy forbids,
// though the hub let it through, tells its user, and goes on in the last good
// state.
func TestForbiddenCommit(t *testing.T) {
	w, alice, bob, uri := pair(t)
	carol := w.device("carol@a.example/phone")
	if err := alice.Add(w.ctx, uri, carol.User(), ""); err != nil {
		t.Fatal(err)
	}
	carol.waitKind(client.EventJoined)
	inStep(t, uri, alice, bob, carol)
	m := forbidden(t, carol, uri, bob.User()) // an ordinary_user can't kick
	at, err := alice.Room(w.ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	fanout, err := tlspl.Marshal(&mimi.FanoutMessage{Timestamp: mimi.Millis(1 << 41), Message: m})
	if err != nil {
		t.Fatal(err)
	}
	alice.link.mu.Lock()
	alice.link.tamper = func(e clientapi.Event) []clientapi.Event {
		e.Seq++ // one more came before
		return []clientapi.Event{e}
	}
	alice.link.mu.Unlock()
	alice.link.insert <- clientapi.Event{Room: uri, Seq: int64(at.Cursor) + 1, Fanout: fanout}
	problem := alice.waitKind(client.EventProblem)
	if !strings.Contains(problem.Text, "canKick") && !strings.Contains(problem.Text, "canRemove") {
		t.Errorf("Alice is told: %s", problem.Text)
	}
	r, err := alice.Room(w.ctx, uri)
	if err != nil || r.Standing != client.Refused || r.Epoch != at.Epoch || r.Participants != 3 {
		t.Fatalf("the room is %+v (%v)", r, err)
	}
	bob.say(uri, "what was that?")
	alice.waitText("what was that?")
}

// TestGarbage: a message that nobody can read is no reason to come in anew: the
// device asks the hub whether the room has forked.
func TestGarbage(t *testing.T) {
	w, alice, bob, uri := pair(t)
	var once bool
	alice.link.mu.Lock()
	alice.link.tamper = func(e clientapi.Event) []clientapi.Event {
		var f mimi.FanoutMessage
		if e.Invited || len(e.Fanout) == 0 || tlspl.Unmarshal(e.Fanout, &f) != nil || f.Kind() != mimi.FanoutApplication || once {
			return []clientapi.Event{e}
		}
		once = true
		bent := *f.Message.PrivateMessage
		bent.Ciphertext = append([]byte{}, bent.Ciphertext...)
		bent.Ciphertext[len(bent.Ciphertext)/2] ^= 1
		var err error
		if f.Message, err = mimi.NewMessage(mls.Message(&bent)); err != nil {
			panic(err)
		}
		if e.Fanout, err = tlspl.Marshal(&f); err != nil {
			panic(err)
		}
		return []clientapi.Event{e}
	}
	alice.link.mu.Unlock()
	bob.say(uri, "bent on its way")
	problem := alice.waitKind(client.EventProblem)
	if !strings.Contains(problem.Text, "not forked") {
		t.Errorf("Alice is told: %s", problem.Text)
	}
	bob.say(uri, "straight")
	alice.waitText("straight")
	inStep(t, uri, alice, bob)
	if r, err := alice.Room(context.WithoutCancel(w.ctx), uri); err != nil || r.Epoch != 1 {
		t.Errorf("the room is in epoch %d (%v)", r.Epoch, err)
	}
}

// TestNewStock: a device that logs in anew without its old keys is added with new
// KeyPackages; nobody is given those whose private keys are lost.
func TestNewStock(t *testing.T) {
	w := newWorld(t, "a.example", "b.example")
	alice, old := w.device("alice@a.example/phone"), w.device("bob@b.example/phone")
	old.stop()
	bob := w.deviceIn("bob@b.example/phone", client.NewMemory())
	uri, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "clubhouse"})
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.Add(w.ctx, uri, bob.User(), ""); err != nil {
		t.Fatal(err)
	}
	bob.waitKind(client.EventJoined)
	alice.say(uri, "welcome")
	bob.waitText("welcome")
	inStep(t, uri, alice, bob)
	if r, err := alice.Room(w.ctx, uri); err != nil || r.Clients != 2 {
		t.Errorf("the room has %d clients (%v)", r.Clients, err)
	}
}

// TestJoinOvertaken: a device comes in by itself while another changes the room, or adds it. It hears of that, on which its
// own Commit builds, only after the hub has taken its own, and of that before the hub's answer. Its own is no copy's.
func TestJoinOvertaken(t *testing.T) {
	t.Run("changed", func(t *testing.T) {
		w, alice, bob, uri := pair(t)
		overtake(t, w, alice, bob, uri, func() error {
			return alice.SetMetadata(w.ctx, uri, func(m *mimi.RoomMetaData) { m.RoomSubject = "meanwhile" })
		})
	})
	t.Run("added", func(t *testing.T) {
		w := newWorld(t, "a.example", "b.example")
		alice, bob := w.device("alice@a.example/phone"), w.device("bob@b.example/phone")
		uri, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "clubhouse"})
		if err != nil {
			t.Fatal(err)
		}
		overtake(t, w, alice, bob, uri, func() error { return alice.Add(w.ctx, uri, bob.User(), "") })
	})
}

func overtake(t *testing.T, w *world, alice, bob *device, uri mimi.RoomURI, change func() error) {
	log := make(chan struct{})
	release := sync.OnceFunc(func() { close(log) })
	defer release()
	bob.link.mu.Lock()
	bob.link.tamper = func(e clientapi.Event) []clientapi.Event {
		<-log
		return []clientapi.Event{e}
	}
	bob.link.lose = func(op string) bool {
		if op != "update" {
			return false
		}
		release()
		// The answer is on its way for as long as it takes to read the log.
		bob.waitRoom(uri, "the log", func(r client.Room) bool {
			list, err := bob.link.svc.Rooms(w.ctx, bob.link.dev)
			return err == nil && len(list) == 1 && list[0].Joined && int64(r.Cursor) >= list[0].Newest
		})
		return false
	}
	bob.link.mu.Unlock()
	if err := change(); err != nil {
		t.Fatal(err)
	}
	if err := bob.Join(w.ctx, uri, "", ""); err != nil {
		t.Fatal(err)
	}
	bob.link.mu.Lock()
	bob.link.tamper, bob.link.lose = nil, nil
	bob.link.mu.Unlock()
	if r := bob.waitRoom(uri, "being in", func(r client.Room) bool { return r.Standing != client.Outside }); r.Standing != client.Joined {
		t.Fatalf("bob is %s: %s", r.Standing, r.Why)
	}
	inStep(t, uri, alice, bob)
	alice.say(uri, "welcome back")
	bob.waitText("welcome back")
}
