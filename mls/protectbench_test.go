package mls

import (
	"crypto/rand"
	"testing"

	"github.com/comity-im/comity/tlspl"
)

func BenchmarkProtectPrivate(b *testing.B) {
	p := newPair(b, 1)
	f := p.content(ContentApplication)
	f.ApplicationData = make([]byte, 100)
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		a, err := signContent(rand.Reader, p.signer, WireFormatPrivateMessage, f, p.context)
		if err != nil {
			b.Fatal(err)
		}
		m, err := p.sender.protectPrivate(rand.Reader, a, 0)
		if err != nil {
			b.Fatal(err)
		}
		msg := Message(m)
		if _, err := tlspl.Append(buf, &msg); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenPrivate(b *testing.B) {
	p := newPair(b, 1)
	f := p.content(ContentApplication)
	f.ApplicationData = make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		msg := Message(p.private(b, f))
		wire := marshal(&msg)
		b.StartTimer()
		var in MLSMessage
		if err := tlspl.Unmarshal(wire, &in); err != nil {
			b.Fatal(err)
		}
		v, err := p.receiver.openPrivate(in.PrivateMessage, anyMember)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.verifyBytes(p.signer.Public()); err != nil {
			b.Fatal(err)
		}
	}
}
