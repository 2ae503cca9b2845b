// Package suite provides the MLS cipher suites of RFC 9420 §5.1 and §17.1, the
// post-quantum ones of draft-ietf-mls-pq-ciphersuites, and the labelled
// operations that MLS builds from their primitives.
//
// A [Suite] is looked up by its code point and is a small immutable value, safe
// for concurrent use. What depends on a long-lived key has its own type that
// keeps the key parsed: [Signer], [Verifier], [PrivateKey].
//
// The primitives come from the standard library; X448, Ed448 and ML-DSA, which
// it lacks, and X25519, where speed counts most, from
// github.com/cloudflare/circl. HPKE encapsulation, ECDSA and ML-DSA draw their
// own randomness from the operating system, since crypto/hpke and crypto/ecdsa
// accept no other; everything else takes an [io.Reader].
package suite

import (
	"crypto"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/hpke"
	"slices"
	"strconv"
)

// ID is a CipherSuite code point (RFC 9420 §17.1).
type ID uint16

// The cipher suites of RFC 9420 §17.1.
const (
	X25519AES128GCMSHA256Ed25519        ID = 0x0001
	P256AES128GCMSHA256P256             ID = 0x0002
	X25519ChaCha20Poly1305SHA256Ed25519 ID = 0x0003
	X448AES256GCMSHA512Ed448            ID = 0x0004
	P521AES256GCMSHA512P521             ID = 0x0005
	X448ChaCha20Poly1305SHA512Ed448     ID = 0x0006
	P384AES256GCMSHA384P384             ID = 0x0007
)

// The cipher suites of draft-ietf-mls-pq-ciphersuites-06 §3.1. The draft has no
// code points yet; its TBDn stands at 0xF000+n, in the range for private use.
const (
	MLKEM768X25519AES128GCMSHA256Ed25519        ID = 0xF001
	MLKEM768X25519AES256GCMSHA384Ed25519        ID = 0xF002
	MLKEM768P256AES128GCMSHA256P256             ID = 0xF003
	MLKEM768P256AES256GCMSHA384P256             ID = 0xF004
	MLKEM1024P384AES256GCMSHA384P384            ID = 0xF005
	MLKEM768AES256GCMSHA384Ed25519              ID = 0xF006
	MLKEM768AES256GCMSHA384P256                 ID = 0xF007
	MLKEM1024AES256GCMSHA384P384                ID = 0xF008
	MLKEM768X25519ChaCha20Poly1305SHA384MLDSA44 ID = 0xF009
	MLKEM768AES256GCMSHA384MLDSA65              ID = 0xF00A
	MLKEM1024AES256GCMSHA384MLDSA87             ID = 0xF00B
)

// String returns the registered name of a suite that [Lookup] knows, and the
// code point in hexadecimal for any other.
func (id ID) String() string {
	if s, ok := Lookup(id); ok {
		return s.p.name
	}
	return "0x" + strconv.FormatUint(uint64(id), 16)
}

// A Suite is one cipher suite. The zero value is none; get one from [Lookup].
type Suite struct{ p *params }

type params struct {
	id   ID
	name string
	hash hashAlg
	kem  kemScheme
	aead aeadAlg
	sig  signatureScheme
}

// Lookup returns the cipher suite with this code point.
func Lookup(id ID) (Suite, bool) {
	for i := range table {
		if table[i].id == id {
			return Suite{&table[i]}, true
		}
	}
	return Suite{}, false
}

// IDs returns the code points of all suites, in ascending order: those of
// RFC 9420 first, then the ones for private use.
func IDs() []ID {
	ids := make([]ID, len(table))
	for i := range table {
		ids[i] = table[i].id
	}
	slices.Sort(ids)
	return ids
}

