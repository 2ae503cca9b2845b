package mls

import "github.com/comity-im/comity/tlspl"

// A ParentNode is an inner node of the ratchet tree (RFC 9420 §7.1).
type ParentNode struct {
	EncryptionKey  []byte
	ParentHash     []byte
	UnmergedLeaves []LeafIndex // increasing
}

// Code describes a ParentNode (RFC 9420 §7.1).
func (n *ParentNode) Code(c *tlspl.Codec) {
	c.Field("encryption_key")
	tlspl.Opaque(c, &n.EncryptionKey)
	c.Field("parent_hash")
	tlspl.Opaque(c, &n.ParentHash)
	c.Field("unmerged_leaves")
	tlspl.VectorFunc(c, &n.UnmergedLeaves, tlspl.Uint32)
}

// NodeType values (RFC 9420 §7.8).
const (
	nodeLeaf   uint8 = 1
	nodeParent uint8 = 2
)

// A Node is an optional<Node> of the ratchet_tree extension: a leaf, a parent,
// or blank if both are nil (RFC 9420 §12.4.3.3).
type Node struct {
	Leaf   *LeafNode
	Parent *ParentNode
}

// Code describes an optional<Node> (RFC 9420 §12.4.3.3).
func (n *Node) Code(c *tlspl.Codec) {
	present := n.Leaf != nil || n.Parent != nil
	tlspl.Bool(c, &present)
	if !present || c.Err() != nil {
		return
	}
	kind := nodeParent
	if n.Leaf != nil {
		kind = nodeLeaf
	}
	c.Field("node_type")
	tlspl.Uint8(c, &kind)
	switch kind {
	case nodeLeaf:
		body(c, "leaf_node", &n.Leaf)
	case nodeParent:
		body(c, "parent_node", &n.Parent)
	default:
		c.Fail(tlspl.ErrValue)
	}
}

// A RatchetTreeExtension is the content of the ratchet_tree extension: the
// nodes from left to right, leaves at even positions, no blanks at the end
// (RFC 9420 §12.4.3.3). It is what travels.
type RatchetTreeExtension []Node

// Code describes the ratchet_tree extension (RFC 9420 §12.4.3.3).
func (t *RatchetTreeExtension) Code(c *tlspl.Codec) {
	c.Field("ratchet_tree")
	tlspl.Vector(c, (*[]Node)(t))
}
