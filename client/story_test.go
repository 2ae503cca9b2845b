package client_test

import (
	"slices"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
)

// TestStory is the story of MIMI protocol §3: Alice creates a room and adds Bob,
// Bob adds Cathy, Cathy speaks, Bob leaves, Cathy's new device comes in.
func TestStory(t *testing.T) {
	w := newWorld(t, "a.example", "b.example", "c.example")
	alice, bob, cathy := w.device("alice@a.example/phone"), w.device("bob@b.example/phone"), w.device("cathy@c.example/phone")

	room, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "clubhouse", Title: "Clubhouse"})
	if err != nil {
		t.Fatal(err)
	}
	if room != "mimi://a.example/r/clubhouse" {
		t.Errorf("the room is %s", room)
	}
	if err := alice.Add(w.ctx, room, bob.User(), ""); err != nil {
		t.Fatal(err)
	}
	bob.waitKind(client.EventJoined)
	if err := bob.Add(w.ctx, room, cathy.User(), ""); err != nil {
		t.Fatal(err)
	}
	cathy.waitKind(client.EventJoined)
	cathy.say(room, "hello, all")
	for _, d := range []*device{alice, bob, cathy} {
		m := d.waitText("hello, all").Message
		if m.Sender != cathy.User() || !m.Franked || len(m.Marks) > 0 || m.Broke != "" {
			t.Errorf("%s reads %+v", d.name, m)
		}
	}
	if err := bob.Leave(w.ctx, room); err != nil {
		t.Fatal(err)
	}
	if out := bob.waitKind(client.EventOut); out.Text != "left" {
		t.Errorf("Bob is out: %s", out.Text)
	}
	is := func(r client.Room) bool { return r.Participants == 2 && r.Clients == 2 }
	alice.waitRoom(room, "Bob to be gone", is)
	cathy.waitRoom(room, "Bob to be gone", is)

	tablet := w.device("cathy@c.example/tablet")
	tablet.waitKind(client.EventJoined)
	is = func(r client.Room) bool { return r.Participants == 2 && r.Clients == 3 }
	a, c, n := alice.waitRoom(room, "the tablet", is), cathy.waitRoom(room, "the tablet", is), tablet.waitRoom(room, "the tablet", is)
	if a.Authenticator != c.Authenticator || c.Authenticator != n.Authenticator {
		t.Error("they are in different epochs")
	}
	alice.say(room, "welcome back")
	for _, d := range []*device{cathy, tablet} {
		d.waitText("welcome back")
	}
	if got := cathy.texts(room); !slices.Equal(got, []string{"hello, all", "welcome back"}) {
		t.Errorf("Cathy's phone shows %q", got)
	}
	if got := bob.texts(room); !slices.Equal(got, []string{"hello, all"}) {
		t.Errorf("Bob's phone shows %q", got)
	}
	if _, err := bob.Send(w.ctx, room, "am I still here?"); err == nil {
		t.Error("Bob can write")
	}
	members, err := alice.Members(w.ctx, room)
	if err != nil {
		t.Fatal(err)
	}
	var users []mimi.IdentifierURI
	for _, m := range members {
		users = append(users, m.User)
	}
	if want := []mimi.IdentifierURI{"mimi://a.example/u/alice", "mimi://a.example", "mimi://c.example/u/cathy"}; !slices.Equal(users, want) {
		t.Errorf("participants: %v", users)
	}
}
