package mls

import (
	"io"

	"github.com/comity-im/comity/mls/suite"
)

// A Group is one member's state of a group. It holds secrets, which String and
// the like never show. It is not safe for concurrent use.
//
// What it says about the group it says as a [PublicGroup], which is a part of
// it.
type Group struct {
	public   PublicGroup
	signer   *suite.Signer
	private  *PrivateTree
	secrets  epochSecrets
	keys     messageKeys
	exporter *exporterTree
	past     []*pastEpoch // the latest first
	removed  bool         // this member was removed
	former   *Group       // while the first commit is staged: the group that this one follows
	stored   storedGroup
}

// A pastEpoch is what is kept of an epoch to read its late messages and to use
// its resumption PSK.
type pastEpoch struct {
	state      *state // without its tree
	size       uint32 // leaves of its tree
	keys       messageKeys
	stored     bool
	members    map[LeafIndex][]byte // signature keys that differ from the epoch after; nil: blank
	resumption []byte
}

// GroupOptions is what a group is made from.
type GroupOptions struct {
	GroupID     []byte // must be unique; nil draws 32 octets
	CipherSuite CipherSuite
	Extensions  Extensions // of the GroupContext
	Leaf        LeafOptions
	Lifetime    Lifetime // of the creator's leaf
}

// CreateGroup makes a group of one member, in epoch 0 (RFC 9420 §11).
func CreateGroup(rand io.Reader, cfg Config, o GroupOptions) (*Group, error) {
	s, ok := suite.Lookup(o.CipherSuite)
	if !ok {
		return nil, ErrCipherSuite
	}
	groupID := o.GroupID
	if groupID == nil {
		groupID = make([]byte, 32)
		if _, err := io.ReadFull(rand, groupID); err != nil {
			return nil, err
		}
	}
	leafKey, err := s.GenerateKeyPair(rand)
	if err != nil {
		return nil, err
	}
	leaf := o.Leaf.leaf()
	leaf.EncryptionKey = leafKey.Public()
	leaf.Source = SourceKeyPackage
	leaf.Lifetime = o.Lifetime
	if err := leaf.sign(rand, o.Leaf.Signer, nil, 0); err != nil {
		return nil, err
	}
	p, err := parseParams(o.Extensions)
	if err != nil {
		return nil, ruleError(RuleExtensions, err)
	}
	if err := p.leafRules(&cfg, groupID, 0).checkContent(s, &leaf, 0); err != nil {
		return nil, ruleError(RuleExtensions, err)
	}
	tree := NewRatchetTree(s)
	own, err := tree.Add(&leaf)
	if err != nil {
		return nil, err
	}
	if err := p.checkGroup(tree); err != nil {
		return nil, err
	}
	start, err := startFirstEpoch(s, rand)
	if err != nil {
		return nil, err
	}
	context := GroupContext{Version: MLS10, CipherSuite: s.ID(), GroupID: groupID, TreeHash: tree.TreeHash(), Extensions: o.Extensions}
	st, err := newState(s, context, p, tree, start.secrets.confirmationTag(s, nil))
	if err != nil {
		return nil, err
	}
	g := &Group{public: PublicGroup{cfg: cfg}, signer: o.Leaf.Signer, private: NewPrivateTree(s, own, leafKey)}
	g.enter(st, start)
	return g, nil
}

// enter moves the group to an epoch. Nothing can fail any more.
func (g *Group) enter(st *state, start epochStart) {
	g.public.state = st
	g.public.pending.clear()
	g.secrets = start.secrets
	g.keys = messageKeys{
		suite: st.suite, groupID: st.context.GroupID, epoch: st.context.Epoch, groupContext: st.encoded,
		senderData: start.secrets.senderData, membership: start.secrets.membership,
		tree: newSecretTree(st.suite, st.tree.Size(), start.encryption, g.public.cfg.limits()),
	}
	g.exporter = newExporterTree(st.suite, start.applicationExport)
}

// Public returns the public part of the group: its epoch, GroupContext, tree
// and pending proposals. It must not be merged or otherwise changed; take a
// [PublicGroup.Clone] for that.
func (g *Group) Public() *PublicGroup { return &g.public }

// Suite returns the group's cipher suite.
func (g *Group) Suite() suite.Suite { return g.public.Suite() }

