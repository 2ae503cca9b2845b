package mls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"sync"
	"testing"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

func TestPastEpochs(t *testing.T) {
	r := newRoom(t, Extensions{{ExtensionRequiredCapabilities, marshal(&RequiredCapabilities{})}}, "alice", "bob", "carol")
	alice, bob, carol := r.clients[0], r.clients[1], r.clients[2]
	encrypt := func(c *client, text string) *MLSMessage {
		t.Helper()
		m, err := c.group.Encrypt(rand.Reader, []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	late := encrypt(alice, "late")
	later := encrypt(carol, "later")
	tooLate := encrypt(alice, "too late")
	// Alice gets a new signature key, the extensions change, carol leaves and
	// somebody takes her leaf.
	s, _ := suite.Lookup(testSuite)
	signer, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	alice.leaf.Signer = signer
	e := Extensions{{ExtensionRequiredCapabilities, marshal(&RequiredCapabilities{ProposalTypes: []ProposalType{ProposalSelfRemove}})}}
	dave := newClient(t, "dave")
	r.commit(alice, CommitOptions{Leaf: &alice.leaf, Proposals: []Proposal{
		{Type: ProposalGroupContextExtensions, GroupContextExtensions: &GroupContextExtensions{e}},
		remove(carol.group.OwnLeaf()), add(dave.keyPackage(t)),
	}}, dave)
	if !bytes.Equal(alice.group.Signer().Public(), signer.Public()) {
		t.Error("alice has the old signature key")
	}
	for want, m := range map[string]*MLSMessage{"late": late, "later": later} {
		got, err := bob.group.Decrypt(m)
		if err != nil || string(got.Data) != want {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := bob.group.Decrypt(m); !errors.Is(err, ErrGenerationConsumed) {
			t.Errorf("%s again: %v", want, err)
		}
	}
	r.commit(bob, CommitOptions{})
	r.commit(bob, CommitOptions{})
	var epoch *EpochError
	if _, err := bob.group.Decrypt(tooLate); !errors.As(err, &epoch) || epoch.Got != 1 || epoch.Want != 4 {
		t.Errorf("too late: %v", err)
	}
	for key := range bob.store {
		if len(key) == 9 && key[0] == keyPast && key[8] == 1 {
			t.Error("an epoch that was dropped is still stored")
		}
		if key[0] == keyMessages && key[8] == 1 {
			t.Error("message keys of an epoch that was dropped are still stored")
		}
	}
}

func TestProposalKinds(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob", "carol")
	alice, bob, carol := r.clients[0], r.clients[1], r.clients[2]
	psks := pskMap{"id": []byte("shared")}
	for _, c := range r.clients {
		c.config.PSKs = psks
		c.group.public.cfg.PSKs = psks
	}
	nonce := bytes.Repeat([]byte{7}, 32)
	// PSKs, by reference and by value: an external one, and one of a past epoch.
	m, err := bob.group.Propose(rand.Reader, Proposal{Type: ProposalPSK, PreSharedKey: &PreSharedKey{PreSharedKeyID{Type: PSKExternal, PSKID: []byte("id"), PSKNonce: nonce}}}, SendOptions{WireFormat: WireFormatPrivateMessage})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client{alice, carol} {
		if _, err := c.group.ReceiveProposal(wire(t, m)); err != nil {
			t.Fatal(err)
		}
	}
	r.restart()
	hub := r.hub
	staged, err := alice.group.Stage(rand.Reader, CommitOptions{AllPending: true, OmitPath: true, WireFormat: WireFormatPrivateMessage})
	if err != nil {
		t.Fatal(err)
	}
	r.deliver(alice, staged.Message(), nil)
	if err := alice.group.Merge(staged); err != nil {
		t.Fatal(err)
	}
	if hub.Epoch() != 1 || bob.group.Epoch() != 2 {
		t.Errorf("epochs %d, %d", hub.Epoch(), bob.group.Epoch())
	}
	// A hub that can't read what happened starts again.
	info, err := alice.group.GroupInfo(rand.Reader, true)
	if err != nil {
		t.Fatal(err)
	}
	if r.hub, err = NewPublicGroup(hub.cfg, wire(t, info), nil); err != nil {
		t.Fatal(err)
	}
	r.store = nil
	r.check()

	r.commit(bob, CommitOptions{Proposals: []Proposal{{Type: ProposalPSK, PreSharedKey: &PreSharedKey{PreSharedKeyID{
		Type: PSKResumption, Usage: UsageApplication, PSKGroupID: bob.group.GroupID(), PSKEpoch: bob.group.Epoch() - 1, PSKNonce: nonce,
	}}}}})
	r.commit(bob, CommitOptions{Proposals: []Proposal{
		{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{0xf000, AppDataOpUpdate, []byte("a")}},
		{Type: ProposalAppEphemeral, AppEphemeral: &AppEphemeral{0xf000, []byte("note")}},
		{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{0xf000, AppDataOpUpdate, []byte("b")}},
		{Type: 0xf001, Custom: []byte("mine")},
	}, OmitPath: true})
	if data, _ := carol.group.Dictionary().Find(0xf000); string(data) != "ab" {
		t.Errorf("component data %q", data)
	}
	m, err = carol.group.Propose(rand.Reader, Proposal{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{0xf000, AppDataOpRemove, nil}}, SendOptions{})
	r.propose(carol, m, err)
	m, err = carol.group.Propose(rand.Reader, Proposal{Type: ProposalSelfRemove}, SendOptions{})
	r.propose(carol, m, err)
	if _, err := alice.group.Encrypt(rand.Reader, nil, nil); !errors.Is(err, ErrPending) {
		t.Errorf("message before the commit: %v", err)
	}
	r.restart()
	r.commit(bob, CommitOptions{AllPending: true})
	if !carol.group.Removed() || r.hub.Tree().Members() != 2 {
		t.Error("carol is still in")
	}
	if d, ok, _ := bob.group.Context().Extensions.AppDataDictionary(); !ok || len(d) != 0 {
		t.Errorf("an emptied dictionary stays: %v, %v", d, ok)
	}
}

// A member whose Update another one commits goes on with the new keys, also
// after a restart.
func TestOwnUpdate(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob", "carol")
	alice, bob := r.clients[0], r.clients[1]
	s, _ := suite.Lookup(testSuite)
	signer, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bob.leaf.Signer = signer
	m, err := bob.group.ProposeUpdate(rand.Reader, &bob.leaf, SendOptions{})
	r.propose(bob, m, err)
	r.restart()
	var rule *RuleError
	if _, err := bob.group.Stage(rand.Reader, CommitOptions{References: []ProposalRef{bob.group.Pending()[0].Ref}}); !errors.As(err, &rule) || rule.Rule != RuleCommitterUpdate {
		t.Errorf("own Update: %v", err)
	}
	r.commit(alice, CommitOptions{AllPending: true})
	if !bytes.Equal(bob.group.Signer().Public(), signer.Public()) {
		t.Error("bob has the old signature key")
	}
	r.commit(bob, CommitOptions{})
}

func TestExternalProposals(t *testing.T) {
	s, _ := suite.Lookup(testSuite)
	hubKey, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	senders := ExternalSenders{{hubKey.Public(), BasicCredential([]byte("hub"))}}
	r := newRoom(t, Extensions{{ExtensionExternalSenders, marshal(&senders)}}, "alice", "bob", "carol")
	alice, carol := r.clients[0], r.clients[2]

	m, err := r.hub.ProposeExternal(rand.Reader, hubKey, remove(carol.group.OwnLeaf()), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.clients {
		if _, err := c.group.ReceiveProposal(wire(t, m)); err != nil {
			t.Fatal(err)
		}
	}
	dave := newClient(t, "dave")
	m, err = SignExternalProposal(rand.Reader, dave.leaf.Signer, r.hub.Context(), Sender{Type: SenderNewMemberProposal}, add(dave.keyPackage(t)), nil)
	r.propose(nil, m, err)
	r.commit(alice, CommitOptions{AllPending: true}, dave)
	if !carol.group.Removed() {
		t.Error("carol is still in")
	}

	var rule *RuleError
	if _, err := r.hub.ProposeExternal(rand.Reader, hubKey, Proposal{Type: ProposalSelfRemove}, nil); !errors.As(err, &rule) || rule.Rule != RuleProposalSender {
		t.Errorf("SelfRemove from outside: %v", err)
	}
	if _, err := r.hub.ProposeExternal(rand.Reader, dave.leaf.Signer, remove(0), nil); !errors.As(err, &rule) || rule.Rule != RuleProposalSender {
		t.Errorf("unknown key: %v", err)
	}
	forged, err := SignExternalProposal(rand.Reader, dave.leaf.Signer, r.hub.Context(), Sender{Type: SenderExternal}, remove(0), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alice.group.ReceiveProposal(forged); !errors.Is(err, suite.ErrSignature) {
		t.Errorf("forged: %v", err)
	}
}

func TestSemiPrivate(t *testing.T) {
	s, _ := suite.Lookup(testSuite)
	key, err := s.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	receivers := ExternalReceivers{{key.Public(), BasicCredential([]byte("hub"))}}
	formats := marshal(&WireFormats{[]WireFormat{WireFormatSemiPrivateMessage}})
	semi := func(c *client) { c.leaf.Extensions = Extensions{{ExtensionSupportedWireFormats, formats}} }
	alice, bob := newClient(t, "alice"), newClient(t, "bob")
	semi(alice)
	semi(bob)
	alice.create(t, Extensions{{ExtensionExternalReceivers, marshal(&receivers)}, {ExtensionRequiredWireFormats, formats}})
	info, err := alice.group.GroupInfo(rand.Reader, true)
	if err != nil {
		t.Fatal(err)
	}
	r := &room{t: t, clients: []*client{alice}}
	cfg := alice.config
	cfg.Receiver = &Receiver{receivers[0], key}
	if r.hub, err = NewPublicGroup(cfg, info, nil); err != nil {
		t.Fatal(err)
	}
	r.commit(alice, CommitOptions{Proposals: []Proposal{add(bob.keyPackage(t))}, WireFormat: WireFormatSemiPrivateMessage}, bob)
	m, err := alice.group.ProposeUpdate(rand.Reader, nil, SendOptions{WireFormat: WireFormatSemiPrivateMessage})
	r.propose(alice, m, err)
	r.commit(bob, CommitOptions{AllPending: true, WireFormat: WireFormatSemiPrivateMessage})
	carol := newClient(t, "carol")
	var rule *RuleError
	if _, err := alice.group.Stage(rand.Reader, CommitOptions{Proposals: []Proposal{add(carol.keyPackage(t))}}); !errors.As(err, &rule) || rule.Rule != RuleWireFormat {
		t.Errorf("a member without the wire format: %v", err)
	}
}

func TestReInit(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob", "carol")
	alice, bob, carol := r.clients[0], r.clients[1], r.clients[2]
	next := &ReInit{GroupID: []byte("next"), Version: MLS10, CipherSuite: testSuite, Extensions: Extensions{{ExtensionRequiredCapabilities, marshal(&RequiredCapabilities{})}}}
	m, err := carol.group.Propose(rand.Reader, Proposal{Type: ProposalReInit, ReInit: next}, SendOptions{})
	r.propose(carol, m, err)
	r.commit(alice, CommitOptions{AllPending: true})
	for _, c := range r.clients {
		if c.group.Active() || r.hub.ReInit() == nil {
			t.Errorf("%s can still use the group", c.name)
		}
	}
	if _, err := alice.group.Encrypt(rand.Reader, nil, nil); !errors.Is(err, ErrGroupClosed) {
		t.Errorf("message in a closed group: %v", err)
	}
	if _, err := alice.group.Stage(rand.Reader, CommitOptions{}); !errors.Is(err, ErrGroupClosed) {
		t.Errorf("commit in a closed group: %v", err)
	}
	members := []KeyPackage{alice.keyPackage(t), carol.keyPackage(t)}
	group, staged, err := bob.group.ReInitGroup(rand.Reader, bob.config, FollowOptions{Leaf: bob.leaf, Lifetime: Lifetime{1, 1 << 40}, Members: members})
	if err != nil {
		t.Fatal(err)
	}
	if err := group.Merge(staged); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client{alice, carol} {
		_, err := JoinWelcome(c.config, staged.Welcome(), c.keys, JoinOptions{RatchetTree: group.Tree().Bytes()})
		var rule *RuleError
		if !errors.As(err, &rule) || rule.Rule != RulePSKUnknown {
			t.Errorf("joins without the old group: %v", err)
		}
		joined, err := JoinWelcome(c.config, staged.Welcome(), c.keys, JoinOptions{RatchetTree: group.Tree().Bytes(), Former: c.group})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(joined.EpochAuthenticator(), group.EpochAuthenticator()) || joined.Epoch() != 1 {
			t.Error("another state")
		}
	}
	// Everybody must come along.
	_, _, err = bob.group.ReInitGroup(rand.Reader, bob.config, FollowOptions{Leaf: bob.leaf, Lifetime: Lifetime{1, 1 << 40}, Members: members[:1]})
	var rule *RuleError
	if !errors.As(err, &rule) || rule.Rule != RuleReInitWelcome {
		t.Errorf("a member is left behind: %v", err)
	}
}

func TestBranch(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob", "carol")
	alice, bob := r.clients[0], r.clients[1]
	o := FollowOptions{Leaf: alice.leaf, Lifetime: Lifetime{1, 1 << 40}, Members: []KeyPackage{bob.keyPackage(t)}}
	group, staged, err := alice.group.Branch(rand.Reader, alice.config, []byte("branch"), nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := group.Merge(staged); err != nil {
		t.Fatal(err)
	}
	joined, err := JoinWelcome(bob.config, staged.Welcome(), bob.keys, JoinOptions{RatchetTree: group.Tree().Bytes(), Former: bob.group})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(joined.EpochAuthenticator(), group.EpochAuthenticator()) {
		t.Error("another state")
	}
	o.Members = []KeyPackage{newClient(t, "stranger").keyPackage(t)}
	var rule *RuleError
	if _, _, err := alice.group.Branch(rand.Reader, alice.config, []byte("other"), nil, o); !errors.As(err, &rule) || rule.Rule != RuleBranchWelcome {
		t.Errorf("a stranger in a subgroup: %v", err)
	}
}

// Of pending proposals that don't go together a commit takes the ones that
// RFC 9420 §12.2 prefers.
func TestCommittable(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob", "carol", "dave")
	alice, bob, carol, dave := r.clients[0], r.clients[1], r.clients[2], r.clients[3]
	propose := func(c *client, p Proposal) {
		t.Helper()
		m, err := c.group.Propose(rand.Reader, p, SendOptions{})
		r.propose(c, m, err)
	}
	update := func(c *client) {
		t.Helper()
		m, err := c.group.ProposeUpdate(rand.Reader, nil, SendOptions{})
		r.propose(c, m, err)
	}
	update(bob)
	update(bob)
	update(carol)
	propose(alice, remove(carol.group.OwnLeaf()))
	propose(carol, Proposal{Type: ProposalSelfRemove})
	propose(bob, Proposal{Type: ProposalReInit, ReInit: &ReInit{GroupID: []byte("x"), Version: MLS10, CipherSuite: testSuite}})
	update(dave)
	list := r.commit(dave, CommitOptions{AllPending: true}).Changes().Proposals
	if len(list) != 2 || list[0].Type != ProposalUpdate || list[1].Type != ProposalSelfRemove {
		t.Errorf("committed %v", list)
	}
}

// Clones of a loaded group are used at the same time. The race detector sees
// whether they share anything that changes.
func TestCloneConcurrently(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob", "carol", "dave", "eve")
	staged, err := r.client("bob").group.Stage(rand.Reader, CommitOptions{Proposals: []Proposal{remove(0)}})
	if err != nil {
		t.Fatal(err)
	}
	raw := marshal(staged.Message())
	r.restart()
	var wg sync.WaitGroup
	hashes := make([][]byte, 4)
	for i := range hashes {
		c := r.hub.Clone()
		wg.Go(func() {
			var m MLSMessage
			if err := tlspl.Unmarshal(raw, &m); err != nil {
				t.Error(err)
				return
			}
			followed, err := c.Stage(&m)
			if err != nil {
				t.Error(err)
				return
			}
			if err := c.Merge(followed); err != nil {
				t.Error(err)
			}
			if _, err := c.Flush(); err != nil {
				t.Error(err)
			}
			hashes[i] = c.Tree().TreeHash()
		})
	}
	wg.Wait()
	for _, h := range hashes {
		if !bytes.Equal(h, hashes[0]) {
			t.Error("clones disagree")
		}
	}
	if r.hub.Epoch() != 1 {
		t.Error("the original has moved")
	}
}

// What is written after a message and after a commit does not grow with the
// number of members, but with the depth of the tree.
func TestFlushSize(t *testing.T) {
	written := func(members int) (message, commit, hub int) {
		tree, list := fullTree(t, members)
		s := tree.Suite()
		st, err := newState(s, GroupContext{Version: MLS10, CipherSuite: s.ID(), GroupID: testGroupID, TreeHash: tree.TreeHash()},
			new(params), tree, []byte("tag"))
		if err != nil {
			t.Fatal(err)
		}
		own := LeafIndex(2)
		g := &Group{public: PublicGroup{cfg: Config{PastEpochs: 1}}, signer: list[own].signer, private: list[own].priv}
		g.enter(st, startEpochFromSecret(s, make([]byte, s.Nh())))
		follower := &PublicGroup{state: st}
		size := func(list []Record, err error) int {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			return memoryStore{}.save(list)
		}
		size(g.Flush())
		size(follower.Flush())
		for range 2 { // the second is in the middle of the epoch
			if _, err := g.Encrypt(rand.Reader, []byte("hello"), nil); err != nil {
				t.Fatal(err)
			}
			message = size(g.Flush())
		}
		staged, err := g.Stage(rand.Reader, CommitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		followed, err := follower.Stage(wire(t, staged.Message()))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(g.Merge(staged), follower.Merge(followed)); err != nil {
			t.Fatal(err)
		}
		return message, size(g.Flush()), size(follower.Flush())
	}
	message, commit, hub := written(16)
	bigMessage, bigCommit, bigHub := written(1024)
	t.Logf("16 members: message %d, commit %d, hub %d octets; 1024 members: %d, %d, %d", message, commit, hub, bigMessage, bigCommit, bigHub)
	if bigMessage != message {
		t.Errorf("a message writes %d octets with 16 members, %d with 1024", message, bigMessage)
	}
	if bigCommit > 3*commit || bigHub > 3*hub { // depth 10 and 4
		t.Errorf("a commit writes %d and %d octets with 16 members, %d and %d with 1024", commit, hub, bigCommit, bigHub)
	}
}
