package suite

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"

	"github.com/cloudflare/circl/dh/x448"
	"github.com/cloudflare/circl/hpke"
	"github.com/cloudflare/circl/kem"
)

// x448KEM is DHKEM(X448, HKDF-SHA512), which crypto/hpke lacks.
type x448KEM struct{}

type x448Private struct{ key kem.PrivateKey }

func (x448KEM) scheme() kem.Scheme { return hpke.KEM_X448_HKDF_SHA512.Scheme() }

func (p *params) circl() hpke.Suite {
	return hpke.NewSuite(hpke.KEM_X448_HKDF_SHA512, hpke.KDF_HKDF_SHA512, hpke.AEAD(p.aead.id))
}

func (x448KEM) nsk() int { return x448.Size }

// derive is DeriveKeyPair of RFC 9180 §7.1.3. It is written out because circl's
// takes an ikm of 56 octets only, and MLS has 64.
func (k x448KEM) derive(ikm []byte) (kemPrivate, error) {
	const suiteID = "KEM\x00\x21"
	prk, err := hkdf.Extract(sha512.New, append([]byte("HPKE-v1"+suiteID+"dkp_prk"), ikm...), nil)
	if err != nil {
		return nil, err
	}
	info := binary.BigEndian.AppendUint16(nil, x448.Size)
	info = append(info, "HPKE-v1"+suiteID+"sk"...)
	sk, err := hkdf.Expand(sha512.New, prk, string(info), x448.Size)
	if err != nil {
		return nil, err
	}
	return k.parsePrivate(sk)
}

func (k x448KEM) parsePrivate(b []byte) (kemPrivate, error) {
	key, err := k.scheme().UnmarshalBinaryPrivateKey(b)
	if err != nil {
		return nil, err
	}
	key.Public() // fills the key's cache now, so that later reads don't race
	return x448Private{key}, nil
}

func (k x448KEM) checkPublic(b []byte) error {
	_, err := k.scheme().UnmarshalBinaryPublicKey(b)
	return err
}

func (k x448KEM) sender(p *params, pub, info []byte) ([]byte, hpke.Sealer, error) {
	key, err := k.scheme().UnmarshalBinaryPublicKey(pub)
	if err != nil {
		return nil, nil, ErrKey
	}
	s, err := p.circl().NewSender(key, info)
	if err != nil {
		return nil, nil, ErrKey
	}
	enc, sealer, err := s.Setup(rand.Reader)
	if err != nil {
		return nil, nil, ErrKey
	}
	return enc, sealer, nil
}

func (k x448KEM) sealer(p *params, info []byte) sealFunc {
	return func(pub, plaintext []byte) ([]byte, []byte, error) {
		enc, s, err := k.sender(p, pub, info)
		if err != nil {
			return nil, nil, err
		}
		ct, err := s.Seal(plaintext, nil)
		return enc, ct, err
	}
}

func (k x448KEM) sendExport(p *params, pub, info []byte, exporterContext string, length int) ([]byte, []byte, error) {
	enc, s, err := k.sender(p, pub, info)
	if err != nil {
		return nil, nil, err
	}
	return enc, s.Export([]byte(exporterContext), uint(length)), nil
}

func (k x448Private) bytes() ([]byte, error) { return k.key.MarshalBinary() }

func (k x448Private) public() ([]byte, error) { return k.key.Public().MarshalBinary() }

func (k x448Private) opener(p *params, info, kemOutput []byte) (hpke.Opener, error) {
	r, err := p.circl().NewReceiver(k.key, info)
	if err != nil {
		return nil, ErrOpen
	}
	o, err := r.Setup(kemOutput)
	if err != nil {
		return nil, ErrOpen
	}
	return o, nil
}

func (k x448Private) open(p *params, info, kemOutput, ciphertext []byte) ([]byte, error) {
	if len(kemOutput) != x448.Size {
		return nil, ErrOpen
	}
	o, err := k.opener(p, info, kemOutput)
	if err != nil {
		return nil, err
	}
	pt, err := o.Open(ciphertext, nil)
	if err != nil {
		return nil, ErrOpen
	}
	return pt, nil
}

func (k x448Private) receiveExport(p *params, info, kemOutput []byte, exporterContext string, length int) ([]byte, error) {
	if len(kemOutput) != x448.Size {
		return nil, ErrOpen
	}
	o, err := k.opener(p, info, kemOutput)
	if err != nil {
		return nil, err
	}
	return o.Export([]byte(exporterContext), uint(length)), nil
}
