package interop

import (
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// Comity is package mls as a peer, in this process.
type Comity struct {
	clients map[string]*comityClient
}

type comityClient struct {
	suite    suite.Suite
	leaf     mls.LeafOptions
	options  ClientOptions
	packages map[string]*mls.KeyPackageSecrets // by reference
	psks     pskStore
	group    *mls.Group
	stored   map[string][]byte // records of the group
	staged   *mls.StagedCommit
}

type pskStore map[string][]byte

// PSK implements [mls.PSKStore] for external PSKs.
func (s pskStore) PSK(id *mls.PreSharedKeyID) ([]byte, error) {
	psk, ok := s[string(id.PSKID)]
	if !ok || id.Type != mls.PSKExternal {
		return nil, mls.ErrNoPSK
	}
	return psk, nil
}

// comityRules gives AppDataUpdate the meaning that the protocol says: the last one replaces the
// component's data.
type comityRules struct{ mls.DefaultRules }

func (comityRules) KnowsComponent(mls.ComponentID) bool { return true }

func (comityRules) UpdateComponent(_ mls.ComponentID, _ []byte, _ bool, updates []mls.ResolvedProposal, _ *mls.Changes) ([]byte, error) {
	return updates[len(updates)-1].AppDataUpdate.Update, nil
}

// NewComity gives the peer with no client yet.
func NewComity() *Comity { return &Comity{clients: map[string]*comityClient{}} }

// Capabilities implements [Peer].
func (*Comity) Capabilities() (Capabilities, error) {
	return Capabilities{
		Name: "comity", Version: "this tree", Crypto: "Go", Suites: []uint16{1, 2, 3},
		Features: []Feature{
			FeatureUpdate, FeaturePSK, FeaturePrivate, FeatureGroupContext, FeatureFreeContext, FeatureCustom,
			FeatureResync, FeaturePath, FeatureRemoval, FeatureHalfTree, FeatureExternalSenders, FeatureEmptyContext, FeatureDictionaryPlace, FeaturePSKOrder, FeatureAppDataUpdate, FeatureSelfRemove,
			FeatureReInit, FeatureEnds, FeatureReInitBlank, FeatureReInitRequired, FeatureBranch,
		},
	}, nil
}

func (p *Comity) client(name string) (*comityClient, error) {
	c, ok := p.clients[name]
	if !ok {
		return nil, fmt.Errorf("interop: no client %s", name)
	}
	return c, nil
}

func (p *Comity) member(name string) (*comityClient, error) {
	c, err := p.client(name)
	if err == nil && c.group == nil {
		err = fmt.Errorf("interop: %s has no group", name)
	}
	return c, err
}

func (c *comityClient) config() mls.Config { return comityConfig(c.psks) }

func comityConfig(psks mls.PSKStore) mls.Config {
	return mls.Config{
		Rules:           comityRules{},
		PSKs:            psks,
		CustomProposals: map[mls.ProposalType]mls.CustomProposal{mls.ProposalType(OpaqueProposal): {}},
	}
}

func (c *comityClient) wireFormat() mls.WireFormat {
	if c.options.Private {
		return mls.WireFormatPrivateMessage
	}
	return mls.WireFormatPublicMessage
}

func lifetime() mls.Lifetime {
	now := uint64(time.Now().Unix())
	return mls.Lifetime{NotBefore: now - 3600, NotAfter: now + 30*24*3600}
}

// NewClient implements [Peer].
func (p *Comity) NewClient(client string, id uint16, options ClientOptions) error {
	s, ok := suite.Lookup(suite.ID(id))
	if !ok {
		return fmt.Errorf("interop: suite %d", id)
	}
	signer, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		return err
	}
	capabilities, err := mls.Capabilities{
		Versions:     []mls.ProtocolVersion{mls.MLS10},
		CipherSuites: []mls.CipherSuite{1, 2, 3},
		Extensions:   []mls.ExtensionType{mls.ExtensionAppDataDictionary, mls.ExtensionType(OpaqueExtension)},
		Proposals:    []mls.ProposalType{mls.ProposalAppDataUpdate, mls.ProposalSelfRemove, mls.ProposalType(OpaqueProposal)},
		Credentials:  []mls.CredentialType{mls.CredentialBasic},
	}.WithGREASE(rand.Reader)
	if err != nil {
		return err
	}
	p.clients[client] = &comityClient{
		suite: s,
		leaf: mls.LeafOptions{
			Credential: mls.BasicCredential([]byte(client)), Capabilities: capabilities, Signer: signer,
		},
		options: options, packages: map[string]*mls.KeyPackageSecrets{}, psks: pskStore{},
	}
	return nil
}

func encode(v tlspl.Coder) ([]byte, error) {
	m := mls.Message(v)
	return tlspl.Marshal(&m)
}

