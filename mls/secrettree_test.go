package mls

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/comity-im/comity/mls/suite"
	"pgregory.net/rapid"
)

func TestSecretTreeVectors(t *testing.T) {
	var vectors []struct {
		CipherSuite      suite.ID `json:"cipher_suite"`
		EncryptionSecret hexBytes `json:"encryption_secret"`
		SenderData       struct {
			SenderDataSecret hexBytes `json:"sender_data_secret"`
			Ciphertext       hexBytes
			Key, Nonce       hexBytes
		} `json:"sender_data"`
		Leaves [][]struct {
			Generation       uint32
			HandshakeKey     hexBytes `json:"handshake_key"`
			HandshakeNonce   hexBytes `json:"handshake_nonce"`
			ApplicationKey   hexBytes `json:"application_key"`
			ApplicationNonce hexBytes `json:"application_nonce"`
		}
	}
	readVectors(t, "secret-tree.json", &vectors)
	if len(vectors) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range vectors {
		s := lookup(t, v.CipherSuite)
		k := senderDataKey(s, v.SenderData.SenderDataSecret, v.SenderData.Ciphertext)
		checkBytes(t, "sender data key", k.key[:s.Nk()], v.SenderData.Key)
		checkBytes(t, "sender data nonce", k.nonce[:s.Nn()], v.SenderData.Nonce)

		tree := newSecretTree(s, uint32(len(v.Leaves)), slices.Clone(v.EncryptionSecret), DefaultRatchetLimits)
		for leaf, generations := range v.Leaves {
			for _, g := range generations {
				for kind, want := range map[ratchetKind][2]hexBytes{
					handshakeRatchet:   {g.HandshakeKey, g.HandshakeNonce},
					applicationRatchet: {g.ApplicationKey, g.ApplicationNonce},
				} {
					f, err := tree.find(ratchetID{LeafIndex(leaf), kind}, g.Generation)
					if err != nil {
						t.Fatal(err)
					}
					checkBytes(t, kind.label()+" key", f.key[:s.Nk()], want[0])
					checkBytes(t, kind.label()+" nonce", f.nonce[:s.Nn()], want[1])
					if err := tree.consume(&f); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if len(tree.nodes.secrets) != 0 {
			t.Errorf("%d node secrets are left after every leaf was used", len(tree.nodes.secrets))
		}
	}
}

func testTree(t testing.TB, size uint32, limits RatchetLimits) *secretTree {
	s := lookup(t, 1)
	return newSecretTree(s, size, bytes.Repeat([]byte{1}, s.Nh()), limits)
}

func TestNodeSecretsAreConsumed(t *testing.T) {
	tree := testTree(t, 8, DefaultRatchetLimits)
	if _, err := tree.get(ratchetID{leaf: 5}); err != nil {
		t.Fatal(err)
	}
	// Left are the copath of leaf 5 (node 10): 3, 13 and 8.
	if got := slices.Sorted(maps.Keys(tree.nodes.secrets)); !slices.Equal(got, []NodeIndex{3, 8, 13}) {
		t.Errorf("nodes %v keep secrets, want 3, 8, 13", got)
	}
	if _, err := tree.get(ratchetID{leaf: 8}); err != ErrNoRatchet {
		t.Errorf("leaf outside the tree: %v", err)
	}
	if _, err := tree.get(ratchetID{leaf: 1<<32 - 1}); err != ErrNoRatchet {
		t.Errorf("last leaf index: %v", err)
	}
}

func TestGenerations(t *testing.T) {
	id := ratchetID{2, applicationRatchet}
	limits := RatchetLimits{MaxForward: 10, MaxSkipped: 3}
	take := func(t *testing.T, tree *secretTree, generation uint32) error {
		t.Helper()
		f, err := tree.find(id, generation)
		if err != nil {
			return err
		}
		return tree.consume(&f)
	}
	t.Run("replay", func(t *testing.T) {
		tree := testTree(t, 4, limits)
		if err := take(t, tree, 0); err != nil {
			t.Fatal(err)
		}
		if err := take(t, tree, 0); err != ErrGenerationConsumed {
			t.Error(err)
		}
	})
	t.Run("window", func(t *testing.T) {
		tree := testTree(t, 4, limits)
		if err := take(t, tree, 10); err != nil {
			t.Fatal(err)
		}
		for generation, want := range map[uint32]error{6: ErrGenerationConsumed, 7: nil, 8: nil, 9: nil, 10: ErrGenerationConsumed} {
			if err := take(t, tree, generation); err != want {
				t.Errorf("generation %d: %v, want %v", generation, err, want)
			}
		}
	})
	t.Run("the oldest skipped keys go first", func(t *testing.T) {
		tree := testTree(t, 4, limits)
		for _, g := range []uint32{2, 5} {
			if err := take(t, tree, g); err != nil {
				t.Fatal(err)
			}
		}
		if got := slices.Sorted(maps.Keys(tree.ratchets[id].skipped)); !slices.Equal(got, []uint32{1, 3, 4}) {
			t.Errorf("kept %v, want 1, 3, 4", got)
		}
	})
	t.Run("too far", func(t *testing.T) {
		tree := testTree(t, 4, limits)
		for _, g := range []uint32{11, 1<<31 - 1, 1<<32 - 1} {
			var e *GenerationError
			if err := take(t, tree, g); !errors.As(err, &e) || *e != (GenerationError{g, 0, 10}) {
				t.Errorf("generation %d: %v", g, err)
			}
		}
	})
	t.Run("last", func(t *testing.T) {
		tree := testTree(t, 4, limits)
		r, err := tree.get(id)
		if err != nil {
			t.Fatal(err)
		}
		r.next = 1<<32 - 3
		if err := take(t, tree, 1<<32-1); err != nil {
			t.Fatal(err)
		}
		for _, g := range []uint32{1<<32 - 1, 0} {
			if err := take(t, tree, g); err != ErrGenerationConsumed {
				t.Errorf("generation %d of a used-up ratchet: %v", g, err)
			}
		}
		if err := take(t, tree, 1<<32-2); err != nil {
			t.Errorf("skipped one: %v", err)
		}
		if _, _, err := tree.send(id); err != ErrRatchetExhausted {
			t.Errorf("send: %v", err)
		}
		r.next = 1<<32 - 1
		if g, _, err := tree.send(id); g != 1<<32-1 || err != nil {
			t.Errorf("send: %d, %v", g, err)
		}
		if _, _, err := tree.send(id); err != ErrRatchetExhausted {
			t.Errorf("send: %v", err)
		}
	})
	t.Run("found together", func(t *testing.T) {
		tree := testTree(t, 4, limits)
		var found []foundKey
		for _, g := range []uint32{3, 1, 3, 2} {
			f, err := tree.find(id, g)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, f)
		}
		for i, want := range []error{nil, nil, ErrGenerationConsumed, nil} {
			if err := tree.consume(&found[i]); err != want {
				t.Errorf("key %d: %v, want %v", i, err, want)
			}
		}
	})
}

// A receiver gets each message's key once, in whatever order messages come and however often its state is stored and
// loaded between them.
func TestRatchetProperty(t *testing.T) {
	s, _ := suite.Lookup(suite.X25519AES128GCMSHA256Ed25519)
	rapid.Check(t, func(t *rapid.T) {
		root := rapid.SliceOfN(rapid.Byte(), s.Nh(), s.Nh()).Draw(t, "root")
		size := rapid.Uint32Range(1, 20).Draw(t, "size")
		limits := RatchetLimits{rapid.Uint32Range(0, 8).Draw(t, "forward"), rapid.IntRange(0, 6).Draw(t, "skipped")}
		sender := newSecretTree(s, size, slices.Clone(root), limits)
		receiver := newSecretTree(s, size, slices.Clone(root), limits)
		stored := map[string][]byte{}

		type sent struct {
			id         ratchetID
			generation uint32
			key        messageKey
		}
		var all []sent
		next := map[ratchetID]uint64{}      // model: where the receiver's ratchet stands
		skipped := map[ratchetID][]uint32{} // model: what it keeps, ascending
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				id := ratchetID{LeafIndex(rapid.Uint32Range(0, size-1).Draw(t, "leaf")), ratchetKind(rapid.IntRange(0, 1).Draw(t, "kind"))}
				g, k, err := sender.send(id)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, sent{id, g, k})
			},
			"receive": func(t *rapid.T) {
				if len(all) == 0 {
					t.Skip()
				}
				m := rapid.SampledFrom(all).Draw(t, "message")
				at, kept := next[m.id], slices.Index(skipped[m.id], m.generation)
				f, err := receiver.find(m.id, m.generation)
				switch {
				case uint64(m.generation) < at && kept < 0:
					if err != ErrGenerationConsumed {
						t.Fatalf("generation %d: %v", m.generation, err)
					}
					return
				case uint64(m.generation) >= at && uint64(m.generation)-at > uint64(limits.MaxForward):
					var e *GenerationError
					if !errors.As(err, &e) {
						t.Fatalf("generation %d: %v", m.generation, err)
					}
					return
				}
				if err != nil || f.messageKey != m.key {
					t.Fatalf("wrong key, %v", err)
				}
				if rapid.Bool().Draw(t, "forged") {
					return
				}
				if err := receiver.consume(&f); err != nil {
					t.Fatal(err)
				}
				if kept >= 0 && uint64(m.generation) < at {
					skipped[m.id] = slices.Delete(skipped[m.id], kept, kept+1)
					return
				}
				for g := at; g < uint64(m.generation); g++ {
					skipped[m.id] = append(skipped[m.id], uint32(g))
				}
				next[m.id] = uint64(m.generation) + 1
				if n := len(skipped[m.id]) - limits.MaxSkipped; n > 0 {
					skipped[m.id] = skipped[m.id][n:]
				}
			},
			"store": func(t *rapid.T) {
				receiver.flush(func(key, value []byte) {
					if value == nil {
						delete(stored, string(key))
					} else {
						stored[string(key)] = value
					}
				})
				receiver.flush(func(key, _ []byte) { t.Fatalf("record %x was not flushed", key) })
				loaded, err := loadSecretTree(s, size, limits, records(stored))
				if err != nil {
					t.Fatal(err)
				}
				receiver = loaded
			},
		})
		receiver.clear()
		receiver.flush(func(key, value []byte) {
			if value != nil {
				t.Fatalf("record %x outlives clear", key)
			}
			delete(stored, string(key))
		})
		if len(stored) != 0 {
			t.Fatalf("%d records outlive clear", len(stored))
		}
	})
}

