package mls

import (
	"bytes"
	"fmt"
	"io"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A PublicGroup follows a group from outside: it knows the tree, the
// GroupContext and the pending proposals, and verifies every handshake message
// that is not encrypted, but for what only members can verify: membership_tag
// and confirmation_tag. A hub holds one for each of its rooms.
//
// Following a commit costs nothing that grows with the number of members. It is
// not safe for concurrent use.
type PublicGroup struct {
	cfg     Config
	state   *state
	pending pendingProposals
	stored  storedPublic
	reinit  *ReInit // not nil: it was committed, the group is closed
}

// NewPublicGroup starts to follow a group from a GroupInfo and the ratchet
// tree: the content of a ratchet_tree extension, or nil if the GroupInfo has
// it. It verifies the whole tree, every leaf, every credential, and the
// GroupInfo's signature (RFC 9420 §12.4.3.1).
func NewPublicGroup(cfg Config, info *GroupInfo, tree []byte) (*PublicGroup, error) {
	s, err := stateFromGroupInfo(&cfg, info, tree, 0)
	if err != nil {
		return nil, err
	}
	return &PublicGroup{cfg: cfg, state: s}, nil
}

// stateFromGroupInfo verifies a GroupInfo and its tree, in the order of
// RFC 9420 §12.4.3.1. now is in seconds since the Unix epoch; 0: lifetimes are not
// compared with it.
func stateFromGroupInfo(cfg *Config, info *GroupInfo, tree []byte, now uint64) (*state, error) {
	s, ok := suite.Lookup(info.GroupContext.CipherSuite)
	if !ok {
		return nil, ErrCipherSuite
	}
	if tree == nil {
		if tree, ok = info.Extensions.Find(ExtensionRatchetTree); !ok {
			return nil, ruleErrorf(RuleRatchetTree, "there is none")
		}
	}
	ratchetTree, err := ParseRatchetTree(s, tree)
	if err != nil {
		return nil, ruleError(RuleRatchetTree, err)
	}
	if err := verifyGroupInfo(s, info, ratchetTree); err != nil {
		return nil, err
	}
	p, err := parseParams(info.GroupContext.Extensions)
	if err != nil {
		return nil, ruleError(RuleExtensions, err)
	}
	rules := p.leafRules(cfg, info.GroupContext.GroupID, now)
	if err := ratchetTree.Validate(rules, info.GroupContext.TreeHash); err != nil {
		return nil, ruleError(RuleRatchetTree, err)
	}
	if err := verifyCredentials(cfg, ratchetTree); err != nil {
		return nil, err
	}
	if err := p.checkGroup(ratchetTree); err != nil {
		return nil, err
	}
	for i := range p.externalSenders {
		if err := cfg.rules().VerifyExternalSender(&p.externalSenders[i]); err != nil {
			return nil, ruleError(RuleCredentialInvalid, err)
		}
	}
	return newState(s, info.GroupContext, p, ratchetTree, info.ConfirmationTag)
}

// verifyGroupInfo verifies the signature of a GroupInfo (RFC 9420 §12.4.3).
func verifyGroupInfo(s suite.Suite, info *GroupInfo, tree *RatchetTree) error {
	leaf := tree.Leaf(info.Signer)
	if leaf == nil {
		return ruleErrorf(RuleGroupInfo, "signer %d is blank", info.Signer)
	}
	return info.verifySignature(s, leaf.SignatureKey)
}

// verifySignature verifies the signature of a GroupInfo with its signer's key.
func (g *GroupInfo) verifySignature(s suite.Suite, key []byte) error {
	tbs, err := g.tbsBytes()
	if err != nil {
		return err
	}
	if err := s.VerifyWithLabel(key, "GroupInfoTBS", tbs, g.Signature); err != nil {
		return ruleError(RuleGroupInfo, err)
	}
	return nil
}

// verifyCredentials asks the application about all leaves, on all cores.
func verifyCredentials(cfg *Config, tree *RatchetTree) error {
	if _, ok := cfg.rules().(DefaultRules); ok {
		return nil
	}
	leaves := make([]*LeafNode, 0, tree.Members())
	for _, leaf := range tree.Leaves() {
		leaves = append(leaves, leaf)
	}
	return spread(len(leaves), func(i int) error { return checkCredential(cfg, leaves[i]) })
}

// Suite returns the group's cipher suite.
func (g *PublicGroup) Suite() suite.Suite { return g.state.suite }

// Context returns the GroupContext of the current epoch. It must not be
// changed.
func (g *PublicGroup) Context() *GroupContext { return &g.state.context }

// GroupID returns the group's ID.
func (g *PublicGroup) GroupID() []byte { return g.state.context.GroupID }

// Epoch returns the current epoch.
func (g *PublicGroup) Epoch() Epoch { return g.state.context.Epoch }

// Tree returns the ratchet tree of the current epoch. It must not be changed;
// take a [RatchetTree.Fork] for that.
func (g *PublicGroup) Tree() *RatchetTree { return g.state.tree }

// Dictionary returns the app_data_dictionary of the current epoch. It must not
// be changed.
func (g *PublicGroup) Dictionary() AppDataDictionary { return g.state.params.dictionary }

// ExternalSenders returns the external_senders of the current epoch. They must
// not be changed.
func (g *PublicGroup) ExternalSenders() ExternalSenders { return g.state.params.externalSenders }

// ConfirmationTag returns the tag of the commit that began the epoch.
func (g *PublicGroup) ConfirmationTag() []byte { return g.state.confirmationTag }

// ReInit returns the ReInit that closed the group, nil if it is open (RFC 9420
// §12.1.5).
func (g *PublicGroup) ReInit() *ReInit { return g.reinit }

// Pending returns the proposals of this epoch that no commit covers yet, in the
// order in which they came.
func (g *PublicGroup) Pending() []ResolvedProposal { return g.pending.resolved() }

// DropPending forgets a pending proposal.
func (g *PublicGroup) DropPending(ref ProposalRef) { g.pending.remove(ref) }

// Clone returns a copy that changes independently, and may be used at the same
// time as g. It shares the tree and costs nothing that grows with it, but for the
// first time after the group was loaded.
func (g *PublicGroup) Clone() *PublicGroup {
	// What the tree computes when it is first asked must be there before two
	// goroutines ask.
	g.state.tree.TreeHash()
	g.state.tree.Fork()
	c := *g
	c.pending = g.pending.clone()
	c.stored = g.stored.clone()
	return &c
}

// ReceiveProposal verifies a proposal of the current epoch and keeps it for
// the commit that will refer to it. The error is an *[EpochError], a
// *[RuleError], or says that the message is not authentic.
func (g *PublicGroup) ReceiveProposal(m *MLSMessage) (*ResolvedProposal, error) {
	if t, ok := m.ContentType(); !ok || t != ContentProposal {
		return nil, ErrUnexpected
	}
	a, err := g.openHandshake(m)
	if err != nil {
		return nil, err
	}
	return g.cacheProposal(a, nil)
}

// verifyContent verifies the signature of a content of this epoch.
func (s *state) verifyContent(v *verifiableContent) (*AuthenticatedContent, error) {
	key, err := s.signatureKey(v.sender(), v.newMemberKey())
	if err != nil {
		return nil, err
	}
	c, err := v.verify(key)
	if err != nil {
		return nil, fmt.Errorf("mls: message signature: %w", err)
	}
	return c.AuthenticatedContent, nil
}

// cacheProposal judges an authentic proposal and keeps it.
func (g *PublicGroup) cacheProposal(a *AuthenticatedContent, own *ownUpdate) (*ResolvedProposal, error) {
	if g.reinit != nil {
		return nil, ErrGroupClosed
	}
	p, err := newPending(g.state.suite, a)
	if err != nil {
		return nil, err
	}
	if known := g.pending.find(p.Ref); known != nil {
		return &known.ResolvedProposal, nil
	}
	p.own = own
	if err := g.checkPending(p); err != nil {
		return nil, at(err, -1, &p.ResolvedProposal)
	}
	g.pending.add(p)
	return &p.ResolvedProposal, nil
}

// checkPending verifies a proposal with its leaf or KeyPackage and asks the
// application.
func (g *PublicGroup) checkPending(p *pendingProposal) error {
	s := g.state
	if err := s.checkProposal(&g.cfg, &p.ResolvedProposal); err != nil {
		return err
	}
	rules := s.params.leafRules(&g.cfg, s.context.GroupID, 0)
	switch p.Type {
	case ProposalAdd:
		if err := s.checkAdd(&g.cfg, rules, &p.ResolvedProposal); err != nil {
			return err
		}
	case ProposalUpdate:
		if err := s.checkUpdate(&g.cfg, rules, &p.ResolvedProposal); err != nil {
			return err
		}
	case ProposalSelfRemove:
		if !s.member(p.Sender.LeafIndex) {
			return ruleError(RuleSelfRemove, ErrNotMember)
		}
	}
	if !s.tree.SupportsProposal(p.Type) {
		return ruleError(RuleProposalCapability, nil)
	}
	p.verified = true
	return g.cfg.rules().JudgeProposal(&p.ResolvedProposal, &s.context, s.tree)
}

// resolve looks up what a commit refers to (RFC 9420 §12.4).
func (g *PublicGroup) resolve(a *AuthenticatedContent) ([]ResolvedProposal, error) {
	list := make([]ResolvedProposal, len(a.Content.Commit.Proposals))
	for i := range list {
		p := &a.Content.Commit.Proposals[i]
		if p.Proposal != nil {
			list[i] = ResolvedProposal{
				Proposal: p.Proposal, Sender: a.Content.Sender, WireFormat: a.WireFormat,
				AuthenticatedData: a.Content.AuthenticatedData,
			}
			continue
		}
		known := g.pending.find(p.Reference)
		if known == nil {
			return nil, &RuleError{RuleProposalReference, i, p.Reference, nil}
		}
		list[i] = known.ResolvedProposal
	}
	return list, nil
}

// transition verifies an authentic commit and applies it up to the tree hash
// (RFC 9420 §12.4.2).
func (g *PublicGroup) transition(a *AuthenticatedContent) (*transition, error) {
	if g.reinit != nil {
		return nil, ErrGroupClosed
	}
	list, err := g.resolve(a)
	if err != nil {
		return nil, err
	}
	head := commitHead{sender: a.Content.Sender, wireFormat: a.WireFormat, aad: a.Content.AuthenticatedData}
	t, err := g.state.apply(&g.cfg, list, head)
	if err != nil {
		return nil, err
	}
	if path := a.Content.Commit.Path; path != nil {
		if err := t.mergePath(path); err != nil {
			return nil, err
		}
	} else if t.pathRequired {
		return nil, ruleError(RulePathRequired, nil)
	}
	if err := t.judge(); err != nil {
		return nil, err
	}
	if err := t.hashTree(); err != nil {
		return nil, err
	}
	return t, t.confirm(a)
}

// A StagedPublicCommit is a commit that a PublicGroup has verified and not
// merged yet.
type StagedPublicCommit struct {
	base    *state
	next    *state
	changes Changes
}

// Changes says what the commit does.
func (c *StagedPublicCommit) Changes() *Changes { return &c.changes }

// Context returns the GroupContext of the new epoch.
func (c *StagedPublicCommit) Context() *GroupContext { return &c.next.context }

// Stage verifies a commit of the current epoch. The group stays as it is.
func (g *PublicGroup) Stage(m *MLSMessage) (*StagedPublicCommit, error) {
	if t, ok := m.ContentType(); !ok || t != ContentCommit {
		return nil, ErrUnexpected
	}
	a, err := g.openHandshake(m)
	if err != nil {
		return nil, err
	}
	return g.stage(a)
}

func (g *PublicGroup) stage(a *AuthenticatedContent) (*StagedPublicCommit, error) {
	t, err := g.transition(a)
	if err != nil {
		return nil, err
	}
	return &StagedPublicCommit{base: g.state, next: t.next(a.Auth.ConfirmationTag), changes: t.changes}, nil
}

// Merge moves the group to the epoch of a staged commit. It gives ErrStale if
// the group has moved since.
func (g *PublicGroup) Merge(c *StagedPublicCommit) error {
	if c.base != g.state {
		return ErrStale
	}
	g.state = c.next
	g.pending.clear()
	g.reinit = c.changes.ReInit
	return nil
}

// VerifyGroupInfo verifies that a GroupInfo is one of the new epoch: its
// GroupContext and confirmation_tag are those that follow from the commit, and
// its signature is valid (RFC 9420 §12.4.3, Decision 27).
func (c *StagedPublicCommit) VerifyGroupInfo(info *GroupInfo) error {
	return c.next.verifyOwnGroupInfo(info)
}

// VerifyGroupInfo verifies that a GroupInfo is one of the current epoch.
func (g *PublicGroup) VerifyGroupInfo(info *GroupInfo) error {
	return g.state.verifyOwnGroupInfo(info)
}

func (s *state) verifyOwnGroupInfo(info *GroupInfo) error {
	encoded, err := tlspl.Marshal(&info.GroupContext)
	if err != nil {
		return err
	}
	if !bytes.Equal(encoded, s.encoded) {
		return ruleErrorf(RuleGroupInfo, "group_context is not that of epoch %d", s.context.Epoch)
	}
	if !bytes.Equal(info.ConfirmationTag, s.confirmationTag) {
		return ruleErrorf(RuleGroupInfo, "confirmation_tag is not that of epoch %d", s.context.Epoch)
	}
	return verifyGroupInfo(s.suite, info, s.tree)
}

// GroupInfo completes a PartialGroupInfo of the new epoch and verifies it
// (ratchet tree options §4, Decision 27): the signer is the committer, and
// there is no ratchet_tree in this epoch nor in the one before.
func (c *StagedPublicCommit) GroupInfo(p *PartialGroupInfo) (*GroupInfo, error) {
	if p.RatchetTreePresence != PresenceNoRatchetTree {
		return nil, ruleErrorf(RuleGroupInfo, "ratchet_tree_presence is %d", p.RatchetTreePresence)
	}
	info := &GroupInfo{
		GroupContext: c.next.context, Extensions: p.GroupInfoExtensions, ConfirmationTag: c.next.confirmationTag,
		Signer: c.changes.CommitterLeaf, Signature: p.Signature,
	}
	return info, verifyGroupInfo(c.next.suite, info, c.next.tree)
}

// Partial returns what a hub that follows the group can't compute of a
// GroupInfo without a ratchet_tree (ratchet tree options §4).
func (g *GroupInfo) Partial() PartialGroupInfo {
	return PartialGroupInfo{RatchetTreePresence: PresenceNoRatchetTree, GroupInfoExtensions: g.Extensions, Signature: g.Signature}
}

// ProposeExternal signs a proposal as an entry of external_senders (RFC 9420
// §12.1.8) and caches it as if it had been received.
func (g *PublicGroup) ProposeExternal(rand io.Reader, signer *suite.Signer, p Proposal, authenticatedData []byte) (*MLSMessage, error) {
	index := -1
	for i := range g.state.params.externalSenders {
		if bytes.Equal(g.state.params.externalSenders[i].SignatureKey, signer.Public()) {
			index = i
		}
	}
	if index < 0 {
		return nil, ruleErrorf(RuleProposalSender, "the key is not one of external_senders")
	}
	m, err := SignExternalProposal(rand, signer, &g.state.context, Sender{Type: SenderExternal, SenderIndex: uint32(index)}, p, authenticatedData)
	if err != nil {
		return nil, err
	}
	_, err = g.ReceiveProposal(m)
	return m, err
}

// SignExternalProposal signs a proposal of somebody who is not a member: an
// external sender, or a new member that proposes to add itself (RFC 9420
// §12.1.8). context is the group's current one.
func SignExternalProposal(rand io.Reader, signer *suite.Signer, context *GroupContext, sender Sender, p Proposal, authenticatedData []byte) (*MLSMessage, error) {
	if sender.Type != SenderExternal && sender.Type != SenderNewMemberProposal {
		return nil, ruleErrorf(RuleProposalSender, "%s", sender.Type)
	}
	a, err := signContent(rand, signer, WireFormatPublicMessage, FramedContent{
		GroupID: context.GroupID, Epoch: context.Epoch, Sender: sender, AuthenticatedData: authenticatedData,
		ContentType: ContentProposal, Proposal: &p,
	}, nil)
	if err != nil {
		return nil, err
	}
	m := Message(&PublicMessage{Content: a.Content, Auth: a.Auth})
	return &m, nil
}