func decode(b []byte) (*mls.MLSMessage, error) {
	m := new(mls.MLSMessage)
	return m, tlspl.Unmarshal(b, m)
}

// KeyPackage implements [Peer].
func (p *Comity) KeyPackage(client string) ([]byte, error) {
	c, err := p.client(client)
	if err != nil {
		return nil, err
	}
	id := c.suite.ID()
	if c.group != nil && c.group.Public().ReInit() != nil {
		id = c.group.Public().ReInit().CipherSuite
	}
	k, err := mls.NewKeyPackage(rand.Reader, mls.KeyPackageOptions{
		CipherSuite: id, Leaf: c.leaf, Lifetime: lifetime(),
	})
	if err != nil {
		return nil, err
	}
	ref, err := k.KeyPackage.Ref()
	if err != nil {
		return nil, err
	}
	c.packages[string(ref)] = k
	return encode(&k.KeyPackage)
}

// CreateGroup implements [Peer].
func (p *Comity) CreateGroup(client string, groupID []byte) error {
	c, err := p.client(client)
	if err != nil {
		return err
	}
	c.stored = nil
	c.group, err = mls.CreateGroup(rand.Reader, c.config(), mls.GroupOptions{
		GroupID: groupID, CipherSuite: c.suite.ID(), Leaf: c.leaf, Lifetime: lifetime(),
	})
	return err
}

func extensions(list []Extension) (out mls.Extensions) {
	for _, e := range list {
		out = append(out, mls.Extension{Type: mls.ExtensionType(e.Type), Data: e.Data})
	}
	return out
}

func (c *comityClient) proposal(p Proposal) (mls.Proposal, error) {
	switch p.Kind {
	case KindAdd:
		m, err := decode(p.KeyPackage)
		if err != nil {
			return mls.Proposal{}, err
		}
		if m.KeyPackage == nil {
			return mls.Proposal{}, errors.New("interop: not a KeyPackage")
		}
		return mls.Proposal{Type: mls.ProposalAdd, Add: &mls.Add{KeyPackage: *m.KeyPackage}}, nil
	case KindRemove:
		return mls.Proposal{Type: mls.ProposalRemove, Remove: &mls.Remove{Removed: mls.LeafIndex(p.Index)}}, nil
	case KindPSK:
		id, err := mls.ExternalPSKID(rand.Reader, c.suite, p.PSKID)
		return mls.Proposal{Type: mls.ProposalPSK, PreSharedKey: &mls.PreSharedKey{PSK: id}}, err
	case KindGroupContextExtensions:
		return mls.Proposal{
			Type:                   mls.ProposalGroupContextExtensions,
			GroupContextExtensions: &mls.GroupContextExtensions{Extensions: extensions(p.Extensions)},
		}, nil
	case KindCustom:
		return mls.Proposal{Type: mls.ProposalType(OpaqueProposal), Custom: p.Data}, nil
	case KindAppDataUpdate:
		u := &mls.AppDataUpdate{ComponentID: mls.ComponentID(p.Component), Op: mls.AppDataOpUpdate, Update: p.Update}
		if p.Update == nil {
			u.Op = mls.AppDataOpRemove
		}
		return mls.Proposal{Type: mls.ProposalAppDataUpdate, AppDataUpdate: u}, nil
	case KindSelfRemove:
		return mls.Proposal{Type: mls.ProposalSelfRemove}, nil
	case KindReInit:
		return mls.Proposal{Type: mls.ProposalReInit, ReInit: &mls.ReInit{
			GroupID: p.GroupID, Version: mls.MLS10, CipherSuite: mls.CipherSuite(p.Suite), Extensions: extensions(p.Extensions),
		}}, nil
	}
	return mls.Proposal{}, fmt.Errorf("interop: unsupported proposal %s", p.Kind)
}

// Propose implements [Peer].
func (p *Comity) Propose(client string, proposal Proposal) ([]byte, error) {
	c, err := p.member(client)
	if err != nil {
		return nil, err
	}
	send := mls.SendOptions{WireFormat: c.wireFormat()}
	if proposal.Kind == KindUpdate {
		m, err := c.group.ProposeUpdate(rand.Reader, nil, send)
		if err != nil {
			return nil, err
		}
		return tlspl.Marshal(m)
	}
	if proposal.Kind == KindSelfRemove {
		send.WireFormat = mls.WireFormatPublicMessage // MLS extensions §6.3: never a PrivateMessage
	}
	made, err := c.proposal(proposal)
	if err != nil {
		return nil, err
	}
	m, err := c.group.Propose(rand.Reader, made, send)
	if err != nil {
		return nil, err
	}
	return tlspl.Marshal(m)
}

