package content

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

func TestExternalRoundTrip(t *testing.T) {
	plain := []byte("a picture of a cat")
	for _, alg := range []AEAD{AEADNone, AEADAES128GCM, AEADAES256GCM, AEADChaCha20Poly1305} {
		t.Run(alg.String(), func(t *testing.T) {
			p := ExternalPart{ContentType: "image/png", URL: "https://example.com/cat"}
			sealed, err := p.Seal(chacha(7), alg, plain)
			if err != nil {
				t.Fatal(err)
			}
			overhead := 16
			if alg == AEADNone {
				overhead = 0
			}
			if len(p.Key) != alg.KeyLength() || len(p.Nonce) != alg.NonceLength() || p.Size != uint64(len(plain)+overhead) || len(sealed) != len(plain)+overhead {
				t.Errorf("key %d, nonce %d, size %d, sealed %d", len(p.Key), len(p.Nonce), p.Size, len(sealed))
			}
			if got, err := p.Open(sealed); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("opens to %q, %v", got, err)
			}
			bad := bytes.Clone(sealed)
			bad[0] ^= 1
			if _, err := p.Open(bad); !errors.Is(err, ErrContentHash) {
				t.Errorf("one bit flipped: %v", err)
			}
			if _, err := p.Open(sealed[1:]); !errors.Is(err, ErrSize) {
				t.Errorf("one octet less: %v", err)
			}

			// Through the container.
			c, err := Composer{SenderURI: bob, RoomURI: room, Rand: chacha(8)}.Attach(p)
			if err != nil {
				t.Fatal(err)
			}
			b, err := c.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			again, err := Unmarshal(b)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := again.NestedPart.Part.(*ExternalPart).Open(sealed); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("after transport it opens to %q, %v", got, err)
			}
		})
	}
}

// TestExternalKnownAnswer: AES-128-GCM test case 2 of the GCM specification and
// RFC 8439 §2.8.2, with the tag appended as RFC 5116 has it.
func TestExternalKnownAnswer(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tests := []struct {
		p             ExternalPart
		sealed, plain []byte
	}{
		{
			ExternalPart{EncAlg: AEADAES128GCM, Key: make([]byte, 16), Nonce: make([]byte, 12)},
			unhex("0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf"),
			make([]byte, 16),
		},
		{
			ExternalPart{
				EncAlg: AEADChaCha20Poly1305,
				Key:    unhex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"),
				Nonce:  unhex("070000004041424344454647"),
				AAD:    unhex("50515253c0c1c2c3c4c5c6c7"),
			},
			unhex("d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"),
			[]byte("Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."),
		},
	}
	for _, test := range tests {
		test.p.URL = "https://example.com/x"
		got, err := test.p.Open(test.sealed)
		if err != nil || !bytes.Equal(got, test.plain) {
			t.Errorf("%v opens to %x, %v", test.p.EncAlg, got, err)
		}
		test.p.AAD = append(test.p.AAD, 0)
		if _, err := test.p.Open(test.sealed); !errors.Is(err, ErrAuthentication) {
			t.Errorf("%v with another aad: %v", test.p.EncAlg, err)
		}
	}
}

// TestExternalHashOfPlaintext: another implementation hashes and measures what
// is inside (Decision 106).
func TestExternalHashOfPlaintext(t *testing.T) {
	plain := []byte("a picture of a cat")
	var inner ExternalPart
	if _, err := inner.Seal(chacha(1), AEADNone, plain); err != nil {
		t.Fatal(err)
	}
	p := ExternalPart{URL: "https://example.com/cat"}
	sealed, err := p.Seal(chacha(7), AEADAES128GCM, plain)
	if err != nil {
		t.Fatal(err)
	}
	p.Size, p.ContentHash = inner.Size, inner.ContentHash
	if got, err := p.Open(sealed); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("opens to %q, %v", got, err)
	}
	p.ContentHash = make([]byte, 32)
	if _, err := p.Open(sealed); !errors.Is(err, ErrSize) {
		t.Errorf("neither hash fits: %v", err)
	}
}

func TestExternalCheck(t *testing.T) {
	tests := []struct {
		name string
		edit func(*ExternalPart)
		want error
	}{
		{"as it is", func(*ExternalPart) {}, nil},
		{"http", func(p *ExternalPart) { p.URL = "http://example.com/" }, ErrNotHTTPS},
		{"relative", func(p *ExternalPart) { p.URL = "/etc/passwd" }, ErrNotHTTPS},
		{"no host", func(p *ExternalPart) { p.URL = "https:///x" }, ErrNotHTTPS},
		{"no hash", func(p *ExternalPart) { p.HashAlg, p.ContentHash = 0, nil }, nil},
		{"hash without algorithm", func(p *ExternalPart) { p.HashAlg = 0 }, ErrHashLength},
		{"short hash", func(p *ExternalPart) { p.ContentHash = p.ContentHash[1:] }, ErrHashLength},
		{"another hash", func(p *ExternalPart) { p.HashAlg = 7 }, ErrHashAlg},
		{"short key", func(p *ExternalPart) { p.Key = p.Key[1:] }, ErrKeyLength},
		{"long nonce", func(p *ExternalPart) { p.Nonce = append(p.Nonce, 0) }, ErrNonceLength},
		{"another algorithm", func(p *ExternalPart) { p.EncAlg = 3 }, ErrEncAlg},
		{"key without algorithm", func(p *ExternalPart) { p.EncAlg, p.Nonce = 0, nil }, ErrNotEncrypted},
		{"aad without algorithm", func(p *ExternalPart) { p.EncAlg, p.Key, p.Nonce, p.AAD = 0, nil, nil, []byte{1} }, ErrNotEncrypted},
	}
	for _, test := range tests {
		p := ExternalPart{URL: "https://example.com/cat"}
		if _, err := p.Seal(chacha(7), AEADAES128GCM, nil); err != nil {
			t.Fatal(err)
		}
		test.edit(&p)
		if err := p.Check(); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if test.want == nil {
			continue
		}
		if _, err := p.Open(make([]byte, 16)); !errors.Is(err, test.want) {
			t.Errorf("%s: Open says %v", test.name, err)
		}
		if _, err := (Composer{SenderURI: bob, RoomURI: room, Rand: chacha(8)}).Attach(p); !errors.Is(err, test.want) {
			t.Errorf("%s: Attach says %v", test.name, err)
		}
	}
	if _, err := new(ExternalPart).Seal(chacha(1), 3, nil); !errors.Is(err, ErrEncAlg) {
		t.Error(err)
	}
}
