package mls

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/comity-im/comity/mls/suite"
)

// A modelTree is the ratchet tree as RFC 9420 Appendix C describes it: an array of 2^(d+1)-1 nodes, every question answered by
// looking at all of it.
type modelTree struct {
	suite suite.Suite
	nodes []Node
}

func newModelTree(s suite.Suite) *modelTree { return &modelTree{s, make([]Node, 1)} }

func (m *modelTree) blank(x NodeIndex) bool {
	return m.nodes[x].Leaf == nil && m.nodes[x].Parent == nil
}

func (m *modelTree) depth() int { return treeDepth(uint32(len(m.nodes)+1) / 2) }

func (m *modelTree) path(i LeafIndex) []NodeIndex {
	var path []NodeIndex
	for x := i.Node(); x.Level() < m.depth(); {
		x = x.Parent()
		path = append(path, x)
	}
	return path
}

func (m *modelTree) nextLeaf() LeafIndex {
	for x := 0; x < len(m.nodes); x += 2 {
		if m.nodes[x].Leaf == nil {
			return LeafIndex(x / 2)
		}
	}
	return LeafIndex(len(m.nodes)+1) / 2
}

func (m *modelTree) extend(i LeafIndex) {
	for int(i.Node()) >= len(m.nodes) {
		m.nodes = append(m.nodes, make([]Node, len(m.nodes)+1)...)
	}
}

func (m *modelTree) add(n *LeafNode) LeafIndex {
	i := m.nextLeaf()
	m.extend(i)
	m.nodes[i.Node()].Leaf = n
	for _, x := range m.path(i) {
		if p := m.nodes[x].Parent; p != nil {
			c := *p
			c.UnmergedLeaves = append(slices.Clone(c.UnmergedLeaves), i)
			slices.Sort(c.UnmergedLeaves)
			m.nodes[x].Parent = &c
		}
	}
	return i
}

func (m *modelTree) blankPath(i LeafIndex) {
	for _, x := range m.path(i) {
		m.nodes[x] = Node{}
	}
}

func (m *modelTree) update(i LeafIndex, n *LeafNode) {
	m.blankPath(i)
	m.nodes[i.Node()].Leaf = n
}

func (m *modelTree) remove(i LeafIndex) {
	m.blankPath(i)
	m.nodes[i.Node()] = Node{}
	for len(m.nodes) > 1 {
		half := len(m.nodes) / 2
		for x := half + 1; x < len(m.nodes); x++ {
			if !m.blank(NodeIndex(x)) {
				return
			}
		}
		m.nodes = m.nodes[:half]
	}
}

func (m *modelTree) resolution(x NodeIndex) []NodeIndex {
	switch n := m.nodes[x]; {
	case n.Leaf != nil:
		return []NodeIndex{x}
	case n.Parent != nil:
		r := []NodeIndex{x}
		for _, i := range n.Parent.UnmergedLeaves {
			r = append(r, i.Node())
		}
		return r
	case x.IsLeaf():
		return nil
	}
	return append(m.resolution(x.Left()), m.resolution(x.Right())...)
}

func (m *modelTree) filteredPath(i LeafIndex) []NodeIndex {
	var path []NodeIndex
	below := i.Node()
	for _, x := range m.path(i) {
		if len(m.resolution(below.Sibling())) > 0 {
			path = append(path, x)
		}
		below = x
	}
	return path
}

// mergePath does what a receiver does with the public part of a path, without any check.
func (m *modelTree) mergePath(i LeafIndex, path *UpdatePath) {
	m.extend(i)
	filtered := m.filteredPath(i)
	m.blankPath(i)
	parentHash := []byte{}
	for k, x := range slices.Backward(filtered) {
		m.nodes[x].Parent = &ParentNode{EncryptionKey: path.Nodes[k].EncryptionKey, ParentHash: parentHash}
		sibling := x.Left()
		if sibling.covers(i) {
			sibling = x.Right()
		}
		var in []byte
		for _, part := range [][]byte{path.Nodes[k].EncryptionKey, parentHash, m.treeHash(sibling)} {
			in = append(in, marshal((*opaque)(&part))...)
		}
		parentHash = m.suite.Hash(in)
	}
	leaf := path.LeafNode
	m.nodes[i.Node()].Leaf = &leaf
}

