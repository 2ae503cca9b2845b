package mls

import (
	"bytes"
	"io"

	"github.com/comity-im/comity/mls/suite"
)

// FollowOptions says how a group that follows another is set up.
type FollowOptions struct {
	Leaf     LeafOptions
	Lifetime Lifetime
	Members  []KeyPackage // of everybody else
	Commit   CommitOptions
	// Prepare is given the new group before its first commit is staged, and returns how to commit; Commit is ignored then.
	Prepare func(*Group) (CommitOptions, error)
	// Absent is as in [JoinOptions].
	Absent func(*LeafNode) bool
}

// ReInitGroup makes the group that a committed ReInit asks for, and stages the
// commit that brings the others in (RFC 9420 §11.2). Any member may do so. The
// others join with Former set to their old group.
func (g *Group) ReInitGroup(rand io.Reader, cfg Config, o FollowOptions) (*Group, *StagedCommit, error) {
	r := g.public.reinit
	if r == nil || g.removed {
		return nil, nil, ruleErrorf(RuleReInitWelcome, "the group was not reinitialized")
	}
	return g.follow(rand, cfg, o, UsageReInit, GroupOptions{
		GroupID: r.GroupID, CipherSuite: r.CipherSuite, Extensions: r.Extensions,
	})
}

// Branch makes a group of some members of this one, and stages the commit that
// brings the others in (RFC 9420 §11.3). The others join with Former set to this
// group.
func (g *Group) Branch(rand io.Reader, cfg Config, groupID []byte, e Extensions, o FollowOptions) (*Group, *StagedCommit, error) {
	if !g.Active() {
		return nil, nil, ErrGroupClosed
	}
	return g.follow(rand, cfg, o, UsageBranch, GroupOptions{
		GroupID: groupID, CipherSuite: g.Suite().ID(), Extensions: e,
	})
}

func (g *Group) follow(rand io.Reader, cfg Config, o FollowOptions, usage ResumptionPSKUsage, create GroupOptions) (*Group, *StagedCommit, error) {
	s, ok := suite.Lookup(create.CipherSuite)
	if !ok {
		return nil, nil, ErrCipherSuite
	}
	create.Leaf, create.Lifetime = o.Leaf, o.Lifetime
	next, err := CreateGroup(rand, cfg, create)
	if err != nil {
		return nil, nil, err
	}
	nonce := make([]byte, s.Nh())
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, nil, err
	}
	link := PreSharedKeyID{
		Type: PSKResumption, Usage: usage, PSKGroupID: bytes.Clone(g.GroupID()), PSKEpoch: g.Epoch(), PSKNonce: nonce,
	}
	commit := o.Commit
	if o.Prepare != nil {
		if commit, err = o.Prepare(next); err != nil {
			return nil, nil, err
		}
	}
	for i := range o.Members {
		commit.Proposals = append(commit.Proposals, Proposal{Type: ProposalAdd, Add: &Add{o.Members[i]}})
	}
	commit.Proposals = append(commit.Proposals, Proposal{Type: ProposalPSK, PreSharedKey: &PreSharedKey{link}})
	next.former = g
	staged, err := next.Stage(rand, commit)
	next.former = nil
	if err != nil {
		return nil, nil, err
	}
	// What the others will verify (RFC 9420 §12.4.3.1).
	if err := checkLink(&cfg, &link, g, staged.next, o.Absent); err != nil {
		return nil, nil, err
	}
	return next, staged, nil
}
