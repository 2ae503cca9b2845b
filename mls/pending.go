package mls

import (
	"slices"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A pendingProposal is one that was proposed in this epoch and waits for a
// commit.
type pendingProposal struct {
	ResolvedProposal
	content []byte // the encoded AuthenticatedContent
	own     *ownUpdate
}

// An ownUpdate holds the private keys of this member's own Update.
type ownUpdate struct {
	leafKey *suite.PrivateKey
	signer  *suite.Signer
}

// pendingProposals are in the order in which they came.
type pendingProposals struct {
	list  []*pendingProposal
	byRef map[string]*pendingProposal
}

func (p *pendingProposals) find(ref ProposalRef) *pendingProposal { return p.byRef[string(ref)] }

// add keeps a proposal, once.
func (p *pendingProposals) add(n *pendingProposal) {
	if p.find(n.Ref) != nil {
		return
	}
	if p.byRef == nil {
		p.byRef = make(map[string]*pendingProposal)
	}
	p.list = append(p.list, n)
	p.byRef[string(n.Ref)] = n
}

func (p *pendingProposals) remove(ref ProposalRef) {
	n := p.find(ref)
	if n == nil {
		return
	}
	delete(p.byRef, string(ref))
	p.list = slices.DeleteFunc(p.list, func(o *pendingProposal) bool { return o == n })
}

func (p *pendingProposals) clear() { p.list, p.byRef = nil, nil }

func (p *pendingProposals) resolved() []ResolvedProposal {
	out := make([]ResolvedProposal, len(p.list))
	for i, n := range p.list {
		out[i] = n.ResolvedProposal
	}
	return out
}

// proposalRefLabel names the hash of a proposal (RFC 9420 §5.2).
const proposalRefLabel = "MLS 1.0 Proposal Reference"

// newPending makes a pending proposal of a verified content.
func newPending(s suite.Suite, a *AuthenticatedContent) (*pendingProposal, error) {
	content, err := tlspl.Marshal(a)
	if err != nil {
		return nil, err
	}
	return &pendingProposal{
		ResolvedProposal: ResolvedProposal{
			Proposal: a.Content.Proposal, Sender: a.Content.Sender, Ref: s.RefHash(proposalRefLabel, content),
			WireFormat: a.WireFormat, AuthenticatedData: a.Content.AuthenticatedData,
		},
		content: content,
	}, nil
}

func (p *pendingProposals) clone() pendingProposals {
	c := pendingProposals{list: slices.Clone(p.list), byRef: make(map[string]*pendingProposal, len(p.byRef))}
	for ref, n := range p.byRef {
		c.byRef[ref] = n
	}
	return c
}

// committable returns what a commit by the member at own should refer to
// (RFC 9420 §12.2): all that is pending, but of several about one leaf only a
// SelfRemove, else a Remove, else the latest Update; not the committer's own
// Update, which its path makes up for; and a ReInit only if it is alone.
func (p *pendingProposals) committable(own LeafIndex) []ProposalRef {
	best := make(map[LeafIndex]*pendingProposal)
	rank := func(n *pendingProposal) int {
		return slices.Index([]ProposalType{ProposalUpdate, ProposalRemove, ProposalSelfRemove}, n.Type)
	}
	others := false
	for _, n := range p.list {
		others = others || n.Type != ProposalReInit
		leaf, ok := n.target()
		if ok && (best[leaf] == nil || rank(n) > rank(best[leaf]) || rank(n) == 0 && rank(best[leaf]) == 0) {
			best[leaf] = n
		}
	}
	var refs []ProposalRef
	reinits := 0
	for _, n := range p.list {
		leaf, targeted := n.target()
		switch {
		case targeted && best[leaf] != n, n.Type == ProposalUpdate && leaf == own:
			continue
		case n.Type == ProposalReInit:
			if reinits++; others || reinits > 1 {
				continue
			}
		}
		refs = append(refs, n.Ref)
	}
	return refs
}
