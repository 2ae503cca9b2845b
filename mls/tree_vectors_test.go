package mls

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// vectorSuite returns the suite of a vector.
func vectorSuite(t *testing.T, id suite.ID) suite.Suite {
	t.Helper()
	s, ok := suite.Lookup(id)
	if !ok {
		t.Fatalf("no suite %#04x", id)
	}
	return s
}

// mustParseTree decodes a tree and verifies that it encodes to the same bytes.
func mustParseTree(t *testing.T, s suite.Suite, b []byte) *RatchetTree {
	t.Helper()
	tree, err := ParseRatchetTree(s, b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(tree.Bytes(), b) {
		t.Fatal("the tree re-encodes to other bytes")
	}
	return tree
}

func TestTreeValidationVectors(t *testing.T) {
	var cases []struct {
		CipherSuite suite.ID      `json:"cipher_suite"`
		Tree        hexBytes      `json:"tree"`
		GroupID     hexBytes      `json:"group_id"`
		Resolutions [][]NodeIndex `json:"resolutions"`
		TreeHashes  []hexBytes    `json:"tree_hashes"`
	}
	readVectors(t, "tree-validation.json", &cases)
	for i, c := range cases {
		t.Run(fmt.Sprintf("%d/suite=%d", i, c.CipherSuite), func(t *testing.T) {
			s := vectorSuite(t, c.CipherSuite)
			tree := mustParseTree(t, s, c.Tree)
			for x, want := range c.Resolutions {
				if got := tree.Resolution(NodeIndex(x)); !slices.Equal(got, want) {
					t.Errorf("resolution of %d: %d, want %d", x, got, want)
				}
			}
			for x, want := range c.TreeHashes {
				if got := tree.nodeTreeHash(NodeIndex(x)); !bytes.Equal(got, want) {
					t.Errorf("tree hash of %d: %x, want %x", x, got, want)
				}
			}
			rules := &LeafRules{GroupID: c.GroupID}
			if err := tree.Validate(rules, tree.TreeHash()); err != nil {
				t.Error(err)
			}
			rules.GroupID = append(bytes.Clone(c.GroupID), 0)
			if err := tree.Validate(rules, tree.TreeHash()); !isRule(err, RuleSignature) {
				t.Errorf("with another group ID: %v", err)
			}
		})
	}
}

func TestTreeOperationVectors(t *testing.T) {
	var cases []struct {
		CipherSuite    suite.ID  `json:"cipher_suite"`
		TreeBefore     hexBytes  `json:"tree_before"`
		Proposal       hexBytes  `json:"proposal"`
		ProposalSender LeafIndex `json:"proposal_sender"`
		TreeHashBefore hexBytes  `json:"tree_hash_before"`
		TreeAfter      hexBytes  `json:"tree_after"`
		TreeHashAfter  hexBytes  `json:"tree_hash_after"`
	}
	readVectors(t, "tree-operations.json", &cases)
	for i, c := range cases {
		t.Run(fmt.Sprintf("%d/suite=%d", i, c.CipherSuite), func(t *testing.T) {
			before := mustParseTree(t, vectorSuite(t, c.CipherSuite), c.TreeBefore)
			if got := before.TreeHash(); !bytes.Equal(got, c.TreeHashBefore) {
				t.Errorf("tree hash before: %x", got)
			}
			var p Proposal
			if err := tlspl.Unmarshal(c.Proposal, &p); err != nil {
				t.Fatal(err)
			}
			after := before.Fork()
			var err error
			switch {
			case p.Add != nil:
				_, err = after.Add(&p.Add.KeyPackage.LeafNode)
			case p.Update != nil:
				err = after.Update(c.ProposalSender, &p.Update.LeafNode)
			case p.Remove != nil:
				err = after.Remove(p.Remove.Removed)
			default:
				t.Fatalf("proposal type %v", p.Type)
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(after.Bytes(), c.TreeAfter) {
				t.Error("another tree than expected")
			}
			if got := after.TreeHash(); !bytes.Equal(got, c.TreeHashAfter) {
				t.Errorf("tree hash after: %x", got)
			}
			if !bytes.Equal(before.Bytes(), c.TreeBefore) {
				t.Error("the tree that was forked changed")
			}
		})
	}
}

func TestTreeKEMVectors(t *testing.T) {
	type secretAt struct {
		Node       NodeIndex `json:"node"`
		PathSecret hexBytes  `json:"path_secret"`
	}
	var cases []struct {
		CipherSuite             suite.ID `json:"cipher_suite"`
		GroupID                 hexBytes `json:"group_id"`
		Epoch                   uint64   `json:"epoch"`
		ConfirmedTranscriptHash hexBytes `json:"confirmed_transcript_hash"`
		RatchetTree             hexBytes `json:"ratchet_tree"`
		LeavesPrivate           []struct {
			Index          LeafIndex  `json:"index"`
			EncryptionPriv hexBytes   `json:"encryption_priv"`
			SignaturePriv  hexBytes   `json:"signature_priv"`
			PathSecrets    []secretAt `json:"path_secrets"`
		} `json:"leaves_private"`
		UpdatePaths []struct {
			Sender        LeafIndex  `json:"sender"`
			UpdatePath    hexBytes   `json:"update_path"`
			PathSecrets   []hexBytes `json:"path_secrets"`
			CommitSecret  hexBytes   `json:"commit_secret"`
			TreeHashAfter hexBytes   `json:"tree_hash_after"`
		} `json:"update_paths"`
	}
	readVectors(t, "treekem.json", &cases)
	for i, c := range cases {
		t.Run(fmt.Sprintf("%d/suite=%d", i, c.CipherSuite), func(t *testing.T) {
			s := vectorSuite(t, c.CipherSuite)
			tree := mustParseTree(t, s, c.RatchetTree)
			context := func(tree *RatchetTree) []byte {
				return marshal(&GroupContext{
					Version: MLS10, CipherSuite: c.CipherSuite, GroupID: []byte(c.GroupID), Epoch: Epoch(c.Epoch),
					TreeHash: tree.TreeHash(), ConfirmedTranscriptHash: c.ConfirmedTranscriptHash,
				})
			}
			members := make(map[LeafIndex]*PrivateTree)
			signers := make(map[LeafIndex]*suite.Signer)
			for _, l := range c.LeavesPrivate {
				key, err := s.ParsePrivateKey(l.EncryptionPriv)
				if err != nil {
					t.Fatal(err)
				}
				p := NewPrivateTree(s, l.Index, key)
				for _, at := range l.PathSecrets {
					key, err := nodeKey(s, at.PathSecret)
					if err != nil {
						t.Fatal(err)
					}
					p.set(at.Node.Level(), key)
				}
				if err := p.Check(tree); err != nil {
					t.Fatal(err)
				}
				stored, err := p.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				if members[l.Index], err = LoadPrivateTree(s, stored); err != nil {
					t.Fatal(err)
				}
				if signers[l.Index], err = s.NewSigner(l.SignaturePriv); err != nil {
					t.Fatal(err)
				}
			}
			for _, u := range c.UpdatePaths {
				var path UpdatePath
				if err := tlspl.Unmarshal(u.UpdatePath, &path); err != nil {
					t.Fatal(err)
				}
				after := tree.Fork()
				if err := after.MergePath(u.Sender, &path); err != nil {
					t.Fatal(err)
				}
				if err := after.CheckCiphertexts(u.Sender, &path, nil); err != nil {
					t.Error(err)
				}
				if got := after.TreeHash(); !bytes.Equal(got, u.TreeHashAfter) {
					t.Errorf("tree hash after: %x", got)
				}
				for j, p := range members {
					if j == u.Sender {
						continue
					}
					p = p.Fork()
					secret, err := p.OpenPath(after, u.Sender, &path, context(after), nil)
					if err != nil {
						t.Fatalf("leaf %d opens the path of %d: %v", j, u.Sender, err)
					}
					if !bytes.Equal(secret, u.CommitSecret) {
						t.Errorf("leaf %d: commit secret %x", j, secret)
					}
					key, err := nodeKey(s, u.PathSecrets[j])
					if err != nil {
						t.Fatal(err)
					}
					lowest := commonAncestor(j, u.Sender)
					if got := p.path[lowest.Level()-1].public; !bytes.Equal(got, key.Public()) {
						t.Errorf("leaf %d: another path secret than expected", j)
					}
					if err := p.Check(after); err != nil {
						t.Error(err)
					}
				}

				// A path of our own.
				after = tree.Fork()
				secrets, err := after.NewPath(rand.Reader, u.Sender, *tree.Leaf(u.Sender), c.GroupID, func(tbs []byte) ([]byte, error) {
					return signers[u.Sender].SignWithLabel(rand.Reader, "LeafNodeTBS", tbs)
				})
				if err != nil {
					t.Fatal(err)
				}
				own, err := secrets.Encrypt(after, context(after), nil)
				if err != nil {
					t.Fatal(err)
				}
				merged := tree.Fork()
				if err := merged.MergePath(u.Sender, own); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(merged.Bytes(), after.Bytes()) {
					t.Error("the tree of the sender is not that of the receivers")
				}
				if u.Sender > 1 {
					// one is enough
				} else if err := merged.Validate(&LeafRules{GroupID: c.GroupID}, after.TreeHash()); err != nil {
					t.Error(err)
				}
				if err := secrets.Private().Check(merged); err != nil {
					t.Error(err)
				}
				for j, p := range members {
					if j == u.Sender {
						continue
					}
					secret, err := p.Fork().OpenPath(merged, u.Sender, own, context(merged), nil)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(secret, secrets.CommitSecret()) {
						t.Errorf("leaf %d: another commit secret than the sender", j)
					}
				}
			}
			if !bytes.Equal(tree.Bytes(), c.RatchetTree) {
				t.Error("the tree changed")
			}
		})
	}
}
