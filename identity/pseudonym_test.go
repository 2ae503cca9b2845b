package identity

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
)

// Pseudonymous credentials are refused, with the reason, unless they are switched on; with the key, who is behind one is known.
func TestPseudonyms(t *testing.T) {
	const id = suite.X25519AES128GCMSHA256Ed25519
	issuer, other := newIssuer(t, "a.example"), newIssuer(t, "b.example")
	on, off := NewVerifier(Config{Pseudonyms: true}), NewVerifier(Config{})
	for _, v := range []*Verifier{on, off} {
		v.SetAnchors("a.example", []*x509.Certificate{issuer.Root()})
		v.SetAnchors("b.example", []*x509.Certificate{other.Root()})
	}
	s, _ := suite.Lookup(id)
	leaf, real := newSigner(t, id), newSigner(t, id)
	key := make([]byte, s.Nk())
	seal := func(real *suite.Signer, credential mls.Credential) (mls.Credential, *mimi.PseudonymousCredential) {
		user, client, err := mimi.NewPseudonyms(rand.Reader, "a.example")
		if err != nil {
			t.Fatal(err)
		}
		p := &mimi.PseudonymousCredential{UserPseudonym: user, ClientPseudonym: client, SignaturePublicKey: leaf.Public()}
		if err := p.SealIdentity(rand.Reader, key, real, credential); err != nil {
			t.Fatal(err)
		}
		return must(p.Credential()), p
	}
	now := start.Add(time.Hour)
	cred, p := seal(real, issue(t, issuer, real, Certified{}))
	if _, err := off.VerifyCredential(&cred, leaf.Public(), now); !errors.Is(err, ErrPseudonymsOff) || !strings.Contains(err.Error(), "setting pseudonyms") {
		t.Errorf("switched off: %v", err)
	}
	got, err := on.VerifyCredential(&cred, leaf.Public(), now)
	if err != nil || got.User != p.UserPseudonym || got.Client != p.ClientPseudonym {
		t.Errorf("%+v, %v", got, err)
	}
	if user, client, err := Names(&cred); err != nil || user != p.UserPseudonym || client != p.ClientPseudonym {
		t.Errorf("names %s, %s, %v", user, client, err)
	}
	if _, err := on.VerifyCredential(&cred, real.Public(), now); !errors.Is(err, mimi.ErrPseudonym) {
		t.Errorf("for another key: %v", err)
	}
	who, err := on.VerifyPseudonym(&cred, leaf.Public(), s, key, now)
	if err != nil || who.User != "mimi://a.example/u/al%20ice" {
		t.Errorf("behind it is %s, %v", who.User, err)
	}
	wrong := append([]byte{1}, key[1:]...)
	if _, err := on.VerifyPseudonym(&cred, leaf.Public(), s, wrong, now); !errors.Is(err, mimi.ErrIdentityLink) {
		t.Errorf("with another key: %v", err)
	}
	stolen, _ := seal(newSigner(t, id), issue(t, issuer, real, Certified{}))
	if _, err := on.VerifyPseudonym(&stolen, leaf.Public(), s, key, now); err == nil {
		t.Error("somebody else's certificate stands behind it")
	}
	foreign, _ := seal(real, issue(t, other, real, Certified{}))
	if _, err := on.VerifyPseudonym(&foreign, leaf.Public(), s, key, now); !errors.Is(err, ErrHost) {
		t.Errorf("a real identity of another provider: %v", err)
	}
	basic, _ := seal(real, mls.BasicCredential([]byte("mimi://a.example/d/alice/phone")))
	if _, err := on.VerifyPseudonym(&basic, leaf.Public(), s, key, now); !errors.Is(err, ErrCredentialType) {
		t.Errorf("a basic credential behind it: %v", err)
	}
	broken := mls.Credential{Type: mimi.CredentialPseudonymous, Custom: cred.Custom[:len(cred.Custom)-1]}
	if _, err := on.VerifyCredential(&broken, leaf.Public(), now); err == nil {
		t.Error("a torn credential")
	}
}
