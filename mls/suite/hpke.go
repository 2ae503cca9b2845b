package suite

import (
	"crypto/hpke"
	"errors"
	"io"
	"log/slog"
)

// Errors for keys and ciphertexts. They say nothing of the octets at fault.
var (
	// ErrKey: a key isn't one of the suite, by its length or its value.
	ErrKey = errors.New("mls/suite: malformed key")
	// ErrOpen: a ciphertext doesn't open under this key, label and context.
	ErrOpen = errors.New("mls/suite: decryption failed")
)

// kemScheme is a KEM together with the rest of HPKE over it.
type kemScheme interface {
	// nsk is the octets of randomness for a new key, at least 32.
	nsk() int
	derive(ikm []byte) (kemPrivate, error)
	parsePrivate(key []byte) (kemPrivate, error)
	checkPublic(key []byte) error
	// sealer does once what each seal with info has in common.
	sealer(p *params, info []byte) sealFunc
	// sendExport is SendExportBase of RFC 9180 §6.2.
	sendExport(p *params, pub, info []byte, exporterContext string, length int) (kemOutput, secret []byte, err error)
}

// A sealFunc is SealBase of RFC 9180 §6.1 with a certain info and an empty aad.
type sealFunc func(pub, plaintext []byte) (kemOutput, ciphertext []byte, err error)

type kemPrivate interface {
	bytes() ([]byte, error)
	public() ([]byte, error)
	open(p *params, info, kemOutput, ciphertext []byte) ([]byte, error)
	receiveExport(p *params, info, kemOutput []byte, exporterContext string, length int) ([]byte, error)
}

// PrivateKey is an HPKE private key, parsed, with its public key. It is
// immutable and safe for concurrent use.
type PrivateKey struct {
	p      *params
	key    kemPrivate
	public []byte
}

func newPrivateKey(p *params, key kemPrivate) (*PrivateKey, error) {
	pub, err := key.public()
	if err != nil {
		return nil, ErrKey
	}
	return &PrivateKey{p, key, pub}, nil
}

// DeriveKeyPair is KEM.DeriveKeyPair of RFC 9180 §7.1.3. Any length of ikm will
// do; MLS passes [Suite.Nh] octets.
func (s Suite) DeriveKeyPair(ikm []byte) (*PrivateKey, error) {
	key, err := s.p.kem.derive(ikm)
	if err != nil {
		return nil, ErrKey
	}
	return newPrivateKey(s.p, key)
}

// GenerateKeyPair returns a new HPKE key, derived from octets of rand.
func (s Suite) GenerateKeyPair(rand io.Reader) (*PrivateKey, error) {
	var buf [80]byte
	ikm := buf[:s.p.kem.nsk()]
	if _, err := io.ReadFull(rand, ikm); err != nil {
		return nil, err
	}
	defer clear(ikm)
	return s.DeriveKeyPair(ikm)
}

// ParsePrivateKey returns the HPKE key that [PrivateKey.Bytes] gave, [ErrKey] if
// it isn't one. The leading zeros of a scalar of a NIST curve may be missing.
func (s Suite) ParsePrivateKey(key []byte) (*PrivateKey, error) {
	k, err := s.p.kem.parsePrivate(key)
	if err != nil {
		return nil, ErrKey
	}
	return newPrivateKey(s.p, k)
}

// CheckPublicKey returns [ErrKey] unless key is an HPKE public key of the suite.
func (s Suite) CheckPublicKey(key []byte) error {
	if s.p.kem.checkPublic(key) != nil {
		return ErrKey
	}
	return nil
}

// Bytes returns the key as SerializePrivateKey of RFC 9180 §4 does.
func (k *PrivateKey) Bytes() ([]byte, error) { return k.key.bytes() }

// Public returns the serialized public key. The caller must not change it.
func (k *PrivateKey) Public() []byte { return k.public }

// String hides the key.
func (k *PrivateKey) String() string { return "[HPKE private key]" }

// GoString hides the key.
func (k *PrivateKey) GoString() string { return k.String() }

