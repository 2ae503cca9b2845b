package mls

import (
	"fmt"
	"slices"
)

// StageReceived verifies a commit of another member, or of a new one, in the
// current epoch (RFC 9420 §12.4.2). The group stays as it is. This member's own
// commit gives ErrOwnMessage: merge the staged one instead.
func (g *Group) StageReceived(m *MLSMessage) (*StagedCommit, error) {
	if t, ok := m.ContentType(); !ok || t != ContentCommit {
		return nil, ErrUnexpected
	}
	if !g.Active() {
		return nil, ErrGroupClosed
	}
	// Unprotect, then verify the signature. A message key is used up only
	// when the commit is merged.
	v, signatureKey, err := g.openHandshake(m)
	if err != nil {
		return nil, err
	}
	signed := *v
	signed.tree = nil
	verified, err := signed.verify(signatureKey)
	if err != nil {
		return nil, fmt.Errorf("mls: message signature: %w", err)
	}
	a := verified.AuthenticatedContent

	// Verify the proposals and the path, and apply them to a fork of the tree.
	t, err := g.public.transition(a)
	if err != nil {
		return nil, err
	}
	c := &StagedCommit{base: g.public.state, changes: t.changes, signer: g.signer, received: v}
	if slices.Contains(t.changes.Removed, g.OwnLeaf()) {
		// The rest needs secrets that this member doesn't get.
		c.removed = true
		return c, nil
	}

	// Get the commit secret.
	c.private = g.private.Fork()
	if own := g.ownUpdateIn(t); own != nil {
		c.private.ReplaceLeafKey(own.leafKey)
		c.signer = own.signer
	}
	var commitSecret []byte
	if path := a.Content.Commit.Path; path != nil {
		commitSecret, err = c.private.OpenPath(t.tree, t.changes.CommitterLeaf, path, t.provisional, t.added)
		if err != nil {
			return nil, ruleError(RulePath, err)
		}
		defer clear(commitSecret)
	} else {
		c.private.Sync(t.tree)
	}

	// Derive the secrets of the new epoch and compare the confirmation_tag.
	s := g.Suite()
	psk, err := g.pskSecret(t.psks)
	if err != nil {
		return nil, err
	}
	defer clear(psk)
	init := g.secrets.init
	if t.externalInit != nil {
		if init, err = g.secrets.receiveExternalInit(s, t.externalInit.KEMOutput); err != nil {
			return nil, ruleError(RuleExternalInit, err)
		}
		defer clear(init)
	}
	joiner := joinerSecret(s, init, commitSecret, t.encoded)
	defer clear(joiner)
	c.start = startEpoch(s, joiner, psk, t.encoded)
	if !c.start.secrets.verifyConfirmationTag(s, t.context.ConfirmedTranscriptHash, a.Auth.ConfirmationTag) {
		return nil, ruleError(RuleConfirmationTag, nil)
	}
	c.next = t.next(a.Auth.ConfirmationTag)
	c.changes.New = &c.next.context
	return c, nil
}

// ownUpdateIn returns the keys of this member's own Update, if the commit has
// it.
func (g *Group) ownUpdateIn(t *transition) *ownUpdate {
	for i := range t.changes.Proposals {
		p := &t.changes.Proposals[i]
		if p.Type == ProposalUpdate && p.Sender.LeafIndex == g.OwnLeaf() {
			if pending := g.public.pending.find(p.Ref); pending != nil {
				return pending.own
			}
		}
	}
	return nil
}

// Merge moves the group to the epoch of a staged commit. The secrets of the old
// epoch are deleted, but for those that Config.PastEpochs keeps. It gives
// ErrStale if the group has moved since the commit was staged.
func (g *Group) Merge(c *StagedCommit) error {
	if c.base == nil || c.base != g.public.state {
		return ErrStale
	}
	if v := c.received; v != nil && v.tree != nil {
		if err := v.tree.consume(&v.key); err != nil {
			return err
		}
	}
	if c.removed {
		g.leave()
		return nil
	}
	g.keepPast(c)
	g.private, g.signer = c.private, c.signer
	g.enter(c.next, c.start)
	g.public.reinit = c.changes.ReInit
	c.base, c.private, c.start = nil, nil, epochStart{} // they are the group's now
	return nil
}

// leave deletes the secrets of a group that this member was removed from. Keys
// of messages stay as long as those of past epochs would (RFC 9420 §12.4.2).
func (g *Group) leave() {
	g.removed = true
	g.public.pending.clear()
	keep := g.secrets.senderData
	if g.public.cfg.PastEpochs > 0 {
		g.secrets.senderData = nil
	} else {
		g.keys.tree.clear()
	}
	g.secrets.clear()
	g.secrets.senderData = keep
	g.exporter.clear()
	g.private.Clear()
}

// keepPast moves the current epoch to the past ones, and forgets those that are
// too old.
func (g *Group) keepPast(c *StagedCommit) {
	g.exporter.clear()
	g.stored.exporters = append(g.stored.exporters, g.exporter)
	old := *g.public.state
	old.tree = nil // its leaves follow from the present tree and members
	past := &pastEpoch{
		state: &old, size: g.Tree().Size(), keys: g.keys,
		members: g.changedMembers(&c.changes), resumption: g.secrets.resumption,
	}
	past.keys.membership = nil
	g.secrets.senderData, g.secrets.resumption = nil, nil // they live on in past
	g.secrets.clear()
	g.past = slices.Insert(g.past, 0, past)
	keep := max(g.public.cfg.PastEpochs, 0)
	for len(g.past) > keep {
		last := g.past[len(g.past)-1]
		last.clear()
		g.stored.dropped = append(g.stored.dropped, last)
		g.past = g.past[:len(g.past)-1]
	}
}

func (p *pastEpoch) clear() {
	p.keys.tree.clear()
	clear(p.keys.senderData)
	clear(p.resumption)
}

// changedMembers returns the signature keys of the current epoch's leaves that
// a commit changes.
func (g *Group) changedMembers(c *Changes) map[LeafIndex][]byte {
	changed := make(map[LeafIndex][]byte)
	for _, i := range c.Added {
		changed[i] = nil
	}
	for _, i := range slices.Concat(c.Updated, c.Removed) {
		if leaf := g.Tree().Leaf(i); leaf != nil {
			changed[i] = leaf.SignatureKey
		}
	}
	return changed
}
