package suite

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"io"
	"slices"
)

// labelPrefix starts every label that MLS signs, expands or encrypts with.
const labelPrefix = "MLS 1.0 "

// stackMessage is the longest HMAC message that is put together on the stack.
// Labels, generations, hashes and ciphertext samples fit; a GroupContext does not.
const stackMessage = 320

// maxBlock and maxHash are the block and output lengths of the largest hash here.
const (
	maxBlock = sha512.BlockSize
	maxHash  = sha512.Size
)

type hashAlg uint8

const (
	sha256Alg hashAlg = iota
	sha384Alg
	sha512Alg
)

func (h hashAlg) size() int {
	switch h {
	case sha256Alg:
		return sha256.Size
	case sha384Alg:
		return sha512.Size384
	default:
		return sha512.Size
	}
}

func (h hashAlg) block() int {
	if h == sha256Alg {
		return sha256.BlockSize
	}
	return sha512.BlockSize
}

func (h hashAlg) new() hash.Hash {
	switch h {
	case sha256Alg:
		return sha256.New()
	case sha384Alg:
		return sha512.New384()
	default:
		return sha512.New()
	}
}

// sum writes the hash of data to the front of out.
func (h hashAlg) sum(out *[maxHash]byte, data []byte) {
	switch h {
	case sha256Alg:
		d := sha256.Sum256(data)
		copy(out[:], d[:])
	case sha384Alg:
		d := sha512.Sum384(data)
		copy(out[:], d[:])
	default:
		*out = sha512.Sum512(data)
	}
}

// hmac writes HMAC(key, parts[0] ‖ parts[1] ‖ …) to the front of out.
//
// A short message takes no heap: crypto/hmac allocates half a kilobyte per key,
// and every message that MLS protects needs five keys of one use each.
func (h hashAlg) hmac(out *[maxHash]byte, key []byte, parts ...[]byte) {
	block, size := h.block(), h.size()
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n > stackMessage || len(key) > block {
		h.hmacLong(out, bytes.Clone(key), slices.Concat(parts...))
		return
	}
	var buf [maxBlock + stackMessage]byte
	copy(buf[:], key)
	for i := range block {
		buf[i] ^= 0x36
	}
	end := block
	for _, p := range parts {
		end += copy(buf[end:], p)
	}
	h.sum(out, buf[:end])
	for i := range block {
		buf[i] ^= 0x36 ^ 0x5c
	}
	end = block + copy(buf[block:], out[:size])
	h.sum(out, buf[:end])
	clear(buf[:])
}

// hmacLong takes copies: what reaches a hash.Hash escapes to the heap, and that
// would move the short messages' buffers there too.
func (h hashAlg) hmacLong(out *[maxHash]byte, key, message []byte) {
	m := hmac.New(h.new, key)
	m.Write(message)
	copy(out[:], m.Sum(nil))
}

// Hash returns the hash of the concatenated parts, [Suite.Nh] octets.
func (s Suite) Hash(parts ...[]byte) []byte {
	var out [maxHash]byte
	if len(parts) == 1 {
		s.p.hash.sum(&out, parts[0])
	} else {
		s.p.hash.sum(&out, slices.Concat(parts...))
	}
	return append([]byte(nil), out[:s.Nh()]...)
}

// AppendHash appends the hash of data to dst.
func (s Suite) AppendHash(dst, data []byte) []byte {
	var out [maxHash]byte
	s.p.hash.sum(&out, data)
	return append(dst, out[:s.Nh()]...)
}

// NewHash returns a running hash of the suite's algorithm.
func (s Suite) NewHash() hash.Hash { return s.p.hash.new() }

// RefHash is RefHash of RFC 9420 §5.2. The label is used as it is, such as
// "MLS 1.0 KeyPackage Reference".
func (s Suite) RefHash(label string, value []byte) []byte {
	var head [stackMessage]byte
	b := appendVarint(head[:0], len(label))
	b = append(b, label...)
	b = appendVarint(b, len(value))
	return s.Hash(b, value)
}

// MAC returns HMAC of the suite's hash over the concatenated parts, [Suite.Nh]
// octets (RFC 9420 §5.1).
func (s Suite) MAC(key []byte, parts ...[]byte) []byte {
	var out [maxHash]byte
	s.p.hash.hmac(&out, key, parts...)
	return append([]byte(nil), out[:s.Nh()]...)
}

// VerifyMAC reports, in constant time, whether tag is the MAC of the parts.
func (s Suite) VerifyMAC(key, tag []byte, parts ...[]byte) bool {
	var out [maxHash]byte
	s.p.hash.hmac(&out, key, parts...)
	return subtle.ConstantTimeCompare(out[:s.Nh()], tag) == 1
}

