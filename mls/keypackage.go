package mls

import "github.com/comity-im/comity/tlspl"

// A KeyPackage is what a client publishes so that others can add it to a group
// (RFC 9420 §10).
//
// A decoded KeyPackage keeps the octets that arrived, which its signature and
// its reference cover.
type KeyPackage struct {
	Version     ProtocolVersion
	CipherSuite CipherSuite
	InitKey     []byte // HPKE public key
	LeafNode    LeafNode
	Extensions  Extensions
	Signature   []byte // SignWithLabel(., "KeyPackageTBS", KeyPackageTBS)

	raw []byte // as it arrived
	tbs []byte // the octets before signature
}

// Code describes a KeyPackage (RFC 9420 §10).
func (k *KeyPackage) Code(c *tlspl.Codec) {
	tlspl.Raw(c, &k.raw, func() {
		tlspl.Raw(c, &k.tbs, func() { k.codeTBS(c) })
		c.Field("signature")
		tlspl.Opaque(c, &k.Signature)
	})
}

func (k *KeyPackage) codeTBS(c *tlspl.Codec) {
	k.Version.code(c)
	c.Field("cipher_suite")
	tlspl.Uint16(c, &k.CipherSuite)
	c.Field("init_key")
	tlspl.Opaque(c, &k.InitKey)
	tlspl.Struct(c, "leaf_node", &k.LeafNode)
	k.Extensions.Code(c)
}

// tbsBytes returns KeyPackageTBS (RFC 9420 §10).
func (k *KeyPackage) tbsBytes() ([]byte, error) {
	if k.tbs != nil {
		return k.tbs, nil
	}
	return tlspl.Marshal((*keyPackageTBS)(k))
}

// bytes returns the encoding, the one that arrived if it was decoded.
func (k *KeyPackage) bytes() ([]byte, error) {
	if k.raw != nil {
		return k.raw, nil
	}
	return tlspl.Marshal(k)
}

type keyPackageTBS KeyPackage

// Code describes a KeyPackageTBS (RFC 9420 §10).
func (k *keyPackageTBS) Code(c *tlspl.Codec) { (*KeyPackage)(k).codeTBS(c) }
