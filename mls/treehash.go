package mls

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"slices"
	"sync"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A treeHasher computes tree hashes with one buffer for its inputs; the results of many nodes share an allocation.
type treeHasher struct {
	suite suite.Suite
	buf   []byte
	sums  []byte
	stack []byte // of hashes of blank nodes
}

// sum hashes the buffer.
func (h *treeHasher) sum() []byte {
	nh := h.suite.Nh()
	if cap(h.sums)-len(h.sums) < nh {
		h.sums = make([]byte, 0, 16*nh)
	}
	at := len(h.sums)
	h.sums = h.suite.AppendHash(h.sums, h.buf)
	return h.sums[at:len(h.sums):len(h.sums)]
}

// leaf hashes a LeafNodeHashInput; raw is nil for a blank leaf.
func (h *treeHasher) leaf(i LeafIndex, raw []byte) []byte {
	h.buf = append(h.buf[:0], nodeLeaf)
	h.buf = binary.BigEndian.AppendUint32(h.buf, uint32(i))
	if raw == nil {
		h.buf = append(h.buf, 0)
	} else {
		h.buf = append(h.buf, 1)
		h.buf = append(h.buf, raw...)
	}
	return h.sum()
}

// parent hashes a ParentNodeHashInput; p is nil for a blank node.
func (h *treeHasher) parent(p *ParentNode, left, right []byte) []byte {
	h.buf = append(h.buf[:0], nodeParent)
	if p == nil {
		h.buf = append(h.buf, 0)
	} else {
		h.buf = appendParentNode(append(h.buf, 1), p)
	}
	h.buf = appendOpaque(h.buf, left)
	h.buf = appendOpaque(h.buf, right)
	return h.sum()
}

func appendOpaque(dst, b []byte) []byte {
	return append(tlspl.AppendLength(dst, len(b)), b...)
}

// appendParentNode appends the encoding of p (RFC 9420 §7.1). It is written by hand since every tree hash needs it.
func appendParentNode(dst []byte, p *ParentNode) []byte {
	dst = appendOpaque(dst, p.EncryptionKey)
	dst = appendOpaque(dst, p.ParentHash)
	dst = tlspl.AppendLength(dst, 4*len(p.UnmergedLeaves))
	for _, i := range p.UnmergedLeaves {
		dst = binary.BigEndian.AppendUint32(dst, uint32(i))
	}
	return dst
}

// blank hashes a subtree without any non-blank node. It differs from place to place, since leaves hash their index.
func (h *treeHasher) blank(x NodeIndex) []byte {
	h.pushBlank(x)
	sum := bytes.Clone(h.stack)
	h.stack = h.stack[:0]
	return sum
}

// pushBlank leaves the hash on the stack, so that hostile trees of blanks make no garbage.
func (h *treeHasher) pushBlank(x NodeIndex) {
	if x.IsLeaf() {
		h.buf = append(h.buf[:0], nodeLeaf, byte(x>>25), byte(x>>17), byte(x>>9), byte(x>>1), 0)
	} else {
		h.pushBlank(x.Left())
		h.pushBlank(x.Right())
		nh := h.suite.Nh()
		children := h.stack[len(h.stack)-2*nh:]
		h.buf = append(h.buf[:0], nodeParent, 0)
		h.buf = appendOpaque(h.buf, children[:nh])
		h.buf = appendOpaque(h.buf, children[nh:])
		h.stack = h.stack[:len(h.stack)-2*nh]
	}
	h.stack = h.suite.AppendHash(h.stack, h.buf)
}

// node returns the tree hash of the subtree at n, not nil, computing what is not known yet.
func (h *treeHasher) node(n *treeNode, x NodeIndex) []byte {
	if n.hash != nil {
		return n.hash
	}
	if n.leaf != nil {
		n.hash = h.leaf(x.Leaf(), n.leaf.raw)
		return n.hash
	}
	left := h.child(n, n.left, x.Left())
	right := h.child(n, n.right, x.Right())
	var p *ParentNode
	if n.parent != nil {
		p = &n.parent.ParentNode
	}
	n.hash = h.parent(p, left, right)
	return n.hash
}

