package provider_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/provider"
	"github.com/comity-im/comity/provider/trust"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
	"github.com/comity-im/comity/tlspl"
)

// A play is some providers that reach each other without a network, and people
// at them, each on a client that does nothing by itself.
type play struct {
	t   *testing.T
	ctx context.Context

	mu        sync.Mutex
	providers map[mimi.ProviderDomain]*provider.Provider
	stores    map[mimi.ProviderDomain]*store.Store
	metrics   map[mimi.ProviderDomain]*counting
	registry  map[mimi.ProviderDomain]*prometheus.Registry
	down      map[mimi.ProviderDomain]error
	ahead     time.Duration // of the real clock
	members   map[string]*member
	notified  map[mimi.ProviderDomain][]*mimi.NotifyRequest // what reached whom
}

// counting collects the refusals that a provider logs.
type counting struct {
	mu    sync.Mutex
	lines []string
}

func (c *counting) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, string(b))
	if os.Getenv("PLAY_LOG") != "" {
		os.Stderr.Write(b)
	}
	return len(b), nil
}

func (c *counting) has(parts ...string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.lines, func(l string) bool {
		return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(l, p) })
	})
}

const (
	domA = mimi.ProviderDomain("a.example")
	domB = mimi.ProviderDomain("b.example")
	domC = mimi.ProviderDomain("c.example")

	clubhouse = mimi.RoomURI("mimi://a.example/r/clubhouse")
)

// newPlay starts a.example, b.example and c.example.
func newPlay(t *testing.T, adjust ...func(*provider.Config)) *play {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	p := &play{t: t, ctx: ctx, providers: map[mimi.ProviderDomain]*provider.Provider{}, stores: map[mimi.ProviderDomain]*store.Store{},
		metrics: map[mimi.ProviderDomain]*counting{}, registry: map[mimi.ProviderDomain]*prometheus.Registry{}, down: map[mimi.ProviderDomain]error{}, members: map[string]*member{},
		notified: map[mimi.ProviderDomain][]*mimi.NotifyRequest{}}
	var wg sync.WaitGroup
	for _, d := range []mimi.ProviderDomain{domA, domB, domC} {
		s, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "provider.db"))
		if err != nil {
			t.Fatal(err)
		}
		log := &counting{}
		p.registry[d] = prometheus.NewRegistry()
		cfg := provider.Config{Metrics: provider.NewMetrics(p.registry[d]), Domain: d, Store: s, Peers: wire{p, d}, Now: p.now, Logger: slog.New(slog.NewTextHandler(log, nil)), QueriesPerSecond: 1e6, QueryBurst: 1e6}
		for _, f := range adjust {
			f(&cfg)
		}
		v, err := provider.New(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		p.providers[d], p.stores[d], p.metrics[d] = v, s, log
		wg.Go(func() { v.Run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		for d, s := range p.stores {
			p.counted(d)
			s.Close()
		}
	})
	return p
}

func (p *play) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.ahead)
}

// later moves the clocks of all providers.
func (p *play) later(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ahead += d
}

// cut makes a provider unreachable with an error; nil: reachable again.
func (p *play) cut(d mimi.ProviderDomain, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down[d] = err
}

// wire is how a provider reaches the others.
type wire struct {
	p    *play
	from mimi.ProviderDomain
}

func (w wire) Peer(d mimi.ProviderDomain) mimi.Hub { return &peer{w.p, d} }

func (w wire) Issuers(_ context.Context, d mimi.ProviderDomain) ([]*x509.Certificate, error) {
	v := w.p.providers[d]
	if v == nil {
		return nil, fmt.Errorf("there is no %s", d)
	}
	doc, err := v.IssuersDocument()
	if err != nil {
		return nil, err
	}
	return identity.ParseIssuers(doc, d)
}

func (wire) GatewayKeys(context.Context, mimi.ProviderDomain) ([]byte, error) {
	return nil, errors.New("no gateway in a play")
}

