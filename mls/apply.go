package mls

import (
	"bytes"
	"errors"
	"slices"

	"github.com/comity-im/comity/tlspl"
)

// A transition is a commit on its way from one state to the next. Everything
// that it changes is its own.
type transition struct {
	cfg          *Config
	old          *state
	now          uint64
	tree         *RatchetTree
	extensions   Extensions
	params       *params
	changes      Changes
	added        []LeafIndex // by Adds, increasing
	psks         []*PreSharedKeyID
	externalInit *ExternalInit
	pathRequired bool
	provisional  []byte // encoded GroupContext with the old transcript hash
	context      GroupContext
	encoded      []byte // of context, once it is confirmed
}

// A commitHead is what is known of a commit besides its proposals.
type commitHead struct {
	sender     Sender
	wireFormat WireFormat
	aad        []byte
	now        uint64 // seconds; 0: lifetimes are not checked
}

// apply verifies a commit's proposals and applies them, in the order of
// RFC 9420 §12.3 and Decision 118. The sender of a commit, its receivers and
// public groups all come through here.
func (s *state) apply(cfg *Config, list []ResolvedProposal, head commitHead) (*transition, error) {
	if err := s.params.checkAAD(head.aad); err != nil {
		return nil, err
	}
	var err error
	if head.sender.Type == SenderNewMemberCommit {
		err = s.checkExternalList(list)
	} else {
		err = s.checkList(list, head.sender.LeafIndex)
	}
	if err != nil {
		return nil, err
	}
	t := &transition{
		cfg: cfg, old: s, now: head.now, tree: s.tree.Fork(), extensions: s.context.Extensions, params: s.params,
		pathRequired: len(list) == 0,
	}
	t.context = s.context
	t.context.Epoch++
	t.changes = Changes{
		Old: &s.context, New: &t.context, OldTree: s.tree, NewTree: t.tree,
		Committer: head.sender, CommitterLeaf: head.sender.LeafIndex, Proposals: list,
		WireFormat: head.wireFormat, AuthenticatedData: head.aad,
	}
	for i := range list {
		if err := s.checkProposal(cfg, &list[i]); err != nil {
			return nil, at(err, i, &list[i])
		}
		t.pathRequired = t.pathRequired || list[i].needsPath(cfg)
	}
	for _, step := range []func() error{
		t.applyExtensions, t.applyUpdates, t.applyRemoves, t.checkCapability, t.applyAdds, t.noteOthers, t.applyAppData,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	t.context.Extensions = t.extensions
	return t, nil
}

// each calls f for each proposal of a type, in the order of the commit.
func (t *transition) each(typ ProposalType, f func(p *ResolvedProposal) error) error {
	for i := range t.changes.Proposals {
		p := &t.changes.Proposals[i]
		if p.Type != typ {
			continue
		}
		if err := f(p); err != nil {
			return at(err, i, p)
		}
	}
	return nil
}

// applyExtensions replaces the extensions (RFC 9420 §12.1.7); what they
// require counts for all that follows.
func (t *transition) applyExtensions() error {
	return t.each(ProposalGroupContextExtensions, func(p *ResolvedProposal) error {
		e := p.GroupContextExtensions.Extensions
		next, err := parseParams(e)
		if err != nil {
			return ruleError(RuleExtensions, err)
		}
		before, had := t.extensions.Find(ExtensionAppDataDictionary)
		after, has := e.Find(ExtensionAppDataDictionary)
		if t.params.updatesDictionaryOnly() && (had != has || !bytes.Equal(before, after)) {
			return ruleError(RuleDictionary, nil)
		}
		for i := range next.externalSenders {
			known := slices.ContainsFunc(t.params.externalSenders, func(o ExternalSender) bool {
				return bytes.Equal(o.SignatureKey, next.externalSenders[i].SignatureKey) && o.Credential.Equal(&next.externalSenders[i].Credential)
			})
			if known {
				continue
			}
			if err := t.cfg.rules().VerifyExternalSender(&next.externalSenders[i]); err != nil {
				return ruleError(RuleCredentialInvalid, err)
			}
		}
		t.extensions, t.params = e, next
		return nil
	})
}

func (t *transition) leafRules() *LeafRules {
	return t.params.leafRules(t.cfg, t.old.context.GroupID, t.now)
}

// applyUpdates replaces leaves (RFC 9420 §12.1.2).
func (t *transition) applyUpdates() error {
	rules := t.leafRules()
	return t.each(ProposalUpdate, func(p *ResolvedProposal) error {
		i, leaf := p.Sender.LeafIndex, &p.Update.LeafNode
		if err := t.old.checkUpdate(t.cfg, rules, p); err != nil {
			return err
		}
		if err := t.tree.Update(i, leaf); err != nil {
			return ruleError(RuleUpdate, err)
		}
		t.changes.Updated = append(t.changes.Updated, i)
		return nil
	})
}

// checkUpdate verifies the leaf of an Update (RFC 9420 §12.1.2, §7.3).
func (s *state) checkUpdate(cfg *Config, rules *LeafRules, p *ResolvedProposal) error {
	i, leaf := p.Sender.LeafIndex, &p.Update.LeafNode
	old := s.tree.Leaf(i)
	if old == nil {
		return ruleErrorf(RuleUpdate, "leaf %d is blank", i)
	}
	var err error
	if p.verified {
		err = rules.checkContent(s.suite, leaf, i)
	} else {
		err = rules.CheckLeaf(s.suite, leaf, i, SourceUpdate)
	}
	if err != nil {
		return ruleError(RuleUpdate, err)
	}
	if bytes.Equal(old.EncryptionKey, leaf.EncryptionKey) {
		return ruleErrorf(RuleUpdate, "encryption_key is the old one")
	}
	return checkSameClient(cfg, RuleUpdate, old, leaf)
}

// checkSameClient verifies that a leaf may replace another, and its
// credential.
func checkSameClient(cfg *Config, rule Rule, old, leaf *LeafNode) error {
	if !cfg.rules().SameClient(old, leaf) {
		return ruleErrorf(rule, "credential of another client")
	}
	return checkCredential(cfg, leaf)
}

func checkCredential(cfg *Config, leaf *LeafNode) error {
	if err := cfg.rules().VerifyCredential(leaf); err != nil {
		return ruleError(RuleCredentialInvalid, err)
	}
	return nil
}

// applyRemoves blanks leaves: SelfRemoves first, then Removes (RFC 9420
// §12.1.3, MLS extensions §6.3).
func (t *transition) applyRemoves() error {
	for _, typ := range []ProposalType{ProposalSelfRemove, ProposalRemove} {
		err := t.each(typ, func(p *ResolvedProposal) error {
			leaf, _ := p.target()
			if err := t.tree.Remove(leaf); err != nil {
				return ruleError(RuleRemove, err)
			}
			t.changes.Removed = append(t.changes.Removed, leaf)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkCapability verifies that all who process the commit support its types
// and new extensions: those who stay (RFC 9420 §12.2, §11.1).
func (t *transition) checkCapability() error {
	if t.params != t.old.params {
		if err := t.params.checkCapabilities(t.tree); err != nil {
			return err
		}
	}
	for i := range t.changes.Proposals {
		p := &t.changes.Proposals[i]
		if !t.tree.SupportsProposal(p.Type) {
			return &RuleError{RuleProposalCapability, i, p.Ref, nil}
		}
	}
	return nil
}

// applyAdds adds members in the order of the commit (RFC 9420 §12.1.1).
func (t *transition) applyAdds() error {
	if err := t.checkAdds(); err != nil {
		return err
	}
	err := t.each(ProposalAdd, func(p *ResolvedProposal) error {
		leaf, err := t.tree.Add(&p.Add.KeyPackage.LeafNode)
		if err != nil {
			return ruleError(RuleAddClient, err)
		}
		t.added = append(t.added, leaf)
		return nil
	})
	if err != nil {
		return err
	}
	t.changes.Added = slices.Clone(t.added)
	return nil
}

// checkAdds verifies the KeyPackages on all cores. That no client comes twice is
// said before, since it costs less to say.
func (t *transition) checkAdds() error {
	var adds []int
	seen := make(map[string]bool)
	for i := range t.changes.Proposals {
		p := &t.changes.Proposals[i]
		if p.Type != ProposalAdd {
			continue
		}
		leaf := &p.Add.KeyPackage.LeafNode
		if seen[string(leaf.SignatureKey)] {
			return at(ruleError(RuleAddClient, &TreeError{Rule: RuleDuplicateKey}), i, p)
		}
		seen[string(leaf.SignatureKey)] = true
		adds = append(adds, i)
	}
	rules := t.leafRules()
	return spread(len(adds), func(k int) error {
		p := &t.changes.Proposals[adds[k]]
		if err := t.old.checkAdd(t.cfg, rules, p); err != nil {
			return at(err, adds[k], p)
		}
		return nil
	})
}

// checkAdd verifies the KeyPackage of an Add (RFC 9420 §12.1.1, §10.1).
func (s *state) checkAdd(cfg *Config, rules *LeafRules, p *ResolvedProposal) error {
	kp := &p.Add.KeyPackage
	var err error
	if p.verified {
		err = rules.checkContent(s.suite, &kp.LeafNode, 0)
	} else {
		err = rules.CheckKeyPackage(s.suite, kp)
	}
	if err != nil {
		return ruleError(RuleAdd, err)
	}
	return checkCredential(cfg, &kp.LeafNode)
}

// noteOthers keeps what PSKs, ExternalInit and ReInit say for later
// (RFC 9420 §12.3).
func (t *transition) noteOthers() error {
	for i := range t.changes.Proposals {
		switch p := &t.changes.Proposals[i]; p.Type {
		case ProposalPSK:
			t.psks = append(t.psks, &p.PreSharedKey.PSK)
		case ProposalExternalInit:
			t.externalInit = p.ExternalInit
		case ProposalReInit:
			t.changes.ReInit = p.ReInit
		}
	}
	return nil
}

// applyAppData applies the AppDataUpdates: by component, ascending; those of
// one component in the order of the commit (MLS extensions §4.7, Decision 118).
// AppEphemerals change nothing; the application sees them in Judge.
func (t *transition) applyAppData() error {
	updates := make(map[ComponentID][]ResolvedProposal)
	var ids []ComponentID
	for i := range t.changes.Proposals {
		p := &t.changes.Proposals[i]
		if p.Type != ProposalAppDataUpdate {
			continue
		}
		id := p.AppDataUpdate.ComponentID
		list := updates[id]
		if len(list) == 0 {
			ids = append(ids, id)
		} else if p.AppDataUpdate.Op == AppDataOpRemove || list[0].AppDataUpdate.Op == AppDataOpRemove {
			return &RuleError{RuleAppDataMix, i, p.Ref, nil}
		}
		updates[id] = append(list, *p)
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	dictionary := slices.Clone(t.params.dictionary)
	for _, id := range ids {
		at, exists := dictionary.search(id)
		var old []byte
		if exists {
			old = dictionary[at].Data
		}
		list := updates[id]
		if list[0].AppDataUpdate.Op == AppDataOpRemove {
			if !exists {
				return ruleErrorf(RuleAppData, "component %#04x has no data to remove", uint16(id))
			}
			dictionary = slices.Delete(dictionary, at, at+1)
			continue
		}
		var data []byte
		var err error
		switch id {
		case ComponentAppComponents, ComponentSafeAAD, ComponentContentMediaTypes:
			data = bytes.Clone(list[len(list)-1].AppDataUpdate.Update) // Decision 114: replaced whole
		default:
			data, err = t.cfg.rules().UpdateComponent(id, old, exists, list, &t.changes)
		}
		if err != nil {
			return ruleError(RuleAppData, err)
		}
		if exists {
			dictionary[at].Data = data
		} else {
			dictionary = slices.Insert(dictionary, at, ComponentData{id, data})
		}
	}
	next := *t.params
	next.dictionary = dictionary
	if err := next.parseComponents(); err != nil {
		return ruleError(RuleComponent, err)
	}
	data, err := tlspl.Marshal(&dictionary)
	if err != nil {
		return ruleError(RuleAppData, err)
	}
	if _, ok := t.extensions.Find(ExtensionAppDataDictionary); !ok {
		next.types = append(slices.Clone(next.types), ExtensionAppDataDictionary)
	}
	t.extensions = t.extensions.With(ExtensionAppDataDictionary, data)
	t.params = &next
	return nil
}

// mergePath applies a received path (RFC 9420 §12.4.2).
func (t *transition) mergePath(path *UpdatePath) error {
	if t.changes.External() {
		t.changes.CommitterLeaf = t.tree.NextLeaf()
	}
	i, leaf := t.changes.CommitterLeaf, &path.LeafNode
	rules := t.leafRules()
	if old := t.tree.leafAt(i); old != nil {
		rules.known = old.key.Load()
	}
	if err := rules.CheckLeaf(t.old.suite, leaf, i, SourceCommit); err != nil {
		return ruleError(RulePath, err)
	}
	if err := t.tree.MergePath(i, path); err != nil {
		return ruleError(RulePath, err)
	}
	if err := t.tree.CheckCiphertexts(i, path, t.added); err != nil {
		return ruleError(RulePath, err)
	}
	return t.notePath(leaf)
}

// notePath verifies who the leaf of a path belongs to, and notes what it
// changes.
func (t *transition) notePath(leaf *LeafNode) error {
	i := t.changes.CommitterLeaf
	if !t.changes.External() {
		t.changes.Updated = append(t.changes.Updated, i)
		return checkSameClient(t.cfg, RulePath, t.old.tree.Leaf(i), leaf)
	}
	t.changes.Added = append(t.changes.Added, i)
	err := t.each(ProposalRemove, func(p *ResolvedProposal) error {
		old := t.old.tree.Leaf(p.Remove.Removed)
		return checkSameClient(t.cfg, RuleExternalRemove, old, leaf)
	})
	if err != nil {
		return err
	}
	return checkCredential(t.cfg, leaf)
}

// judge verifies what must hold of the group after the commit, and asks the
// application.
func (t *transition) judge() error {
	for _, i := range slices.Concat(t.changes.Added, t.changes.Updated) {
		if err := t.tree.CheckCredentials(i); err != nil {
			return ruleError(RuleCredentialInvalid, err)
		}
	}
	if err := t.params.checkGroup(t.tree); err != nil {
		return err
	}
	if err := t.cfg.rules().Judge(&t.changes); err != nil {
		return wrapRule(RuleApplication, err)
	}
	return nil
}

// wrapRule makes err a RuleError unless it is one.
func wrapRule(rule Rule, err error) error {
	var r *RuleError
	if errors.As(err, &r) {
		return err
	}
	return ruleError(rule, err)
}

// hashTree completes the provisional GroupContext (RFC 9420 §12.4.1).
func (t *transition) hashTree() (err error) {
	t.context.TreeHash = t.tree.TreeHash()
	t.provisional, err = tlspl.Marshal(&t.context)
	return err
}

// confirm continues the transcript with the signed commit (RFC 9420 §8.2).
func (t *transition) confirm(commit *AuthenticatedContent) error {
	input, err := commit.confirmedTranscriptHashInput()
	if err != nil {
		return err
	}
	t.context.ConfirmedTranscriptHash = confirmedTranscriptHash(t.old.suite, t.old.interim, input)
	t.encoded, err = tlspl.Marshal(&t.context)
	return err
}

// next returns the state that the transition leads to.
func (t *transition) next(confirmationTag []byte) *state {
	return newStateEncoded(t.old.suite, t.context, t.encoded, t.params, t.tree, confirmationTag)
}
