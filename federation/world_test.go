package federation

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/comity-im/comity/federation/devpki"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// fakeHub answers every request with success, or with err, and notes who asked.
type fakeHub struct {
	mu    sync.Mutex
	err   error
	calls []string // "<endpoint> <from> <what>"
	wait  chan struct{}
	asset func(context.Context, *mimi.DownloadRequest) (*mimi.Download, error)
}

func (h *fakeHub) called(ctx context.Context, call string) error {
	h.mu.Lock()
	h.calls = append(h.calls, call)
	wait, err := h.wait, h.err
	h.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (h *fakeHub) setErr(err error) {
	h.mu.Lock()
	h.err = err
	h.mu.Unlock()
}

func (h *fakeHub) taken() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.calls
	h.calls = nil
	return c
}

func (h *fakeHub) KeyMaterial(ctx context.Context, from mimi.ProviderDomain, target mimi.UserURI, _ *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	return &mimi.KeyMaterialResponse{Protocol: mimi.MLS10, UserStatus: mimi.KeyMaterialNoConsent, UserURI: target},
		h.called(ctx, "keyMaterial "+string(from)+" "+string(target))
}

func (h *fakeHub) Update(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, _ *mimi.UpdateRequest) (*mimi.UpdateRoomResponse, error) {
	return &mimi.UpdateRoomResponse{AcceptedTimestamp: 1}, h.called(ctx, "update "+string(from)+" "+string(room))
}

func (h *fakeHub) SubmitMessage(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, _ *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	return &mimi.SubmitMessageResponse{Protocol: mimi.MLS10, AcceptedTimestamp: 1}, h.called(ctx, "submitMessage "+string(from)+" "+string(room))
}

func (h *fakeHub) Notify(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, _ *mimi.NotifyRequest) error {
	return h.called(ctx, "notify "+string(from)+" "+string(room))
}

func (h *fakeHub) GroupInfo(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, _ *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
	return &mimi.GroupInfoResponse{Version: mimi.MLS10, RoomID: room, Status: mimi.GroupInfoNotAuthorized},
		h.called(ctx, "groupInfo "+string(from)+" "+string(room))
}

func (h *fakeHub) RequestConsent(ctx context.Context, from mimi.ProviderDomain, e *mimi.ConsentEntry) error {
	return h.called(ctx, "requestConsent "+string(from)+" "+string(e.ConsentScope.TargetURI))
}

func (h *fakeHub) UpdateConsent(ctx context.Context, from mimi.ProviderDomain, e *mimi.ConsentEntry) error {
	return h.called(ctx, "updateConsent "+string(from)+" "+string(e.ConsentScope.RequesterURI))
}

func (h *fakeHub) IdentifierQuery(ctx context.Context, from, domain mimi.ProviderDomain, _ *mimi.IdentifierRequest) (*mimi.IdentifierResponse, error) {
	return &mimi.IdentifierResponse{ResponseCode: mimi.QueryNotFound}, h.called(ctx, "identifierQuery "+string(from)+" "+string(domain))
}

func (h *fakeHub) ReportAbuse(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, _ *mimi.AbuseReport) error {
	return h.called(ctx, "reportAbuse "+string(from)+" "+string(room))
}

func (h *fakeHub) Gone(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, n *mimi.GoneNotice) error {
	return h.called(ctx, "comityGone "+string(from)+" "+string(room)+" "+string(n.User))
}

func (h *fakeHub) ProxyDownload(ctx context.Context, from mimi.ProviderDomain, r *mimi.DownloadRequest) (*mimi.Download, error) {
	if err := h.called(ctx, "proxyDownload "+string(from)+" "+r.URL); err != nil {
		return nil, err
	}
	if h.asset != nil {
		return h.asset(ctx, r)
	}
	return &mimi.Download{Status: 200, ContentLength: 5, Body: io.NopCloser(bytes.NewReader([]byte("asset")))}, nil
}

// The requests of b.example's bob to a.example.
const (
	roomA = mimi.RoomURI("mimi://a.example/r/clubhouse")
	roomB = mimi.RoomURI("mimi://b.example/r/garden")
	alice = mimi.UserURI("mimi://a.example/u/alice")
	bob   = mimi.UserURI("mimi://b.example/u/bob")
)

