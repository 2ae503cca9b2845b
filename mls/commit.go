package mls

import "github.com/comity-im/comity/tlspl"

// A ProposalRef is the hash of the AuthenticatedContent that carried a
// proposal (RFC 9420 §5.2).
type ProposalRef []byte

// ProposalOrRef types (RFC 9420 §12.4).
const (
	proposalByValue     uint8 = 1
	proposalByReference uint8 = 2
)

// A ProposalOrRef is a proposal in a commit, by value or by reference
// (RFC 9420 §12.4). Exactly one field is set.
type ProposalOrRef struct {
	Proposal  *Proposal
	Reference ProposalRef
}

// Code describes a ProposalOrRef (RFC 9420 §12.4).
func (p *ProposalOrRef) Code(c *tlspl.Codec) {
	kind := proposalByReference
	if p.Proposal != nil {
		kind = proposalByValue
	}
	c.Field("type")
	tlspl.Uint8(c, &kind)
	switch kind {
	case proposalByValue:
		body(c, "proposal", &p.Proposal)
	case proposalByReference:
		c.Field("reference")
		tlspl.Opaque(c, &p.Reference)
	default:
		c.Fail(tlspl.ErrValue)
	}
}

// A Commit moves the group to its next epoch (RFC 9420 §12.4).
type Commit struct {
	Proposals []ProposalOrRef
	Path      *UpdatePath
}

// Code describes a Commit (RFC 9420 §12.4).
func (m *Commit) Code(c *tlspl.Codec) {
	c.Field("proposals")
	tlspl.Vector(c, &m.Proposals)
	c.Field("path")
	tlspl.Optional(c, &m.Path)
}

// An UpdatePath gives new keys for a leaf and its filtered direct path
// (RFC 9420 §7.6).
type UpdatePath struct {
	LeafNode LeafNode
	Nodes    []UpdatePathNode
}

// Code describes an UpdatePath (RFC 9420 §7.6).
func (u *UpdatePath) Code(c *tlspl.Codec) {
	tlspl.Struct(c, "leaf_node", &u.LeafNode)
	c.Field("nodes")
	tlspl.Vector(c, &u.Nodes)
}

// An UpdatePathNode is the new public key of one node, and the path secret
// encrypted to each node of its copath child's resolution (RFC 9420 §7.6).
type UpdatePathNode struct {
	EncryptionKey       []byte
	EncryptedPathSecret []HPKECiphertext
}

// Code describes an UpdatePathNode (RFC 9420 §7.6).
func (u *UpdatePathNode) Code(c *tlspl.Codec) {
	c.Field("encryption_key")
	tlspl.Opaque(c, &u.EncryptionKey)
	c.Field("encrypted_path_secret")
	tlspl.Vector(c, &u.EncryptedPathSecret)
}
