package suite

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hpke"

	"golang.org/x/crypto/chacha20poly1305"
)

type aeadAlg struct {
	id         uint16 // RFC 9180 §7.3
	hpke       hpke.AEAD
	nk, nn, nt int
	open       func(key []byte) (cipher.AEAD, error)
}

var (
	aes128GCM        = aeadAlg{0x0001, hpke.AES128GCM(), 16, 12, 16, newGCM}
	aes256GCM        = aeadAlg{0x0002, hpke.AES256GCM(), 32, 12, 16, newGCM}
	chaCha20Poly1305 = aeadAlg{0x0003, hpke.ChaCha20Poly1305(), 32, 12, 16, chacha20poly1305.New}
)

func newGCM(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// AEAD returns the suite's AEAD under a key of [Suite.Nk] octets, [ErrKey] for
// another length.
func (s Suite) AEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != s.p.aead.nk {
		return nil, ErrKey
	}
	a, err := s.p.aead.open(key)
	if err != nil {
		return nil, ErrKey
	}
	return a, nil
}