var table = [...]params{
	{X25519AES128GCMSHA256Ed25519, "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519", sha256Alg, kemX25519, aes128GCM, ed25519Scheme{}},
	{P256AES128GCMSHA256P256, "MLS_128_DHKEMP256_AES128GCM_SHA256_P256", sha256Alg, kemP256, aes128GCM, ecdsaP256},
	{X25519ChaCha20Poly1305SHA256Ed25519, "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519", sha256Alg, kemX25519, chaCha20Poly1305, ed25519Scheme{}},
	{X448AES256GCMSHA512Ed448, "MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448", sha512Alg, kemX448, aes256GCM, ed448Scheme{}},
	{P521AES256GCMSHA512P521, "MLS_256_DHKEMP521_AES256GCM_SHA512_P521", sha512Alg, kemP521, aes256GCM, ecdsaP521},
	{X448ChaCha20Poly1305SHA512Ed448, "MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448", sha512Alg, kemX448, chaCha20Poly1305, ed448Scheme{}},
	{P384AES256GCMSHA384P384, "MLS_256_DHKEMP384_AES256GCM_SHA384_P384", sha384Alg, kemP384, aes256GCM, ecdsaP384},

	{MLKEM768X25519AES128GCMSHA256Ed25519, "MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519", sha256Alg, kemMLKEM768X25519, aes128GCM, ed25519Scheme{}},
	{MLKEM768X25519AES256GCMSHA384Ed25519, "MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519", sha384Alg, kemMLKEM768X25519, aes256GCM, ed25519Scheme{}},
	{MLKEM768P256AES128GCMSHA256P256, "MLS_128_MLKEM768P256_AES128GCM_SHA256_P256", sha256Alg, kemMLKEM768P256, aes128GCM, ecdsaP256},
	{MLKEM768P256AES256GCMSHA384P256, "MLS_128_MLKEM768P256_AES256GCM_SHA384_P256", sha384Alg, kemMLKEM768P256, aes256GCM, ecdsaP256},
	{MLKEM1024P384AES256GCMSHA384P384, "MLS_192_MLKEM1024P384_AES256GCM_SHA384_P384", sha384Alg, kemMLKEM1024P384, aes256GCM, ecdsaP384},
	{MLKEM768AES256GCMSHA384Ed25519, "MLS_128_MLKEM768_AES256GCM_SHA384_Ed25519", sha384Alg, kemMLKEM768, aes256GCM, ed25519Scheme{}},
	{MLKEM768AES256GCMSHA384P256, "MLS_128_MLKEM768_AES256GCM_SHA384_P256", sha384Alg, kemMLKEM768, aes256GCM, ecdsaP256},
	{MLKEM1024AES256GCMSHA384P384, "MLS_192_MLKEM1024_AES256GCM_SHA384_P384", sha384Alg, kemMLKEM1024, aes256GCM, ecdsaP384},
	{MLKEM768X25519ChaCha20Poly1305SHA384MLDSA44, "MLS_128_MLKEM768X25519_CHACHA20POLY1305_SHA384_MLDSA44", sha384Alg, kemMLKEM768X25519, chaCha20Poly1305, mldsaScheme44{}},
	{MLKEM768AES256GCMSHA384MLDSA65, "MLS_192_MLKEM768_AES256GCM_SHA384_MLDSA65", sha384Alg, kemMLKEM768, aes256GCM, mldsaScheme65{}},
	{MLKEM1024AES256GCMSHA384MLDSA87, "MLS_256_MLKEM1024_AES256GCM_SHA384_MLDSA87", sha384Alg, kemMLKEM1024, aes256GCM, mldsaScheme87{}},
}

var (
	kemX25519 kemScheme = x25519KEM{}
	kemP256   kemScheme = stdKEM{hpke.DHKEM(ecdh.P256()), 32, true}
	kemP384   kemScheme = stdKEM{hpke.DHKEM(ecdh.P384()), 48, true}
	kemP521   kemScheme = stdKEM{hpke.DHKEM(ecdh.P521()), 66, true}
	kemX448   kemScheme = x448KEM{}

	kemMLKEM768X25519 kemScheme = stdKEM{hpke.MLKEM768X25519(), 32, false}
	kemMLKEM768P256   kemScheme = stdKEM{hpke.MLKEM768P256(), 32, false}
	kemMLKEM1024P384  kemScheme = stdKEM{hpke.MLKEM1024P384(), 32, false}
	kemMLKEM768       kemScheme = stdKEM{hpke.MLKEM768(), 64, false}
	kemMLKEM1024      kemScheme = stdKEM{hpke.MLKEM1024(), 64, false}

	ecdsaP256 signatureScheme = ecdsaScheme{elliptic.P256(), crypto.SHA256, 32}
	ecdsaP384 signatureScheme = ecdsaScheme{elliptic.P384(), crypto.SHA384, 48}
	ecdsaP521 signatureScheme = ecdsaScheme{elliptic.P521(), crypto.SHA512, 66}
)

// ID returns the suite's code point, 0 (reserved by RFC 9420 §17.1) for the
// zero Suite.
func (s Suite) ID() ID {
	if s.p == nil {
		return 0
	}
	return s.p.id
}

// String returns the suite's registered name.
func (s Suite) String() string { return s.ID().String() }

// Nh is the length in octets of the suite's hash, and of every secret in the key
// schedule (KDF.Nh in RFC 9420).
func (s Suite) Nh() int { return s.p.hash.size() }

// Nk is the length in octets of an AEAD key (AEAD.Nk in RFC 9420).
func (s Suite) Nk() int { return s.p.aead.nk }

// Nn is the length in octets of an AEAD nonce (AEAD.Nn in RFC 9420).
func (s Suite) Nn() int { return s.p.aead.nn }

// Nt is the number of octets that the AEAD adds to a plaintext.
func (s Suite) Nt() int { return s.p.aead.nt }
