package suite

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

type signed struct{ public, content, signature []byte }

func (s Suite) signedBatch(t testing.TB, n int) []signed {
	list := make([]signed, n)
	for i := range list {
		key, err := s.GenerateSigner(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		content := binary.BigEndian.AppendUint64([]byte("content "), uint64(i))
		signature, err := key.SignWithLabel(rand.Reader, "Label", content)
		if err != nil {
			t.Fatal(err)
		}
		list[i] = signed{key.Public(), content, signature}
	}
	return list
}

func (s Suite) verifyBatch(list []signed) bool {
	b, ok := s.NewBatch(len(list))
	if !ok {
		return false
	}
	for _, e := range list {
		b.AddWithLabel(e.public, "Label", e.content, e.signature)
	}
	return b.Verify()
}

func TestBatch(t *testing.T) {
	s, _ := Lookup(X25519AES128GCMSHA256Ed25519)
	good := s.signedBatch(t, 20)
	if !s.verifyBatch(good) || !s.verifyBatch(good[:1]) {
		t.Fatal("valid signatures refused")
	}
	if s.verifyBatch(nil) {
		t.Error("an empty batch is valid")
	}
	for _, id := range IDs() {
		s, _ := Lookup(id)
		_, ed25519 := s.p.sig.(ed25519Scheme)
		if _, ok := s.NewBatch(1); ok != ed25519 {
			t.Errorf("%v: batch %v", id, ok)
		}
	}
	// One octet that differs anywhere makes the batch invalid.
	rapid.Check(t, func(t *rapid.T) {
		list := append([]signed(nil), good...)
		e := &list[rapid.IntRange(0, len(list)-1).Draw(t, "entry")]
		field := rapid.SampledFrom([]*[]byte{&e.public, &e.content, &e.signature}).Draw(t, "field")
		*field = bytes.Clone(*field)
		switch i := rapid.IntRange(-1, len(*field)-1).Draw(t, "octet"); i {
		case -1:
			*field = (*field)[:len(*field)-1]
		default:
			(*field)[i] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		}
		if s.verifyBatch(list) {
			t.Fatal("accepted")
		}
	})
}

// The documented difference: a key of small order signs anything for a batch, and
// not everything for VerifyWithLabel.
func TestBatchIsCofactored(t *testing.T) {
	s, _ := Lookup(X25519AES128GCMSHA256Ed25519)
	order2 := bytes.Repeat([]byte{0xff}, 32) // y = -1
	order2[0], order2[31] = 0xec, 0x7f
	signature := make([]byte, 64) // R is the neutral element, S is 0
	signature[0] = 1
	single := 0
	for i := range 64 {
		content := []byte{byte(i)}
		if !s.verifyBatch([]signed{{order2, content, signature}}) {
			t.Fatal("refused by the batch")
		}
		if s.VerifyWithLabel(order2, "Label", content, signature) == nil {
			single++
		}
	}
	if single == 0 || single == 64 {
		t.Errorf("%d of 64 are valid one by one", single)
	}
}

func BenchmarkBatch(b *testing.B) {
	s, _ := Lookup(X25519AES128GCMSHA256Ed25519)
	for _, n := range []int{1, 4, 16, 32, 64, 94, 128, 256, 512} {
		b.Run(fmt.Sprintf("signatures=%d", n), func(b *testing.B) {
			list := s.signedBatch(b, n)
			for b.Loop() {
				if !s.verifyBatch(list) {
					b.Fatal("refused")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/signature")
		})
	}
}
