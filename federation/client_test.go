package federation

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comity-im/comity/federation/devpki"
	"github.com/comity-im/comity/mimi"
)

// stranger is a provider that answers as it likes.
type stranger struct {
	address string
	asked   atomic.Int64 // requests for the directory
	handler atomic.Pointer[http.HandlerFunc]
	shown   atomic.Pointer[tls.ConnectionState] // of the last request
}

// strange starts one with a certificate. Its directory has all endpoints below
// base; other requests go to handle.
func strange(t testing.TB, pair devpki.Pair, directory, handle http.HandlerFunc) *stranger {
	t.Helper()
	s := &stranger{}
	s.handler.Store(&handle)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.shown.Store(r.TLS)
			if r.URL.Path == mimi.DirectoryPath {
				s.asked.Add(1)
				directory(w, r)
				return
			}
			(*s.handler.Load())(w, r)
		}),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair.Certificate}, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"}},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	go func() { _ = srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() { srv.Close() })
	return s
}

// directoryAt serves a directory with all endpoints below a base URL.
func directoryAt(t testing.TB, base string, header ...string) http.HandlerFunc {
	d, err := mimi.NewDirectory(base)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		_, _ = w.Write(doc)
	}
}

// asker is a.example's client, which knows b.example at an address.
func asker(t testing.TB, ca *devpki.CA, address string) (*Client, *Peers) {
	t.Helper()
	web := writeFile(t, filepath.Join(t.TempDir(), "web.pem"), ca.PEM())
	peers, err := NewPeers(PeersConfig{WebCAFile: web, Logger: slog.New(slog.DiscardHandler),
		Peers: map[mimi.ProviderDomain]PeerConfig{"b.example": {Address: address}}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(ClientConfig{Certificate: loadCertificate(t, issue(t, ca, devpki.Leaf{Names: []string{"a.example"}}), "a.example", ""),
		Peers: peers, Timeout: 3 * time.Second, ConnectTimeout: 2 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, peers
}

func query(c *Client) error {
	_, err := c.Peer("b.example").IdentifierQuery(context.Background(), "a.example", "b.example", &mimi.IdentifierRequest{})
	return err
}

// wantStep checks that err is a *PeerError at a step, and a failure to the spine.
func wantStep(t *testing.T, err error, step Step) {
	t.Helper()
	var pe *PeerError
	var failed *mimi.FailedError
	if !errors.As(err, &pe) || pe.Step != step || !errors.As(err, &failed) {
		t.Errorf("got %v, want a failure at step %s", err, step)
	}
	if _, again := Again(err); !again {
		t.Errorf("%v is not tried again", err)
	}
}

// A peer that answers with garbage harms nobody but itself.
func TestGarbageAnswers(t *testing.T) {
	ca := newCA(t)
	s := strange(t, issue(t, ca, devpki.Leaf{Names: []string{"b.example"}}), directoryAt(t, "https://b.example/v1"), nil)
	c, peers := asker(t, ca, s.address)
	good := marshalT(t, &mimi.IdentifierResponse{ResponseCode: mimi.QueryNotFound})
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(make([]byte, 8*mib)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		step   Step // "" for success
		text   string
		handle http.HandlerFunc
	}{
		{"good", "", "", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(good) }},
		{"202", "", "", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(202); _, _ = w.Write(good) }},
		{"garbage", StepAnswer, "makes no sense", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("hello")) }},
		{"nothing", StepAnswer, "makes no sense", func(w http.ResponseWriter, r *http.Request) {}},
		{"trailing octets", StepAnswer, "makes no sense", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(append(bytes.Clone(good), 0)) }},
		{"endless", StepAnswer, "longer than allowed", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64*kib)); err != nil {
					return
				}
			}
		}},
		{"long promise", StepAnswer, "longer than allowed", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1073741824")
			w.WriteHeader(200)
		}},
		{"bomb", StepAnswer, "compressed", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		}},
		{"cut off", StepAnswer, "", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write(good)
			panic(http.ErrAbortHandler)
		}},
		{"redirect", StepRefused, "302", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://b.example/elsewhere", http.StatusFound)
		}},
		{"never", StepSlow, "", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{"terminal codes in a refusal", StepRefused, "[31mgotcha", func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "\x1b[31mgotcha\x00", http.StatusTeapot)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.handler.Store(&tc.handle)
			err := query(c)
			if tc.step == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantStep(t, err, tc.step)
			if !strings.Contains(err.Error(), tc.text) || strings.ContainsAny(err.Error(), "\x1b\x00") {
				t.Errorf("got %q, want %q", err, tc.text)
			}
			if st, _ := peers.Status("b.example"); st.Failure == "" || st.LastFailure.IsZero() {
				t.Error("the failure is not the peer's health")
			}
		})
	}
}

