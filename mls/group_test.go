package mls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

const testSuite = suite.X25519AES128GCMSHA256Ed25519

var testCapabilities = Capabilities{
	Versions: []ProtocolVersion{MLS10}, CipherSuites: []CipherSuite{testSuite},
	Extensions: []ExtensionType{ExtensionAppDataDictionary, ExtensionSupportedWireFormats, ExtensionRequiredWireFormats, ExtensionExternalReceivers},
	Proposals:  []ProposalType{ProposalAppDataUpdate, ProposalAppEphemeral, ProposalSelfRemove, 0xf001}, Credentials: []CredentialType{CredentialBasic},
}

// A client is a user's device in tests.
type client struct {
	name   string
	leaf   LeafOptions
	keys   *KeyPackageSecrets
	group  *Group
	config Config
	store  memoryStore
}

// memoryStore is a store of records.
type memoryStore map[string][]byte

// save applies records and returns how many octets they take.
func (m memoryStore) save(list []Record) (size int) {
	for _, r := range list {
		size += len(r.Key) + len(r.Value)
		if r.Value == nil {
			delete(m, string(r.Key))
		} else {
			m[string(r.Key)] = bytes.Clone(r.Value)
		}
	}
	return size
}

func (m memoryStore) all(yield func(key, value []byte) bool) {
	for k, v := range m {
		if !yield([]byte(k), v) {
			return
		}
	}
}

// restart stores the client's group and loads it again.
func (c *client) restart(t testing.TB) {
	t.Helper()
	if c.store == nil {
		c.store = memoryStore{}
	}
	list, err := c.group.Flush()
	if err != nil {
		t.Fatal(err)
	}
	c.store.save(list)
	loaded, err := LoadGroup(c.config, c.store.all)
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	if again, err := loaded.Flush(); err != nil || len(again) != 0 {
		t.Fatalf("%s: a loaded group flushes %d records, %v", c.name, len(again), err)
	}
	*c.group = *loaded
}

func newClient(t testing.TB, name string) *client {
	t.Helper()
	s, _ := suite.Lookup(testSuite)
	signer, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{name: name, leaf: LeafOptions{Credential: BasicCredential([]byte(name)), Capabilities: testCapabilities, Signer: signer}}
	c.config = Config{Rules: testRules{}, PastEpochs: 2, CustomProposals: map[ProposalType]CustomProposal{0xf001: {External: true}}}
	return c
}

// testRules knows component 0xf000, whose updates are appended.
type testRules struct{ DefaultRules }

func (testRules) KnowsComponent(id ComponentID) bool { return id >= 0xf000 }

var errRefused = errors.New("refused")

func (testRules) VerifyCredential(leaf *LeafNode) error {
	if string(leaf.Credential.Identity) == "impostor" {
		return errRefused
	}
	return nil
}

func (testRules) Judge(c *Changes) error {
	for _, p := range c.Proposals {
		if p.Type == ProposalAppEphemeral && string(p.AppEphemeral.Data) == "refuse" {
			return errRefused
		}
	}
	return nil
}

func (testRules) UpdateComponent(_ ComponentID, old []byte, _ bool, updates []ResolvedProposal, _ *Changes) ([]byte, error) {
	out := bytes.Clone(old)
	for _, u := range updates {
		if string(u.AppDataUpdate.Update) == "refuse" {
			return nil, errRefused
		}
		out = append(out, u.AppDataUpdate.Update...)
	}
	return out, nil
}

func (c *client) keyPackage(t testing.TB) KeyPackage {
	t.Helper()
	keys, err := NewKeyPackage(rand.Reader, KeyPackageOptions{CipherSuite: testSuite, Leaf: c.leaf, Lifetime: Lifetime{1, 1 << 40}})
	if err != nil {
		t.Fatal(err)
	}
	c.keys = keys
	return keys.KeyPackage
}

func (c *client) create(t testing.TB, e Extensions) {
	t.Helper()
	g, err := CreateGroup(rand.Reader, c.config, GroupOptions{CipherSuite: testSuite, Extensions: e, Leaf: c.leaf, Lifetime: Lifetime{1, 1 << 40}})
	if err != nil {
		t.Fatal(err)
	}
	c.group = g
}

func add(k KeyPackage) Proposal { return Proposal{Type: ProposalAdd, Add: &Add{k}} }

func remove(i LeafIndex) Proposal { return Proposal{Type: ProposalRemove, Remove: &Remove{i}} }

// A room is a set of clients with a hub that follows them.
type room struct {
	t       testing.TB
	clients []*client
	hub     *PublicGroup
	store   memoryStore // of the hub
}

