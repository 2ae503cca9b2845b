package client_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// TestSemiPrivate is a room of three providers whose handshake messages are SemiPrivateMessages: all that people do works,
// and a follower learns neither who sends a handshake nor what it says. Decision 120
func TestSemiPrivate(t *testing.T) {
	w := newWorld(t, "a.example", "b.example", "c.example")
	var mu sync.Mutex
	var seen []mimi.FanoutMessage // by c.example
	w.tap = func(to mimi.ProviderDomain, req *mimi.NotifyRequest) {
		if to == "c.example" {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, req.Messages...)
		}
	}
	alice, bob, carol := w.device("alice@a.example/phone"), w.device("bob@b.example/phone"), w.device("carol@c.example/phone")
	dan := w.device("dan@a.example/phone")
	uri, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "quiet", SemiPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(alice.Add(w.ctx, uri, bob.User(), ""))
	bob.waitKind(client.EventJoined)
	must(bob.Add(w.ctx, uri, carol.User(), ""))
	carol.waitKind(client.EventJoined)
	if r, err := carol.Room(w.ctx, uri); err != nil || !r.SemiPrivate {
		t.Errorf("the room is %+v (%v)", r, err)
	}
	// From here on nothing that c.example has says who did what.
	must(bob.Add(w.ctx, uri, dan.User(), ""))
	dan.waitKind(client.EventJoined)
	must(alice.SetMetadata(w.ctx, uri, func(m *mimi.RoomMetaData) { m.RoomSubject = "plan of the uprising" }))
	for _, d := range []*device{alice, bob, carol, dan} {
		d.waitRoom(uri, "the subject", func(r client.Room) bool { return r.Subject == "plan of the uprising" })
		d.say(uri, "here is "+d.name)
	}
	for _, d := range []*device{alice, bob, carol, dan} {
		for _, other := range []*device{alice, bob, carol, dan} {
			d.waitText("here is " + other.name)
		}
	}
	inStep(t, uri, alice, bob, carol, dan)
	// The hub itself proposes, and a member commits it.
	must(dan.DeleteAccount(w.ctx, "correct horse"))
	gone := func(r client.Room) bool { return r.Participants == 3 && r.Clients == 3 }
	for _, d := range []*device{alice, bob, carol} {
		d.waitRoom(uri, "Dan to be gone", gone)
	}
	must(alice.Remove(w.ctx, uri, bob.User()))
	carol.waitRoom(uri, "Bob to be gone", func(r client.Room) bool { return r.Participants == 2 })
	bob.waitKind(client.EventOut)
	inStep(t, uri, alice, carol)

	// What c.example received.
	info, err := w.providers["c.example"].Clients().Info(w.ctx)
	must(err)
	var own mls.ExternalReceiver
	must(tlspl.Unmarshal(info.HubSenders[0].ExternalReceiver, &own))
	mu.Lock()
	defer mu.Unlock()
	commits := 0
	secrets := [][]byte{[]byte("plan of the uprising"), []byte("/u/dan"), []byte("/d/dan/"), []byte("here is")}
	for i := range seen {
		m := &seen[i].Message
		body, err := tlspl.Marshal(&seen[i])
		must(err)
		for _, s := range secrets {
			if bytes.Contains(body, s) {
				t.Errorf("a %s has %q in it", m.WireFormat, s)
			}
		}
		switch {
		case m.SemiPrivateMessage != nil:
			opaque(t, body, m, &own, alice, bob, carol)
			if m.SemiPrivateMessage.ContentType == mls.ContentCommit {
				commits++
			}
		case m.PublicMessage != nil && m.PublicMessage.Content.Proposal != nil && m.PublicMessage.Content.Proposal.Type == mls.ProposalSelfRemove:
			// public by Decision 120: a leaf goes
		case m.PublicMessage != nil && m.PublicMessage.Content.Sender.Type != mls.SenderExternal:
			t.Errorf("a %v of a member is public", m.PublicMessage.Content.ContentType)
		}
	}
	if commits < 4 {
		t.Errorf("c.example got %d commits", commits)
	}

	// What is in its database.
	file := filepath.Join(t.TempDir(), "copy.db")
	must(w.stores["c.example"].Backup(w.ctx, file))
	db, err := os.ReadFile(file)
	must(err)
	if !bytes.Contains(db, []byte("/u/carol")) {
		t.Fatal("this is no database of c.example")
	}
	for _, s := range secrets {
		if bytes.Contains(db, s) {
			t.Errorf("c.example's database has %q in it", s)
		}
	}
}