// A provider speaks for its own domain only, in its answers too.
func TestAnswersForAForeignDomain(t *testing.T) {
	ca := newCA(t)
	var answer []byte
	s := strange(t, issue(t, ca, devpki.Leaf{Names: []string{"b.example"}}), directoryAt(t, "https://b.example/v1"), func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(answer)
	})
	c, _ := asker(t, ca, s.address)
	ctx, hub := context.Background(), c.Peer("b.example")
	const bobsPhone = "mimi://b.example/d/bob/phone"
	keyMaterial := func(user mimi.UserURI, client mimi.ClientURI) ([]byte, func() error) {
		return marshalT(t, &mimi.KeyMaterialResponse{Protocol: mimi.MLS10, UserStatus: mimi.KeyMaterialNoCompatible, UserURI: user,
				Clients: []mimi.ClientKeyMaterial{{ClientStatus: mimi.ClientKeyMaterialExhausted, ClientURI: client}}}), func() error {
				_, err := hub.KeyMaterial(ctx, "a.example", bob, keyMaterialRequest())
				return err
			}
	}
	groupInfo := func(room mimi.RoomURI) ([]byte, func() error) {
		return marshalT(t, &mimi.GroupInfoResponse{Version: mimi.MLS10, RoomID: room, Status: mimi.GroupInfoNotAuthorized}), func() error {
			_, err := hub.GroupInfo(ctx, "a.example", roomB, &mimi.GroupInfoRequest{Protocol: mimi.MLS10, CipherSuite: 1,
				RequestingCredential: keyMaterialRequest().RequesterCredential})
			return err
		}
	}
	identifier := func(user mimi.UserURI) ([]byte, func() error) {
		return marshalT(t, &mimi.IdentifierResponse{ResponseCode: mimi.QuerySuccess, URI: []mimi.UserURI{user}}), func() error { return query(c) }
	}
	for _, tc := range []struct {
		name string
		make func() ([]byte, func() error)
		good bool
	}{
		{"key material", func() ([]byte, func() error) { return keyMaterial(bob, bobsPhone) }, true},
		{"key material of another user", func() ([]byte, func() error) { return keyMaterial("mimi://b.example/u/eve", bobsPhone) }, false},
		{"key material of another provider's client", func() ([]byte, func() error) { return keyMaterial(bob, "mimi://c.example/d/bob/phone") }, false},
		{"group info", func() ([]byte, func() error) { return groupInfo(roomB) }, true},
		{"group info of another room", func() ([]byte, func() error) { return groupInfo("mimi://b.example/r/other") }, false},
		{"user", func() ([]byte, func() error) { return identifier(bob) }, true},
		{"user of another provider", func() ([]byte, func() error) { return identifier(alice) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var call func() error
			answer, call = tc.make()
			err := call()
			if tc.good && err != nil {
				t.Error(err)
			}
			if !tc.good {
				wantStep(t, err, StepAnswer)
			}
		})
	}
}

