package mls

import "errors"

// A Config says how this side treats a group. It is not part of the group's
// state and is given again when the group is loaded. The zero value is usable.
type Config struct {
	Rules           Rules                           // nil: DefaultRules
	PSKs            PSKStore                        // nil: no PSKs but the group's own resumption PSKs
	CustomProposals map[ProposalType]CustomProposal // types of the application's own
	PastEpochs      int                             // how many past epochs' messages can still be read
	RatchetLimits   RatchetLimits                   // zero: DefaultRatchetLimits
	Padding         int                             // pads private messages to a multiple of so many octets; 0: not
	Receiver        *Receiver                       // reads SemiPrivateMessages as a PublicGroup; nil: it does not
	MaxLifetime     uint64                          // longest lifetime of a KeyPackage in seconds; 0: any
}

func (c *Config) rules() Rules {
	if c.Rules == nil {
		return DefaultRules{}
	}
	return c.Rules
}

func (c *Config) limits() RatchetLimits {
	if c.RatchetLimits == (RatchetLimits{}) {
		return DefaultRatchetLimits
	}
	return c.RatchetLimits
}

// A CustomProposal says how proposals of a type that the application registers
// may be used. What they mean is for [Rules].
type CustomProposal struct {
	PathRequired bool // a commit with one needs a path (RFC 9420 §12.4)
	External     bool // external senders may send it (RFC 9420 §12.1.8)
}

// A PSKStore has the PSKs that the application provides: external ones, those
// of components, and resumption PSKs of other groups or of epochs that the
// group no longer keeps (RFC 9420 §8.4). A missing PSK is ErrNoPSK.
type PSKStore interface {
	PSK(id *PreSharedKeyID) ([]byte, error)
}

// ErrNoPSK says that a PSK is not known.
var ErrNoPSK = errors.New("mls: PSK is not known")

// Rules is the application's say in what the group accepts. Embed
// [DefaultRules] and override what the application cares about. An error of any
// method makes the message invalid and comes back inside a *[RuleError].
//
// The methods are called with the group as it is before the change; they must
// not change it.
type Rules interface {
	// VerifyCredential says whether a leaf's credential is true (RFC 9420
	// §5.3.1). It is asked for each leaf that enters the group, and for all
	// when joining; of many leaves from several goroutines at once.
	VerifyCredential(leaf *LeafNode) error
	// VerifyExternalSender says the same of an entry of external_senders
	// that enters the GroupContext.
	VerifyExternalSender(s *ExternalSender) error
	// SameClient says whether a leaf may replace another: in an Update, a
	// commit's path, an external commit that removes its old leaf.
	SameClient(old, new *LeafNode) bool
	// KnowsComponent says whether the application has a component. An
	// AppDataUpdate or AppEphemeral for another is invalid (MLS extensions
	// §4.7, §4.8). The components that this package updates itself, 0x0001
	// to 0x0003, need no answer.
	KnowsComponent(id ComponentID) bool
	// UpdateComponent returns a component's new data from its
	// AppDataUpdates, in the order of the commit (MLS extensions §4.7).
	// Without an entry in the dictionary, exists is false. Components come
	// in ascending order (Decision 118). The proposals and the old side of
	// c are set.
	UpdateComponent(id ComponentID, old []byte, exists bool, updates []ResolvedProposal, c *Changes) ([]byte, error)
	// Judge has the last word on a commit that satisfies all other rules.
	// c.New is complete but for tree_hash and confirmed_transcript_hash.
	Judge(c *Changes) error
	// JudgeProposal has the last word on a proposal before it is cached. The
	// context and the tree are those of its epoch.
	JudgeProposal(p *ResolvedProposal, context *GroupContext, tree *RatchetTree) error
}

// DefaultRules accepts everything that RFC 9420 and the extensions do, believes
// every credential, and knows no component.
type DefaultRules struct{}

// VerifyCredential accepts every credential.
func (DefaultRules) VerifyCredential(*LeafNode) error { return nil }

// VerifyExternalSender accepts every external sender.
func (DefaultRules) VerifyExternalSender(*ExternalSender) error { return nil }

// SameClient compares the credentials.
func (DefaultRules) SameClient(old, new *LeafNode) bool {
	return old.Credential.Equal(&new.Credential)
}

// KnowsComponent knows none.
func (DefaultRules) KnowsComponent(ComponentID) bool { return false }

// UpdateComponent is not called, since no component is known.
func (DefaultRules) UpdateComponent(ComponentID, []byte, bool, []ResolvedProposal, *Changes) ([]byte, error) {
	return nil, errUnknownComponent
}

// Judge accepts every commit.
func (DefaultRules) Judge(*Changes) error { return nil }

// JudgeProposal accepts every proposal.
func (DefaultRules) JudgeProposal(*ResolvedProposal, *GroupContext, *RatchetTree) error { return nil }

// A ResolvedProposal is a proposal with who made it and how it came.
type ResolvedProposal struct {
	*Proposal
	Sender            Sender      // of the proposal; by value, of the commit
	Ref               ProposalRef // nil if the commit has it by value
	WireFormat        WireFormat  // in which it came
	AuthenticatedData []byte      // of the message that proposed it

	verified bool // its signatures were verified when it was cached
}

// Changes is what a commit does to a group.
type Changes struct {
	Old, New          *GroupContext
	OldTree, NewTree  *RatchetTree
	Committer         Sender             // a member, or new_member_commit
	CommitterLeaf     LeafIndex          // its leaf in NewTree
	Proposals         []ResolvedProposal // in the order of the commit
	Added             []LeafIndex        // leaves of NewTree that came by an Add, or by an external commit
	Removed           []LeafIndex        // leaves of OldTree
	Updated           []LeafIndex        // leaves that members replaced, by an Update or by the commit's path
	ReInit            *ReInit            // not nil: the group ends here
	WireFormat        WireFormat         // of the commit
	AuthenticatedData []byte             // of the commit
}

// External reports whether the commit is an external one (RFC 9420 §12.4.3.2).
func (c *Changes) External() bool { return c.Committer.Type == SenderNewMemberCommit }
