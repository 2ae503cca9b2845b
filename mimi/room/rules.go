package room

import (
	"bytes"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// Rules is what MIMI adds to the rules of MLS; it implements mls.Rules. The hub's mls.PublicGroup and each client's mls.Group
// have their own Rules, which decide alike: on nothing but the GroupContext, the tree and the Commit (Decision 85).
type Rules struct {
	verifier Verifier
	room     *snapshot // as of the last epoch that was merged; nil before the first
	list     *listChange
	judged   *plan // what Judge made of the last Commit
}

var _ mls.Rules = (*Rules)(nil)

// NewRules returns the rules of one room. They must not be shared between groups.
func NewRules(verifier Verifier) *Rules { return &Rules{verifier: verifier} }

// VerifyCredential asks the Verifier.
func (r *Rules) VerifyCredential(leaf *mls.LeafNode) error {
	if _, err := r.verifier.Identify(&leaf.Credential); err != nil {
		return err
	}
	return r.verifier.Verify(leaf)
}

// VerifyExternalSender takes only providers. Decision 32
func (r *Rules) VerifyExternalSender(s *mls.ExternalSender) error {
	_, err := r.verifier.Provider(&s.Credential)
	return err
}

// SameClient compares user and client URI: a client may renew its credential, not become another client.
func (r *Rules) SameClient(old, new *mls.LeafNode) bool {
	a, err := r.verifier.Identify(&old.Credential)
	if err != nil {
		return false
	}
	b, err := r.verifier.Identify(&new.Credential)
	return err == nil && a.User == b.User && a.Client == b.Client
}

// KnowsComponent knows the components of MIMI and of the room policy that the GroupContext keeps.
func (r *Rules) KnowsComponent(id mls.ComponentID) bool { return mimi.NewComponentData(id) != nil }

// UpdateComponent returns a component's data after the updates of a Commit. Decisions 81-84, 91, 102
func (r *Rules) UpdateComponent(id mls.ComponentID, old []byte, exists bool, updates []mls.ResolvedProposal, c *mls.Changes) ([]byte, error) {
	switch id {
	case mimi.ComponentParticipantList:
		s, err := r.snapshot(c.Old, c.OldTree)
		if err != nil {
			return nil, err
		}
		list, err := readParticipants(s.view, c.Proposals)
		if err != nil {
			return nil, err
		}
		r.list = list
		return tlspl.Marshal(list.next)
	case mimi.ComponentJoinLinks:
		var data mimi.JoinLinksData
		if exists {
			if err := tlspl.Unmarshal(old, &data); err != nil {
				return nil, err
			}
		}
		all := make([]mimi.JoinLinksUpdate, len(updates))
		for i := range updates {
			if err := tlspl.Unmarshal(updates[i].AppDataUpdate.Update, &all[i]); err != nil {
				return nil, err
			}
		}
		next, err := data.Apply(all)
		if err != nil {
			return nil, err
		}
		return tlspl.Marshal(&next)
	}
	if len(updates) != 1 {
		return nil, ErrComponentTwice
	}
	value := mimi.NewComponentUpdate(id)
	if value == nil {
		return nil, ErrComponentUnknown
	}
	update := updates[0].AppDataUpdate.Update
	if err := tlspl.Unmarshal(update, value); err != nil {
		return nil, err
	}
	return update, nil
}

// Judge judges a Commit as a change of the room.
func (r *Rules) Judge(c *mls.Changes) error {
	r.judged = nil
	s, err := r.snapshot(c.Old, c.OldTree)
	if err != nil {
		return err
	}
	var joiner *Identity
	if c.External() {
		who, err := identify(r.verifier, &c.NewTree.Leaf(c.CommitterLeaf).Credential)
		if err != nil {
			return err
		}
		joiner = &who
	}
	if err := s.view.checkFormats(c); err != nil {
		return err
	}
	list := &listChange{}
	if r.updatesList(c) {
		list = r.list
	}
	p, err := newPlan(s, r.verifier, c.Proposals, list, joiner)
	if err != nil {
		return err
	}
	if err := p.judge(); err != nil {
		return err
	}
	if err := p.follow(c); err != nil {
		return err
	}
	if c.ReInit != nil { // nothing else is in the Commit (RFC 9420 §12.2)
		if err := checkReInit(s.view, c.ReInit); err != nil {
			return err
		}
	}
	if p.policyChanged() {
		next, err := newView(c.New, s.view, p.list)
		if err != nil {
			return err
		}
		if err := next.checkComponents(); err != nil {
			return err
		}
		if err := next.checkFranking(r.verifier); err != nil {
			return err
		}
	}
	r.judged = p
	return nil
}

// checkFormats: members send in the formats of the room, but for SelfRemoves and external commits, which are always
// PublicMessages, as are the proposals of external senders (Decisions 33, 120).
func (v *View) checkFormats(c *mls.Changes) error {
	if !c.External() && !v.takesFormat(c.WireFormat) {
		return ErrHandshakeFormat
	}
	for i := range c.Proposals {
		p := &c.Proposals[i]
		if p.Ref != nil && p.Sender.Type == mls.SenderMember && p.Type != mls.ProposalSelfRemove && !v.takesFormat(p.WireFormat) {
			return &ProposalError{i, p.Ref, ErrHandshakeFormat}
		}
	}
	return nil
}

func (r *Rules) updatesList(c *mls.Changes) bool {
	for i := range c.Proposals {
		u := c.Proposals[i].AppDataUpdate
		if u != nil && u.ComponentID == mimi.ComponentParticipantList && u.Op == mls.AppDataOpUpdate {
			return true
		}
	}
	return false
}

// JudgeProposal refuses a proposal that no Commit could take. What its sender may do can be judged only together with the
// proposals that belong to it; the Commit is.
func (r *Rules) JudgeProposal(item *mls.ResolvedProposal, context *mls.GroupContext, tree *mls.RatchetTree) error {
	s, err := r.snapshot(context, tree)
	if err != nil {
		return err
	}
	items := []mls.ResolvedProposal{*item}
	list, err := readParticipants(s.view, items)
	if err != nil {
		return err
	}
	_, err = newPlan(s, r.verifier, items, list, nil)
	return err
}

// snapshot returns the room in the epoch of a context. That of the current epoch is at hand.
func (r *Rules) snapshot(context *mls.GroupContext, tree *mls.RatchetTree) (*snapshot, error) {
	if s := r.room; s != nil && s.view.context.Epoch == context.Epoch && bytes.Equal(s.view.context.GroupID, context.GroupID) {
		return s, nil
	}
	view, err := NewView(context)
	if err != nil {
		return nil, err
	}
	s, err := newSnapshot(r.verifier, view, tree)
	if err != nil {
		return nil, err
	}
	if r.room == nil {
		r.room = s
	}
	return s, nil
}

// follow notes which leaves a Commit takes away and brings, and that no client is in the group twice.
func (p *plan) follow(c *mls.Changes) error {
	p.removed = append(p.removed, c.Removed...)
	fresh := make(map[mimi.ClientURI]bool, len(c.Added))
	isNew := make(map[mls.LeafIndex]bool, len(c.Added))
	for _, i := range c.Added {
		isNew[i] = true
	}
	minimal := p.s.minimalMetadata()
	for _, i := range c.Added {
		who, err := p.verifier.Identify(&c.NewTree.Leaf(i).Credential)
		if err != nil {
			return &IdentityError{i, err}
		}
		if (c.NewTree.Leaf(i).Credential.Type == mimi.CredentialPseudonymous) != minimal {
			return &IdentityError{i, ErrMinimalMetadata} // MIMI protocol §6.1
		}
		p.added = append(p.added, newLeaf{i, who.User})
		if fresh[who.Client] {
			return &IdentityError{i, ErrClientTwice}
		}
		fresh[who.Client] = true
		for _, o := range p.s.leaves.by(who.User) {
			leaf := c.NewTree.Leaf(o)
			if leaf == nil || isNew[o] {
				continue
			}
			if other, err := p.verifier.Identify(&leaf.Credential); err == nil && other.Client == who.Client {
				return &IdentityError{i, ErrClientTwice}
			}
		}
	}
	return nil
}
