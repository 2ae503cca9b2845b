package mls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
)

// holds reports whether any record of a store contains the octets.
func (m memoryStore) holds(secret []byte) bool {
	for _, value := range m {
		if bytes.Contains(value, secret) {
			return true
		}
	}
	return false
}

// TestOldStates holds states of a member and shows what each can't read: a state after a message that message, a state after
// a commit the epoch before, a state from before its owner's next commit what follows that (RFC 9420 §9.2, §8, §16.6). What
// was to be deleted is overwritten in memory and in no record.
func TestOldStates(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob", "carol")
	alice, bob := r.clients[0], r.clients[1]
	for _, c := range r.clients {
		c.config.PastEpochs = 0
		c.restart(t) // takes the new limit
	}
	send := func(from *client, text string) *MLSMessage {
		t.Helper()
		m, err := from.group.Encrypt(rand.Reader, []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	load := func(c *client) *Group {
		t.Helper()
		g, err := LoadGroup(c.config, c.store.all)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}

	// A message that was read: its key, and the ratchet's secret that it came from, are gone.
	first, second := send(bob, "first"), send(bob, "second")
	id := ratchetID{bob.group.OwnLeaf(), applicationRatchet}
	ratchet, err := alice.group.keys.tree.get(id)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(ratchet.secret[:32])
	found, err := alice.group.keys.tree.find(id, uint32(ratchet.next))
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.Clone(found.key[:16])
	if _, err := alice.group.Decrypt(wire(t, first)); err != nil {
		t.Fatal(err)
	}
	alice.restart(t)
	if _, err := load(alice).Decrypt(wire(t, first)); !errors.Is(err, ErrGenerationConsumed) {
		t.Errorf("the state after a message reads it again: %v", err)
	}
	if alice.store.holds(before) || alice.store.holds(key) {
		t.Error("the key of a message that was read is still stored")
	}

	// A commit: the secrets of the epoch before are zero where they were, and stored nowhere.
	old := alice.group.secrets
	var copies [][]byte
	for _, s := range old.all() {
		copies = append(copies, bytes.Clone(*s))
	}
	leafKey, err := alice.group.private.LeafKey()
	if err != nil {
		t.Fatal(err)
	}
	oldKey, err := leafKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	r.commit(alice, CommitOptions{})
	alice.restart(t)
	for i, s := range copies {
		if alice.store.holds(s) {
			t.Errorf("secret %d of the epoch before is still stored", i)
		}
	}
	if alice.store.holds(oldKey) {
		t.Error("the leaf key of the epoch before is still stored")
	}
	if _, err := load(alice).Decrypt(wire(t, second)); err == nil {
		t.Error("a state of this epoch reads a message of the one before")
	}

	// The same without storing between, to look at the memory.
	old = alice.group.secrets
	fields := [][]byte{old.senderData, old.exporter, old.external, old.confirmation, old.membership, old.resumption, old.authenticator, old.init}
	staged, err := alice.group.Stage(rand.Reader, CommitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.deliver(alice, staged.Message(), staged.GroupInfo())
	if err := alice.group.Merge(staged); err != nil {
		t.Fatal(err)
	}
	for i, s := range fields {
		if !bytes.Equal(s, make([]byte, len(s))) {
			t.Errorf("secret %d of the epoch before was not overwritten", i)
		}
	}

	// A stolen state follows until its owner commits, and is locked out from then on (RFC 9420 §16.6).
	r.restart()
	thief := load(alice)
	follow := func(by *client) error {
		staged := r.commit(by, CommitOptions{})
		c, err := thief.StageReceived(wire(t, staged.Message()))
		if err != nil {
			return err
		}
		return thief.Merge(c)
	}
	if err := follow(bob); err != nil {
		t.Fatalf("the stolen state is not one: %v", err)
	}
	if err := follow(alice); err == nil {
		t.Error("the stolen state followed its owner's commit")
	}
	m := wire(t, send(bob, "third"))
	if _, err := thief.Decrypt(m); err == nil {
		t.Error("the stolen state reads on")
	}
	m.PrivateMessage.Epoch = thief.Epoch()
	if _, err := thief.Decrypt(m); err == nil {
		t.Error("the stolen state reads on with its old keys")
	}
}
