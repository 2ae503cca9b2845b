package mls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
	"pgregory.net/rapid"
)

// The octets of the label, written out from MLS extensions §4.1 and Decision 113.
func TestOperationLabel(t *testing.T) {
	if got, want := operationLabel(0x8001, "label"), "\x0dMLS Component\x80\x01\x05label"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSafeSignatures(t *testing.T) {
	s := lookup(t, 1)
	signer, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("content")
	sig, err := SafeSignWithLabel(rand.Reader, signer, 7, "label", content)
	if err != nil {
		t.Fatal(err)
	}
	if err := SafeVerifyWithLabel(s, signer.Public(), 7, "label", content, sig); err != nil {
		t.Error(err)
	}
	if err := s.VerifyWithLabel(signer.Public(), "\x0dMLS Component\x00\x07\x05label", content, sig); err != nil {
		t.Errorf("the label's octets follow \"MLS 1.0 \": %v", err)
	}
	for name, err := range map[string]error{
		"component": SafeVerifyWithLabel(s, signer.Public(), 8, "label", content, sig),
		"label":     SafeVerifyWithLabel(s, signer.Public(), 7, "other", content, sig),
		"content":   SafeVerifyWithLabel(s, signer.Public(), 7, "label", nil, sig),
		"base MLS":  s.VerifyWithLabel(signer.Public(), "label", content, sig),
	} {
		if err != suite.ErrSignature {
			t.Errorf("other %s: %v", name, err)
		}
	}
}

func TestSafeEncryption(t *testing.T) {
	for _, id := range suite.IDs() {
		s := lookup(t, id)
		key, err := s.GenerateKeyPair(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c, err := SafeEncryptWithLabel(s, key.Public(), 7, "label", []byte("context"), []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := SafeDecryptWithLabel(key, 7, "label", []byte("context"), c); err != nil || string(got) != "secret" {
			t.Errorf("%v: %q, %v", id, got, err)
		}
		for _, f := range []func() ([]byte, error){
			func() ([]byte, error) { return SafeDecryptWithLabel(key, 8, "label", []byte("context"), c) },
			func() ([]byte, error) { return SafeDecryptWithLabel(key, 7, "other", []byte("context"), c) },
			func() ([]byte, error) { return SafeDecryptWithLabel(key, 7, "label", nil, c) },
			func() ([]byte, error) {
				return key.OpenWithLabel("label", []byte("context"), c.KEMOutput, c.Ciphertext)
			},
		} {
			if _, err := f(); err != suite.ErrOpen {
				t.Errorf("%v: %v", id, err)
			}
		}
		if _, err := SafeEncryptWithLabel(s, nil, 7, "", nil, nil); err != suite.ErrKey {
			t.Errorf("%v: no key: %v", id, err)
		}
	}
}

func TestSafeAAD(t *testing.T) {
	if b, err := EncodeSafeAAD(); err != nil || !bytes.Equal(b, []byte{0}) {
		t.Errorf("no items: %x, %v; want the octet 00", b, err)
	}
	b, err := EncodeSafeAAD(SafeAADItem{9, []byte("nine")}, SafeAADItem{2, []byte("two")})
	if err != nil {
		t.Fatal(err)
	}
	if want := "\x0d\x00\x02\x03two\x00\x09\x04nine"; string(b) != want {
		t.Errorf("got %q, want %q", b, want)
	}
	s, err := ParseSafeAAD(b)
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := s.Find(9); !ok || string(d) != "nine" {
		t.Errorf("item 9: %q, %v", d, ok)
	}
	if _, err := EncodeSafeAAD(SafeAADItem{2, nil}, SafeAADItem{2, nil}); err != ErrDuplicateComponent {
		t.Errorf("two items of a component: %v", err)
	}
	for name, in := range map[string]string{
		"nothing":   "",
		"trailing":  "\x00\x00",
		"unsorted":  "\x06\x00\x09\x00\x00\x02\x00",
		"duplicate": "\x06\x00\x02\x00\x00\x02\x00",
		"truncated": "\x06\x00\x02\x00",
		"long":      "\x40\x00",
	} {
		var syntax *tlspl.SyntaxError
		if _, err := ParseSafeAAD([]byte(in)); !errors.As(err, &syntax) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPSKIDs(t *testing.T) {
	s := lookup(t, 1)
	seen := map[string]bool{}
	for range 2 {
		a, errA := ExternalPSKID(rand.Reader, s, []byte("id"))
		b, errB := ComponentPSKID(rand.Reader, s, 7, []byte("id"))
		c, errC := ResumptionPSKID(rand.Reader, s, UsageBranch, []byte("group"), 3)
		if errA != nil || errB != nil || errC != nil {
			t.Fatal(errA, errB, errC)
		}
		for _, id := range []PreSharedKeyID{a, b, c} {
			var back PreSharedKeyID
			if err := tlspl.Unmarshal(marshal(&id), &back); err != nil {
				t.Error(err)
			}
			if len(id.PSKNonce) != s.Nh() || seen[string(id.PSKNonce)] {
				t.Errorf("nonce %x is used or has the wrong length", id.PSKNonce)
			}
			seen[string(id.PSKNonce)] = true
		}
	}
	if _, err := ComponentPSKID(bytes.NewReader(nil), s, 7, nil); err == nil {
		t.Error("a PSK got a nonce without randomness")
	}
}

func TestGREASE(t *testing.T) {
	seen := map[uint16]bool{}
	for range 2000 {
		v, err := GREASE[CipherSuite](rand.Reader)
		if err != nil || !IsGREASE(v) {
			t.Fatalf("%#x, %v", uint16(v), err)
		}
		seen[uint16(v)] = true
	}
	if len(seen) != 15 || seen[0xFAFA] {
		t.Errorf("%d values, want 15 without 0xFAFA", len(seen))
	}
	for range 200 {
		if v, err := GREASEComponent(rand.Reader); err != nil || !IsGREASE(v) || v > 0x7A7A {
			t.Fatalf("component %#x, %v", uint16(v), err)
		}
	}
	own := Capabilities{CipherSuites: []CipherSuite{1}, Extensions: []ExtensionType{6}}
	c, err := own.WithGREASE(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if len(own.CipherSuites) != 1 || len(c.CipherSuites) != 2 || len(c.Extensions) != 2 || len(c.Proposals) != 1 || len(c.Credentials) != 1 || c.Versions != nil {
		t.Errorf("own %+v, sent %+v", own, c)
	}
	if _, err := own.WithGREASE(bytes.NewReader(nil)); err == nil {
		t.Error("no error without randomness")
	}
}

func TestMultiCredential(t *testing.T) {
	newSigner := func(id suite.ID) *suite.Signer {
		k, err := lookup(t, id).GenerateSigner(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	leafKey, basicKey, x509Key := newSigner(1), newSigner(2), newSigner(7)
	bind := func(k *suite.Signer, c Credential) CredentialBinding {
		b, err := NewCredentialBinding(rand.Reader, k, c, leafKey.Public())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	basic, x509 := bind(basicKey, BasicCredential([]byte("alice"))), bind(x509Key, X509Credential([]byte("cert")))
	all := &Capabilities{
		CipherSuites: []CipherSuite{1, 2, 7},
		Credentials:  []CredentialType{CredentialBasic, CredentialX509, CredentialMulti, CredentialWeakMulti},
	}
	some := &Capabilities{CipherSuites: []CipherSuite{1, 2}, Credentials: all.Credentials}
	none := &Capabilities{CipherSuites: []CipherSuite{1, 2, 7}, Credentials: []CredentialType{CredentialBasic, CredentialX509}}
	forged := x509
	forged.Signature = bytes.Clone(x509.Signature)
	forged.Signature[10] ^= 1
	moved := x509
	moved.CredentialKey = basicKey.Public() // not of the binding's suite
	nested := bind(basicKey, Credential{Type: CredentialMulti, Bindings: []CredentialBinding{basic}})

	for _, c := range []struct {
		name     string
		kind     CredentialType
		bindings []CredentialBinding
		own      *Capabilities
		want     error
	}{
		{"multi", CredentialMulti, []CredentialBinding{basic, x509}, all, nil},
		{"weak", CredentialWeakMulti, []CredentialBinding{basic, x509}, all, nil},
		{"multi, partly supported", CredentialMulti, []CredentialBinding{basic, x509}, some, ErrBindingSupport},
		{"weak, partly supported", CredentialWeakMulti, []CredentialBinding{basic, x509}, some, nil},
		{"weak, bad one unsupported", CredentialWeakMulti, []CredentialBinding{basic, forged}, some, nil},
		{"weak, bad one supported", CredentialWeakMulti, []CredentialBinding{basic, forged}, all, suite.ErrSignature},
		{"weak, none supported", CredentialWeakMulti, []CredentialBinding{x509}, some, ErrBindingSupport},
		{"multi, forged", CredentialMulti, []CredentialBinding{basic, forged}, all, suite.ErrSignature},
		{"multi, other key", CredentialMulti, []CredentialBinding{moved}, all, suite.ErrKey},
		{"type not supported", CredentialMulti, []CredentialBinding{basic, x509}, none, ErrBindingSupport},
		{"no bindings", CredentialMulti, nil, all, ErrBindings},
		{"nested", CredentialMulti, []CredentialBinding{nested}, all, ErrBindings},
		{"not a multi-credential", CredentialBasic, nil, none, nil},
	} {
		leaf := &LeafNode{SignatureKey: leafKey.Public(), Credential: Credential{Type: c.kind, Bindings: c.bindings}}
		if err := leaf.VerifyBindings(c.own, func(*Credential, []byte) error { return nil }); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}

	leaf := &LeafNode{SignatureKey: leafKey.Public(), Credential: Credential{Type: CredentialMulti, Bindings: []CredentialBinding{basic, x509}}}
	disbelief := errors.New("never heard of her")
	var asked []CredentialType
	err := leaf.VerifyBindings(all, func(c *Credential, key []byte) error {
		asked = append(asked, c.Type)
		if c.Type == CredentialX509 {
			if !bytes.Equal(key, x509Key.Public()) {
				t.Error("asked about another key")
			}
			return disbelief
		}
		return nil
	})
	if !errors.Is(err, disbelief) || !slices.Equal(asked, []CredentialType{CredentialBasic, CredentialX509}) {
		t.Errorf("%v after %v", err, asked)
	}
	leaf.SignatureKey = basicKey.Public()
	if err := leaf.VerifyBindings(all, func(*Credential, []byte) error { return nil }); !errors.Is(err, suite.ErrSignature) {
		t.Errorf("binding moved to another leaf: %v", err)
	}
}

func TestReceivedProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Received
		model := map[LeafIndex]map[uint32]bool{0: {}, 1: {}}
		for range rapid.IntRange(0, 60).Draw(t, "n") {
			sender, g := LeafIndex(rapid.IntRange(0, 1).Draw(t, "sender")), rapid.Uint32Range(0, 30).Draw(t, "generation")
			r.Add(sender, g)
			model[sender][g] = true
		}
		acked := MessageRange{Sender: 1, FirstGeneration: rapid.Uint32Range(0, 5).Draw(t, "first"), LastGeneration: rapid.Uint32Range(5, 40).Draw(t, "last")}
		ack := r.AppAck()
		if err := ack.Check(); err != nil {
			t.Fatal(err)
		}
		missing := AppAck{r.Missing(&AppAck{[]MessageRange{acked}})}
		if err := missing.Check(); err != nil {
			t.Fatal(err)
		}
		for sender, got := range model {
			last := -1
			for g := range got {
				last = max(last, int(g))
			}
			if sender == acked.Sender {
				last = max(last, int(acked.LastGeneration))
			}
			for g := range uint32(45) {
				if ack.Contains(sender, g) != got[g] {
					t.Fatalf("AppAck %v is wrong about %d of %d", ack, g, sender)
				}
				if want := !got[g] && int(g) <= last; missing.Contains(sender, g) != want {
					t.Fatalf("Missing %v is wrong about %d of %d", missing, g, sender)
				}
			}
		}
		for i := 1; i < len(ack.ReceivedRanges); i++ {
			a, b := ack.ReceivedRanges[i-1], ack.ReceivedRanges[i]
			if a.Sender > b.Sender || a.Sender == b.Sender && a.LastGeneration+1 >= b.FirstGeneration {
				t.Fatalf("ranges %v and %v are not apart", a, b)
			}
		}
	})
}

func TestReceivedAtTheEnds(t *testing.T) {
	var r Received
	for _, g := range []uint32{math.MaxUint32, 0, math.MaxUint32 - 1, 1, math.MaxUint32} {
		r.Add(3, g)
	}
	want := []MessageRange{{3, 0, 1}, {3, math.MaxUint32 - 1, math.MaxUint32}}
	if got := r.AppAck().ReceivedRanges; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := r.Missing(nil); !slices.Equal(got, []MessageRange{{3, 2, math.MaxUint32 - 2}}) {
		t.Errorf("missing %v", got)
	}
	// An AppAck that claims everything costs nothing.
	if got := new(Received).Missing(&AppAck{[]MessageRange{{1, 0, math.MaxUint32}}}); !slices.Equal(got, []MessageRange{{1, 0, math.MaxUint32}}) {
		t.Errorf("missing %v", got)
	}
	if err := (&AppAck{[]MessageRange{{1, 2, 1}}}).Check(); err != ErrAckRange {
		t.Errorf("backward range: %v", err)
	}
}
