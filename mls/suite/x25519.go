package suite

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"io"

	circl "github.com/cloudflare/circl/dh/x25519"
	voi "github.com/oasisprotocol/curve25519-voi/primitives/x25519"
)

// x25519KEM is DHKEM(X25519, HKDF-SHA256) with the HPKE of suites 1 and 3. Those
// are the suites that nearly everybody uses, and a commit is nearly all HPKE, so
// they have their own: public keys come from curve25519-voi, in a third of the time of
// crypto/ecdh's ladder, shared secrets from circl's assembler, in two thirds, and the
// key schedule is over this package's HKDF.
// A property test holds it against crypto/hpke in both directions.
type x25519KEM struct{}

// x25519Size is Nsk, Npk, Nenc, Nsecret and Nh in octets.
const x25519Size = 32

// x25519Private is a clamped scalar and its public key.
type x25519Private struct{ scalar, pub [x25519Size]byte }

func (x25519KEM) nsk() int { return x25519Size }

var (
	hpkeVersion = []byte("HPKE-v1")
	x25519ID    = []byte("KEM\x00\x20")
	lastBlock   = []byte{1} // the counter of HKDF-Expand's first block
)

// hpkeID is suite_id of RFC 9180 §5.1.
func (p *params) hpkeID() [10]byte {
	return [10]byte{'H', 'P', 'K', 'E', 0, 0x20, 0, 1, byte(p.aead.id >> 8), byte(p.aead.id)}
}

// labeledExtract is LabeledExtract of RFC 9180 §4.
func labeledExtract(out *[maxHash]byte, salt, id []byte, label string, ikm []byte) {
	sha256Alg.hmac(out, salt, hpkeVersion, id, []byte(label), ikm)
}

// labeledExpand is LabeledExpand of RFC 9180 §4 for at most one hash.
func labeledExpand(dst, prk, id []byte, label string, info []byte) {
	length := [2]byte{byte(len(dst) >> 8), byte(len(dst))}
	var out [maxHash]byte
	sha256Alg.hmac(&out, prk, length[:], hpkeVersion, id, []byte(label), info, lastBlock)
	copy(dst, out[:x25519Size])
	clear(out[:])
}

// derive is DeriveKeyPair of RFC 9180 §7.1.3.
func (x25519KEM) derive(ikm []byte) (kemPrivate, error) {
	var prk [maxHash]byte
	labeledExtract(&prk, nil, x25519ID, "dkp_prk", ikm)
	k := new(x25519Private)
	labeledExpand(k.scalar[:], prk[:x25519Size], x25519ID, "sk", nil)
	clear(prk[:])
	k.init()
	return k, nil
}

func (x25519KEM) parsePrivate(b []byte) (kemPrivate, error) {
	if len(b) != x25519Size {
		return nil, ErrKey
	}
	k := &x25519Private{scalar: [x25519Size]byte(b)}
	k.init()
	return k, nil
}

// init clamps the scalar (RFC 7748 §5) and computes the public key.
func (k *x25519Private) init() {
	k.scalar[0] &= 248
	k.scalar[31] = k.scalar[31]&127 | 64
	voi.ScalarBaseMult(&k.pub, &k.scalar)
}

// x25519 is X25519 of RFC 7748 §5, in constant time. It reports false if the result
// is zero, as RFC 7748 §6.1 and RFC 9180 §7.1.4 demand. circl has assembler for
// amd64, which takes two thirds of the time of crypto/ecdh.
func x25519(dst, scalar, point *[x25519Size]byte) bool {
	ok := circl.Shared((*circl.Key)(dst), (*circl.Key)(scalar), (*circl.Key)(point))
	var zero [x25519Size]byte
	return ok && subtle.ConstantTimeCompare(dst[:], zero[:]) == 0
}

// checkPublic takes any 32 octets: points of small order show when they are used
// (RFC 7748 §6.1).
func (x25519KEM) checkPublic(b []byte) error {
	if len(b) != x25519Size {
		return ErrKey
	}
	return nil
}

// sharedSecret is ExtractAndExpand of RFC 9180 §4.1.
func sharedSecret(dst *[x25519Size]byte, dh, enc, pub *[x25519Size]byte) {
	var prk [maxHash]byte
	labeledExtract(&prk, nil, x25519ID, "eae_prk", dh[:])
	var context [2 * x25519Size]byte
	copy(context[:], enc[:])
	copy(context[x25519Size:], pub[:])
	labeledExpand(dst[:], prk[:x25519Size], x25519ID, "shared_secret", context[:])
	clear(prk[:])
}

// encap is Encap of RFC 9180 §4.1, with an ephemeral key of its own each time.
func (x25519KEM) encap(pub []byte) (enc, secret [x25519Size]byte, err error) {
	if len(pub) != x25519Size {
		return enc, secret, ErrKey
	}
	var ephemeral x25519Private
	if _, err := io.ReadFull(rand.Reader, ephemeral.scalar[:]); err != nil {
		return enc, secret, err
	}
	ephemeral.init()
	to := [x25519Size]byte(pub)
	var dh [x25519Size]byte
	if !x25519(&dh, &ephemeral.scalar, &to) {
		return enc, secret, ErrKey
	}
	enc = ephemeral.pub
	sharedSecret(&secret, &dh, &enc, &to)
	clear(dh[:])
	clear(ephemeral.scalar[:])
	return enc, secret, nil
}

