package suite

import (
	"io"

	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"github.com/cloudflare/circl/sign/mldsa/mldsa87"
)

// The three parameter sets of ML-DSA (FIPS 204), pure and with an empty context
// (draft-ietf-tls-mldsa). circl gives each its own types.

type mldsaScheme44 struct{}

type mldsaPrivate44 struct {
	key *mldsa44.PrivateKey
	pub []byte
}

type mldsaPublic44 struct{ key *mldsa44.PublicKey }

func (mldsaScheme44) generate(rand io.Reader) ([]byte, error) {
	return generateSeed(rand, mldsa44.SeedSize)
}

func (mldsaScheme44) signer(private []byte) (signerKey, error) {
	if len(private) != mldsa44.SeedSize {
		return nil, ErrKey
	}
	pub, key := mldsa44.NewKeyFromSeed((*[mldsa44.SeedSize]byte)(private))
	return mldsaPrivate44{key, pub.Bytes()}, nil
}

func (mldsaScheme44) verifier(public []byte) (verifierKey, error) {
	key := new(mldsa44.PublicKey)
	if err := key.UnmarshalBinary(public); err != nil {
		return nil, err
	}
	return mldsaPublic44{key}, nil
}

func (k mldsaPrivate44) public() []byte { return k.pub }

func (k mldsaPrivate44) sign(_ io.Reader, message []byte) ([]byte, error) {
	sig := make([]byte, mldsa44.SignatureSize)
	if err := mldsa44.SignTo(k.key, message, nil, true, sig); err != nil {
		return nil, err
	}
	return sig, nil
}

func (k mldsaPublic44) verify(message, signature []byte) bool {
	return mldsa44.Verify(k.key, message, nil, signature)
}

type mldsaScheme65 struct{}

type mldsaPrivate65 struct {
	key *mldsa65.PrivateKey
	pub []byte
}

type mldsaPublic65 struct{ key *mldsa65.PublicKey }

func (mldsaScheme65) generate(rand io.Reader) ([]byte, error) {
	return generateSeed(rand, mldsa65.SeedSize)
}

func (mldsaScheme65) signer(private []byte) (signerKey, error) {
	if len(private) != mldsa65.SeedSize {
		return nil, ErrKey
	}
	pub, key := mldsa65.NewKeyFromSeed((*[mldsa65.SeedSize]byte)(private))
	return mldsaPrivate65{key, pub.Bytes()}, nil
}

func (mldsaScheme65) verifier(public []byte) (verifierKey, error) {
	key := new(mldsa65.PublicKey)
	if err := key.UnmarshalBinary(public); err != nil {
		return nil, err
	}
	return mldsaPublic65{key}, nil
}

func (k mldsaPrivate65) public() []byte { return k.pub }

func (k mldsaPrivate65) sign(_ io.Reader, message []byte) ([]byte, error) {
	sig := make([]byte, mldsa65.SignatureSize)
	if err := mldsa65.SignTo(k.key, message, nil, true, sig); err != nil {
		return nil, err
	}
	return sig, nil
}

func (k mldsaPublic65) verify(message, signature []byte) bool {
	return mldsa65.Verify(k.key, message, nil, signature)
}

type mldsaScheme87 struct{}

type mldsaPrivate87 struct {
	key *mldsa87.PrivateKey
	pub []byte
}

type mldsaPublic87 struct{ key *mldsa87.PublicKey }

func (mldsaScheme87) generate(rand io.Reader) ([]byte, error) {
	return generateSeed(rand, mldsa87.SeedSize)
}

func (mldsaScheme87) signer(private []byte) (signerKey, error) {
	if len(private) != mldsa87.SeedSize {
		return nil, ErrKey
	}
	pub, key := mldsa87.NewKeyFromSeed((*[mldsa87.SeedSize]byte)(private))
	return mldsaPrivate87{key, pub.Bytes()}, nil
}

func (mldsaScheme87) verifier(public []byte) (verifierKey, error) {
	key := new(mldsa87.PublicKey)
	if err := key.UnmarshalBinary(public); err != nil {
		return nil, err
	}
	return mldsaPublic87{key}, nil
}

func (k mldsaPrivate87) public() []byte { return k.pub }

func (k mldsaPrivate87) sign(_ io.Reader, message []byte) ([]byte, error) {
	sig := make([]byte, mldsa87.SignatureSize)
	if err := mldsa87.SignTo(k.key, message, nil, true, sig); err != nil {
		return nil, err
	}
	return sig, nil
}

func (k mldsaPublic87) verify(message, signature []byte) bool {
	return mldsa87.Verify(k.key, message, nil, signature)
}
