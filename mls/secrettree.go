package mls

import (
	"encoding/binary"
	"errors"
	"iter"
	"maps"
	"slices"
	"strconv"

	"github.com/comity-im/comity/mls/suite"
)

// A derivationTree derives the secrets of its leaves from one root on demand (RFC 9420 §9). A node's secret is gone as
// soon as its children's are derived, and a leaf's as soon as it is taken, so what is held never gives away what was
// taken before.
type derivationTree struct {
	suite   suite.Suite
	depth   int                    // the tree has 2^depth leaves
	secrets map[NodeIndex][]byte   // what is not consumed
	dirty   map[NodeIndex]struct{} // differs from what is stored
}

func newDerivationTree(s suite.Suite, depth int, root []byte) derivationTree {
	x := rootIndex(depth)
	return derivationTree{
		suite:   s,
		depth:   depth,
		secrets: map[NodeIndex][]byte{x: root},
		dirty:   map[NodeIndex]struct{}{x: {}},
	}
}

// has reports whether leaf i lies in the tree.
func (t *derivationTree) has(i LeafIndex) bool { return uint64(i) < 1<<t.depth }

// take consumes the secret of leaf i: nil if it lies outside the tree or was taken before.
func (t *derivationTree) take(i LeafIndex) []byte {
	if !t.has(i) {
		return nil
	}
	level := 0
	for t.secrets[i.ancestor(level)] == nil {
		if level++; level > t.depth {
			return nil
		}
	}
	for ; level > 0; level-- {
		x := i.ancestor(level)
		secret := t.secrets[x]
		t.set(x.Left(), t.suite.ExpandWithLabel(secret, "tree", []byte("left"), t.suite.Nh()))
		t.set(x.Right(), t.suite.ExpandWithLabel(secret, "tree", []byte("right"), t.suite.Nh()))
		clear(secret)
		t.set(x, nil)
	}
	secret := t.secrets[i.Node()]
	t.set(i.Node(), nil)
	return secret
}

func (t *derivationTree) set(x NodeIndex, secret []byte) {
	if secret == nil {
		delete(t.secrets, x)
	} else {
		t.secrets[x] = secret
	}
	t.dirty[x] = struct{}{}
}

// clear overwrites and forgets all secrets.
func (t *derivationTree) clear() {
	for x, secret := range t.secrets {
		clear(secret)
		t.set(x, nil)
	}
}

// Kinds of stored records: the first octet of a record's key.
const (
	recordNode    = 'n' // ‖ uint32 node: the node's secret
	recordRatchet = 'r' // ‖ uint32 leaf ‖ content kind: uint64 next generation ‖ its secret
	recordSkipped = 's' // ‖ uint32 leaf ‖ content kind ‖ uint32 generation: key ‖ nonce
)

// flush emits what changed since the last flush, a nil value for what is gone. Keys and values are the receiver's.
func (t *derivationTree) flush(emit func(key, value []byte)) {
	for x := range t.dirty {
		emit(nodeRecordKey(x), slices.Clone(t.secrets[x]))
	}
	clear(t.dirty)
}

func nodeRecordKey(x NodeIndex) []byte {
	return binary.BigEndian.AppendUint32([]byte{recordNode}, uint32(x))
}

// ErrStored: a stored record isn't one that this package wrote.
var ErrStored = errors.New("mls: malformed stored record")

// loadNode takes back a record that flush emitted.
func (t *derivationTree) loadNode(key, value []byte) error {
	if len(key) != 5 || key[0] != recordNode || len(value) != t.suite.Nh() {
		return ErrStored
	}
	t.secrets[NodeIndex(binary.BigEndian.Uint32(key[1:]))] = slices.Clone(value)
	return nil
}

// RatchetLimits bounds what a message's generation can make a receiver do (RFC 9420 §15.3).
type RatchetLimits struct {
	// MaxForward is the most generations that one message may skip.
	MaxForward uint32
	// MaxSkipped is the most keys of skipped generations that are kept for each sender and content kind. When there
	// are more, the oldest are forgotten.
	MaxSkipped int
}

