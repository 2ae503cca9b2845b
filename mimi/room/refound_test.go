package room

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
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
	in := UpdateInput{From: d.user.Host(), Bundle: f.Bundle(), Now: w.now, Rand: rand.Reader}
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

// What the first Commit of a group may do that follows a ReInit: link it to the old group by a PSK, and bring in who was in
// that. RFC 9420 §11.2
func TestRefoundLink(t *testing.T) {
	for name, semiPrivate := range map[string]bool{"public": false, "semi-private": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorldOf(t, policy.Administered, nil, semiPrivate)
			a, b, c, d := w.devices[0], w.device(bob, "b1"), w.device(cathy, "c1"), w.device(dave, "d1")
			w.must(a.add("ordinary_user", b))
			w.must(a.add("ordinary_user", c))
			w.must(a.add("ordinary_user", d))
			w.must(a.commit(a.room.RemoveUsers(rand.Reader, dave)))
			next, err := a.room.Successor(RefoundParams{GroupID: []byte("next"), CipherSuite: testSuite})
			if err != nil {
				t.Fatal(err)
			}
			w.must(a.commit(a.room.ReInit(rand.Reader, next)))
			w.reload()
			if !w.hub.Closed() || b.room.Ended() == nil {
				t.Fatal("the group goes on")
			}
			packages := func(devices ...*device) (list []mls.KeyPackage) {
				for _, d := range devices {
					list = append(list, d.keyPackage())
				}
				return list
			}
			params := func(members ...*device) RefoundParams {
				w.signers[string(b.client)] = nil
				return RefoundParams{Leaf: b.leaf(), Lifetime: mls.Lifetime{NotAfter: 1 << 40}, Members: packages(members...)}
			}
			make := func(p RefoundParams) *Refounding {
				t.Helper()
				f, err := b.room.Refound(rand.Reader, p)
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
			refused := func(why string, b *mimi.HandshakeBundle) {
				t.Helper()
				_, _, err := w.hub.Refound(UpdateInput{From: "b.example", Bundle: b, Now: w.now})
				var bad *Refusal
				if !errors.As(err, &bad) || !strings.Contains(bad.Description, why) {
					t.Errorf("want a refusal with %q, got %v", why, err)
				}
			}

			// Bob, an ordinary user, brings the others along; not who was removed, nor another client of somebody's.
			if _, err := b.room.Refound(rand.Reader, params(a, c, d)); err == nil {
				t.Error("who was removed is brought along")
			}
			refused("was not in the group before", make(params(a, c, w.device(alice, "a2"))).Bundle())
			f := make(params(a, c))
			other := make(params(a, c))
			bare := *f.Bundle()
			bare.Welcome = nil
			refused("without a welcome", &bare)
			mixed := *f.Bundle()
			mixed.Welcome = other.Bundle().Welcome
			refused("names a KeyPackage that the commit does not add", &mixed)
			mixed = *f.Bundle()
			mixed.RatchetTreeOption = other.Bundle().RatchetTreeOption
			refused("", &mixed)

			// without the PSK, or with one of another group
			unlinked := func(p RefoundParams, proposals ...mls.Proposal) *mimi.HandshakeBundle {
				t.Helper()
				r := newRoom(w.config())
				group, err := mls.CreateGroup(rand.Reader, r.mls, mls.GroupOptions{GroupID: next.GroupID, CipherSuite: testSuite, Extensions: next.Extensions, Leaf: p.Leaf, Lifetime: p.Lifetime})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := r.enter(group, testRoom); err != nil {
					t.Fatal(err)
				}
				r.mls.Rules = mls.DefaultRules{} // a client that judges nothing
				for i := range p.Members {
					proposals = append(proposals, mls.Proposal{Type: mls.ProposalAdd, Add: &mls.Add{KeyPackage: p.Members[i]}})
				}
				s, err := r.stage(rand.Reader, mls.CommitOptions{Proposals: proposals, OmitPath: true})
				if err != nil {
					t.Fatal(err)
				}
				f, err := r.founded(s)
				if err != nil {
					t.Fatal(err)
				}
				return f.Bundle()
			}
			asAlice := func() RefoundParams {
				w.signers[string(a.client)] = nil
				return RefoundParams{Leaf: a.leaf(), Lifetime: mls.Lifetime{NotAfter: 1 << 40}, Members: packages(b, c)}
			}
			plain := unlinked(asAlice())
			_, _, err = w.hub.Refound(UpdateInput{From: "a.example", Bundle: plain, Now: w.now})
			if err == nil || !strings.Contains(err.Error(), "no PSK of usage reinit") {
				t.Errorf("a group without the PSK: %v", err)
			}
			if _, err := JoinWelcome(w.config(), testRoom, plain.Welcome, b.key, plain.RatchetTreeOption, b.room); err == nil || !strings.Contains(err.Error(), "no PSK of usage reinit") {
				t.Errorf("Bob comes in without the PSK: %v", err)
			}

			// The hub takes the right one, and who held the old group comes in by the Welcome.
			f = make(params(a, c))
			w.now += 10
			hub, n, err := w.hub.Refound(UpdateInput{From: "b.example", Bundle: f.Bundle(), Now: w.now})
			if err != nil {
				t.Fatal(err)
			}
			if len(n.KeyPackages) != 2 || len(n.AddedBy) != 2 || n.AddedBy[0] != bob.Identifier() {
				t.Errorf("added: %d by %v", len(n.KeyPackages), n.AddedBy)
			}
			if len(n.Events) != 2 || n.Events[1].Message.Kind() != mimi.FanoutWelcome || !slices.Equal(n.Events[1].Providers, []mimi.ProviderDomain{"a.example", "c.example"}) {
				t.Errorf("events: %+v", n.Events)
			}
			if _, err := JoinWelcome(w.config(), testRoom, f.Bundle().Welcome, c.key, f.Bundle().RatchetTreeOption, nil); err == nil {
				t.Error("a client comes in that does not hold the old group")
			}
			w.hub, w.store, b.room = hub, map[string][]byte{}, f.Room()
			w.save(n)
			for _, d := range []*device{a, c} {
				room, err := JoinWelcome(w.config(), testRoom, f.Bundle().Welcome, d.key, f.Bundle().RatchetTreeOption, d.room)
				if err != nil {
					t.Fatal(err)
				}
				d.room = room
			}
			d.room = nil
			w.check()
			w.reload()
			p, err := c.room.Leave(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.update("c.example", p.Bundle); err != nil {
				t.Errorf("the new group does not go on: %v", err)
			}
		})
	}
}