func (wire) Relay(context.Context, mimi.ProviderDomain, []byte) ([]byte, error) {
	return nil, errors.New("no gateway in a play")
}

// peer is a provider as another reaches it.
type peer struct {
	p *play
	d mimi.ProviderDomain
}

func (x *peer) to() (mimi.Hub, error) {
	x.p.mu.Lock()
	defer x.p.mu.Unlock()
	if err := x.p.down[x.d]; err != nil {
		return nil, err
	}
	v := x.p.providers[x.d]
	if v == nil {
		return nil, &mimi.FailedError{Err: fmt.Errorf("no such host %s", x.d)}
	}
	return v, nil
}

func ask[T any](x *peer, f func(mimi.Hub) (T, error)) (T, error) {
	h, err := x.to()
	if err != nil {
		var none T
		return none, err
	}
	return f(h)
}

func (x *peer) KeyMaterial(ctx context.Context, from mimi.ProviderDomain, target mimi.UserURI, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	return ask(x, func(h mimi.Hub) (*mimi.KeyMaterialResponse, error) { return h.KeyMaterial(ctx, from, target, req) })
}

func (x *peer) Update(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.UpdateRequest) (*mimi.UpdateRoomResponse, error) {
	return ask(x, func(h mimi.Hub) (*mimi.UpdateRoomResponse, error) { return h.Update(ctx, from, room, req) })
}

func (x *peer) SubmitMessage(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	return ask(x, func(h mimi.Hub) (*mimi.SubmitMessageResponse, error) { return h.SubmitMessage(ctx, from, room, req) })
}

func (x *peer) Notify(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.NotifyRequest) error {
	// As it is read at the other end.
	encoded, err := tlspl.Marshal(req)
	if err != nil {
		return err
	}
	req = new(mimi.NotifyRequest)
	if err := tlspl.Unmarshal(encoded, req); err != nil {
		return err
	}
	_, err = ask(x, func(h mimi.Hub) (struct{}, error) {
		x.p.mu.Lock()
		x.p.notified[x.d] = append(x.p.notified[x.d], req)
		x.p.mu.Unlock()
		return struct{}{}, h.Notify(ctx, from, room, req)
	})
	return err
}

func (x *peer) GroupInfo(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
	return ask(x, func(h mimi.Hub) (*mimi.GroupInfoResponse, error) { return h.GroupInfo(ctx, from, room, req) })
}

func (x *peer) RequestConsent(ctx context.Context, from mimi.ProviderDomain, e *mimi.ConsentEntry) error {
	_, err := ask(x, func(h mimi.Hub) (struct{}, error) { return struct{}{}, h.RequestConsent(ctx, from, e) })
	return err
}

func (x *peer) UpdateConsent(ctx context.Context, from mimi.ProviderDomain, e *mimi.ConsentEntry) error {
	_, err := ask(x, func(h mimi.Hub) (struct{}, error) { return struct{}{}, h.UpdateConsent(ctx, from, e) })
	return err
}

func (x *peer) IdentifierQuery(ctx context.Context, from, domain mimi.ProviderDomain, req *mimi.IdentifierRequest) (*mimi.IdentifierResponse, error) {
	return ask(x, func(h mimi.Hub) (*mimi.IdentifierResponse, error) { return h.IdentifierQuery(ctx, from, domain, req) })
}

func (x *peer) ReportAbuse(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, r *mimi.AbuseReport) error {
	_, err := ask(x, func(h mimi.Hub) (struct{}, error) { return struct{}{}, h.ReportAbuse(ctx, from, room, r) })
	return err
}

func (x *peer) Gone(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, n *mimi.GoneNotice) error {
	_, err := ask(x, func(h mimi.Hub) (struct{}, error) { return struct{}{}, h.Gone(ctx, from, room, n) })
	return err
}