// decap is Decap of RFC 9180 §4.1.
func (k *x25519Private) decap(kemOutput []byte) (secret [x25519Size]byte, err error) {
	if len(kemOutput) != x25519Size {
		return secret, ErrOpen
	}
	enc := [x25519Size]byte(kemOutput)
	var dh [x25519Size]byte
	if !x25519(&dh, &k.scalar, &enc) {
		return secret, ErrOpen
	}
	sharedSecret(&secret, &dh, &enc, &k.pub)
	clear(dh[:])
	return secret, nil
}

// An hpkeInfo is key_schedule_context of RFC 9180 §5.1 in mode_base: the digests of
// an empty psk_id and of info.
type hpkeInfo [1 + 2*x25519Size]byte

func (p *params) hpkeInfo(info []byte) (context hpkeInfo) {
	id := p.hpkeID()
	var h [maxHash]byte
	labeledExtract(&h, nil, id[:], "psk_id_hash", nil)
	copy(context[1:], h[:x25519Size])
	labeledExtract(&h, nil, id[:], "info_hash", info)
	copy(context[1+x25519Size:], h[:x25519Size])
	return context
}

// An hpkeSchedule is what KeySchedule of RFC 9180 §5.1 starts from.
type hpkeSchedule struct {
	id      [10]byte
	secret  [maxHash]byte
	context hpkeInfo
}

func (p *params) hpkeSchedule(shared *[x25519Size]byte, context hpkeInfo) (s hpkeSchedule) {
	s.id, s.context = p.hpkeID(), context
	labeledExtract(&s.secret, shared[:], s.id[:], "secret", nil)
	return s
}

func (s *hpkeSchedule) expand(dst []byte, label string) {
	labeledExpand(dst, s.secret[:x25519Size], s.id[:], label, s.context[:])
}

// first returns the AEAD and the nonce of a context's first message, which is
// base_nonce itself (RFC 9180 §5.2).
func (s *hpkeSchedule) first(p *params) (aead cipher.AEAD, nonce [12]byte, err error) {
	var key [x25519Size]byte
	s.expand(key[:p.aead.nk], "key")
	s.expand(nonce[:p.aead.nn], "base_nonce")
	aead, err = p.aead.open(key[:p.aead.nk])
	clear(key[:])
	return aead, nonce, err
}

func (s *hpkeSchedule) seal(p *params, plaintext []byte) ([]byte, error) {
	aead, nonce, err := s.first(p)
	if err != nil {
		return nil, err
	}
	return aead.Seal(make([]byte, 0, len(plaintext)+p.aead.nt), nonce[:p.aead.nn], plaintext, nil), nil
}

func (s *hpkeSchedule) open(p *params, ciphertext []byte) ([]byte, error) {
	aead, nonce, err := s.first(p)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nonce[:p.aead.nn], ciphertext, nil)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

// export is Context.Export of RFC 9180 §5.3.
func (s *hpkeSchedule) export(exporterContext string, length int) ([]byte, error) {
	var exporter [x25519Size]byte
	s.expand(exporter[:], "exp")
	defer clear(exporter[:])
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(info, hpkeVersion...)
	info = append(info, s.id[:]...)
	info = append(info, "sec"...)
	info = append(info, exporterContext...)
	return hkdf.Expand(sha256.New, exporter[:], string(info), length)
}

func (s *hpkeSchedule) clear() { clear(s.secret[:]) }

func (k x25519KEM) sealer(p *params, info []byte) sealFunc {
	context := p.hpkeInfo(info)
	return func(pub, plaintext []byte) ([]byte, []byte, error) {
		enc, shared, err := k.encap(pub)
		if err != nil {
			return nil, nil, err
		}
		s := p.hpkeSchedule(&shared, context)
		clear(shared[:])
		defer s.clear()
		ciphertext, err := s.seal(p, plaintext)
		return enc[:], ciphertext, err
	}
}

func (k x25519KEM) sendExport(p *params, pub, info []byte, exporterContext string, length int) ([]byte, []byte, error) {
	enc, shared, err := k.encap(pub)
	if err != nil {
		return nil, nil, err
	}
	s := p.hpkeSchedule(&shared, p.hpkeInfo(info))
	clear(shared[:])
	defer s.clear()
	secret, err := s.export(exporterContext, length)
	return enc[:], secret, err
}

func (k *x25519Private) bytes() ([]byte, error) { return append([]byte(nil), k.scalar[:]...), nil }

func (k *x25519Private) public() ([]byte, error) { return append([]byte(nil), k.pub[:]...), nil }

func (k *x25519Private) open(p *params, info, kemOutput, ciphertext []byte) ([]byte, error) {
	shared, err := k.decap(kemOutput)
	if err != nil {
		return nil, err
	}
	s := p.hpkeSchedule(&shared, p.hpkeInfo(info))
	clear(shared[:])
	defer s.clear()
	return s.open(p, ciphertext)
}

func (k *x25519Private) receiveExport(p *params, info, kemOutput []byte, exporterContext string, length int) ([]byte, error) {
	shared, err := k.decap(kemOutput)
	if err != nil {
		return nil, err
	}
	s := p.hpkeSchedule(&shared, p.hpkeInfo(info))
	clear(shared[:])
	defer s.clear()
	return s.export(exporterContext, length)
}
