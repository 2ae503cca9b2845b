package mls

import (
	"bytes"
	"iter"
	"slices"
	"sync/atomic"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A RatchetTree is the public state of a group's ratchet tree (RFC 9420 §7): its leaves and the keys of their ancestors.
//
// It is a persistent structure. [RatchetTree.Fork] takes a version of the tree in constant time, and a change to one
// version copies only the nodes between the changed place and the root; everything else, with the tree hashes that were
// computed for it, is shared. So a commit is staged on a fork, and merging it means to keep the fork.
//
// A tree is not safe for concurrent use, and its versions together are not either as long as their hashes are not computed.
type RatchetTree struct {
	suite suite.Suite
	root  *treeNode // nil when there is no leaf
	depth int       // the tree has 2^depth leaves
	edit  *edit     // owner of the nodes that may be changed in place, nil before the first change
	index *treeIndex
	fresh bool // it was decoded or loaded, and no hash is known
}

// A treeNode is one node with what is known of its subtree. Where a whole subtree is blank there is no treeNode.
// A node that is shared is never changed, but for its hashes, which are computed when they are first asked for.
type treeNode struct {
	owner       *edit
	left, right *treeNode
	leaf        *treeLeaf   // set at level 0
	parent      *treeParent // above, nil when the node is blank
	leaves      uint32      // non-blank leaves of the subtree
	hash        []byte      // tree hash of the subtree, nil when not yet computed
	blankHash   []byte      // tree hash of the child that is missing, if exactly one is
}

// A treeLeaf is a LeafNode as it was signed, decoded when it is first looked at.
type treeLeaf struct {
	raw     []byte
	decoded atomic.Pointer[LeafNode]
	key     atomic.Pointer[suite.Verifier]
}

type treeParent struct {
	ParentNode
	owner *edit
}

// node returns the decoded LeafNode, which is shared and must not be changed.
func (l *treeLeaf) node() *LeafNode {
	n := l.decoded.Load()
	if n == nil {
		n = new(LeafNode)
		if tlspl.UnmarshalAlias(l.raw, n) != nil {
			// Only bytes that this package has encoded or decoded before get here.
			panic("mls: stored leaf node does not decode")
		}
		l.decoded.Store(n)
	}
	return n
}

// verifier returns the leaf's signature key, parsed when it is first asked for.
func (l *treeLeaf) verifier(s suite.Suite) (*suite.Verifier, error) {
	if v := l.key.Load(); v != nil {
		return v, nil
	}
	v, err := s.NewVerifier(l.node().SignatureKey)
	if err == nil {
		l.key.Store(v)
	}
	return v, err
}

// verifier returns the parsed signature key of leaf i; ErrNotMember if it is blank or outside of the tree.
func (t *RatchetTree) verifier(i LeafIndex) (*suite.Verifier, error) {
	if l := t.leafAt(i); l != nil {
		return l.verifier(t.suite)
	}
	return nil, ErrNotMember
}

// NewRatchetTree returns a tree without a leaf.
func NewRatchetTree(s suite.Suite) *RatchetTree {
	return &RatchetTree{suite: s, index: newTreeIndex()}
}

// Fork returns a second version of the tree, which shares all nodes with t; either may change without changing the other.
func (t *RatchetTree) Fork() *RatchetTree {
	t.keys() // once here rather than once in each fork
	if t.edit != nil {
		t.edit = nil
	}
	f := *t
	f.index = t.index.fork()
	return &f
}

// writable returns the mark of the nodes that t may change in place.
func (t *RatchetTree) writable() *edit {
	if t.edit == nil {
		t.edit = new(edit)
	}
	return t.edit
}

// own makes the node at p one that t may change, and forgets its hash. A missing node is made.
func (t *RatchetTree) own(p **treeNode) *treeNode {
	e := t.writable()
	n := *p
	switch {
	case n == nil:
		n = &treeNode{owner: e}
		*p = n
	case n.owner != e:
		c := *n
		c.owner = e
		n = &c
		*p = n
	}
	n.hash = nil
	return n
}

// child returns the child of an own node towards leaf i; level is that of n.
func (n *treeNode) child(level int, i LeafIndex) **treeNode {
	p := &n.left
	if i>>(level-1)&1 == 1 {
		p = &n.right
	}
	if *p == nil {
		n.blankHash = nil // it is about to be filled
	}
	return p
}

// find returns the node at x, nil if its subtree is blank or x is outside of the tree.
func (t *RatchetTree) find(x NodeIndex) *treeNode {
	level := x.Level()
	if level > t.depth || x>>(t.depth+1) != 0 {
		return nil
	}
	n := t.root
	for l := t.depth; l > level && n != nil; l-- {
		if x>>l&1 == 0 {
			n = n.left
		} else {
			n = n.right
		}
	}
	return n
}

func (t *RatchetTree) leafAt(i LeafIndex) *treeLeaf {
	if i >= 1<<maxTreeDepth {
		return nil
	}
	if n := t.find(i.Node()); n != nil {
		return n.leaf
	}
	return nil
}

// Suite returns the group's cipher suite.
func (t *RatchetTree) Suite() suite.Suite { return t.suite }

// Size returns the number of leaves, blank ones included: a power of two.
func (t *RatchetTree) Size() uint32 { return 1 << t.depth }

// Root returns the index of the root.
func (t *RatchetTree) Root() NodeIndex { return rootIndex(t.depth) }

// Members returns the number of leaves that are not blank.
func (t *RatchetTree) Members() int {
	if t.root == nil {
		return 0
	}
	return int(t.root.leaves)
}

// Leaf returns the LeafNode at i, nil if it is blank or outside of the tree. It is shared and must not be changed.
func (t *RatchetTree) Leaf(i LeafIndex) *LeafNode {
	if l := t.leafAt(i); l != nil {
		return l.node()
	}
	return nil
}

// LeafBytes returns the encoded LeafNode at i, nil like Leaf. It must not be changed.
func (t *RatchetTree) LeafBytes(i LeafIndex) []byte {
	if l := t.leafAt(i); l != nil {
		return l.raw
	}
	return nil
}

// Parent returns the ParentNode at x, nil if it is blank, a leaf, or outside of the tree. It must not be changed.
func (t *RatchetTree) Parent(x NodeIndex) *ParentNode {
	if n := t.find(x); n != nil && n.parent != nil {
		return &n.parent.ParentNode
	}
	return nil
}

// Leaves yields the leaves that are not blank, from the left.
func (t *RatchetTree) Leaves() iter.Seq2[LeafIndex, *LeafNode] {
	return func(yield func(LeafIndex, *LeafNode) bool) {
		for i, l := range t.leaves() {
			if !yield(i, l.node()) {
				return
			}
		}
	}
}

func (t *RatchetTree) leaves() iter.Seq2[LeafIndex, *treeLeaf] {
	return func(yield func(LeafIndex, *treeLeaf) bool) {
		walkLeaves(t.root, t.depth, 0, yield)
	}
}

func walkLeaves(n *treeNode, level int, i LeafIndex, yield func(LeafIndex, *treeLeaf) bool) bool {
	switch {
	case n == nil:
		return true
	case level == 0:
		return yield(i, n.leaf)
	}
	return walkLeaves(n.left, level-1, i, yield) && walkLeaves(n.right, level-1, i+1<<(level-1), yield)
}

// NextLeaf returns the leftmost blank leaf, where the next member goes (RFC 9420 §12.1.1, §12.4.3.2).
// In a full tree it is Size.
func (t *RatchetTree) NextLeaf() LeafIndex {
	var i LeafIndex
	n := t.root
	for level := t.depth; n != nil; level-- {
		if n.leaves == 1<<level {
			return i + 1<<level
		}
		if n.left == nil || n.left.leaves < 1<<(level-1) {
			n = n.left
		} else {
			i += 1 << (level - 1)
			n = n.right
		}
	}
	return i
}

// extend doubles the tree until leaf i is inside (RFC 9420 §7.7).
func (t *RatchetTree) extend(i LeafIndex) {
	for uint32(i) >= t.Size() {
		t.depth++
		if t.root != nil {
			t.root = &treeNode{owner: t.writable(), left: t.root, leaves: t.root.leaves}
		}
	}
}

// truncate halves the tree while its right half is blank (RFC 9420 §7.7).
func (t *RatchetTree) truncate() {
	for t.root != nil && t.depth > 0 && t.root.right == nil {
		if p := t.root.parent; p != nil {
			t.keys().removeParent(t.writable(), t.Root(), p)
		}
		t.root = t.root.left
		t.depth--
	}
	if t.root == nil {
		t.depth = 0
	}
}

// newLeaf encodes a LeafNode for the tree; nothing of n is kept.
func newLeaf(n *LeafNode) (*treeLeaf, error) {
	raw, err := tlspl.Marshal(n)
	if err != nil {
		return nil, err
	}
	return &treeLeaf{raw: raw}, nil
}

// Add puts a new member at the leftmost blank leaf and makes it unmerged in its ancestors (RFC 9420 §12.1.1).
// A *TreeError with RuleDuplicateKey says that one of its keys is in the tree already.
func (t *RatchetTree) Add(n *LeafNode) (LeafIndex, error) {
	i := t.NextLeaf()
	if i >= 1<<maxTreeDepth {
		return 0, &TreeError{Rule: RuleSize, Node: i.Node()}
	}
	if err := t.checkLeafKeys(i, n); err != nil {
		return 0, err
	}
	l, err := newLeaf(n)
	if err != nil {
		return 0, err
	}
	t.extend(i)
	e := t.writable()
	p := &t.root
	for level := t.depth; level > 0; level-- {
		x := t.own(p)
		x.leaves++
		if x.parent != nil {
			x.parent = x.parent.withUnmerged(e, i)
		}
		p = x.child(level, i)
	}
	x := t.own(p)
	x.leaf, x.leaves = l, 1
	t.keys().addLeaf(e, i, l)
	return i, nil
}

// withUnmerged returns the parent with i among its unmerged leaves.
func (p *treeParent) withUnmerged(e *edit, i LeafIndex) *treeParent {
	at, found := slices.BinarySearch(p.UnmergedLeaves, i)
	if found {
		return p
	}
	if p.owner != e {
		c := *p
		c.owner = e
		c.UnmergedLeaves = append(make([]LeafIndex, 0, len(p.UnmergedLeaves)+4), p.UnmergedLeaves...)
		p = &c
	}
	p.UnmergedLeaves = slices.Insert(p.UnmergedLeaves, at, i)
	return p
}

// Update replaces the leaf of a member and blanks its direct path (RFC 9420 §12.1.2).
// A *TreeError says that there is no such member, or which key is in the tree already.
func (t *RatchetTree) Update(i LeafIndex, n *LeafNode) error {
	if t.leafAt(i) == nil {
		return &TreeError{Rule: RuleNoMember, Node: i.Node()}
	}
	if err := t.checkLeafKeys(i, n); err != nil {
		return err
	}
	l, err := newLeaf(n)
	if err != nil {
		return err
	}
	t.blankPath(i)
	t.setLeaf(i, l)
	return nil
}

// Remove blanks the leaf of a member and its direct path, and truncates the tree where that left its right half blank
// (RFC 9420 §12.1.3). A *TreeError says that there is no such member.
func (t *RatchetTree) Remove(i LeafIndex) error {
	l := t.leafAt(i)
	if l == nil {
		return &TreeError{Rule: RuleNoMember, Node: i.Node()}
	}
	t.blankPath(i)
	t.keys().removeLeaf(t.writable(), i, l)
	t.root = t.dropLeaf(t.root, t.depth, i)
	t.truncate()
	return nil
}

// dropLeaf returns the own node n without leaf i, nil if nothing else is below.
func (t *RatchetTree) dropLeaf(n *treeNode, level int, i LeafIndex) *treeNode {
	if level == 0 {
		return nil
	}
	n = t.own(&n)
	n.leaves--
	p := n.child(level, i)
	*p = t.dropLeaf(*p, level-1, i)
	if *p == nil {
		n.blankHash = nil
		if n.left == nil && n.right == nil && n.parent == nil {
			return nil
		}
	}
	return n
}

// ownPath makes the direct path of leaf i, which is inside of the tree, one that t may change, and returns its nodes by
// level; there is none at level 0.
func (t *RatchetTree) ownPath(i LeafIndex) [maxTreeDepth + 1]*treeNode {
	var path [maxTreeDepth + 1]*treeNode
	p := &t.root
	for level := t.depth; level > 0; level-- {
		path[level] = t.own(p)
		p = path[level].child(level, i)
	}
	return path
}

// blankPath blanks the direct path of leaf i, which is inside of the tree, and returns it like ownPath. A leaf must be set
// below it or dropped next.
func (t *RatchetTree) blankPath(i LeafIndex) [maxTreeDepth + 1]*treeNode {
	path := t.ownPath(i)
	for level := 1; level <= t.depth; level++ {
		if x := path[level]; x.parent != nil {
			t.keys().removeParent(t.writable(), i.ancestor(level), x.parent)
			x.parent = nil
		}
	}
	return path
}

// setLeaf puts l at leaf i, blank or not, which is inside of the tree. The keys were checked before.
func (t *RatchetTree) setLeaf(i LeafIndex, l *treeLeaf) {
	e := t.writable()
	old := t.leafAt(i)
	p := &t.root
	for level := t.depth; level > 0; level-- {
		x := t.own(p)
		if old == nil {
			x.leaves++
		}
		p = x.child(level, i)
	}
	x := t.own(p)
	x.leaf, x.leaves = l, 1
	if old != nil {
		t.keys().removeLeaf(e, i, old)
		if key := old.key.Load(); key != nil {
			if v, ok := viewLeaf(l.raw); ok && bytes.Equal(v.signatureKey, key.Public()) {
				l.key.Store(key) // most leaves that are replaced keep it
			}
		}
	}
	t.keys().addLeaf(e, i, l)
}

// Resolution returns the non-blank nodes that together cover all non-blank descendants of x, x included (RFC 9420 §4.1.1).
func (t *RatchetTree) Resolution(x NodeIndex) []NodeIndex {
	return appendResolution(nil, t.find(x), x)
}

func appendResolution(dst []NodeIndex, n *treeNode, x NodeIndex) []NodeIndex {
	switch {
	case n == nil:
		return dst
	case n.leaf != nil:
		return append(dst, x)
	case n.parent != nil:
		dst = append(dst, x)
		for _, i := range n.parent.UnmergedLeaves {
			dst = append(dst, i.Node())
		}
		return dst
	}
	dst = appendResolution(dst, n.left, x.Left())
	return appendResolution(dst, n.right, x.Right())
}

// DirectPath returns the ancestors of leaf i, from its parent to the root.
func (t *RatchetTree) DirectPath(i LeafIndex) []NodeIndex {
	path := make([]NodeIndex, 0, t.depth)
	for level := 1; level <= t.depth; level++ {
		path = append(path, i.ancestor(level))
	}
	return path
}

// A pathStep is a node of a filtered direct path, with the child that is on the copath.
type pathStep struct {
	node, copath NodeIndex
	sibling      *treeNode // at copath, not nil
}

// filteredPath returns the filtered direct path of leaf i, from the bottom (RFC 9420 §4.1.2).
func (t *RatchetTree) filteredPath(i LeafIndex) []pathStep {
	steps := make([]pathStep, t.depth)
	first := t.depth
	n := t.root
	for level := t.depth; level > 0; level-- {
		var on, off *treeNode
		if n != nil {
			on, off = n.left, n.right
			if i>>(level-1)&1 == 1 {
				on, off = off, on
			}
		}
		if off != nil {
			first--
			steps[first] = pathStep{i.ancestor(level), i.ancestor(level - 1).Sibling(), off}
		}
		n = on
	}
	return steps[first:]
}

// FilteredDirectPath returns the ancestors of leaf i that an UpdatePath gives a key, from the bottom (RFC 9420 §4.1.2).
func (t *RatchetTree) FilteredDirectPath(i LeafIndex) []NodeIndex {
	steps := t.filteredPath(i)
	path := make([]NodeIndex, len(steps))
	for k, s := range steps {
		path[k] = s.node
	}
	return path
}

// FindLeaf returns where the tree has exactly this LeafNode (RFC 9420 §12.4.3.1).
func (t *RatchetTree) FindLeaf(n *LeafNode) (LeafIndex, bool) {
	i, ok := t.FindSignatureKey(n.SignatureKey)
	if !ok {
		return 0, false
	}
	raw, err := tlspl.Marshal(n)
	return i, err == nil && bytes.Equal(raw, t.LeafBytes(i))
}