func (x *peer) ProxyDownload(ctx context.Context, from mimi.ProviderDomain, req *mimi.DownloadRequest) (*mimi.Download, error) {
	return ask(x, func(h mimi.Hub) (*mimi.Download, error) { return h.ProxyDownload(ctx, from, req) })
}

// believer takes the word of every credential: that is tested elsewhere.
type believer struct{}

func (believer) Identify(c *mls.Credential) (room.Identity, error)       { return trust.Identify(c) }
func (believer) Verify(*mls.LeafNode) error                              { return nil }
func (believer) Provider(c *mls.Credential) (mimi.ProviderDomain, error) { return identity.HubName(c) }
func roomConfig() room.Config {
	return room.Config{Verifier: believer{}, MLS: mls.Config{PastEpochs: 8}}
}

const testSuite = suite.ID(1)

// A member is somebody on one client.
type member struct {
	*testing.T
	p      *play
	svc    clientapi.Service
	dev    clientapi.Device
	signer *suite.Signer
	cred   mls.Credential
	sub    clientapi.Subscription

	keys    map[string]*mls.KeyPackageSecrets // by reference
	rooms   map[mimi.RoomURI]*room.Room
	own     map[[32]byte]bool // what this client sent
	texts   []text            // what it read, in order
	invited []mimi.RoomURI
	order   []string // every event, in words
	ended   error    // of the subscription
}

type text struct {
	room   mimi.RoomURI
	from   mimi.UserURI
	body   string
	fanout mimi.FanoutMessage
	data   []byte // application_data
	tag    []byte
}

const password = "correct horse"

// As returns somebody, such as bob@b.example/phone, who registers or logs in when
// first seen and then has some KeyPackages in stock.
func (p *play) As(name string) *member {
	p.t.Helper()
	if m := p.members[name]; m != nil {
		return m
	}
	m := p.enter(name)
	m.Stocks(3)
	return m
}

// enter is As without KeyPackages.
func (p *play) enter(name string) *member {
	p.t.Helper()
	user, rest, _ := strings.Cut(name, "@")
	domain, device, ok := strings.Cut(rest, "/")
	if !ok {
		device = "phone"
	}
	svc := p.providers[mimi.ProviderDomain(domain)].Clients()
	login := clientapi.Login{User: user, Password: password, Device: device}
	s, err := svc.Register(p.ctx, login)
	var e *clientapi.Error
	if errors.As(err, &e) && e.Code == clientapi.CodeConflict {
		s, err = svc.Login(p.ctx, login)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	m := &member{T: p.t, p: p, svc: svc, dev: clientapi.Device{User: s.User, Client: s.Client},
		keys: map[string]*mls.KeyPackageSecrets{}, rooms: map[mimi.RoomURI]*room.Room{}, own: map[[32]byte]bool{}}
	st, _ := suite.Lookup(testSuite)
	if m.signer, err = st.GenerateSigner(rand.Reader); err != nil {
		p.t.Fatal(err)
	}
	req, err := identity.NewCertificateRequest(rand.Reader, m.signer, s.User, s.Client)
	m.must(err)
	cred, err := svc.Certify(p.ctx, m.dev, req)
	m.must(err)
	m.cred = *cred
	m.sub, err = svc.Subscribe(p.ctx, m.dev)
	m.must(err)
	p.t.Cleanup(m.sub.Close)
	p.members[name] = m
	return m
}

func (m *member) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatalf("%s: %v", m.dev.Client, err)
	}
}

func (m *member) leaf() mls.LeafOptions {
	leaf, err := room.Leaf(m.cred, m.signer)
	m.must(err)
	return leaf
}

// keyPackage makes a KeyPackage of a lifetime.
func (m *member) keyPackage(life time.Duration, extensions ...mls.Extension) mls.KeyPackage {
	m.Helper()
	now := m.p.now()
	k, err := mls.NewKeyPackage(rand.Reader, mls.KeyPackageOptions{CipherSuite: testSuite, Leaf: m.leaf(), Extensions: extensions,
		Lifetime: mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(life).Unix())}})
	m.must(err)
	ref, err := k.KeyPackage.Ref()
	m.must(err)
	m.keys[string(ref)] = k
	return k.KeyPackage
}