// DefaultRatchetLimits lets 1000 messages of one sender be late or lost in an epoch: at most 44 kB of keys and 1.5 ms
// of derivations.
var DefaultRatchetLimits = RatchetLimits{MaxForward: 1000, MaxSkipped: 1000}

// A ratchetKind says which of a leaf's two ratchets is meant.
type ratchetKind uint8

const (
	handshakeRatchet   ratchetKind = 0
	applicationRatchet ratchetKind = 1
)

func (k ratchetKind) label() string {
	if k == handshakeRatchet {
		return "handshake"
	}
	return "application"
}

// A ratchetID names one ratchet of an epoch.
type ratchetID struct {
	leaf LeafIndex
	kind ratchetKind
}

const (
	maxNh = 64 // the longest KDF.Nh of any suite
	maxNk = 32 // the longest AEAD.Nk
	maxNn = 12 // the longest AEAD.Nn
)

// A messageKey is the key and nonce of one generation. Only the first Nk and Nn octets count.
type messageKey struct {
	key   [maxNk]byte
	nonce [maxNn]byte
}

// A ratchet is the unconsumed part of one sender ratchet (RFC 9420 §9.1).
type ratchet struct {
	next    uint64 // the generation that secret belongs to; 2^32 when the ratchet is used up
	secret  [maxNh]byte
	skipped map[uint32]messageKey
}

// step moves past generation next and returns its key.
func (r *ratchet) step(s suite.Suite) (k messageKey) {
	secret, generation := r.secret[:s.Nh()], uint32(r.next)
	s.DeriveTreeSecretInto(k.key[:s.Nk()], secret, "key", generation)
	s.DeriveTreeSecretInto(k.nonce[:s.Nn()], secret, "nonce", generation)
	s.DeriveTreeSecretInto(secret, secret, "secret", generation)
	r.next++
	return k
}

// secretTree holds the message keys of one epoch (RFC 9420 §9).
//
// Receiving has two halves. find gives the key that a message names and leaves the ratchet as it was; consume moves it,
// once the message has proved to be its sender's. A forged message, even another member's, so costs its victim no key.
type secretTree struct {
	nodes    derivationTree
	limits   RatchetLimits
	ratchets map[ratchetID]*ratchet
	dirty    map[ratchetID]struct{}  // ratchets that differ from what is stored
	moved    map[skippedKey]struct{} // skipped keys that were added or removed since
}

type skippedKey struct {
	ratchetID
	generation uint32
}

// newSecretTree starts the secret tree of an epoch whose ratchet tree has room for size leaves, and takes over its
// encryption_secret.
func newSecretTree(s suite.Suite, size uint32, encryptionSecret []byte, limits RatchetLimits) *secretTree {
	return &secretTree{
		nodes:    newDerivationTree(s, treeDepth(size), encryptionSecret),
		limits:   limits,
		ratchets: map[ratchetID]*ratchet{},
		dirty:    map[ratchetID]struct{}{},
		moved:    map[skippedKey]struct{}{},
	}
}

// ErrNoRatchet: the leaf lies outside the epoch's tree.
var ErrNoRatchet = errors.New("mls: no such leaf in the secret tree")

// get returns a ratchet, deriving both ratchets of the leaf at its first use.
func (t *secretTree) get(id ratchetID) (*ratchet, error) {
	if r := t.ratchets[id]; r != nil {
		return r, nil
	}
	secret := t.nodes.take(id.leaf)
	if secret == nil {
		return nil, ErrNoRatchet
	}
	s := t.nodes.suite
	for _, kind := range []ratchetKind{handshakeRatchet, applicationRatchet} {
		r := new(ratchet)
		s.ExpandWithLabelInto(r.secret[:s.Nh()], secret, kind.label(), nil)
		other := ratchetID{id.leaf, kind}
		t.ratchets[other] = r
		t.dirty[other] = struct{}{}
	}
	clear(secret)
	return t.ratchets[id], nil
}

// ErrRatchetExhausted: a sender used all 2^32 generations of an epoch. A Commit begins new ones.
var ErrRatchetExhausted = errors.New("mls: no generation is left in this epoch")

