package client_test

import (
	"crypto/x509"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/provider"
)

// lost is a room of Alice, Bob and Carol, at three providers, whose hub went back to a backup of before the room, with Mallory
// whom Alice had removed from it. forgot is Mallory's device as it was before that.
func lost(t *testing.T) (w *world, alice, bob, carol, mallory *device, forgot client.Store, uri mimi.RoomURI) {
	t.Helper()
	w = newWorld(t, "a.example", "b.example", "c.example")
	alice, bob, carol = w.device("alice@a.example/phone"), w.device("bob@b.example/phone"), w.device("carol@c.example/phone")
	mallory = w.device("mallory@a.example/phone")
	backup := filepath.Join(t.TempDir(), "backup.db")
	if err := w.stores["a.example"].Backup(w.ctx, backup); err != nil {
		t.Fatal(err)
	}
	uri, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "clubhouse"})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{bob, carol, mallory} {
		if err := alice.Add(w.ctx, uri, d.User(), ""); err != nil {
			t.Fatal(err)
		}
		d.waitKind(client.EventJoined)
	}
	inStep(t, uri, alice, bob, carol, mallory)
	forgot = copyOf(t, mallory.store)
	if err := alice.Remove(w.ctx, uri, mallory.User()); err != nil {
		t.Fatal(err)
	}
	mallory.waitKind(client.EventOut)
	bob.say(uri, "before")
	carol.waitText("before")
	alice.waitText("before")
	inStep(t, uri, alice, bob, carol)
	w.restore("a.example", backup)
	return w, alice, bob, carol, mallory, forgot, uri
}