// Stocks uploads n KeyPackages.
func (m *member) Stocks(n int) {
	m.Helper()
	var list []mls.KeyPackage
	for range n {
		list = append(list, m.keyPackage(30*24*time.Hour))
	}
	_, err := m.svc.AddKeyPackages(m.p.ctx, m.dev, list)
	m.must(err)
}

// Creates founds a room of a preset at the member's provider.
func (m *member) Creates(uri mimi.RoomURI, preset policy.Preset, adjust ...func(*policy.Components, *[]mimi.UserRolePair)) {
	m.Helper()
	m.must(m.create(uri, preset, adjust...))
}

func (m *member) create(uri mimi.RoomURI, preset policy.Preset, adjust ...func(*policy.Components, *[]mimi.UserRolePair)) error {
	m.Helper()
	r, req := m.founds(uri, preset, adjust...)
	_, err := m.svc.CreateRoom(m.p.ctx, m.dev, uri, req)
	if err == nil {
		m.rooms[uri] = r
	}
	return err
}

func (m *member) founds(uri mimi.RoomURI, preset policy.Preset, adjust ...func(*policy.Components, *[]mimi.UserRolePair)) (*room.Room, *clientapi.CreateRoomRequest) {
	m.Helper()
	return m.make(m.params(uri, preset, adjust...))
}

// params is what a room is made from.
func (m *member) params(uri mimi.RoomURI, preset policy.Preset, adjust ...func(*policy.Components, *[]mimi.UserRolePair)) room.CreateParams {
	m.Helper()
	info, err := m.svc.Info(m.p.ctx)
	m.must(err)
	var sender mls.ExternalSender
	var agent mimi.FrankingAgentData
	for _, h := range info.HubSenders {
		if suite.ID(h.Suite) == testSuite {
			m.must(tlspl.Unmarshal(h.ExternalSender, &sender))
			m.must(tlspl.Unmarshal(h.FrankingAgent, &agent))
		}
	}
	components, list, err := policy.Build(preset, policy.Params{Hub: uri.Host(), Creator: m.dev.User, Organizations: []mimi.ProviderDomain{domA, domB, domC}})
	m.must(err)
	for _, f := range adjust {
		f(components, &list)
		components.Base.PolicyComponentIDs = components.IDs()
	}
	id := make([]byte, 16)
	rand.Read(id)
	return room.CreateParams{
		Room: uri, GroupID: fmt.Appendf(nil, "mimi://%s/g/%x", uri.Host(), id), CipherSuite: testSuite, HubSender: sender, FrankingAgent: &agent,
		Leaf: m.leaf(), Lifetime: mls.Lifetime{NotAfter: uint64(m.p.now().Add(400 * 24 * time.Hour).Unix())},
		Metadata: mimi.RoomMetaData{RoomName: uri.Name()}, Components: components, Participants: list,
	}
}

// make makes a room, and what its hub is to be told.
func (m *member) make(p room.CreateParams) (*room.Room, *clientapi.CreateRoomRequest) {
	m.Helper()
	r, err := room.Create(rand.Reader, roomConfig(), p)
	m.must(err)
	first, tree, err := r.First(rand.Reader)
	m.must(err)
	return r, &clientapi.CreateRoomRequest{GroupInfo: *first, RatchetTree: tree}
}