// child returns the hash of a child of n. Of a blank one it is kept in n.
func (h *treeHasher) child(n, child *treeNode, x NodeIndex) []byte {
	if child != nil {
		return h.node(child, x)
	}
	if n.left == nil && n.right == nil {
		return h.blank(x)
	}
	if n.blankHash == nil {
		n.blankHash = h.blank(x)
	}
	return n.blankHash
}

// at returns the tree hash of the subtree at x, blank or not.
func (h *treeHasher) at(n *treeNode, x NodeIndex) []byte {
	if n == nil {
		return h.blank(x)
	}
	return h.node(n, x)
}

// TreeHash returns the tree hash of the root (RFC 9420 §7.8). Hashes are kept with their nodes: after a change only those
// between the changed places and the root are computed again.
func (t *RatchetTree) TreeHash() []byte {
	h := treeHasher{suite: t.suite}
	if t.fresh {
		t.fresh = false
		if t.Members() >= parallelHashes {
			t.hashParallel()
		}
	}
	return h.at(t.root, t.Root())
}

// parallelHashes is the number of members from which a tree without hashes is hashed on all cores.
const parallelHashes = 2048

// hashParallel hashes the quarters of a tree on their own.
func (t *RatchetTree) hashParallel() {
	if runtime.GOMAXPROCS(0) == 1 || t.depth < 3 {
		return
	}
	var wg sync.WaitGroup
	for q := range NodeIndex(4) {
		x := q<<(t.depth-1) | (1<<(t.depth-2) - 1)
		if n := t.find(x); n != nil && n.hash == nil {
			wg.Go(func() {
				h := treeHasher{suite: t.suite}
				h.node(n, x)
			})
		}
	}
	wg.Wait()
}

// nodeTreeHash returns the tree hash of the subtree at x.
func (t *RatchetTree) nodeTreeHash(x NodeIndex) []byte {
	h := treeHasher{suite: t.suite}
	return h.at(t.find(x), x)
}

// parentHash hashes a ParentHashInput (RFC 9420 §7.9).
func (h *treeHasher) parentHash(encryptionKey, parentHash, originalSiblingTreeHash []byte) []byte {
	h.buf = appendOpaque(h.buf[:0], encryptionKey)
	h.buf = appendOpaque(h.buf, parentHash)
	h.buf = appendOpaque(h.buf, originalSiblingTreeHash)
	return h.sum()
}

// An originalHasher computes original sibling tree hashes (RFC 9420 §7.9) of one tree. A subtree without any of the leaves to
// blank has the hash that it has in the tree; a subtree that was hashed without the same leaves before is not hashed again.
type originalHasher struct {
	treeHasher
	known map[*treeNode][]originalHash
}

type originalHash struct {
	without []LeafIndex
	hash    []byte
}

// hash returns the tree hash of the subtree at n with the leaves without, sorted and all inside of it, blanked and taken
// out of the unmerged leaves. n is nil where the subtree is blank.
func (h *originalHasher) hash(n *treeNode, x NodeIndex, without []LeafIndex) []byte {
	switch {
	case n == nil:
		return h.blank(x)
	case len(without) == 0:
		return h.node(n, x)
	case n.leaf != nil:
		return h.leaf(x.Leaf(), nil)
	}
	for _, k := range h.known[n] {
		if slices.Equal(k.without, without) {
			return k.hash
		}
	}
	mid, _ := slices.BinarySearch(without, x.Right().firstLeaf())
	left := h.originalChild(n, n.left, x.Left(), without[:mid])
	right := h.originalChild(n, n.right, x.Right(), without[mid:])
	var p *ParentNode
	if n.parent != nil {
		c := n.parent.ParentNode
		c.UnmergedLeaves = subtractLeaves(c.UnmergedLeaves, without)
		p = &c
	}
	sum := h.parent(p, left, right)
	if h.known == nil {
		h.known = make(map[*treeNode][]originalHash)
	}
	h.known[n] = append(h.known[n], originalHash{without, sum})
	return sum
}

