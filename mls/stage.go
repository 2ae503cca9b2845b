package mls

import (
	"bytes"
	"io"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// CommitOptions is what a commit is made from.
type CommitOptions struct {
	Proposals           []Proposal    // by value
	References          []ProposalRef // pending proposals by reference, in this order
	AllPending          bool          // refer to all pending ones that go together; References is ignored
	AuthenticatedData   []byte
	WireFormat          WireFormat   // PublicMessage (also 0), PrivateMessage or SemiPrivateMessage
	OmitPath            bool         // leave the path out where it is not required (RFC 9420 §12.4)
	Leaf                *LeafOptions // a new credential, capabilities, extensions or signature key for this member
	WelcomeTree         bool         // put the ratchet_tree into the Welcome's GroupInfo
	GroupInfoExtensions Extensions   // more extensions for the GroupInfo
	OmitGroupInfo       bool         // make no GroupInfo but the Welcome's, where nobody is to join by an external commit: a signature and a key less
	Now                 uint64       // seconds since the Unix epoch, for the lifetimes of added KeyPackages; 0: not checked
}

// A StagedCommit is a commit that was made or verified and not merged yet.
type StagedCommit struct {
	base      *state
	next      *state // nil if this member is removed
	start     epochStart
	private   *PrivateTree
	signer    *suite.Signer
	changes   Changes
	removed   bool
	received  *verifiableContent    // its message key is used up when it is merged
	content   *AuthenticatedContent // if it was made here
	message   *MLSMessage
	welcome   *Welcome
	groupInfo *GroupInfo
}

// Message returns the commit to send, nil if it was received.
func (c *StagedCommit) Message() *MLSMessage { return c.message }

// Welcome returns the Welcome for the added members, nil if there are none or
// the commit was received.
func (c *StagedCommit) Welcome() *Welcome { return c.welcome }

// GroupInfo returns a GroupInfo of the new epoch, with external_pub and
// without ratchet_tree; nil if the commit was received or was to have none.
func (c *StagedCommit) GroupInfo() *GroupInfo { return c.groupInfo }

// Changes says what the commit does.
func (c *StagedCommit) Changes() *Changes { return &c.changes }

// Removed reports whether the commit removes this member. Merging it then
// closes the group.
func (c *StagedCommit) Removed() bool { return c.removed }

// Tree returns the ratchet tree of the new epoch.
func (c *StagedCommit) Tree() *RatchetTree { return c.changes.NewTree }

// Drop overwrites the secrets of a commit that will not be merged. After Merge
// it does nothing. Private keys are only forgotten, since the group may share
// them.
func (c *StagedCommit) Drop() {
	c.start.clear()
	*c = StagedCommit{}
}

func (e *epochStart) clear() {
	e.secrets.clear()
	clear(e.encryption)
	clear(e.applicationExport)
}

// Stage makes a commit (RFC 9420 §12.4.1). The group stays as it is, but for
// the key that a PrivateMessage or SemiPrivateMessage uses up: what Flush
// returns must be stored before the message leaves.
//
// With an empty list of proposals it renews this member's keys.
func (g *Group) Stage(rand io.Reader, o CommitOptions) (*StagedCommit, error) {
	if !g.Active() {
		return nil, ErrGroupClosed
	}
	w, err := g.wireFormat(o.WireFormat)
	if err != nil {
		return nil, err
	}
	// Collect the proposals.
	commit := &Commit{}
	var list []ResolvedProposal
	refs := o.References
	if o.AllPending {
		refs = g.public.pending.committable(g.OwnLeaf())
	}
	for i, ref := range refs {
		p := g.public.pending.find(ref)
		if p == nil {
			return nil, &RuleError{RuleProposalReference, i, ref, nil}
		}
		commit.Proposals = append(commit.Proposals, ProposalOrRef{Reference: ref})
		list = append(list, p.ResolvedProposal)
	}
	own := MemberSender(g.OwnLeaf())
	for i := range o.Proposals {
		p := &o.Proposals[i]
		commit.Proposals = append(commit.Proposals, ProposalOrRef{Proposal: p})
		list = append(list, ResolvedProposal{Proposal: p, Sender: own, WireFormat: w, AuthenticatedData: o.AuthenticatedData})
	}

	// Verify them and apply them to a fork of the tree.
	st := g.public.state
	t, err := st.apply(&g.public.cfg, list, commitHead{sender: own, wireFormat: w, aad: o.AuthenticatedData, now: o.Now})
	if err != nil {
		return nil, err
	}

	// New keys for this member's path.
	signer := g.signer
	var path *PathSecrets
	private := g.private.Fork()
	if t.pathRequired || !o.OmitPath {
		var leaf LeafNode
		leaf, signer = g.nextLeaf(o.Leaf)
		if path, err = t.newPath(rand, leaf, signer); err != nil {
			return nil, err
		}
		defer path.Clear()
		private = path.Private()
	} else {
		private.Sync(t.tree)
	}
	if err := t.judge(); err != nil {
		return nil, err
	}
	if err := t.hashTree(); err != nil {
		return nil, err
	}
	if path != nil {
		if commit.Path, err = path.Encrypt(t.tree, t.provisional, t.added); err != nil {
			return nil, err
		}
	}

	// Sign with the old leaf's key, in the old epoch.
	a, err := g.sign(rand, w, FramedContent{AuthenticatedData: o.AuthenticatedData, ContentType: ContentCommit, Commit: commit})
	if err != nil {
		return nil, err
	}
	psk, err := g.pskSecret(t.psks)
	if err != nil {
		return nil, err
	}
	defer clear(psk)
	c := &StagedCommit{base: st, private: private, signer: signer, changes: t.changes}
	joiner, err := c.derive(t, g.secrets.init, path, psk, a)
	if err != nil {
		return nil, err
	}
	defer clear(joiner)
	c.changes.New = &c.next.context
	if c.message, err = g.protect(rand, a); err != nil {
		return nil, err
	}
	if err := c.inform(rand, t, &o, joiner, psk, path); err != nil {
		return nil, err
	}
	return c, nil
}

// newPath gives the committer new keys (RFC 9420 §12.4.1).
func (t *transition) newPath(rand io.Reader, leaf LeafNode, signer *suite.Signer) (*PathSecrets, error) {
	if t.changes.External() {
		t.changes.CommitterLeaf = t.tree.NextLeaf()
	}
	path, err := t.tree.NewPath(rand, t.changes.CommitterLeaf, leaf, t.old.context.GroupID, func(tbs []byte) ([]byte, error) {
		return signer.SignWithLabel(rand, "LeafNodeTBS", tbs)
	})
	if err != nil {
		return nil, ruleError(RulePath, err)
	}
	if err := t.leafRules().checkContent(t.old.suite, path.Leaf(), t.changes.CommitterLeaf); err != nil {
		return nil, ruleError(RulePath, err)
	}
	return path, t.notePath(path.Leaf())
}

// derive completes a signed commit with its confirmation_tag and gives the
// secrets of the new epoch. It returns joiner_secret.
func (c *StagedCommit) derive(t *transition, init []byte, path *PathSecrets, psk []byte, a *AuthenticatedContent) ([]byte, error) {
	var commitSecret []byte
	if path != nil {
		commitSecret = path.CommitSecret()
	}
	if err := t.confirm(a); err != nil {
		return nil, err
	}
	s := t.old.suite
	joiner := joinerSecret(s, init, commitSecret, t.encoded)
	c.start = startEpoch(s, joiner, psk, t.encoded)
	a.Auth.ConfirmationTag = c.start.secrets.confirmationTag(s, t.context.ConfirmedTranscriptHash)
	c.next, c.content = t.next(a.Auth.ConfirmationTag), a
	return joiner, nil
}

// inform makes the GroupInfo and the Welcome of a commit (RFC 9420 §12.4.1,
// §12.4.3).
func (c *StagedCommit) inform(rand io.Reader, t *transition, o *CommitOptions, joiner, psk []byte, path *PathSecrets) error {
	sign := func(e Extensions) (*GroupInfo, error) {
		return signGroupInfo(rand, c.signer, c.changes.CommitterLeaf, c.next, &c.start.secrets, e)
	}
	var err error
	if !o.OmitGroupInfo {
		if c.groupInfo, err = sign(o.GroupInfoExtensions); err != nil {
			return err
		}
	}
	if len(t.added) == 0 {
		return nil
	}
	info := c.groupInfo
	switch {
	case o.WelcomeTree:
		info, err = sign(o.GroupInfoExtensions.With(ExtensionRatchetTree, t.tree.Bytes()))
	case info == nil:
		info, err = sign(o.GroupInfoExtensions)
	}
	if err != nil {
		return err
	}
	c.welcome, err = t.sealWelcome(info, joiner, psk, path)
	return err
}

// sealWelcome encrypts a GroupInfo and the secrets to all added members, on all
// cores.
func (t *transition) sealWelcome(info *GroupInfo, joiner, psk []byte, path *PathSecrets) (*Welcome, error) {
	s := t.old.suite
	encoded, err := tlspl.Marshal(info)
	if err != nil {
		return nil, err
	}
	w := &Welcome{CipherSuite: s.ID(), Secrets: make([]EncryptedGroupSecrets, len(t.added))}
	if w.EncryptedGroupInfo, err = sealWelcome(s, joiner, psk, encoded); err != nil {
		return nil, err
	}
	secrets := GroupSecrets{JoinerSecret: joiner}
	for _, id := range t.psks {
		secrets.PSKs = append(secrets.PSKs, *id)
	}
	var packages []*KeyPackage
	for i := range t.changes.Proposals {
		if p := &t.changes.Proposals[i]; p.Type == ProposalAdd {
			packages = append(packages, &p.Add.KeyPackage)
		}
	}
	sealer := s.NewSealer("Welcome", w.EncryptedGroupInfo)
	err = spread(len(packages), func(i int) error {
		ref, err := packages[i].Ref()
		if err != nil {
			return err
		}
		mine := secrets
		if path != nil {
			if secret := path.For(t.added[i]); secret != nil {
				mine.PathSecret = &PathSecret{secret}
			}
		}
		plaintext, err := tlspl.Marshal(&mine)
		if err != nil {
			return err
		}
		defer clear(plaintext)
		w.Secrets[i].NewMember = ref
		out := &w.Secrets[i].EncryptedGroupSecrets
		out.KEMOutput, out.Ciphertext, err = sealer.Seal(packages[i].InitKey, plaintext)
		return err
	})
	return w, err
}

// pskSecret looks PSKs up and chains them (RFC 9420 §8.4). Without any it is
// nil.
func (g *Group) pskSecret(ids []*PreSharedKeyID) ([]byte, error) {
	return lookupPSKs(&g.public.cfg, g.Suite(), ids, func(id *PreSharedKeyID) ([]byte, error) {
		if id.Type == PSKResumption && bytes.Equal(id.PSKGroupID, g.GroupID()) {
			return g.ResumptionPSK(id.PSKEpoch)
		}
		return resumptionOf(g.former, id)
	})
}

// resumptionOf returns the resumption PSK of another group, which may be nil.
func resumptionOf(g *Group, id *PreSharedKeyID) ([]byte, error) {
	if g == nil || id.Type != PSKResumption || !bytes.Equal(id.PSKGroupID, g.GroupID()) {
		return nil, ErrNoPSK
	}
	return g.ResumptionPSK(id.PSKEpoch)
}

// lookupPSKs asks own first, then the application's store.
func lookupPSKs(cfg *Config, s suite.Suite, ids []*PreSharedKeyID, own func(*PreSharedKeyID) ([]byte, error)) ([]byte, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	inputs := make([]pskInput, len(ids))
	for i, id := range ids {
		secret, err := own(id)
		if err != nil && cfg.PSKs != nil {
			secret, err = cfg.PSKs.PSK(id)
		}
		if err != nil {
			return nil, ruleError(RulePSKUnknown, err)
		}
		encoded, err := tlspl.Marshal(id)
		if err != nil {
			return nil, err
		}
		inputs[i] = pskInput{encoded, secret}
	}
	return pskSecret(s, inputs)
}
