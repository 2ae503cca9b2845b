package mls

import "math/bits"

// An edit marks the nodes that one version of a tree made and alone holds, and may therefore change in place.
type edit struct{ _ byte }

// A trie maps 64-bit keys to values and shares what it doesn't change with the versions that it was copied from.
// Keys spread evenly: they are keyed hashes, or small integers that were scrambled. One key may have several values.
type trie struct{ root *trieNode }

type trieNode struct {
	owner *edit
	kids  *[16]*trieNode // nil in a bucket
	items []trieItem     // of a bucket
}

type trieItem struct {
	key   uint64
	value uint32
}

// bucketSize is how many items a bucket holds before it is split; at the full depth it may hold more.
const bucketSize = 8

// own makes the node at p one that e may change.
func (e *edit) ownTrie(p **trieNode) *trieNode {
	n := *p
	switch {
	case n == nil:
		n = &trieNode{owner: e, items: make([]trieItem, 0, bucketSize)}
	case n.owner == e:
		return n
	case n.kids != nil:
		kids := *n.kids
		n = &trieNode{owner: e, kids: &kids}
	default:
		n = &trieNode{owner: e, items: append(make([]trieItem, 0, max(bucketSize, len(n.items)+1)), n.items...)}
	}
	*p = n
	return n
}

// bucket returns the bucket of key to be changed by e.
func (t *trie) bucket(e *edit, key uint64, room bool) *trieNode {
	p := &t.root
	for shift := 60; ; shift -= 4 {
		n := e.ownTrie(p)
		if n.kids == nil && (len(n.items) < bucketSize || shift < 0 || !room) {
			return n
		}
		if n.kids == nil {
			n.kids = new([16]*trieNode)
			for _, it := range n.items {
				kid := e.ownTrie(&n.kids[it.key>>shift&15])
				kid.items = append(kid.items, it)
			}
			n.items = nil
		}
		p = &n.kids[key>>shift&15]
	}
}

// items returns the bucket of key for reading.
func (t *trie) items(key uint64) []trieItem {
	n := t.root
	for shift := 60; n != nil; shift -= 4 {
		if n.kids == nil {
			return n.items
		}
		n = n.kids[key>>shift&15]
	}
	return nil
}

// insert adds a value of key.
func (t *trie) insert(e *edit, key uint64, value uint32) {
	n := t.bucket(e, key, true)
	n.items = append(n.items, trieItem{key, value})
}

// remove takes one value of key away.
func (t *trie) remove(e *edit, key uint64, value uint32) {
	n := t.bucket(e, key, false)
	for i, it := range n.items {
		if it.key == key && it.value == value {
			last := len(n.items) - 1
			n.items[i] = n.items[last]
			n.items = n.items[:last]
			return
		}
	}
}

// count returns the one value of a key that is used as a counter.
func (t *trie) count(key uint64) uint32 {
	for _, it := range t.items(key) {
		if it.key == key {
			return it.value
		}
	}
	return 0
}

// addCount changes a counter, and drops it at zero.
func (t *trie) addCount(e *edit, key uint64, delta int) {
	old := t.count(key)
	if old != 0 {
		t.remove(e, key, old)
	}
	if v := int(old) + delta; v > 0 {
		t.insert(e, key, uint32(v))
	}
}

// scramble spreads small integers over all bits of a key; it is a bijection.
func scramble(x uint64) uint64 {
	return bits.RotateLeft64(x*0x9e3779b97f4a7c15, 32)
}
