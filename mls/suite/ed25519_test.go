package suite

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"
)

// FuzzEd25519 demands the verdict of crypto/ed25519 on any key, message and signature.
func FuzzEd25519(f *testing.F) {
	_, key, err := ed25519.GenerateKey(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	sig := ed25519.Sign(key, []byte("content"))
	f.Add([]byte(key[32:]), []byte("content"), sig)
	for _, a := range oddPoints(f) {
		for _, r := range oddPoints(f) {
			f.Add(a, []byte("content"), append(bytes.Clone(r), sig[32:]...))
			f.Add(a, []byte{}, append(bytes.Clone(r), make([]byte, 32)...))
		}
	}
	f.Fuzz(func(t *testing.T, public, message, signature []byte) {
		sameVerdict(t, public, message, signature)
	})
}

func sameVerdict(t interface{ Fatalf(string, ...any) }, public, message, signature []byte) {
	if len(public) != ed25519.PublicKeySize {
		return
	}
	want := ed25519.Verify(public, message, signature)
	key, err := ed25519Scheme{}.verifier(public)
	if got := err == nil && key.verify(message, signature); got != want {
		t.Fatalf("key %x, message %x, signature %x: %v, crypto/ed25519: %v", public, message, signature, got, want)
	}
}

// oddPoints are encodings of points of small order, some of them not canonical, and of no point at all.
func oddPoints(t testing.TB) (points [][]byte) {
	for _, h := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000080",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000080",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"0200000000000000000000000000000000000000000000000000000000000000",
	} {
		b, err := hex.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		points = append(points, b)
	}
	return points
}

// Signatures that are nearly valid, and those over keys and nonces of small order, which are where implementations differ.
func TestEd25519AgreesWithStandardLibrary(t *testing.T) {
	points := oddPoints(t)
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "seed")
		message := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "message")
		key := ed25519.NewKeyFromSeed(seed)
		public := bytes.Clone(key[32:])
		sig := ed25519.Sign(key, message)
		sameVerdict(t, public, message, sig)
		switch rapid.IntRange(0, 3).Draw(t, "change") {
		case 0:
			public = rapid.SampledFrom(points).Draw(t, "key")
		case 1:
			copy(sig, rapid.SampledFrom(points).Draw(t, "nonce"))
		case 2: // S + L, for which the signature would be valid if S needn't be reduced
			order, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
			carry := 0
			for i := range 32 {
				carry += int(sig[32+i]) + int(order[i])
				sig[32+i], carry = byte(carry), carry>>8
			}
		default:
			sig = flip(sig, rapid.IntRange(0, 63).Draw(t, "at"))
		}
		sameVerdict(t, public, message, sig)
		sameVerdict(t, public, message, sig[:rapid.IntRange(0, 64).Draw(t, "length")])
	})
}