func TestDirectoryCache(t *testing.T) {
	ca := newCA(t)
	answer := func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(marshalT(t, &mimi.IdentifierResponse{ResponseCode: mimi.QueryNotFound}))
	}
	var directory atomic.Pointer[http.HandlerFunc]
	set := func(h http.HandlerFunc) { directory.Store(&h) }
	set(directoryAt(t, "https://b.example/v1", "Cache-Control", "public, max-age=600", "ETag", `"1"`))
	s := strange(t, issue(t, ca, devpki.Leaf{Names: []string{"b.example"}}), func(w http.ResponseWriter, r *http.Request) { (*directory.Load())(w, r) }, answer)
	c, _ := asker(t, ca, s.address)
	clock := time.Now()
	c.now = func() time.Time { return clock }
	ask := func(what string, wantFetches int64) {
		t.Helper()
		if err := query(c); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got := s.asked.Swap(0); got != wantFetches {
			t.Errorf("%s: directory fetched %d times, want %d", what, got, wantFetches)
		}
	}
	ask("first", 1)
	ask("cached", 0)
	clock = clock.Add(9 * time.Minute)
	ask("still fresh", 0)
	clock = clock.Add(2 * time.Minute)
	set(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != `"1"` {
			t.Error("not revalidated")
		}
		w.Header().Set("Cache-Control", "max-age=600")
		w.WriteHeader(http.StatusNotModified)
	})
	ask("revalidated", 1)
	ask("cached again", 0)
	clock = clock.Add(11 * time.Minute)
	set(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })
	ask("stale while it can't be had", 1)
	ask("and not fetched at once again", 0)
	clock = clock.Add(48 * time.Hour)
	if err := query(c); err == nil {
		t.Error("a directory two days old was used")
	}
	// Many at once fetch it once.
	s.asked.Store(0)
	set(directoryAt(t, "https://b.example/v1", "Cache-Control", "no-cache"))
	clock = clock.Add(time.Minute)
	done := make(chan error)
	for range 10 {
		go func() { done <- query(c) }()
	}
	for range 10 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := s.asked.Swap(0); got != 1 {
		t.Errorf("fetched %d times by ten at once", got)
	}
}

func TestCacheAge(t *testing.T) {
	for _, tc := range []struct {
		control, age string
		want         time.Duration
	}{
		{"", "", time.Hour},
		{"max-age=300", "", 5 * time.Minute},
		{"public, MAX-AGE=\"300\"", "", 5 * time.Minute},
		{"max-age=300", "120", 3 * time.Minute},
		{"max-age=300", "900", time.Minute},
		{"max-age=0", "", time.Minute},
		{"max-age=-1", "", time.Hour},
		{"max-age=99999999", "", 24 * time.Hour},
		{"max-age=999999999999999999999", "", time.Hour},
		{"no-store", "", time.Minute},
		{"private, no-cache", "", time.Minute},
	} {
		h := http.Header{"Cache-Control": {tc.control}, "Age": {tc.age}}
		if got := cacheAge(h); got != tc.want {
			t.Errorf("%q, age %q: %v, want %v", tc.control, tc.age, got, tc.want)
		}
	}
}

// A directory is believed for its own domain only (Decisions 4, 5).
func TestBadDirectories(t *testing.T) {
	ca := newCA(t)
	pair := issue(t, ca, devpki.Leaf{Names: []string{"b.example", "mimi.b.example"}})
	// The stranger's certificate is all that victim.example would show, too: the
	// address override brings every host of b's directory to the same place.
	for _, tc := range []struct {
		name      string
		directory http.HandlerFunc
		step      Step // "" for success
		text      string
	}{
		{"own host", directoryAt(t, "https://b.example/v1"), "", ""},
		{"subdomain", directoryAt(t, "https://mimi.b.example:8443/v1"), "", ""},
		{"another provider's host", directoryAt(t, "https://victim.example/v1"), StepCertificate, "not for the host victim.example"},
		{"an address", directoryAt(t, "https://127.0.0.1/v1"), StepDirectory, "no host name"},
		{"localhost", directoryAt(t, "https://localhost/v1"), StepCertificate, "localhost"},
		{"http", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"identifierQuery":"http://b.example/{domain}"}`)
		}, StepDirectory, "https"},
		{"not JSON", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") }, StepDirectory, "directory"},
		{"too long", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte(" "), maxDirectory+1))
		}, StepAnswer, "longer than allowed"},
		{"missing", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, StepRefused, "not found"},
		{"redirect to another host", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://mimi.b.example"+mimi.DirectoryPath, http.StatusFound)
		}, StepRefused, "302"},
		{"redirect to http", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://b.example"+mimi.DirectoryPath, http.StatusFound)
		}, StepRefused, "302"},
		{"redirect in circles", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, mimi.DirectoryPath, http.StatusFound)
		}, StepRefused, "302"},
		{"redirect on the same host", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "" {
				http.Redirect(w, r, mimi.DirectoryPath+"?2", http.StatusFound)
				return
			}
			directoryAt(t, "https://b.example/v1")(w, r)
		}, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := strange(t, pair, tc.directory, func(w http.ResponseWriter, r *http.Request) {
				_, _ = w.Write(marshalT(t, &mimi.IdentifierResponse{ResponseCode: mimi.QueryNotFound}))
			})
			c, _ := asker(t, ca, s.address)
			err := query(c)
			if tc.step == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var pe *PeerError
			if !errors.As(err, &pe) || pe.Step != tc.step || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want step %s with %q", err, tc.step, tc.text)
			}
		})
	}
	t.Run("empty", func(t *testing.T) {
		s := strange(t, pair, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"future_v2": "https://b.example/x"}`) }, nil)
		c, _ := asker(t, ca, s.address)
		var missing *NotOfferedError
		if err := query(c); !errors.As(err, &missing) || missing.Endpoint != "identifierQuery" {
			t.Error(err)
		}
	})
}

