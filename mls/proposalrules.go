package mls

import (
	"errors"
	"fmt"

	"github.com/comity-im/comity/mls/suite"
)

// This file has the rules for proposals that can be told without applying
// them: for single ones, then for the list of a commit. apply.go has the rest.

// checkProposal verifies a proposal on its own (RFC 9420 §12.1), against the
// epoch that it was made in. Leaves and KeyPackages come later.
func (s *state) checkProposal(cfg *Config, p *ResolvedProposal) error {
	if err := checkProposalSender(cfg, p); err != nil {
		return err
	}
	if err := s.params.checkAAD(p.AuthenticatedData); err != nil {
		return err
	}
	switch p.Type {
	case ProposalRemove:
		if !s.member(p.Remove.Removed) {
			return ruleErrorf(RuleRemove, "leaf %d is blank", p.Remove.Removed)
		}
	case ProposalPSK:
		return s.checkPSK(&p.PreSharedKey.PSK)
	case ProposalReInit:
		return s.checkReInit(p.ReInit)
	case ProposalSelfRemove:
		// A SelfRemove is for those who are not members yet, too (MLS
		// extensions §6.3).
		if p.Ref != nil && p.WireFormat != WireFormatPublicMessage {
			return ruleErrorf(RuleSelfRemove, "in a %s", p.WireFormat)
		}
	case ProposalAppDataUpdate:
		u := p.AppDataUpdate
		switch u.ComponentID {
		case ComponentAppComponents, ComponentSafeAAD, ComponentContentMediaTypes:
			if u.Op == AppDataOpRemove {
				// Decision 114
				return ruleErrorf(RuleAppData, "component %#04x can't be removed", uint16(u.ComponentID))
			}
		default:
			if !cfg.rules().KnowsComponent(u.ComponentID) {
				return ruleError(RuleAppData, unknownComponent(u.ComponentID))
			}
		}
	case ProposalAppEphemeral:
		if id := p.AppEphemeral.ComponentID; id != ComponentAppAck && !cfg.rules().KnowsComponent(id) {
			return ruleError(RuleAppEphemeral, unknownComponent(id))
		}
	}
	return nil
}

func unknownComponent(id ComponentID) error {
	return fmt.Errorf("%#04x: %w", uint16(id), errUnknownComponent)
}

// checkProposalSender verifies that a proposal's type is known and may come
// from its kind of sender (RFC 9420 §12.1.8, §17.4, MLS extensions §7.2).
func checkProposalSender(cfg *Config, p *ResolvedProposal) error {
	custom, registered := cfg.CustomProposals[p.Type]
	if p.Type.IsCustom() && !registered {
		return ruleErrorf(RuleProposalUnknown, "type %s", p.Type)
	}
	ok := false
	switch p.Sender.Type {
	case SenderMember:
		ok = p.Type != ProposalExternalInit
	case SenderExternal:
		switch p.Type {
		case ProposalAdd, ProposalRemove, ProposalPSK, ProposalReInit, ProposalGroupContextExtensions,
			ProposalAppDataUpdate, ProposalAppEphemeral:
			ok = true
		default:
			ok = registered && custom.External
		}
	case SenderNewMemberProposal:
		ok = p.Type == ProposalAdd
	case SenderNewMemberCommit:
		ok = true // the list decides
	}
	if !ok {
		return ruleErrorf(RuleProposalSender, "%s from %s", p.Type, p.Sender.Type)
	}
	return nil
}

// checkPSK verifies a PreSharedKeyID (RFC 9420 §12.1.4, §8.4). Usages reinit
// and branch belong to the first commit of a group alone (RFC 9420 §11.2,
// §11.3), whose only member is its creator.
func (s *state) checkPSK(id *PreSharedKeyID) error {
	if len(id.PSKNonce) != s.suite.Nh() {
		return ruleErrorf(RulePSK, "nonce of %d octets, want %d", len(id.PSKNonce), s.suite.Nh())
	}
	if id.Type == PSKResumption && id.Usage != UsageApplication && (s.context.Epoch != 0 || s.tree.Members() != 1) {
		return ruleErrorf(RulePSK, "resumption PSK of usage %d", id.Usage)
	}
	return nil
}

// checkReInit verifies a ReInit (RFC 9420 §12.1.5).
func (s *state) checkReInit(r *ReInit) error {
	if r.Version < s.context.Version {
		return ruleErrorf(RuleReInit, "version %d is older than %d", r.Version, s.context.Version)
	}
	if _, ok := suite.Lookup(r.CipherSuite); !ok {
		return ruleError(RuleReInit, ErrCipherSuite)
	}
	return nil
}

