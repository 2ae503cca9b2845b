package mls

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"maps"
	"slices"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A Record is one entry of what is stored of a group: a key that is unique in
// the group, and a value, nil if the entry is to be deleted.
//
// What is written grows with what changed: after a message the ratchet that it
// used, after a commit the nodes between the changed leaves and the root.
type Record struct {
	Key   []byte
	Value []byte
}

// PendingRecord is the first octet of the keys of pending proposals' records: who
// stores a group sees by it whether there are any without loading the group.
const PendingRecord = 'q'

// The first octet of a record's key.
const (
	keyHead      = 'h'           // storedHead
	keyExtension = 'x'           // ‖ uint16 type: the data of an extension of the GroupContext
	keyComponent = 'd'           // ‖ uint16 component: its data in app_data_dictionary, which has no extension record
	keyPatch     = 'u'           // ‖ key of one of the two ‖ uint32 number, from 0: a patch to it
	keyNode      = 't'           // ‖ uint32 node of the ratchet tree
	keyPending   = PendingRecord // ‖ uint64 number, increasing: storedPending
	keyMember    = 'k'           // storedMember
	keyMessages  = 'm'           // ‖ uint64 epoch ‖ key of the secret tree
	keyExporter  = 'e'           // ‖ key of the exporter tree
	keyPast      = 'p'           // ‖ uint64 epoch: storedPast
)

// storedVersion is the version of the records' format that is written. Version 1,
// which had no patches, is read too.
const storedVersion = 2

// ErrNoGroup says that there are no records of a group.
var ErrNoGroup = errors.New("mls: no records of a group")

// recordSet collects records; of two with one key the later counts.
type recordSet struct {
	list  []Record
	index map[string]int
}

func (r *recordSet) put(key, value []byte) {
	if i, ok := r.index[string(key)]; ok {
		r.list[i].Value = value
		return
	}
	if r.index == nil {
		r.index = make(map[string]int)
	}
	r.index[string(key)] = len(r.list)
	r.list = append(r.list, Record{key, value})
}

// under returns a function that puts records under a prefix.
func (r *recordSet) under(prefix []byte) func(key, value []byte) {
	return func(key, value []byte) { r.put(slices.Concat(prefix, key), value) }
}

func key16(kind byte, v uint16) []byte { return binary.BigEndian.AppendUint16([]byte{kind}, v) }

func key32(kind byte, v uint32) []byte { return binary.BigEndian.AppendUint32([]byte{kind}, v) }

func key64(kind byte, v uint64) []byte { return binary.BigEndian.AppendUint64([]byte{kind}, v) }

// contextHead is a GroupContext without the data of its extensions.
type contextHead struct {
	cipherSuite         CipherSuite
	groupID             []byte
	epoch               Epoch
	treeHash            []byte
	confirmedTranscript []byte
	types               []ExtensionType
}

func headOf(g *GroupContext) contextHead {
	h := contextHead{g.CipherSuite, g.GroupID, g.Epoch, g.TreeHash, g.ConfirmedTranscriptHash, nil}
	for i := range g.Extensions {
		h.types = append(h.types, g.Extensions[i].Type)
	}
	return h
}

// Code describes the stored form of a contextHead.
func (h *contextHead) Code(c *tlspl.Codec) {
	tlspl.Uint16(c, &h.cipherSuite)
	tlspl.Opaque(c, &h.groupID)
	tlspl.Uint64(c, &h.epoch)
	tlspl.Opaque(c, &h.treeHash)
	tlspl.Opaque(c, &h.confirmedTranscript)
	tlspl.VectorFunc(c, &h.types, tlspl.Uint16)
}

// context puts the extensions back in.
func (h *contextHead) context(data extensionData) (GroupContext, error) {
	g := GroupContext{
		Version: MLS10, CipherSuite: h.cipherSuite, GroupID: h.groupID, Epoch: h.epoch, TreeHash: h.treeHash,
		ConfirmedTranscriptHash: h.confirmedTranscript,
	}
	for _, t := range h.types {
		if t != ExtensionAppDataDictionary {
			g.Extensions = append(g.Extensions, Extension{t, data.extensions[t]})
			continue
		}
		var d AppDataDictionary
		for id, value := range data.components {
			d = append(d, ComponentData{id, value})
		}
		slices.SortFunc(d, func(a, b ComponentData) int { return int(a.ComponentID) - int(b.ComponentID) })
		encoded, err := tlspl.Marshal(&d)
		if err != nil {
			return g, err
		}
		g.Extensions = append(g.Extensions, Extension{t, encoded})
	}
	return g, nil
}

// extensionData is the data of a GroupContext's extensions, the dictionary by
// component.
type extensionData struct {
	extensions map[ExtensionType][]byte
	components map[ComponentID][]byte
}

