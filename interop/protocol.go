// Package interop drives MLS implementations against each other. A [Peer] is one implementation
// holding any number of clients; foreign ones live in processes of their own and speak the pipe
// protocol of README.md.
package interop

// Types that every client's leaf supports, so that all peers can carry them.
const (
	OpaqueExtension      uint16 = 0xf0a1 // an extension with content opaque to MLS
	OpaqueProposal       uint16 = 0xf0a2 // a proposal with content opaque<V>
	requiredCapabilities uint16 = 0x0003
	externalSenders      uint16 = 0x0005
	AppDataDictionary    uint16 = 0x0006 // MLS extensions §4.6, opaque to the peers that lack it
)

// A Feature is an optional part of the protocol.
type Feature string

// The features a peer may have.
const (
	FeatureUpdate          Feature = "update"
	FeaturePSK             Feature = "psk"
	FeaturePrivate         Feature = "private" // handshakes as PrivateMessage
	FeatureGroupContext    Feature = "group_context_extensions"
	FeatureFreeContext     Feature = "free_context" // any supported extension, required or not
	FeatureCustom          Feature = "custom"
	FeatureResync          Feature = "resync"
	FeaturePath            Feature = "path"             // commits have a path wherever RFC 9420 §12.4 wants one
	FeatureRemoval         Feature = "removal"          // processes the commit that removes it
	FeatureHalfTree        Feature = "half_tree"        // follows commits in a tree whose left half is blank
	FeatureExternalSenders Feature = "external_senders" // takes proposals of external senders
	FeatureEmptyContext    Feature = "empty_context"    // a GroupContextExtensions can take away all extensions
	FeatureDictionaryPlace Feature = "dictionary_place" // AppDataUpdate leaves the dictionary where it is
	FeaturePSKOrder        Feature = "psk_order"        // commits PSKs by reference and by value together
	FeatureAppDataUpdate   Feature = "app_data_update"
	FeatureSelfRemove      Feature = "self_remove"
	FeatureReInit          Feature = "reinit"          // RFC 9420 §11.2, both sides
	FeatureEnds            Feature = "ends"            // sends nothing in a group that a ReInit ended (RFC 9420 §12.4.2)
	FeatureReInitBlank     Feature = "reinit_blank"    // FeatureReInit for a group whose tree has blank leaves too
	FeatureReInitRequired  Feature = "reinit_required" // FeatureReInit with required_capabilities
	FeatureBranch          Feature = "branch"          // RFC 9420 §11.3, both sides
)

// Capabilities says what a peer is and has.
type Capabilities struct {
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Crypto   string    `json:"crypto"`
	Suites   []uint16  `json:"suites"`
	Features []Feature `json:"features"`
}

// ClientOptions says how a new client behaves.
type ClientOptions struct {
	TreeExtension bool // ratchet_tree in Welcome and GroupInfo, else the tree travels beside them
	Private       bool // handshakes as PrivateMessage
	AlwaysPath    bool // a path in every commit, also where RFC 9420 §12.4 wants none
}

// An Extension of the GroupContext.
type Extension struct {
	Type uint16 `json:"type"`
	Data []byte `json:"data"`
}

// ProposalKind names what a [Proposal] proposes.
type ProposalKind string

// The kinds of proposals.
const (
	KindAdd                    ProposalKind = "add"
	KindRemove                 ProposalKind = "remove"
	KindUpdate                 ProposalKind = "update" // by reference only
	KindPSK                    ProposalKind = "psk"    // external
	KindGroupContextExtensions ProposalKind = "group_context_extensions"
	KindCustom                 ProposalKind = "custom"
	KindAppDataUpdate          ProposalKind = "app_data_update" // nil Update removes the component
	KindSelfRemove             ProposalKind = "self_remove"     // by reference only
	KindReInit                 ProposalKind = "reinit"
)