func appMessage(t testing.TB) mimi.Message {
	t.Helper()
	m, err := mimi.NewMessage(mls.MLSMessage{Version: mls.MLS10, WireFormat: mls.WireFormatPrivateMessage,
		PrivateMessage: &mls.PrivateMessage{GroupID: []byte("g"), Epoch: 1, ContentType: mls.ContentApplication, Ciphertext: []byte("secret")}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// updateRequest is a proposal to remove a member.
func updateRequest(t testing.TB) *mimi.UpdateRequest {
	t.Helper()
	m, err := mimi.NewMessage(mls.MLSMessage{Version: mls.MLS10, WireFormat: mls.WireFormatPublicMessage, PublicMessage: &mls.PublicMessage{
		Content: mls.FramedContent{GroupID: []byte("g"), Epoch: 1, Sender: mls.MemberSender(1), ContentType: mls.ContentProposal,
			Proposal: &mls.Proposal{Type: mls.ProposalRemove, Remove: &mls.Remove{Removed: 2}}},
		Auth: mls.FramedContentAuthData{Signature: []byte("s")}, MembershipTag: []byte("t")}})
	if err != nil {
		t.Fatal(err)
	}
	return &mimi.UpdateRequest{Bundle: mimi.HandshakeBundle{ProposalOrCommit: m}}
}

func submitRequest(t testing.TB) *mimi.SubmitMessageRequest {
	return &mimi.SubmitMessageRequest{Protocol: mimi.MLS10, AppMessage: appMessage(t), SendingURI: bob}
}

func keyMaterialRequest() *mimi.KeyMaterialRequest {
	return &mimi.KeyMaterialRequest{Protocol: mimi.MLS10, RequestingUser: bob, TargetUser: alice, RoomID: roomB,
		AcceptableCiphersuites: []suite.ID{1}, RequesterCredential: mls.BasicCredential([]byte("x")), Signature: []byte("s")}
}

func consentEntry(o mimi.ConsentOperation) *mimi.ConsentEntry {
	e := &mimi.ConsentEntry{ConsentOperation: o, ConsentScope: mimi.ConsentScope{RequesterURI: bob, TargetURI: alice}}
	if !o.IsRequest() {
		e.ConsentScope.RequesterURI, e.ConsentScope.TargetURI = alice, bob
	}
	return e
}

func marshalT(t testing.TB, v tlspl.Coder) []byte {
	t.Helper()
	b, err := tlspl.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// logLines is a log that a test can search.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// find returns the lines that have all of the given values.
func (l *logLines) find(t testing.TB, want map[string]any) (found []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
lines:
	for _, line := range bytes.Split(bytes.TrimSpace(l.buf.Bytes()), []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		for k, v := range want {
			if m[k] != v {
				continue lines
			}
		}
		found = append(found, m)
	}
	return found
}

func (l *logLines) reset() {
	l.mu.Lock()
	l.buf.Reset()
	l.mu.Unlock()
}

// provider is one provider on the loopback interface, with a fake hub.
type provider struct {
	t        testing.TB
	domain   mimi.ProviderDomain
	dir      string
	pair     devpki.Pair
	cert     *Certificate
	peers    *Peers
	hub      *fakeHub
	log      *logLines
	registry *prometheus.Registry
	server   *Server
	client   *Client
	address  string
	stop     func()
}

type providerConfig struct {
	domain mimi.ProviderDomain
	pair   devpki.Pair // the zero one: from ca
	peers  PeersConfig
	limits Limits
	edit   func(*ServerConfig)
}

// start runs a provider until the test ends.
func start(t testing.TB, ca *devpki.CA, cfg providerConfig) *provider {
	t.Helper()
	p := &provider{t: t, domain: cfg.domain, dir: t.TempDir(), pair: cfg.pair, hub: &fakeHub{}, log: &logLines{}, registry: prometheus.NewRegistry()}
	if p.pair.CertPEM == nil {
		p.pair = issue(t, ca, devpki.Leaf{Names: []string{string(cfg.domain)}})
	}
	certFile, keyFile := writePair(t, p.pair, p.dir, "own")
	logger := slog.New(slog.NewJSONHandler(p.log, nil))
	var err error
	if p.cert, err = LoadCertificate(CertificateConfig{Domain: cfg.domain, CertFile: certFile, KeyFile: keyFile, Logger: logger}); err != nil {
		t.Fatal(err)
	}
	if cfg.peers.WebCAFile == "" {
		cfg.peers.WebCAFile = writeFile(t, filepath.Join(p.dir, "web.pem"), ca.PEM())
	}
	cfg.peers.Logger = logger
	if p.peers, err = NewPeers(cfg.peers); err != nil {
		t.Fatal(err)
	}
	sc := ServerConfig{Certificate: p.cert, Peers: p.peers, Hub: p.hub, Limits: cfg.limits, Logger: logger, Registry: p.registry}
	if cfg.edit != nil {
		cfg.edit(&sc)
	}
	if p.server, err = NewServer(sc); err != nil {
		t.Fatal(err)
	}
	if p.client, err = NewClient(ClientConfig{Certificate: p.cert, Peers: p.peers, Timeout: 10 * time.Second, ConnectTimeout: 5 * time.Second,
		Logger: logger, Registry: p.registry}); err != nil {
		t.Fatal(err)
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.server.Serve(ctx, l) }()
	var once sync.Once
	p.stop = func() {
		once.Do(func() {
			p.client.Close()
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(p.stop)
	return p
}

// knows makes p connect to q's address for q's names.
func (p *provider) knows(q *provider, cfg PeerConfig) {
	p.t.Helper()
	cfg.Address = q.address
	if err := p.peers.Set(q.domain, cfg); err != nil {
		p.t.Fatal(err)
	}
}

// two starts a.example and b.example, which know each other.
func two(t testing.TB, cfg providerConfig) (a, b *provider) {
	t.Helper()
	ca := newCA(t)
	cfg.domain = "a.example"
	a = start(t, ca, cfg)
	b = start(t, ca, providerConfig{domain: "b.example"})
	a.knows(b, PeerConfig{})
	b.knows(a, PeerConfig{})
	return a, b
}

// raw is an HTTP client that shows a certificate and checks nothing, for playing
// the attacker.
func (p *provider) raw(pair *devpki.Pair) *http.Client {
	cfg := &tls.Config{InsecureSkipVerify: true}
	if pair != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair.Certificate, nil }
	}
	tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, p.address)
		}}
	p.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (p *provider) refusals(endpoint string, reason Reason) float64 {
	return testutil.ToFloat64(p.server.metrics.refusals.WithLabelValues(endpoint, string(reason)))
}
