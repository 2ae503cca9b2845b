package mls

import (
	"slices"

	"github.com/comity-im/comity/tlspl"
)

// A LeafNodeSource says how a leaf came into the tree (RFC 9420 §7.2).
type LeafNodeSource uint8

// The sources of RFC 9420 §7.2.
const (
	SourceKeyPackage LeafNodeSource = 1
	SourceUpdate     LeafNodeSource = 2
	SourceCommit     LeafNodeSource = 3
)

// Capabilities lists what a client supports beyond the defaults of
// RFC 9420 §7.2. Unknown values are ignored.
type Capabilities struct {
	Versions     []ProtocolVersion
	CipherSuites []CipherSuite
	Extensions   []ExtensionType
	Proposals    []ProposalType
	Credentials  []CredentialType
}

// Code describes Capabilities (RFC 9420 §7.2).
func (p *Capabilities) Code(c *tlspl.Codec) {
	c.Field("versions")
	tlspl.VectorFunc(c, &p.Versions, tlspl.Uint16)
	c.Field("cipher_suites")
	tlspl.VectorFunc(c, &p.CipherSuites, tlspl.Uint16)
	c.Field("extensions")
	tlspl.VectorFunc(c, &p.Extensions, tlspl.Uint16)
	c.Field("proposals")
	tlspl.VectorFunc(c, &p.Proposals, tlspl.Uint16)
	c.Field("credentials")
	tlspl.VectorFunc(c, &p.Credentials, tlspl.Uint16)
}

// SupportsExtension reports whether t is a default type or listed.
func (p *Capabilities) SupportsExtension(t ExtensionType) bool {
	return t.IsDefault() || slices.Contains(p.Extensions, t)
}

// SupportsProposal reports whether t is a default type or listed.
func (p *Capabilities) SupportsProposal(t ProposalType) bool {
	return t.IsDefault() || slices.Contains(p.Proposals, t)
}

// SupportsCredential reports whether t is listed.
func (p *Capabilities) SupportsCredential(t CredentialType) bool {
	return slices.Contains(p.Credentials, t)
}

// A Lifetime is when a leaf from a KeyPackage is valid, in seconds since the
// Unix epoch, both inclusive (RFC 9420 §7.2).
type Lifetime struct {
	NotBefore uint64
	NotAfter  uint64
}

// Code describes a Lifetime (RFC 9420 §7.2).
func (l *Lifetime) Code(c *tlspl.Codec) {
	c.Field("not_before")
	tlspl.Uint64(c, &l.NotBefore)
	c.Field("not_after")
	tlspl.Uint64(c, &l.NotAfter)
}

// A LeafNode is what the group knows of one member (RFC 9420 §7.2).
//
// A decoded LeafNode keeps the octets that its signature covers; one that is
// changed afterwards must be signed again.
type LeafNode struct {
	EncryptionKey []byte // HPKE public key
	SignatureKey  []byte
	Credential    Credential
	Capabilities  Capabilities
	Source        LeafNodeSource
	Lifetime      Lifetime // SourceKeyPackage
	ParentHash    []byte   // SourceCommit
	Extensions    Extensions
	Signature     []byte // SignWithLabel(., "LeafNodeTBS", LeafNodeTBS)

	tbs []byte // the octets before signature, as they arrived
}

// Code describes a LeafNode (RFC 9420 §7.2).
func (n *LeafNode) Code(c *tlspl.Codec) {
	tlspl.Raw(c, &n.tbs, func() { n.codeTBS(c) })
	c.Field("signature")
	tlspl.Opaque(c, &n.Signature)
}

func (n *LeafNode) codeTBS(c *tlspl.Codec) {
	c.Field("encryption_key")
	tlspl.Opaque(c, &n.EncryptionKey)
	c.Field("signature_key")
	tlspl.Opaque(c, &n.SignatureKey)
	tlspl.Struct(c, "credential", &n.Credential)
	tlspl.Struct(c, "capabilities", &n.Capabilities)
	c.Field("leaf_node_source")
	tlspl.Uint8(c, &n.Source)
	switch n.Source {
	case SourceKeyPackage:
		tlspl.Struct(c, "lifetime", &n.Lifetime)
	case SourceUpdate:
	case SourceCommit:
		c.Field("parent_hash")
		tlspl.Opaque(c, &n.ParentHash)
	default:
		c.Fail(tlspl.ErrValue)
	}
	n.Extensions.Code(c)
}

// leafNodeTBS is what a leaf's signature covers (RFC 9420 §7.2).
type leafNodeTBS struct {
	leaf    *LeafNode
	groupID []byte
	index   LeafIndex
}

// Code describes a LeafNodeTBS (RFC 9420 §7.2).
func (t *leafNodeTBS) Code(c *tlspl.Codec) {
	if t.leaf.tbs != nil {
		tlspl.Fixed(c, t.leaf.tbs)
	} else {
		t.leaf.codeTBS(c)
	}
	if t.leaf.Source != SourceKeyPackage {
		tlspl.Opaque(c, &t.groupID)
		tlspl.Uint32(c, &t.index)
	}
}

// tbsBytes returns LeafNodeTBS. groupID and index count only for leaves that
// were made inside a group (SourceUpdate, SourceCommit).
func (n *LeafNode) tbsBytes(groupID []byte, index LeafIndex) ([]byte, error) {
	return tlspl.Marshal(&leafNodeTBS{n, groupID, index})
}