// A Proposal to make; the fields that its kind needs are set.
type Proposal struct {
	Kind       ProposalKind `json:"kind"`
	KeyPackage []byte       `json:"key_package,omitempty"` // MLSMessage
	Index      uint32       `json:"index"`
	PSKID      []byte       `json:"psk_id,omitempty"`
	Extensions []Extension  `json:"extensions"`
	Data       []byte       `json:"data"`
	Component  uint16       `json:"component"`
	Update     []byte       `json:"update"`
	GroupID    []byte       `json:"group_id,omitempty"`
	Suite      uint16       `json:"suite,omitempty"`
}

// Following says how a group follows the one that a client has (RFC 9420 §11): by the ReInit that
// ended it, or as a branch of it, which keeps its GroupContext extensions.
type Following struct {
	Branch      bool     `json:"branch"`
	GroupID     []byte   `json:"group_id,omitempty"`     // of a branch
	KeyPackages [][]byte `json:"key_packages,omitempty"` // MLSMessages, of everybody else
}

// Committed is what a commit gives to others.
type Committed struct {
	Commit      []byte `json:"commit"`       // MLSMessage
	Welcome     []byte `json:"welcome"`      // MLSMessage, nil if nobody was added
	RatchetTree []byte `json:"ratchet_tree"` // of the new epoch; nil if the Welcome has it
}

// GroupInfo is what an external joiner needs.
type GroupInfo struct {
	GroupInfo   []byte `json:"group_info"`   // MLSMessage
	RatchetTree []byte `json:"ratchet_tree"` // nil if the GroupInfo has it
}

// Processed says what a message was.
type Processed struct {
	Kind    string `json:"kind"`    // "proposal", "commit" or "application"
	Removed bool   `json:"removed"` // the commit removed the receiver
	Data    []byte `json:"data"`    // of an application message
	AAD     []byte `json:"aad"`     // of an application message
}

// A Member of the group.
type Member struct {
	Index    uint32 `json:"index"`
	Identity []byte `json:"identity"` // of its basic credential: the client's name
}

// State is a client's view of its group.
type State struct {
	Epoch              uint64      `json:"epoch"`
	OwnIndex           uint32      `json:"own_index"`
	EpochAuthenticator []byte      `json:"epoch_authenticator"`
	Members            []Member    `json:"members"`
	Extensions         []Extension `json:"extensions"`
}

// A Peer is one implementation and its clients, each with at most one group. Messages are encoded
// MLSMessages. Whoever makes a proposal or a commit is not handed it again by Process.
type Peer interface {
	Capabilities() (Capabilities, error)
	NewClient(client string, suite uint16, options ClientOptions) error
	// KeyPackage gives one for the cipher suite of the client, or of the ReInit that ended its group.
	KeyPackage(client string) ([]byte, error)
	CreateGroup(client string, groupID []byte) error
	Propose(client string, p Proposal) ([]byte, error)
	// Commit covers the given proposals and all pending ones; it pends until Merge or Discard.
	Commit(client string, proposals []Proposal) (Committed, error)
	Merge(client string) error
	Discard(client string) error
	Join(client string, welcome, tree []byte) error
	// Follow makes a group that follows the client's, and counts its commit as accepted: the client is
	// in the new group then. Everybody who is given a KeyPackage joins with JoinFollowing.
	Follow(client string, f Following) (Committed, error)
	JoinFollowing(client string, branch bool, welcome, tree []byte) error
	GroupInfo(client string) (GroupInfo, error)
	// JoinExternal gives the commit and counts it as accepted. remove, unless nil, is the client's
	// own old leaf.
	JoinExternal(client string, groupInfo, tree []byte, remove *uint32) ([]byte, error)
	Process(client string, message []byte) (Processed, error)
	Encrypt(client string, data, aad []byte) ([]byte, error)
	Export(client, label string, context []byte, length int) ([]byte, error)
	State(client string) (State, error)
	PSK(client string, id, psk []byte) error
	// Forget drops the client's group; the client can join again.
	Forget(client string) error
}
