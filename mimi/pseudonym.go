package mimi

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// Minimal metadata rooms (MIMI protocol §6) hide from the hub who is in a room:
// its members have pseudonymous credentials, which hold the real ones encrypted.
// How members come by the key is an open point of the draft, and the credential
// has no type number, so such rooms can't be built from it (Decision 12). What
// is here depends on neither: the structs, what of them can be checked without
// the key, and the encryption under a key that the caller brings. Where a
// setting says so, leaves may have such credentials, under a private number.

// A PseudonymousCredential names a client by pseudonyms (MIMI protocol §6.1).
type PseudonymousCredential struct {
	ClientPseudonym        ClientURI
	UserPseudonym          UserURI // of kind p; the user's entry in the participant list
	SignaturePublicKey     []byte
	IdentityLinkCiphertext []byte
}

// Code describes a PseudonymousCredential. Decision 12
func (p *PseudonymousCredential) Code(c *tlspl.Codec) {
	(*pseudonymousCredentialTBS)(p).Code(c)
	c.Field("identity_link_ciphertext")
	tlspl.Opaque(c, &p.IdentityLinkCiphertext)
}

// pseudonymousCredentialTBS is what the real credential's key signs.
type pseudonymousCredentialTBS PseudonymousCredential

// Code describes a PseudonymousCredentialTBS (MIMI protocol §6.1).
func (p *pseudonymousCredentialTBS) Code(c *tlspl.Codec) {
	c.Field("client_pseudonym")
	p.ClientPseudonym.Code(c)
	c.Field("user_pseudonym")
	p.UserPseudonym.Code(c)
	c.Field("signature_public_key")
	tlspl.Opaque(c, &p.SignaturePublicKey)
}

// An IdentityLinkTBE ties a pseudonymous credential to a real one (MIMI
// protocol §6.1).
type IdentityLinkTBE struct {
	PseudonymousCredentialSignature []byte // by the key of ClientCredential
	ClientCredential                mls.Credential
}

// Code describes an IdentityLinkTBE.
func (l *IdentityLinkTBE) Code(c *tlspl.Codec) {
	c.Field("pseudonymous_credential_signature")
	tlspl.Opaque(c, &l.PseudonymousCredentialSignature)
	tlspl.Struct(c, "client_credential", &l.ClientCredential)
}

// CredentialPseudonymous is the credential type of a PseudonymousCredential: a number for private use, since the draft has
// none. It is refused unless a provider and its clients are set to take it.
const CredentialPseudonymous mls.CredentialType = 0xF006

// Credential returns the credential as a leaf has it: under a type that MLS reads as one opaque<V>.
func (p *PseudonymousCredential) Credential() (mls.Credential, error) {
	b, err := tlspl.Marshal(p)
	return mls.Credential{Type: CredentialPseudonymous, Custom: b}, err
}

// ParsePseudonymousCredential reads a leaf's credential of type CredentialPseudonymous. It checks nothing.
func ParsePseudonymousCredential(c *mls.Credential) (*PseudonymousCredential, error) {
	if c.Type != CredentialPseudonymous {
		return nil, fmt.Errorf("%w: credential type %v", ErrPseudonym, c.Type)
	}
	p := new(PseudonymousCredential)
	return p, tlspl.Unmarshal(c.Custom, p)
}

const pseudonymousCredentialLabel = "PseudonymousCredentialTBS"

// What is wrong with a pseudonymous credential.
var (
	ErrPseudonym    = errors.New("mimi: not a pseudonym: a random UUID on the provider's domain")
	ErrIdentityLink = errors.New("mimi: identity link does not decrypt")
)

// NewPseudonyms draws a pseudonym for a user in one room and one for a client
// of theirs: UUIDs of version 4. Further clients of the user in that room keep
// the first and draw only the second (MIMI protocol §6.1).
func NewPseudonyms(rand io.Reader, domain ProviderDomain) (UserURI, ClientURI, error) {
	user, err := newUUID(rand)
	if err != nil {
		return "", "", err
	}
	client, err := newUUID(rand)
	if err != nil {
		return "", "", err
	}
	u, err := NewPseudonymURI(domain, user)
	if err != nil {
		return "", "", err
	}
	d, err := NewClientURI(domain, client)
	return u, d, err
}