// claim makes a signed claim for key material.
func (m *member) claim(target mimi.UserURI, uri mimi.RoomURI, adjust ...func(*mimi.KeyMaterialRequest)) *mimi.KeyMaterialRequest {
	m.Helper()
	req := &mimi.KeyMaterialRequest{
		Protocol: mimi.MLS10, RequestingUser: m.dev.User, TargetUser: target, RoomID: uri,
		// GREASE makes each request one of its own (Decision 20).
		AcceptableCiphersuites: []suite.ID{testSuite, grease()},
		RequiredCapabilities: mls.RequiredCapabilities{
			ExtensionTypes: []mls.ExtensionType{mls.ExtensionAppDataDictionary},
			ProposalTypes:  []mls.ProposalType{mls.ProposalAppDataUpdate, mls.ProposalSelfRemove}, CredentialTypes: []mls.CredentialType{mls.CredentialX509},
		},
		RequesterCredential: m.cred,
	}
	for _, f := range adjust {
		f(req)
	}
	m.must(req.Sign(rand.Reader, m.signer))
	return req
}

func grease() suite.ID {
	b := make([]byte, 2)
	rand.Read(b)
	return suite.ID(b[0])<<8 | suite.ID(b[1]) | 0x4000
}

// Claims asks for somebody's key material.
func (m *member) Claims(target *member, uri mimi.RoomURI, adjust ...func(*mimi.KeyMaterialRequest)) *mimi.KeyMaterialResponse {
	m.Helper()
	resp, err := m.svc.KeyMaterial(m.p.ctx, m.dev, target.dev.User, m.claim(target.dev.User, uri, adjust...))
	m.must(err)
	return resp
}

// Adds brings people into a room, with a client each if they have KeyPackages.
func (m *member) Adds(uri mimi.RoomURI, people ...*member) {
	m.Helper()
	claimed := map[mimi.UserURI][]mls.KeyPackage{}
	for _, who := range people {
		resp := m.Claims(who, uri)
		for _, x := range resp.Clients {
			if x.KeyPackage != nil {
				claimed[who.dev.User] = append(claimed[who.dev.User], *x.KeyPackage)
			}
		}
	}
	m.Commits(uri, func(r *room.Room) (*room.Staged, error) {
		var list []room.Addition
		for _, who := range people {
			list = append(list, room.Addition{User: who.dev.User, Role: memberRole(r), KeyPackages: claimed[who.dev.User]})
		}
		return r.AddUsers(rand.Reader, uint64(m.p.now().Unix()), list...)
	})
}

// memberRole is the role of ordinary members of a room.
func memberRole(r *room.Room) policy.RoleIndex {
	for _, name := range []string{"ordinary_user", "user", "member", "participant", "attendee"} {
		if i, ok := r.View().Roles().ByName(name); ok {
			return i
		}
	}
	return 2
}

// Commits stages and sends a Commit until it is accepted.
func (m *member) Commits(uri mimi.RoomURI, stage func(*room.Room) (*room.Staged, error)) {
	m.Helper()
	for range 100 {
		resp, err := m.commit(uri, stage)
		m.must(err)
		switch {
		case resp.ResponseCode == mimi.UpdateSuccess:
			return
		case resp.ResponseCode == mimi.UpdateWrongEpoch, resp.ErrorDescription == mimi.ReasonPending:
			time.Sleep(2 * time.Millisecond)
		default:
			m.Fatalf("%s: commit refused: %v %s", m.dev.Client, resp.ResponseCode, resp.ErrorDescription)
		}
	}
	m.Fatalf("%s: no commit of 100 was accepted", m.dev.Client)
}

func (m *member) commit(uri mimi.RoomURI, stage func(*room.Room) (*room.Staged, error)) (*mimi.UpdateRoomResponse, error) {
	m.Helper()
	m.drain()
	r := m.rooms[uri]
	if r == nil {
		return nil, fmt.Errorf("not in %s", uri)
	}
	staged, err := stage(r)
	if err != nil {
		return nil, err
	}
	resp, err := m.Updates(uri, staged.Bundle())
	if err == nil && resp.ResponseCode == mimi.UpdateSuccess {
		m.must(r.Merge(staged))
	}
	return resp, err
}