// send takes the next key of a ratchet for encryption. The change has to be stored before the ciphertext leaves.
func (t *secretTree) send(id ratchetID) (uint32, messageKey, error) {
	r, err := t.get(id)
	if err != nil {
		return 0, messageKey{}, err
	}
	if r.next > 0xFFFFFFFF {
		return 0, messageKey{}, ErrRatchetExhausted
	}
	generation := uint32(r.next)
	k := r.step(t.nodes.suite)
	t.dirty[id] = struct{}{}
	return generation, k, nil
}

// ErrGenerationConsumed: the key of a message's generation was used before or has been forgotten. The message is a
// replay, or too late.
var ErrGenerationConsumed = errors.New("mls: the generation's key is consumed")

// A GenerationError refuses a message whose generation lies too far ahead (RFC 9420 §15.3).
type GenerationError struct {
	Generation uint32 // of the message
	Next       uint32 // the lowest not seen yet
	MaxForward uint32 // the most that may be skipped
}

func (e *GenerationError) Error() string {
	return "mls: generation " + strconv.FormatUint(uint64(e.Generation), 10) + " is too far ahead of the sender's ratchet at " +
		strconv.FormatUint(uint64(e.Next), 10)
}

// A foundKey is a key to try, with what consume needs to go on from there.
type foundKey struct {
	messageKey
	id         ratchetID
	generation uint32
	start      uint64 // where the ratchet stood
	after      ratchet
}

// find returns the key of a generation and consumes nothing.
func (t *secretTree) find(id ratchetID, generation uint32) (foundKey, error) {
	r, err := t.get(id)
	if err != nil {
		return foundKey{}, err
	}
	f := foundKey{id: id, generation: generation, start: r.next}
	if uint64(generation) < r.next {
		k, ok := r.skipped[generation]
		if !ok {
			return foundKey{}, ErrGenerationConsumed
		}
		f.messageKey = k
		return f, nil
	}
	if uint64(generation)-r.next > uint64(t.limits.MaxForward) {
		return foundKey{}, &GenerationError{generation, uint32(r.next), t.limits.MaxForward}
	}
	f.after.next, f.after.secret = r.next, r.secret
	for f.after.next < uint64(generation) {
		f.keep(f.after.step(t.nodes.suite), t.limits)
	}
	f.messageKey = f.after.step(t.nodes.suite)
	return f, nil
}

// keep remembers the key of the generation that was just stepped over, if it is among the last MaxSkipped.
func (f *foundKey) keep(k messageKey, limits RatchetLimits) {
	passed := f.after.next - 1
	if uint64(f.generation)-passed > uint64(max(limits.MaxSkipped, 0)) {
		return
	}
	if f.after.skipped == nil {
		f.after.skipped = map[uint32]messageKey{}
	}
	f.after.skipped[uint32(passed)] = k
}

// consume deletes a key that find returned, and everything it was derived from.
func (t *secretTree) consume(f *foundKey) error {
	if err := t.remove(*f); err != nil {
		return err
	}
	f.messageKey, f.after = messageKey{}, ratchet{}
	return nil
}

func (t *secretTree) remove(f foundKey) error {
	r, err := t.get(f.id)
	if err != nil {
		return err
	}
	if r.next != f.start && uint64(f.generation) >= f.start {
		// Another message moved the ratchet since; this one's key lies somewhere else now.
		if f, err = t.find(f.id, f.generation); err != nil {
			return err
		}
	}
	if uint64(f.generation) < r.next {
		if _, ok := r.skipped[f.generation]; !ok {
			return ErrGenerationConsumed
		}
		t.forget(r, f.id, f.generation)
		return nil
	}
	r.next, r.secret = f.after.next, f.after.secret
	t.dirty[f.id] = struct{}{}
	if f.after.skipped != nil {
		if r.skipped == nil {
			r.skipped = map[uint32]messageKey{}
		}
		for generation, k := range f.after.skipped {
			r.skipped[generation] = k
			t.moved[skippedKey{f.id, generation}] = struct{}{}
		}
		t.trim(r, f.id)
	}
	return nil
}

