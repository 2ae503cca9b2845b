package ohttp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// The media types of RFC 9458.
const (
	KeysMediaType     = "application/ohttp-keys"
	RequestMediaType  = "message/ohttp-req"
	ResponseMediaType = "message/ohttp-res"
)

// KeyProblem is the type of the problem document that a gateway answers with
// when it does not know the key (RFC 9458 §5.3).
const KeyProblem = "https://iana.org/assignments/http-problem-types#ohttp-key"

// Errors of this package.
var (
	// ErrKey is a request for a key that the gateway does not have, or with
	// algorithms that it does not use. The client fetches the keys again.
	ErrKey = errors.New("ohttp: unknown key or algorithms")
	// ErrOpen is a message that can't be decrypted.
	ErrOpen = errors.New("ohttp: message does not decrypt")
	// ErrKeys is a malformed list of keys, or one that has none we can use.
	ErrKeys = errors.New("ohttp: no usable key configuration")
)

// The algorithms: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, and these AEADs.
const (
	kemX25519  = 0x0020
	kdfSHA256  = 0x0001
	publicSize = 32 // of an X25519 key, and of enc
	headerSize = 7  // key_id, kem_id, kdf_id, aead_id
)

// aead is an AEAD of HPKE: its id, and Nk. Nn is 12 for all.
type aead struct {
	id   uint16
	hpke hpke.AEAD
	nk   int
	new  func(key []byte) (cipher.AEAD, error)
}

const nonceSize = 12

var aeads = []aead{
	{0x0001, hpke.AES128GCM(), 16, newGCM},
	{0x0002, hpke.AES256GCM(), 32, newGCM},
	{0x0003, hpke.ChaCha20Poly1305(), 32, chacha20poly1305.New},
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func findAEAD(id uint16) (aead, bool) {
	for _, a := range aeads {
		if a.id == id {
			return a, true
		}
	}
	return aead{}, false
}

// A Key is a gateway's key pair under an identifier.
type Key struct {
	id      uint8
	private hpke.PrivateKey
}

// DeriveKey makes the key pair that belongs to 32 or more octets of secret input.
func DeriveKey(id uint8, ikm []byte) (Key, error) {
	if len(ikm) < 32 {
		return Key{}, errors.New("ohttp: a key needs 32 octets of input")
	}
	private, err := hpke.DHKEM(ecdh.X25519()).DeriveKeyPair(ikm)
	if err != nil {
		return Key{}, fmt.Errorf("ohttp: %w", err)
	}
	return Key{id, private}, nil
}

// String does not print the key.
func (k Key) String() string { return fmt.Sprintf("ohttp key %d", k.id) }

// GoString does not print the key.
func (k Key) GoString() string { return k.String() }

// Keys are the keys that a gateway accepts, the one to be used first.
type Keys []Key

// Marshal encodes the keys' public side as application/ohttp-keys (RFC 9458 §3.2).
func (ks Keys) Marshal() []byte {
	var b []byte
	for _, k := range ks {
		c := binary.BigEndian.AppendUint16([]byte{k.id}, kemX25519)
		c = append(c, k.private.PublicKey().Bytes()...)
		c = binary.BigEndian.AppendUint16(c, uint16(4*len(aeads)))
		for _, a := range aeads {
			c = binary.BigEndian.AppendUint16(c, kdfSHA256)
			c = binary.BigEndian.AppendUint16(c, a.id)
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(c)))
		b = append(b, c...)
	}
	return b
}

// A KeyConfig is a gateway's public key with an AEAD that both sides have.
type KeyConfig struct {
	id     uint8
	public hpke.PublicKey
	aead   aead
}

// ParseKeys returns the first key configuration of an application/ohttp-keys
// document that we can use, with our preferred AEAD among its own.
func ParseKeys(b []byte) (*KeyConfig, error) {
	var usable *KeyConfig
	for len(b) > 0 {
		if len(b) < 2 {
			return nil, fmt.Errorf("%w: %w", ErrKeys, ErrTruncated)
		}
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; n > len(b) {
			return nil, fmt.Errorf("%w: %w", ErrKeys, ErrTruncated)
		}
		if usable == nil {
			usable = parseKey(b[:n])
		}
		b = b[n:]
	}
	if usable == nil {
		return nil, ErrKeys
	}
	return usable, nil
}

// parseKey returns nil for a key of another kind.
func parseKey(b []byte) *KeyConfig {
	if len(b) < 3+publicSize+2+4 || binary.BigEndian.Uint16(b[1:]) != kemX25519 {
		return nil
	}
	public, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(b[3 : 3+publicSize])
	if err != nil {
		return nil
	}
	algorithms := b[3+publicSize:]
	if int(binary.BigEndian.Uint16(algorithms)) != len(algorithms)-2 || len(algorithms)%4 != 2 {
		return nil
	}
	for _, a := range aeads {
		for pair := range slices.Chunk(algorithms[2:], 4) {
			if binary.BigEndian.Uint16(pair) == kdfSHA256 && binary.BigEndian.Uint16(pair[2:]) == a.id {
				return &KeyConfig{b[0], public, a}
			}
		}
	}
	return nil
}