// opaque checks that a follower can't read a SemiPrivateMessage: no key in it is for the follower, all that it shows is known
// beforehand or a hash or ciphertext, and no name of a member is in it.
func opaque(t *testing.T, body []byte, m *mimi.Message, own *mls.ExternalReceiver, members ...*device) {
	t.Helper()
	semi := m.SemiPrivateMessage
	for _, d := range members {
		for _, name := range []string{string(d.User()), string(d.Device())} {
			if bytes.Contains(body, []byte(name)) {
				t.Errorf("a SemiPrivateMessage names %s", name)
			}
		}
	}
	if len(semi.KeysForExternalReceivers) != 1 {
		t.Fatalf("the message is for %d receivers", len(semi.KeysForExternalReceivers))
	}
	if !bytes.Equal(semi.AuthenticatedData, []byte{0}) {
		t.Errorf("authenticated_data is %x", semi.AuthenticatedData)
	}
	if semi.KeysForExternalReceivers[0].ExternalReceiverRef == nil || bytes.Contains(body, own.PublicKey) {
		t.Error("the message is for the follower")
	}
	// padded to a multiple of 64: the length says little
	if n := len(semi.EncryptedSenderData); n > 64 {
		t.Errorf("encrypted_sender_data has %d octets", n)
	}
}

// TestSemiPrivateComingAndGoing: external commits and SelfRemoves, which stay public (Decision 120), and who is listed
// without a device, which a follower can't read, work in a SemiPrivate room.
func TestSemiPrivateComingAndGoing(t *testing.T) {
	w := newWorld(t, "a.example", "b.example", "c.example")
	alice, bob := w.device("alice@a.example/phone"), w.device("bob@b.example/phone")
	uri, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "quiet", SemiPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.Add(w.ctx, uri, bob.User(), ""); err != nil {
		t.Fatal(err)
	}
	bob.waitKind(client.EventJoined)

	// Carol has no KeyPackages yet: she comes in when she is next online.
	svc := w.providers["c.example"].Clients()
	if _, err := svc.Register(w.ctx, clientapi.Login{User: "carol", Password: "correct horse", Device: "phone"}); err != nil {
		t.Fatal(err)
	}
	if err := bob.Add(w.ctx, uri, "mimi://c.example/u/carol", ""); err != nil {
		t.Fatal(err)
	}
	carol := w.device("carol@c.example/phone")
	carol.waitKind(client.EventJoined)
	inStep(t, uri, alice, bob, carol)

	tablet := w.device("bob@b.example/tablet")
	tablet.waitKind(client.EventJoined)
	inStep(t, uri, alice, bob, carol, tablet)
	carol.say(uri, "welcome")
	tablet.waitText("welcome")

	if err := bob.Leave(w.ctx, uri); err != nil {
		t.Fatal(err)
	}
	bob.waitKind(client.EventOut)
	tablet.waitKind(client.EventOut)
	for _, d := range []*device{alice, carol} {
		d.waitRoom(uri, "Bob to be gone", func(r client.Room) bool { return r.Participants == 2 && r.Clients == 2 })
	}
	// Who was asked for and is not listed is told nothing, and turned away by the hub.
	carol.mu.Lock()
	if slices.ContainsFunc(carol.events, func(e client.Event) bool { return e.Kind == client.EventOut }) {
		t.Error("Carol was told that she is out")
	}
	carol.mu.Unlock()
	alice.say(uri, "two of us")
	carol.waitText("two of us")
}