// restart stores everybody's state and loads it again.
func (r *room) restart() {
	r.t.Helper()
	for _, c := range r.clients {
		c.restart(r.t)
	}
	if r.store == nil {
		r.store = memoryStore{}
	}
	list, err := r.hub.Flush()
	if err != nil {
		r.t.Fatal(err)
	}
	r.store.save(list)
	loaded, err := LoadPublicGroup(r.hub.cfg, r.store.all)
	if err != nil {
		r.t.Fatal(err)
	}
	*r.hub = *loaded
	if again, err := r.hub.Flush(); err != nil || len(again) != 0 {
		r.t.Fatalf("a loaded hub flushes %d records, %v", len(again), err)
	}
}

func newRoom(t testing.TB, e Extensions, names ...string) *room {
	t.Helper()
	r := &room{t: t}
	first := newClient(t, names[0])
	first.create(t, e)
	r.clients = []*client{first}
	info, err := first.group.GroupInfo(rand.Reader, false)
	if err != nil {
		t.Fatal(err)
	}
	if r.hub, err = NewPublicGroup(first.config, wire(t, info), first.group.Tree().Bytes()); err != nil {
		t.Fatal(err)
	}
	var adds []Proposal
	var joiners []*client
	for _, name := range names[1:] {
		c := newClient(t, name)
		adds = append(adds, add(c.keyPackage(t)))
		joiners = append(joiners, c)
	}
	if len(adds) > 0 {
		r.commit(first, CommitOptions{Proposals: adds}, joiners...)
	}
	return r
}

// wire takes a value over the wire.
func wire[T any, P interface {
	*T
	tlspl.Coder
}](t testing.TB, v P) P {
	t.Helper()
	out := P(new(T))
	if err := tlspl.Unmarshal(marshal(v), out); err != nil {
		t.Fatal(err)
	}
	return out
}

// commit has a client commit, and the hub and all others follow. Joiners enter
// by the Welcome.
func (r *room) commit(by *client, o CommitOptions, joiners ...*client) *StagedCommit {
	r.t.Helper()
	staged, err := by.group.Stage(rand.Reader, o)
	if err != nil {
		r.t.Fatalf("%s: %v", by.name, err)
	}
	// The committer restarts while the commit is on its way.
	stored, err := staged.Marshal()
	if err != nil {
		r.t.Fatal(err)
	}
	by.restart(r.t)
	if staged, err = by.group.LoadStaged(stored); err != nil {
		r.t.Fatal(err)
	}
	r.deliver(by, staged.Message(), staged.GroupInfo())
	if err := by.group.Merge(staged); err != nil {
		r.t.Fatal(err)
	}
	if _, err := by.group.LoadStaged(stored); by.group.Active() && !errors.Is(err, ErrStale) {
		r.t.Fatalf("staged commit of the epoch before: %v", err)
	}
	for _, c := range joiners {
		g, err := JoinWelcome(c.config, wire(r.t, staged.Welcome()), c.keys, JoinOptions{RatchetTree: r.hub.Tree().Bytes()})
		if err != nil {
			r.t.Fatalf("%s joins: %v", c.name, err)
		}
		c.group = g
		r.clients = append(r.clients, c)
	}
	r.check()
	return staged
}

// deliver gives a commit to the hub and to all clients but its sender.
func (r *room) deliver(by *client, m *MLSMessage, info *GroupInfo) {
	r.t.Helper()
	if m.WireFormat != WireFormatPrivateMessage {
		staged, err := r.hub.Stage(wire(r.t, m))
		if err != nil {
			r.t.Fatalf("hub: %v", err)
		}
		partial := wire(r.t, info).Partial()
		rebuilt, err := staged.GroupInfo(&partial)
		if err != nil {
			r.t.Fatalf("hub: %v", err)
		}
		if !bytes.Equal(marshal(rebuilt), marshal(info)) {
			r.t.Fatal("hub rebuilt another GroupInfo")
		}
		if err := staged.VerifyGroupInfo(wire(r.t, info)); err != nil {
			r.t.Fatalf("hub: %v", err)
		}
		if err := r.hub.Merge(staged); err != nil {
			r.t.Fatal(err)
		}
	}
	for i := 0; i < len(r.clients); i++ {
		c := r.clients[i]
		if c == by {
			continue
		}
		staged, err := c.group.StageReceived(wire(r.t, m))
		if err != nil {
			r.t.Fatalf("%s receives: %v", c.name, err)
		}
		if err := c.group.Merge(staged); err != nil {
			r.t.Fatal(err)
		}
		if c.group.Removed() {
			r.clients = append(r.clients[:i], r.clients[i+1:]...)
			i--
		}
	}
}

