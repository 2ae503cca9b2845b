package mls

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
	"slices"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A treeEntry is a node of a ratchet_tree, or of the stored records, that is not blank.
type treeEntry struct {
	at     NodeIndex
	leaf   *treeLeaf
	parent *treeParent
}

// ParseRatchetTree decodes the content of a ratchet_tree extension, optional<Node> ratchet_tree<V> (RFC 9420 §12.4.3.3).
// It verifies the form only: leaves at even places, a last node that is not blank, unmerged leaves that ascend and lie below
// their node. The error is a *[tlspl.SyntaxError]. The rest is for [RatchetTree.Validate].
//
// The input is copied once; leaves keep the bytes that arrived. Memory is a small multiple of the input's length.
func ParseRatchetTree(s suite.Suite, b []byte) (*RatchetTree, error) {
	c := treeDecoder{buf: bytes.Clone(b)}
	if err := tlspl.UnmarshalAlias(c.buf, &c); err != nil {
		return nil, err
	}
	return c.tree(s), nil
}

// A treeDecoder reads the entries of a ratchet_tree. It keeps those that are not blank.
type treeDecoder struct {
	buf     []byte
	entries []treeEntry
	width   int // entries, blank ones included
}

// Code describes ratchet_tree (RFC 9420 §12.4.3.3), for reading.
func (d *treeDecoder) Code(c *tlspl.Codec) {
	tlspl.Length(c, func() {
		var leaves []treeLeaf // allocated by the chunk
		var parents []treeParent
		for ; c.More(); d.width++ {
			x := NodeIndex(d.width)
			var present, kind uint8
			tlspl.Uint8(c, &present)
			switch {
			case present == 0:
				continue
			case present != 1:
				c.Fail(tlspl.ErrPresence)
				return
			}
			tlspl.Uint8(c, &kind)
			switch {
			case kind == nodeLeaf && x.IsLeaf():
				if len(leaves) == 0 {
					leaves = make([]treeLeaf, 32)
				}
				l := &leaves[0]
				leaves = leaves[1:]
				n := new(LeafNode)
				tlspl.Raw(c, &l.raw, func() { n.Code(c) })
				l.decoded.Store(n)
				d.entries = append(d.entries, treeEntry{at: x, leaf: l})
			case kind == nodeParent && !x.IsLeaf():
				if len(parents) == 0 {
					parents = make([]treeParent, 32)
				}
				p := &parents[0]
				parents = parents[1:]
				p.Code(c)
				checkUnmerged(c, x, p.UnmergedLeaves)
				d.entries = append(d.entries, treeEntry{at: x, parent: p})
			default:
				c.Fail(tlspl.ErrValue)
				return
			}
		}
		if n := len(d.entries); n == 0 || int(d.entries[n-1].at) != d.width-1 {
			c.Fail(tlspl.ErrLength)
		}
	})
}

// checkUnmerged fails unless the list ascends strictly and lies below x (RFC 9420 §7.1).
func checkUnmerged(c *tlspl.Codec, x NodeIndex, list []LeafIndex) {
	for k, i := range list {
		if !x.covers(i) {
			c.Fail(tlspl.ErrValue)
		}
		if k > 0 && i <= list[k-1] {
			c.Fail(tlspl.ErrOrder)
		}
	}
}

// tree makes the smallest tree that has all entries.
func (d *treeDecoder) tree(s suite.Suite) *RatchetTree {
	t := &RatchetTree{suite: s, depth: treeDepth(uint32(d.width/2 + 1)), index: newTreeIndex(), fresh: true}
	t.index.built = false
	t.root = d.build(t.depth, t.Root(), t.writable())
	return t
}

// build makes the subtree at x of a level from the entries that are left, and takes them.
func (d *treeDecoder) build(level int, x NodeIndex, e *edit) *treeNode {
	if len(d.entries) == 0 || d.entries[0].at > x.lastLeaf().Node() {
		return nil
	}
	n := &treeNode{owner: e}
	if level > 0 {
		if n.left = d.build(level-1, x.Left(), e); n.left != nil {
			n.leaves = n.left.leaves
		}
	}
	if len(d.entries) > 0 && d.entries[0].at == x {
		n.leaf, n.parent = d.entries[0].leaf, d.entries[0].parent
		d.entries = d.entries[1:]
		if n.leaf != nil {
			n.leaves = 1
		}
	}
	if level > 0 {
		if n.right = d.build(level-1, x.Right(), e); n.right != nil {
			n.leaves += n.right.leaves
		}
	}
	return n
}

// Bytes encodes the tree as the content of a ratchet_tree extension (RFC 9420 §12.4.3.3).
func (t *RatchetTree) Bytes() []byte { return t.Append(nil) }

// Append appends what [RatchetTree.Bytes] returns to dst.
func (t *RatchetTree) Append(dst []byte) []byte {
	w := treeWriter{buf: dst}
	head := len(dst)
	w.buf = append(w.buf, 0, 0, 0, 0)
	w.node(t.root, t.depth)
	content := w.buf[head+4:]
	var length [4]byte
	prefix := tlspl.AppendLength(length[:0], len(content))
	copy(w.buf[head+len(prefix):], content)
	copy(w.buf[head:], prefix)
	return w.buf[:head+len(prefix)+len(content)]
}

