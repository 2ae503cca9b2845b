package content

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"net/url"

	"golang.org/x/crypto/chacha20poly1305"
)

// AEAD is an IANA AEAD algorithm number (RFC 5116 §6), 0 for none.
type AEAD uint16

const (
	AEADNone             AEAD = 0
	AEADAES128GCM        AEAD = 1 // mandatory to implement (C §4.5)
	AEADAES256GCM        AEAD = 2
	AEADChaCha20Poly1305 AEAD = 29
)

func (a AEAD) String() string {
	switch a {
	case AEADNone:
		return "none"
	case AEADAES128GCM:
		return "AES-128-GCM"
	case AEADAES256GCM:
		return "AES-256-GCM"
	case AEADChaCha20Poly1305:
		return "ChaCha20-Poly1305"
	}
	return fmt.Sprintf("unknown(%d)", uint16(a))
}

// KeyLength is K_LEN in octets, 0 if the algorithm is not supported.
func (a AEAD) KeyLength() int {
	switch a {
	case AEADAES128GCM:
		return 16
	case AEADAES256GCM, AEADChaCha20Poly1305:
		return 32
	}
	return 0
}

// NonceLength is N_LEN in octets, 0 if the algorithm is not supported.
func (a AEAD) NonceLength() int {
	if a.KeyLength() == 0 {
		return 0
	}
	return 12
}

func (a AEAD) open(key []byte) (cipher.AEAD, error) {
	if a == AEADChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Check says why the content can't be downloaded, or nil (Decisions 106, 107).
// Such a part is shown as undownloadable; the message around it stands.
func (p *ExternalPart) Check() error {
	if u, err := url.Parse(p.URL); err != nil || u.Scheme != "https" || u.Host == "" {
		return broken(ErrNotHTTPS, "an https URL", p.URL)
	}
	switch p.HashAlg {
	case 0:
		if len(p.ContentHash) != 0 {
			return broken(ErrHashLength, 0, len(p.ContentHash))
		}
	case HashSHA256:
		if len(p.ContentHash) != sha256.Size {
			return broken(ErrHashLength, sha256.Size, len(p.ContentHash))
		}
	default:
		return broken(ErrHashAlg, HashSHA256, p.HashAlg)
	}
	if p.EncAlg == AEADNone {
		if n := len(p.Key) + len(p.Nonce) + len(p.AAD); n != 0 {
			return broken(ErrNotEncrypted, "0 octets", n)
		}
		return nil
	}
	k, n := p.EncAlg.KeyLength(), p.EncAlg.NonceLength()
	switch {
	case k == 0:
		return broken(ErrEncAlg, "1, 2 or 29", uint16(p.EncAlg))
	case len(p.Key) != k:
		return broken(ErrKeyLength, k, len(p.Key))
	case len(p.Nonce) != n:
		return broken(ErrNonceLength, n, len(p.Nonce))
	}
	return nil
}

// Seal encrypts plaintext under a fresh key and nonce read from rand, and
// returns the octets to upload. It sets EncAlg, Key, Nonce, AAD, Size, HashAlg
// and ContentHash; size and hash are those of the octets uploaded (Decision 106).
// AEADNone leaves the octets as they are.
func (p *ExternalPart) Seal(rand io.Reader, alg AEAD, plaintext []byte) ([]byte, error) {
	k, n := alg.KeyLength(), alg.NonceLength()
	if k == 0 && alg != AEADNone {
		return nil, broken(ErrEncAlg, "0, 1, 2 or 29", uint16(alg))
	}
	secret := make([]byte, k+n)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return nil, fmt.Errorf("content: key of external content: %w", err)
	}
	p.EncAlg, p.Key, p.Nonce, p.AAD = alg, secret[:k:k], secret[k:], nil
	sealed := plaintext
	if alg != AEADNone {
		aead, err := alg.open(p.Key)
		if err != nil {
			return nil, fmt.Errorf("content: %w", err)
		}
		sealed = aead.Seal(nil, p.Nonce, plaintext, p.AAD)
	}
	hash := sha256.Sum256(sealed)
	p.Size, p.HashAlg, p.ContentHash = uint64(len(sealed)), HashSHA256, hash[:]
	return sealed, nil
}

// Open checks downloaded octets against Size and ContentHash and decrypts them.
// Both are those of the octets at the URL; if they don't agree they are tried
// on the plaintext, as another implementation fills them (Decision 106). Any
// error means that the content must not be shown.
func (p *ExternalPart) Open(downloaded []byte) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	outer := p.matches(downloaded)
	if p.EncAlg == AEADNone {
		if outer != nil {
			return nil, outer
		}
		return downloaded, nil
	}
	aead, err := p.EncAlg.open(p.Key)
	if err != nil {
		return nil, fmt.Errorf("content: %w", err)
	}
	plaintext, err := aead.Open(nil, p.Nonce, downloaded, p.AAD)
	if err != nil {
		if outer != nil {
			return nil, outer
		}
		return nil, broken(ErrAuthentication, "a valid tag", "another")
	}
	if outer != nil && p.matches(plaintext) != nil {
		return nil, outer
	}
	return plaintext, nil
}

// matches checks octets against Size and ContentHash where those are given.
func (p *ExternalPart) matches(b []byte) error {
	if p.Size != 0 && p.Size != uint64(len(b)) {
		return broken(ErrSize, p.Size, len(b))
	}
	if p.HashAlg == HashSHA256 {
		hash := sha256.Sum256(b)
		if subtle.ConstantTimeCompare(hash[:], p.ContentHash) == 0 {
			return broken(ErrContentHash, HexBytes(p.ContentHash), HexBytes(hash[:]))
		}
	}
	return nil
}
