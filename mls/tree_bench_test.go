package mls

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"testing"
)

// benchTrees are the sizes that the tree is measured with.
var benchTrees = []int{1000, 10000, 30000}

// benchTree returns a tree of n members as bytes, and the members 0 and n-1, who have committed.
func benchTree(b *testing.B, n int) (*RatchetTree, []byte, []*treeMember) {
	tree, members := committedTree(b, n)
	return tree, tree.Bytes(), members
}

func forTrees(b *testing.B, f func(b *testing.B, n int)) {
	for _, n := range benchTrees {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) { f(b, n) })
	}
}

func BenchmarkTreeParse(b *testing.B) {
	forTrees(b, func(b *testing.B, n int) {
		tree, ext, _ := benchTree(b, n)
		b.SetBytes(int64(len(ext)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseRatchetTree(tree.Suite(), ext); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkTreeEncode(b *testing.B) {
	forTrees(b, func(b *testing.B, n int) {
		tree, ext, _ := benchTree(b, n)
		b.SetBytes(int64(len(ext)))
		b.ReportAllocs()
		buf := make([]byte, 0, len(ext)+8)
		for b.Loop() {
			tree.Append(buf)
		}
	})
}

func BenchmarkTreeLoad(b *testing.B) {
	forTrees(b, func(b *testing.B, n int) {
		tree, _, _ := benchTree(b, n)
		type record struct {
			x NodeIndex
			v []byte
		}
		var records []record
		tree.Delta(nil, func(x NodeIndex, v []byte) { records = append(records, record{x, v}) })
		b.ReportAllocs()
		for b.Loop() {
			loaded, err := LoadRatchetTree(tree.Suite(), func(yield func(NodeIndex, []byte) bool) {
				for _, r := range records {
					if !yield(r.x, r.v) {
						return
					}
				}
			})
			if err != nil {
				b.Fatal(err)
			}
			loaded.Fork() // builds the index
		}
	})
}

func BenchmarkTreeHashAll(b *testing.B) {
	forTrees(b, func(b *testing.B, n int) {
		tree, ext, _ := benchTree(b, n)
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			fresh, err := ParseRatchetTree(tree.Suite(), ext)
			if err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			fresh.TreeHash()
		}
	})
}

func BenchmarkTreeValidate(b *testing.B) {
	forTrees(b, func(b *testing.B, n int) {
		tree, ext, _ := benchTree(b, n)
		b.ReportAllocs()
		for b.Loop() {
			fresh, err := ParseRatchetTree(tree.Suite(), ext)
			if err != nil {
				b.Fatal(err)
			}
			if err := fresh.Validate(&LeafRules{GroupID: testGroupID}, tree.TreeHash()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/member")
	})
}

// BenchmarkTreeAdd adds one member to a fork and hashes, as a commit without a path does.
func BenchmarkTreeAdd(b *testing.B) {
	forTrees(b, func(b *testing.B, n int) {
		tree, _, _ := benchTree(b, n)
		leaf, _, _ := newTestLeaf(b, tree.Suite(), "new")
		b.ReportAllocs()
		for b.Loop() {
			fork := tree.Fork()
			if _, err := fork.Add(leaf); err != nil {
				b.Fatal(err)
			}
			fork.TreeHash()
		}
	})
}

// fullTree returns a tree in which every parent has a key: pairs commit, then quarters, and so on, each the leftmost leaf.
func fullTree(b testing.TB, n int) (*RatchetTree, []*treeMember) {
	tree, members := committedTree(b, n)
	for i := 0; i < n; i += 2 {
		if _, err := tree.NewPath(rand.Reader, LeafIndex(i), *tree.Leaf(LeafIndex(i)), testGroupID, members[i].sign); err != nil {
			b.Fatal(err)
		}
	}
	tree.TreeHash()
	return tree, members
}

// BenchmarkPathCreate makes and encrypts a path in a tree without unmerged leaves: log₂N seals.
func BenchmarkPathCreate(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			tree, members := fullTree(b, n)
			context := make([]byte, 150)
			b.ReportAllocs()
			for b.Loop() {
				fork := tree.Fork()
				secrets, err := fork.NewPath(rand.Reader, 2, *fork.Leaf(2), testGroupID, members[2].sign)
				if err != nil {
					b.Fatal(err)
				}
				fork.TreeHash()
				if _, err := secrets.Encrypt(fork, context, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPathCreateWide makes a path after everybody was added: N seals on all cores.
func BenchmarkPathCreateWide(b *testing.B) {
	tree, members := committedTree(b, 1000)
	for i := 0; i < 1000; i++ { // blank all parents
		leaf, m, _ := newTestLeaf(b, tree.Suite(), "again")
		leaf.SignatureKey = tree.Leaf(LeafIndex(i)).SignatureKey
		resign(b, leaf, members[i], LeafIndex(i))
		_ = m
		if err := tree.Update(LeafIndex(i), leaf); err != nil {
			b.Fatal(err)
		}
	}
	tree.TreeHash()
	context := make([]byte, 150)
	b.ReportAllocs()
	for b.Loop() {
		fork := tree.Fork()
		secrets, err := fork.NewPath(rand.Reader, 2, *fork.Leaf(2), testGroupID, members[2].sign)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := secrets.Encrypt(fork, context, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPathProcess merges and opens a path, BenchmarkPathMerge does what a hub does of it.
func BenchmarkPathProcess(b *testing.B) { benchPath(b, true) }

func BenchmarkPathMerge(b *testing.B) { benchPath(b, false) }

func benchPath(b *testing.B, open bool) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			tree, members := fullTree(b, n)
			context := make([]byte, 150)
			// The receiver has committed, so that it knows the keys above it.
			own := tree.Fork()
			mine, err := own.NewPath(rand.Reader, LeafIndex(n-1), *own.Leaf(LeafIndex(n - 1)), testGroupID, members[n-1].sign)
			if err != nil {
				b.Fatal(err)
			}
			me := mine.Private()
			next := own.Fork()
			secrets, err := next.NewPath(rand.Reader, LeafIndex(n/2), *next.Leaf(LeafIndex(n / 2)), testGroupID, members[n/2].sign)
			if err != nil {
				b.Fatal(err)
			}
			path, err := secrets.Encrypt(next, context, nil)
			if err != nil {
				b.Fatal(err)
			}
			want := bytes.Clone(next.TreeHash())
			b.ReportAllocs()
			for b.Loop() {
				fork := own.Fork()
				if err := fork.MergePath(LeafIndex(n/2), path); err != nil {
					b.Fatal(err)
				}
				if !bytes.Equal(fork.TreeHash(), want) {
					b.Fatal("tree hash")
				}
				if open {
					if _, err := me.Fork().OpenPath(fork, LeafIndex(n/2), path, context, nil); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
