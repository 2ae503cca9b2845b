package suite

import (
	"crypto/rand"
	"testing"
	"time"
)

func BenchmarkExpandWithLabel(b *testing.B) {
	s, _ := Lookup(X25519AES128GCMSHA256Ed25519)
	secret, dst := make([]byte, s.Nh()), make([]byte, s.Nh())
	b.ReportAllocs()
	for b.Loop() {
		s.ExpandWithLabelInto(dst, secret, "secret", secret[:4])
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, id := range IDs() {
		b.Run(id.String(), func(b *testing.B) {
			s, _ := Lookup(id)
			k, err := s.GenerateKeyPair(rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := s.SealWithLabel(k.Public(), "UpdatePathNode", make([]byte, 200), make([]byte, s.Nh())); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSign(b *testing.B) {
	for _, id := range IDs() {
		b.Run(id.String(), func(b *testing.B) {
			s, _ := Lookup(id)
			k, err := s.GenerateSigner(rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.SignWithLabel(rand.Reader, "FramedContentTBS", make([]byte, 200)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPrimitives reports the least time of each primitive of suite 1, which other work on the machine disturbs least.
// "mls-rs-peer primitives" in interop/rust prints the same of AWS-LC.
func BenchmarkPrimitives(b *testing.B) {
	s, _ := Lookup(X25519AES128GCMSHA256Ed25519)
	message := make([]byte, 300)
	signer, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	signature, err := signer.SignWithLabel(rand.Reader, "", message)
	if err != nil {
		b.Fatal(err)
	}
	verifier, err := s.NewVerifier(signer.Public())
	if err != nil {
		b.Fatal(err)
	}
	key, err := s.GenerateKeyPair(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	enc, sealed, err := s.SealWithLabel(key.Public(), "", message, message[:32])
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		op   func() error
	}{
		{"sign", func() error { _, err := signer.SignWithLabel(rand.Reader, "", message); return err }},
		{"verify", func() error { return verifier.VerifyWithLabel("", message, signature) }},
		{"seal", func() error { _, _, err := s.SealWithLabel(key.Public(), "", message, message[:32]); return err }},
		{"open", func() error { _, err := key.OpenWithLabel("", message, enc, sealed); return err }},
		{"derive", func() error { _, err := s.DeriveKeyPair(message[:32]); return err }},
	} {
		b.Run(c.name, func(b *testing.B) {
			least := time.Hour
			for b.Loop() {
				start := time.Now()
				if err := c.op(); err != nil {
					b.Fatal(err)
				}
				least = min(least, time.Since(start))
			}
			b.ReportMetric(float64(least.Nanoseconds()), "least-ns/op")
		})
	}
}