func (m *modelTree) treeHash(x NodeIndex) []byte {
	n := m.nodes[x]
	if x.IsLeaf() {
		in := binary.BigEndian.AppendUint32([]byte{1}, uint32(x.Leaf()))
		if n.Leaf == nil {
			return m.suite.Hash(append(in, 0))
		}
		return m.suite.Hash(append(append(in, 1), marshal(n.Leaf)...))
	}
	in := []byte{2, 0}
	if n.Parent != nil {
		in = append([]byte{2, 1}, marshal(n.Parent)...)
	}
	left, right := m.treeHash(x.Left()), m.treeHash(x.Right())
	in = append(in, marshal((*opaque)(&left))...)
	return m.suite.Hash(append(in, marshal((*opaque)(&right))...))
}

func (m *modelTree) bytes() []byte {
	ext := RatchetTreeExtension(m.nodes)
	for m.blank(NodeIndex(len(ext) - 1)) {
		ext = ext[:len(ext)-1]
	}
	return marshal(&ext)
}

// check compares every answer of the tree with the model's, and says what differs.
func (m *modelTree) check(t *RatchetTree) string {
	if !bytes.Equal(t.Bytes(), m.bytes()) {
		return "encoding"
	}
	if int(nodeWidth(t.Size())) != len(m.nodes) {
		return "size"
	}
	if t.NextLeaf() != m.nextLeaf() {
		return "next leaf"
	}
	if !bytes.Equal(t.TreeHash(), m.treeHash(t.Root())) {
		return "tree hash"
	}
	members := 0
	uses := make(map[CredentialType]int)
	for x, n := range m.nodes {
		x := NodeIndex(x)
		if !slices.Equal(t.Resolution(x), m.resolution(x)) {
			return "resolution"
		}
		if n.Parent != nil {
			if at, ok := t.FindEncryptionKey(n.Parent.EncryptionKey); !ok || at != x {
				return "encryption key of a parent"
			}
		}
		if n.Leaf == nil {
			continue
		}
		members++
		uses[n.Leaf.Credential.Type]++
		if at, ok := t.FindEncryptionKey(n.Leaf.EncryptionKey); !ok || at != x {
			return "encryption key of a leaf"
		}
		if at, ok := t.FindSignatureKey(n.Leaf.SignatureKey); !ok || at != x.Leaf() {
			return "signature key"
		}
		if at, ok := t.FindLeaf(n.Leaf); !ok || at != x.Leaf() {
			return "leaf"
		}
		if !slices.Equal(t.FilteredDirectPath(x.Leaf()), m.filteredPath(x.Leaf())) {
			return "filtered direct path"
		}
		if !slices.Equal(t.DirectPath(x.Leaf()), m.path(x.Leaf())) {
			return "direct path"
		}
	}
	if t.Members() != members {
		return "members"
	}
	for kind := CredentialType(1); kind < 4; kind++ {
		count := 0
		for _, u := range t.keys().inUse {
			if u.typ == kind {
				count = u.members
			}
		}
		if count != uses[kind] {
			return "credential types in use"
		}
	}
	for p := ProposalType(8); p < 14; p++ {
		all := true
		for _, n := range m.nodes {
			all = all && (n.Leaf == nil || n.Leaf.Capabilities.SupportsProposal(p))
		}
		if t.SupportsProposal(p) != all {
			return "support of a proposal type"
		}
	}
	for c := ComponentID(1); c < 4; c++ {
		all := true
		for _, n := range m.nodes {
			if n.Leaf != nil {
				dict, _, _ := n.Leaf.Extensions.AppDataDictionary()
				data, _ := dict.Find(ComponentAppComponents)
				all = all && bytes.Contains(data, []byte{0, byte(c)})
			}
		}
		if t.SupportsComponent(ComponentAppComponents, c) != all {
			return "support of a component"
		}
	}
	return ""
}
