package suite

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"io"
	"log/slog"

	"github.com/cloudflare/circl/sign/ed448"
)

// ErrSignature: a signature isn't valid for this key, label and content.
var ErrSignature = errors.New("mls/suite: signature is not valid")

// signatureScheme parses keys of one algorithm. Keys are the octets that go on
// the wire; private ones the seed (EdDSA, ML-DSA) or the scalar (ECDSA).
type signatureScheme interface {
	generate(rand io.Reader) (private []byte, err error)
	signer(private []byte) (signerKey, error)
	verifier(public []byte) (verifierKey, error)
}

type signerKey interface {
	public() []byte
	sign(rand io.Reader, message []byte) ([]byte, error)
}

type verifierKey interface {
	verify(message, signature []byte) bool
}

// Signer is a signature private key, ready to sign. It is immutable and safe for
// concurrent use.
type Signer struct {
	p       *params
	key     signerKey
	private []byte
	public  []byte
}

// GenerateSigner returns a new signature key, made from octets of rand.
func (s Suite) GenerateSigner(rand io.Reader) (*Signer, error) {
	private, err := s.p.sig.generate(rand)
	if err != nil {
		return nil, err
	}
	return s.NewSigner(private)
}

// NewSigner returns the key whose octets [Signer.Bytes] gave: the seed for
// Ed25519 (32), Ed448 (57) and ML-DSA (32), the scalar for ECDSA on P-256 (32),
// P-384 (48) and P-521 (66), whose leading zeros may be missing. It returns
// [ErrKey] for anything else.
func (s Suite) NewSigner(private []byte) (*Signer, error) {
	private = bytes.Clone(private)
	key, err := s.p.sig.signer(private)
	if err != nil {
		return nil, ErrKey
	}
	return &Signer{s.p, key, private, key.public()}, nil
}

// Suite returns the suite that the key signs for.
func (k *Signer) Suite() Suite { return Suite{k.p} }

// Bytes returns the private key. The caller must not change it.
func (k *Signer) Bytes() []byte { return k.private }

// Public returns the SignaturePublicKey of RFC 9420 §5.1.1: the encoded point of
// RFC 8032 for EdDSA, the uncompressed point for ECDSA. The caller must not
// change it.
func (k *Signer) Public() []byte { return k.public }

// String hides the key.
func (k *Signer) String() string { return "[signature private key]" }

// GoString hides the key.
func (k *Signer) GoString() string { return k.String() }

// LogValue hides the key.
func (k *Signer) LogValue() slog.Value { return slog.StringValue(k.String()) }

// SignWithLabel is SignWithLabel of RFC 9420 §5.1.2. The label goes without its
// "MLS 1.0 ". EdDSA takes nothing from rand.
func (k *Signer) SignWithLabel(rand io.Reader, label string, content []byte) ([]byte, error) {
	return k.key.sign(rand, labelled(label, content))
}

// Verifier is a signature public key, parsed. It is immutable and safe for
// concurrent use.
type Verifier struct {
	p      *params
	key    verifierKey
	public []byte
}

// NewVerifier parses a SignaturePublicKey, [ErrKey] if it isn't one of the suite.
func (s Suite) NewVerifier(public []byte) (*Verifier, error) {
	public = bytes.Clone(public)
	key, err := s.p.sig.verifier(public)
	if err != nil {
		return nil, ErrKey
	}
	return &Verifier{s.p, key, public}, nil
}

// Suite returns the suite that the key is of.
func (k *Verifier) Suite() Suite { return Suite{k.p} }

// Public returns the key's octets. The caller must not change them.
func (k *Verifier) Public() []byte { return k.public }

// VerifyWithLabel is VerifyWithLabel of RFC 9420 §5.1.2. It returns
// [ErrSignature] if the signature isn't valid.
func (k *Verifier) VerifyWithLabel(label string, content, signature []byte) error {
	if !k.key.verify(labelled(label, content), signature) {
		return ErrSignature
	}
	return nil
}

