package room

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
)

// refound lets a client make a new group for the room, and the hub take it up.
func (d *device) refound(id string, adjust func(*RefoundParams)) error {
	w := d.w
	w.signers[string(d.client)] = nil
	sender := mls.ExternalSender{SignatureKey: w.hubCfg.Signer.Public(), Credential: mls.BasicCredential([]byte("mimi://a.example"))}
	p := RefoundParams{GroupID: []byte(id), CipherSuite: testSuite, Leaf: d.leaf(), Lifetime: mls.Lifetime{NotAfter: 1 << 40}, HubSender: &sender}
	if adjust != nil {
		adjust(&p)
	}
	var f *Refounding
	var err error
	if d.room != nil && d.room.Ended() != nil && id == string(d.room.Ended().GroupID) {
		f, err = d.room.Refound(rand.Reader, p)
	} else {
		f, err = Refound(rand.Reader, w.config(), w.hub.GroupInfo(), w.hub.Tree(), w.hub.Pending(), p)
	}
	if err != nil {
		return err
	}
	w.now += 10
	in := UpdateInput{From: d.user.Host(), Bundle: f.Bundle(), Now: w.now}
	hub, next, err := w.hub.Refound(in)
	if err != nil {
		return err
	}
	in.From = "evil.example"
	if _, _, err := w.hub.Refound(in); err == nil {
		w.t.Error("a provider founds for another's user")
	}
	if e := next.Events; len(e) != 1 || e[0].Message.Kind() != mimi.FanoutCommit || !slices.Contains(e[0].Providers, d.user.Host()) {
		w.t.Errorf("events: %+v", e)
	}
	for _, p := range w.hub.Providers() {
		if !slices.Contains(next.Events[0].Providers, p) {
			w.t.Errorf("%s is not told", p)
		}
	}
	room := f.Room()
	for _, other := range w.devices {
		other.room = nil
	}
	w.hub, w.store, d.room = hub, map[string][]byte{}, room
	w.save(next)
	w.check()
	return nil
}