// Commit implements [Peer].
func (p *Comity) Commit(client string, proposals []Proposal) (Committed, error) {
	c, err := p.member(client)
	if err != nil {
		return Committed{}, err
	}
	o := mls.CommitOptions{
		AllPending: true, WireFormat: c.wireFormat(), OmitPath: !c.options.AlwaysPath,
		WelcomeTree: c.options.TreeExtension, OmitGroupInfo: true, Now: uint64(time.Now().Unix()),
	}
	for _, proposal := range proposals {
		made, err := c.proposal(proposal)
		if err != nil {
			return Committed{}, err
		}
		o.Proposals = append(o.Proposals, made)
	}
	staged, err := c.group.Stage(rand.Reader, o)
	if err != nil {
		return Committed{}, err
	}
	var out Committed
	if out.Commit, err = tlspl.Marshal(staged.Message()); err != nil {
		return Committed{}, err
	}
	if w := staged.Welcome(); w != nil {
		if out.Welcome, err = encode(w); err != nil {
			return Committed{}, err
		}
	}
	if !c.options.TreeExtension {
		out.RatchetTree = staged.Tree().Bytes()
	}
	c.staged = staged
	return out, nil
}

// Merge implements [Peer].
func (p *Comity) Merge(client string) error {
	c, err := p.member(client)
	if err != nil {
		return err
	}
	staged := c.staged
	c.staged = nil
	return c.group.Merge(staged)
}

// Discard implements [Peer].
func (p *Comity) Discard(client string) error {
	c, err := p.member(client)
	if err != nil {
		return err
	}
	c.staged.Drop()
	c.staged = nil
	return nil
}

// Follow implements [Peer].
func (p *Comity) Follow(client string, f Following) (Committed, error) {
	c, err := p.member(client)
	if err != nil {
		return Committed{}, err
	}
	o := mls.FollowOptions{Leaf: c.leaf, Lifetime: lifetime(), Commit: mls.CommitOptions{
		WireFormat: c.wireFormat(), OmitPath: !c.options.AlwaysPath, WelcomeTree: c.options.TreeExtension, OmitGroupInfo: true,
	}}
	for _, octets := range f.KeyPackages {
		m, err := decode(octets)
		if err != nil {
			return Committed{}, err
		}
		if m.KeyPackage == nil {
			return Committed{}, errors.New("interop: not a KeyPackage")
		}
		o.Members = append(o.Members, *m.KeyPackage)
	}
	var next *mls.Group
	var staged *mls.StagedCommit
	if f.Branch {
		next, staged, err = c.group.Branch(rand.Reader, c.config(), f.GroupID, c.group.Context().Extensions, o)
	} else {
		next, staged, err = c.group.ReInitGroup(rand.Reader, c.config(), o)
	}
	if err != nil {
		return Committed{}, err
	}
	if err := next.Merge(staged); err != nil {
		return Committed{}, err
	}
	c.group, c.suite, c.stored = next, next.Suite(), nil
	var out Committed
	if out.Commit, err = tlspl.Marshal(staged.Message()); err != nil {
		return Committed{}, err
	}
	if staged.Welcome() == nil {
		return Committed{}, errors.New("interop: nobody to bring in")
	}
	if out.Welcome, err = encode(staged.Welcome()); err != nil {
		return Committed{}, err
	}
	if !c.options.TreeExtension {
		out.RatchetTree = next.Tree().Bytes()
	}
	return out, nil
}

// JoinFollowing implements [Peer].
func (p *Comity) JoinFollowing(client string, _ bool, welcome, tree []byte) error {
	c, err := p.member(client)
	if err != nil {
		return err
	}
	former := c.group
	if err := p.join(client, welcome, mls.JoinOptions{RatchetTree: tree, Former: former}); err != nil {
		return err
	}
	c.suite = c.group.Suite()
	return nil
}

// Join implements [Peer].
func (p *Comity) Join(client string, welcome, tree []byte) error {
	return p.join(client, welcome, mls.JoinOptions{RatchetTree: tree})
}

func (p *Comity) join(client string, welcome []byte, o mls.JoinOptions) error {
	c, err := p.client(client)
	if err != nil {
		return err
	}
	m, err := decode(welcome)
	if err != nil {
		return err
	}
	if m.Welcome == nil {
		return errors.New("interop: not a Welcome")
	}
	for ref, k := range c.packages {
		if _, ok := m.Welcome.Find(mls.KeyPackageRef(ref)); ok {
			g, err := mls.JoinWelcome(c.config(), m.Welcome, k, o)
			if err != nil {
				return err
			}
			delete(c.packages, ref)
			c.group, c.stored = g, nil
			return nil
		}
	}
	return fmt.Errorf("interop: no KeyPackage of %s in the Welcome", client)
}

