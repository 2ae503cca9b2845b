package suite

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write testdata anew")

type hexBytes []byte

func (h hexBytes) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(h)) }

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	d, err := hex.DecodeString(s)
	*h = d
	return err
}

// readVectors decodes an official vector file, or skips the test without it.
func readVectors(t testing.TB, name string, v any) {
	t.Helper()
	dir := os.Getenv("COMITY_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	b, err := os.ReadFile(filepath.Join(dir, "mls", name))
	if os.IsNotExist(err) {
		t.Skipf("no vectors at %s: set COMITY_VECTORS", dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func forEach(t *testing.T, f func(t *testing.T, s Suite)) {
	for _, id := range IDs() {
		t.Run(id.String(), func(t *testing.T) {
			s, ok := Lookup(id)
			if !ok || s.ID() != id {
				t.Fatalf("Lookup(%#x) = %v, %v", uint16(id), s, ok)
			}
			f(t, s)
		})
	}
}

// A basicsVector is one entry of crypto-basics.json.
type basicsVector struct {
	CipherSuite ID `json:"cipher_suite"`
	RefHash     struct {
		Label string   `json:"label"`
		Value hexBytes `json:"value"`
		Out   hexBytes `json:"out"`
	} `json:"ref_hash"`
	ExpandWithLabel struct {
		Secret  hexBytes `json:"secret"`
		Label   string   `json:"label"`
		Context hexBytes `json:"context"`
		Length  int      `json:"length"`
		Out     hexBytes `json:"out"`
	} `json:"expand_with_label"`
	DeriveSecret struct {
		Label  string   `json:"label"`
		Secret hexBytes `json:"secret"`
		Out    hexBytes `json:"out"`
	} `json:"derive_secret"`
	DeriveTreeSecret struct {
		Secret     hexBytes `json:"secret"`
		Label      string   `json:"label"`
		Generation uint32   `json:"generation"`
		Length     int      `json:"length"`
		Out        hexBytes `json:"out"`
	} `json:"derive_tree_secret"`
	SignWithLabel struct {
		Priv      hexBytes `json:"priv"`
		Pub       hexBytes `json:"pub"`
		Content   hexBytes `json:"content"`
		Label     string   `json:"label"`
		Signature hexBytes `json:"signature"`
	} `json:"sign_with_label"`
	EncryptWithLabel struct {
		Priv       hexBytes `json:"priv"`
		Pub        hexBytes `json:"pub"`
		Label      string   `json:"label"`
		Context    hexBytes `json:"context"`
		Plaintext  hexBytes `json:"plaintext"`
		KEMOutput  hexBytes `json:"kem_output"`
		Ciphertext hexBytes `json:"ciphertext"`
	} `json:"encrypt_with_label"`
}

func TestCryptoBasics(t *testing.T) {
	var vectors []basicsVector
	readVectors(t, "crypto-basics.json", &vectors)
	if len(vectors) != 7 {
		t.Fatalf("%d vectors, want one for each suite of RFC 9420", len(vectors))
	}
	checkBasics(t, vectors)
}

// The post-quantum suites have vectors of our own, written once with -update: what they say must not change.
func TestCryptoBasicsPQ(t *testing.T) {
	path := filepath.Join("testdata", "crypto-basics-pq.json")
	if *update {
		var vectors []basicsVector
		for _, id := range IDs() {
			if id >= MLKEM768X25519AES128GCMSHA256Ed25519 {
				vectors = append(vectors, newBasicsVector(t, id))
			}
		}
		b, err := json.MarshalIndent(vectors, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []basicsVector
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 11 {
		t.Fatalf("%d vectors, want one for each suite of the draft", len(vectors))
	}
	checkBasics(t, vectors)
}

func newBasicsVector(t *testing.T, id ID) (v basicsVector) {
	s, _ := Lookup(id)
	random := func(n int) []byte {
		b := make([]byte, n)
		rand.Read(b)
		return b
	}
	v.CipherSuite = id
	v.RefHash.Label, v.RefHash.Value = "RefHash", random(32)
	v.RefHash.Out = s.RefHash(v.RefHash.Label, v.RefHash.Value)
	e := &v.ExpandWithLabel
	e.Secret, e.Label, e.Context, e.Length = random(s.Nh()), "ExpandWithLabel", random(32), 16
	e.Out = s.ExpandWithLabel(e.Secret, e.Label, e.Context, e.Length)
	v.DeriveSecret.Label, v.DeriveSecret.Secret = "DeriveSecret", random(s.Nh())
	v.DeriveSecret.Out = s.DeriveSecret(v.DeriveSecret.Secret, v.DeriveSecret.Label)
	d := &v.DeriveTreeSecret
	d.Secret, d.Label, d.Generation, d.Length = random(s.Nh()), "DeriveTreeSecret", 2694881440, 32
	d.Out = s.DeriveTreeSecret(d.Secret, d.Label, d.Generation, d.Length)
	signer, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sig := &v.SignWithLabel
	sig.Priv, sig.Pub, sig.Label, sig.Content = signer.Bytes(), signer.Public(), "SignWithLabel", random(32)
	if sig.Signature, err = signer.SignWithLabel(rand.Reader, sig.Label, sig.Content); err != nil {
		t.Fatal(err)
	}
	key, err := s.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	enc := &v.EncryptWithLabel
	if enc.Priv, err = key.Bytes(); err != nil {
		t.Fatal(err)
	}
	enc.Pub, enc.Label, enc.Context, enc.Plaintext = key.Public(), "EncryptWithLabel", random(32), random(32)
	if enc.KEMOutput, enc.Ciphertext, err = s.SealWithLabel(enc.Pub, enc.Label, enc.Context, enc.Plaintext); err != nil {
		t.Fatal(err)
	}
	return v
}

func checkBasics(t *testing.T, vectors []basicsVector) {
	for _, v := range vectors {
		t.Run(v.CipherSuite.String(), func(t *testing.T) {
			s, ok := Lookup(v.CipherSuite)
			if !ok {
				t.Fatal("no such suite")
			}
			equal := func(what string, got, want []byte) {
				t.Helper()
				if !bytes.Equal(got, want) {
					t.Errorf("%s: got %x, want %x", what, got, want)
				}
			}
			equal("RefHash", s.RefHash(v.RefHash.Label, v.RefHash.Value), v.RefHash.Out)
			e := v.ExpandWithLabel
			equal("ExpandWithLabel", s.ExpandWithLabel(e.Secret, e.Label, e.Context, e.Length), e.Out)
			equal("DeriveSecret", s.DeriveSecret(v.DeriveSecret.Secret, v.DeriveSecret.Label), v.DeriveSecret.Out)
			d := v.DeriveTreeSecret
			equal("DeriveTreeSecret", s.DeriveTreeSecret(d.Secret, d.Label, d.Generation, d.Length), d.Out)

			sig := v.SignWithLabel
			if err := s.VerifyWithLabel(sig.Pub, sig.Label, sig.Content, sig.Signature); err != nil {
				t.Errorf("VerifyWithLabel: %v", err)
			}
			signer, err := s.NewSigner(sig.Priv)
			if err != nil {
				t.Fatal(err)
			}
			equal("signature public key", signer.Public(), sig.Pub)
			own, err := signer.SignWithLabel(rand.Reader, sig.Label, sig.Content)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.VerifyWithLabel(sig.Pub, sig.Label, sig.Content, own); err != nil {
				t.Errorf("own signature: %v", err)
			}

			enc := v.EncryptWithLabel
			priv, err := s.ParsePrivateKey(enc.Priv)
			if err != nil {
				t.Fatal(err)
			}
			equal("HPKE public key", priv.Public(), enc.Pub)
			pt, err := priv.OpenWithLabel(enc.Label, enc.Context, enc.KEMOutput, enc.Ciphertext)
			if err != nil {
				t.Errorf("OpenWithLabel: %v", err)
			}
			equal("plaintext", pt, enc.Plaintext)
		})
	}
}

func TestSignatures(t *testing.T) {
	forEach(t, func(t *testing.T, s Suite) {
		k, err := s.GenerateSigner(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		content := bytes.Repeat([]byte("content"), 300)
		sig, err := k.SignWithLabel(rand.Reader, "Label", content)
		if err != nil {
			t.Fatal(err)
		}
		v, err := s.NewVerifier(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		if err := v.VerifyWithLabel("Label", content, sig); err != nil {
			t.Error(err)
		}
		if err := v.VerifyWithLabel("Labe", append([]byte("l"), content...), sig); err != ErrSignature {
			t.Errorf("other label: %v", err)
		}
		for _, bad := range [][]byte{nil, sig[:len(sig)-1], append(bytes.Clone(sig), 0), flip(sig, len(sig)/2)} {
			if err := v.VerifyWithLabel("Label", content, bad); err != ErrSignature {
				t.Errorf("bad signature of %d octets: %v", len(bad), err)
			}
		}
		again, err := s.NewSigner(k.Bytes())
		if err != nil || !bytes.Equal(again.Public(), k.Public()) {
			t.Errorf("key does not survive its octets: %v", err)
		}
		for _, bad := range [][]byte{nil, {}, k.Public()[:len(k.Public())-1], append(bytes.Clone(k.Public()), 0)} {
			if _, err := s.NewVerifier(bad); err != ErrKey {
				t.Errorf("public key of %d octets: %v", len(bad), err)
			}
		}
		for _, bad := range [][]byte{nil, append(bytes.Clone(k.Bytes()), 0)} {
			if _, err := s.NewSigner(bad); err != ErrKey {
				t.Errorf("private key of %d octets: %v", len(bad), err)
			}
		}
	})
}

// A key whose scalar begins with zeros is the same key without them.
func TestShortScalars(t *testing.T) {
	for _, id := range []ID{P256AES128GCMSHA256P256, P384AES256GCMSHA384P384, P521AES256GCMSHA512P521} {
		s, _ := Lookup(id)
		full := make([]byte, s.p.kem.nsk())
		full[len(full)-1] = 3
		a, errA := s.NewSigner(full)
		b, errB := s.NewSigner([]byte{3})
		if errA != nil || errB != nil || !bytes.Equal(a.Public(), b.Public()) {
			t.Errorf("%v: signature key: %v, %v", id, errA, errB)
		}
		c, errC := s.ParsePrivateKey(full)
		d, errD := s.ParsePrivateKey([]byte{3})
		if errC != nil || errD != nil || !bytes.Equal(c.Public(), d.Public()) {
			t.Errorf("%v: HPKE key: %v, %v", id, errC, errD)
		}
	}
}

func TestHPKE(t *testing.T) {
	forEach(t, func(t *testing.T, s Suite) {
		k, err := s.GenerateKeyPair(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CheckPublicKey(k.Public()); err != nil {
			t.Error(err)
		}
		context, secret := bytes.Repeat([]byte{7}, 500), []byte("path secret")
		enc, ct, err := s.SealWithLabel(k.Public(), "UpdatePathNode", context, secret)
		if err != nil {
			t.Fatal(err)
		}
		b, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		k, err = s.ParsePrivateKey(b)
		if err != nil {
			t.Fatal(err)
		}
		if pt, err := k.OpenWithLabel("UpdatePathNode", context, enc, ct); err != nil || !bytes.Equal(pt, secret) {
			t.Errorf("OpenWithLabel = %q, %v", pt, err)
		}
		for name, f := range map[string]func() ([]byte, error){
			"label":     func() ([]byte, error) { return k.OpenWithLabel("Welcome", context, enc, ct) },
			"context":   func() ([]byte, error) { return k.OpenWithLabel("UpdatePathNode", nil, enc, ct) },
			"no enc":    func() ([]byte, error) { return k.OpenWithLabel("UpdatePathNode", context, nil, ct) },
			"short enc": func() ([]byte, error) { return k.OpenWithLabel("UpdatePathNode", context, enc[1:], ct) },
			"long enc": func() ([]byte, error) {
				return k.OpenWithLabel("UpdatePathNode", context, append(bytes.Clone(enc), 0), ct)
			},
			"zero enc":   func() ([]byte, error) { return k.OpenWithLabel("UpdatePathNode", context, make([]byte, len(enc)), ct) },
			"ciphertext": func() ([]byte, error) { return k.OpenWithLabel("UpdatePathNode", context, enc, flip(ct, 3)) },
			"no tag":     func() ([]byte, error) { return k.OpenWithLabel("UpdatePathNode", context, enc, nil) },
		} {
			if _, err := f(); err != ErrOpen {
				t.Errorf("%s: %v, want ErrOpen", name, err)
			}
		}
		for _, bad := range [][]byte{nil, k.Public()[1:], append(bytes.Clone(k.Public()), 0)} {
			if err := s.CheckPublicKey(bad); err != ErrKey {
				t.Errorf("public key of %d octets: %v", len(bad), err)
			}
			if _, _, err := s.SealWithLabel(bad, "", nil, nil); err != ErrKey {
				t.Errorf("seal to a key of %d octets: %v", len(bad), err)
			}
		}

		enc, out, err := s.SendExport(k.Public(), []byte("info"), "MLS 1.0 external init secret", s.Nh())
		if err != nil {
			t.Fatal(err)
		}
		in, err := k.ReceiveExport([]byte("info"), enc, "MLS 1.0 external init secret", s.Nh())
		if err != nil || !bytes.Equal(in, out) || len(in) != s.Nh() {
			t.Errorf("ReceiveExport = %x, %v; sent %x", in, err, out)
		}

		ikm := bytes.Repeat([]byte{1}, s.Nh())
		k1, err := s.DeriveKeyPair(ikm)
		if err != nil {
			t.Fatal(err)
		}
		k2, err := s.DeriveKeyPair(ikm)
		if err != nil || !bytes.Equal(k1.Public(), k2.Public()) || bytes.Equal(k1.Public(), k.Public()) {
			t.Errorf("DeriveKeyPair is not a function of its input: %v", err)
		}
	})
}

// Both ways of computing HMAC and HKDF-Expand must agree with the standard library.
func TestKDFAgreesWithStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, _ := Lookup(rapid.SampledFrom(IDs()).Draw(t, "suite"))
		key := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "key")
		data := rapid.SliceOfN(rapid.Byte(), 0, 500).Draw(t, "data")
		m := hmac.New(s.p.hash.new, key)
		m.Write(data)
		if got, want := s.MAC(key, data[:len(data)/2], data[len(data)/2:]), m.Sum(nil); !bytes.Equal(got, want) {
			t.Fatalf("MAC: got %x, want %x", got, want)
		}
		if !s.VerifyMAC(key, m.Sum(nil), data) || s.VerifyMAC(key, m.Sum(nil)[1:], data) {
			t.Fatal("VerifyMAC")
		}
		want, err := hkdf.Extract(s.p.hash.new, data, key)
		if err != nil || !bytes.Equal(s.Extract(key, data), want) {
			t.Fatalf("Extract: got %x, want %x", s.Extract(key, data), want)
		}
		label := rapid.StringN(0, 80, 300).Draw(t, "label")
		n := rapid.IntRange(0, 200).Draw(t, "length")
		info := fmt.Sprintf("%s%s%s%s%s", []byte{0, byte(n)}, appendVarint(nil, len(label)+8), "MLS 1.0 "+label, appendVarint(nil, len(data)), data)
		want, err = hkdf.Expand(s.p.hash.new, key, info, n)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.ExpandWithLabel(key, label, data, n); !bytes.Equal(got, want) {
			t.Fatalf("ExpandWithLabel: got %x, want %x", got, want)
		}
	})
}

func TestAEAD(t *testing.T) {
	forEach(t, func(t *testing.T, s Suite) {
		a, err := s.AEAD(make([]byte, s.Nk()))
		if err != nil {
			t.Fatal(err)
		}
		if a.NonceSize() != s.Nn() || a.Overhead() != s.Nt() {
			t.Errorf("nonce %d, overhead %d; want %d, %d", a.NonceSize(), a.Overhead(), s.Nn(), s.Nt())
		}
		if _, err := s.AEAD(make([]byte, s.Nk()-1)); err != ErrKey {
			t.Errorf("short key: %v", err)
		}
	})
}

func TestGenerationIsAFunctionOfRandomness(t *testing.T) {
	forEach(t, func(t *testing.T, s Suite) {
		seed := make([]byte, 1024)
		rand.Read(seed)
		for _, f := range []func(r *bytes.Reader) ([]byte, error){
			func(r *bytes.Reader) ([]byte, error) {
				k, err := s.GenerateKeyPair(r)
				if err != nil {
					return nil, err
				}
				return k.Public(), nil
			},
			func(r *bytes.Reader) ([]byte, error) {
				k, err := s.GenerateSigner(r)
				if err != nil {
					return nil, err
				}
				return k.Public(), nil
			},
		} {
			a, err := f(bytes.NewReader(seed))
			if err != nil {
				t.Fatal(err)
			}
			if b, err := f(bytes.NewReader(seed)); err != nil || !bytes.Equal(a, b) {
				t.Errorf("same randomness, other key: %v", err)
			}
			if _, err := f(bytes.NewReader(seed[:8])); err == nil {
				t.Error("short randomness was accepted")
			}
		}
	})
}

func TestUnknownSuites(t *testing.T) {
	for _, id := range []ID{0, 8, 0x0A0A, 0xF000, 0xFFFF} {
		if s, ok := Lookup(id); ok || s != (Suite{}) || s.ID() != 0 {
			t.Errorf("Lookup(%v) = %v", id, s)
		}
	}
}

func TestKeysRedact(t *testing.T) {
	forEach(t, func(t *testing.T, s Suite) {
		k, err := s.GenerateKeyPair(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		sk, err := s.GenerateSigner(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []any{k, sk} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
				if got := fmt.Sprintf(verb, v); !strings.HasPrefix(got, "[") || len(got) > 30 {
					t.Errorf("%s prints %q", verb, got)
				}
			}
		}
	})
}

func TestAllocations(t *testing.T) {
	s, _ := Lookup(X25519AES128GCMSHA256Ed25519)
	secret, dst := make([]byte, s.Nh()), make([]byte, s.Nh())
	k, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 300)
	sig, err := k.SignWithLabel(rand.Reader, "FramedContentTBS", content)
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.NewVerifier(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		max  float64
		f    func()
	}{
		{"ExpandWithLabelInto", 0, func() { s.ExpandWithLabelInto(dst, secret, "key", secret) }},
		{"DeriveTreeSecretInto", 0, func() { s.DeriveTreeSecretInto(dst, secret, "key", 7) }},
		{"VerifyMAC", 0, func() { s.VerifyMAC(secret, secret, content) }},
		{"MAC", 1, func() { s.MAC(secret, content) }},
		{"SignWithLabel", 2, func() { k.SignWithLabel(nil, "FramedContentTBS", content) }},
		{"VerifyWithLabel", 1, func() { v.VerifyWithLabel("FramedContentTBS", content, sig) }},
	} {
		if got := testing.AllocsPerRun(100, c.f); got > c.max {
			t.Errorf("%s: %v allocations, want at most %v", c.name, got, c.max)
		}
	}
}

// FuzzOpenWithLabel feeds a receiver what the network may.
func FuzzOpenWithLabel(f *testing.F) {
	keys := map[ID]*PrivateKey{}
	for _, id := range IDs() {
		s, _ := Lookup(id)
		k, err := s.DeriveKeyPair(make([]byte, 64))
		if err != nil {
			f.Fatal(err)
		}
		keys[id] = k
		enc, ct, err := s.SealWithLabel(k.Public(), "Welcome", nil, []byte("secret"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint16(id), enc, ct)
	}
	f.Fuzz(func(t *testing.T, id uint16, enc, ct []byte) {
		k := keys[ID(id)]
		if k == nil {
			return
		}
		if pt, err := k.OpenWithLabel("Welcome", nil, enc, ct); err == nil && string(pt) != "secret" {
			t.Errorf("forged plaintext %x", pt)
		}
	})
}

// FuzzVerifyWithLabel parses keys and signatures that anyone may have written.
func FuzzVerifyWithLabel(f *testing.F) {
	for _, id := range IDs() {
		s, _ := Lookup(id)
		k, err := s.GenerateSigner(rand.Reader)
		if err != nil {
			f.Fatal(err)
		}
		sig, err := k.SignWithLabel(rand.Reader, "", []byte("content"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint16(id), k.Public(), sig)
	}
	f.Fuzz(func(t *testing.T, id uint16, pub, sig []byte) {
		s, ok := Lookup(ID(id))
		if !ok {
			return
		}
		once := s.VerifyWithLabel(pub, "", []byte("content"), sig)
		k, err := s.NewVerifier(pub)
		if err != nil {
			if once != err {
				t.Errorf("NewVerifier: %v, VerifyWithLabel: %v", err, once)
			}
			return
		}
		if err := k.VerifyWithLabel("", []byte("content"), sig); err != once {
			t.Errorf("Verifier: %v, Suite: %v", err, once)
		}
	})
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 0x10
	return b
}
