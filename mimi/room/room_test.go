package room

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
)

// testVerifier believes basic credentials that name a client, and providers. claims adds what a user's credential says.
type testVerifier struct {
	claims map[mimi.UserURI]policy.ClaimSet
}

func (v *testVerifier) Identify(c *mls.Credential) (Identity, error) {
	if p, err := mimi.ParsePseudonymousCredential(c); err == nil {
		return Identity{User: p.UserPseudonym, Client: p.ClientPseudonym}, nil
	}
	client, err := mimi.ParseClientURI(string(c.Identity))
	if err != nil {
		return Identity{}, err
	}
	user, ok := client.User()
	if !ok {
		return Identity{}, errors.New("not the client of a user")
	}
	claims := append(policy.BasicClaims(c.Identity), v.claims[user]...)
	return Identity{User: user, Client: client, Claims: claims}, nil
}

func (v *testVerifier) Verify(leaf *mls.LeafNode) error { return nil }

func (v *testVerifier) Provider(c *mls.Credential) (mimi.ProviderDomain, error) {
	p, err := mimi.ParseProviderURI(string(c.Identity))
	return p.Host(), err
}

const (
	testSuite = suite.ID(1)
	testRoom  = mimi.RoomURI("mimi://a.example/r/clubhouse")
	alice     = mimi.UserURI("mimi://a.example/u/alice")
	bob       = mimi.UserURI("mimi://b.example/u/bob")
	cathy     = mimi.UserURI("mimi://c.example/u/cathy")
	dave      = mimi.UserURI("mimi://b.example/u/dave")
)

// world is a hub and the clients of a room, wired without a network.
type world struct {
	t        testing.TB
	verifier *testVerifier
	hub      *Hub
	hubCfg   HubConfig
	store    map[string][]byte
	now      mimi.Millis
	parent   *View
	devices  []*device
	signers  map[string]*suite.Signer
}

// device is a client: it reads what the hub sends.
type device struct {
	w      *world
	client mimi.ClientURI
	user   mimi.UserURI
	room   *Room
	key    *mls.KeyPackageSecrets
	failed error // why it stopped following
}