// Updates sends a bundle as it is.
func (m *member) Updates(uri mimi.RoomURI, bundle *mimi.HandshakeBundle) (*mimi.UpdateRoomResponse, error) {
	m.Helper()
	req := &mimi.UpdateRequest{Bundle: *bundle}
	digest, err := req.Digest()
	m.must(err)
	m.own[digest] = true
	for i := range bundle.MoreProposals {
		d, err := bundle.MoreProposals[i].Digest()
		m.must(err)
		m.own[d] = true
	}
	return m.svc.Update(m.p.ctx, m.dev, uri, req)
}

// Leaves proposes to leave.
func (m *member) Leaves(uri mimi.RoomURI) {
	m.Helper()
	m.drain()
	p, err := m.rooms[uri].Leave(rand.Reader)
	m.must(err)
	resp, err := m.Updates(uri, p.Bundle)
	m.must(err)
	m.must(resp.Err())
}

// groupInfo makes a signed request with the key that opens its answer.
func (m *member) groupInfo(code string) (*mimi.GroupInfoRequest, *suite.PrivateKey) {
	m.Helper()
	st, _ := suite.Lookup(testSuite)
	key, err := st.GenerateKeyPair(rand.Reader)
	m.must(err)
	req := &mimi.GroupInfoRequest{Protocol: mimi.MLS10, CipherSuite: testSuite, RequestingCredential: m.cred, GroupInfoPublicKey: key.Public()}
	if code != "" {
		req.JoiningCode = []byte(code)
	}
	m.must(req.Sign(rand.Reader, m.signer))
	return req, key
}

// join asks for the GroupInfo and joins by an external Commit.
func (m *member) join(uri mimi.RoomURI, code string) error {
	m.Helper()
	for range 50 {
		req, key := m.groupInfo(code)
		resp, err := m.svc.GroupInfo(m.p.ctx, m.dev, uri, req)
		if err != nil {
			return err
		}
		if err := resp.Err(); err != nil {
			return err
		}
		tbe, err := resp.Open(uri, key, testSuite)
		if err != nil {
			return err
		}
		j, err := room.StageJoin(rand.Reader, roomConfig(), room.JoinParams{Room: uri, Info: &tbe.GroupInfo, Tree: tbe.RatchetTreeOption, Pending: tbe.PendingProposals, Leaf: m.leaf(), HasCode: code != ""})
		if err != nil {
			return err
		}
		got, err := m.Updates(uri, j.Bundle())
		if err != nil {
			return err
		}
		if got.ResponseCode == mimi.UpdateWrongEpoch || got.ErrorDescription == mimi.ReasonPending {
			continue
		}
		if err := got.Err(); err != nil {
			return err
		}
		m.rooms[uri] = j.Room()
		return nil
	}
	return errors.New("the room never stood still")
}

// Joins joins alone.
func (m *member) Joins(uri mimi.RoomURI, code ...string) {
	m.Helper()
	m.must(m.join(uri, strings.Join(code, "")))
}

// message encrypts a text.
func (m *member) message(uri mimi.RoomURI, s string) *mimi.SubmitMessageRequest {
	m.Helper()
	data, tag := m.compose(uri, s)
	message, err := m.rooms[uri].Encrypt(rand.Reader, data, tag[:])
	m.must(err)
	req := &mimi.SubmitMessageRequest{Protocol: mimi.MLS10, AppMessage: *message, SendingURI: m.dev.User}
	digest, err := req.Digest()
	m.must(err)
	m.own[digest] = true
	return req
}

// compose makes the application_data of a text, with its franking tag.
func (m *member) compose(uri mimi.RoomURI, s string) ([]byte, mimi.FrankingTag) {
	m.Helper()
	x := textContent(m.T, m.dev.User, uri, s)
	inner, err := x.Marshal()
	m.must(err)
	data, err := tlspl.Marshal(&mls.ApplicationFraming{MediaType: mls.MediaType{Type: []byte(room.ContentMediaType)}, InnerApplicationContent: inner})
	m.must(err)
	return data, mimi.NewFrankingTag(x.Salt[:], data)
}

