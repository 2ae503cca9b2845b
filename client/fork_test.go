package client_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A hub forks a room: in one epoch it shows b.example one Commit and c.example
// another, which a user of its made for it. What crosses from one branch into the
// other gives it away: the device asks the hub, says so, and comes into the hub's
// branch by an external Commit, by itself.
func TestFork(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	dave := w.device("dave@a.example/phone") // in league with the hub
	if err := alice.Add(w.ctx, uri, dave.User(), ""); err != nil {
		t.Fatal(err)
	}
	dave.waitKind(client.EventJoined)
	inStep(t, uri, alice, bob, cathy, dave)
	other := secretCommit(t, dave)
	var once sync.Once
	w.setForge(func(to mimi.ProviderDomain, list []mimi.FanoutMessage) []mimi.FanoutMessage {
		if to != domC {
			return list
		}
		list = slices.Clone(list)
		for i := range list {
			if list[i].Kind() == mimi.FanoutCommit {
				once.Do(func() { list[i] = mimi.FanoutMessage{Timestamp: list[i].Timestamp, Message: other} })
			}
		}
		return list
	})
	if err := alice.SetMetadata(w.ctx, uri, func(m *mimi.RoomMetaData) { m.RoomSubject = "for Bob's eyes" }); err != nil {
		t.Fatal(err)
	}
	one := bob.waitRoom(uri, "the new subject", func(r client.Room) bool { return r.Subject == "for Bob's eyes" })
	two := cathy.waitRoom(uri, "the same epoch", func(r client.Room) bool { return r.Epoch == one.Epoch })
	if two.Authenticator == one.Authenticator || two.Subject != "" {
		t.Fatalf("the room has not forked: %+v, %+v", one, two)
	}
	alice.say(uri, "which of you reads this?")
	bob.waitText("which of you reads this?")
	back := cathy.waitKind(client.EventRepaired)
	if !strings.Contains(back.Text, "forked") || !strings.Contains(back.Text, two.Authenticator) {
		t.Errorf("Cathy is told: %s", back.Text)
	}
	inStep(t, uri, alice, bob, cathy)
	alice.say(uri, "together again")
	cathy.waitText("together again")
	bob.waitText("together again")
	if r, err := cathy.Room(w.ctx, uri); err != nil || r.Subject != "for Bob's eyes" || r.Clients != 4 {
		t.Errorf("Cathy's room is %+v (%v)", r, err)
	}
}

// A hub hides a Commit from one follower: the next message shows it.
func TestHiddenCommit(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	var hidden int
	w.setForge(func(to mimi.ProviderDomain, list []mimi.FanoutMessage) []mimi.FanoutMessage {
		return slices.DeleteFunc(slices.Clone(list), func(m mimi.FanoutMessage) bool {
			hide := to == domC && m.Kind() == mimi.FanoutCommit && hidden == 0
			if hide {
				hidden++
			}
			return hide
		})
	})
	if err := alice.SetMetadata(w.ctx, uri, func(m *mimi.RoomMetaData) { m.RoomSubject = "not for Cathy" }); err != nil {
		t.Fatal(err)
	}
	bob.waitRoom(uri, "the new subject", func(r client.Room) bool { return r.Subject == "not for Cathy" })
	bob.say(uri, "have you seen the new subject?")
	back := cathy.waitKind(client.EventRepaired)
	if !strings.Contains(back.Text, "missed what came after epoch") {
		t.Errorf("Cathy is told: %s", back.Text)
	}
	inStep(t, uri, alice, bob, cathy)
	cathy.say(uri, "now I have")
	alice.waitText("now I have")
}

// A Commit that the hub let through and that a device can't apply, because what it
// says does not fit: the device comes in anew.
func TestUnusableCommit(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	var bent bool
	w.setForge(func(to mimi.ProviderDomain, list []mimi.FanoutMessage) []mimi.FanoutMessage {
		if to != domC || bent {
			return list
		}
		list = slices.Clone(list)
		for i := range list {
			if list[i].Kind() != mimi.FanoutCommit {
				continue
			}
			b, err := tlspl.Marshal(&list[i].Message)
			if err != nil {
				panic(err)
			}
			var m mls.MLSMessage
			if err := tlspl.Unmarshal(b, &m); err != nil {
				panic(err)
			}
			m.PublicMessage.Auth.ConfirmationTag = slices.Clone(m.PublicMessage.Auth.ConfirmationTag)
			m.PublicMessage.Auth.ConfirmationTag[0] ^= 1
			if list[i].Message, err = mimi.NewMessage(m); err != nil {
				panic(err)
			}
			bent = true
		}
		return list
	})
	if err := alice.SetMetadata(w.ctx, uri, func(m *mimi.RoomMetaData) { m.RoomSubject = "bent" }); err != nil {
		t.Fatal(err)
	}
	back := cathy.waitKind(client.EventRepaired)
	if !strings.Contains(back.Text, "can't be followed") {
		t.Errorf("Cathy is told: %s", back.Text)
	}
	inStep(t, uri, alice, bob, cathy)
	cathy.say(uri, "straight")
	bob.waitText("straight")
}

// None of this keeps a removed user in: a device that missed its removal, was
// restored to before it, or lost its state hears that it may not come back, and
// asks no more.
func TestRemovedCantRepair(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	bob.say(uri, "before")
	cathy.waitText("before")
	backup := copyOf(t, bob.store)
	// Bob's device does not get to see its removal.
	bob.link.mu.Lock()
	bob.link.tamper = func(e clientapi.Event) []clientapi.Event {
		var f mimi.FanoutMessage
		if tlspl.Unmarshal(e.Fanout, &f) == nil && f.Kind() == mimi.FanoutCommit {
			e.Fanout = nil
		}
		return []clientapi.Event{e}
	}
	bob.link.mu.Unlock()
	if err := alice.Remove(w.ctx, uri, bob.User()); err != nil {
		t.Fatal(err)
	}
	cathy.waitRoom(uri, "Bob's removal", func(client.Room) bool { role, _ := cathy.role(uri, bob.User()); return role == "" })
	check := func(what string, d *device) {
		t.Helper()
		var denied *client.JoinError
		if err := d.Join(w.ctx, uri, "", ""); !errors.As(err, &denied) {
			t.Errorf("%s: %v", what, err)
		}
		alice.say(uri, "after "+what)
		cathy.waitText("after " + what)
		if slices.Contains(d.texts(uri), "after "+what) {
			t.Errorf("%s: it reads on", what)
		}
		if role, n := alice.role(uri, bob.User()); role != "" || n != 0 {
			t.Errorf("%s: Bob is %q with %d clients", what, role, n)
		}
	}
	check("missing it", bob)
	bob.stop()
	restored := &device{w: w, name: "restored", store: backup, more: make(chan struct{})}
	restored.link = &link{svc: bob.link.svc, dev: bob.link.dev, insert: make(chan clientapi.Event)}
	restored.launch()
	check("a backup", restored)
	restored.stop()
	blank := w.deviceIn("bob@b.example/phone", client.NewMemory())
	check("lost state", blank)
}