// TestRefoundStranger: a hub that lets a founder bring somebody in who was not in the group before is not followed.
func TestRefoundStranger(t *testing.T) {
	w := newWorld(t, policy.Administered, nil)
	a, b, d := w.devices[0], w.device(bob, "b1"), w.device(alice, "a2")
	w.must(a.add("ordinary_user", b))
	next, err := a.room.Successor(RefoundParams{GroupID: []byte("next"), CipherSuite: testSuite})
	if err != nil {
		t.Fatal(err)
	}
	w.must(a.commit(a.room.ReInit(rand.Reader, next)))
	w.signers[string(a.client)] = nil
	f, err := a.room.Refound(rand.Reader, RefoundParams{Leaf: a.leaf(), Lifetime: mls.Lifetime{NotAfter: 1 << 40}, Members: []mls.KeyPackage{b.keyPackage(), d.keyPackage()}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = JoinWelcome(w.config(), testRoom, f.Bundle().Welcome, b.key, f.Bundle().RatchetTreeOption, b.room)
	if err == nil || !strings.Contains(err.Error(), "was not in the group before") {
		t.Errorf("Bob follows: %v", err)
	}
	var bad *StateError
	if !errors.As(err, &bad) {
		t.Errorf("the error is %T", err)
	}
}

// TestRefoundSealed: a room is founded anew from outside while SemiPrivateMessages are pending that the founder can't read.
// Who was about to go is on the new list, can't come in, and is taken out by the hub's own proposals.
func TestRefoundSealed(t *testing.T) {
	w := newWorldOf(t, policy.Administered, nil, true)
	a, c := w.devices[0], w.device(cathy, "c1")
	w.must(a.add("ordinary_user", w.device(bob, "b1")))
	w.must(a.add("ordinary_user", c))
	p, err := c.room.Leave(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.update("c.example", p.Bundle); err != nil {
		t.Fatal(err)
	}
	if !sealed(w.hub.Pending()) {
		t.Fatal("the proposals can be read")
	}
	a2 := w.device(alice, "a2")
	w.signers[string(a2.client)] = nil
	sender := mls.ExternalSender{SignatureKey: w.hubCfg.Signer.Public(), Credential: mls.BasicCredential([]byte("mimi://a.example"))}
	f, err := Refound(rand.Reader, w.config(), w.hub.GroupInfo(), w.hub.Tree(), w.hub.Pending(), RefoundParams{GroupID: []byte("next"), CipherSuite: testSuite,
		Leaf: a2.leaf(), Lifetime: mls.Lifetime{NotAfter: 1 << 40}, HubSender: &sender})
	if err != nil {
		t.Fatal(err)
	}
	w.now += 10
	hub, n, err := w.hub.Refound(UpdateInput{From: "a.example", Bundle: f.Bundle(), Now: w.now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Events) != 1 || len(n.Events[0].Message.ExternalProposals) == 0 {
		t.Fatalf("the hub proposes nothing: %+v", n.Events)
	}
	w.hub, w.store = hub, map[string][]byte{}
	for _, d := range w.devices {
		d.room = nil
	}
	w.save(n)
	w.reload()
	if w.hub.Effective(cathy) != policy.NoRole || w.hub.Effective(bob) == policy.NoRole {
		t.Error("the hub has forgotten who leaves")
	}
	if _, err := w.device(cathy, "c2").join(JoinParams{}); err == nil {
		t.Error("who leaves comes in again")
	}
	a2.room = f.Room()
	if err := a2.room.ReceiveProposals(n.Events[0].Message.ExternalProposals...); err != nil {
		t.Fatal(err)
	}
	w.must(a2.commit(a2.room.Commit(rand.Reader, 0)))
	if _, listed := w.hub.View().RoleOf(cathy.Identifier()); listed {
		t.Error("who left is listed")
	}
	w.must(w.device(bob, "b2").join(JoinParams{}))

	// Where the hub may not take anybody out, somebody has to commit it first.
	w = newWorldOf(t, policy.Administered, func(c *policy.Components, _ *[]mimi.UserRolePair) {
		for i := range c.Roles.Roles {
			if r := &c.Roles.Roles[i]; r.RoleName == "policy_enforcer" {
				r.RoleCapabilities = slices.DeleteFunc(r.RoleCapabilities, func(c policy.Capability) bool { return c == mimi.CanRemoveParticipant })
			}
		}
	}, true)
	a, c = w.devices[0], w.device(cathy, "c1")
	w.must(a.add("ordinary_user", c))
	if p, err = c.room.Leave(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, err := w.update("c.example", p.Bundle); err != nil {
		t.Fatal(err)
	}
	w.signers[string(a.client)] = nil
	f, err = Refound(rand.Reader, w.config(), w.hub.GroupInfo(), w.hub.Tree(), w.hub.Pending(), RefoundParams{GroupID: []byte("next"), CipherSuite: testSuite,
		Leaf: a.leaf(), Lifetime: mls.Lifetime{NotAfter: 1 << 40}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.hub.Refound(UpdateInput{From: "a.example", Bundle: f.Bundle(), Now: w.now, Rand: rand.Reader}); err == nil || !strings.Contains(err.Error(), "somebody has to commit that first") {
		t.Errorf("who leaves is kept in: %v", err)
	}
}

// TestRefoundWhoMay: either person of a direct room may found it anew, one of a policy of before too; and any participant where
// nobody is left who may send a ReInit.
func TestRefoundWhoMay(t *testing.T) {
	w := newWorld(t, policy.Direct, nil, bob)
	b := w.device(bob, "b1")
	w.must(w.devices[0].commit(w.devices[0].room.AddUsers(rand.Reader, 0, Addition{User: bob, KeyPackages: []mls.KeyPackage{b.keyPackage()}})))
	next, err := b.room.Successor(RefoundParams{GroupID: []byte("next"), CipherSuite: testSuite})
	if err != nil {
		t.Fatal(err)
	}
	w.must(b.commit(b.room.ReInit(rand.Reader, next)))
	if err := b.refound("next", nil); err != nil {
		t.Error(err)
	}

	without := func(c *policy.Components, _ *[]mimi.UserRolePair) {
		for i := range c.Roles.Roles {
			if r := &c.Roles.Roles[i]; r.RoleName != "policy_enforcer" {
				r.RoleCapabilities = slices.DeleteFunc(r.RoleCapabilities, func(c policy.Capability) bool { return c == mimi.CanSendMLSReinitProposal })
			}
		}
	}
	w = newWorld(t, policy.Direct, without, bob)
	b = w.device(bob, "b1")
	w.must(w.devices[0].commit(w.devices[0].room.AddUsers(rand.Reader, 0, Addition{User: bob, KeyPackages: []mls.KeyPackage{b.keyPackage()}})))
	if err := w.device(cathy, "c1").refound("next", nil); err == nil {
		t.Error("a stranger founds it anew")
	}
	if err := b.refound("next", nil); err != nil {
		t.Error(err)
	}

	// one of them has more rights than the other
	w = newWorld(t, policy.Direct, func(c *policy.Components, list *[]mimi.UserRolePair) {
		owner := c.Roles.Roles[2]
		owner.RoleIndex, owner.RoleName, owner.RoleCapabilities = 4, "owner", slices.Clone(owner.RoleCapabilities)
		without(c, list)
		c.Roles.Roles = append(c.Roles.Roles, owner)
		(*list)[0].RoleIndex = 4
	}, bob)
	b = w.device(bob, "b1")
	w.must(w.devices[0].commit(w.devices[0].room.AddUsers(rand.Reader, 0, Addition{User: bob, KeyPackages: []mls.KeyPackage{b.keyPackage()}})))
	if _, err := b.commit(b.room.ReInit(rand.Reader, next)); err == nil {
		t.Error("Bob may send a ReInit")
	}
	if err := b.refound("next", nil); err != nil {
		t.Error(err)
	}

	w = newWorld(t, policy.Cooperative, without)
	b = w.device(bob, "b1")
	w.must(w.devices[0].add("ordinary_user", b))
	if err := b.refound("next", nil); err != nil {
		t.Error(err)
	}
}
