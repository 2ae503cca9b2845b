package mls

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/comity-im/comity/mls/suite"
)

// A path that breaks one rule for it or its leaf, well signed otherwise, is refused by members and by the hub; all go on after it.
func TestPathRules(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob", "carol", "dave")
	alice, bob := r.client("alice"), r.client("bob")
	for _, test := range []struct {
		name  string
		tree  TreeRule // "" where only the group can tell
		spoil func(path *UpdatePath)
	}{
		{"source", RuleSource, func(p *UpdatePath) { p.LeafNode.Source = SourceUpdate }},
		{"encryption key kept", RuleDuplicateKey, func(p *UpdatePath) { p.LeafNode.EncryptionKey = alice.group.Tree().Leaf(0).EncryptionKey }},
		{"encryption key of another", RuleDuplicateKey, func(p *UpdatePath) { p.LeafNode.EncryptionKey = alice.group.Tree().Leaf(2).EncryptionKey }},
		{"another client", "", func(p *UpdatePath) { p.LeafNode.Credential = BasicCredential([]byte("mallory")) }},
		{"credential type not listed", RuleCredential, func(p *UpdatePath) { p.LeafNode.Credential = X509Credential([]byte("der")) }},
		{"extension not listed", RuleExtension, func(p *UpdatePath) { p.LeafNode.Extensions = Extensions{{Type: 0xf123}} }},
		{"parent hash", RuleParentHash, func(p *UpdatePath) { p.LeafNode.ParentHash = make([]byte, 32) }},
		{"key that the leaf did not sign", RuleParentHash, func(p *UpdatePath) { p.Nodes[1].EncryptionKey = make([]byte, 32) }},
		{"node too many", RulePathLength, func(p *UpdatePath) { p.Nodes = append(p.Nodes, UpdatePathNode{EncryptionKey: make([]byte, 32)}) }},
		{"ciphertext too many", RulePathLength, func(p *UpdatePath) {
			n := &p.Nodes[0]
			n.EncryptedPathSecret = append(n.EncryptedPathSecret, n.EncryptedPathSecret[0])
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := alice.emptyPath(t)
			test.spoil(path)
			if err := path.LeafNode.sign(rand.Reader, alice.group.signer, r.hub.GroupID(), 0); err != nil {
				t.Fatal(err)
			}
			m := commitAnyway(t, alice, nil, Commit{Path: path})
			_, member := bob.group.StageReceived(wire(t, m))
			_, hub := r.hub.Stage(wire(t, m))
			for who, err := range map[string]error{"member": member, "hub": hub} {
				if ruleOf(err) != RulePath || test.tree != "" && !isRule(err, test.tree) {
					t.Errorf("%s: %v", who, err)
				}
			}
		})
	}
	// What only the receiver of a secret can tell.
	path := alice.emptyPath(t)
	path.Nodes[0].EncryptedPathSecret[0].Ciphertext[0] ^= 1
	if _, err := bob.group.StageReceived(wire(t, commitAnyway(t, alice, nil, Commit{Path: path}))); ruleOf(err) != RulePath || !errors.Is(err, suite.ErrOpen) {
		t.Errorf("ciphertext: %v", err)
	}
	r.commit(alice, CommitOptions{})
}