// Context returns the GroupContext of the current epoch. It must not be
// changed.
func (g *Group) Context() *GroupContext { return g.public.Context() }

// GroupID returns the group's ID.
func (g *Group) GroupID() []byte { return g.public.GroupID() }

// Epoch returns the current epoch.
func (g *Group) Epoch() Epoch { return g.public.Epoch() }

// Tree returns the ratchet tree of the current epoch. It must not be changed.
func (g *Group) Tree() *RatchetTree { return g.public.Tree() }

// Dictionary returns the app_data_dictionary of the current epoch. It must not
// be changed.
func (g *Group) Dictionary() AppDataDictionary { return g.public.Dictionary() }

// Pending returns the proposals of this epoch that no commit covers yet.
func (g *Group) Pending() []ResolvedProposal { return g.public.Pending() }

// DropPending forgets a pending proposal.
func (g *Group) DropPending(ref ProposalRef) { g.public.DropPending(ref) }

// OwnLeaf returns this member's leaf.
func (g *Group) OwnLeaf() LeafIndex { return g.private.LeafIndex() }

// Signer returns this member's signature key.
func (g *Group) Signer() *suite.Signer { return g.signer }

// Active reports whether this client is still a member of a group that was not
// reinitialized.
func (g *Group) Active() bool { return !g.removed && g.public.reinit == nil }

// Removed reports whether this client was removed.
func (g *Group) Removed() bool { return g.removed }

// EpochAuthenticator returns the epoch_authenticator, by which members can
// compare whether they are in the same epoch (RFC 9420 §8.7).
func (g *Group) EpochAuthenticator() []byte { return append([]byte(nil), g.secrets.authenticator...) }

// Export derives length octets for the application (RFC 9420 §8.5).
func (g *Group) Export(label string, context []byte, length int) ([]byte, error) {
	if !g.Active() {
		return nil, ErrGroupClosed
	}
	return g.secrets.export(g.Suite(), label, context, length)
}

// SafeExport takes a component's secret of this epoch, once (MLS extensions
// §4.4).
func (g *Group) SafeExport(id ComponentID) ([]byte, error) {
	if !g.Active() {
		return nil, ErrGroupClosed
	}
	return g.exporter.export(id)
}

// ResumptionPSK returns the resumption PSK of the current epoch or one of the
// past epochs that the group keeps (RFC 9420 §8.6). Without it, ErrNoPSK.
func (g *Group) ResumptionPSK(epoch Epoch) ([]byte, error) {
	if epoch == g.Epoch() {
		return g.secrets.resumption, nil
	}
	for _, p := range g.past {
		if p.keys.epoch == epoch {
			return p.resumption, nil
		}
	}
	return nil, ErrNoPSK
}

// GroupInfo signs a GroupInfo of the current epoch, with the key for external
// commits (RFC 9420 §12.4.3). With withTree it holds the ratchet_tree.
func (g *Group) GroupInfo(rand io.Reader, withTree bool) (*GroupInfo, error) {
	if !g.Active() {
		return nil, ErrGroupClosed
	}
	var e Extensions
	if withTree {
		e = e.With(ExtensionRatchetTree, g.Tree().Bytes())
	}
	return signGroupInfo(rand, g.signer, g.OwnLeaf(), g.public.state, &g.secrets, e)
}

func signGroupInfo(rand io.Reader, signer *suite.Signer, own LeafIndex, st *state, secrets *epochSecrets, e Extensions) (*GroupInfo, error) {
	key, err := secrets.externalKey(st.suite)
	if err != nil {
		return nil, err
	}
	info := &GroupInfo{
		GroupContext:    st.context,
		Extensions:      e.With(ExtensionExternalPub, marshal(&ExternalPub{key.Public()})),
		ConfirmationTag: st.confirmationTag,
		Signer:          own,
	}
	tbs, err := info.tbsBytes()
	if err != nil {
		return nil, err
	}
	info.tbs = tbs
	info.Signature, err = signer.SignWithLabel(rand, "GroupInfoTBS", tbs)
	return info, err
}

// String hides the secrets.
func (g *Group) String() string { return "Group(redacted)" }

// GoString hides the secrets.
func (g *Group) GoString() string { return g.String() }
