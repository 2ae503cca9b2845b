package suite

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"
)

var x25519Suites = []ID{X25519AES128GCMSHA256Ed25519, X25519ChaCha20Poly1305SHA256Ed25519}

// standardSuite is the same suite with HPKE from crypto/hpke.
func standardSuite(s Suite) Suite {
	p := *s.p
	p.kem = stdKEM{hpke.DHKEM(ecdh.X25519()), 32, false}
	return Suite{&p}
}

// What one implementation seals or derives, the other must open or derive too, and refuse what it refuses.
func TestX25519AgreesWithStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		own, _ := Lookup(rapid.SampledFrom(x25519Suites).Draw(t, "suite"))
		std := standardSuite(own)
		ikm := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "ikm")
		a, err := own.DeriveKeyPair(ikm)
		if err != nil {
			t.Fatal(err)
		}
		b, err := std.DeriveKeyPair(ikm)
		if err != nil {
			t.Fatal(err)
		}
		same := func() {
			x, _ := a.Bytes()
			y, _ := b.Bytes()
			if !bytes.Equal(x, y) || !bytes.Equal(a.Public(), b.Public()) {
				t.Fatalf("keys %x, %x; public %x, %x", x, y, a.Public(), b.Public())
			}
		}
		same()
		scalar := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "scalar")
		if a, err = own.ParsePrivateKey(scalar); err != nil {
			t.Fatal(err)
		}
		if b, err = std.ParsePrivateKey(scalar); err != nil {
			t.Fatal(err)
		}
		same()

		context := rapid.SliceOfN(rapid.Byte(), 0, 700).Draw(t, "context")
		plaintext := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "plaintext")
		exportLength := rapid.IntRange(0, 200).Draw(t, "length")
		for _, c := range []struct {
			from Suite
			to   *PrivateKey
		}{{own, b}, {std, a}} {
			enc, ct, err := c.from.SealWithLabel(c.to.Public(), "Welcome", context, plaintext)
			if err != nil {
				t.Fatal(err)
			}
			if pt, err := c.to.OpenWithLabel("Welcome", context, enc, ct); err != nil || !bytes.Equal(pt, plaintext) {
				t.Fatalf("open: %x, %v", pt, err)
			}
			enc, sent, err := c.from.SendExport(c.to.Public(), context, "exporter", exportLength)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.to.ReceiveExport(context, enc, "exporter", exportLength); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("export: %x, %v; sent %x", got, err, sent)
			}
		}
	})
}

// The scalar multiplication must agree with crypto/ecdh on any scalar and any u-coordinate, those of small order, of the
// twist, not reduced, or with the highest bit set among them.
func TestX25519AgreesOnEveryPoint(t *testing.T) {
	check := func(t interface {
		Fatalf(string, ...any)
		Fatal(...any)
	}, scalar, point [32]byte) {
		k, err := ecdh.X25519().NewPrivateKey(scalar[:])
		if err != nil {
			t.Fatal(err)
		}
		p, err := ecdh.X25519().NewPublicKey(point[:])
		if err != nil {
			t.Fatal(err)
		}
		want, err := k.ECDH(p)
		var got [32]byte
		if ok := x25519(&got, &scalar, &point); ok != (err == nil) {
			t.Fatalf("scalar %x, point %x: %v, crypto/ecdh: %v", scalar, point, ok, err)
		}
		if err == nil && !bytes.Equal(got[:], want) {
			t.Fatalf("scalar %x, point %x: %x, want %x", scalar, point, got, want)
		}
	}
	// p-1, p, p+1 and their likes, and the points of order 8 (RFC 7748, https://cr.yp.to/ecdh.html#validate).
	for _, h := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"efffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"0900000000000000000000000000000000000000000000000000000000000000",
		"0200000000000000000000000000000000000000000000000000000000000000",
	} {
		b, _ := hex.DecodeString(h)
		for _, high := range []byte{0, 0x80} {
			point := [32]byte(b)
			point[31] |= high
			var scalar [32]byte
			check(t, scalar, point)
			rand.Read(scalar[:])
			check(t, scalar, point)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		check(t, [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "scalar")),
			[32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "point")))
	})
}

// A key that would make the shared secret zero is refused, by whoever seals and whoever opens.
func TestX25519SmallOrder(t *testing.T) {
	for _, id := range x25519Suites {
		s, _ := Lookup(id)
		k, err := s.GenerateKeyPair(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		zero := make([]byte, 32)
		if _, _, err := s.SealWithLabel(zero, "Welcome", nil, nil); err != ErrKey {
			t.Errorf("%v: seal: %v, want ErrKey", id, err)
		}
		if _, _, err := s.SendExport(zero, nil, "", 32); err != ErrKey {
			t.Errorf("%v: export: %v, want ErrKey", id, err)
		}
		if _, err := k.OpenWithLabel("Welcome", nil, zero, make([]byte, 16)); err != ErrOpen {
			t.Errorf("%v: open: %v, want ErrOpen", id, err)
		}
		if _, err := k.ReceiveExport(nil, zero, "", 32); err != ErrOpen {
			t.Errorf("%v: receive: %v, want ErrOpen", id, err)
		}
	}
}

// The key pair of the receiver in RFC 9180 appendix A.1.
func TestX25519DeriveVector(t *testing.T) {
	s, _ := Lookup(X25519AES128GCMSHA256Ed25519)
	ikm, _ := hex.DecodeString("6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037")
	k, err := s.DeriveKeyPair(ikm)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(k.Public()); got != "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d" {
		t.Errorf("public key %s", got)
	}
}
