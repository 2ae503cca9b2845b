package mls_test

import (
	"crypto/rand"
	"fmt"
	"log"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// newLeaf is a client's identity: a credential and a signature key.
func newLeaf(name string) mls.LeafOptions {
	s, _ := suite.Lookup(suite.X25519AES128GCMSHA256Ed25519)
	signer, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	return mls.LeafOptions{
		Credential: mls.BasicCredential([]byte(name)),
		Capabilities: mls.Capabilities{
			Versions:     []mls.ProtocolVersion{mls.MLS10},
			CipherSuites: []mls.CipherSuite{suite.X25519AES128GCMSHA256Ed25519},
			Credentials:  []mls.CredentialType{mls.CredentialBasic},
		},
		Signer: signer,
	}
}

// Alice makes a group, a hub follows it, Bob joins, and they talk. The hub sees who is in the group and not a word of
// what they say.
func Example() {
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	year := mls.Lifetime{NotBefore: 1790000000, NotAfter: 1821536000}

	// Bob publishes a KeyPackage and keeps its private keys.
	bobKeys, err := mls.NewKeyPackage(rand.Reader, mls.KeyPackageOptions{
		CipherSuite: suite.X25519AES128GCMSHA256Ed25519, Leaf: newLeaf("bob"), Lifetime: year,
	})
	check(err)

	alice, err := mls.CreateGroup(rand.Reader, mls.Config{}, mls.GroupOptions{
		GroupID: []byte("room"), CipherSuite: suite.X25519AES128GCMSHA256Ed25519, Leaf: newLeaf("alice"), Lifetime: year,
	})
	check(err)
	info, err := alice.GroupInfo(rand.Reader, false)
	check(err)
	hub, err := mls.NewPublicGroup(mls.Config{}, info, alice.Tree().Bytes())
	check(err)

	// Alice stages a commit. It takes effect when the hub has accepted it.
	staged, err := alice.Stage(rand.Reader, mls.CommitOptions{
		Proposals: []mls.Proposal{{Type: mls.ProposalAdd, Add: &mls.Add{KeyPackage: bobKeys.KeyPackage}}},
	})
	check(err)
	sent, err := tlspl.Marshal(staged.Message())
	check(err)

	var received mls.MLSMessage
	check(tlspl.Unmarshal(sent, &received))
	accepted, err := hub.Stage(&received)
	check(err)
	fmt.Println("the hub adds leaf", accepted.Changes().Added)
	check(hub.Merge(accepted))
	check(alice.Merge(staged))

	bob, err := mls.JoinWelcome(mls.Config{}, staged.Welcome(), bobKeys, mls.JoinOptions{RatchetTree: hub.Tree().Bytes()})
	check(err)

	m, err := alice.Encrypt(rand.Reader, []byte("hello"), nil)
	check(err)
	got, err := bob.Decrypt(m)
	check(err)
	fmt.Printf("leaf %d says %q in epoch %d\n", got.Sender, got.Data, got.Epoch)
	// Output:
	// the hub adds leaf [1]
	// leaf 0 says "hello" in epoch 1
}
