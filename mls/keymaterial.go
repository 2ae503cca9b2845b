package mls

import (
	"io"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// LeafOptions is what a client says of itself in a leaf.
type LeafOptions struct {
	Credential   Credential
	Capabilities Capabilities
	Extensions   Extensions
	Signer       *suite.Signer
}

// leaf returns an unsigned leaf.
func (o *LeafOptions) leaf() LeafNode {
	return LeafNode{
		SignatureKey: o.Signer.Public(), Credential: o.Credential, Capabilities: o.Capabilities, Extensions: o.Extensions,
	}
}

// KeyPackageOptions is what a KeyPackage is made from.
type KeyPackageOptions struct {
	CipherSuite CipherSuite
	Leaf        LeafOptions
	Lifetime    Lifetime
	Extensions  Extensions
}

// KeyPackageSecrets are a KeyPackage with its private keys. They are to be
// deleted when the KeyPackage was used, unless it is one of last resort
// (RFC 9420 §10).
type KeyPackageSecrets struct {
	KeyPackage    KeyPackage
	InitKey       *suite.PrivateKey
	EncryptionKey *suite.PrivateKey
	Signer        *suite.Signer
}

// NewKeyPackage makes a KeyPackage (RFC 9420 §10).
func NewKeyPackage(rand io.Reader, o KeyPackageOptions) (*KeyPackageSecrets, error) {
	s, ok := suite.Lookup(o.CipherSuite)
	if !ok {
		return nil, ErrCipherSuite
	}
	init, err := s.GenerateKeyPair(rand)
	if err != nil {
		return nil, err
	}
	leafKey, err := s.GenerateKeyPair(rand)
	if err != nil {
		return nil, err
	}
	leaf := o.Leaf.leaf()
	leaf.EncryptionKey = leafKey.Public()
	leaf.Source = SourceKeyPackage
	leaf.Lifetime = o.Lifetime
	if err := leaf.sign(rand, o.Leaf.Signer, nil, 0); err != nil {
		return nil, err
	}
	k := KeyPackage{Version: MLS10, CipherSuite: o.CipherSuite, InitKey: init.Public(), LeafNode: leaf, Extensions: o.Extensions}
	tbs, err := k.tbsBytes()
	if err != nil {
		return nil, err
	}
	if k.Signature, err = o.Leaf.Signer.SignWithLabel(rand, "KeyPackageTBS", tbs); err != nil {
		return nil, err
	}
	return &KeyPackageSecrets{k, init, leafKey, o.Leaf.Signer}, nil
}

// sign signs a leaf (RFC 9420 §7.2). groupID and index count for leaves that
// are made in a group.
func (n *LeafNode) sign(rand io.Reader, signer *suite.Signer, groupID []byte, index LeafIndex) error {
	n.tbs = nil
	tbs, err := n.tbsBytes(groupID, index)
	if err != nil {
		return err
	}
	n.Signature, err = signer.SignWithLabel(rand, "LeafNodeTBS", tbs)
	return err
}

// Ref returns the reference by which a Welcome names the KeyPackage (RFC 9420
// §5.2). It gives ErrCipherSuite if the suite is not known.
func (k *KeyPackage) Ref() (KeyPackageRef, error) {
	s, ok := suite.Lookup(k.CipherSuite)
	if !ok {
		return nil, ErrCipherSuite
	}
	b, err := k.bytes()
	if err != nil {
		return nil, err
	}
	return s.RefHash("MLS 1.0 KeyPackage Reference", b), nil
}

// Verify verifies a KeyPackage on its own, before it is used in any group
// (RFC 9420 §10.1): its form, its signatures, and if now is not 0, that now, in
// seconds since the Unix epoch, lies in its lifetime. The error is
// ErrCipherSuite or a *[TreeError].
func (k *KeyPackage) Verify(now uint64) error {
	s, ok := suite.Lookup(k.CipherSuite)
	if !ok {
		return ErrCipherSuite
	}
	rules := LeafRules{Now: now}
	return rules.CheckKeyPackage(s, k)
}

// storedKeyPackage is how KeyPackageSecrets are stored.
type storedKeyPackage struct {
	keyPackage                KeyPackage
	init, encryption, signing []byte
}

// Code describes the stored form of KeyPackageSecrets.
func (k *storedKeyPackage) Code(c *tlspl.Codec) {
	tlspl.Struct(c, "key_package", &k.keyPackage)
	tlspl.Opaque(c, &k.init)
	tlspl.Opaque(c, &k.encryption)
	tlspl.Opaque(c, &k.signing)
}

// Marshal encodes the secrets for [LoadKeyPackageSecrets].
func (k *KeyPackageSecrets) Marshal() ([]byte, error) {
	init, err := k.InitKey.Bytes()
	if err != nil {
		return nil, err
	}
	encryption, err := k.EncryptionKey.Bytes()
	if err != nil {
		return nil, err
	}
	return tlspl.Marshal(&storedKeyPackage{k.KeyPackage, init, encryption, k.Signer.Bytes()})
}

// LoadKeyPackageSecrets decodes what [KeyPackageSecrets.Marshal] gave.
func LoadKeyPackageSecrets(b []byte) (*KeyPackageSecrets, error) {
	var stored storedKeyPackage
	if err := tlspl.Unmarshal(b, &stored); err != nil {
		return nil, err
	}
	return NewKeyPackageSecrets(stored.keyPackage, stored.init, stored.encryption, stored.signing)
}

// NewKeyPackageSecrets puts a KeyPackage together with its private keys: of
// init_key, of the leaf's encryption_key and of its signature_key.
func NewKeyPackageSecrets(k KeyPackage, init, encryption, signing []byte) (*KeyPackageSecrets, error) {
	s, ok := suite.Lookup(k.CipherSuite)
	if !ok {
		return nil, ErrCipherSuite
	}
	initKey, err := s.ParsePrivateKey(init)
	if err != nil {
		return nil, err
	}
	encryptionKey, err := s.ParsePrivateKey(encryption)
	if err != nil {
		return nil, err
	}
	signer, err := s.NewSigner(signing)
	if err != nil {
		return nil, err
	}
	return &KeyPackageSecrets{k, initKey, encryptionKey, signer}, nil
}

// String hides the keys.
func (k *KeyPackageSecrets) String() string { return "KeyPackageSecrets(redacted)" }

// GoString hides the keys.
func (k *KeyPackageSecrets) GoString() string { return k.String() }