// The last clients leave a persistent room: nobody can commit. A participant founds a new group; who left stays out.
func TestRefoundStuckRoom(t *testing.T) {
	w := newWorld(t, policy.Cooperative, func(c *policy.Components, _ *[]mimi.UserRolePair) { c.Base.PersistentRoom = true })
	a, b := w.devices[0], w.device(bob, "b1")
	w.must(a.add("ordinary_user", b))
	if w.hub.Stuck() {
		t.Error("two clients, and the room is stuck")
	}
	if err := b.refound("mimi://a.example/g/2", nil); !errors.Is(err, ErrAlive) || Denied(err) == nil {
		t.Errorf("an ordinary user replaces a group that goes on: %v", err)
	}
	p, err := b.room.Leave(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.update("b.example", p.Bundle); err != nil {
		t.Fatal(err)
	}
	if p, err = a.room.LeaveAsClient(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, err := w.update("a.example", p.Bundle); err != nil {
		t.Fatal(err)
	}
	if !w.hub.Stuck() {
		t.Fatal("nobody is left, and the room is not stuck")
	}
	if err := b.refound("mimi://a.example/g/2", nil); err == nil {
		t.Error("who left founds the new group")
	}
	// nor with a client that forgets that bob left
	pending := w.hub.pending
	w.hub.pending = nil
	err = b.refound("mimi://a.example/g/2", nil)
	w.hub.pending = pending
	if d := Denied(err); d == nil || d.Reason != policy.NotOnParticipantList {
		t.Errorf("who left founds the new group: %v", err)
	}
	a2 := w.device(alice, "a2")
	last := w.hub.LastAccepted()
	if err := a2.refound("mimi://a.example/g/2", nil); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.hub.View().RoleOf(bob.Identifier()); ok || w.hub.View().Room() != testRoom || w.hub.View().Metadata().RoomName != "Clubhouse" || w.hub.LastAccepted() <= last {
		t.Error("the room is not the same without bob")
	}
	w.reload()
	w.must(a2.add("ordinary_user", w.device(cathy, "c1")))
}

func TestRefoundRefuses(t *testing.T) {
	w := newWorld(t, policy.Cooperative, nil) // not persistent
	a := w.devices[0]
	p, err := a.room.LeaveAsClient(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.update("a.example", p.Bundle); err != nil {
		t.Fatal(err)
	}
	if err := w.device(alice, "a2").refound("mimi://a.example/g/2", nil); Denied(err) == nil {
		t.Errorf("a room that is not persistent comes back: %v", err)
	}

	w = newWorld(t, policy.Administered, nil)
	a = w.devices[0]
	w.must(a.add("ordinary_user", w.device(bob, "b1")))
	if err := a.refound("mimi://a.example/g/1", nil); err == nil {
		t.Error("the new group has the old ID")
	}
	// another policy than before
	w.signers[string(a.client)] = nil
	components, _, err := policy.Build(policy.Channel, policy.Params{Hub: "a.example", Creator: alice})
	if err != nil {
		t.Fatal(err)
	}
	other, err := Create(rand.Reader, w.config(), CreateParams{Room: testRoom, GroupID: []byte("other"), CipherSuite: testSuite, Leaf: a.leaf(), Lifetime: mls.Lifetime{NotAfter: 1 << 40},
		HubSender:  mls.ExternalSender{SignatureKey: w.hubCfg.Signer.Public(), Credential: mls.BasicCredential([]byte("mimi://a.example"))},
		Components: components, Participants: w.hub.View().Participants()})
	if err != nil {
		t.Fatal(err)
	}
	extensions := other.View().Context().Extensions
	f, err := found(rand.Reader, w.config(), testRoom, extensions, RefoundParams{GroupID: []byte("other"), CipherSuite: testSuite, Leaf: a.leaf(), Lifetime: mls.Lifetime{NotAfter: 1 << 40}})
	if err != nil {
		t.Fatal(err)
	}
	var bad *StateError
	if _, _, err := w.hub.Refound(UpdateInput{From: "a.example", Bundle: f.Bundle(), Now: w.now}); !errors.As(err, &bad) {
		t.Errorf("a group with another policy: %v", err)
	}
	// the participants with somebody who was removed
	list := w.hub.View().Participants()
	w.must(a.commit(a.room.RemoveUsers(rand.Reader, bob)))
	params := RefoundParams{GroupID: []byte("other"), CipherSuite: testSuite, Leaf: a.leaf(), Lifetime: mls.Lifetime{NotAfter: 1 << 40}}
	if extensions, err = refoundExtensions(w.hub.View(), mimi.ParticipantListData{Participants: list}, &params); err != nil {
		t.Fatal(err)
	}
	if f, err = found(rand.Reader, w.config(), testRoom, extensions, params); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.hub.Refound(UpdateInput{From: "a.example", Bundle: f.Bundle(), Now: w.now}); !errors.As(err, &bad) || bad.Component != mimi.ComponentParticipantList {
		t.Errorf("a group with who was removed: %v", err)
	}
	// a GroupInfo that goes with another commit
	good, err := refoundExtensions(w.hub.View(), effectiveList(w.hub.View(), nil), &params)
	if err != nil {
		t.Fatal(err)
	}
	one, err := found(rand.Reader, w.config(), testRoom, good, params)
	if err != nil {
		t.Fatal(err)
	}
	two, err := found(rand.Reader, w.config(), testRoom, good, params)
	if err != nil {
		t.Fatal(err)
	}
	mixed := *one.Bundle()
	mixed.ProposalOrCommit = two.Bundle().ProposalOrCommit
	if _, _, err := w.hub.Refound(UpdateInput{From: "a.example", Bundle: &mixed, Now: w.now}); !errors.As(err, &bad) {
		t.Errorf("another group's commit: %v", err)
	}
	if _, _, err := w.hub.Refound(UpdateInput{From: "a.example", Bundle: one.Bundle(), Now: w.now}); err != nil {
		t.Errorf("it would be fine: %v", err)
	}
}

// A ReInit says which group comes next. Decision 31
func TestRefoundAfterReInit(t *testing.T) {
	w := newWorld(t, policy.Administered, nil)
	a, b := w.devices[0], w.device(bob, "b1")
	w.must(a.add("ordinary_user", b))
	agent := &mimi.FrankingAgentData{FrankingSignatureKey: []byte{1}, Credential: mls.BasicCredential([]byte("mimi://a.example"))}
	next, err := a.room.Successor(RefoundParams{GroupID: []byte("next"), CipherSuite: testSuite, FrankingAgent: agent})
	if err != nil {
		t.Fatal(err)
	}
	bad := next
	bad.Extensions = nil
	_, err = a.commit(a.room.ReInit(rand.Reader, bad))
	w.refused("no app_data_dictionary", nil, err)
	w.must(a.commit(a.room.ReInit(rand.Reader, next)))
	w.reload()
	if err := b.refound("another", nil); err == nil {
		t.Error("another group than the ReInit names")
	}
	if err := b.refound("next", nil); err != nil {
		t.Fatal(err)
	}
	if w.hub.Closed() || w.hub.View().FrankingAgent() == nil || len(w.hub.View().Participants()) != 3 {
		t.Error("the room is not the same with a franking agent")
	}
	w.reload()
	w.must(w.device(alice, "a2").join(JoinParams{}))
}