func (h *originalHasher) originalChild(n, child *treeNode, x NodeIndex, without []LeafIndex) []byte {
	if child == nil {
		return h.child(n, child, x)
	}
	return h.hash(child, x, without)
}

// subtractLeaves returns the sorted list a without the elements of the sorted list b.
func subtractLeaves(a, b []LeafIndex) []LeafIndex {
	out := make([]LeafIndex, 0, len(a))
	for _, i := range a {
		for len(b) > 0 && b[0] < i {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != i {
			out = append(out, i)
		}
	}
	return out
}

// leavesUnder returns the part of a sorted list that is in the subtree at x.
func leavesUnder(list []LeafIndex, x NodeIndex) []LeafIndex {
	from, _ := slices.BinarySearch(list, x.firstLeaf())
	to, _ := slices.BinarySearch(list, x.lastLeaf()+1)
	return list[from:to]
}

// verifyParentHashes verifies that every non-blank parent is parent-hash valid (RFC 9420 §7.9.2), top down: it has exactly
// one descendant whose parent hash is valid for it.
func (t *RatchetTree) verifyParentHashes() error {
	t.TreeHash()
	h := originalHasher{treeHasher: treeHasher{suite: t.suite}}
	return h.verify(t.root, t.Root())
}

func (h *originalHasher) verify(n *treeNode, x NodeIndex) error {
	if n == nil || n.leaf != nil {
		return nil
	}
	if n.parent != nil {
		valid := 0
		if h.validOver(n, n.left, x.Left(), n.right, x.Right()) {
			valid++
		}
		if h.validOver(n, n.right, x.Right(), n.left, x.Left()) {
			valid++
		}
		if valid != 1 {
			return &TreeError{Rule: RuleParentHash, Node: x}
		}
	}
	if err := h.verify(n.left, x.Left()); err != nil {
		return err
	}
	return h.verify(n.right, x.Right())
}

// validOver reports whether a node in the resolution of the child c of p, with sibling s, has a valid parent hash for p.
func (h *originalHasher) validOver(p, c *treeNode, cx NodeIndex, s *treeNode, sx NodeIndex) bool {
	d := soleUpdated(c, cx, leavesUnder(p.parent.UnmergedLeaves, cx))
	if d == nil {
		return false
	}
	var have []byte
	if d.leaf != nil {
		leaf := d.leaf.node()
		if leaf.Source != SourceCommit {
			return false
		}
		have = leaf.ParentHash
	} else {
		have = d.parent.ParentHash
	}
	var original []byte
	if s == nil {
		original = h.child(p, s, sx)
	} else {
		original = h.hash(s, sx, leavesUnder(p.parent.UnmergedLeaves, sx))
	}
	return bytes.Equal(have, h.parentHash(p.parent.EncryptionKey, p.parent.ParentHash, original))
}

// soleUpdated returns the node D in the resolution of n such that the rest of the resolution is exactly the leaves in
// unmerged, nil if there is none.
func soleUpdated(n *treeNode, x NodeIndex, unmerged []LeafIndex) *treeNode {
	var d *treeNode
	rest := 0
	// walk ends as soon as the resolution has anything that does not fit.
	var walk func(n *treeNode, x NodeIndex) bool
	take := func(n *treeNode, i LeafIndex, leaf bool) bool {
		if leaf {
			if _, ok := slices.BinarySearch(unmerged, i); ok {
				rest++
				return true
			}
		}
		if d != nil || n == nil {
			return false
		}
		d = n
		return true
	}
	walk = func(n *treeNode, x NodeIndex) bool {
		switch {
		case n == nil:
			return true
		case n.leaf != nil:
			return take(n, x.Leaf(), true)
		case n.parent != nil:
			if !take(n, 0, false) {
				return false
			}
			for _, i := range n.parent.UnmergedLeaves {
				if !take(nil, i, true) {
					return false
				}
			}
			return true
		}
		return walk(n.left, x.Left()) && walk(n.right, x.Right())
	}
	if !walk(n, x) || rest != len(unmerged) {
		return nil
	}
	return d
}