// Says sends a text and returns the hub's answer.
func (m *member) Says(uri mimi.RoomURI, s string) *mimi.SubmitMessageResponse {
	m.Helper()
	for range 50 {
		m.drain()
		req := m.message(uri, s)
		resp, err := m.svc.SubmitMessage(m.p.ctx, m.dev, uri, req)
		m.must(err)
		if resp.StatusCode == mimi.SubmitEpochTooOld {
			continue
		}
		m.must(resp.Err())
		return resp
	}
	m.Fatalf("%s: %q was never accepted", m.dev.Client, s)
	return nil
}

// until takes events in until something holds.
func (m *member) until(what string, ok func() bool) {
	m.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			m.Fatalf("%s waits in vain for %s; it had %q", m.dev.Client, what, m.order)
		}
		m.next(200 * time.Millisecond)
		if m.ended != nil {
			m.Fatalf("%s: %v", m.dev.Client, m.ended)
		}
	}
}

// drain takes in what there is.
func (m *member) drain() {
	m.Helper()
	for m.next(10 * time.Millisecond) {
	}
}

func (m *member) next(wait time.Duration) bool {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.p.ctx, wait)
	defer cancel()
	list, err := m.sub.Next(ctx)
	if err != nil {
		if ctx.Err() == nil {
			m.ended = err
		}
		return false
	}
	for _, e := range list {
		m.take(e)
	}
	return true
}

// Reads waits for a text.
func (m *member) Reads(uri mimi.RoomURI, s string) text {
	m.Helper()
	var found text
	m.until(fmt.Sprintf("%q", s), func() bool {
		i := slices.IndexFunc(m.texts, func(x text) bool { return x.room == uri && x.body == s })
		if i >= 0 {
			found = m.texts[i]
		}
		return i >= 0
	})
	return found
}

// Enters waits until a Welcome has brought the member into a room.
func (m *member) Enters(uri mimi.RoomURI) {
	m.Helper()
	m.until("a Welcome to "+string(uri), func() bool { return m.rooms[uri] != nil })
}

// Reaches waits for an epoch.
func (m *member) Reaches(uri mimi.RoomURI, epoch mls.Epoch) {
	m.Helper()
	m.until(fmt.Sprintf("epoch %d", epoch), func() bool { return m.rooms[uri] != nil && m.rooms[uri].View().Epoch() >= epoch })
}

// Pending waits until proposals are pending.
func (m *member) Pending(uri mimi.RoomURI, n int) {
	m.Helper()
	m.until(fmt.Sprintf("%d proposals", n), func() bool { return len(m.rooms[uri].Group().Pending()) >= n })
}

// Empties commits what is pending.
func (m *member) Empties(uri mimi.RoomURI) {
	m.Helper()
	m.Commits(uri, func(r *room.Room) (*room.Staged, error) { return r.Commit(rand.Reader, 0) })
}