func records(m map[string][]byte) func(func(key, value []byte) bool) {
	return func(yield func(key, value []byte) bool) {
		for k, v := range m {
			if !yield([]byte(k), v) {
				return
			}
		}
	}
}

// In order, a message changes one record.
func TestFlushIsSmall(t *testing.T) {
	tree := testTree(t, 1024, DefaultRatchetLimits)
	id := ratchetID{600, applicationRatchet}
	count := func() (n int) {
		tree.flush(func(_, value []byte) { n += len(value) })
		return n
	}
	count()
	for range 3 {
		if _, _, err := tree.send(id); err != nil {
			t.Fatal(err)
		}
	}
	count()
	if _, _, err := tree.send(id); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 40 {
		t.Errorf("a message writes %d octets, want 40", n)
	}
}

func TestStoredRecordsAreChecked(t *testing.T) {
	s := lookup(t, 1)
	for _, key := range []string{"", "n", "n\x00\x00\x00\x01", "r\x00\x00\x00\x01\x00", "s\x00\x00\x00\x01\x00\x00\x00\x00\x01", "x1234"} {
		for _, value := range []string{"", "short", string(make([]byte, 28))} {
			if _, err := loadSecretTree(s, 4, DefaultRatchetLimits, records(map[string][]byte{key: []byte(value)})); err != ErrStored {
				t.Errorf("record %x of %d octets: %v", key, len(value), err)
			}
		}
	}
}

