package mls

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/comity-im/comity/tlspl"
)

// A component can be as long as the group is large, a room's participant list for instance, and then a commit that adds one
// entry must not write it all. So its data is a record and patches to it, until those are together as long as a
// quarter of it: what is written stays in proportion to what changed.

// Bounds of patches.
const (
	patchedSize = 1 << 10 // octets; what is shorter is written whole
	patchesMost = 1 << 10 // for one component; loading applies them all
	patchHead   = 8       // octets at the beginning that a patch repeats: the length of the vector that follows
)

// A patch makes new data from old: another head, and one place behind it where octets are replaced.
type patch struct {
	head   []byte
	keep   uint32 // octets of old behind its head that stay before the place
	drop   uint32 // octets of old that go
	insert []byte
}

// Code describes the stored form of a patch.
func (p *patch) Code(c *tlspl.Codec) {
	tlspl.Opaque(c, &p.head)
	tlspl.Uint32(c, &p.keep)
	tlspl.Uint32(c, &p.drop)
	tlspl.Opaque(c, &p.insert)
}

// newPatch returns what makes b from a.
func newPatch(a, b []byte) *patch {
	a = a[min(patchHead, len(a)):]
	n := min(patchHead, len(b))
	head, b := b[:n], b[n:]
	keep := common(min(len(a), len(b)), func(i int) bool { return a[i] == b[i] })
	tail := common(min(len(a), len(b))-keep, func(i int) bool { return a[len(a)-1-i] == b[len(b)-1-i] })
	return &patch{head, uint32(keep), uint32(len(a) - keep - tail), b[keep : len(b)-tail]}
}

// common is the least i below n that is not the same, or n.
func common(n int, same func(i int) bool) int {
	for i := range n {
		if !same(i) {
			return i
		}
	}
	return n
}

// apply returns the new data.
func (p *patch) apply(old []byte) ([]byte, error) {
	old = old[min(patchHead, len(old)):]
	if uint64(p.keep)+uint64(p.drop) > uint64(len(old)) {
		return nil, ErrStored
	}
	return slices.Concat(p.head, old[:p.keep], p.insert, old[p.keep+p.drop:]), nil
}

// dataKey names an extension's or component's data: keyExtension or keyComponent, and its type.
type dataKey struct {
	kind byte
	id   uint16
}

func (k dataKey) record() []byte { return key16(k.kind, k.id) }

func (k dataKey) patchRecord(i uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte{keyPatch}, k.record()...), i)
}

// patches is what is stored of the patches to one piece of data.
type patches struct {
	n    uint32
	size int // octets, together
}

// flushData writes what makes value from old, the data that was stored; gone: there is no value any more.
func (s *storedPublic) flushData(r *recordSet, key dataKey, old, value []byte, gone bool) error {
	have := s.patches[key]
	if !gone && len(value) >= patchedSize && old != nil && have.n < patchesMost {
		b, err := tlspl.Marshal(newPatch(old, value))
		if err != nil {
			return err
		}
		if have.size += len(b); have.size <= len(value)/4 {
			r.put(key.patchRecord(have.n), b)
			have.n++
			if s.patches == nil {
				s.patches = make(map[dataKey]patches)
			}
			s.patches[key] = have
			return nil
		}
	}
	switch {
	case gone:
		value = nil
	case value == nil:
		value = []byte{}
	}
	r.put(key.record(), value)
	for i := range have.n {
		r.put(key.patchRecord(i), nil)
	}
	delete(s.patches, key)
	return nil
}

// loadPatches applies the patches that are stored to the data that they are for.
func (s *storedPublic) loadPatches(r storedRecords, data extensionData) error {
	slices.SortFunc(r[keyPatch], func(a, b Record) int { return bytes.Compare(a.Key, b.Key) })
	for key, value := range r.all(keyPatch, nil) {
		if len(key) != 1+2+4 {
			return ErrStored
		}
		k := dataKey{key[0], binary.BigEndian.Uint16(key[1:])}
		have := s.patches[k]
		if have.n != binary.BigEndian.Uint32(key[3:]) {
			return ErrStored
		}
		next, err := data.patched(k, value)
		if err != nil {
			return err
		}
		data.set(k, next, false)
		if s.patches == nil {
			s.patches = make(map[dataKey]patches)
		}
		s.patches[k] = patches{have.n + 1, have.size + len(value)}
	}
	return nil
}

// patched applies an encoded patch to data.
func (d extensionData) patched(key dataKey, encoded []byte) ([]byte, error) {
	old, ok := d.get(key)
	if !ok {
		return nil, ErrStored
	}
	var p patch
	if err := tlspl.UnmarshalAlias(encoded, &p); err != nil {
		return nil, err
	}
	return p.apply(old)
}
