package account

import (
	"crypto/rand"
	"crypto/subtle"

	"golang.org/x/crypto/argon2"

	"github.com/comity-im/comity/tlspl"
)

// A passwordHash is an Argon2id hash with what it was made with, so that a
// later program can raise the cost.
type passwordHash struct {
	Version   uint8 // 1: Argon2id
	Time      uint32
	MemoryKiB uint32
	Threads   uint8
	Salt      []byte
	Hash      []byte
}

func (p *passwordHash) Code(c *tlspl.Codec) {
	tlspl.Uint8(c, &p.Version)
	tlspl.Uint32(c, &p.Time)
	tlspl.Uint32(c, &p.MemoryKiB)
	tlspl.Uint8(c, &p.Threads)
	tlspl.Opaque(c, &p.Salt)
	tlspl.Opaque(c, &p.Hash)
}

// current is the second of the choices in RFC 9106 §4, with less memory: about
// 40 ms on one core.
var current = passwordHash{Version: 1, Time: 2, MemoryKiB: 19 << 10, Threads: 1}

func (p *passwordHash) derive(password string) []byte {
	return argon2.IDKey([]byte(password), p.Salt, p.Time, p.MemoryKiB, p.Threads, 32)
}

func hashPassword(password string) ([]byte, error) {
	p := current
	p.Salt = make([]byte, 16)
	rand.Read(p.Salt)
	p.Hash = p.derive(password)
	return tlspl.Marshal(&p)
}

// passwordMatches compares a password with a stored hash. It takes as long for
// a hash that isn't there.
func passwordMatches(stored []byte, password string) bool {
	var p passwordHash
	if tlspl.Unmarshal(stored, &p) != nil || p.Version != 1 || p.Time == 0 || p.Threads == 0 {
		p = current
		p.Salt = make([]byte, 16)
		p.derive(password)
		return false
	}
	return subtle.ConstantTimeCompare(p.derive(password), p.Hash) == 1
}
