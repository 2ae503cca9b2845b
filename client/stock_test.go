package client_test

import (
	"fmt"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/provider"
)

// A device fills up its stock of KeyPackages to the ceiling by itself, as soon as
// there are fewer than the floor, and not before.
func TestRefill(t *testing.T) {
	w := newWorldWith(t, func(c *provider.Config) { c.StockFloor, c.StockCeiling = 4, 10 }, domA, domB)
	alice, bob := w.device("alice@a.example/phone"), w.device("bob@b.example/phone")
	left := func() int64 {
		t.Helper()
		s, err := bob.link.Stock(w.ctx)
		if err != nil || s.Floor != 4 || s.Ceiling != 10 {
			t.Fatalf("%+v, %v", s, err)
		}
		return s.Left
	}
	if n := left(); n != 10 {
		t.Fatalf("a new device has %d KeyPackages in stock", n)
	}
	rooms := 0
	add := func() {
		t.Helper()
		uri, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: fmt.Sprint("room", rooms)})
		if err != nil {
			t.Fatal(err)
		}
		if err := alice.Add(w.ctx, uri, bob.User(), ""); err != nil {
			t.Fatal(err)
		}
		rooms++
		bob.waitRoom(uri, "being in", func(r client.Room) bool { return r.Standing == client.Joined })
	}
	// Some are for other suites than the rooms': those go unused.
	for range 6 {
		add()
	}
	if n := left(); n != 4 {
		t.Errorf("at the floor there are %d", n)
	}
	add()
	w.eventually("the stock to be filled up", func() bool { return left() == 10 })
	for range 6 {
		add()
	}
	if members, err := alice.Members(w.ctx, "mimi://a.example/r/room12"); err != nil || len(members[len(members)-1].Clients) != 1 {
		t.Errorf("the 13th room has %+v, %v", members, err)
	}
}
