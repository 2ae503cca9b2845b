package suite

import (
	"bytes"
	"io"
	"sync/atomic"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// ed25519Scheme is Ed25519 by curve25519-voi, whose vector code signs in six tenths
// of the time of crypto/ed25519 and verifies in as much, with a key that is kept.
// It gives the same octets and the same verdicts as crypto/ed25519: the tests and
// FuzzEd25519 hold it against that, on hostile keys and signatures too.
type ed25519Scheme struct{}

type ed25519Private struct{ key voi.PrivateKey }

// ed25519Public is a key as it came, and from its third signature on a table of its
// multiples (1.5 KiB), which saves an eighth of the time. A newcomer's key verifies
// two signatures, its KeyPackage's and its leaf's, and often none after that.
type ed25519Public struct {
	key   voi.PublicKey
	used  atomic.Uint32
	table atomic.Pointer[voi.ExpandedPublicKey]
}

// ed25519Options are the verdicts of RFC 8032 §5.1.7 without the cofactor, as
// crypto/ed25519 and most implementations give them: members must agree.
var ed25519Options = &voi.Options{Verify: voi.VerifyOptionsStdLib}

func (ed25519Scheme) generate(rand io.Reader) ([]byte, error) {
	return generateSeed(rand, voi.SeedSize)
}

func (ed25519Scheme) signer(private []byte) (signerKey, error) {
	if len(private) != voi.SeedSize {
		return nil, ErrKey
	}
	return ed25519Private{voi.NewKeyFromSeed(private)}, nil
}

func (ed25519Scheme) verifier(public []byte) (verifierKey, error) {
	if len(public) != voi.PublicKeySize {
		return nil, ErrKey
	}
	return &ed25519Public{key: public}, nil
}

func (k ed25519Private) public() []byte { return bytes.Clone(k.key[voi.SeedSize:]) }

func (k ed25519Private) sign(_ io.Reader, message []byte) ([]byte, error) {
	return voi.Sign(k.key, message), nil
}

func (k *ed25519Public) verify(message, signature []byte) bool {
	if table := k.table.Load(); table != nil {
		return voi.VerifyExpandedWithOptions(table, message, signature, ed25519Options)
	}
	if k.used.Add(1) == 3 {
		if table, err := voi.NewExpandedPublicKey(k.key); err == nil {
			k.table.Store(table)
			return voi.VerifyExpandedWithOptions(table, message, signature, ed25519Options)
		}
	}
	return voi.VerifyWithOptions(k.key, message, signature, ed25519Options)
}
