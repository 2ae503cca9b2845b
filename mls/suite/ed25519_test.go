package suite

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/hex"
	"testing"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
	"pgregory.net/rapid"
)

// sameVerdict compares what this package says of a signature with what crypto/ed25519 does: at first sight, with the table that a
// key has after some signatures, and in a batch, which must accept whatever is accepted alone.
func sameVerdict(t interface{ Errorf(string, ...any) }, public, message, signature []byte) (valid bool) {
	s, _ := Lookup(X25519AES128GCMSHA256Ed25519)
	valid = len(public) == ed25519.PublicKeySize && ed25519.Verify(public, labelled("", message), signature)
	if err := s.VerifyWithLabel(public, "", message, signature); (err == nil) != valid {
		t.Errorf("key %x, message %x, signature %x: %v, crypto/ed25519 says %v", public, message, signature, err, valid)
	}
	if k, err := s.NewVerifier(public); err == nil {
		for i := range 4 {
			if err := k.VerifyWithLabel("", message, signature); (err == nil) != valid {
				t.Errorf("key %x, message %x, signature %x, time %d: %v, crypto/ed25519 says %v", public, message, signature, i, err, valid)
			}
		}
	}
	if b, _ := s.NewBatch(1); valid {
		if b.AddWithLabel(public, "", message, signature); !b.Verify() {
			t.Errorf("key %x, message %x, signature %x: refused by a batch", public, message, signature)
		}
	}
	return valid
}

func TestEd25519AgreesWithStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, _ := Lookup(X25519AES128GCMSHA256Ed25519)
		seed := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "seed")
		message := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "message")
		k, err := s.NewSigner(seed)
		if err != nil {
			t.Fatal(err)
		}
		std := ed25519.NewKeyFromSeed(seed)
		signature, err := k.SignWithLabel(nil, "", message)
		if err != nil {
			t.Fatal(err)
		}
		if want := ed25519.Sign(std, labelled("", message)); !bytes.Equal(signature, want) || !bytes.Equal(k.Public(), std[32:]) {
			t.Fatalf("signature %x, want %x; key %x, want %x", signature, want, k.Public(), std[32:])
		}
		if !sameVerdict(t, k.Public(), message, signature) {
			t.Fatal("own signature refused")
		}
		public := bytes.Clone(k.Public())
		field := rapid.SampledFrom([][]byte{public, signature}).Draw(t, "field")
		field[rapid.IntRange(0, len(field)-1).Draw(t, "octet")] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		if sameVerdict(t, public, message, signature) {
			t.Fatal("changed signature accepted")
		}
		sameVerdict(t, public, message, signature[:rapid.IntRange(0, 64).Draw(t, "length")])
	})
}

// ed25519Encodings are encodings of points of small order, others of no reduced y or a needless sign, and some that are no point.
func ed25519Encodings(t testing.TB) (list [][]byte) {
	for _, h := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000", // order 1
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
		"0000000000000000000000000000000000000000000000000000000000000000", // order 4
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // 1 + p
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p
		"efffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // 2 + p
		"0200000000000000000000000000000000000000000000000000000000000000",
		"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		b, err := hex.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		negative := bytes.Clone(b)
		negative[31] |= 0x80
		list = append(list, b, negative)
	}
	return list
}

// Whoever owns a key can choose it, R and S so that implementations disagree, and members with them.
func TestEd25519HostileKeys(t *testing.T) {
	order, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	below, above := bytes.Clone(order), bytes.Clone(order)
	below[0]--
	above[0]++
	scalars := [][]byte{make([]byte, 32), order, below, above, bytes.Repeat([]byte{0xff}, 32)}
	accepted := 0
	for _, public := range ed25519Encodings(t) {
		for _, r := range ed25519Encodings(t) {
			for _, s := range scalars {
				for m := range 9 {
					if sameVerdict(t, public, []byte{byte(m)}, append(bytes.Clone(r), s...)) {
						accepted++
					}
				}
			}
		}
	}
	if accepted == 0 {
		t.Error("no signature of small order was accepted: the test compares nothing")
	}
}

// A signature's key, or R, may have a part of small order: it is valid or not by what the hash happens to be.
func TestEd25519MixedOrder(t *testing.T) {
	var eighth curve.EdwardsPoint // of order 8
	compressed, err := curve.NewCompressedEdwardsYFromBytes(ed25519Encodings(t)[6])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := eighth.SetCompressedY(compressed); err != nil {
		t.Fatal(err)
	}
	valid, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) *scalar.Scalar {
			wide := rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(t, name)
			k, err := scalar.NewFromBytesModOrderWide(wide)
			if err != nil {
				t.Fatal(err)
			}
			return k
		}
		point := func(k *scalar.Scalar, torsion int) []byte {
			var p curve.EdwardsPoint
			p.MulBasepoint(curve.ED25519_BASEPOINT_TABLE, k)
			for range torsion {
				p.Add(&p, &eighth)
			}
			b, err := curve.NewCompressedEdwardsY().SetEdwardsPoint(&p).MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		a, r := draw("a"), draw("r")
		public := point(a, rapid.IntRange(0, 7).Draw(t, "of the key"))
		first := point(r, rapid.IntRange(0, 7).Draw(t, "of R"))
		message := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "message")
		digest := sha512.Sum512(append(append(bytes.Clone(first), public...), labelled("", message)...))
		k, err := scalar.NewFromBytesModOrderWide(digest[:])
		if err != nil {
			t.Fatal(err)
		}
		s, err := k.Mul(k, a).Add(k, r).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if sameVerdict(t, public, message, append(first, s...)) {
			valid++
		} else {
			refused++
		}
	})
	if valid == 0 || refused == 0 {
		t.Errorf("%d valid, %d refused: the test compares nothing", valid, refused)
	}
}

// FuzzEd25519 compares verdicts with crypto/ed25519.
func FuzzEd25519(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	f.Add([]byte(key[32:]), []byte("content"), ed25519.Sign(key, labelled("", []byte("content"))))
	for _, e := range ed25519Encodings(f) {
		f.Add(e, []byte("content"), append(bytes.Clone(e), make([]byte, 32)...))
	}
	f.Fuzz(func(t *testing.T, public, message, signature []byte) { sameVerdict(t, public, message, signature) })
}
