package mls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/comity-im/comity/mls/suite"
	"pgregory.net/rapid"
)

// isRule says whether err is a TreeError of the rule.
func isRule(err error, rule TreeRule) bool {
	var e *TreeError
	return errors.As(err, &e) && e.Rule == rule
}

var testGroupID = []byte("group of the tree tests")

// A treeMember is a member of a group that consists of its tree only.
type treeMember struct {
	signer *suite.Signer
	priv   *PrivateTree
}

func (m *treeMember) sign(tbs []byte) ([]byte, error) {
	return m.signer.SignWithLabel(rand.Reader, "LeafNodeTBS", tbs)
}

// newTestLeaf makes a signed leaf for a new client.
func newTestLeaf(t interface{ Fatal(...any) }, s suite.Suite, name string) (*LeafNode, *treeMember, *suite.PrivateKey) {
	signer, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n := &LeafNode{
		EncryptionKey: key.Public(),
		SignatureKey:  signer.Public(),
		Credential:    BasicCredential([]byte(name)),
		Capabilities: Capabilities{
			Versions: []ProtocolVersion{MLS10}, CipherSuites: []CipherSuite{s.ID()},
			Extensions: []ExtensionType{ExtensionAppDataDictionary}, Proposals: []ProposalType{8, 9, 10}, Credentials: []CredentialType{CredentialBasic, CredentialX509},
		},
		Source:   SourceKeyPackage,
		Lifetime: Lifetime{1000, 2000},
	}
	m := &treeMember{signer: signer}
	resign(t, n, m, 0)
	return n, m, key
}

// resign signs a leaf again after a change.
func resign(t interface{ Fatal(...any) }, n *LeafNode, m *treeMember, i LeafIndex) {
	n.tbs = nil
	tbs, err := n.tbsBytes(testGroupID, i)
	if err != nil {
		t.Fatal(err)
	}
	if n.Signature, err = m.sign(tbs); err != nil {
		t.Fatal(err)
	}
}

// A treeGroup is a tree with its model and its members, and the records that were stored of it.
type treeGroup struct {
	suite   suite.Suite
	tree    *RatchetTree
	model   *modelTree
	members map[LeafIndex]*treeMember
	stored  map[NodeIndex][]byte
	flushed *RatchetTree
}

func (g *treeGroup) join(t *rapid.T, i LeafIndex, m *treeMember, key *suite.PrivateKey) {
	m.priv = NewPrivateTree(g.suite, i, key)
	g.members[i] = m
}

func (g *treeGroup) drawMember(t *rapid.T) LeafIndex {
	return rapid.SampledFrom(slices.Sorted(maps.Keys(g.members))).Draw(t, "member")
}

// drawLeaf makes a leaf with some of the features that the tree counts.
func (g *treeGroup) drawLeaf(t *rapid.T) (*LeafNode, *treeMember, *suite.PrivateKey) {
	n, m, key := newTestLeaf(t, g.suite, "x")
	n.Capabilities.Proposals = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ProposalType { return ProposalType(rapid.Uint16Range(8, 14).Draw(t, "proposal")) }), 0, 8).Draw(t, "proposals")
	if rapid.Bool().Draw(t, "x509") {
		n.Credential = X509Credential([]byte("certificate"), []byte("authority"))
	}
	if rapid.Bool().Draw(t, "components") {
		ids := []ComponentID{1, 2, 3}[:rapid.IntRange(0, 3).Draw(t, "ids")]
		n.Extensions = Extensions{{ExtensionAppDataDictionary, marshal(&AppDataDictionary{{ComponentAppComponents, marshal(&ComponentsList{ids})}})}}
	}
	resign(t, n, m, 0)
	return n, m, key
}

// commit lets a member, or a new one that joins by itself, make a path over the proposals that are in tree and model already.
func (g *treeGroup) commit(t *rapid.T, tree *RatchetTree, sender LeafIndex, m *treeMember, template *LeafNode, added map[LeafIndex]*treeMember) {
	received := tree.Fork()
	secrets, err := tree.NewPath(rand.Reader, sender, *template, testGroupID, m.sign)
	if err != nil {
		t.Fatal(err)
	}
	context := tree.TreeHash()
	news := slices.Sorted(maps.Keys(added))
	path, err := secrets.Encrypt(tree, context, news)
	if err != nil {
		t.Fatal(err)
	}
	g.model.mergePath(sender, path)
	if err := received.MergePath(sender, path); err != nil {
		t.Fatal(err)
	}
	if err := received.CheckCiphertexts(sender, path, news); err != nil {
		t.Fatal(err)
	}
	for i, other := range g.members {
		if i == sender {
			continue
		}
		next := other.priv.Fork()
		secret, err := next.OpenPath(received, sender, path, context, news)
		if err != nil {
			t.Fatalf("leaf %d opens the path of %d: %v", i, sender, err)
		}
		if !bytes.Equal(secret, secrets.CommitSecret()) {
			t.Fatalf("leaf %d has another commit secret than leaf %d", i, sender)
		}
		other.priv = next
	}
	for i, other := range added {
		if err := other.priv.Join(received, sender, bytes.Clone(secrets.For(i))); err != nil {
			t.Fatalf("leaf %d joins: %v", i, err)
		}
		g.members[i] = other
	}
	m.priv = secrets.Private()
	g.members[sender] = m
	g.tree = received
	if diff := g.model.check(tree); diff != "" {
		t.Fatalf("the committer's tree differs in its %s", diff)
	}
}

