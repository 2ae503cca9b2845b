package mls

// JudgePending says whether a commit that covers all pending proposals, and nothing else, would be valid if the given
// member sent it in the wire format: as far as that depends on the proposals, on the rules for each and for all of them
// together, and on what the application says. A hub that takes in only proposals that pass it can ask every commit to cover them all. The error is a *[RuleError].
func (g *PublicGroup) JudgePending(committer LeafIndex, w WireFormat) error {
	if g.reinit != nil {
		return ErrGroupClosed
	}
	var noAAD []byte
	if g.state.params.safeAAD != nil {
		noAAD = []byte{0} // no items
	}
	head := commitHead{sender: MemberSender(committer), wireFormat: w, aad: noAAD}
	t, err := g.state.apply(&g.cfg, g.Pending(), head)
	if err != nil {
		return err
	}
	return t.judge()
}