// VerifyWithLabel verifies with a key that is used only once. It returns
// [ErrKey] if public isn't a key of the suite, [ErrSignature] if the signature
// isn't valid.
func (s Suite) VerifyWithLabel(public []byte, label string, content, signature []byte) error {
	key, err := s.p.sig.verifier(public)
	if err != nil {
		return ErrKey
	}
	if !key.verify(labelled(label, content), signature) {
		return ErrSignature
	}
	return nil
}

// generateSeed reads a private key of n octets, for schemes where any will do.
func generateSeed(rand io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, err
	}
	return b, nil
}

type ed448Scheme struct{}

type ed448Private struct{ key ed448.PrivateKey }

type ed448Public struct{ key ed448.PublicKey }

func (ed448Scheme) generate(rand io.Reader) ([]byte, error) {
	return generateSeed(rand, ed448.SeedSize)
}

func (ed448Scheme) signer(private []byte) (signerKey, error) {
	if len(private) != ed448.SeedSize {
		return nil, ErrKey
	}
	return ed448Private{ed448.NewKeyFromSeed(private)}, nil
}

func (ed448Scheme) verifier(public []byte) (verifierKey, error) {
	if len(public) != ed448.PublicKeySize {
		return nil, ErrKey
	}
	return ed448Public{public}, nil
}

func (k ed448Private) public() []byte { return bytes.Clone(k.key[ed448.SeedSize:]) }

func (k ed448Private) sign(_ io.Reader, message []byte) ([]byte, error) {
	return ed448.Sign(k.key, message, ""), nil
}

func (k ed448Public) verify(message, signature []byte) bool {
	return ed448.Verify(k.key, message, signature, "")
}

// ecdsaScheme signs with DER-encoded signatures over uncompressed points.
type ecdsaScheme struct {
	curve elliptic.Curve
	hash  crypto.Hash
	size  int
}

type ecdsaPrivate struct {
	scheme ecdsaScheme
	key    *ecdsa.PrivateKey
	pub    []byte
}

type ecdsaPublic struct {
	scheme ecdsaScheme
	key    *ecdsa.PublicKey
}

// generate draws scalars until one lies in [1, n-1] (FIPS 186-5 A.2.2).
func (s ecdsaScheme) generate(rand io.Reader) ([]byte, error) {
	for {
		b, err := generateSeed(rand, s.size)
		if err != nil {
			return nil, err
		}
		b[0] &= 0xFF >> (8*s.size - s.curve.Params().BitSize)
		if _, err := ecdsa.ParseRawPrivateKey(s.curve, b); err == nil {
			return b, nil
		}
	}
}

func (s ecdsaScheme) signer(private []byte) (signerKey, error) {
	key, err := ecdsa.ParseRawPrivateKey(s.curve, padScalar(private, s.size))
	if err != nil {
		return nil, err
	}
	pub, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return ecdsaPrivate{s, key, pub}, nil
}

func (s ecdsaScheme) verifier(public []byte) (verifierKey, error) {
	key, err := ecdsa.ParseUncompressedPublicKey(s.curve, public)
	if err != nil {
		return nil, err
	}
	return ecdsaPublic{s, key}, nil
}

// padScalar restores the leading zeros of a scalar. Some implementations leave them away, which for P-521 is every
// second key.
func padScalar(b []byte, size int) []byte {
	if len(b) == 0 || len(b) >= size {
		return b
	}
	return append(make([]byte, size-len(b), size), b...)
}

func (s ecdsaScheme) digest(message []byte) []byte {
	h := s.hash.New()
	h.Write(message)
	return h.Sum(nil)
}

func (k ecdsaPrivate) public() []byte { return k.pub }

func (k ecdsaPrivate) sign(rand io.Reader, message []byte) ([]byte, error) {
	return ecdsa.SignASN1(rand, k.key, k.scheme.digest(message))
}

func (k ecdsaPublic) verify(message, signature []byte) bool {
	return ecdsa.VerifyASN1(k.key, k.scheme.digest(message), signature)
}
