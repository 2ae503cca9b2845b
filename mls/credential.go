package mls

import (
	"bytes"

	"github.com/comity-im/comity/tlspl"
)

// A CredentialType says how a Credential names its owner (RFC 9420 §5.3).
type CredentialType uint16

// The credential types of RFC 9420 §17.5 and MLS extensions §7.3.
const (
	CredentialBasic     CredentialType = 1
	CredentialX509      CredentialType = 2
	CredentialMulti     CredentialType = 3
	CredentialWeakMulti CredentialType = 4
)

var credentialNames = map[CredentialType]string{
	CredentialBasic:     "basic",
	CredentialX509:      "x509",
	CredentialMulti:     "multi",
	CredentialWeakMulti: "weak-multi",
}

// String is the name in the IANA registry, or the number.
func (t CredentialType) String() string { return nameOf(credentialNames, t) }

// A Credential binds a name to a signature key. MLS carries it; whether it is
// true is for the application to say (RFC 9420 §5.3.1).
//
// A type that this package doesn't know is read as one opaque<V>, which is how
// an application's own types must be encoded.
type Credential struct {
	Type         CredentialType
	Identity     []byte              // basic
	Certificates []Certificate       // x509: DER, the leaf first
	Bindings     []CredentialBinding // multi, weak-multi
	Custom       []byte              // any other type
}

// BasicCredential returns a basic credential.
func BasicCredential(identity []byte) Credential {
	return Credential{Type: CredentialBasic, Identity: identity}
}

// X509Credential returns a credential from a DER certificate chain, leaf
// first.
func X509Credential(chain ...[]byte) Credential {
	c := Credential{Type: CredentialX509}
	for _, der := range chain {
		c.Certificates = append(c.Certificates, Certificate{der})
	}
	return c
}

// Code describes a Credential (RFC 9420 §5.3).
func (cr *Credential) Code(c *tlspl.Codec) {
	c.Field("credential_type")
	tlspl.Uint16(c, &cr.Type)
	switch cr.Type {
	case CredentialBasic:
		c.Field("identity")
		tlspl.Opaque(c, &cr.Identity)
	case CredentialX509:
		c.Field("certificates")
		tlspl.Vector(c, &cr.Certificates)
	case CredentialMulti, CredentialWeakMulti:
		c.Field("bindings")
		tlspl.Vector(c, &cr.Bindings)
	case 0:
		c.Fail(tlspl.ErrValue)
	default:
		c.Field("custom")
		tlspl.Opaque(c, &cr.Custom)
	}
}

// Equal reports whether both credentials have the same encoding.
func (cr *Credential) Equal(other *Credential) bool {
	if cr.Type != other.Type {
		return false
	}
	if cr.Type == CredentialBasic {
		return bytes.Equal(cr.Identity, other.Identity)
	}
	a, errA := tlspl.Marshal(cr)
	b, errB := tlspl.Marshal(other)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// A Certificate is a DER-encoded X.509 certificate (RFC 9420 §5.3).
type Certificate struct {
	CertData []byte
}

// Code describes a Certificate (RFC 9420 §5.3).
func (x *Certificate) Code(c *tlspl.Codec) {
	c.Field("cert_data")
	tlspl.Opaque(c, &x.CertData)
}

// A CredentialBinding is one part of a multi-credential (MLS extensions §6.5).
// Comity reads them and offers none (Decision 119).
type CredentialBinding struct {
	CipherSuite   CipherSuite
	Credential    Credential
	CredentialKey []byte
	Signature     []byte
}

// Code describes a CredentialBinding (MLS extensions §6.5).
func (b *CredentialBinding) Code(c *tlspl.Codec) {
	c.Field("cipher_suite")
	tlspl.Uint16(c, &b.CipherSuite)
	tlspl.Struct(c, "credential", &b.Credential)
	c.Field("credential_key")
	tlspl.Opaque(c, &b.CredentialKey)
	c.Field("signature")
	tlspl.Opaque(c, &b.Signature)
}
