package mls

import (
	"bytes"
	"errors"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// JoinOptions is what a client knows besides a Welcome.
type JoinOptions struct {
	RatchetTree []byte // the content of a ratchet_tree extension; nil: the GroupInfo has it
	// Former is the group that the new one follows by ReInit, or branches
	// off from (RFC 9420 §11.2, §11.3). Without it such a Welcome is refused.
	Former *Group
	// Absent says of a member of a group that was reinitialized, which the new
	// one does not have, whether the application takes it as one all the same,
	// such as because it comes in by itself (RFC 9420 §12.4.3.1, "according to
	// the application"). nil: none.
	Absent func(*LeafNode) bool
	// Now is the time in seconds since the Unix epoch. RFC 9420 §7.3 recommends
	// to compare the lifetimes of the members with it; in a group that lives
	// long, members who never committed are beyond theirs. 0: not compared.
	Now uint64
}

// errNotForUs says that a Welcome names another KeyPackage.
var errNotForUs = errors.New("no entry for this KeyPackage")

// Find returns the entry of a Welcome for a KeyPackage.
func (w *Welcome) Find(ref KeyPackageRef) (*EncryptedGroupSecrets, bool) {
	for i := range w.Secrets {
		if bytes.Equal(w.Secrets[i].NewMember, ref) {
			return &w.Secrets[i], true
		}
	}
	return nil, false
}

// JoinWelcome enters a group by a Welcome, in the order of RFC 9420 §12.4.3.1.
// The caller verifies that it isn't in a group of this ID already, and deletes
// the KeyPackage's secrets when the Group is stored.
func JoinWelcome(cfg Config, w *Welcome, k *KeyPackageSecrets, o JoinOptions) (*Group, error) {
	// Find the entry.
	s, ok := suite.Lookup(w.CipherSuite)
	if !ok {
		return nil, ErrCipherSuite
	}
	if k.KeyPackage.CipherSuite != w.CipherSuite {
		return nil, ruleErrorf(RuleWelcome, "cipher suite of the KeyPackage is %s", k.KeyPackage.CipherSuite)
	}
	ref, err := k.KeyPackage.Ref()
	if err != nil {
		return nil, err
	}
	entry, ok := w.Find(ref)
	if !ok {
		return nil, ruleError(RuleWelcome, errNotForUs)
	}

	// Decrypt the GroupSecrets.
	secrets, err := w.openSecrets(k.InitKey, entry)
	if err != nil {
		return nil, err
	}
	defer secrets.clear()

	// Look up the PSKs.
	link, err := linkPSK(secrets.PSKs)
	if err != nil {
		return nil, err
	}
	ids := make([]*PreSharedKeyID, len(secrets.PSKs))
	for i := range ids {
		ids[i] = &secrets.PSKs[i]
	}
	psk, err := lookupPSKs(&cfg, s, ids, func(id *PreSharedKeyID) ([]byte, error) { return resumptionOf(o.Former, id) })
	if err != nil {
		return nil, err
	}
	defer clear(psk)

	// Decrypt the GroupInfo and verify it, the tree, and that we support the
	// group.
	info, err := w.openGroupInfo(s, secrets, psk)
	if err != nil {
		return nil, err
	}
	if info.GroupContext.CipherSuite != w.CipherSuite {
		return nil, ruleErrorf(RuleWelcome, "cipher suite of the group is %s", info.GroupContext.CipherSuite)
	}
	st, err := stateFromGroupInfo(&cfg, info, o.RatchetTree, o.Now)
	if err != nil {
		return nil, err
	}

	// Find our leaf and set its keys.
	own, ok := st.tree.FindLeaf(&k.KeyPackage.LeafNode)
	if !ok {
		return nil, ruleErrorf(RuleWelcome, "our leaf is not in the tree")
	}
	private := NewPrivateTree(s, own, k.EncryptionKey)
	if secrets.PathSecret != nil {
		if err := private.Join(st.tree, info.Signer, bytes.Clone(secrets.PathSecret.PathSecret)); err != nil {
			return nil, ruleError(RuleWelcome, err)
		}
	}

	// Derive the epoch's secrets and compare the confirmation_tag.
	start := startEpoch(s, secrets.JoinerSecret, psk, st.encoded)
	if !start.secrets.verifyConfirmationTag(s, st.context.ConfirmedTranscriptHash, info.ConfirmationTag) {
		return nil, ruleError(RuleConfirmationTag, nil)
	}
	if link != nil {
		if err := checkLink(&cfg, link, o.Former, st, o.Absent); err != nil {
			return nil, err
		}
	} else if o.Former != nil && o.Former.public.reinit != nil && st.context.Epoch == 1 && bytes.Equal(st.context.GroupID, o.Former.public.reinit.GroupID) {
		return nil, ruleErrorf(RuleReInitWelcome, "the Welcome has no PSK of usage reinit") // RFC 9420 §11.2
	}
	g := &Group{public: PublicGroup{cfg: cfg}, signer: k.Signer, private: private}
	g.enter(st, start)
	return g, nil
}

// openSecrets decrypts the secrets of one new member.
func (w *Welcome) openSecrets(initKey *suite.PrivateKey, e *EncryptedGroupSecrets) (*GroupSecrets, error) {
	c := &e.EncryptedGroupSecrets
	plaintext, err := initKey.OpenWithLabel("Welcome", w.EncryptedGroupInfo, c.KEMOutput, c.Ciphertext)
	if err != nil {
		return nil, ruleError(RuleWelcome, err)
	}
	secrets := new(GroupSecrets)
	return secrets, tlspl.UnmarshalAlias(plaintext, secrets)
}

func (g *GroupSecrets) clear() {
	clear(g.JoinerSecret)
	if g.PathSecret != nil {
		clear(g.PathSecret.PathSecret)
	}
}

// openGroupInfo decrypts the GroupInfo.
func (w *Welcome) openGroupInfo(s suite.Suite, secrets *GroupSecrets, psk []byte) (*GroupInfo, error) {
	encoded, err := openWelcome(s, secrets.JoinerSecret, psk, w.EncryptedGroupInfo)
	if err != nil {
		return nil, ruleError(RuleWelcome, err)
	}
	info := new(GroupInfo)
	return info, tlspl.UnmarshalAlias(encoded, info)
}

// linkPSK returns the PSK of usage reinit or branch, which must be the only such
// one (RFC 9420 §12.4.3.1).
func linkPSK(ids []PreSharedKeyID) (link *PreSharedKeyID, err error) {
	for i := range ids {
		if id := &ids[i]; id.Type == PSKResumption && id.Usage != UsageApplication {
			if link != nil {
				return nil, ruleError(RuleWelcomePSK, nil)
			}
			link = id
		}
	}
	return link, nil
}

// checkLink verifies that a group follows a former one as its PSK says
// (RFC 9420 §11.2, §11.3, §12.4.3.1).
func checkLink(cfg *Config, link *PreSharedKeyID, former *Group, st *state, absent func(*LeafNode) bool) error {
	rule := RuleReInitWelcome
	if link.Usage == UsageBranch {
		rule = RuleBranchWelcome
	}
	switch {
	case former == nil || !bytes.Equal(former.GroupID(), link.PSKGroupID):
		return ruleErrorf(rule, "the former group is not known")
	case st.context.Epoch != 1:
		return ruleErrorf(rule, "epoch is %d, want 1", st.context.Epoch)
	}
	if link.Usage == UsageBranch {
		old := former.Context()
		if st.context.Version != old.Version || st.context.CipherSuite != old.CipherSuite {
			return ruleErrorf(rule, "version or cipher suite differ")
		}
		if leaf := missing(cfg, st.tree, former.Tree(), nil); leaf != nil {
			return ruleErrorf(rule, "a member was not one of the old group")
		}
		return nil
	}
	r := former.public.reinit
	switch {
	case r == nil || link.PSKEpoch != former.Epoch():
		return ruleErrorf(rule, "the old group was not reinitialized in epoch %d", link.PSKEpoch)
	case !bytes.Equal(st.context.GroupID, r.GroupID):
		return ruleErrorf(rule, "group_id differs")
	case st.context.Version != r.Version || st.context.CipherSuite != r.CipherSuite:
		return ruleErrorf(rule, "version or cipher suite differ")
	case !st.context.Extensions.Equal(r.Extensions):
		return ruleErrorf(rule, "extensions differ")
	}
	if leaf := missing(cfg, former.Tree(), st.tree, absent); leaf != nil {
		return ruleErrorf(rule, "a member of the old group is missing")
	}
	return nil
}

// missing returns a member of one tree that the other does not have, according
// to the application.
func missing(cfg *Config, tree, in *RatchetTree, absent func(*LeafNode) bool) *LeafNode {
	known := make(map[string]bool)
	for _, leaf := range in.Leaves() {
		known[string(marshal(&leaf.Credential))] = true
	}
next:
	for _, leaf := range tree.Leaves() {
		if known[string(marshal(&leaf.Credential))] {
			continue
		}
		for _, other := range in.Leaves() {
			if cfg.rules().SameClient(other, leaf) {
				continue next
			}
		}
		if absent == nil || !absent(leaf) {
			return leaf
		}
	}
	return nil
}
