package room

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// The keys of a Hub's records begin with one of these octets.
const (
	keyGroup   = 'g' // of mls.PublicGroup
	keyHub     = 'h'
	keyInfo    = 'i'
	keyPending = 'p' // and the position, uint32
)

// infoRecord is what a GroupInfo has beyond the GroupContext, which the group's records hold.
type infoRecord struct {
	extensions mls.Extensions
	signer     mls.LeafIndex
	signature  []byte
}

func (r *infoRecord) Code(c *tlspl.Codec) {
	r.extensions.Code(c)
	tlspl.Uint32(c, &r.signer)
	tlspl.Opaque(c, &r.signature)
}

func pendingKey(i int) []byte {
	return binary.BigEndian.AppendUint32([]byte{keyPending}, uint32(i))
}

// Records returns what to store so that LoadHub finds the next Hub: the records that changed, nil values being deletions.
// Their size is that of the change. It is to be called once.
func (n *Next) Records() ([]mls.Record, error) {
	var records []mls.Record
	put := func(key []byte, v tlspl.Coder) error {
		value, err := tlspl.Marshal(v)
		records = append(records, mls.Record{Key: key, Value: value})
		return err
	}
	if err := put([]byte{keyHub}, &hubRecord{version: recordsVersion, last: n.accepted, closed: n.ReInit != nil}); err != nil {
		return nil, err
	}
	group, err := n.public.Flush()
	if err != nil {
		return nil, err
	}
	records = appendGroup(records, group)
	if n.Commit || n.first {
		if err := put([]byte{keyInfo}, &infoRecord{n.info.Extensions, n.info.Signer, n.info.Signature}); err != nil {
			return nil, err
		}
	}
	for i := n.keep; i < len(n.pending); i++ {
		if err := put(pendingKey(i), &n.pending[i]); err != nil {
			return nil, err
		}
	}
	for i := len(n.pending); i < n.before; i++ {
		records = append(records, mls.Record{Key: pendingKey(i)})
	}
	return records, nil
}

// appendGroup appends the records of an MLS group under the key that they have here.
func appendGroup(records, group []mls.Record) []mls.Record {
	for _, r := range group {
		records = append(records, mls.Record{Key: append([]byte{keyGroup}, r.Key...), Value: r.Value})
	}
	return records
}

// LoadHub returns the Hub whose records are given, in any order. Reading it takes time that grows with the room.
func LoadHub(cfg HubConfig, records iter.Seq2[[]byte, []byte]) (*Hub, error) {
	h := &Hub{cfg: cfg, rules: NewRules(cfg.Verifier)}
	var (
		hub     hubRecord
		info    infoRecord
		pending = make(map[uint32]mimi.PendingProposal)
		broken  error
	)
	read := func(value []byte, into tlspl.Coder) {
		if err := tlspl.Unmarshal(value, into); err != nil && broken == nil {
			broken = err
		}
	}
	group := func(yield func([]byte, []byte) bool) {
		for key, value := range records {
			if len(key) == 0 {
				continue
			}
			switch key[0] {
			case keyGroup:
				if !yield(key[1:], value) {
					return
				}
			case keyHub:
				read(value, &hub)
			case keyInfo:
				read(value, &info)
			case keyPending:
				var p mimi.PendingProposal
				if read(value, &p); len(key) == 5 {
					pending[binary.BigEndian.Uint32(key[1:])] = p
				}
			}
		}
	}
	var err error
	if h.public, err = mls.LoadPublicGroup(cfg.mls(h.rules), group); err != nil {
		return nil, err
	}
	if broken != nil {
		return nil, fmt.Errorf("room: stored state: %w", broken)
	}
	h.last, h.closed = hub.last, hub.closed
	h.info = &mls.GroupInfo{GroupContext: *h.public.Context(), Extensions: info.extensions, ConfirmationTag: h.public.ConfirmationTag(),
		Signer: info.signer, Signature: info.signature}
	for i := range uint32(len(pending)) {
		p, ok := pending[i]
		if !ok {
			return nil, fmt.Errorf("room: stored state: pending proposal %d is missing", i)
		}
		h.pending = append(h.pending, p)
	}
	view, err := NewView(h.public.Context())
	if err != nil {
		return nil, err
	}
	if h.rules.room, err = newSnapshot(cfg.Verifier, view, h.public.Tree()); err != nil {
		return nil, err
	}
	if h.plan, err = h.union(h.public); err != nil {
		return nil, fmt.Errorf("room: stored state: %w", err)
	}
	return h, nil
}
