package room

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
)

// A minimal metadata room: the hub learns nothing but pseudonyms, all leaves have them, and no other room has such leaves.
func TestMinimalMetadataRoom(t *testing.T) {
	w := &world{t: t, verifier: &testVerifier{}, signers: map[string]*suite.Signer{}}
	w.hubCfg = HubConfig{Verifier: w.verifier, Signer: w.signer()}
	pseudonymous := func(host mimi.ProviderDomain) (mimi.UserURI, mls.LeafOptions) {
		user, client, err := mimi.NewPseudonyms(rand.Reader, host)
		if err != nil {
			t.Fatal(err)
		}
		signer, real := w.signer(), w.signer()
		p := mimi.PseudonymousCredential{UserPseudonym: user, ClientPseudonym: client, SignaturePublicKey: signer.Public()}
		s, _ := suite.Lookup(testSuite)
		if err := p.SealIdentity(rand.Reader, make([]byte, s.Nk()), real, mls.BasicCredential([]byte("mimi://"+host+"/d/alice/phone"))); err != nil {
			t.Fatal(err)
		}
		credential, err := p.Credential()
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := Leaf(credential, signer)
		if err != nil {
			t.Fatal(err)
		}
		return user, leaf
	}
	creator, leaf := pseudonymous("a.example")
	create := func(allowed bool) (*Room, *Hub, error) {
		components, list, err := policy.Build(policy.Cooperative, policy.Params{Hub: "a.example", Creator: creator})
		if err != nil {
			t.Fatal(err)
		}
		components.Base.PseudonymsAllowed = allowed
		room, err := Create(rand.Reader, w.config(), CreateParams{
			Room: testRoom, GroupID: []byte("g"), CipherSuite: testSuite,
			HubSender: mls.ExternalSender{SignatureKey: w.hubCfg.Signer.Public(), Credential: mls.BasicCredential([]byte("mimi://a.example"))},
			Leaf:      leaf, Lifetime: mls.Lifetime{NotAfter: 1 << 40}, Components: components, Participants: list,
		})
		if err != nil {
			t.Fatal(err)
		}
		info, tree, err := room.First(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		hub, next, err := NewHub(w.hubCfg, testRoom, creator, info, tree.RatchetTree, 1000)
		if err == nil {
			err = hub.Merge(next)
		}
		return room, hub, err
	}
	if _, _, err := create(false); !errors.Is(err, ErrPseudonym) {
		t.Errorf("a room that does not allow pseudonyms: %v", err)
	}
	room, hub, err := create(true)
	if err != nil {
		t.Fatal(err)
	}
	add := func(user mimi.UserURI, leaf mls.LeafOptions) error {
		k, err := mls.NewKeyPackage(rand.Reader, mls.KeyPackageOptions{CipherSuite: testSuite, Leaf: leaf, Lifetime: mls.Lifetime{NotAfter: 1 << 40}})
		if err != nil {
			t.Fatal(err)
		}
		staged, err := room.AddUsers(rand.Reader, 0, Addition{User: user, Role: 3, KeyPackages: []mls.KeyPackage{k.KeyPackage}})
		if err != nil {
			return err
		}
		next, err := hub.Update(UpdateInput{From: "a.example", Bundle: staged.Bundle(), Now: 2000, Rand: rand.Reader})
		if err != nil {
			return err
		}
		if err := hub.Merge(next); err != nil {
			return err
		}
		return room.Merge(staged)
	}
	other, otherLeaf := pseudonymous("b.example")
	if err := add(other, otherLeaf); err != nil {
		t.Fatal(err)
	}
	if got := hub.Providers(); !slices.Equal(got, []mimi.ProviderDomain{"a.example", "b.example"}) {
		t.Errorf("providers %v", got)
	}
	d := &device{w: w, user: bob, client: "mimi://b.example/d/bob/phone"}
	plainLeaf := d.leaf()
	plainLeaf.Capabilities.Credentials = append(plainLeaf.Capabilities.Credentials, mimi.CredentialPseudonymous)
	if err := add(bob, plainLeaf); !errors.Is(err, ErrMinimalMetadata) {
		t.Errorf("a real name in a minimal metadata room: %v", err)
	}
	ordinary := newWorld(t, policy.Cooperative, func(c *policy.Components, _ *[]mimi.UserRolePair) { c.Base.PseudonymsAllowed = true })
	third, thirdLeaf := pseudonymous("b.example")
	k, err := mls.NewKeyPackage(rand.Reader, mls.KeyPackageOptions{CipherSuite: testSuite, Leaf: thirdLeaf, Lifetime: mls.Lifetime{NotAfter: 1 << 40}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ordinary.devices[0].room.AddUsers(rand.Reader, 0, Addition{User: third, Role: 3, KeyPackages: []mls.KeyPackage{k.KeyPackage}}); err == nil {
		t.Error("a pseudonymous leaf in an ordinary room")
	}
}
