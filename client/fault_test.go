package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
)

var errDisk = errors.New("the disk failed")

// brittle is a store of which one write fails: before it is stored, or although
// it was.
type brittle struct {
	client.Store
	mu      sync.Mutex
	left    int // writes until the one that fails; 0: none does
	persist bool
	failed  bool
}

func (b *brittle) arm(n int, persist bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left, b.persist, b.failed = n, persist, false
}

func (b *brittle) Update(ctx context.Context, f func(client.Tx) error) error {
	b.mu.Lock()
	now, persist := b.left == 1, b.persist
	if b.left > 0 {
		b.left--
	}
	if now {
		b.failed = true
	}
	b.mu.Unlock()
	if now && !persist {
		return errDisk
	}
	err := b.Store.Update(ctx, f)
	if now && err == nil {
		err = errDisk
	}
	return err
}

// restart is a crash and a new start.
func (d *device) restart() {
	d.w.t.Helper()
	d.stop()
	d.start()
}

// TestEveryWriteFails lets each write of a device fail in turn, with and without
// having been stored, in the middle of making a room, adding somebody, talking
// and listening; the device is then started again. Nothing is lost and nothing is
// there twice, on both sides.
func TestEveryWriteFails(t *testing.T) {
	w := newWorld(t, "a.example", "b.example")
	store := &brittle{Store: client.NewMemory()}
	alice, bob := w.deviceIn("alice@a.example/phone", store), w.device("bob@b.example/phone")
	most := 30
	if testing.Short() {
		most = 8
	}
	for n := 1; n <= most; n++ {
		for _, persist := range []bool{false, true} {
			hit := oneWriteFails(t, w, store, alice, bob, fmt.Sprintf("room-%d-%v", n, persist), n, persist)
			if t.Failed() || !hit {
				t.Logf("%d writes", n-1)
				return
			}
		}
	}
}

