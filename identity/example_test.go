package identity_test

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mls/suite"
)

// A provider certifies a client's key; whoever has the provider's anchor can
// tell whose it is.
func Example() {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}

	// The provider's authority, made once.
	issuer, err := identity.NewIssuer(rand.Reader, "a.example", now, now.AddDate(10, 0, 0))
	must(err)

	// The client asks for a certificate for its MLS signature key.
	s, _ := suite.Lookup(suite.X25519AES128GCMSHA256Ed25519)
	key, err := s.GenerateSigner(rand.Reader)
	must(err)
	req, err := identity.NewCertificateRequest(rand.Reader, key, "mimi://a.example/u/alice", "mimi://a.example/d/alice/phone")
	must(err)
	credential, err := issuer.IssueClient(rand.Reader, req, identity.Certified{NotBefore: now, NotAfter: now.AddDate(0, 3, 0)})
	must(err)

	// Somebody else in the group verifies it.
	v := identity.NewVerifier(identity.Config{})
	v.SetAnchors("a.example", []*x509.Certificate{issuer.Root()})
	who, err := v.VerifyCredential(&credential, key.Public(), now.Add(time.Hour))
	must(err)
	fmt.Println(who.User, who.Client)

	_, err = v.VerifyCredential(&credential, key.Public(), now.AddDate(1, 0, 0))
	fmt.Println(errors.Is(err, identity.ErrChain))
	// Output:
	// mimi://a.example/u/alice mimi://a.example/d/alice/phone
	// true
}