// Names that lead inside are not followed unless the config says so.
func TestClientRefusesPrivateAddresses(t *testing.T) {
	ca := newCA(t)
	s := strange(t, issue(t, ca, devpki.Leaf{Names: []string{"localhost"}}), directoryAt(t, "https://localhost/v1"), nil)
	c, _ := asker(t, ca, s.address)
	_, err := c.Directory(context.Background(), "localhost")
	if !errors.Is(err, errPrivateAddress) {
		t.Errorf("got %v", err)
	}
	wantStep(t, err, StepName)
	if s.asked.Load() != 0 {
		t.Error("it was asked")
	}
}

func TestPeerCertificates(t *testing.T) {
	ca := newCA(t)
	now := time.Now()
	for _, tc := range []struct {
		name string
		leaf devpki.Leaf
		ca   *devpki.CA
		text string
	}{
		{"another's name", devpki.Leaf{Names: []string{"c.example"}}, ca, "it names c.example"},
		{"another CA", devpki.Leaf{Names: []string{"b.example"}}, newCA(t), "leads to no authority"},
		{"expired", devpki.Leaf{Names: []string{"b.example"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(0, 0, -1)}, ca, "expired on"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := strange(t, issue(t, tc.ca, tc.leaf), directoryAt(t, "https://b.example/v1"), nil)
			c, _ := asker(t, ca, s.address)
			err := query(c)
			wantStep(t, err, StepCertificate)
			if !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %q", err, tc.text)
			}
			if s.asked.Load() != 0 {
				t.Error("a request was sent to it")
			}
		})
	}
}

