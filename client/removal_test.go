package client_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

const (
	domA = mimi.ProviderDomain("a.example")
	domB = mimi.ProviderDomain("b.example")
	domC = mimi.ProviderDomain("c.example")
)

// stage is a room at a.example with Alice, who made it, Bob at b.example and
// Cathy at c.example, all in step.
func stage(t *testing.T) (w *world, uri mimi.RoomURI, alice, bob, cathy *device) {
	t.Helper()
	t.Parallel() // some wait for what is tried again after a while
	w = newWorld(t, domA, domB, domC, "d.example")
	alice, bob, cathy = w.device("alice@a.example/phone"), w.device("bob@b.example/phone"), w.device("cathy@c.example/phone")
	uri, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "clubhouse"})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{bob, cathy} {
		if err := alice.Add(w.ctx, uri, d.User(), ""); err != nil {
			t.Fatal(err)
		}
		d.waitKind(client.EventJoined)
	}
	inStep(t, uri, alice, bob, cathy)
	return w, uri, alice, bob, cathy
}

// eventually waits for something that happens by itself.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(45 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// followers are the providers that the hub has something for, or will have.
func (w *world) followers(uri mimi.RoomURI) (domains []string) {
	w.t.Helper()
	err := w.stores[uri.Host()].View(w.ctx, func(tx *store.Tx) error {
		room, err := tx.Room(string(uri))
		if err != nil {
			return err
		}
		list, err := tx.Followers(room.ID)
		for _, f := range list {
			domains = append(domains, f.Domain)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(domains)
	return domains
}

// readers are the clients of a provider that it keeps a room's events for.
func (w *world) readers(d mimi.ProviderDomain, uri mimi.RoomURI) (clients []string) {
	w.t.Helper()
	err := w.stores[d].View(w.ctx, func(tx *store.Tx) error {
		room, err := tx.Room(string(uri))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		clients, err = tx.Members(room.ID)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return clients
}

// removals are those that a provider has still to see to.
func (w *world) removals(d mimi.ProviderDomain) (n int) {
	w.t.Helper()
	err := w.stores[d].View(w.ctx, func(tx *store.Tx) error {
		list, err := tx.Removals(store.Removal{}, 100)
		n = len(list)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// secrets is how many records of MLS groups a device has.
func (d *device) secrets() (n int) {
	d.w.t.Helper()
	err := d.store.View(d.w.ctx, func(tx client.Tx) error {
		return tx.Scan([]byte{'g'}, nil, func(_, _ []byte) (bool, error) { n++; return true, nil })
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return n
}

// role is a user's in a room as a device sees it, and how many clients it has.
func (d *device) role(uri mimi.RoomURI, user mimi.UserURI) (role string, clients int) {
	d.w.t.Helper()
	list, err := d.Members(d.w.ctx, uri)
	if err != nil {
		d.w.t.Fatal(err)
	}
	for _, m := range list {
		if m.User == user.Identifier() {
			return m.Role, len(m.Clients)
		}
	}
	return "", 0
}

// gone checks what everybody holds when Bob's devices are out of the room, and
// b.example has nobody else there.
func gone(t *testing.T, uri mimi.RoomURI, role string, out *device, standing client.Standing, why string, left ...*device) {
	t.Helper()
	w := left[0].w
	user := mimi.UserURI("mimi://b.example/u/bob")
	for _, d := range left {
		d.waitRoom(uri, "Bob's removal", func(client.Room) bool {
			is, clients := d.role(uri, user)
			return is == role && clients == 0
		})
	}
	inStep(t, uri, left...)
	// The hub keeps nothing for b.example any more, which keeps nothing for anybody.
	var want []string
	for _, d := range left {
		if host := string(d.User().Host()); host != string(uri.Host()) {
			want = append(want, host)
		}
	}
	w.eventually("the hub to forget b.example", func() bool { return slices.Equal(w.followers(uri), want) })
	w.eventually("b.example to keep nothing for Bob", func() bool { return len(w.readers(domB, uri)) == 0 })
	w.eventually("all removals", func() bool { return w.removals(domA)+w.removals(domB)+w.removals(domC) == 0 })
	if out != nil {
		out.waitRoom(uri, "being out", func(r client.Room) bool { return r.Standing == standing && strings.Contains(r.Why, why) })
		if n := out.secrets(); n != 0 {
			t.Errorf("%s is out and keeps %d records of MLS groups", out.name, n)
		}
		if _, err := out.Send(w.ctx, uri, "still here"); err == nil {
			t.Errorf("%s is out and may send", out.name)
		}
	}
	// The others go on, and Bob's side hears nothing of it.
	left[0].say(uri, "without Bob")
	for _, d := range left[1:] {
		d.waitText("without Bob")
	}
	if out != nil && slices.Contains(out.texts(uri), "without Bob") {
		t.Errorf("%s reads what is said without it", out.name)
	}
}

// Each way out of a room, played at three providers: what then the hub, the
// followers and the clients hold.

func TestKicked(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	if err := alice.Kick(w.ctx, uri, bob.User()); err != nil {
		t.Fatal(err)
	}
	gone(t, uri, "ordinary_user", bob, client.Kicked, "", alice, cathy)
	// He is a participant still, and may come back.
	if err := bob.Join(w.ctx, uri, "", ""); err != nil {
		t.Fatal(err)
	}
	inStep(t, uri, alice, bob, cathy)
	cathy.say(uri, "you again")
	bob.waitText("you again")
	if got := w.followers(uri); !slices.Equal(got, []string{"b.example", "c.example"}) {
		t.Errorf("followers: %q", got)
	}
}

func TestRemoved(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	if err := alice.Remove(w.ctx, uri, bob.User()); err != nil {
		t.Fatal(err)
	}
	gone(t, uri, "", bob, client.Left, "", alice, cathy)
	var denied *client.JoinError
	if err := bob.Join(w.ctx, uri, "", ""); !errors.As(err, &denied) {
		t.Errorf("a removed user joins: %v", err)
	}
	// Being added anew begins anew.
	if err := cathy.Add(w.ctx, uri, bob.User(), ""); err != nil {
		t.Fatal(err)
	}
	alice.waitRoom(uri, "Bob's return", func(r client.Room) bool { return r.Clients == 3 })
	alice.say(uri, "welcome back")
	bob.waitText("welcome back")
	if slices.Contains(bob.texts(uri), "without Bob") {
		t.Error("Bob reads what was said while he was out")
	}
}

func TestBanned(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	if err := alice.Ban(w.ctx, uri, bob.User()); err != nil {
		t.Fatal(err)
	}
	gone(t, uri, "banned", bob, client.Left, "", alice, cathy)
	var denied *client.JoinError
	if err := bob.Join(w.ctx, uri, "", ""); !errors.As(err, &denied) {
		t.Errorf("a banned user joins: %v", err)
	}
	if err := cathy.Add(w.ctx, uri, bob.User(), ""); err == nil {
		if role, n := alice.role(uri, bob.User()); role != "banned" || n > 0 {
			t.Errorf("a banned user was added: %q with %d clients", role, n)
		}
	}
}

func TestLeft(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	if err := bob.Leave(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	gone(t, uri, "", bob, client.Left, "", alice, cathy)
}

// A device of several is lost: another one takes it out, at once.
func TestDeviceLost(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	tablet := w.device("bob@b.example/tablet")
	tablet.waitKind(client.EventJoined)
	inStep(t, uri, alice, bob, cathy, tablet)
	if err := bob.RemoveDevice(w.ctx, tablet.Device()); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{alice, bob, cathy} {
		d.waitRoom(uri, "the tablet's removal", func(r client.Room) bool { return r.Clients == 3 })
	}
	inStep(t, uri, alice, bob, cathy)
	if got := w.followers(uri); !slices.Equal(got, []string{"b.example", "c.example"}) {
		t.Errorf("followers: %q", got)
	}
	if got := w.readers(domB, uri); !slices.Equal(got, []string{string(bob.Device())}) {
		t.Errorf("b.example keeps events for %q", got)
	}
	w.eventually("all removals", func() bool { return w.removals(domA)+w.removals(domB) == 0 })
	if role, n := alice.role(uri, bob.User()); role != "ordinary_user" || n != 1 {
		t.Errorf("Bob is %q with %d clients", role, n)
	}
	alice.say(uri, "without the tablet")
	bob.waitText("without the tablet")
	cathy.waitText("without the tablet")
	if slices.Contains(tablet.texts(uri), "without the tablet") {
		t.Error("the lost tablet goes on reading")
	}
	var e *clientapi.Error
	if _, err := w.providers[domB].Clients().Login(w.ctx, clientapi.Login{User: "bob", Password: "wrong", Device: "tablet"}); !errors.As(err, &e) || e.Code != clientapi.CodeUnauthorized {
		t.Errorf("a lost device logs in without the password: %v", err)
	}
}

// The only device is lost: no client is left that could say so. Its provider
// tells the hub, which takes it out; the user stays a participant, and its next
// device comes in by itself.
func TestOnlyDeviceLost(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	svc := w.providers[domB].Clients()
	if err := svc.RemoveDevice(w.ctx, clientapi.Device{User: bob.User(), Client: bob.Device()}, bob.Device()); err != nil {
		t.Fatal(err)
	}
	gone(t, uri, "ordinary_user", nil, 0, "", alice, cathy)
	next := w.device("bob@b.example/new")
	next.waitKind(client.EventJoined)
	inStep(t, uri, alice, cathy, next)
	alice.say(uri, "a new phone")
	next.waitText("a new phone")
}

// An account is deleted by its client, which leaves its rooms before.
func TestAccountDeleted(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	tablet := w.device("bob@b.example/tablet")
	tablet.waitKind(client.EventJoined)
	inStep(t, uri, alice, bob, cathy, tablet)
	var e *clientapi.Error
	if err := bob.DeleteAccount(w.ctx, "wrong"); !errors.As(err, &e) || e.Code != clientapi.CodeUnauthorized {
		t.Fatalf("deleted with a wrong password: %v", err)
	}
	if r, err := bob.Room(w.ctx, uri); err != nil || r.Standing != client.Joined {
		t.Fatalf("a wrong password made Bob leave: %+v, %v", r, err)
	}
	if err := bob.DeleteAccount(w.ctx, "correct horse"); err != nil {
		t.Fatal(err)
	}
	gone(t, uri, "", nil, 0, "", alice, cathy)
	if err := alice.Add(w.ctx, uri, bob.User(), ""); err == nil || !strings.Contains(err.Error(), "does not exist any more") {
		t.Errorf("adding a deleted user: %v", err)
	}
}

// An account is deleted while the hub can't be reached: the provider tells it
// when it is back. In between somebody comes in, which makes the hub propose anew.
func TestAccountDeletedHubDown(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	w.setDown(domA, true)
	svc := w.providers[domB].Clients()
	if err := svc.DeleteAccount(w.ctx, clientapi.Device{User: bob.User(), Client: bob.Device()}, "correct horse"); err != nil {
		t.Fatal(err)
	}
	w.eventually("a try", func() bool { return w.removals(domB) == 1 })
	if role, n := alice.role(uri, bob.User()); role != "ordinary_user" || n != 1 {
		t.Fatalf("the hub knows already: %q, %d", role, n)
	}
	w.setDown(domA, false)
	gone(t, uri, "", nil, 0, "", alice, cathy)
}

// The account of one of the hub's own users is deleted, with a device at hand and
// one that is offline.
func TestHubsOwnAccountDeleted(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	dave := w.device("dave@a.example/phone")
	if err := alice.Add(w.ctx, uri, dave.User(), ""); err != nil {
		t.Fatal(err)
	}
	dave.waitKind(client.EventJoined)
	inStep(t, uri, alice, bob, cathy, dave)
	if err := dave.DeleteAccount(w.ctx, "correct horse"); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{alice, bob, cathy} {
		d.waitRoom(uri, "Dave's removal", func(client.Room) bool {
			role, n := d.role(uri, dave.User())
			return role == "" && n == 0
		})
	}
	inStep(t, uri, alice, bob, cathy)
	w.eventually("all removals", func() bool { return w.removals(domA) == 0 })
	if got := w.readers(domA, uri); !slices.Equal(got, []string{string(alice.Device())}) {
		t.Errorf("a.example keeps events for %q", got)
	}
}

// The last participant is gone: the hub keeps the room closed, for nobody.
func TestLastParticipantGone(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	for _, d := range []*device{cathy, alice} {
		if err := d.DeleteAccount(w.ctx, "correct horse"); err != nil {
			t.Fatal(err)
		}
		bob.waitRoom(uri, "being with fewer", func(r client.Room) bool {
			_, n := bob.role(uri, d.User())
			return n == 0
		})
	}
	bob.waitRoom(uri, "being alone", func(r client.Room) bool { return r.Participants == 1 && r.Clients == 1 && r.Pending == 0 })
	if err := bob.DeleteAccount(w.ctx, "correct horse"); err != nil {
		t.Fatal(err)
	}
	w.eventually("all removals", func() bool { return w.removals(domA)+w.removals(domB)+w.removals(domC) == 0 })
	w.eventually("b.example to keep nothing", func() bool { return len(w.readers(domB, uri)) == 0 && len(w.readers(domC, uri)) == 0 })
	var denied *client.JoinError
	if err := w.device("eva@c.example/phone").Join(w.ctx, uri, "", ""); !errors.As(err, &denied) || denied.Status != mimi.GroupInfoNoSuchRoom {
		t.Errorf("somebody of a provider that was there: %v", err)
	}
	stranger := w.device("eve@d.example/phone")
	if err := stranger.Join(w.ctx, uri, "", ""); !errors.As(err, &denied) || denied.Status != mimi.GroupInfoNotAuthorized {
		t.Errorf("a stranger: %v", err)
	}
	if err := stranger.Add(w.ctx, uri, stranger.User(), ""); err == nil {
		t.Error("somebody is added to a room without anybody")
	}
	// A room of that name is not to be had again.
	fresh := w.device("frank@a.example/phone")
	if _, err := fresh.CreateRoom(w.ctx, client.NewRoom{Name: "clubhouse"}); err == nil {
		t.Error("the closed room was founded again")
	}
}
