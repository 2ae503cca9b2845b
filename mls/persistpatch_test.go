package mls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/comity-im/comity/tlspl"
	"pgregory.net/rapid"
)

func TestPatch(t *testing.T) {
	octets := rapid.SliceOfN(rapid.Byte(), 0, 60)
	rapid.Check(t, func(t *rapid.T) {
		a, b := octets.Draw(t, "a"), octets.Draw(t, "b")
		if rapid.Bool().Draw(t, "edited") {
			at := rapid.IntRange(0, len(a)).Draw(t, "at")
			b = slices.Concat(a[:at], b, a[rapid.IntRange(at, len(a)).Draw(t, "to"):])
		}
		var p patch
		if err := tlspl.Unmarshal(marshal(newPatch(a, b)), &p); err != nil {
			t.Fatal(err)
		}
		if got, err := p.apply(a); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%x to %x: %x, %v", a, b, got, err)
		}
	})
	for _, p := range []patch{{keep: 3}, {drop: 3}, {keep: 2, drop: 1}, {keep: 1 << 31, drop: 1 << 31}, {keep: 1<<32 - 1, drop: 1<<32 - 1}} {
		if _, err := p.apply(make([]byte, patchHead+2)); !errors.Is(err, ErrStored) {
			t.Errorf("%+v: %v, want ErrStored", p, err)
		}
	}
}

// wholeRules replace a component's data.
type wholeRules struct{ testRules }

func (wholeRules) UpdateComponent(_ ComponentID, _ []byte, _ bool, updates []ResolvedProposal, _ *Changes) ([]byte, error) {
	return updates[len(updates)-1].AppDataUpdate.Update, nil
}

// Whatever a long component becomes, everybody finds it after a restart, in the epochs before too, and what is written for
// one entry is not the whole of it.
func TestLongComponent(t *testing.T) {
	t.Run("edits", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			r := newRoom(t, nil, "alice", "bob")
			alice, bob := r.clients[0], r.clients[1]
			for _, c := range r.clients {
				c.config.Rules, c.group.public.cfg.Rules = wholeRules{}, wholeRules{}
			}
			r.hub.cfg.Rules = wholeRules{}
			data := bytes.Repeat([]byte("entry,"), 300)
			for range rapid.IntRange(1, 8).Draw(rt, "commits") {
				m, err := bob.group.Encrypt(rand.Reader, []byte("before"), nil)
				if err != nil {
					t.Fatal(err)
				}
				op := AppDataOpUpdate
				switch at := rapid.IntRange(0, len(data)).Draw(rt, "at"); rapid.IntRange(0, 4).Draw(rt, "kind") {
				case 0:
					data = slices.Concat(data[:at], rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(rt, "new"), data[at:])
				case 1:
					data = slices.Concat(data[:at], data[min(len(data), at+20):])
				case 2:
					data = bytes.Repeat([]byte("other"), at)
				case 3:
					data = nil
				case 4:
					if _, ok := r.hub.state.params.dictionary.Find(0xf000); ok {
						op, data = AppDataOpRemove, bytes.Repeat([]byte("again,"), 300)
					}
				}
				update := string(data)
				if op == AppDataOpRemove {
					update = ""
				}
				r.commit(alice, CommitOptions{Proposals: []Proposal{appData(0xf000, op, update)}})
				r.restart()
				got, ok := r.hub.state.params.dictionary.Find(0xf000)
				if ok != (op == AppDataOpUpdate) || ok && !bytes.Equal(got, data) {
					t.Fatalf("after a restart: %v, %q, want %q", ok, got, data)
				}
				if got, err := alice.group.Decrypt(m); err != nil || string(got.Data) != "before" {
					t.Fatalf("a message of the epoch before: %v", err)
				}
			}
		})
	})
	t.Run("written", func(t *testing.T) {
		const entries, size, commits = 2000, 60, 30
		r := newRoom(t, nil, "alice", "bob")
		alice := r.clients[0]
		r.commit(alice, CommitOptions{Proposals: []Proposal{appData(0xf000, AppDataOpUpdate, string(make([]byte, entries*size)))}})
		r.restart()
		total, most := 0, 0
		for range commits {
			before := maps.Clone(r.store)
			r.commit(alice, CommitOptions{Proposals: []Proposal{appData(0xf000, AppDataOpUpdate, string(make([]byte, size)))}})
			r.restart()
			n := 0
			for key, value := range r.store {
				if old, ok := before[key]; !ok || !bytes.Equal(old, value) {
					n += len(key) + len(value)
				}
			}
			total, most = total+n, max(most, n)
		}
		t.Logf("of %d octets: on average %d for %d new ones, at most %d", entries*size, total/commits, size, most)
		if most == 0 || most > 3000 {
			t.Errorf("%d octets written for an entry of %d", most, size)
		}
		r.restart()
		// What was added must not cost a reader without end: a quarter of new data, and it is written whole.
		r.commit(alice, CommitOptions{Proposals: []Proposal{appData(0xf000, AppDataOpUpdate, string(make([]byte, entries*size/3)))}})
		r.restart()
		for key := range r.store {
			if key[0] == keyPatch {
				t.Fatal("patches stay")
			}
		}
	})
}

// Patches that aren't those that were written don't become a group.
func TestPatchRecords(t *testing.T) {
	r := newRoom(t, nil, "alice")
	for _, n := range []int{5000, 10, 10} {
		r.commit(r.clients[0], CommitOptions{Proposals: []Proposal{appData(0xf000, AppDataOpUpdate, string(make([]byte, n)))}})
		r.restart()
	}
	key := string(dataKey{keyComponent, 0xf000}.patchRecord(0))
	if r.store[key] == nil || r.store[string(dataKey{keyComponent, 0xf000}.patchRecord(1))] == nil {
		t.Fatal("no patches were written")
	}
	whole := r.store[key]
	for name, spoil := range map[string]func(){
		"one is missing":      func() { delete(r.store, key) },
		"not a patch":         func() { r.store[key] = whole[1:] },
		"of nothing":          func() { r.store[string(dataKey{keyComponent, 0xf001}.patchRecord(0))] = whole },
		"a key that is short": func() { r.store[key[:5]] = whole },
	} {
		saved := maps.Clone(r.store)
		spoil()
		if _, err := LoadPublicGroup(r.hub.cfg, r.store.all); err == nil {
			t.Errorf("%s: loaded", name)
		}
		r.store = saved
	}
}

// What the version before stored, which had no patches, is read; what a later one stores is not.
func TestStoredVersions(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob")
	r.restart()
	for version, good := range map[byte]bool{0: false, 1: true, storedVersion: true, storedVersion + 1: false} {
		r.store[string(keyHead)][0] = version
		if _, err := LoadPublicGroup(r.hub.cfg, r.store.all); (err == nil) != good || !good && !errors.Is(err, ErrStored) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

// FuzzPatch: no patch makes more than is in it and in what it is for.
func FuzzPatch(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), marshal(newPatch([]byte("0123456789abcdef"), []byte("0123456x89abcdeg"))))
	f.Add([]byte("short"), marshal(&patch{keep: 1 << 31, drop: 1 << 31}))
	f.Fuzz(func(t *testing.T, old, encoded []byte) {
		var p patch
		if tlspl.Unmarshal(encoded, &p) != nil {
			return
		}
		if !bytes.Equal(marshal(&p), encoded) {
			t.Errorf("%x is encoded as %x", encoded, marshal(&p))
		}
		if b, err := p.apply(old); err == nil && len(b) > len(old)+len(encoded) {
			t.Errorf("%d octets of %d and %d", len(b), len(old), len(encoded))
		}
	})
}