func (w *world) signer() *suite.Signer {
	s, _ := suite.Lookup(testSuite)
	k, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (w *world) config() Config {
	return Config{Verifier: w.verifier, MLS: mls.Config{PastEpochs: 4}}
}

// device makes a client, with a leaf to offer.
func (w *world) device(user mimi.UserURI, name string) *device {
	client, err := mimi.NewClientURI(user.Host(), user.Name(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	d := &device{w: w, client: client, user: user}
	w.devices = append(w.devices, d)
	return d
}

func (d *device) leaf() mls.LeafOptions {
	if d.w.signers[string(d.client)] == nil {
		d.w.signers[string(d.client)] = d.w.signer()
	}
	leaf, err := Leaf(mls.BasicCredential([]byte(d.client)), d.w.signers[string(d.client)])
	if err != nil {
		d.w.t.Fatal(err)
	}
	return leaf
}

func (d *device) keyPackage() mls.KeyPackage {
	d.w.signers[string(d.client)] = nil
	k, err := mls.NewKeyPackage(rand.Reader, mls.KeyPackageOptions{CipherSuite: testSuite, Leaf: d.leaf(), Lifetime: mls.Lifetime{NotAfter: 1 << 40}})
	if err != nil {
		d.w.t.Fatal(err)
	}
	d.key = k
	return k.KeyPackage
}

// newWorld creates a room of a preset, on alice's first client. adjust may change its policy.
func newWorld(t testing.TB, preset policy.Preset, adjust func(*policy.Components, *[]mimi.UserRolePair), others ...mimi.UserURI) *world {
	return newWorldOf(t, preset, adjust, false, others...)
}

// newWorldOf makes one whose handshake messages may be SemiPrivateMessages.
func newWorldOf(t testing.TB, preset policy.Preset, adjust func(*policy.Components, *[]mimi.UserRolePair), semiPrivate bool, others ...mimi.UserURI) *world {
	w := &world{t: t, verifier: &testVerifier{claims: map[mimi.UserURI]policy.ClaimSet{}}, store: map[string][]byte{}, now: 1000, signers: map[string]*suite.Signer{}}
	w.hubCfg = HubConfig{Verifier: w.verifier, Signer: w.signer()}
	params := policy.Params{Hub: "a.example", Creator: alice, Organizations: []mimi.ProviderDomain{"a.example", "b.example", "c.example"}}
	if preset == policy.Direct {
		params.Others = others
	}
	components, list, err := policy.Build(preset, params)
	if err != nil {
		t.Fatal(err)
	}
	if adjust != nil {
		adjust(components, &list)
		components.Base.PolicyComponentIDs = components.IDs()
	}
	d := w.device(alice, "a1")
	if semiPrivate {
		s, _ := suite.Lookup(testSuite)
		key, err := s.GenerateKeyPair(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		w.hubCfg.Receiver = &mls.Receiver{ExternalReceiver: mls.ExternalReceiver{PublicKey: key.Public(), Credential: mls.BasicCredential([]byte("mimi://a.example"))}, Key: key}
	}
	create := CreateParams{
		Room: testRoom, GroupID: []byte("mimi://a.example/g/1"), CipherSuite: testSuite,
		HubSender: mls.ExternalSender{SignatureKey: w.hubCfg.Signer.Public(), Credential: mls.BasicCredential([]byte("mimi://a.example"))},
		Leaf:      d.leaf(), Lifetime: mls.Lifetime{NotAfter: 1 << 40},
		Metadata:   mimi.RoomMetaData{RoomName: "Clubhouse"},
		Components: components, Participants: list,
	}
	if semiPrivate {
		create.HubReceiver = &w.hubCfg.Receiver.ExternalReceiver
	}
	room, err := Create(rand.Reader, w.config(), create)
	if err != nil {
		t.Fatal(err)
	}
	d.room = room
	info, tree, err := room.First(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hub, next, err := NewHub(w.hubCfg, testRoom, alice, info, tree.RatchetTree, w.now)
	if err != nil {
		t.Fatal(err)
	}
	w.hub = hub
	w.save(next)
	return w
}

// save stores a Next and merges it.
func (w *world) save(n *Next) {
	w.t.Helper()
	records, err := n.Records()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range records {
		if r.Value == nil {
			delete(w.store, string(r.Key))
		} else {
			w.store[string(r.Key)] = r.Value
		}
	}
	if err := w.hub.Merge(n); err != nil {
		w.t.Fatal(err)
	}
}

// reload replaces the hub by what was stored of it.
func (w *world) reload() {
	w.t.Helper()
	h, err := LoadHub(w.hubCfg, func(yield func([]byte, []byte) bool) {
		for k, v := range w.store {
			if !yield([]byte(k), v) {
				return
			}
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.hub = h
}

// update sends a bundle to the hub, and what comes of it to everybody.
func (w *world) update(from mimi.ProviderDomain, b *mimi.HandshakeBundle) (*Next, error) {
	w.t.Helper()
	w.now += 10
	n, err := w.hub.Update(UpdateInput{From: from, Bundle: b, Now: w.now, Rand: rand.Reader, Parent: w.parent})
	if err != nil {
		return nil, err
	}
	w.save(n)
	w.deliver(n)
	return n, nil
}

// deliver hands events to all clients of the providers that get them.
func (w *world) deliver(n *Next) {
	w.t.Helper()
	for i := range n.Events {
		e := &n.Events[i]
		for _, d := range w.devices {
			for _, p := range e.Providers {
				if p == d.user.Host() {
					d.receive(&e.Message)
				}
			}
		}
	}
}

func (d *device) receive(f *mimi.FanoutMessage) {
	d.w.t.Helper()
	switch f.Kind() {
	case mimi.FanoutWelcome:
		if d.room != nil || d.key == nil {
			return
		}
		ref, err := d.key.KeyPackage.Ref()
		if err != nil {
			d.w.t.Fatal(err)
		}
		if _, ok := f.Message.Welcome.Find(ref); !ok {
			return
		}
		room, err := JoinWelcome(d.w.config(), testRoom, f.Message.Welcome, d.key, f.RatchetTreeOption, d.room)
		if err != nil {
			d.w.t.Fatalf("%s joins: %v", d.client, err)
		}
		d.room = room
	case mimi.FanoutProposal:
		if d.room == nil || !d.room.Active() {
			return
		}
		if err := d.room.ReceiveProposals(append([]mimi.Message{f.Message}, f.MoreProposals...)...); err != nil {
			d.w.t.Fatalf("%s: %v", d.client, err)
		}
	case mimi.FanoutCommit:
		if d.room == nil || !d.room.Active() || d.failed != nil || d.room.Group().Epoch() != epochOf(&f.Message) {
			return
		}
		staged, err := d.room.StageReceived(&f.Message)
		if errors.Is(err, mls.ErrOwnMessage) {
			return
		}
		if err != nil {
			d.failed = err
			return
		}
		if err := d.room.Merge(staged); err != nil {
			d.w.t.Fatalf("%s: %v", d.client, err)
		}
		if d.room.Active() {
			if err := d.room.ReceiveProposals(f.ExternalProposals...); err != nil {
				d.w.t.Fatalf("%s: %v", d.client, err)
			}
		}
	}
}

func epochOf(m *mimi.Message) mls.Epoch {
	if m.SemiPrivateMessage != nil {
		return m.SemiPrivateMessage.Epoch
	}
	return m.PublicMessage.Content.Epoch
}

// commit sends a staged Commit of a client, and merges it there first, as if its provider had answered.
func (d *device) commit(s *Staged, err error) (*Next, error) {
	d.w.t.Helper()
	if err != nil {
		return nil, err
	}
	d.w.now += 10
	n, err := d.w.hub.Update(UpdateInput{From: d.user.Host(), Bundle: s.Bundle(), Now: d.w.now, Rand: rand.Reader, Parent: d.w.parent})
	if err != nil {
		return nil, err
	}
	d.w.save(n)
	if err := d.room.Merge(s); err != nil {
		d.w.t.Fatal(err)
	}
	d.w.deliver(n)
	return n, nil
}

// must is for what has to be accepted.
func (w *world) must(n *Next, err error) *Next {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	w.check()
	return n
}

// refused asks for a refusal whose sentence holds a text.
func (w *world) refused(text string, n *Next, err error) {
	w.t.Helper()
	if err == nil {
		w.t.Fatalf("accepted what should be refused (%s)", text)
	}
	if !strings.Contains(err.Error(), text) {
		w.t.Fatalf("refused with %q, expected %q", err, text)
	}
	w.check()
}

// join lets a client join alone.
func (d *device) join(p JoinParams) (*Next, error) {
	d.w.t.Helper()
	p.Room, p.Info, p.Tree, p.Pending = testRoom, d.w.hub.GroupInfo(), d.w.hub.Tree(), d.w.hub.Pending()
	d.w.signers[string(d.client)] = nil
	p.Leaf = d.leaf()
	j, err := StageJoin(rand.Reader, d.w.config(), p)
	if err != nil {
		return nil, err
	}
	d.w.now += 10
	n, err := d.w.hub.Update(UpdateInput{From: d.user.Host(), Bundle: j.Bundle(), Now: d.w.now, Rand: rand.Reader, Parent: d.w.parent})
	if err != nil {
		return nil, err
	}
	d.w.save(n)
	d.room = nil
	d.w.deliver(n)
	d.room = j.Room()
	if err := d.room.ReceiveProposals(n.Events[0].Message.ExternalProposals...); err != nil {
		d.w.t.Fatal(err)
	}
	return n, nil
}

// add lets a client add a user with some clients.
func (d *device) add(role string, devices ...*device) (*Next, error) {
	d.w.t.Helper()
	var additions []Addition
	for _, x := range devices {
		a := Addition{User: x.user, KeyPackages: []mls.KeyPackage{x.keyPackage()}}
		a.Role = d.w.role(role)
		additions = append(additions, a)
	}
	return d.commit(d.room.AddUsers(rand.Reader, 0, additions...))
}

func (w *world) role(name string) policy.RoleIndex {
	w.t.Helper()
	i, ok := w.hub.View().Roles().ByName(name)
	if !ok {
		w.t.Fatalf("no role %q", name)
	}
	return i
}

// check compares the hub with each active client and with what is worked out from scratch, and asks whether the room keeps
// its invariants.
func (w *world) check() {
	w.t.Helper()
	want := describe(w.hub.rules.room)
	fresh, err := NewView(w.hub.public.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	scratch, err := newSnapshot(w.verifier, fresh, w.hub.public.Tree())
	if err != nil {
		w.t.Fatal(err)
	}
	if got := describe(scratch); got != want {
		w.t.Fatalf("the hub has drifted\nhas:\n%s\nfrom scratch:\n%s", want, got)
	}
	if err := scratch.checkMembership(); err != nil {
		w.t.Fatal(err)
	}
	for _, d := range w.devices {
		if d.room == nil || !d.room.Active() {
			continue
		}
		if d.failed != nil {
			w.t.Fatalf("%s stopped following: %v", d.client, d.failed)
		}
		if got := describe(d.room.rules.room); got != want {
			w.t.Fatalf("%s disagrees with the hub\nhub:\n%s\nclient:\n%s", d.client, want, got)
		}
		if string(d.room.Group().Tree().TreeHash()) != string(w.hub.public.Tree().TreeHash()) {
			w.t.Fatalf("%s has another tree than the hub", d.client)
		}
	}
}

func describe(s *snapshot) string {
	var b strings.Builder
	fmt.Fprintf(&b, "epoch %d, %d users, %d clients\n", s.view.Epoch(), s.users, s.leaves.count)
	for _, p := range s.view.Participants() {
		user, _ := p.User.User()
		fmt.Fprintf(&b, "%s %s %v\n", p.User, s.view.Roles().Name(p.RoleIndex), s.leaves.by(user))
	}
	for _, r := range s.view.Roles().Indexes() {
		if n := s.Count(r); n != (policy.Count{}) {
			fmt.Fprintf(&b, "role %d: %+v\n", r, n)
		}
	}
	for _, d := range s.leaves.domains() {
		fmt.Fprintf(&b, "%s: %d\n", d, s.leaves.providers[d])
	}
	return b.String()
}

// TestClubhouse is the example of MIMI protocol §3: Alice creates a room, adds Bob, Bob adds Cathy, Cathy speaks, Bob leaves,
// Cathy brings another device.
func TestClubhouse(t *testing.T) {
	w := newWorld(t, policy.Cooperative, nil)
	a1 := w.devices[0]
	b1, b2, c1 := w.device(bob, "b1"), w.device(bob, "b2"), w.device(cathy, "c1")

	n := w.must(a1.add("ordinary_user", b1))
	if len(n.Listed) != 1 || n.Listed[0] != bob || len(n.KeyPackages) != 1 {
		t.Errorf("adding bob: %+v", n)
	}
	if got := fmt.Sprint(n.Events[0].Providers, n.Events[1].Providers); got != "[a.example] [b.example]" {
		t.Errorf("commit and welcome go to %s", got)
	}
	w.must(b1.commit(b1.room.AddUsers(rand.Reader, 0, Addition{User: bob, KeyPackages: []mls.KeyPackage{b2.keyPackage()}})))
	w.must(b1.add("ordinary_user", c1))

	m, err := c1.room.Encrypt(rand.Reader, []byte("hello"), nil)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := w.hub.Submit(SubmitInput{From: "c.example", Sending: cathy, Message: m, Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(sub.Providers) != "[a.example b.example c.example]" {
		t.Errorf("the message goes to %v", sub.Providers)
	}
	w.save(sub.Next)
	got, err := b2.room.Decrypt(m)
	if err != nil || string(got.Data) != "hello" || got.Sender.User != cathy || got.Role != w.role("ordinary_user") {
		t.Fatalf("%+v, %v", got, err)
	}

	// Bob leaves: nobody may commit without his proposals, and he may speak no more.
	p, err := b1.room.Leave(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.update("b.example", p.Bundle); err != nil {
		t.Fatal(err)
	}
	w.reload() // pending proposals survive
	if w.hub.Effective(bob) != policy.NoRole || len(w.hub.Pending()) != 3 {
		t.Errorf("bob's effective role is %d, %d proposals are pending", w.hub.Effective(bob), len(w.hub.Pending()))
	}
	_, err = w.hub.Submit(SubmitInput{From: "b.example", Sending: bob, Message: m, Now: w.now})
	if err == nil {
		t.Error("bob may still speak")
	}
	s, err := b2.room.Commit(rand.Reader, 0)
	if err == nil {
		_, err = w.hub.Update(UpdateInput{From: "b.example", Bundle: s.Bundle(), Now: w.now})
	}
	if err == nil {
		t.Error("bob's other client may commit its own removal")
	}
	n = w.must(c1.commit(c1.room.Commit(rand.Reader, 0)))
	if len(n.Unlisted) != 1 || n.Unlisted[0] != bob || len(w.hub.Pending()) != 0 {
		t.Errorf("bob leaves: %+v", n)
	}
	if b1.room.Active() || b2.room.Active() {
		t.Error("bob's clients don't notice")
	}

	c2 := w.device(cathy, "c2")
	n = w.must(c2.join(JoinParams{}))
	if n.JoinedUser != cathy || n.Joined != 0 || n.JoinedRole != w.role("ordinary_user") {
		t.Errorf("cathy's second client: %+v", n)
	}
	_, err = w.device(bob, "b3").join(JoinParams{})
	w.refused("lacks canOpenJoin", nil, err)
}