// propose has a client propose, and the hub and all others receive it.
func (r *room) propose(by *client, m *MLSMessage, err error) ProposalRef {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	var ref ProposalRef
	if m.WireFormat != WireFormatPrivateMessage {
		p, err := r.hub.ReceiveProposal(wire(r.t, m))
		if err != nil {
			r.t.Fatalf("hub: %v", err)
		}
		ref = p.Ref
	}
	for _, c := range r.clients {
		if c == by {
			continue
		}
		p, err := c.group.ReceiveProposal(wire(r.t, m))
		if err != nil {
			r.t.Fatalf("%s: %v", c.name, err)
		}
		ref = p.Ref
	}
	return ref
}

// check verifies that all agree, and that everybody can talk to everybody.
func (r *room) check() {
	r.t.Helper()
	r.restart()
	first := r.clients[0].group
	for _, c := range r.clients {
		if !bytes.Equal(c.group.EpochAuthenticator(), first.EpochAuthenticator()) {
			r.t.Fatalf("%s is in another state than %s", c.name, r.clients[0].name)
		}
		if err := c.group.private.Check(c.group.Tree()); err != nil {
			r.t.Fatalf("%s: %v", c.name, err)
		}
	}
	if !bytes.Equal(r.hub.state.encoded, first.public.state.encoded) {
		r.t.Fatal("hub has another GroupContext")
	}
	if !first.Active() || len(first.Pending()) > 0 {
		return
	}
	var aad []byte
	if first.public.state.params.safeAAD != nil {
		aad = []byte{0}
	}
	for _, from := range r.clients {
		text := fmt.Sprintf("from %s in epoch %d", from.name, from.group.Epoch())
		m, err := from.group.Encrypt(rand.Reader, []byte(text), aad)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, to := range r.clients {
			if to == from {
				continue
			}
			got, err := to.group.Decrypt(wire(r.t, m))
			if err != nil {
				r.t.Fatalf("%s to %s: %v", from.name, to.name, err)
			}
			if string(got.Data) != text || got.Sender != from.group.OwnLeaf() {
				r.t.Fatalf("%s read %q from leaf %d", to.name, got.Data, got.Sender)
			}
			if _, err := to.group.Decrypt(wire(r.t, m)); !errors.Is(err, ErrGenerationConsumed) {
				r.t.Fatalf("read twice: %v", err)
			}
		}
	}
}

func TestGroup(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob", "carol", "dave", "eve")
	alice, bob, carol, dave := r.clients[0], r.clients[1], r.clients[2], r.clients[3]
	r.commit(bob, CommitOptions{})
	r.commit(alice, CommitOptions{Proposals: []Proposal{remove(carol.group.OwnLeaf())}})
	if !carol.group.Removed() || carol.group.Active() {
		t.Error("carol does not know that she was removed")
	}
	m, err := dave.group.ProposeUpdate(rand.Reader, nil, SendOptions{})
	r.propose(dave, m, err)
	r.commit(bob, CommitOptions{AllPending: true})
	frank := newClient(t, "frank")
	r.commit(dave, CommitOptions{Proposals: []Proposal{add(frank.keyPackage(t))}, OmitPath: true}, frank)
	if frank.group.OwnLeaf() != 2 {
		t.Errorf("frank is at leaf %d, want the blank one", frank.group.OwnLeaf())
	}
	r.commit(frank, CommitOptions{WireFormat: WireFormatPublicMessage})
}

func TestExternalCommit(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob")
	join := func(c *client, o ExternalCommitOptions) {
		t.Helper()
		info, err := r.clients[0].group.GroupInfo(rand.Reader, false)
		if err != nil {
			t.Fatal(err)
		}
		o.RatchetTree, o.Leaf = r.hub.Tree().Bytes(), c.leaf
		staged, err := StageExternalCommit(rand.Reader, c.config, wire(t, info), o)
		if err != nil {
			t.Fatal(err)
		}
		r.deliver(c, staged.Message(), staged.GroupInfo())
		c.group = staged.Group()
		r.clients = append(r.clients, c)
		r.check()
	}
	carol := newClient(t, "carol")
	join(carol, ExternalCommitOptions{})

	// Resync.
	bob := r.clients[1]
	old := bob.group.OwnLeaf()
	again := newClient(t, "bob")
	r.clients = []*client{r.clients[0], carol}
	join(again, ExternalCommitOptions{Remove: &old})

	// A SelfRemove is taken up by a joiner.
	m, err := carol.group.Propose(rand.Reader, Proposal{Type: ProposalSelfRemove}, SendOptions{})
	r.propose(carol, m, err)
	dave := newClient(t, "dave")
	join(dave, ExternalCommitOptions{SelfRemoves: []*MLSMessage{m}})
	if !carol.group.Removed() {
		t.Error("carol is still in")
	}
	r.commit(dave, CommitOptions{})
}
