package mls

import (
	"testing"

	"pgregory.net/rapid"
)

func TestTreeMathVectors(t *testing.T) {
	var cases []struct {
		NLeaves uint32       `json:"n_leaves"`
		NNodes  uint32       `json:"n_nodes"`
		Root    NodeIndex    `json:"root"`
		Left    []*NodeIndex `json:"left"`
		Right   []*NodeIndex `json:"right"`
		Parent  []*NodeIndex `json:"parent"`
		Sibling []*NodeIndex `json:"sibling"`
	}
	readVectors(t, "tree-math.json", &cases)
	for _, c := range cases {
		if got := nodeWidth(c.NLeaves); got != c.NNodes {
			t.Errorf("%d leaves: %d nodes, want %d", c.NLeaves, got, c.NNodes)
		}
		root := rootIndex(treeDepth(c.NLeaves))
		if root != c.Root {
			t.Errorf("%d leaves: root %d, want %d", c.NLeaves, root, c.Root)
		}
		for x := NodeIndex(0); x < NodeIndex(c.NNodes); x++ {
			if want := c.Left[x]; (want == nil) != x.IsLeaf() || want != nil && *want != x.Left() {
				t.Errorf("left(%d) = %d", x, x.Left())
			}
			if want := c.Right[x]; (want == nil) != x.IsLeaf() || want != nil && *want != x.Right() {
				t.Errorf("right(%d) = %d", x, x.Right())
			}
			if want := c.Parent[x]; (want == nil) != (x == root) || want != nil && *want != x.Parent() {
				t.Errorf("parent(%d) = %d", x, x.Parent())
			}
			if want := c.Sibling[x]; (want == nil) != (x == root) || want != nil && *want != x.Sibling() {
				t.Errorf("sibling(%d) = %d", x, x.Sibling())
			}
		}
	}
}

func TestTreeMathProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := LeafIndex(rapid.Uint32Range(0, 1<<maxTreeDepth-1).Draw(t, "a"))
		b := LeafIndex(rapid.Uint32Range(0, 1<<maxTreeDepth-1).Draw(t, "b"))
		lca := commonAncestor(a, b)
		if !lca.covers(a) || !lca.covers(b) {
			t.Fatalf("node %d does not cover %d and %d", lca, a, b)
		}
		if a != b {
			if l := lca.Left(); l.covers(a) && l.covers(b) {
				t.Fatalf("node %d is lower than %d", l, lca)
			}
			if r := lca.Right(); r.covers(a) && r.covers(b) {
				t.Fatalf("node %d is lower than %d", r, lca)
			}
		}
		x := a.Node()
		for level := range maxTreeDepth {
			if x != a.ancestor(level) || x.Level() != level || a < x.firstLeaf() || a > x.lastLeaf() {
				t.Fatalf("level %d of leaf %d: %d", level, a, x)
			}
			if x.Sibling().Sibling() != x || x.Sibling().Parent() != x.Parent() {
				t.Fatalf("sibling of %d: %d", x, x.Sibling())
			}
			x = x.Parent()
		}
	})
}