// LogValue hides the key.
func (k *PrivateKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// SealWithLabel is EncryptWithLabel of RFC 9420 §5.1.3. The label goes without
// its "MLS 1.0 ". The error is [ErrKey] if pub isn't a key of the suite.
func (s Suite) SealWithLabel(pub []byte, label string, context, plaintext []byte) (kemOutput, ciphertext []byte, err error) {
	return s.NewSealer(label, context).Seal(pub, plaintext)
}

// A Sealer seals to many keys with one label and context. The context may be
// long, a GroupContext with all participants of a room for instance: with X25519 a
// Sealer hashes it once and not for each key. It is immutable and safe for
// concurrent use.
type Sealer struct{ seal sealFunc }

// NewSealer returns a Sealer. The label goes without its "MLS 1.0 ".
func (s Suite) NewSealer(label string, context []byte) Sealer {
	return Sealer{s.p.kem.sealer(s.p, labelled(label, context))}
}

// Seal is EncryptWithLabel of RFC 9420 §5.1.3. The error is [ErrKey] if pub isn't
// a key of the suite.
func (l Sealer) Seal(pub, plaintext []byte) (kemOutput, ciphertext []byte, err error) {
	return l.seal(pub, plaintext)
}

// OpenWithLabel is DecryptWithLabel of RFC 9420 §5.1.3; the error is [ErrOpen].
func (k *PrivateKey) OpenWithLabel(label string, context, kemOutput, ciphertext []byte) ([]byte, error) {
	return k.key.open(k.p, labelled(label, context), kemOutput, ciphertext)
}

// SendExport sets an HPKE context up to pub with this info and exports length
// octets of it (RFC 9180 §6.2), as external initialization does
// (RFC 9420 §8.3). The error is [ErrKey] if pub isn't a key of the suite.
func (s Suite) SendExport(pub, info []byte, exporterContext string, length int) (kemOutput, secret []byte, err error) {
	return s.p.kem.sendExport(s.p, pub, info, exporterContext, length)
}

// ReceiveExport is the receiving side of [Suite.SendExport]; the error is
// [ErrOpen] if kemOutput isn't one of the suite.
func (k *PrivateKey) ReceiveExport(info, kemOutput []byte, exporterContext string, length int) ([]byte, error) {
	return k.key.receiveExport(k.p, info, kemOutput, exporterContext, length)
}

// stdKEM is a KEM of crypto/hpke.
type stdKEM struct {
	kem    hpke.KEM
	seed   int
	scalar bool // a private key is a scalar of seed octets
}

type stdPrivate struct{ key hpke.PrivateKey }

func (p *params) hpkeKDF() hpke.KDF {
	switch p.hash {
	case sha256Alg:
		return hpke.HKDFSHA256()
	case sha384Alg:
		return hpke.HKDFSHA384()
	default:
		return hpke.HKDFSHA512()
	}
}

func (k stdKEM) nsk() int { return k.seed }

func (k stdKEM) derive(ikm []byte) (kemPrivate, error) {
	key, err := k.kem.DeriveKeyPair(ikm)
	return stdPrivate{key}, err
}

func (k stdKEM) parsePrivate(b []byte) (kemPrivate, error) {
	if k.scalar {
		b = padScalar(b, k.seed)
	}
	key, err := k.kem.NewPrivateKey(b)
	return stdPrivate{key}, err
}

func (k stdKEM) checkPublic(b []byte) error {
	_, err := k.kem.NewPublicKey(b)
	return err
}

func (k stdKEM) sender(p *params, pub, info []byte) ([]byte, *hpke.Sender, error) {
	key, err := k.kem.NewPublicKey(pub)
	if err != nil {
		return nil, nil, ErrKey
	}
	enc, s, err := hpke.NewSender(key, p.hpkeKDF(), p.aead.hpke, info)
	if err != nil {
		return nil, nil, ErrKey // such as an X25519 point of low order
	}
	return enc, s, nil
}

func (k stdKEM) sealer(p *params, info []byte) sealFunc {
	return func(pub, plaintext []byte) ([]byte, []byte, error) {
		enc, s, err := k.sender(p, pub, info)
		if err != nil {
			return nil, nil, err
		}
		ct, err := s.Seal(nil, plaintext)
		return enc, ct, err
	}
}

func (k stdKEM) sendExport(p *params, pub, info []byte, exporterContext string, length int) ([]byte, []byte, error) {
	enc, s, err := k.sender(p, pub, info)
	if err != nil {
		return nil, nil, err
	}
	secret, err := s.Export(exporterContext, length)
	return enc, secret, err
}

func (k stdPrivate) bytes() ([]byte, error) { return k.key.Bytes() }

func (k stdPrivate) public() ([]byte, error) { return k.key.PublicKey().Bytes(), nil }

func (k stdPrivate) recipient(p *params, info, kemOutput []byte) (*hpke.Recipient, error) {
	r, err := hpke.NewRecipient(kemOutput, k.key, p.hpkeKDF(), p.aead.hpke, info)
	if err != nil {
		return nil, ErrOpen
	}
	return r, nil
}

func (k stdPrivate) open(p *params, info, kemOutput, ciphertext []byte) ([]byte, error) {
	r, err := k.recipient(p, info, kemOutput)
	if err != nil {
		return nil, err
	}
	pt, err := r.Open(nil, ciphertext)
	if err != nil {
		return nil, ErrOpen
	}
	return pt, nil
}

func (k stdPrivate) receiveExport(p *params, info, kemOutput []byte, exporterContext string, length int) ([]byte, error) {
	r, err := k.recipient(p, info, kemOutput)
	if err != nil {
		return nil, err
	}
	return r.Export(exporterContext, length)
}
