package mls

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"testing"
)

// The floors are the primitives of cipher suite 1 by themselves, straight from the standard library. What the package
// does around them is to cost less than they do.

// floorMessage is about as long as the FramedContentTBS of a short application message.
var floorMessage = make([]byte, 300)

func BenchmarkFloorSign(b *testing.B) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		ed25519.Sign(key, floorMessage)
	}
}

func BenchmarkFloorVerify(b *testing.B) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	sig := ed25519.Sign(key, floorMessage)
	b.ReportAllocs()
	for b.Loop() {
		if !ed25519.Verify(pub, floorMessage, sig) {
			b.Fatal("signature is not valid")
		}
	}
}

func floorKey(b *testing.B) hpke.PrivateKey {
	key, err := hpke.DHKEM(ecdh.X25519()).GenerateKey()
	if err != nil {
		b.Fatal(err)
	}
	return key
}

func BenchmarkFloorSeal(b *testing.B) {
	pub := floorKey(b).PublicKey()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES128GCM(), floorMessage, floorMessage[:32]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFloorOpen(b *testing.B) {
	key := floorKey(b)
	sealed, err := hpke.Seal(key.PublicKey(), hpke.HKDFSHA256(), hpke.AES128GCM(), floorMessage, floorMessage[:32])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES128GCM(), floorMessage, sealed); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFloorKeyGen(b *testing.B) {
	kem, ikm := hpke.DHKEM(ecdh.X25519()), make([]byte, 32)
	b.ReportAllocs()
	for b.Loop() {
		key, err := kem.DeriveKeyPair(ikm)
		if err != nil {
			b.Fatal(err)
		}
		key.PublicKey().Bytes()
	}
}

func BenchmarkFloorAEAD(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		block, err := aes.NewCipher(floorMessage[:16])
		if err != nil {
			b.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			b.Fatal(err)
		}
		gcm.Seal(nil, floorMessage[:12], floorMessage[:180], nil)
	}
}
