package mls

import (
	"encoding/binary"
	"iter"
	"maps"
	"slices"

	"github.com/comity-im/comity/tlspl"
)

// storedGroup is what was flushed of a member's state, and what is still to be
// deleted.
type storedGroup struct {
	state     *state
	removed   bool
	exporters []*exporterTree // of epochs that are over
	dropped   []*pastEpoch
}

// storedMember is the record of a member's secrets that change with the epoch.
type storedMember struct {
	private []byte // PrivateTree
	signer  []byte
	secrets epochSecrets
	removed bool
}

// Code describes the record.
func (m *storedMember) Code(c *tlspl.Codec) {
	tlspl.Opaque(c, &m.private)
	tlspl.Opaque(c, &m.signer)
	m.secrets.Code(c)
	tlspl.Bool(c, &m.removed)
}

// storedPast is the record of a past epoch. What its GroupContext shares with
// that of the epoch after is not repeated.
type storedPast struct {
	context    contextHead
	changed    []changedExtension
	size       uint32 // leaves of the tree
	senderData []byte
	resumption []byte
	members    []changedMember
}

// Code describes the record.
func (p *storedPast) Code(c *tlspl.Codec) {
	tlspl.Struct(c, "context", &p.context)
	tlspl.Vector(c, &p.changed)
	tlspl.Uint32(c, &p.size)
	tlspl.Opaque(c, &p.senderData)
	tlspl.Opaque(c, &p.resumption)
	tlspl.Vector(c, &p.members)
}

// A changedExtension is the data that an extension or component had before a
// commit changed it.
type changedExtension struct {
	key   dataKey
	how   change
	value []byte
}

// change says what the value of a changedExtension is.
type change uint8

const (
	changedWhole change = iota // the data
	changedGone                // nothing: there was none
	changedPatch               // a patch to the data after the commit
)

// Code describes a changedExtension.
func (e *changedExtension) Code(c *tlspl.Codec) {
	tlspl.Uint8(c, &e.key.kind)
	tlspl.Uint16(c, &e.key.id)
	tlspl.Uint8(c, &e.how)
	if e.how > changedPatch {
		c.Fail(ErrStored)
	}
	tlspl.Opaque(c, &e.value)
}

// A changedMember is the signature key that a leaf had before a commit changed
// it, empty if it was blank.
type changedMember struct {
	leaf LeafIndex
	key  []byte
}

// Code describes a changedMember.
func (m *changedMember) Code(c *tlspl.Codec) {
	tlspl.Uint32(c, &m.leaf)
	tlspl.Opaque(c, &m.key)
}

// Flush returns the records that changed since the last flush, or all the first
// time. They hold secrets, and are to be written together: before a message
// that was encrypted leaves, and together with a message that was decrypted. If
// writing fails, the group in memory is ahead of what is stored and must be
// dropped and loaded again.
func (g *Group) Flush() ([]Record, error) {
	var r recordSet
	if err := g.public.flush(&r); err != nil {
		return nil, err
	}
	if g.stored.state != g.public.state || g.stored.removed != g.removed {
		m := storedMember{secrets: g.secrets, removed: g.removed, signer: g.signer.Bytes()}
		if !g.removed {
			var err error
			if m.private, err = g.private.Marshal(); err != nil {
				return nil, err
			}
		} else {
			m.private = binary.BigEndian.AppendUint32(nil, uint32(g.OwnLeaf()))
		}
		value, err := tlspl.Marshal(&m)
		if err != nil {
			return nil, err
		}
		r.put([]byte{keyMember}, value)
		g.stored.state, g.stored.removed = g.public.state, g.removed
	}
	for _, e := range append(g.stored.exporters, g.exporter) {
		e.flush(r.under([]byte{keyExporter}))
	}
	g.stored.exporters = nil
	for _, p := range g.stored.dropped {
		p.keys.tree.flush(r.under(key64(keyMessages, uint64(p.keys.epoch))))
		r.put(key64(keyPast, uint64(p.keys.epoch)), nil)
	}
	g.stored.dropped = nil
	next := g.public.state
	for _, p := range g.past {
		if !p.stored {
			value, err := p.store(next)
			if err != nil {
				return nil, err
			}
			r.put(key64(keyPast, uint64(p.keys.epoch)), value)
			p.stored = true
		}
		p.keys.tree.flush(r.under(key64(keyMessages, uint64(p.keys.epoch))))
		next = p.state
	}
	g.keys.tree.flush(r.under(key64(keyMessages, uint64(g.Epoch()))))
	return r.list, nil
}

