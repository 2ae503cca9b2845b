package client_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/tlspl"
)

// three is a room of Alice, who may do everything, Bob and Carol, at three providers.
func three(t *testing.T, n client.NewRoom) (w *world, alice, bob, carol *device, uri mimi.RoomURI) {
	t.Helper()
	w = newWorld(t, "a.example", "b.example", "c.example")
	alice, bob, carol = w.device("alice@a.example/phone"), w.device("bob@b.example/phone"), w.device("carol@c.example/phone")
	n.Name = "clubhouse"
	uri, err := alice.CreateRoom(w.ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{bob, carol} {
		if err := alice.Add(w.ctx, uri, d.User(), ""); err != nil {
			t.Fatal(err)
		}
		d.waitKind(client.EventJoined)
	}
	inStep(t, uri, alice, bob, carol)
	return w, alice, bob, carol, uri
}

// group is the ID of the MLS group that a device has for a room.
func (d *device) group(uri mimi.RoomURI) (id string) {
	d.w.t.Helper()
	if err := d.Inspect(d.w.ctx, uri, func(r *room.Room) error { id = string(r.Group().GroupID()); return nil }); err != nil {
		d.w.t.Fatal(d.name, err)
	}
	return id
}

// waitGroup waits until devices have the same group, which is another one than before, and are in the same epoch of it.
func waitGroup(t *testing.T, uri mimi.RoomURI, before string, devices ...*device) {
	t.Helper()
	for _, d := range devices {
		d.waitRoom(uri, "another group", func(r client.Room) bool {
			return r.Standing == client.Joined && r.Repair == "" && r.Why == "" && r.Clients >= len(devices) && d.group(uri) != before
		})
	}
	inStep(t, uri, devices...)
	for _, d := range devices[1:] {
		if d.group(uri) != devices[0].group(uri) {
			t.Errorf("%s has another group than %s", d.name, devices[0].name)
		}
	}
}

// TestRefound: a room is founded anew by a ReInit. It keeps its URI, participants and history; what somebody wrote meanwhile
// without a connection is sent in the new group.
func TestRefound(t *testing.T) {
	for name, n := range map[string]client.NewRoom{"public": {}, "semi-private": {SemiPrivate: true}} {
		t.Run(name, func(t *testing.T) {
			w, alice, bob, carol, uri := three(t, n)
			bob.say(uri, "before")
			carol.waitText("before")
			alice.waitText("before")
			before := alice.group(uri)
			members, err := alice.Members(w.ctx, uri)
			if err != nil {
				t.Fatal(err)
			}
			bob.link.setCut(true)
			if _, err := bob.Send(w.ctx, uri, "from the train"); err != nil {
				t.Fatal(err)
			}
			if err := alice.Refound(w.ctx, uri); err != nil {
				t.Fatal(err)
			}
			if alice.group(uri) == before {
				t.Error("Alice has the old group")
			}
			bob.link.setCut(false)
			waitGroup(t, uri, before, alice, bob, carol)
			// All are in the new group's first epoch: whoever founded it, the others came in by its Welcome, with the PSK.
			for _, d := range []*device{alice, bob, carol} {
				if r, err := d.Room(w.ctx, uri); err != nil || r.Epoch != 1 || r.Clients != 3 {
					t.Errorf("%s is in epoch %d, with %d clients (%v)", d.name, r.Epoch, r.Clients, err)
				}
				d.waitKind(client.EventRefounded)
			}
			alice.waitText("from the train")
			carol.say(uri, "after")
			for _, d := range []*device{alice, bob, carol} {
				d.waitText("after")
				if got, want := d.texts(uri), []string{"before", "from the train", "after"}; !slices.Equal(got, want) {
					t.Errorf("%s reads %q, not %q", d.name, got, want)
				}
				now, err := d.Members(w.ctx, uri)
				if err != nil || len(now) != len(members) {
					t.Fatalf("%s sees %+v (%v)", d.name, now, err)
				}
				for i := range now {
					if now[i].User != members[i].User || now[i].Index != members[i].Index || len(now[i].Clients) != len(members[i].Clients) {
						t.Errorf("%s sees %+v, before it was %+v", d.name, now[i], members[i])
					}
				}
				d.restart()
			}
			// and it can be changed as ever
			if err := carol.Leave(w.ctx, uri); err != nil {
				t.Fatal(err)
			}
			carol.waitKind(client.EventOut)
			bob.waitRoom(uri, "Carol to be gone", func(r client.Room) bool { return r.Participants == 2 })
		})
	}
}

// TestRefoundLeftBehind: a device that lost the old group's state comes into the new one by an external commit, after its
// first epoch; one that was restored from a backup reads on to the Welcome. Who was removed can't come in, however it asks.
func TestRefoundLeftBehind(t *testing.T) {
	w, alice, bob, carol, uri := three(t, client.NewRoom{})
	mallory := w.device("mallory@b.example/phone")
	if err := alice.Add(w.ctx, uri, mallory.User(), ""); err != nil {
		t.Fatal(err)
	}
	mallory.waitKind(client.EventJoined)
	inStep(t, uri, alice, bob, carol, mallory)
	mallory.stop()
	forgot, backup := copyOf(t, mallory.store), copyOf(t, carol.store)
	if err := alice.Remove(w.ctx, uri, mallory.User()); err != nil {
		t.Fatal(err)
	}
	inStep(t, uri, alice, bob, carol)
	before := alice.group(uri)
	bob.stop()
	carol.stop()
	if err := alice.Refound(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	bob = w.deviceIn("bob@b.example/phone", client.NewMemory())
	carol.store = backup
	carol.launch()
	for _, d := range []*device{bob, carol} {
		d.wait("being in", func(e *client.Event) bool { return e.Kind == client.EventRepaired || e.Kind == client.EventJoined })
	}
	waitGroup(t, uri, before, alice, bob, carol)
	if r, err := alice.Room(w.ctx, uri); err != nil || r.Epoch < 2 || r.Clients != 3 {
		t.Errorf("Alice is in epoch %d with %d clients (%v); an external commit came after the first epoch", r.Epoch, r.Clients, err)
	}
	alice.say(uri, "welcome back")
	bob.waitText("welcome back")
	carol.waitText("welcome back")
	mallory.store = forgot // a device that forgot that it was removed
	mallory.launch()
	mallory.waitRoom(uri, "being out", func(r client.Room) bool { return r.Standing == client.Barred || r.Standing == client.Left })
	if err := mallory.Join(w.ctx, uri, "", ""); err == nil {
		t.Error("Mallory comes in")
	}
	if r, err := alice.Room(w.ctx, uri); err != nil || r.Clients != 3 || r.Participants != 3 {
		t.Errorf("the room has %d clients of %d participants (%v)", r.Clients, r.Participants, err)
	}
}

// TestRefoundByOthers: who ended the group is away before it founds the next one. Another device does, by itself.
func TestRefoundByOthers(t *testing.T) {
	w, alice, bob, carol, uri := three(t, client.NewRoom{})
	before := alice.group(uri)
	alice.link.mu.Lock()
	alice.link.lose = func(op string) bool {
		if op == "update" {
			alice.link.setCut(true)
		}
		return op == "update"
	}
	alice.link.mu.Unlock()
	if err := alice.Refound(w.ctx, uri); err == nil {
		t.Error("Alice founded a group without a connection")
	}
	waitGroup(t, uri, before, bob, carol)
	bob.say(uri, "where is Alice?")
	carol.waitText("where is Alice?")
	alice.link.mu.Lock()
	alice.link.lose = nil
	alice.link.mu.Unlock()
	alice.link.setCut(false)
	waitGroup(t, uri, before, alice, bob, carol)
	alice.say(uri, "here")
	bob.waitText("here")
}

// astray makes a device stop following a room: its hub shows it a commit that the room's policy forbids.
func (d *device) astray(uri mimi.RoomURI, m mimi.Message) {
	d.w.t.Helper()
	at, err := d.Room(d.w.ctx, uri)
	if err != nil {
		d.w.t.Fatal(err)
	}
	fanout, err := tlspl.Marshal(&mimi.FanoutMessage{Timestamp: mimi.Millis(1 << 41), Message: m})
	if err != nil {
		d.w.t.Fatal(err)
	}
	d.link.insert <- clientapi.Event{Room: uri, Seq: int64(at.Cursor) + 1, Fanout: fanout}
	d.waitRoom(uri, "the refusal", func(r client.Room) bool { return r.Standing == client.Refused })
}

// TestRefoundWhileSealed: in a SemiPrivate room somebody is leaving, which a founder from outside can't read. It is founded
// anew all the same, and who left is out.
func TestRefoundWhileSealed(t *testing.T) {
	w, alice, bob, carol, uri := three(t, client.NewRoom{SemiPrivate: true})
	before := alice.group(uri)
	alice.astray(uri, forbidden(t, carol, uri, bob.User()))
	bob.link.setCut(true) // nobody commits that Carol leaves
	if err := carol.Leave(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	if err := alice.Refound(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	bob.link.setCut(false)
	waitGroup(t, uri, before, alice, bob)
	for _, d := range []*device{alice, bob} {
		d.waitRoom(uri, "Carol to be out", func(r client.Room) bool { return r.Participants == 2 && r.Clients == 2 && r.Pending == 0 })
	}
	carol.waitRoom(uri, "being out", func(r client.Room) bool { return r.Standing == client.Left || r.Standing == client.Barred })
	if err := carol.Join(w.ctx, uri, "", ""); err == nil {
		t.Error("Carol comes in again")
	}
	bob.say(uri, "bye")
	alice.waitText("bye")
}

// TestRefoundFromOutside: a hub that answers with garbage made Alice's device stop following. She may found the room anew,
// Bob may not; who was removed can't come back by it.
func TestRefoundFromOutside(t *testing.T) {
	w, alice, bob, carol, uri := three(t, client.NewRoom{})
	mallory := w.device("mallory@b.example/phone")
	if err := alice.Add(w.ctx, uri, mallory.User(), ""); err != nil {
		t.Fatal(err)
	}
	mallory.waitKind(client.EventJoined)
	inStep(t, uri, alice, bob, carol, mallory)
	kept := copyOf(t, mallory.store) // a client that forgets that it was removed
	if err := alice.Remove(w.ctx, uri, mallory.User()); err != nil {
		t.Fatal(err)
	}
	mallory.waitKind(client.EventOut)
	inStep(t, uri, alice, bob, carol)

	alice.astray(uri, forbidden(t, carol, uri, bob.User())) // an ordinary_user can't kick

	before := bob.group(uri)
	if err := bob.Refound(w.ctx, uri); err == nil || !strings.Contains(err.Error(), "canSendMLSReinitProposal") {
		t.Errorf("Bob, an ordinary user, founds the room anew: %v", err)
	}
	if err := mallory.Refound(w.ctx, uri); err == nil {
		t.Error("Mallory, who was removed, founds the room anew")
	}
	mallory.stop()
	mallory.store = kept
	mallory.launch()
	if err := mallory.Refound(w.ctx, uri); err == nil {
		t.Error("Mallory, who forgot that she was removed, founds the room anew")
	}
	if err := alice.Refound(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	waitGroup(t, uri, before, alice, bob, carol)
	alice.say(uri, "all well again")
	bob.waitText("all well again")
	carol.waitText("all well again")
	if err := mallory.Join(w.ctx, uri, "", ""); err == nil {
		t.Error("Mallory comes in again")
	}
	if members, err := bob.Members(w.ctx, uri); err != nil || slices.ContainsFunc(members, func(p client.Participant) bool { return p.User == mallory.User().Identifier() }) {
		t.Errorf("members: %+v (%v)", members, err)
	}
}

// TestRefoundMeanwhile: Carol was away when the room was founded anew from outside, and somebody was added. Her device sees that
// it was founded, and comes in by itself though there is somebody in it whom it does not know.
func TestRefoundMeanwhile(t *testing.T) {
	w, alice, bob, carol, uri := three(t, client.NewRoom{})
	before := alice.group(uri)
	carol.link.setCut(true)
	alice.astray(uri, forbidden(t, bob, uri, carol.User()))
	if err := alice.Refound(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	dave := w.device("dave@b.example/phone")
	if err := alice.Add(w.ctx, uri, dave.User(), ""); err != nil {
		t.Fatal(err)
	}
	dave.waitKind(client.EventJoined)
	waitGroup(t, uri, before, alice, bob)
	carol.link.setCut(false)
	waitGroup(t, uri, before, alice, bob, carol, dave)
	dave.say(uri, "hello")
	carol.waitText("hello")
}

// TestRemovedAfterRestore: a hub went back to a backup of before Mallory was removed, and Dan banned. Nobody is kept in by
// that: the devices that saw them go take them out again when they come back in, and so does a room that is founded anew.
func TestRemovedAfterRestore(t *testing.T) {
	for name, again := range map[string]func(*device, mimi.RoomURI) error{
		"repair":  func(d *device, uri mimi.RoomURI) error { _, err := d.Send(d.w.ctx, uri, "hello?"); return err },
		"refound": func(d *device, uri mimi.RoomURI) error { return d.Refound(d.w.ctx, uri) },
	} {
		t.Run(name, func(t *testing.T) {
			w, alice, bob, carol, uri := three(t, client.NewRoom{})
			mallory, dan := w.device("mallory@c.example/phone"), w.device("dan@b.example/phone")
			for _, d := range []*device{mallory, dan} {
				if err := alice.Add(w.ctx, uri, d.User(), ""); err != nil {
					t.Fatal(err)
				}
				d.waitKind(client.EventJoined)
			}
			inStep(t, uri, alice, bob, carol, mallory, dan)
			backup := filepath.Join(t.TempDir(), "backup.db")
			if err := w.stores["a.example"].Backup(w.ctx, backup); err != nil {
				t.Fatal(err)
			}
			if err := alice.Remove(w.ctx, uri, mallory.User()); err != nil {
				t.Fatal(err)
			}
			if err := alice.Ban(w.ctx, uri, dan.User()); err != nil {
				t.Fatal(err)
			}
			mallory.waitKind(client.EventOut)
			dan.waitKind(client.EventOut)
			inStep(t, uri, alice, bob, carol)
			old, err := alice.Room(w.ctx, uri)
			if err != nil {
				t.Fatal(err)
			}
			w.restore("a.example", backup)
			if err := again(alice, uri); err != nil {
				t.Fatal(err)
			}
			out := func(r client.Room) bool {
				if r.Standing != client.Joined || r.Repair != "" || r.Clients != 3 || r.Authenticator == old.Authenticator {
					return false
				}
				members, err := alice.Members(w.ctx, uri)
				return err == nil && !slices.ContainsFunc(members, func(p client.Participant) bool {
					return p.User == mallory.User().Identifier() || p.User == dan.User().Identifier() && p.Role != "banned"
				})
			}
			alice.waitRoom(uri, "Mallory and Dan to be out", out)
			for _, d := range []*device{bob, carol} {
				d.waitRoom(uri, "Alice's epoch", func(r client.Room) bool {
					a, err := alice.Room(w.ctx, uri)
					return err == nil && r.Authenticator == a.Authenticator
				})
			}
			alice.say(uri, "is anybody here?")
			bob.waitText("is anybody here?")
			carol.waitText("is anybody here?")
			if r, err := mallory.Room(w.ctx, uri); err != nil || r.Standing == client.Joined {
				t.Errorf("Mallory stands as %+v (%v)", r, err)
			}
		})
	}
}