// info is the info parameter of HPKE for a header (RFC 9458 §4.3).
func info(header []byte) []byte {
	return append([]byte("message/bhttp request\x00"), header...)
}

// An Exchange is one request on its way, for its response. It holds secrets.
type Exchange struct {
	secret []byte // exported
	enc    []byte
	aead   aead
}

// String does not print the secrets.
func (x *Exchange) String() string { return "ohttp exchange" }

// GoString does not print the secrets.
func (x *Exchange) GoString() string { return x.String() }

const responseLabel = "message/bhttp response"

// Encapsulate seals a binary HTTP request to the gateway (RFC 9458 §4.3).
func (k *KeyConfig) Encapsulate(request []byte) (message []byte, x *Exchange, err error) {
	header := binary.BigEndian.AppendUint16([]byte{k.id}, kemX25519)
	header = binary.BigEndian.AppendUint16(header, kdfSHA256)
	header = binary.BigEndian.AppendUint16(header, k.aead.id)
	enc, sender, err := hpke.NewSender(k.public, hpke.HKDFSHA256(), k.aead.hpke, info(header))
	if err != nil {
		return nil, nil, fmt.Errorf("ohttp: %w", err)
	}
	ct, err := sender.Seal(nil, request)
	if err != nil {
		return nil, nil, fmt.Errorf("ohttp: %w", err)
	}
	secret, err := sender.Export(responseLabel, max(nonceSize, k.aead.nk))
	if err != nil {
		return nil, nil, fmt.Errorf("ohttp: %w", err)
	}
	return slices.Concat(header, enc, ct), &Exchange{secret, enc, k.aead}, nil
}

// Decapsulate opens a request with the key that it names (RFC 9458 §4.3). The
// error is ErrKey if the client had better fetch the keys again, ErrOpen or
// ErrTruncated otherwise.
func (ks Keys) Decapsulate(message []byte) (request []byte, x *Exchange, err error) {
	if len(message) < headerSize+publicSize {
		return nil, nil, ErrTruncated
	}
	header, enc, ct := message[:headerSize], message[headerSize:headerSize+publicSize], message[headerSize+publicSize:]
	a, ok := findAEAD(binary.BigEndian.Uint16(header[5:]))
	if !ok || binary.BigEndian.Uint16(header[1:]) != kemX25519 || binary.BigEndian.Uint16(header[3:]) != kdfSHA256 {
		return nil, nil, ErrKey
	}
	i := slices.IndexFunc(ks, func(k Key) bool { return k.id == header[0] })
	if i < 0 {
		return nil, nil, ErrKey
	}
	recipient, err := hpke.NewRecipient(enc, ks[i].private, hpke.HKDFSHA256(), a.hpke, info(header))
	if err != nil {
		return nil, nil, ErrOpen
	}
	if request, err = recipient.Open(nil, ct); err != nil {
		return nil, nil, ErrOpen
	}
	secret, err := recipient.Export(responseLabel, max(nonceSize, a.nk))
	if err != nil {
		return nil, nil, fmt.Errorf("ohttp: %w", err)
	}
	return request, &Exchange{secret, bytes.Clone(enc), a}, nil
}

// Seal encrypts the binary HTTP response to the exchange's request (RFC 9458
// §4.4), with a nonce read from rand.
func (x *Exchange) Seal(rand io.Reader, response []byte) ([]byte, error) {
	nonce := make([]byte, max(nonceSize, x.aead.nk), max(nonceSize, x.aead.nk)+len(response)+16)
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("ohttp: %w", err)
	}
	c, iv, err := x.response(nonce)
	if err != nil {
		return nil, err
	}
	return c.Seal(nonce, iv, response, nil), nil
}

// Open decrypts the response to the exchange's request.
func (x *Exchange) Open(message []byte) ([]byte, error) {
	n := max(nonceSize, x.aead.nk)
	if len(message) < n {
		return nil, ErrTruncated
	}
	c, iv, err := x.response(message[:n])
	if err != nil {
		return nil, err
	}
	response, err := c.Open(nil, iv, message[n:], nil)
	if err != nil {
		return nil, ErrOpen
	}
	return response, nil
}

// response derives the AEAD and its nonce for a response.
func (x *Exchange) response(responseNonce []byte) (cipher.AEAD, []byte, error) {
	prk, err := hkdf.Extract(sha256.New, x.secret, slices.Concat(x.enc, responseNonce))
	if err != nil {
		return nil, nil, fmt.Errorf("ohttp: %w", err)
	}
	key, err := hkdf.Expand(sha256.New, prk, "key", x.aead.nk)
	if err != nil {
		return nil, nil, fmt.Errorf("ohttp: %w", err)
	}
	iv, err := hkdf.Expand(sha256.New, prk, "nonce", nonceSize)
	if err != nil {
		return nil, nil, fmt.Errorf("ohttp: %w", err)
	}
	c, err := x.aead.new(key)
	if err != nil {
		return nil, nil, fmt.Errorf("ohttp: %w", err)
	}
	return c, iv, nil
}