func oneWriteFails(t *testing.T, w *world, store *brittle, alice, bob *device, name string, n int, persist bool) bool {
	t.Logf("--- %s", name)
	store.mu.Lock()
	failed := store.failed
	store.mu.Unlock()
	if failed { // at the very end of the last round
		store.arm(0, false)
		alice.restart()
	}
	uri, err := mimi.NewRoomURI("a.example", name)
	if err != nil {
		t.Fatal(err)
	}
	store.arm(n, persist)
	// do does something; if the store fails, the device starts again and does it again unless it is done.
	do := func(what string, f func() error, done func() bool) {
		t.Helper()
		for range 5 {
			err := f()
			if err == nil {
				return
			}
			t.Logf("%s: %v", what, err)
			alice.restart()
			if err := alice.Idle(w.ctx); err != nil {
				t.Fatal(what, err)
			}
			if done() {
				return
			}
		}
		t.Fatalf("%s does not succeed", what)
	}
	do("create", func() error {
		_, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: name})
		return err
	}, func() bool {
		r, err := alice.Room(w.ctx, uri)
		return err == nil && r.Standing == client.Joined
	})
	do("add", func() error { return alice.Add(w.ctx, uri, bob.User(), "") }, func() bool {
		r, err := alice.Room(w.ctx, uri)
		return err == nil && r.Participants == 2
	})
	bob.waitRoom(uri, "being in", func(r client.Room) bool { return r.Standing == client.Joined })
	for i := range 2 {
		text := fmt.Sprintf("%s: alice %d", name, i)
		do(text, func() error {
			_, err := alice.Send(w.ctx, uri, text)
			return err
		}, func() bool { return slices.Contains(alice.texts(uri), text) })
		bob.say(uri, fmt.Sprintf("%s: bob %d", name, i))
	}
	want := func(d *device) bool {
		texts := d.texts(uri)
		slices.Sort(texts)
		return slices.Equal(texts, []string{name + ": alice 0", name + ": alice 1", name + ": bob 0", name + ": bob 1"})
	}
	settled := func(*device) bool {
		r, err := alice.Room(w.ctx, uri)
		return err == nil && r.Outbox == 0 && r.Epoch == 1 && r.Repair == ""
	}
	for _, x := range []struct {
		*device
		ok func(*device) bool
	}{{alice, want}, {bob, want}, {alice, settled}} {
		d := x.device
		deadline := time.Now().Add(40 * time.Second)
		for !x.ok(d) {
			store.mu.Lock()
			failed := store.failed
			store.failed = false
			store.mu.Unlock()
			if failed { // while it listened
				alice.restart()
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s shows %q", d.name, d.texts(uri))
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	return store.left == 0
}

// TestLostAnswers: the hub does what it is asked, and its answer is lost; it is
// found in the log, or asked for again.
func TestLostAnswers(t *testing.T) {
	w := newWorld(t, "a.example", "b.example")
	alice, bob := w.device("alice@a.example/phone"), w.device("bob@b.example/phone")
	room, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "clubhouse"})
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.Add(w.ctx, room, bob.User(), ""); err != nil {
		t.Fatal(err)
	}
	bob.waitKind(client.EventJoined)
	var mu sync.Mutex
	lost := map[string]int{}
	bob.link.mu.Lock()
	bob.link.lose = func(op string) bool {
		mu.Lock()
		defer mu.Unlock()
		if op != "update" && op != "submitMessage" {
			return false
		}
		lost[op]++
		return lost[op]%2 == 1
	}
	bob.link.mu.Unlock()
	if err := bob.SetMetadata(w.ctx, room, func(m *mimi.RoomMetaData) { m.RoomSubject = "lost answers" }); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if _, err := bob.Send(w.ctx, room, fmt.Sprint("message ", i)); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"message 0", "message 1", "message 2", "message 3"}
	for _, d := range []*device{alice, bob} {
		d.waitText("message 3")
		d.waitRoom(room, "an empty outbox", func(r client.Room) bool { return r.Outbox == 0 && r.Subject == "lost answers" })
		if got := d.texts(room); !slices.Equal(got, want) {
			t.Errorf("%s shows %q", d.name, got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if lost["update"] == 0 || lost["submitMessage"] == 0 {
		t.Errorf("no answers were lost: %v", lost)
	}
}

// TestOffline: what is written without a connection is sent later, in the room as
// it is then.
func TestOffline(t *testing.T) {
	w := newWorld(t, "a.example", "b.example")
	alice, bob := w.device("alice@a.example/phone"), w.device("bob@b.example/phone")
	room, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "clubhouse"})
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.Add(w.ctx, room, bob.User(), ""); err != nil {
		t.Fatal(err)
	}
	bob.waitKind(client.EventJoined)
	bob.link.setCut(true)
	bob.waitKind(client.EventOffline)
	for i := range 3 {
		if _, err := bob.Send(w.ctx, room, fmt.Sprint("offline ", i)); err != nil {
			t.Fatal(err)
		}
	}
	// Meanwhile the room goes far beyond the epochs that the hub tolerates.
	for i := range 6 {
		if err := alice.SetMetadata(w.ctx, room, func(m *mimi.RoomMetaData) { m.RoomSubject = fmt.Sprint("subject ", i) }); err != nil {
			t.Fatal(err)
		}
	}
	bob.stop()
	bob.launch() // it is started again before there is a connection
	bob.link.setCut(false)
	alice.waitText("offline 2")
	if got := alice.texts(room); !slices.Equal(got, []string{"offline 0", "offline 1", "offline 2"}) {
		t.Errorf("Alice reads %q", got)
	}
	bob.waitRoom(room, "an empty outbox", func(r client.Room) bool { return r.Outbox == 0 && r.Subject == "subject 5" })
	if got := bob.texts(room); !slices.Equal(got, []string{"offline 0", "offline 1", "offline 2"}) {
		t.Errorf("Bob reads %q", got)
	}
}

// TestRace: people at three providers change the room at the same time; everybody
// succeeds, and all see the same.
func TestRace(t *testing.T) {
	w := newWorld(t, "a.example", "b.example", "c.example")
	alice, bob, cathy := w.device("alice@a.example/phone"), w.device("bob@b.example/phone"), w.device("cathy@c.example/phone")
	room, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "clubhouse"})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{bob, cathy} {
		if err := alice.Add(w.ctx, room, d.User(), "group_admin"); err != nil {
			t.Fatal(err)
		}
		d.waitKind(client.EventJoined)
	}
	all := []*device{alice, bob, cathy}
	const rounds = 3
	var wg sync.WaitGroup
	for _, d := range all {
		wg.Go(func() {
			for i := range rounds {
				if err := d.SetMetadata(w.ctx, room, func(m *mimi.RoomMetaData) { m.RoomMood += string(d.User().Name()[0]) }); err != nil {
					t.Errorf("%s, change %d: %v", d.name, i, err)
				}
				if _, err := d.Send(w.ctx, room, fmt.Sprint(d.User().Name(), " ", i)); err != nil {
					t.Errorf("%s, message %d: %v", d.name, i, err)
				}
			}
		})
	}
	wg.Wait()
	var first client.Room
	for i, d := range all {
		r := d.waitRoom(room, "everything", func(r client.Room) bool {
			return r.Epoch == 2+3*rounds && r.Outbox == 0 && len(d.texts(room)) == 3*rounds
		})
		if i == 0 {
			first = r
		} else if r.Authenticator != first.Authenticator {
			t.Errorf("%s is in another epoch than Alice", d.name)
		}
		if got, want := d.texts(room), alice.texts(room); !slices.Equal(got, want) {
			t.Errorf("%s shows %q, Alice %q", d.name, got, want)
		}
	}
}