func extensionDataOf(e Extensions, d AppDataDictionary) extensionData {
	data := extensionData{make(map[ExtensionType][]byte), make(map[ComponentID][]byte)}
	for i := range e {
		if e[i].Type != ExtensionAppDataDictionary {
			data.extensions[e[i].Type] = e[i].Data
		}
	}
	for i := range d {
		data.components[d[i].ComponentID] = d[i].Data
	}
	return data
}

// diff calls f for every entry of d that prev does not have like this, with the
// data that prev has, nil if none, and with gone for every entry that only prev
// has.
func (d extensionData) diff(prev extensionData, f func(key dataKey, old, value []byte, gone bool) error) error {
	return errors.Join(diffMap(keyExtension, d.extensions, prev.extensions, f), diffMap(keyComponent, d.components, prev.components, f))
}

func diffMap[K ~uint16](kind byte, now, prev map[K][]byte, f func(key dataKey, old, value []byte, gone bool) error) error {
	for id, value := range now {
		if old, ok := prev[id]; !ok || !bytes.Equal(old, value) {
			if err := f(dataKey{kind, uint16(id)}, old, value, false); err != nil {
				return err
			}
		}
	}
	for id, old := range prev {
		if _, ok := now[id]; !ok {
			if err := f(dataKey{kind, uint16(id)}, old, nil, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// get returns what set has set.
func (d extensionData) get(key dataKey) (value []byte, ok bool) {
	if key.kind == keyExtension {
		value, ok = d.extensions[ExtensionType(key.id)]
	} else {
		value, ok = d.components[ComponentID(key.id)]
	}
	return value, ok
}

// set applies what diff gave.
func (d extensionData) set(key dataKey, value []byte, gone bool) {
	switch {
	case key.kind == keyExtension && gone:
		delete(d.extensions, ExtensionType(key.id))
	case key.kind == keyExtension:
		d.extensions[ExtensionType(key.id)] = value
	case gone:
		delete(d.components, ComponentID(key.id))
	default:
		d.components[ComponentID(key.id)] = value
	}
}

// storedHead is the record of what is small about a group's public state.
type storedHead struct {
	version         uint8
	context         contextHead
	confirmationTag []byte
	reinit          *ReInit
}

// Code describes the record.
func (h *storedHead) Code(c *tlspl.Codec) {
	tlspl.Uint8(c, &h.version)
	if h.version < 1 || h.version > storedVersion {
		c.Fail(ErrStored)
	}
	tlspl.Struct(c, "context", &h.context)
	tlspl.Opaque(c, &h.confirmationTag)
	tlspl.Optional(c, &h.reinit)
}

// storedPending is the record of a pending proposal.
type storedPending struct {
	content         []byte // AuthenticatedContent
	leafKey, signer []byte // of this member's own Update
}

// Code describes the record.
func (p *storedPending) Code(c *tlspl.Codec) {
	tlspl.Opaque(c, &p.content)
	tlspl.Opaque(c, &p.leafKey)
	tlspl.Opaque(c, &p.signer)
}

// storedPublic is what was flushed of a PublicGroup.
type storedPublic struct {
	state   *state
	pending map[string]uint64 // by reference: number of the record
	next    uint64
	patches map[dataKey]patches
}

func (s *storedPublic) clone() storedPublic {
	c := *s
	c.pending = maps.Clone(s.pending)
	c.patches = maps.Clone(s.patches)
	return c
}

// Flush returns the records that changed since the last flush, or all the first
// time. They are to be written together. If that fails, the group in memory is
// ahead of what is stored and must be dropped and loaded again.
func (g *PublicGroup) Flush() ([]Record, error) {
	var r recordSet
	if err := g.flush(&r); err != nil {
		return nil, err
	}
	return r.list, nil
}

func (g *PublicGroup) flush(r *recordSet) error {
	st, old := g.state, g.stored.state
	if st != old {
		head, err := tlspl.Marshal(&storedHead{storedVersion, headOf(&st.context), st.confirmationTag, g.reinit})
		if err != nil {
			return err
		}
		r.put([]byte{keyHead}, head)
		var before extensionData
		var tree *RatchetTree
		if old != nil {
			before = extensionDataOf(old.context.Extensions, old.params.dictionary)
			tree = old.tree
		}
		err = extensionDataOf(st.context.Extensions, st.params.dictionary).diff(before, func(key dataKey, old, value []byte, gone bool) error {
			return g.stored.flushData(r, key, old, value, gone)
		})
		if err != nil {
			return err
		}
		st.tree.Delta(tree, func(x NodeIndex, value []byte) { r.put(key32(keyNode, uint32(x)), value) })
		g.stored.state = st
	}
	for ref, n := range g.stored.pending {
		if g.pending.find(ProposalRef(ref)) == nil {
			r.put(key64(keyPending, n), nil)
			delete(g.stored.pending, ref)
		}
	}
	for _, p := range g.pending.list {
		if _, ok := g.stored.pending[string(p.Ref)]; ok {
			continue
		}
		value, err := p.store()
		if err != nil {
			return err
		}
		if g.stored.pending == nil {
			g.stored.pending = make(map[string]uint64)
		}
		g.stored.pending[string(p.Ref)] = g.stored.next
		r.put(key64(keyPending, g.stored.next), value)
		g.stored.next++
	}
	return nil
}

func (p *pendingProposal) store() ([]byte, error) {
	stored := storedPending{content: p.content}
	if p.own != nil {
		var err error
		if stored.leafKey, err = p.own.leafKey.Bytes(); err != nil {
			return nil, err
		}
		stored.signer = p.own.signer.Bytes()
	}
	return tlspl.Marshal(&stored)
}

func loadPending(s suite.Suite, value []byte) (*pendingProposal, error) {
	var stored storedPending
	if err := tlspl.Unmarshal(value, &stored); err != nil {
		return nil, err
	}
	var a AuthenticatedContent
	if err := tlspl.UnmarshalAlias(stored.content, &a); err != nil {
		return nil, err
	}
	if a.Content.ContentType != ContentProposal {
		return nil, ErrStored
	}
	p, err := newPending(s, &a)
	if err != nil {
		return nil, err
	}
	p.verified = true
	if len(stored.leafKey) > 0 {
		p.own = new(ownUpdate)
		if p.own.leafKey, err = s.ParsePrivateKey(stored.leafKey); err != nil {
			return nil, err
		}
		if p.own.signer, err = s.NewSigner(stored.signer); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// storedRecords are those of one group, by kind, their keys without the kind.
type storedRecords map[byte][]Record

func sortRecords(seq iter.Seq2[[]byte, []byte]) storedRecords {
	r := make(storedRecords)
	for key, value := range seq {
		if len(key) > 0 {
			r[key[0]] = append(r[key[0]], Record{bytes.Clone(key[1:]), bytes.Clone(value)})
		}
	}
	return r
}

// all yields the records of a kind whose keys have a prefix, without it.
func (r storedRecords) all(kind byte, prefix []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for _, rec := range r[kind] {
			if key, ok := bytes.CutPrefix(rec.Key, prefix); ok && !yield(key, rec.Value) {
				return
			}
		}
	}
}

// LoadPublicGroup restores a group from all its records that were not deleted.
// The error is ErrNoGroup if there are none, else says that they are not those
// that Flush gave.
func LoadPublicGroup(cfg Config, seq iter.Seq2[[]byte, []byte]) (*PublicGroup, error) {
	g := &PublicGroup{cfg: cfg}
	return g, g.load(sortRecords(seq))
}

func (g *PublicGroup) load(r storedRecords) error {
	if len(r[keyHead]) == 0 {
		return ErrNoGroup
	}
	var head storedHead
	if err := tlspl.UnmarshalAlias(r[keyHead][0].Value, &head); err != nil {
		return err
	}
	s, ok := suite.Lookup(head.context.cipherSuite)
	if !ok {
		return ErrCipherSuite
	}
	data := extensionDataOf(nil, nil)
	for _, kind := range []byte{keyExtension, keyComponent} {
		for key, value := range r.all(kind, nil) {
			if len(key) != 2 {
				return ErrStored
			}
			data.set(dataKey{kind, binary.BigEndian.Uint16(key)}, value, false)
		}
	}
	g.stored = storedPublic{pending: make(map[string]uint64)}
	if err := g.stored.loadPatches(r, data); err != nil {
		return err
	}
	context, err := head.context.context(data)
	if err != nil {
		return err
	}
	p, err := parseParams(context.Extensions)
	if err != nil {
		return err
	}
	malformed := false
	tree, err := LoadRatchetTree(s, func(yield func(NodeIndex, []byte) bool) {
		for key, value := range r.all(keyNode, nil) {
			if len(key) != 4 {
				malformed = true
				return
			}
			if !yield(NodeIndex(binary.BigEndian.Uint32(key)), value) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	if malformed {
		return ErrStored
	}
	if g.state, err = newState(s, context, p, tree, head.confirmationTag); err != nil {
		return err
	}
	g.reinit = head.reinit
	g.stored.state = g.state
	slices.SortFunc(r[keyPending], func(a, b Record) int { return bytes.Compare(a.Key, b.Key) })
	for key, value := range r.all(keyPending, nil) {
		if len(key) != 8 {
			return ErrStored
		}
		pending, err := loadPending(s, value)
		if err != nil {
			return err
		}
		g.pending.add(pending)
		n := binary.BigEndian.Uint64(key)
		g.stored.pending[string(pending.Ref)] = n
		g.stored.next = n + 1
	}
	return nil
}
