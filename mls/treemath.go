package mls

import "math/bits"

// A LeafIndex counts the leaves of a ratchet tree from the left, from 0 (RFC 9420 §4.1.1).
type LeafIndex uint32

// A NodeIndex counts the nodes of a ratchet tree in the order of RFC 9420 Appendix C: leaves are even, parents odd.
type NodeIndex uint32

// maxTreeDepth bounds a tree to 2^30 leaves, so that every node index fits into 31 bits.
const maxTreeDepth = 30

// Node returns the index of the leaf among all nodes.
func (i LeafIndex) Node() NodeIndex { return NodeIndex(i) << 1 }

// IsLeaf says whether x is the index of a leaf.
func (x NodeIndex) IsLeaf() bool { return x&1 == 0 }

// Leaf returns the leaf index of a leaf.
func (x NodeIndex) Leaf() LeafIndex { return LeafIndex(x >> 1) }

// Level returns the height of x over the leaves: 0 for a leaf.
func (x NodeIndex) Level() int { return bits.TrailingZeros32(^uint32(x)) }

// Left returns the left child of a parent; a leaf has none and is returned unchanged.
func (x NodeIndex) Left() NodeIndex {
	if x.IsLeaf() {
		return x
	}
	return x ^ 1<<(x.Level()-1)
}

// Right returns the right child of a parent; a leaf has none and is returned unchanged.
func (x NodeIndex) Right() NodeIndex {
	if x.IsLeaf() {
		return x
	}
	return x ^ 3<<(x.Level()-1)
}

// Parent returns the parent of x in a tree that is tall enough to have it: the root's parent is the root of the tree of twice the size.
func (x NodeIndex) Parent() NodeIndex {
	k := x.Level()
	return (x | 1<<k) &^ (1 << (k + 1))
}

// Sibling returns the other child of x's parent, under the same condition.
func (x NodeIndex) Sibling() NodeIndex { return x ^ 2<<x.Level() }

// firstLeaf and lastLeaf bound the subtree under x.
func (x NodeIndex) firstLeaf() LeafIndex { return LeafIndex(x>>(x.Level()+1)) << x.Level() }
func (x NodeIndex) lastLeaf() LeafIndex  { return x.firstLeaf() + 1<<x.Level() - 1 }

// covers says whether leaf i is in the subtree under x.
func (x NodeIndex) covers(i LeafIndex) bool {
	k := x.Level()
	return uint32(i)>>k == uint32(x)>>(k+1)
}

// ancestor returns the node at the level above (or at) leaf i.
func (i LeafIndex) ancestor(level int) NodeIndex {
	return NodeIndex(uint32(i)>>level<<(level+1) | (1<<level - 1))
}

// commonAncestor returns the lowest node that has both leaves under it.
func commonAncestor(a, b LeafIndex) NodeIndex {
	return a.ancestor(bits.Len32(uint32(a ^ b)))
}

// rootIndex returns the root of a tree of the depth: 2^depth leaves.
func rootIndex(depth int) NodeIndex { return 1<<depth - 1 }

// nodeWidth returns the number of nodes of a tree with n leaves, n at least 1.
func nodeWidth(n uint32) uint32 { return 2*n - 1 }

// treeDepth returns the depth of the smallest tree with room for n leaves.
func treeDepth(n uint32) int {
	if n <= 1 {
		return 0
	}
	return bits.Len32(n - 1)
}