// The client's certificate and its trust in a peer rotate without a restart, and
// the kill switch stops it.
func TestClientRotates(t *testing.T) {
	ca := newCA(t)
	s := strange(t, issue(t, ca, devpki.Leaf{Names: []string{"b.example"}}), directoryAt(t, "https://b.example/v1"), func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(marshalT(t, &mimi.IdentifierResponse{ResponseCode: mimi.QueryNotFound}))
	})
	dir := t.TempDir()
	first := issue(t, ca, devpki.Leaf{Names: []string{"a.example"}})
	second := issue(t, ca, devpki.Leaf{Names: []string{"a.example"}})
	certFile, keyFile := writePair(t, first, dir, "own")
	logger := slog.New(slog.DiscardHandler)
	cert, err := LoadCertificate(CertificateConfig{Domain: "a.example", CertFile: certFile, KeyFile: keyFile, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	caFile := writeFile(t, filepath.Join(dir, "ca.pem"), ca.PEM())
	peers, err := NewPeers(PeersConfig{Logger: logger, Peers: map[mimi.ProviderDomain]PeerConfig{"b.example": {Address: s.address, Trust: TrustCA, CAFile: caFile}}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(ClientConfig{Certificate: cert, Peers: peers, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	clock := time.Now()
	c.now = func() time.Time { return clock }
	cert.now, peers.now = c.now, c.now
	shows := func(p devpki.Pair) {
		t.Helper()
		if err := query(c); err != nil {
			t.Fatal(err)
		}
		if cs := s.shown.Load(); len(cs.PeerCertificates) == 0 || !cs.PeerCertificates[0].Equal(p.Certificate.Leaf) {
			t.Error("the client shows another certificate")
		}
	}
	shows(first)
	writePair(t, second, dir, "own")
	clock = clock.Add(2 * watchInterval)
	shows(second)
	if got := s.asked.Load(); got != 1 {
		t.Errorf("the directory was fetched %d times", got)
	}
	writeFile(t, caFile, newCA(t).PEM())
	clock = clock.Add(2 * watchInterval)
	wantStep(t, query(c), StepCertificate)
	writeFile(t, caFile, ca.PEM())
	peers.Reload()
	shows(second)
	if err := peers.Block("b.example", "test"); err != nil {
		t.Fatal(err)
	}
	var blocked *BlockedError
	if err := query(c); !errors.As(err, &blocked) || blocked.Why != "test" {
		t.Error(err)
	}
	if err := peers.Unblock("b.example"); err != nil {
		t.Fatal(err)
	}
	shows(second)
}

func TestClientSpeaksForItselfOnly(t *testing.T) {
	ca := newCA(t)
	c, _ := asker(t, ca, "127.0.0.1:1")
	ctx := context.Background()
	if err := c.Peer("b.example").RequestConsent(ctx, "c.example", consentEntry(mimi.ConsentRequest)); err == nil || !strings.Contains(err.Error(), "can't send for c.example") {
		t.Error(err)
	}
	if _, err := c.Directory(ctx, "a.example"); err == nil || !strings.Contains(err.Error(), "this provider itself") {
		t.Error(err)
	}
}

// One connection carries many requests.
func TestConnectionReuse(t *testing.T) {
	ca := newCA(t)
	var connections atomic.Int64
	seen := make(map[string]bool)
	s := strange(t, issue(t, ca, devpki.Leaf{Names: []string{"b.example"}}), directoryAt(t, "https://b.example/v1"), func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Error(r.Proto)
		}
		if !seen[r.RemoteAddr] {
			seen[r.RemoteAddr] = true
			connections.Add(1)
		}
		_, _ = w.Write(marshalT(t, &mimi.IdentifierResponse{ResponseCode: mimi.QueryNotFound}))
	})
	c, _ := asker(t, ca, s.address)
	for range 20 {
		if err := query(c); err != nil {
			t.Fatal(err)
		}
	}
	if got := connections.Load(); got != 1 {
		t.Errorf("%d connections for 20 requests", got)
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "-5": 0, "x": 0, "99999999999": 0,
		"Wed, 25 Nov 2026 12:00:30 GMT": 30 * time.Second, "Wed, 25 Nov 2026 11:00:30 GMT": 0,
	} {
		if got := parseRetryAfter(s, now); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
	if retryAfter(1) != "1" || retryAfter(time.Second) != "1" || retryAfter(1500*time.Millisecond) != "2" {
		t.Error("not rounded up")
	}
}

// A client with much to say waits for its turn and is not refused.
func TestClientTakesTurns(t *testing.T) {
	a, b := two(t, providerConfig{limits: Limits{Endpoints: map[string]EndpointLimit{"identifierQuery": {Concurrent: 2 * maxUnderWay}}}})
	a.hub.wait = make(chan struct{})
	const n = 3 * maxUnderWay
	done := make(chan error)
	for range n {
		go func() {
			_, err := b.client.Peer("a.example").IdentifierQuery(context.Background(), "b.example", "a.example", &mimi.IdentifierRequest{})
			done <- err
		}()
	}
	waitFor(t, func() bool { s, _ := a.peers.Status("b.example"); return s.InFlight == maxUnderWay })
	close(a.hub.wait)
	for range n {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