// GroupInfo implements [Peer].
func (p *Comity) GroupInfo(client string) (GroupInfo, error) {
	c, err := p.member(client)
	if err != nil {
		return GroupInfo{}, err
	}
	info, err := c.group.GroupInfo(rand.Reader, c.options.TreeExtension)
	if err != nil {
		return GroupInfo{}, err
	}
	var out GroupInfo
	if out.GroupInfo, err = encode(info); err != nil {
		return GroupInfo{}, err
	}
	if !c.options.TreeExtension {
		out.RatchetTree = c.group.Tree().Bytes()
	}
	return out, nil
}

// JoinExternal implements [Peer].
func (p *Comity) JoinExternal(client string, groupInfo, tree []byte, remove *uint32) ([]byte, error) {
	c, err := p.client(client)
	if err != nil {
		return nil, err
	}
	m, err := decode(groupInfo)
	if err != nil {
		return nil, err
	}
	if m.GroupInfo == nil {
		return nil, errors.New("interop: not a GroupInfo")
	}
	o := mls.ExternalCommitOptions{RatchetTree: tree, Leaf: c.leaf}
	if remove != nil {
		o.Remove = (*mls.LeafIndex)(remove)
	}
	staged, err := mls.StageExternalCommit(rand.Reader, c.config(), m.GroupInfo, o)
	if err != nil {
		return nil, err
	}
	c.group, c.stored = staged.Group(), nil
	return tlspl.Marshal(staged.Message())
}

// Process implements [Peer].
func (p *Comity) Process(client string, message []byte) (Processed, error) {
	c, err := p.member(client)
	if err != nil {
		return Processed{}, err
	}
	m, err := decode(message)
	if err != nil {
		return Processed{}, err
	}
	kind, ok := m.ContentType()
	if !ok {
		return Processed{}, errors.New("interop: not a framed message")
	}
	switch kind {
	case mls.ContentProposal:
		_, err := c.group.ReceiveProposal(m)
		return Processed{Kind: "proposal"}, err
	case mls.ContentCommit:
		staged, err := c.group.StageReceived(m)
		if err != nil {
			return Processed{}, err
		}
		return Processed{Kind: "commit", Removed: staged.Removed()}, c.group.Merge(staged)
	default:
		got, err := c.group.Decrypt(m)
		if err != nil {
			return Processed{}, err
		}
		return Processed{Kind: "application", Data: got.Data, AAD: got.AuthenticatedData}, nil
	}
}

// Encrypt implements [Peer].
func (p *Comity) Encrypt(client string, data, aad []byte) ([]byte, error) {
	c, err := p.member(client)
	if err != nil {
		return nil, err
	}
	m, err := c.group.Encrypt(rand.Reader, data, aad)
	if err != nil {
		return nil, err
	}
	return tlspl.Marshal(m)
}

// Export implements [Peer].
func (p *Comity) Export(client, label string, context []byte, length int) ([]byte, error) {
	c, err := p.member(client)
	if err != nil {
		return nil, err
	}
	return c.group.Export(label, context, length)
}

// State implements [Peer].
func (p *Comity) State(client string) (State, error) {
	c, err := p.member(client)
	if err != nil {
		return State{}, err
	}
	s := State{
		Epoch: uint64(c.group.Epoch()), OwnIndex: uint32(c.group.OwnLeaf()), EpochAuthenticator: c.group.EpochAuthenticator(),
	}
	for i, leaf := range c.group.Tree().Leaves() {
		s.Members = append(s.Members, Member{uint32(i), leaf.Credential.Identity})
	}
	for _, e := range c.group.Context().Extensions {
		s.Extensions = append(s.Extensions, Extension{uint16(e.Type), e.Data})
	}
	return s, nil
}

// PSK implements [Peer].
func (p *Comity) PSK(client string, id, psk []byte) error {
	c, err := p.client(client)
	if err != nil {
		return err
	}
	c.psks[string(id)] = psk
	return nil
}

// Forget implements [Peer].
func (p *Comity) Forget(client string) error {
	c, err := p.client(client)
	if err != nil {
		return err
	}
	c.group, c.staged, c.stored = nil, nil, nil
	return nil
}

// Restart stores what changed of the client's group, and loads the group again.
func (p *Comity) Restart(client string) error {
	c, err := p.member(client)
	if err != nil {
		return err
	}
	records, err := c.group.Flush()
	if err != nil {
		return err
	}
	if c.stored == nil {
		c.stored = map[string][]byte{}
	}
	store(c.stored, records)
	c.group, err = mls.LoadGroup(c.config(), recordsOf(c.stored))
	return err
}

func store(stored map[string][]byte, records []mls.Record) {
	for _, r := range records {
		if r.Value == nil {
			delete(stored, string(r.Key))
		} else {
			stored[string(r.Key)] = r.Value
		}
	}
}

func recordsOf(stored map[string][]byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for k, v := range stored {
			if !yield([]byte(k), v) {
				return
			}
		}
	}
}