// at says which proposal a rule error is about.
func at(err error, i int, p *ResolvedProposal) error {
	var rule *RuleError
	if !errors.As(err, &rule) {
		rule = &RuleError{Rule: RuleApplication, Err: err}
	}
	e := *rule
	e.Proposal, e.Ref = i, p.Ref
	return &e
}

// checkList verifies the list of a member's commit (RFC 9420 §12.2).
func (s *state) checkList(list []ResolvedProposal, committer LeafIndex) error {
	targets := make(map[LeafIndex]bool)
	psks := make(map[pskKey]bool)
	extensions := 0
	for i := range list {
		p := &list[i]
		fail := func(rule Rule) error { return &RuleError{rule, i, p.Ref, nil} }
		leaf, targeted := p.target()
		switch p.Type {
		case ProposalUpdate:
			if p.Sender.LeafIndex == committer {
				return fail(RuleCommitterUpdate)
			}
		case ProposalRemove, ProposalSelfRemove:
			if p.Type == ProposalSelfRemove && p.Ref == nil {
				return fail(RuleSelfRemove)
			}
			if leaf == committer {
				return fail(RuleCommitterRemove)
			}
		case ProposalPSK:
			if psks[p.PreSharedKey.PSK.key()] {
				return fail(RuleSamePSK)
			}
			psks[p.PreSharedKey.PSK.key()] = true
		case ProposalReInit:
			if len(list) > 1 {
				return fail(RuleReInitAlone)
			}
		case ProposalExternalInit:
			return fail(RuleExternalInit)
		case ProposalGroupContextExtensions:
			if extensions++; extensions > 1 {
				return fail(RuleSameExtensions)
			}
		}
		if targeted {
			if targets[leaf] {
				return fail(RuleSameLeaf)
			}
			targets[leaf] = true
		}
	}
	return nil
}

// target returns the leaf that an Update, Remove or SelfRemove is about.
func (p *ResolvedProposal) target() (LeafIndex, bool) {
	switch p.Type {
	case ProposalUpdate, ProposalSelfRemove:
		return p.Sender.LeafIndex, true
	case ProposalRemove:
		return p.Remove.Removed, true
	}
	return 0, false
}

// A pskKey is a PreSharedKeyID as the key of a map.
type pskKey struct {
	typ              PSKType
	component        ComponentID
	id, group, nonce string
	usage            ResumptionPSKUsage
	epoch            Epoch
}

func (p *PreSharedKeyID) key() pskKey {
	return pskKey{p.Type, p.ComponentID, string(p.PSKID), string(p.PSKGroupID), string(p.PSKNonce), p.Usage, p.PSKEpoch}
}

// checkExternalList verifies the list of an external commit (RFC 9420 §12.2,
// MLS extensions §4.7, §4.8, §6.3, Decision 33): exactly one ExternalInit, at
// most one Remove, PSKs, AppDataUpdate and AppEphemeral by value; SelfRemove by
// reference.
func (s *state) checkExternalList(list []ResolvedProposal) error {
	inits, removes := 0, 0
	targets := make(map[LeafIndex]bool)
	psks := make(map[pskKey]bool)
	for i := range list {
		p := &list[i]
		fail := func(rule Rule) error { return &RuleError{rule, i, p.Ref, nil} }
		if (p.Type == ProposalSelfRemove) != (p.Ref != nil) {
			return fail(RuleExternalProposal)
		}
		switch p.Type {
		case ProposalExternalInit:
			if inits++; inits > 1 {
				return fail(RuleExternalInit)
			}
		case ProposalRemove:
			if removes++; removes > 1 {
				return fail(RuleExternalProposal)
			}
		case ProposalPSK:
			if psks[p.PreSharedKey.PSK.key()] {
				return fail(RuleSamePSK)
			}
			psks[p.PreSharedKey.PSK.key()] = true
		case ProposalAppDataUpdate, ProposalAppEphemeral, ProposalSelfRemove:
		default:
			return fail(RuleExternalProposal)
		}
		if leaf, ok := p.target(); ok {
			if targets[leaf] {
				return fail(RuleSameLeaf)
			}
			targets[leaf] = true
		}
	}
	if inits == 0 {
		return ruleError(RuleExternalInit, nil)
	}
	return nil
}

// needsPath reports whether a commit of this proposal needs a path (RFC 9420
// §12.4, §17.4, MLS extensions §7.2).
func (p *ResolvedProposal) needsPath(cfg *Config) bool {
	switch p.Type {
	case ProposalAdd, ProposalPSK, ProposalReInit, ProposalAppDataUpdate, ProposalAppEphemeral:
		return false
	}
	if p.Type.IsCustom() {
		return cfg.CustomProposals[p.Type].PathRequired
	}
	return true
}