func newUUID(rand io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", err
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}

// isUUID reports whether s is a UUID of version 4 in lower case.
func isUUID(s string) bool {
	if len(s) != 36 || s[14] != '4' || !bytes.ContainsRune([]byte("89ab"), rune(s[19])) {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if anyHex(c) < 0 || 'A' <= c && c <= 'F' {
				return false
			}
		}
	}
	return true
}

// Check checks what needs no key: that the pseudonyms are UUIDs on one host,
// and that the credential is for the leaf's signature key. The error wraps
// ErrPseudonym.
func (p *PseudonymousCredential) Check(signatureKey []byte) error {
	segments := p.ClientPseudonym.Segments()
	switch {
	case !p.UserPseudonym.Pseudonym() || !isUUID(p.UserPseudonym.Name()):
		return fmt.Errorf("%w: %s", ErrPseudonym, p.UserPseudonym)
	case len(segments) != 1 || !isUUID(segments[0]):
		return fmt.Errorf("%w: %s", ErrPseudonym, p.ClientPseudonym)
	case p.UserPseudonym.Host() != p.ClientPseudonym.Host():
		return fmt.Errorf("%w: %s and %s are of different hosts", ErrPseudonym, p.UserPseudonym, p.ClientPseudonym)
	case !bytes.Equal(p.SignaturePublicKey, signatureKey):
		return fmt.Errorf("%w: the credential is for another signature key", ErrPseudonym)
	}
	return nil
}

// SealIdentity signs the credential's pseudonyms with the key of the real
// credential, and sets IdentityLinkCiphertext: a random nonce and the
// IdentityLinkTBE, encrypted by the suite's AEAD under key, of Nk octets, with
// the PseudonymousCredentialTBS as additional data. The draft names no
// algorithm; this is Comity's choice.
func (p *PseudonymousCredential) SealIdentity(rand io.Reader, key []byte, real *suite.Signer, credential mls.Credential) error {
	s := real.Suite()
	tbs, err := tlspl.Marshal((*pseudonymousCredentialTBS)(p))
	if err != nil {
		return err
	}
	link := IdentityLinkTBE{ClientCredential: credential}
	if link.PseudonymousCredentialSignature, err = real.SignWithLabel(rand, pseudonymousCredentialLabel, tbs); err != nil {
		return err
	}
	plaintext, err := tlspl.Marshal(&link)
	if err != nil {
		return err
	}
	aead, err := s.AEAD(key)
	if err != nil {
		return err
	}
	nonce := make([]byte, s.Nn())
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return err
	}
	p.IdentityLinkCiphertext = aead.Seal(nonce, nonce, plaintext, tbs)
	return nil
}

// OpenIdentity decrypts the real credential. It is true only if Verify agrees,
// with the signature key that the real credential proves.
func (p *PseudonymousCredential) OpenIdentity(s suite.Suite, key []byte) (*IdentityLinkTBE, error) {
	tbs, err := tlspl.Marshal((*pseudonymousCredentialTBS)(p))
	if err != nil {
		return nil, err
	}
	aead, err := s.AEAD(key)
	if err != nil {
		return nil, err
	}
	if len(p.IdentityLinkCiphertext) < s.Nn() {
		return nil, ErrIdentityLink
	}
	nonce, ciphertext := p.IdentityLinkCiphertext[:s.Nn()], p.IdentityLinkCiphertext[s.Nn():]
	plaintext, err := aead.Open(nil, nonce, ciphertext, tbs)
	if err != nil {
		return nil, ErrIdentityLink
	}
	link := new(IdentityLinkTBE)
	if err := tlspl.UnmarshalAlias(plaintext, link); err != nil {
		return nil, err
	}
	return link, nil
}

// Verify checks that the holder of the real credential, whose signature key is
// given, took the pseudonyms and the signature key of p for its own.
func (l *IdentityLinkTBE) Verify(p *PseudonymousCredential, s suite.Suite, realKey []byte) error {
	tbs, err := tlspl.Marshal((*pseudonymousCredentialTBS)(p))
	if err != nil {
		return err
	}
	return s.VerifyWithLabel(realKey, pseudonymousCredentialLabel, tbs, l.PseudonymousCredentialSignature)
}