// Extract is KDF.Extract (RFC 9420 §8, HKDF-Extract of RFC 5869), [Suite.Nh]
// octets.
func (s Suite) Extract(salt, ikm []byte) []byte {
	var out [maxHash]byte
	s.p.hash.hmac(&out, salt, ikm)
	return append([]byte(nil), out[:s.Nh()]...)
}

// MaxExpand is the most octets that one expansion gives: 255 hash lengths
// (RFC 5869 §2.3).
func (s Suite) MaxExpand() int { return 255 * s.Nh() }

// ExpandWithLabel is ExpandWithLabel of RFC 9420 §8. The label goes without its
// "MLS 1.0 ". It panics if length is negative or above [Suite.MaxExpand].
func (s Suite) ExpandWithLabel(secret []byte, label string, context []byte, length int) []byte {
	out := make([]byte, length)
	s.ExpandWithLabelInto(out, secret, label, context)
	return out
}

// ExpandWithLabelInto is [Suite.ExpandWithLabel] with a result as long as dst,
// which may overlap secret. It allocates nothing when dst is no longer than a
// hash and label and context are short.
func (s Suite) ExpandWithLabelInto(dst, secret []byte, label string, context []byte) {
	if len(dst) > s.MaxExpand() {
		panic("mls/suite: expansion is too long")
	}
	var head [stackMessage]byte
	info := appendKDFLabelHead(head[:0], len(dst), label, len(context))
	if len(dst) <= s.Nh() && len(info)+len(context) < stackMessage {
		one := [1]byte{1}
		var out [maxHash]byte
		s.p.hash.hmac(&out, secret, info, context, one[:])
		copy(dst, out[:])
		clear(out[:])
		return
	}
	info = append(info, context...)
	out, err := hkdf.Expand(s.p.hash.new, bytes.Clone(secret), string(info), len(dst))
	if err != nil {
		panic("mls/suite: " + err.Error()) // only a length above MaxExpand
	}
	copy(dst, out)
	clear(out)
}

// appendKDFLabelHead writes KDFLabel (RFC 9420 §8) up to where its context's
// octets begin.
func appendKDFLabelHead(dst []byte, length int, label string, context int) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(length))
	dst = appendLabel(dst, label)
	return appendVarint(dst, context)
}

// DeriveSecret is DeriveSecret of RFC 9420 §8, [Suite.Nh] octets.
func (s Suite) DeriveSecret(secret []byte, label string) []byte {
	return s.ExpandWithLabel(secret, label, nil, s.Nh())
}

// DeriveTreeSecret is DeriveTreeSecret of RFC 9420 §9.
func (s Suite) DeriveTreeSecret(secret []byte, label string, generation uint32, length int) []byte {
	out := make([]byte, length)
	s.DeriveTreeSecretInto(out, secret, label, generation)
	return out
}

// DeriveTreeSecretInto is [Suite.DeriveTreeSecret] with a result as long as dst,
// which may overlap secret.
func (s Suite) DeriveTreeSecretInto(dst, secret []byte, label string, generation uint32) {
	var g [4]byte
	binary.BigEndian.PutUint32(g[:], generation)
	s.ExpandWithLabelInto(dst, secret, label, g[:])
}

// GenerateSecret returns [Suite.Nh] octets from rand, as for an initial
// epoch_secret or a path_secret.
func (s Suite) GenerateSecret(rand io.Reader) ([]byte, error) {
	b := make([]byte, s.Nh())
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, err
	}
	return b, nil
}

// appendVarint writes the length prefix of a vector (RFC 9420 §2.1.2).
func appendVarint(dst []byte, n int) []byte {
	switch {
	case n < 1<<6:
		return append(dst, byte(n))
	case n < 1<<14:
		return append(dst, 0x40|byte(n>>8), byte(n))
	case n < 1<<30:
		return append(dst, 0x80|byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	default:
		panic("mls/suite: vector is too long")
	}
}

// appendLabel writes "MLS 1.0 " + label as a vector.
func appendLabel(dst []byte, label string) []byte {
	dst = appendVarint(dst, len(labelPrefix)+len(label))
	dst = append(dst, labelPrefix...)
	return append(dst, label...)
}

// labelled returns the label, then content as a vector: the shape that SignContent
// and EncryptContext share (RFC 9420 §5.1.2, §5.1.3).
func labelled(label string, content []byte) []byte {
	dst := make([]byte, 0, 4+len(labelPrefix)+len(label)+4+len(content))
	dst = appendLabel(dst, label)
	dst = appendVarint(dst, len(content))
	return append(dst, content...)
}
