package mls

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// credentialBindingTBS is what the holder of one credential of a multi-credential signs (MLS extensions §6.5.1).
type credentialBindingTBS struct {
	CipherSuite   CipherSuite
	Credential    Credential
	CredentialKey []byte
	SignatureKey  []byte // of the LeafNode
}

// Code describes a CredentialBindingTBS (MLS extensions §6.5.1).
func (b *credentialBindingTBS) Code(c *tlspl.Codec) {
	c.Field("cipher_suite")
	tlspl.Uint16(c, &b.CipherSuite)
	tlspl.Struct(c, "credential", &b.Credential)
	c.Field("credential_key")
	tlspl.Opaque(c, &b.CredentialKey)
	c.Field("signature_key")
	tlspl.Opaque(c, &b.SignatureKey)
}

const credentialBindingLabel = "CredentialBindingTBS"

// NewCredentialBinding states that the holder of a credential, with the key credentialKey, also holds the signature_key
// of a LeafNode (MLS extensions §6.5.1).
func NewCredentialBinding(rand io.Reader, credentialKey *suite.Signer, credential Credential, signatureKey []byte) (CredentialBinding, error) {
	b := CredentialBinding{
		CipherSuite:   credentialKey.Suite().ID(),
		Credential:    credential,
		CredentialKey: credentialKey.Public(),
	}
	tbs, err := b.tbs(signatureKey)
	if err != nil {
		return b, err
	}
	b.Signature, err = credentialKey.SignWithLabel(rand, credentialBindingLabel, tbs)
	return b, err
}

func (b *CredentialBinding) tbs(signatureKey []byte) ([]byte, error) {
	return tlspl.Marshal(&credentialBindingTBS{b.CipherSuite, b.Credential, b.CredentialKey, signatureKey})
}

// Verify checks the binding's signature for a LeafNode with this signature_key. It is made, and so verified, with
// credential_key, though one sentence of the draft names the other (Decision 119). Whether credential_key belongs to the
// credential is for the application to say. The error is [ErrBindingSupport] for an unknown cipher suite,
// [suite.ErrKey] or [suite.ErrSignature].
func (b *CredentialBinding) Verify(signatureKey []byte) error {
	s, ok := suite.Lookup(b.CipherSuite)
	if !ok {
		return ErrBindingSupport
	}
	tbs, err := b.tbs(signatureKey)
	if err != nil {
		return err
	}
	return s.VerifyWithLabel(b.CredentialKey, credentialBindingLabel, tbs, b.Signature)
}

// Errors of a multi-credential.
var (
	// ErrBindings: the credential has no bindings, or one of them is itself a multi-credential.
	ErrBindings = errors.New("mls: malformed multi-credential")
	// ErrBindingSupport: a member doesn't support what the credential needs (MLS extensions §6.5.2).
	ErrBindingSupport = errors.New("mls: multi-credential is not supported by all members")
)

// supported reports whether a client with these capabilities can verify the binding (MLS extensions §6.5.2).
func (b *CredentialBinding) supported(c *Capabilities) bool {
	return slices.Contains(c.CipherSuites, b.CipherSuite) && slices.Contains(c.Credentials, b.Credential.Type)
}

// VerifyBindings verifies the credential of a leaf that is of type multi or weak-multi (MLS extensions §6.5.2); it
// accepts any other type. own is what this client supports and believe says whether a credential is true for a key, as
// the authentication service would for a leaf. In a weak-multi credential bindings that own doesn't support are passed
// over; in a multi credential each must be valid.
//
// This package's own capabilities offer neither type (Decision 119); an application that does calls this from
// [Rules] and asks [Credential.BindingsSupportedBy] of every member.
func (n *LeafNode) VerifyBindings(own *Capabilities, believe func(credential *Credential, key []byte) error) error {
	cr := &n.Credential
	if cr.Type != CredentialMulti && cr.Type != CredentialWeakMulti {
		return nil
	}
	if err := cr.BindingsSupportedBy(own); err != nil {
		return err
	}
	for i := range cr.Bindings {
		b := &cr.Bindings[i]
		if !b.supported(own) {
			continue // weak-multi: somebody else's
		}
		if err := b.Verify(n.SignatureKey); err != nil {
			return fmt.Errorf("mls: credential binding %d: %w", i, err)
		}
		if err := believe(&b.Credential, b.CredentialKey); err != nil {
			return fmt.Errorf("mls: credential binding %d: %w", i, err)
		}
	}
	return nil
}

// BindingsSupportedBy says whether a member with these capabilities supports the credential: its type, and of its
// bindings every one (multi) or at least one (weak-multi) (MLS extensions §6.5.2). The error is [ErrBindings] or
// [ErrBindingSupport]; other types of credentials have no bindings to support.
func (cr *Credential) BindingsSupportedBy(c *Capabilities) error {
	if cr.Type != CredentialMulti && cr.Type != CredentialWeakMulti {
		return nil
	}
	if len(cr.Bindings) == 0 {
		return ErrBindings
	}
	if !slices.Contains(c.Credentials, cr.Type) {
		return ErrBindingSupport
	}
	n := 0
	for i := range cr.Bindings {
		b := &cr.Bindings[i]
		if t := b.Credential.Type; t == CredentialMulti || t == CredentialWeakMulti {
			return ErrBindings
		}
		if b.supported(c) {
			n++
		}
	}
	if n == 0 || cr.Type == CredentialMulti && n < len(cr.Bindings) {
		return ErrBindingSupport
	}
	return nil
}