func TestExporterTree(t *testing.T) {
	s := lookup(t, 1)
	root := bytes.Repeat([]byte{3}, s.Nh())
	tree := newExporterTree(s, slices.Clone(root))
	stored := map[string][]byte{}
	store := func() {
		tree.flush(func(key, value []byte) {
			if value == nil {
				delete(stored, string(key))
			} else {
				stored[string(key)] = value
			}
		})
		var err error
		if tree, err = loadExporterTree(s, records(stored)); err != nil {
			t.Fatal(err)
		}
	}
	// What §4.4 says, step by step: 16 bits of the ComponentID, the highest first, choose left or right.
	want := func(component ComponentID) []byte {
		secret := root
		for bit := 15; bit >= 0; bit-- {
			side := "left"
			if component>>bit&1 == 1 {
				side = "right"
			}
			secret = s.ExpandWithLabel(secret, "tree", []byte(side), s.Nh())
		}
		return secret
	}
	for _, component := range []ComponentID{0, 1, 0x8000, 0xFFFF, 0x0a0a} {
		got, err := tree.export(component)
		if err != nil {
			t.Fatal(err)
		}
		checkBytes(t, "exported secret", got, want(component))
		store()
		if _, err := tree.export(component); err != ErrExportConsumed {
			t.Errorf("second export: %v", err)
		}
	}
	tree.clear()
	store()
	if len(stored) != 0 {
		t.Errorf("%d records outlive clear", len(stored))
	}
}