// trim forgets the oldest skipped keys above the limit.
func (t *secretTree) trim(r *ratchet, id ratchetID) {
	excess := len(r.skipped) - max(t.limits.MaxSkipped, 0)
	if excess <= 0 {
		return
	}
	for _, generation := range slices.Sorted(maps.Keys(r.skipped))[:excess] {
		t.forget(r, id, generation)
	}
}

func (t *secretTree) forget(r *ratchet, id ratchetID, generation uint32) {
	delete(r.skipped, generation)
	t.moved[skippedKey{id, generation}] = struct{}{}
}

// flush emits what changed since the last flush, a nil value for what is gone: after a message in order one record of
// its sender's ratchet.
func (t *secretTree) flush(emit func(key, value []byte)) {
	t.nodes.flush(emit)
	s := t.nodes.suite
	for id := range t.dirty {
		var value []byte
		if r := t.ratchets[id]; r != nil {
			value = binary.BigEndian.AppendUint64(make([]byte, 0, 8+s.Nh()), r.next)
			value = append(value, r.secret[:s.Nh()]...)
		}
		emit(ratchetKey(id), value)
	}
	for k := range t.moved {
		var value []byte
		if r := t.ratchets[k.ratchetID]; r != nil {
			if m, ok := r.skipped[k.generation]; ok {
				value = append(make([]byte, 0, s.Nk()+s.Nn()), m.key[:s.Nk()]...)
				value = append(value, m.nonce[:s.Nn()]...)
			}
		}
		emit(k.key(), value)
	}
	clear(t.dirty)
	clear(t.moved)
}

func ratchetKey(id ratchetID) []byte {
	b := append(make([]byte, 0, 10), recordRatchet)
	b = binary.BigEndian.AppendUint32(b, uint32(id.leaf))
	return append(b, byte(id.kind))
}

func (k skippedKey) key() []byte {
	b := ratchetKey(k.ratchetID)
	b[0] = recordSkipped
	return binary.BigEndian.AppendUint32(b, k.generation)
}

// clear overwrites and forgets everything. A flush after it deletes all of the epoch's records.
func (t *secretTree) clear() {
	t.nodes.clear()
	for id, r := range t.ratchets {
		for generation := range r.skipped {
			t.moved[skippedKey{id, generation}] = struct{}{}
		}
		*r = ratchet{}
		t.dirty[id] = struct{}{}
	}
	clear(t.ratchets)
}

// loadSecretTree restores a secret tree from all the records that it emitted and that were not deleted since.
func loadSecretTree(s suite.Suite, size uint32, limits RatchetLimits, records iter.Seq2[[]byte, []byte]) (*secretTree, error) {
	t := newSecretTree(s, size, nil, limits)
	clear(t.nodes.secrets)
	clear(t.nodes.dirty)
	skipped := map[skippedKey]messageKey{}
	for key, value := range records {
		switch {
		case len(key) == 5 && key[0] == recordNode:
			if err := t.nodes.loadNode(key, value); err != nil {
				return nil, err
			}
		case len(key) == 6 && key[0] == recordRatchet && len(value) == 8+s.Nh():
			r := &ratchet{next: binary.BigEndian.Uint64(value)}
			if r.next > 1<<32 {
				return nil, ErrStored
			}
			copy(r.secret[:], value[8:])
			t.ratchets[parseRatchetID(key)] = r
		case len(key) == 10 && key[0] == recordSkipped && len(value) == s.Nk()+s.Nn():
			var m messageKey
			copy(m.key[:], value[:s.Nk()])
			copy(m.nonce[:], value[s.Nk():])
			skipped[skippedKey{parseRatchetID(key), binary.BigEndian.Uint32(key[6:])}] = m
		default:
			return nil, ErrStored
		}
	}
	for k, m := range skipped {
		r := t.ratchets[k.ratchetID]
		if r == nil || uint64(k.generation) >= r.next {
			return nil, ErrStored
		}
		if r.skipped == nil {
			r.skipped = map[uint32]messageKey{}
		}
		r.skipped[k.generation] = m
	}
	return t, nil
}

func parseRatchetID(key []byte) ratchetID {
	return ratchetID{LeafIndex(binary.BigEndian.Uint32(key[1:])), ratchetKind(key[5])}
}
