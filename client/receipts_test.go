package client_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
)

// statuses is what a device knows of what became of a message, by user.
func (d *device) statuses(uri mimi.RoomURI, text string) map[string]string {
	d.w.t.Helper()
	items, err := d.History(d.w.ctx, uri, client.HistoryOptions{Peek: true})
	if err != nil {
		d.w.t.Fatal(err)
	}
	for _, i := range items {
		if i.Message.Text == text {
			return i.Message.Statuses
		}
	}
	return nil
}

func (d *device) waitStatus(uri mimi.RoomURI, text string, of *device, want string) {
	d.w.t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for d.statuses(uri, text)[string(of.User())] != want {
		if time.Now().After(deadline) {
			d.w.t.Fatalf("%s waits in vain to hear that %q is %s at %s: %v", d.name, text, want, of.name, d.statuses(uri, text))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// reports counts the status reports of a user that a device has seen.
func (d *device) reports(of *device) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e.Kind == client.EventMessage && e.Message.Act == "report" && e.Message.Sender == of.User() {
			n++
		}
	}
	return n
}

// Receipts are sent by themselves where the room's policy and the user's setting allow them: several messages in one report, once
// for all devices of a user, and nothing of those who did not ask for it unless the room requires it.
func TestReceipts(t *testing.T) {
	w := newWorld(t, "a.example", "b.example")
	alice, bob, tablet, cathy := w.device("alice@a.example/phone"), w.device("bob@b.example/phone"), w.device("bob@b.example/tablet"), w.device("cathy@b.example/phone")
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
	tablet.waitKind(client.EventJoined)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	status := func(delivery mimi.Optionality) {
		t.Helper()
		must(alice.SetComponents(w.ctx, uri, func(*room.View) ([]room.Component, error) {
			return []room.Component{{ID: mimi.ComponentStatusNotificationPolicy, Data: &mimi.StatusNotificationPolicy{DeliveryNotifications: delivery}}}, nil
		}))
		r, err := alice.Room(w.ctx, uri)
		must(err)
		for _, d := range []*device{bob, cathy} {
			d.waitRoom(uri, "the new policy", func(x client.Room) bool { return x.Epoch >= r.Epoch })
		}
	}
	if set, err := bob.Receipts(w.ctx); err != nil || set != (client.Receipts{}) {
		t.Errorf("without a setting: %+v, %v", set, err)
	}
	must(bob.SetReceipts(w.ctx, client.Receipts{Delivery: client.ReceiptsOn, Read: client.ReceiptsOn}))

	const n = 20
	for i := range n {
		alice.say(uri, fmt.Sprint("message ", i))
	}
	for i := range n {
		alice.waitStatus(uri, fmt.Sprint("message ", i), bob, "delivered")
	}
	if got := alice.reports(bob); got > n/2 {
		t.Errorf("%d reports of %d messages", got, n)
	}
	_, err = bob.History(w.ctx, uri, client.HistoryOptions{New: true})
	must(err)
	for i := range n {
		alice.waitStatus(uri, fmt.Sprint("message ", i), bob, "read")
	}
	// What was read is known to be: nothing is left to say, and nothing is said of reports.
	before := alice.reports(bob)
	_, err = bob.History(w.ctx, uri, client.HistoryOptions{New: true})
	must(err)
	if any, err := bob.SendReceipts(w.ctx, uri); any || err != nil {
		t.Errorf("more to report: %v, %v", any, err)
	}
	if got := alice.reports(cathy); got > 0 {
		t.Errorf("Cathy, who did not ask for it, sent %d reports", got)
	}

	status(mimi.Required)
	alice.say(uri, "required")
	alice.waitStatus(uri, "required", cathy, "delivered")
	must(cathy.SetReceipts(w.ctx, client.Receipts{Delivery: client.ReceiptsNever}))
	alice.say(uri, "required still")
	alice.waitStatus(uri, "required still", bob, "delivered")
	status(mimi.Forbidden)
	alice.say(uri, "forbidden")
	cathy.waitText("forbidden")
	bob.waitText("forbidden")
	for _, d := range []*device{bob, cathy} {
		if any, err := d.SendReceipts(w.ctx, uri); any || err != nil {
			t.Errorf("%s has something to report: %v, %v", d.name, any, err)
		}
	}
	if got := alice.statuses(uri, "required still")[string(cathy.User())]; got != "" {
		t.Errorf("Cathy, who never does, reported %s", got)
	}
	if got := alice.statuses(uri, "forbidden"); len(got) > 0 {
		t.Errorf("reported although it is forbidden: %v", got)
	}
	if got := alice.reports(bob); got < before {
		t.Errorf("%d reports, %d before", got, before)
	}
}

// What is owed outlives the device's end, also if the report could not be sent.
func TestReceiptsAreKept(t *testing.T) {
	w := newWorld(t, "a.example", "b.example")
	alice, bob := w.device("alice@a.example/phone"), w.device("bob@b.example/phone")
	uri, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "clubhouse"})
	if err == nil {
		err = alice.Add(w.ctx, uri, bob.User(), "")
	}
	if err == nil {
		bob.waitKind(client.EventJoined)
		err = bob.SetReceipts(w.ctx, client.Receipts{Delivery: client.ReceiptsOn})
	}
	if err != nil {
		t.Fatal(err)
	}
	alice.say(uri, "before the end")
	bob.waitText("before the end")
	bob.stop()
	if set, err := bob.Receipts(w.ctx); err != nil || set.Delivery != client.ReceiptsOn || set.Read != client.ReceiptsOff {
		t.Errorf("%+v, %v", set, err)
	}
	bob.start()
	alice.waitStatus(uri, "before the end", bob, "delivered")
}