// A treeWriter writes nodes from the left, blank ones only when another follows.
type treeWriter struct {
	buf    []byte
	blanks int
}

func (w *treeWriter) node(n *treeNode, level int) {
	if n == nil {
		w.blanks += 2<<level - 1
		return
	}
	if level > 0 {
		w.node(n.left, level-1)
	}
	switch {
	case n.leaf != nil:
		w.flush()
		w.buf = append(w.buf, 1, nodeLeaf)
		w.buf = append(w.buf, n.leaf.raw...)
	case n.parent != nil:
		w.flush()
		w.buf = appendParentNode(append(w.buf, 1, nodeParent), &n.parent.ParentNode)
	default:
		w.blanks++
	}
	if level > 0 {
		w.node(n.right, level-1)
	}
}

func (w *treeWriter) flush() {
	w.buf = append(w.buf, make([]byte, w.blanks)...)
	w.blanks = 0
}

// Delta gives emit what must be stored so that [LoadRatchetTree] returns t, where prev is stored already; nil is nothing.
// It calls emit with each node that differs and its encoding, nil if it became blank, and visits only what has changed.
// prev must be an earlier version that t was forked from.
func (t *RatchetTree) Delta(prev *RatchetTree, emit func(x NodeIndex, value []byte)) {
	now, depth := t.root, t.depth
	var old *treeNode
	if prev != nil {
		old = prev.root
		for d := prev.depth; d < depth && old != nil; d++ {
			old = &treeNode{left: old}
		}
		for ; depth < prev.depth; depth++ {
			if now != nil {
				now = &treeNode{left: now}
			}
		}
	}
	deltaNode(now, old, rootIndex(depth), emit)
}

func deltaNode(now, old *treeNode, x NodeIndex, emit func(NodeIndex, []byte)) {
	if now == old {
		return
	}
	var a, b treeNode
	if now != nil {
		a = *now
	}
	if old != nil {
		b = *old
	}
	switch {
	case a.leaf != b.leaf && a.leaf == nil, a.parent != b.parent && a.parent == nil:
		emit(x, nil)
	case a.leaf != b.leaf:
		emit(x, a.leaf.raw)
	case a.parent != b.parent:
		emit(x, appendParentNode(nil, &a.parent.ParentNode))
	}
	if !x.IsLeaf() {
		deltaNode(a.left, b.left, x.Left(), emit)
		deltaNode(a.right, b.right, x.Right(), emit)
	}
}

// LoadRatchetTree makes a tree from the nodes that [RatchetTree.Delta] emitted, in any order, those that became blank left
// out. It keeps the values. Leaves are decoded when they are first looked at; the error is a *[tlspl.SyntaxError] or a
// *[TreeError] for a value that Delta never gave.
func LoadRatchetTree(s suite.Suite, nodes iter.Seq2[NodeIndex, []byte]) (*RatchetTree, error) {
	var d treeDecoder
	sorted := true
	for x, value := range nodes {
		if x.lastLeaf() >= 1<<maxTreeDepth {
			return nil, &TreeError{Rule: RuleSize, Node: x}
		}
		n := treeEntry{at: x}
		if x.IsLeaf() {
			if _, ok := viewLeaf(value); !ok {
				return nil, &tlspl.SyntaxError{Field: "leaf_node", Err: tlspl.ErrTruncated}
			}
			n.leaf = &treeLeaf{raw: value}
		} else {
			p, ok := viewParent(value)
			if !ok {
				return nil, &tlspl.SyntaxError{Field: "parent_node", Err: tlspl.ErrTruncated}
			}
			n.parent = &treeParent{ParentNode: p}
		}
		sorted = sorted && (len(d.entries) == 0 || d.entries[len(d.entries)-1].at < x)
		d.entries = append(d.entries, n)
		d.width = max(d.width, int(x)+1)
	}
	if !sorted {
		slices.SortFunc(d.entries, func(a, b treeEntry) int { return cmp.Compare(a.at, b.at) })
		for i := 1; i < len(d.entries); i++ {
			if d.entries[i-1].at == d.entries[i].at {
				return nil, &TreeError{Rule: RuleStored, Node: d.entries[i].at}
			}
		}
	}
	t := d.tree(s)
	t.index.stored = true
	return t, nil
}

// viewParent decodes a stored ParentNode without a codec.
func viewParent(raw []byte) (p ParentNode, ok bool) {
	b := raw
	if p.EncryptionKey, b, ok = cutOpaque(b); !ok {
		return p, false
	}
	if p.ParentHash, b, ok = cutOpaque(b); !ok {
		return p, false
	}
	list, rest, ok := cutOpaque(b)
	if !ok || len(rest) != 0 || len(list)%4 != 0 {
		return p, false
	}
	if len(list) > 0 {
		p.UnmergedLeaves = make([]LeafIndex, len(list)/4)
		for i := range p.UnmergedLeaves {
			p.UnmergedLeaves[i] = LeafIndex(binary.BigEndian.Uint32(list[4*i:]))
		}
	}
	return p, true
}
