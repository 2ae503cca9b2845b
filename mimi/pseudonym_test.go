package mimi_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

func pseudonymous(t testing.TB) (p mimi.PseudonymousCredential, key []byte, real *suite.Signer) {
	t.Helper()
	user, client, err := mimi.NewPseudonyms(rand.Reader, "a.example")
	if err != nil {
		t.Fatal(err)
	}
	p = mimi.PseudonymousCredential{ClientPseudonym: client, UserPseudonym: user, SignaturePublicKey: signer(1).Public()}
	key, real = fill(7, suite1().Nk()), signer(2)
	if err := p.SealIdentity(rand.Reader, key, real, basic("mimi://a.example/d/alice/1")); err != nil {
		t.Fatal(err)
	}
	return p, key, real
}

func TestPseudonymousCredential(t *testing.T) {
	p, key, real := pseudonymous(t)
	b := must(tlspl.Marshal(&p))
	var got mimi.PseudonymousCredential
	if err := tlspl.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if err := got.Check(signer(1).Public()); err != nil {
		t.Error(err)
	}
	link, err := got.OpenIdentity(suite1(), key)
	if err != nil {
		t.Fatal(err)
	}
	if string(link.ClientCredential.Identity) != "mimi://a.example/d/alice/1" {
		t.Errorf("opened as %s", link.ClientCredential.Identity)
	}
	if err := link.Verify(&got, suite1(), real.Public()); err != nil {
		t.Error(err)
	}
	if err := link.Verify(&got, suite1(), signer(3).Public()); err == nil {
		t.Error("another's key verifies")
	}
	for n := range b {
		if tlspl.Unmarshal(b[:n], new(mimi.PseudonymousCredential)) == nil {
			t.Errorf("%d of %d octets are accepted", n, len(b))
		}
	}
	// Nothing that the hub sees tells who it is.
	if bytes.Contains(b, []byte("alice")) {
		t.Error("the real identity is readable")
	}

	// The link belongs to these pseudonyms and this key, and opens by one key.
	for name, change := range map[string]func(*mimi.PseudonymousCredential, []byte){
		"user":       func(p *mimi.PseudonymousCredential, _ []byte) { p.UserPseudonym = "mimi://a.example/p/x" },
		"client":     func(p *mimi.PseudonymousCredential, _ []byte) { p.ClientPseudonym = "mimi://a.example/d/x" },
		"key":        func(p *mimi.PseudonymousCredential, _ []byte) { p.SignaturePublicKey = signer(4).Public() },
		"ciphertext": func(p *mimi.PseudonymousCredential, _ []byte) { p.IdentityLinkCiphertext[20] ^= 1 },
		"nonce":      func(p *mimi.PseudonymousCredential, _ []byte) { p.IdentityLinkCiphertext[0] ^= 1 },
		"short":      func(p *mimi.PseudonymousCredential, _ []byte) { p.IdentityLinkCiphertext = []byte{1} },
		"secret":     func(_ *mimi.PseudonymousCredential, key []byte) { key[0] ^= 1 },
	} {
		q, k := got, bytes.Clone(key)
		q.IdentityLinkCiphertext = bytes.Clone(got.IdentityLinkCiphertext)
		change(&q, k)
		if _, err := q.OpenIdentity(suite1(), k); !errors.Is(err, mimi.ErrIdentityLink) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestPseudonymousCredentialCheck(t *testing.T) {
	good, _, _ := pseudonymous(t)
	const uuid = "0f0e0d0c-1111-4222-8333-444455556666"
	for name, change := range map[string]func(*mimi.PseudonymousCredential){
		"a real user": func(p *mimi.PseudonymousCredential) { p.UserPseudonym = "mimi://a.example/u/" + uuid },
		"no UUID":     func(p *mimi.PseudonymousCredential) { p.UserPseudonym = "mimi://a.example/p/alice" },
		"version 1": func(p *mimi.PseudonymousCredential) {
			p.UserPseudonym = "mimi://a.example/p/0f0e0d0c-1111-1222-8333-444455556666"
		},
		"upper case": func(p *mimi.PseudonymousCredential) {
			p.UserPseudonym = "mimi://a.example/p/0F0E0D0C-1111-4222-8333-444455556666"
		},
		"two segments":  func(p *mimi.PseudonymousCredential) { p.ClientPseudonym = "mimi://a.example/d/alice/" + uuid },
		"a real client": func(p *mimi.PseudonymousCredential) { p.ClientPseudonym = "mimi://a.example/d/phone" },
		"two hosts":     func(p *mimi.PseudonymousCredential) { p.ClientPseudonym = "mimi://b.example/d/" + uuid },
		"another key":   func(p *mimi.PseudonymousCredential) { p.SignaturePublicKey = signer(9).Public() },
	} {
		p := good
		change(&p)
		if err := p.Check(signer(1).Public()); !errors.Is(err, mimi.ErrPseudonym) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := good
	p.UserPseudonym, p.ClientPseudonym = "mimi://a.example/p/"+uuid, "mimi://a.example/d/"+uuid
	if err := p.Check(signer(1).Public()); err != nil {
		t.Error(err)
	}
}

func FuzzPseudonymousCredential(f *testing.F) {
	p, _, _ := pseudonymous(f)
	f.Add(must(tlspl.Marshal(&p)), must(tlspl.Marshal(&mimi.IdentityLinkTBE{ClientCredential: mls.BasicCredential([]byte("x"))})))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for _, v := range []struct {
			in   []byte
			into tlspl.Coder
		}{{a, new(mimi.PseudonymousCredential)}, {b, new(mimi.IdentityLinkTBE)}} {
			if tlspl.Unmarshal(v.in, v.into) != nil {
				continue
			}
			if again, err := tlspl.Marshal(v.into); err != nil || !bytes.Equal(again, v.in) {
				t.Fatalf("encoded again as\n%x, %v\nwant\n%x", again, err, v.in)
			}
		}
	})
}
