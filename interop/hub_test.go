package interop

import (
	"bytes"
	"crypto/rand"
	"fmt"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A hub follows the world's group from outside, as a provider does: it sees each handshake message,
// which is a PublicMessage, and holds no secret. It is one of the group's external senders where
// the peers can have it.
type hub struct {
	w      *world
	signer *suite.Signer
	group  *mls.PublicGroup // nil until the first GroupInfo
	staged *mls.StagedPublicCommit
	stored map[string][]byte
}

func newHub(w *world) *hub {
	s, ok := suite.Lookup(suite.ID(w.suite))
	if !ok {
		w.errorf("no suite %d", w.suite)
	}
	signer, err := s.GenerateSigner(rand.Reader)
	w.must(err)
	return &hub{w: w, signer: signer}
}

// senders is the external_senders extension with the hub alone.
func (h *hub) senders() Extension {
	list := mls.ExternalSenders{{SignatureKey: h.signer.Public(), Credential: mls.BasicCredential([]byte("hub"))}}
	data, err := tlspl.Marshal(&list)
	h.w.must(err)
	return Extension{externalSenders, data}
}

// receive follows a handshake message.
func (h *hub) receive(message []byte, kind string) {
	if h.group == nil {
		return
	}
	m, err := decode(message)
	h.w.must(err)
	if kind == "proposal" {
		_, err = h.group.ReceiveProposal(m)
		h.w.must(err)
		return
	}
	h.staged, err = h.group.Stage(m)
	h.w.must(err)
	h.w.must(h.group.Merge(h.staged))
}

// agree checks the hub's view against a member's, and restarts the hub from what it stored.
func (h *hub) agree(of *client, s State) {
	w := h.w
	info, err := of.peer.GroupInfo(of.name)
	w.must(err)
	m, err := decode(info.GroupInfo)
	w.must(err)
	if m.GroupInfo == nil {
		w.errorf("the GroupInfo of %s is another message", of)
	}
	if h.group == nil {
		tree := info.RatchetTree
		if tree == nil {
			tree, _ = m.GroupInfo.Extensions.Find(mls.ExtensionRatchetTree)
		}
		h.group, err = mls.NewPublicGroup(comityConfig(nil), m.GroupInfo, tree)
		w.must(err)
		h.stored = map[string][]byte{}
	}
	w.must(h.group.VerifyGroupInfo(m.GroupInfo))
	if uint64(h.group.Epoch()) != s.Epoch || h.group.Tree().Members() != len(s.Members) {
		w.errorf("hub in epoch %d with %d members, %s: %+v", h.group.Epoch(), h.group.Tree().Members(), of, s)
	}
	if tree := info.RatchetTree; tree != nil && !bytes.Equal(tree, h.group.Tree().Bytes()) {
		w.errorf("the trees of the hub and of %s differ", of)
	}
	records, err := h.group.Flush()
	w.must(err)
	store(h.stored, records)
	if w.chance(30) {
		h.group, err = mls.LoadPublicGroup(comityConfig(nil), recordsOf(h.stored))
		w.must(err)
	}
}

// propose has the hub propose as an external sender, if it is one: what RFC 9420 §12.1.8 lets it.
func (h *hub) propose() {
	w := h.w
	if h.group == nil || len(h.group.ExternalSenders()) == 0 {
		return
	}
	var p pending
	fit := false
	for tries := 0; !fit; tries++ {
		if tries == 50 {
			return
		}
		p, fit = w.draft().propose(&client{name: "hub"}, true)
		fit = fit && (p.Kind == KindAdd || p.Kind == KindRemove || p.Kind == KindGroupContextExtensions)
	}
	w.logf("the hub proposes %s", p)
	made, err := (&comityClient{suite: h.group.Suite()}).proposal(p.Proposal)
	w.must(err)
	m, err := h.group.ProposeExternal(rand.Reader, h.signer, made, nil)
	w.must(err)
	message, err := tlspl.Marshal(m)
	w.must(err)
	for _, c := range w.members {
		got, err := c.peer.Process(c.name, message)
		w.must(err)
		if got.Kind != "proposal" {
			w.must(fmt.Errorf("%s processed %+v, want a proposal", c, got))
		}
	}
	w.pending = append(w.pending, p)
	w.done["proposal of the hub"]++
}