// store encodes a past epoch, which next follows.
func (p *pastEpoch) store(next *state) ([]byte, error) {
	stored := storedPast{
		context: headOf(&p.state.context), size: p.size, senderData: p.keys.senderData, resumption: p.resumption,
	}
	before := extensionDataOf(p.state.context.Extensions, p.state.params.dictionary)
	after := extensionDataOf(next.context.Extensions, next.params.dictionary)
	err := before.diff(after, func(key dataKey, next, value []byte, gone bool) (err error) {
		change := changedExtension{key, changedWhole, value}
		switch {
		case gone:
			change.how = changedGone
		case next != nil && len(value) >= patchedSize:
			change.how = changedPatch
			change.value, err = tlspl.Marshal(newPatch(next, value))
		}
		stored.changed = append(stored.changed, change)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, i := range slices.Sorted(maps.Keys(p.members)) {
		stored.members = append(stored.members, changedMember{i, p.members[i]})
	}
	return tlspl.Marshal(&stored)
}

// LoadGroup restores a group from all its records that were not deleted. The
// error is ErrNoGroup if there are none, else says that they are not those that
// Flush gave.
func LoadGroup(cfg Config, seq iter.Seq2[[]byte, []byte]) (*Group, error) {
	r := sortRecords(seq)
	g := &Group{public: PublicGroup{cfg: cfg}}
	if err := g.public.load(r); err != nil {
		return nil, err
	}
	st := g.public.state
	if len(r[keyMember]) == 0 {
		return nil, ErrStored
	}
	var m storedMember
	if err := tlspl.UnmarshalAlias(r[keyMember][0].Value, &m); err != nil {
		return nil, err
	}
	g.secrets, g.removed = m.secrets, m.removed
	var err error
	if g.signer, err = st.suite.NewSigner(m.signer); err != nil {
		return nil, err
	}
	if !g.removed {
		g.private, err = LoadPrivateTree(st.suite, m.private)
	} else if len(m.private) != 4 {
		err = ErrStored
	} else {
		g.private = &PrivateTree{suite: st.suite, leaf: LeafIndex(binary.BigEndian.Uint32(m.private))}
	}
	if err != nil {
		return nil, err
	}
	if g.exporter, err = loadExporterTree(st.suite, r.all(keyExporter, nil)); err != nil {
		return nil, err
	}
	g.keys = messageKeys{
		suite: st.suite, groupID: st.context.GroupID, epoch: st.context.Epoch, groupContext: st.encoded,
		senderData: g.secrets.senderData, membership: g.secrets.membership,
	}
	if g.keys.tree, err = r.secretTree(&cfg, st, st.context.Epoch, st.tree.Size()); err != nil {
		return nil, err
	}
	g.stored = storedGroup{state: st, removed: g.removed}
	return g, g.loadPast(r)
}

func (r storedRecords) secretTree(cfg *Config, st *state, epoch Epoch, size uint32) (*secretTree, error) {
	prefix := binary.BigEndian.AppendUint64(nil, uint64(epoch))
	return loadSecretTree(st.suite, size, cfg.limits(), r.all(keyMessages, prefix))
}

// loadPast restores the past epochs, the latest first.
func (g *Group) loadPast(r storedRecords) error {
	slices.SortFunc(r[keyPast], func(a, b Record) int { return slices.Compare(b.Key, a.Key) })
	st := g.public.state
	data := extensionDataOf(st.context.Extensions, st.params.dictionary)
	for _, rec := range r[keyPast] {
		var stored storedPast
		err := tlspl.UnmarshalAlias(rec.Value, &stored)
		if err != nil {
			return err
		}
		for _, e := range stored.changed {
			if e.how == changedPatch {
				if e.value, err = data.patched(e.key, e.value); err != nil {
					return err
				}
			}
			data.set(e.key, e.value, e.how == changedGone)
		}
		context, err := stored.context.context(data)
		if err != nil {
			return err
		}
		p, err := parseParams(context.Extensions)
		if err != nil {
			return err
		}
		old, err := newState(st.suite, context, p, nil, nil)
		if err != nil {
			return err
		}
		past := &pastEpoch{
			state: old, size: stored.size, members: make(map[LeafIndex][]byte), resumption: stored.resumption, stored: true,
			keys: messageKeys{
				suite: st.suite, groupID: context.GroupID, epoch: context.Epoch, groupContext: old.encoded, senderData: stored.senderData,
			},
		}
		for _, m := range stored.members {
			past.members[m.leaf] = m.key
		}
		if past.keys.tree, err = r.secretTree(&g.public.cfg, old, context.Epoch, stored.size); err != nil {
			return err
		}
		g.past = append(g.past, past)
	}
	return nil
}