func (m *member) take(e clientapi.Event) {
	m.Helper()
	if e.Invited {
		m.invited = append(m.invited, e.Room)
		m.order = append(m.order, "invited")
		return
	}
	if len(e.Fanout) == 0 { // what came was not for this client
		m.must(m.sub.Ack(m.p.ctx, e.Room, e.Seq))
		return
	}
	var f mimi.FanoutMessage
	m.must(tlspl.Unmarshal(e.Fanout, &f))
	r := m.rooms[e.Room]
	digest, err := f.Message.Digest()
	m.must(err)
	defer func() { m.must(m.sub.Ack(m.p.ctx, e.Room, e.Seq)) }()
	m.order = append(m.order, fmt.Sprintf("%d %v", e.Seq, f.Kind()))
	switch f.Kind() {
	case mimi.FanoutWelcome:
		for _, s := range f.Message.Welcome.Secrets {
			if k := m.keys[string(s.NewMember)]; k != nil {
				m.rooms[e.Room], err = room.JoinWelcome(roomConfig(), e.Room, f.Message.Welcome, k, f.RatchetTreeOption, m.rooms[e.Room])
				m.must(err)
				return
			}
		}
		m.Fatalf("%s got a Welcome that is not for it", m.dev.Client)
	case mimi.FanoutCommit:
		if r == nil {
			return // of before its time
		}
		if !m.own[digest] {
			if f.Message.PublicMessage.Content.Epoch < r.View().Epoch() {
				return // of before its time
			}
			staged, err := r.StageReceived(&f.Message)
			m.must(err)
			if staged.Removed() {
				delete(m.rooms, e.Room)
				m.order = append(m.order, "removed")
				return
			}
			m.must(r.Merge(staged))
		}
		m.must(r.ReceiveProposals(f.ExternalProposals...))
	case mimi.FanoutProposal:
		if r == nil || m.own[digest] || f.Message.PublicMessage.Content.Epoch < r.View().Epoch() {
			return
		}
		m.must(r.ReceiveProposals(append([]mimi.Message{f.Message}, f.MoreProposals...)...))
	case mimi.FanoutApplication:
		if r == nil || m.own[digest] {
			return
		}
		got, err := r.Decrypt(&f.Message)
		if err != nil {
			m.order = append(m.order, "can't read: "+err.Error())
			return
		}
		var framing mls.ApplicationFraming
		m.must(tlspl.Unmarshal(got.Data, &framing))
		x, err := content.Unmarshal(framing.InnerApplicationContent)
		m.must(err)
		m.texts = append(m.texts, text{e.Room, got.Sender.User, x.NestedPart.Display(), f, got.Data, got.FrankingTag})
	}
}

// Same says that clients hold the same room.
func (p *play) Same(uri mimi.RoomURI, people ...*member) {
	p.t.Helper()
	var first []byte
	for i, m := range people {
		b := m.rooms[uri].Group().EpochAuthenticator()
		if i == 0 {
			first = b
		} else if !bytes.Equal(first, b) {
			p.t.Fatalf("%s and %s are not in the same epoch of %s", people[0].dev.Client, m.dev.Client, uri)
		}
	}
}

// Eventually waits for something that happens by itself.
func (p *play) Eventually(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// counted says that each refusal of a provider was one line in its log and one
// in its metrics, with the same endpoint and code.
func (p *play) counted(d mimi.ProviderDomain) {
	p.t.Helper()
	families, err := p.registry[d].Gather()
	if err != nil {
		p.t.Error(err)
		return
	}
	got := map[string]int{}
	for _, f := range families {
		if f.GetName() != "comity_refusals_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			got[labels["endpoint"]+" "+labels["peer"]+" "+labels["code"]] += int(m.GetCounter().GetValue())
		}
	}
	line := regexp.MustCompile(`msg=refused endpoint=(\S+) from=(\S+) .*?code=("[^"]*"|\S+)`)
	logged := map[string]int{}
	for _, l := range p.metrics[d].lines {
		if m := line.FindStringSubmatch(l); m != nil {
			logged[m[1]+" "+m[2]+" "+strings.Trim(m[3], `"`)]++
		}
	}
	for k, n := range logged {
		if got[k] != n {
			p.t.Errorf("%s: %q was logged %d times and counted %d times", d, k, n, got[k])
		}
	}
	for k, n := range got {
		if logged[k] != n && !strings.HasSuffix(k, " failed") {
			p.t.Errorf("%s: %q was counted %d times and logged %d times", d, k, n, logged[k])
		}
	}
}

// Refused says that a provider logged a refusal with all these parts.
func (p *play) Refused(d mimi.ProviderDomain, parts ...string) {
	p.t.Helper()
	if !p.metrics[d].has(append(parts, "msg=refused")...) {
		p.t.Errorf("%s logged no refusal with %q", d, parts)
	}
}