// TestRoomLost: a hub has lost a room. The devices say so in one line, each keeps what was said, and a user of the hub's
// founds it again: the same room for everybody, those who never noticed too.
func TestRoomLost(t *testing.T) {
	w, alice, bob, carol, _, _, uri := lost(t)
	id, err := bob.Send(w.ctx, uri, "hello?")
	if err != nil {
		t.Fatal(err)
	}
	var none *client.NoRoomError
	if err := bob.Sent(w.ctx, uri, id); !errors.As(err, &none) {
		t.Errorf("Bob waits for what can't be sent: %v", err)
	}
	gone := func(r client.Room) bool { return r.Standing == client.Lost }
	r := bob.waitRoom(uri, "the loss", gone)
	if !strings.Contains(r.Why, "its hub a.example does not have the room any more") || !strings.Contains(r.Why, "a user of a.example can make it again") {
		t.Errorf("Bob is told: %s", r.Why)
	}
	alice.waitRoom(uri, "the loss", gone) // she notices by herself: her provider does not have her in it
	alice.restart()
	bob.restart()
	if err := bob.Refound(w.ctx, uri); err == nil || !strings.Contains(err.Error(), "only one of its own users can found it again") {
		t.Errorf("Bob founds it again: %v", err)
	}
	if err := bob.Join(w.ctx, uri, "", ""); err == nil {
		t.Error("Bob joins what is not there")
	}
	if r, err := bob.Room(w.ctx, uri); err != nil || !gone(r) || r.Participants != 3 {
		t.Errorf("Bob's room is %+v (%v)", r, err)
	}
	if err := alice.Refound(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{alice, bob, carol} {
		d.waitRoom(uri, "everybody", func(r client.Room) bool { return r.Standing == client.Joined && r.Clients == 3 && r.Participants == 3 })
		d.waitKind(client.EventRefounded)
	}
	inStep(t, uri, alice, bob, carol)
	alice.waitText("hello?")
	carol.say(uri, "here again")
	alice.waitText("here again")
	bob.waitText("here again")
	for _, d := range []*device{alice, bob, carol} {
		d.waitText("hello?") // which waited
		if got := d.texts(uri); !slices.Equal(got, []string{"before", "hello?", "here again"}) {
			t.Errorf("%s reads %q", d.name, got)
		}
	}
	if err := alice.SetMetadata(w.ctx, uri, func(m *mimi.RoomMetaData) { m.RoomSubject = "found again" }); err != nil {
		t.Fatal(err)
	}
	carol.waitRoom(uri, "the subject", func(r client.Room) bool { return r.Subject == "found again" })
}

// TestRoomLostAndTaken: who was removed founds the room again, with a device that forgot that, or takes its name for another
// room. Nobody follows: not by a Welcome, nor by finding it there, but who says join.
func TestRoomLostAndTaken(t *testing.T) {
	for name, take := range map[string]func(*device, mimi.RoomURI, ...*device) error{
		"found again": func(m *device, uri mimi.RoomURI, _ ...*device) error { return m.Refound(m.w.ctx, uri) },
		"other room": func(m *device, uri mimi.RoomURI, others ...*device) error {
			if err := m.Forget(m.w.ctx, uri); err != nil {
				return err
			}
			if _, err := m.CreateRoom(m.w.ctx, client.NewRoom{Name: "clubhouse"}); err != nil {
				return err
			}
			for _, d := range others {
				if err := m.Add(m.w.ctx, uri, d.User(), ""); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, alice, bob, carol, mallory, forgot, uri := lost(t)
			alice.waitRoom(uri, "the loss", func(r client.Room) bool { return r.Standing == client.Lost })
			if _, err := bob.Send(w.ctx, uri, "hello?"); err != nil {
				t.Fatal(err)
			}
			bob.waitRoom(uri, "the loss", func(r client.Room) bool { return r.Standing == client.Lost })
			mine := carol.group(uri)
			if name == "found again" {
				mallory.stop()
				mallory.store = forgot
				mallory.launch()
				mallory.waitRoom(uri, "the loss", func(r client.Room) bool { return r.Standing == client.Lost })
			}
			if err := take(mallory, uri, bob, carol); err != nil {
				t.Fatal(err)
			}
			said := func(e *client.Event) bool {
				return e.Kind == client.EventProblem && strings.Contains(e.Text, "does not follow by itself") && strings.Contains(e.Text, "mallory")
			}
			bob.wait("why it stays out", said)
			carol.wait("why it stays out", said)
			alice.restart() // looks whether it is there again
			if name == "found again" {
				alice.wait("why it stays out", said)
			} else { // she is not let into that
				alice.waitRoom(uri, "the loss", func(r client.Room) bool { return r.Standing == client.Lost })
			}
			if carol.group(uri) != mine {
				t.Error("Carol has followed")
			}
			for _, d := range []*device{alice, bob, carol} {
				if r, err := d.Room(w.ctx, uri); err != nil || r.Clients != 3 || r.Participants != 3 {
					t.Errorf("%s has %+v (%v)", d.name, r, err)
				}
			}
			if err := bob.Join(w.ctx, uri, "", ""); err != nil { // he may, if he wants
				t.Errorf("Bob joins: %v", err)
			}
		})
	}
}

// TestHubLost: a provider has lost everything, its accounts and keys too. Its user registers again with the folder of her
// device, and founds the room again; the others, at providers that lost nothing, have it again.
func TestHubLost(t *testing.T) {
	w, alice, bob, carol, uri := three(t, client.NewRoom{})
	bob.say(uri, "before")
	carol.waitText("before")
	alice.waitText("before")
	before := alice.group(uri)
	alice.stop()
	w.restore("a.example", filepath.Join(t.TempDir(), "empty.db"))
	w.ahead.Store(int64(5 * time.Minute)) // the others ask for its credential issuers again
	s, err := w.provider("a.example").Clients().Register(w.ctx, clientapi.Login{User: "alice", Password: "correct horse", Device: "phone"})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.SaveSession(w.ctx, alice.store, client.Session{Session: s}); err != nil {
		t.Fatal(err)
	}
	alice.launch()
	alice.waitRoom(uri, "the loss", func(r client.Room) bool { return r.Standing == client.Lost })
	if err := alice.Refound(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	waitGroup(t, uri, before, alice, bob, carol)
	bob.say(uri, "after")
	for _, d := range []*device{alice, bob, carol} {
		d.waitText("after")
		if got := d.texts(uri); !slices.Equal(got, []string{"before", "after"}) {
			t.Errorf("%s reads %q", d.name, got)
		}
	}
}

// TestFollowerLost: a provider that follows a room has lost everything. Its user registers again with the folder of his device,
// which comes in again by itself; it keeps what it had.
func TestFollowerLost(t *testing.T) {
	w, alice, bob, carol, uri := three(t, client.NewRoom{})
	bob.say(uri, "before")
	carol.waitText("before")
	alice.waitText("before")
	bob.stop()
	w.restore("b.example", filepath.Join(t.TempDir(), "empty.db"))
	w.ahead.Store(int64(5 * time.Minute)) // the others ask for its credential issuers again
	s, err := w.provider("b.example").Clients().Register(w.ctx, clientapi.Login{User: "bob", Password: "correct horse", Device: "phone"})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.SaveSession(w.ctx, bob.store, client.Session{Session: s}); err != nil {
		t.Fatal(err)
	}
	bob.launch()
	bob.waitKind(client.EventRepaired)
	inStep(t, uri, alice, bob, carol)
	carol.say(uri, "after")
	for _, d := range []*device{alice, bob, carol} {
		d.waitText("after")
		if got := d.texts(uri); !slices.Equal(got, []string{"before", "after"}) {
			t.Errorf("%s reads %q", d.name, got)
		}
	}
	if r, err := alice.Room(w.ctx, uri); err != nil || r.Clients != 3 {
		t.Errorf("the room has %d clients (%v)", r.Clients, err)
	}
}

// TestUnverifiable: a commit brings somebody in whose credential a device can't verify, for its provider has other issuers of
// theirs. It says so, and goes on in its other rooms.
func TestUnverifiable(t *testing.T) {
	w := newWorld(t, "a.example", "b.example", "c.example")
	alice, bob, carol := w.device("alice@a.example/phone"), w.device("bob@b.example/phone"), w.device("carol@c.example/phone")
	backup := filepath.Join(t.TempDir(), "backup.db")
	if err := w.stores["c.example"].Backup(w.ctx, backup); err != nil {
		t.Fatal(err)
	}
	doc, err := w.provider("a.example").IssuersDocument()
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := identity.ParseIssuers(doc, "a.example")
	if err != nil {
		t.Fatal(err)
	}
	w.adjust = func(c *provider.Config) {
		c.FixedIssuers = map[mimi.ProviderDomain][]*x509.Certificate{"b.example": wrong}
	}
	w.restore("c.example", backup)
	var rooms []mimi.RoomURI
	for _, name := range []string{"one", "two"} {
		uri, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if err := alice.Add(w.ctx, uri, carol.User(), ""); err != nil {
			t.Fatal(err)
		}
		carol.waitRoom(uri, "being in", func(r client.Room) bool { return r.Standing == client.Joined })
		rooms = append(rooms, uri)
	}
	if err := alice.Add(w.ctx, rooms[0], bob.User(), ""); err != nil {
		t.Fatal(err)
	}
	carol.waitRoom(rooms[0], "the trouble", func(r client.Room) bool { return strings.Contains(r.Repair, "a commit can't be followed") })
	alice.say(rooms[1], "still here?")
	carol.waitText("still here?")
	carol.say(rooms[1], "yes")
	alice.waitText("yes")
}