func (g *treeGroup) flush() {
	g.tree.Delta(g.flushed, func(x NodeIndex, value []byte) {
		if value == nil {
			delete(g.stored, x)
		} else {
			g.stored[x] = bytes.Clone(value)
		}
	})
	g.flushed = g.tree.Fork()
}

// A group that lives through any course of changes has the tree that the RFC's array would have, in every respect, for every
// member and after storing; and no version that was forked from it ever changes.
func TestTreeProperties(t *testing.T) {
	s, _ := suite.Lookup(suite.X25519AES128GCMSHA256Ed25519)
	rapid.Check(t, func(t *rapid.T) {
		g := &treeGroup{suite: s, tree: NewRatchetTree(s), model: newModelTree(s), members: make(map[LeafIndex]*treeMember), stored: make(map[NodeIndex][]byte)}
		n, m, key := g.drawLeaf(t)
		i, err := g.tree.Add(n)
		if err != nil {
			t.Fatal(err)
		}
		g.model.add(n)
		g.join(t, i, m, key)
		var old []*RatchetTree
		var oldBytes [][]byte

		t.Repeat(map[string]func(*rapid.T){
			"add some, without a path": func(t *rapid.T) {
				tree := g.tree.Fork()
				for range rapid.IntRange(1, 3).Draw(t, "adds") {
					n, m, key := g.drawLeaf(t)
					i, err := tree.Add(n)
					if err != nil {
						t.Fatal(err)
					}
					if want := g.model.add(n); want != i {
						t.Fatalf("added at %d, want %d", i, want)
					}
					g.join(t, i, m, key)
				}
				g.tree = tree
			},
			"commit": func(t *rapid.T) {
				sender := g.drawMember(t)
				tree := g.tree.Fork()
				for range rapid.IntRange(0, 2).Draw(t, "updates") {
					i := g.drawMember(t)
					if i == sender {
						continue
					}
					n, m := *tree.Leaf(i), g.members[i]
					key, err := s.GenerateKeyPair(rand.Reader)
					if err != nil {
						t.Fatal(err)
					}
					n.EncryptionKey, n.Source = key.Public(), SourceUpdate
					resign(t, &n, m, i)
					if err := tree.Update(i, &n); err != nil {
						t.Fatal(err)
					}
					g.model.update(i, &n)
					m.priv.ReplaceLeafKey(key)
				}
				for range rapid.IntRange(0, 3).Draw(t, "removes") {
					i := g.drawMember(t)
					if i == sender {
						continue
					}
					if err := tree.Remove(i); err != nil {
						t.Fatal(err)
					}
					g.model.remove(i)
					delete(g.members, i)
				}
				added := make(map[LeafIndex]*treeMember)
				for range rapid.IntRange(0, 3).Draw(t, "adds") {
					n, m, key := g.drawLeaf(t)
					i, err := tree.Add(n)
					if err != nil {
						t.Fatal(err)
					}
					g.model.add(n)
					m.priv = NewPrivateTree(s, i, key)
					added[i] = m
				}
				g.commit(t, tree, sender, g.members[sender], tree.Leaf(sender), added)
			},
			"join from outside": func(t *rapid.T) {
				tree := g.tree.Fork()
				n, m, _ := g.drawLeaf(t)
				g.commit(t, tree, tree.NextLeaf(), m, n, nil)
			},
			"drop a staged commit": func(t *rapid.T) {
				tree := g.tree.Fork()
				n, _, _ := g.drawLeaf(t)
				if _, err := tree.Add(n); err != nil {
					t.Fatal(err)
				}
				if tree.Members() > 2 {
					if err := tree.Remove(g.drawMember(t)); err != nil {
						t.Fatal(err)
					}
				}
				tree.TreeHash()
			},
			"store": func(t *rapid.T) { g.flush() },
			"reload": func(t *rapid.T) {
				g.flush()
				tree, err := LoadRatchetTree(s, maps.All(g.stored))
				if err != nil {
					t.Fatal(err)
				}
				g.tree, g.flushed = tree, tree.Fork()
				for _, m := range g.members {
					stored, err := m.priv.Marshal()
					if err != nil {
						t.Fatal(err)
					}
					if m.priv, err = LoadPrivateTree(s, stored); err != nil {
						t.Fatal(err)
					}
				}
			},
			"keep a version": func(t *rapid.T) {
				old = append(old, g.tree.Fork())
				oldBytes = append(oldBytes, g.tree.Bytes())
			},
			"": func(t *rapid.T) {
				if diff := g.model.check(g.tree); diff != "" {
					t.Fatalf("the tree differs in its %s", diff)
				}
			},
			"validate": func(t *rapid.T) {
				again, err := ParseRatchetTree(s, g.tree.Bytes())
				if err != nil {
					t.Fatal(err)
				}
				if diff := g.model.check(again); diff != "" {
					t.Fatalf("the tree, decoded, differs in its %s", diff)
				}
				rules := &LeafRules{GroupID: testGroupID, Now: 1500, MaxLifetime: 1000}
				if err := again.Validate(rules, g.tree.TreeHash()); err != nil {
					t.Fatal(err)
				}
				for _, m := range g.members {
					m.priv.Sync(g.tree)
					if err := m.priv.Check(g.tree); err != nil {
						t.Fatal(err)
					}
				}
				for k, tree := range old {
					if !bytes.Equal(tree.Bytes(), oldBytes[k]) {
						t.Fatal("an old version changed")
					}
					if fresh, _ := ParseRatchetTree(s, oldBytes[k]); !bytes.Equal(fresh.TreeHash(), tree.TreeHash()) {
						t.Fatal("the hashes of an old version changed")
					}
				}
			},
		})
	})
}
