package suite

import (
	"crypto/rand"
	"testing"
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
