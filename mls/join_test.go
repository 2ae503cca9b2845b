package mls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
)

// TestJoinRules breaks the rules for entering by a Welcome and by a GroupInfo.
func TestJoinRules(t *testing.T) {
	alice, bob := newClient(t, "alice"), newClient(t, "bob")
	alice.create(t, nil)
	staged, err := alice.group.Stage(rand.Reader, CommitOptions{Proposals: []Proposal{add(bob.keyPackage(t))}})
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.group.Merge(staged); err != nil {
		t.Fatal(err)
	}
	tree := alice.group.Tree().Bytes()
	join := func(name string, rule Rule, w *Welcome, c *client, tree []byte) {
		t.Helper()
		if _, err := JoinWelcome(c.config, w, c.keys, JoinOptions{RatchetTree: tree}); ruleOf(err) != rule {
			t.Errorf("%s: %v, want rule %s", name, err, rule)
		}
	}
	join("valid", "", wire(t, staged.Welcome()), bob, tree)
	carol := newClient(t, "carol")
	carol.keyPackage(t)
	join("for another", RuleWelcome, wire(t, staged.Welcome()), carol, tree)
	w := wire(t, staged.Welcome())
	w.EncryptedGroupInfo = bytes.Clone(w.EncryptedGroupInfo)
	w.EncryptedGroupInfo[0] ^= 1
	join("changed GroupInfo", RuleWelcome, w, bob, tree)
	join("no tree", RuleRatchetTree, wire(t, staged.Welcome()), bob, nil)
	old, err := ParseRatchetTree(alice.group.Suite(), tree)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Remove(bob.leafIndex(t, old)); err != nil {
		t.Fatal(err)
	}
	join("another tree", RuleRatchetTree, wire(t, staged.Welcome()), bob, old.Bytes())
	disbeliever := *bob
	disbeliever.config.Rules = disbelief{}
	join("disbelieved", RuleCredentialInvalid, wire(t, staged.Welcome()), &disbeliever, tree)

	info, err := alice.group.GroupInfo(rand.Reader, false)
	if err != nil {
		t.Fatal(err)
	}
	enter := func(name string, rule Rule, info *GroupInfo) {
		t.Helper()
		_, err := StageExternalCommit(rand.Reader, carol.config, info, ExternalCommitOptions{RatchetTree: tree, Leaf: carol.leaf})
		if ruleOf(err) != rule {
			t.Errorf("%s: %v, want rule %s", name, err, rule)
		}
	}
	enter("valid", "", wire(t, info))
	forged := wire(t, info)
	forged.Signature = bytes.Clone(forged.Signature)
	forged.Signature[0] ^= 1
	enter("signature", RuleGroupInfo, forged)
	blank := wire(t, info)
	blank.Signer, blank.tbs = 9, nil
	enter("signer", RuleGroupInfo, blank)

	secrets := []PreSharedKeyID{
		{Type: PSKResumption, Usage: UsageReInit, PSKNonce: longNonce}, {Type: PSKResumption, Usage: UsageBranch, PSKNonce: longNonce},
	}
	if _, err := linkPSK(secrets); ruleOf(err) != RuleWelcomePSK {
		t.Errorf("two links: %v", err)
	}

	// A client that lacks an extension of the group does not join.
	plain := newClient(t, "plain")
	plain.leaf.Capabilities.Extensions = nil
	group := newClient(t, "owner")
	group.create(t, Extensions{{ExtensionAppDataDictionary, []byte{0}}})
	if info, err = group.group.GroupInfo(rand.Reader, true); err != nil {
		t.Fatal(err)
	}
	if _, err := StageExternalCommit(rand.Reader, plain.config, info, ExternalCommitOptions{Leaf: plain.leaf}); ruleOf(err) != RulePath {
		t.Errorf("extension not supported: %v", err)
	}
}

type disbelief struct{ testRules }

func (disbelief) VerifyCredential(*LeafNode) error { return errRefused }

func (c *client) leafIndex(t testing.TB, tree *RatchetTree) LeafIndex {
	t.Helper()
	i, ok := tree.FindSignatureKey(c.leaf.Signer.Public())
	if !ok {
		t.Fatalf("%s has no leaf", c.name)
	}
	return i
}

// A joiner that says what time it is refuses a tree with a member beyond its lifetime; one that doesn't, joins
// (RFC 9420 §7.3).
func TestJoinLifetimes(t *testing.T) {
	alice, bob, carol := newClient(t, "alice"), newClient(t, "bob"), newClient(t, "carol")
	alice.create(t, nil)
	staged, err := alice.group.Stage(rand.Reader, CommitOptions{Proposals: []Proposal{add(bob.keyPackage(t))}, OmitPath: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.group.Merge(staged); err != nil {
		t.Fatal(err)
	}
	tree := alice.group.Tree().Bytes()
	info, err := alice.group.GroupInfo(rand.Reader, false)
	if err != nil {
		t.Fatal(err)
	}
	lifetime := alice.group.Tree().Leaf(0).Lifetime
	for _, c := range []struct {
		now  uint64
		good bool
	}{{0, true}, {lifetime.NotBefore, true}, {lifetime.NotAfter, true}, {lifetime.NotAfter + 1, false}} {
		check := func(how string, err error) {
			t.Helper()
			var tree *TreeError
			if c.good && err != nil || !c.good && (!errors.As(err, &tree) || tree.Rule != RuleLifetime) {
				t.Errorf("%s at %d: %v", how, c.now, err)
			}
		}
		_, err := JoinWelcome(bob.config, wire(t, staged.Welcome()), bob.keys, JoinOptions{RatchetTree: tree, Now: c.now})
		check("Welcome", err)
		_, err = StageExternalCommit(rand.Reader, carol.config, wire(t, info), ExternalCommitOptions{RatchetTree: tree, Leaf: carol.leaf, Now: c.now})
		check("external commit", err)
	}
}

// A commit without a GroupInfo of its own still has the Welcome's, with or without the tree, and survives being stored.
func TestOmitGroupInfo(t *testing.T) {
	for _, withTree := range []bool{false, true} {
		r := newRoom(t, nil, "alice", "bob")
		alice, carol := r.clients[0], newClient(t, "carol")
		staged, err := alice.group.Stage(rand.Reader, CommitOptions{
			Proposals: []Proposal{add(carol.keyPackage(t))}, OmitGroupInfo: true, WelcomeTree: withTree,
		})
		if err != nil {
			t.Fatal(err)
		}
		if staged.GroupInfo() != nil {
			t.Error("there is a GroupInfo")
		}
		stored, err := staged.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if staged, err = alice.group.LoadStaged(stored); err != nil {
			t.Fatal(err)
		}
		if err := alice.group.Merge(staged); err != nil {
			t.Fatal(err)
		}
		o := JoinOptions{RatchetTree: alice.group.Tree().Bytes()}
		if withTree {
			o.RatchetTree = nil
		}
		g, err := JoinWelcome(carol.config, wire(t, staged.Welcome()), carol.keys, o)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(g.EpochAuthenticator(), alice.group.EpochAuthenticator()) {
			t.Error("carol is in another state")
		}
	}
}
