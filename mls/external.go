package mls

import (
	"fmt"
	"io"
)

// ExternalCommitOptions is what an external commit is made from.
type ExternalCommitOptions struct {
	RatchetTree       []byte // the content of a ratchet_tree extension; nil: the GroupInfo has it
	Leaf              LeafOptions
	Remove            *LeafIndex    // resync: this client's old leaf
	SelfRemoves       []*MLSMessage // the pending SelfRemoves, all of which must be taken up
	Proposals         []Proposal    // PSKs, AppDataUpdates, AppEphemerals
	AuthenticatedData []byte
	// GroupInfoExtensions are more extensions for the GroupInfo of the new
	// epoch.
	GroupInfoExtensions Extensions
	Now                 uint64 // as in JoinOptions
}

// A StagedJoin is an external commit with the group that it leads to.
type StagedJoin struct {
	commit *StagedCommit
	group  *Group
}

// Message returns the commit to send.
func (j *StagedJoin) Message() *MLSMessage { return j.commit.message }

// GroupInfo returns a GroupInfo of the new epoch, with external_pub and without
// ratchet_tree.
func (j *StagedJoin) GroupInfo() *GroupInfo { return j.commit.groupInfo }

// Changes says what the commit does.
func (j *StagedJoin) Changes() *Changes { return &j.commit.changes }

// Group returns the group as it will be. It is to be used only once the commit
// was accepted.
func (j *StagedJoin) Group() *Group { return j.group }

// StageExternalCommit makes a commit by which a client enters a group on its own
// (RFC 9420 §12.4.3.2, §8.3). The GroupInfo must have an external_pub.
func StageExternalCommit(rand io.Reader, cfg Config, info *GroupInfo, o ExternalCommitOptions) (*StagedJoin, error) {
	st, err := stateFromGroupInfo(&cfg, info, o.RatchetTree, o.Now)
	if err != nil {
		return nil, err
	}
	s := st.suite
	pub, err := info.Extensions.ExternalPub()
	if err != nil {
		return nil, err
	}
	if pub == nil {
		return nil, ruleErrorf(RuleGroupInfo, "there is no external_pub")
	}
	kemOutput, init, err := sendExternalInit(s, pub)
	if err != nil {
		return nil, ruleError(RuleGroupInfo, err)
	}
	defer clear(init)

	// Collect the proposals; the SelfRemoves are verified as a follower does,
	// without their membership_tag (MLS extensions §6.3).
	follower := &PublicGroup{cfg: cfg, state: st}
	proposals := []Proposal{{Type: ProposalExternalInit, ExternalInit: &ExternalInit{kemOutput}}}
	if o.Remove != nil {
		proposals = append(proposals, Proposal{Type: ProposalRemove, Remove: &Remove{*o.Remove}})
	}
	proposals = append(proposals, o.Proposals...)
	sender := Sender{Type: SenderNewMemberCommit}
	commit := &Commit{}
	var list []ResolvedProposal
	for _, m := range o.SelfRemoves {
		p, err := follower.ReceiveProposal(m)
		if err != nil {
			return nil, fmt.Errorf("mls: pending SelfRemove: %w", err)
		}
		commit.Proposals = append(commit.Proposals, ProposalOrRef{Reference: p.Ref})
		list = append(list, *p)
	}
	for i := range proposals {
		p := &proposals[i]
		commit.Proposals = append(commit.Proposals, ProposalOrRef{Proposal: p})
		list = append(list, ResolvedProposal{Proposal: p, Sender: sender, WireFormat: WireFormatPublicMessage, AuthenticatedData: o.AuthenticatedData})
	}

	// Apply them, and give ourselves a leaf and a path.
	t, err := st.apply(&cfg, list, commitHead{sender: sender, wireFormat: WireFormatPublicMessage, aad: o.AuthenticatedData})
	if err != nil {
		return nil, err
	}
	path, err := t.newPath(rand, o.Leaf.leaf(), o.Leaf.Signer)
	if err != nil {
		return nil, err
	}
	defer path.Clear()
	if err := t.judge(); err != nil {
		return nil, err
	}
	if err := t.hashTree(); err != nil {
		return nil, err
	}
	if commit.Path, err = path.Encrypt(t.tree, t.provisional, nil); err != nil {
		return nil, err
	}

	// Sign with the new leaf's key.
	a, err := signContent(rand, o.Leaf.Signer, WireFormatPublicMessage, FramedContent{
		GroupID: st.context.GroupID, Epoch: st.context.Epoch, Sender: sender, AuthenticatedData: o.AuthenticatedData,
		ContentType: ContentCommit, Commit: commit,
	}, st.encoded)
	if err != nil {
		return nil, err
	}
	psk, err := lookupPSKs(&cfg, s, t.psks, func(*PreSharedKeyID) ([]byte, error) { return nil, ErrNoPSK })
	if err != nil {
		return nil, err
	}
	defer clear(psk)
	c := &StagedCommit{base: st, private: path.Private(), signer: o.Leaf.Signer, changes: t.changes}
	joiner, err := c.derive(t, init, path, psk, a)
	if err != nil {
		return nil, err
	}
	clear(joiner)
	c.changes.New = &c.next.context
	m := Message(&PublicMessage{Content: a.Content, Auth: a.Auth})
	c.message = &m
	if c.groupInfo, err = signGroupInfo(rand, c.signer, c.changes.CommitterLeaf, c.next, &c.start.secrets, o.GroupInfoExtensions); err != nil {
		return nil, err
	}
	g := &Group{public: PublicGroup{cfg: cfg}, signer: c.signer, private: c.private}
	g.enter(c.next, c.start)
	return &StagedJoin{c, g}, nil
}

// FindOldLeaf returns the leaf of a ratchet tree that has the given credential,
// to be removed by a resync.
func FindOldLeaf(tree *RatchetTree, credential *Credential) (LeafIndex, bool) {
	for i, leaf := range tree.Leaves() {
		if leaf.Credential.Equal(credential) {
			return i, true
		}
	}
	return 0, false
}
