package mls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/comity-im/comity/mls/suite"
)

func TestGroupSafeInterfaces(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob", "carol")
	alice, bob, carol := r.clients[0].group, r.clients[1].group, r.clients[2].group
	const id ComponentID = 0xf000

	sig, err := alice.SafeSign(rand.Reader, id, "label", []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]*PublicGroup{"member": bob.Public(), "hub": r.hub} {
		if err := g.SafeVerify(alice.OwnLeaf(), id, "label", []byte("content"), sig); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := g.SafeVerify(carol.OwnLeaf(), id, "label", []byte("content"), sig); err != suite.ErrSignature {
			t.Errorf("%s: other member: %v", name, err)
		}
		if err := g.SafeVerify(3, id, "label", []byte("content"), sig); err != ErrNotMember {
			t.Errorf("%s: blank leaf: %v", name, err)
		}
	}

	c, err := alice.Public().SafeEncrypt(bob.OwnLeaf(), id, "label", []byte("context"), []byte("for bob"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := bob.SafeDecrypt(id, "label", []byte("context"), c); err != nil || string(got) != "for bob" {
		t.Errorf("bob reads %q, %v", got, err)
	}
	if _, err := bob.SafeDecrypt(id+1, "label", []byte("context"), c); err != suite.ErrOpen {
		t.Errorf("other component: %v", err)
	}
	if _, err := carol.SafeDecrypt(id, "label", []byte("context"), c); err != suite.ErrOpen {
		t.Errorf("other member: %v", err)
	}
	if _, err := r.hub.SafeEncrypt(3, id, "label", nil, nil); err != ErrNotMember {
		t.Errorf("to a blank leaf: %v", err)
	}

	info, err := alice.GroupInfo(rand.Reader, false)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := info.Extensions.ExternalPub()
	if err != nil {
		t.Fatal(err)
	}
	if c, err = SafeEncryptWithLabel(alice.Suite(), pub, id, "label", nil, []byte("for all")); err != nil {
		t.Fatal(err)
	}
	for _, m := range r.clients {
		if got, err := m.group.SafeDecryptExternal(id, "label", nil, c); err != nil || string(got) != "for all" {
			t.Errorf("%s reads %q, %v", m.name, got, err)
		}
	}

	var exported []byte
	for _, m := range r.clients {
		secret, err := m.group.SafeExport(id)
		if err != nil {
			t.Fatal(err)
		}
		if exported != nil && !bytes.Equal(secret, exported) {
			t.Errorf("%s exports another secret", m.name)
		}
		exported = secret
		if _, err := m.group.SafeExport(id); err != ErrExportConsumed {
			t.Errorf("%s exports twice: %v", m.name, err)
		}
		if other, err := m.group.SafeExport(id + 1); err != nil || bytes.Equal(other, exported) {
			t.Errorf("%s: two components have one secret: %v", m.name, err)
		}
	}
	r.commit(r.clients[0], CommitOptions{})
	if secret, err := alice.SafeExport(id); err != nil || bytes.Equal(secret, exported) {
		t.Errorf("the next epoch has the same secret: %v", err)
	}
	if _, err := bob.SafeDecryptExternal(id, "label", nil, c); err != suite.ErrOpen {
		t.Errorf("external_pub of the last epoch: %v", err)
	}

	r.commit(r.clients[0], CommitOptions{Proposals: []Proposal{remove(carol.OwnLeaf())}})
	if _, err := carol.SafeSign(rand.Reader, id, "label", nil); err != ErrGroupClosed {
		t.Errorf("carol signs after she was removed: %v", err)
	}
	if _, err := carol.SafeDecrypt(id, "label", nil, c); err != ErrGroupClosed {
		t.Errorf("carol decrypts after she was removed: %v", err)
	}
	if err := bob.Public().SafeVerify(carol.OwnLeaf(), id, "label", nil, nil); err != ErrNotMember {
		t.Errorf("carol is still verified: %v", err)
	}
}

// semiPrivateRoom is a room whose hub reads SemiPrivateMessages.
func semiPrivateRoom(t *testing.T) (*room, *Receiver) {
	t.Helper()
	s := lookup(t, testSuite)
	key, err := s.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hub := &Receiver{ExternalReceiver{PublicKey: key.Public(), Credential: BasicCredential([]byte("hub"))}, key}
	first := newClient(t, "alice")
	formats := Extension{ExtensionSupportedWireFormats, marshal(&WireFormats{[]WireFormat{WireFormatSemiPrivateMessage}})}
	first.leaf.Extensions = Extensions{formats}
	first.create(t, Extensions{
		{ExtensionRequiredWireFormats, marshal(&WireFormats{[]WireFormat{WireFormatSemiPrivateMessage}})},
		{ExtensionExternalReceivers, marshal(&ExternalReceivers{hub.ExternalReceiver})},
	})
	r := &room{t: t, clients: []*client{first}}
	info, err := first.group.GroupInfo(rand.Reader, false)
	if err != nil {
		t.Fatal(err)
	}
	config := first.config
	config.Receiver = hub
	if r.hub, err = NewPublicGroup(config, wire(t, info), first.group.Tree().Bytes()); err != nil {
		t.Fatal(err)
	}
	var adds []Proposal
	var joiners []*client
	for _, name := range []string{"bob", "carol"} {
		c := newClient(t, name)
		c.leaf.Extensions = Extensions{formats}
		adds = append(adds, add(c.keyPackage(t)))
		joiners = append(joiners, c)
	}
	r.commit(first, CommitOptions{Proposals: adds, WireFormat: WireFormatSemiPrivateMessage}, joiners...)
	return r, hub
}

// Everything that members send as SemiPrivateMessage the hub follows, and nobody else outside (SemiPrivateMessage §3).
func TestGroupSemiPrivate(t *testing.T) {
	r, hub := semiPrivateRoom(t)
	alice, bob, carol := r.clients[0], r.clients[1], r.clients[2]
	semi := SendOptions{WireFormat: WireFormatSemiPrivateMessage}

	m, err := bob.group.ProposeUpdate(rand.Reader, nil, semi)
	r.propose(bob, m, err)
	if m.WireFormat != WireFormatSemiPrivateMessage {
		t.Fatalf("sent as %v", m.WireFormat)
	}
	r.commit(alice, CommitOptions{AllPending: true, WireFormat: WireFormatSemiPrivateMessage})

	m, err = carol.group.Propose(rand.Reader, remove(bob.group.OwnLeaf()), semi)
	ref := r.propose(carol, m, err)
	staged := r.commit(alice, CommitOptions{References: []ProposalRef{ref}, WireFormat: WireFormatSemiPrivateMessage})
	if !bob.group.Removed() {
		t.Error("bob does not know that he was removed")
	}

	// A hub without the key, or with another, follows nothing.
	stranger, err := r.hub.Suite().GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	next, err := alice.group.Stage(rand.Reader, CommitOptions{WireFormat: WireFormatSemiPrivateMessage})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		receiver *Receiver
		want     error
	}{
		"no key":         {nil, ErrUnexpected},
		"other key":      {&Receiver{hub.ExternalReceiver, stranger}, ErrDecrypt},
		"other receiver": {&Receiver{ExternalReceiver{PublicKey: stranger.Public(), Credential: hub.Credential}, stranger}, ErrNotReceiver},
	} {
		h := r.hub.Clone()
		h.cfg.Receiver = c.receiver
		if _, err := h.Stage(wire(t, next.Message())); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	var epoch *EpochError
	if _, err := r.hub.Stage(wire(t, staged.Message())); !errors.As(err, &epoch) {
		t.Errorf("commit of the last epoch: %v", err)
	}
	if _, err := r.hub.ReceiveProposal(wire(t, next.Message())); err != ErrUnexpected {
		t.Errorf("a commit as proposal: %v", err)
	}
	if _, err := r.hub.Stage(wire(t, next.Message())); err != nil {
		t.Errorf("hub: %v", err)
	}
}

// A group whose members or GroupContext don't have the format refuses to send it (Decision 120).
func TestSemiPrivateIsOffByDefault(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob")
	var rule *RuleError
	if _, err := r.clients[0].group.Stage(rand.Reader, CommitOptions{WireFormat: WireFormatSemiPrivateMessage}); !errors.As(err, &rule) || rule.Rule != RuleWireFormat {
		t.Errorf("commit: %v", err)
	}
	if _, err := r.clients[0].group.Propose(rand.Reader, remove(1), SendOptions{WireFormat: WireFormatSemiPrivateMessage}); !errors.As(err, &rule) || rule.Rule != RuleWireFormat {
		t.Errorf("proposal: %v", err)
	}
}

// Dropping a staged commit, merged or not, must not touch the group. One that was loaded shares more with it.
func TestDrop(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob", "carol")
	alice, bob := r.clients[0], r.clients[1]
	staged := r.commit(alice, CommitOptions{})
	staged.Drop()
	r.check()
	bob.restart(t)
	next, err := alice.group.Stage(rand.Reader, CommitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		dropped, err := bob.group.StageReceived(wire(t, next.Message()))
		if err != nil {
			t.Fatal(err)
		}
		dropped.Drop()
		own, err := bob.group.Stage(rand.Reader, CommitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		own.Drop()
	}
	r.commit(bob, CommitOptions{})
	r.commit(r.clients[2], CommitOptions{})
}
