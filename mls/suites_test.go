package mls

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/comity-im/comity/mls/suite"
)

// Every cipher suite carries a group: create, Welcome with and without path, Update, external commit, messages, storage.
func TestEverySuite(t *testing.T) {
	for _, id := range suite.IDs() {
		t.Run(id.String(), func(t *testing.T) {
			s := lookup(t, id)
			capabilities := testCapabilities
			capabilities.CipherSuites = []CipherSuite{id}
			leaf := func(name string) LeafOptions {
				signer, err := s.GenerateSigner(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				return LeafOptions{Credential: BasicCredential([]byte(name)), Capabilities: capabilities, Signer: signer}
			}
			join := func(name string) *KeyPackageSecrets {
				keys, err := NewKeyPackage(rand.Reader, KeyPackageOptions{CipherSuite: id, Leaf: leaf(name), Lifetime: Lifetime{1, 1 << 40}})
				if err != nil {
					t.Fatal(err)
				}
				if err := wire(t, &keys.KeyPackage).Verify(2); err != nil {
					t.Fatal(err)
				}
				return keys
			}
			alice, err := CreateGroup(rand.Reader, Config{}, GroupOptions{CipherSuite: id, Leaf: leaf("alice"), Lifetime: Lifetime{1, 1 << 40}})
			if err != nil {
				t.Fatal(err)
			}
			bobKeys, carolKeys := join("bob"), join("carol")
			staged, err := alice.Stage(rand.Reader, CommitOptions{WireFormat: WireFormatPrivateMessage, Proposals: []Proposal{
				add(bobKeys.KeyPackage), add(carolKeys.KeyPackage),
			}})
			if err != nil {
				t.Fatal(err)
			}
			if err := alice.Merge(staged); err != nil {
				t.Fatal(err)
			}
			members := []*Group{alice}
			for _, keys := range []*KeyPackageSecrets{bobKeys, carolKeys} {
				g, err := JoinWelcome(Config{}, wire(t, staged.Welcome()), keys, JoinOptions{RatchetTree: alice.Tree().Bytes()})
				if err != nil {
					t.Fatal(err)
				}
				members = append(members, g)
			}
			// Everybody commits once, hidden, and hears the others.
			for _, by := range members {
				staged, err := by.Stage(rand.Reader, CommitOptions{WireFormat: WireFormatPrivateMessage})
				if err != nil {
					t.Fatal(err)
				}
				for _, g := range members {
					next := staged
					if g != by {
						if next, err = g.StageReceived(wire(t, staged.Message())); err != nil {
							t.Fatal(err)
						}
					}
					if err := g.Merge(next); err != nil {
						t.Fatal(err)
					}
				}
			}
			// Dave comes by himself.
			info, err := alice.GroupInfo(rand.Reader, true)
			if err != nil {
				t.Fatal(err)
			}
			external, err := StageExternalCommit(rand.Reader, Config{}, wire(t, info), ExternalCommitOptions{Leaf: leaf("dave")})
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range members {
				staged, err := g.StageReceived(wire(t, external.Message()))
				if err != nil {
					t.Fatal(err)
				}
				if err := g.Merge(staged); err != nil {
					t.Fatal(err)
				}
			}
			dave := external.Group()
			for i, g := range members {
				store := memoryStore{}
				list, err := g.Flush()
				if err != nil {
					t.Fatal(err)
				}
				store.save(list)
				if g, err = LoadGroup(Config{}, store.all); err != nil {
					t.Fatal(err)
				}
				members[i] = g
				if !bytes.Equal(g.EpochAuthenticator(), dave.EpochAuthenticator()) {
					t.Fatal("members disagree")
				}
			}
			m, err := dave.Encrypt(rand.Reader, []byte("hello"), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range members {
				if got, err := g.Decrypt(wire(t, m)); err != nil || string(got.Data) != "hello" {
					t.Errorf("%v", err)
				}
			}
		})
	}
}
