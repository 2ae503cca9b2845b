package federation

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/federation/devpki"
	"github.com/comity-im/comity/mimi"
)

const base = "https://a.example/v1/"

func roomPath(key string, room mimi.RoomURI) string {
	return base + key + "/" + mimi.Escape(string(room))
}

// attempt is one request to a.example as somebody might send it.
type attempt struct {
	name     string
	cert     *devpki.Pair
	method   string // POST if empty
	url      string
	host     string   // the Host field; empty: the URL's
	from     []string // nil: mimi@b.example
	header   http.Header
	body     io.Reader
	endpoint string // of the refusal
	status   int
	reason   Reason // empty: not refused
	text     string // in the body of the answer
	log      map[string]any
}

func (p *provider) attempt(t *testing.T, a attempt) *http.Response {
	t.Helper()
	p.log.reset()
	method := a.method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequest(method, a.url, a.body)
	if err != nil {
		t.Fatal(err)
	}
	if a.host != "" {
		req.Host = a.host
	}
	if a.from == nil {
		a.from = []string{"mimi@b.example"}
	}
	req.Header["From"] = a.from
	for k, v := range a.header {
		req.Header[k] = v
	}
	before := p.refusals(a.endpoint, a.reason)
	resp, err := p.raw(a.cert).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != a.status || !strings.Contains(string(body), a.text) {
		t.Errorf("%d %q, want %d with %q", resp.StatusCode, body, a.status, a.text)
	}
	if a.reason == "" {
		return resp
	}
	if got := p.refusals(a.endpoint, a.reason) - before; got != 1 {
		t.Errorf("%v refusals counted for %s, %s", got, a.endpoint, a.reason)
	}
	want := map[string]any{"endpoint": a.endpoint, "reason": string(a.reason), "status": float64(a.status)}
	for k, v := range a.log {
		want[k] = v
	}
	if lines := p.log.find(t, want); len(lines) != 1 {
		t.Errorf("%d log lines with %v, want one; all: %v", len(lines), want, p.log.find(t, nil))
	}
	if lines := p.log.find(t, map[string]any{"msg": "federation request refused"}); len(lines) != 1 {
		t.Errorf("%d lines for one refusal", len(lines))
	}
	return resp
}

// zeros is a body of n octets.
func zeros(n int64) io.Reader { return io.LimitReader(zeroReader{}, n) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The attacker is another provider, with a certificate that is good for its own
// domain: each thing it must not do has a status, a log line and a count.
func TestRefusals(t *testing.T) {
	ca, evilCA := newCA(t), newCA(t)
	a := start(t, ca, providerConfig{domain: "a.example", limits: Limits{Endpoints: map[string]EndpointLimit{"identifierQuery": {Body: 100}}}})
	issueB := func(names ...string) *devpki.Pair {
		p := issue(t, ca, devpki.Leaf{Names: names})
		return &p
	}
	b, c := issueB("b.example"), issueB("c.example")
	both := issueB("c.example", "b.example")
	serverOnly := issue(t, ca, devpki.Leaf{Names: []string{"b.example"}, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	untrusted := issue(t, evilCA, devpki.Leaf{Names: []string{"b.example"}})
	expired := issue(t, ca, devpki.Leaf{Names: []string{"b.example"}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(0, 0, -1)})
	if err := a.peers.Block("blocked.example", "spam"); err != nil {
		t.Fatal(err)
	}
	submit := marshalT(t, submitRequest(t))
	body := func() io.Reader { return bytes.NewReader(submit) }
	consent := func(o mimi.ConsentOperation) io.Reader { return bytes.NewReader(marshalT(t, consentEntry(o))) }
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.Copy(z, zeros(16*mib)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	submitURL := roomPath("submitMessage", roomA)
	cathys := keyMaterialRequest()
	cathys.TargetUser = "mimi://c.example/u/cathy"
	for _, at := range []attempt{
		{name: "good", cert: b, url: submitURL, body: body(), status: 200},
		{name: "serverAuth only", cert: &serverOnly, url: submitURL, body: body(), status: 200},
		{name: "certificate of several domains", cert: both, url: submitURL, body: body(), status: 200},
		{name: "port in Host", cert: b, url: submitURL, host: "a.example:8443", body: body(), status: 200},

		{name: "GET", cert: b, method: "GET", url: submitURL, endpoint: "submitMessage", status: 405, reason: ReasonMethod},
		{name: "PUT", cert: b, method: "PUT", url: submitURL, body: body(), endpoint: "submitMessage", status: 405, reason: ReasonMethod},
		{name: "wrong Host", cert: b, url: submitURL, host: "c.example", body: body(), endpoint: "submitMessage", status: 421, reason: ReasonHost, text: "this is a.example, not c.example"},
		{name: "no From", cert: b, url: submitURL, from: []string{}, body: body(), endpoint: "submitMessage", status: 400, reason: ReasonFromMissing},
		{name: "empty From", cert: b, url: submitURL, from: []string{""}, body: body(), endpoint: "submitMessage", status: 400, reason: ReasonFromInvalid},
		{name: "two From", cert: b, url: submitURL, from: []string{"mimi@b.example", "mimi@c.example"}, body: body(), endpoint: "submitMessage", status: 400, reason: ReasonUnsupportedRequest},
		{name: "From of a person", cert: b, url: submitURL, from: []string{"bob@b.example"}, body: body(), endpoint: "submitMessage", status: 400, reason: ReasonFromInvalid},
		{name: "From with a name", cert: b, url: submitURL, from: []string{"B <mimi@b.example>"}, body: body(), endpoint: "submitMessage", status: 400, reason: ReasonFromInvalid},
		{name: "From in upper case", cert: b, url: submitURL, from: []string{"mimi@B.example"}, body: body(), endpoint: "submitMessage", status: 400, reason: ReasonFromInvalid},
		{name: "From of another provider", cert: c, url: submitURL, body: body(), endpoint: "submitMessage", status: 403, reason: ReasonFromMismatch,
			text: "does not name b.example: it names c.example", log: map[string]any{"claimed": "b.example"}},
		{name: "From of a subdomain", cert: b, url: submitURL, from: []string{"mimi@x.b.example"}, body: body(), endpoint: "submitMessage", status: 403, reason: ReasonFromMismatch},
		{name: "wildcard certificate", cert: issueB("*.example"), url: submitURL, body: body(), endpoint: "submitMessage", status: 403, reason: ReasonFromMismatch},
		{name: "no certificate", url: submitURL, body: body(), endpoint: "submitMessage", status: 403, reason: ReasonNoCertificate, log: map[string]any{"claimed": "b.example"}},
		{name: "another CA", cert: &untrusted, url: submitURL, body: body(), endpoint: "submitMessage", status: 403, reason: ReasonUntrusted},
		{name: "expired certificate", cert: &expired, url: submitURL, body: body(), endpoint: "submitMessage", status: 403, reason: ReasonUntrusted, text: "expired on"},
		{name: "blocked", cert: issueB("blocked.example"), url: submitURL, from: []string{"mimi@blocked.example"}, body: body(), endpoint: "submitMessage", status: 403, reason: ReasonBlocked,
			log: map[string]any{"peer": "blocked.example"}},

		{name: "unknown path", cert: b, url: "https://a.example/v1/nothing/here", endpoint: "none", status: 404, reason: ReasonUnknownPath},
		{name: "decoded path", cert: b, url: base + "submitMessage/mimi:%2F%2Fa.example/r/clubhouse", body: body(), endpoint: "none", status: 404, reason: ReasonUnknownPath},
		{name: "no URI in the path", cert: b, url: base + "submitMessage/clubhouse", body: body(), endpoint: "submitMessage", status: 400, reason: ReasonPathVariable},
		{name: "user instead of room", cert: b, url: base + "submitMessage/" + mimi.Escape(string(alice)), body: body(), endpoint: "submitMessage", status: 400, reason: ReasonPathVariable},
		{name: "room of another hub", cert: b, url: roomPath("submitMessage", roomB), body: body(), endpoint: "submitMessage", status: 404, reason: ReasonNotHosted},
		{name: "user of another provider, for a room of another hub", cert: b, url: base + "keyMaterial/" + mimi.Escape("mimi://c.example/u/cathy"), body: bytes.NewReader(marshalT(t, cathys)), endpoint: "keyMaterial", status: 404, reason: ReasonNotHosted},
		{name: "query for another provider", cert: b, url: base + "identifierQuery/c.example", body: body(), endpoint: "identifierQuery", status: 404, reason: ReasonNotHosted},
		{name: "claims a room it does not host", cert: b, url: roomPath("notify", "mimi://c.example/r/x"), body: body(), endpoint: "notify", status: 403, reason: ReasonSource,
			text: "b.example is not the hub of a room of c.example", log: map[string]any{"peer": "b.example"}},
		{name: "notifies us of our own room", cert: b, url: roomPath("notify", roomA), body: body(), endpoint: "notify", status: 403, reason: ReasonSource},

		{name: "trailing octets", cert: b, url: submitURL, body: bytes.NewReader(append(bytes.Clone(submit), 0)), endpoint: "submitMessage", status: 400, reason: ReasonMalformed,
			text: fmt.Sprintf("offset %d", len(submit))},
		{name: "cut off", cert: b, url: submitURL, body: bytes.NewReader(submit[:len(submit)-1]), endpoint: "submitMessage", status: 400, reason: ReasonMalformed, text: `field "sendingUri`},
		{name: "empty body", cert: b, url: submitURL, body: nil, endpoint: "submitMessage", status: 400, reason: ReasonMalformed, text: `offset 0, field "protocol"`},
		{name: "gzip bomb", cert: b, url: submitURL, body: bytes.NewReader(bomb.Bytes()), header: http.Header{"Content-Encoding": {"gzip"}}, endpoint: "submitMessage", status: 415, reason: ReasonContentEncoding},
		{name: "100 MiB", cert: b, url: submitURL, body: io.MultiReader(zeros(100 * mib)), endpoint: "submitMessage", status: 413, reason: ReasonTooLarge},
		{name: "100 MiB promised", cert: b, url: submitURL, body: bytes.NewReader(make([]byte, 100*mib)), endpoint: "submitMessage", status: 413, reason: ReasonTooLarge},
		{name: "over a limit of the config", cert: b, url: base + "identifierQuery/a.example", body: zeros(101), endpoint: "identifierQuery", status: 413, reason: ReasonTooLarge, text: "at most 100 octets"},

		{name: "asks consent for another's user", cert: c, from: []string{"mimi@c.example"}, url: base + "requestConsent/" + mimi.Escape(string(alice)), body: consent(mimi.ConsentRequest),
			endpoint: "requestConsent", status: 403, reason: ReasonSource, text: "c.example may not act for b.example"},
		{name: "grants for another's user", cert: c, from: []string{"mimi@c.example"}, url: base + "updateConsent/" + mimi.Escape(string(alice)), body: consent(mimi.ConsentRevoke),
			endpoint: "updateConsent", status: 403, reason: ReasonSource},
		{name: "grant at the wrong endpoint", cert: b, url: base + "requestConsent/" + mimi.Escape(string(alice)), body: consent(mimi.ConsentGrant), endpoint: "requestConsent", status: 400, reason: ReasonMalformed},
		{name: "request at the wrong endpoint", cert: b, url: base + "updateConsent/" + mimi.Escape(string(alice)), body: consent(mimi.ConsentRequest), endpoint: "updateConsent", status: 400, reason: ReasonMalformed},
		{name: "path and body disagree", cert: b, url: base + "requestConsent/" + mimi.Escape("mimi://a.example/u/alex"), body: consent(mimi.ConsentRequest), endpoint: "requestConsent", status: 400, reason: ReasonMalformed},
		{name: "key material for another's user", cert: c, from: []string{"mimi@c.example"}, url: base + "keyMaterial/" + mimi.Escape(string(alice)),
			body: bytes.NewReader(marshalT(t, keyMaterialRequest())), endpoint: "keyMaterial", status: 403, reason: ReasonSource},
		{name: "report in another's name", cert: c, from: []string{"mimi@c.example"}, url: roomPath("reportAbuse", roomA),
			body: bytes.NewReader(marshalT(t, &mimi.AbuseReport{ReportingUser: bob, AllegedAbuserURI: alice})), endpoint: "reportAbuse", status: 403, reason: ReasonSource},
		{name: "another's user is gone", cert: c, from: []string{"mimi@c.example"}, url: roomPath("gone", roomA),
			body: bytes.NewReader(marshalT(t, &mimi.GoneNotice{User: bob})), endpoint: "comityGone", status: 403, reason: ReasonSource},
		{name: "directory by POST", method: "POST", url: "https://a.example" + mimi.DirectoryPath, endpoint: "well-known/mimi-protocol-directory", status: 405, reason: ReasonMethod},
		{name: "directory of another", method: "GET", url: "https://a.example" + mimi.DirectoryPath, host: "b.example", endpoint: "well-known/mimi-protocol-directory", status: 421, reason: ReasonHost},
	} {
		t.Run(at.name, func(t *testing.T) {
			a.hub.taken()
			resp := a.attempt(t, at)
			if calls := a.hub.taken(); (at.status == 200) != (len(calls) == 1) {
				t.Errorf("the hub was called: %q", calls)
			}
			if at.status == 405 && resp.Header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
		})
	}
}

// The hub of a room may relay a request for key material of another provider's
// user (Decision 13).
func TestRelayedKeyMaterial(t *testing.T) {
	ca := newCA(t)
	a := start(t, ca, providerConfig{domain: "a.example"})
	req := keyMaterialRequest()
	req.RoomID = "mimi://c.example/r/x"
	c := issue(t, ca, devpki.Leaf{Names: []string{"c.example"}})
	a.attempt(t, attempt{cert: &c, from: []string{"mimi@c.example"}, url: base + "keyMaterial/" + mimi.Escape(string(alice)),
		body: bytes.NewReader(marshalT(t, req)), status: 200})
}

// A body that trickles in is cut off, on both versions of HTTP, and the
// connection's time is not the handler's: a hub may think longer than a body may take.
func TestSlowBody(t *testing.T) {
	limits := map[string]EndpointLimit{"submitMessage": {BodyTime: 500 * time.Millisecond}}
	a, b := two(t, providerConfig{limits: Limits{Endpoints: limits}})
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		client := a.raw(&b.pair)
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = version == "HTTP/2.0"
		r, w := io.Pipe()
		go func() {
			for range 50 {
				if _, err := w.Write([]byte{1}); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
			w.Close()
		}()
		req, err := http.NewRequest("POST", roomPath("submitMessage", roomA), r)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("From", "mimi@b.example")
		before := a.refusals("submitMessage", ReasonSlowBody)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		resp.Body.Close()
		r.Close()
		if resp.Proto != version || resp.StatusCode != 408 {
			t.Errorf("%s %d", resp.Proto, resp.StatusCode)
		}
		if got := a.refusals("submitMessage", ReasonSlowBody) - before; got != 1 {
			t.Errorf("%v refusals counted", got)
		}
	}
	a.hub.wait = make(chan struct{})
	go func() {
		time.Sleep(800 * time.Millisecond)
		close(a.hub.wait)
	}()
	if _, err := b.client.Peer("a.example").SubmitMessage(context.Background(), "b.example", roomA, submitRequest(t)); err != nil {
		t.Errorf("a slow hub is taken for a slow body: %v", err)
	}
}

// One peer can't have more than its share of time or memory; others don't notice.
func TestFlood(t *testing.T) {
	ca := newCA(t)
	a := start(t, ca, providerConfig{domain: "a.example",
		peers:  PeersConfig{Quota: Quota{PerSecond: 1, Burst: 5, Concurrent: 3}},
		limits: Limits{Memory: 3 * mib, PeerMemory: mib, Endpoints: map[string]EndpointLimit{"groupInfo": {Concurrent: 1}}}})
	b := issue(t, ca, devpki.Leaf{Names: []string{"b.example"}})
	c := issue(t, ca, devpki.Leaf{Names: []string{"c.example"}})
	submit := marshalT(t, submitRequest(t))
	send := func(pair *devpki.Pair, domain, url string, body io.Reader) *http.Response {
		t.Helper()
		req, err := http.NewRequest("POST", url, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("From", "mimi@"+domain)
		resp, err := a.raw(pair).Do(req)
		if err != nil {
			t.Error(err)
			return &http.Response{Header: http.Header{}}
		}
		resp.Body.Close()
		return resp
	}
	status := func(resp *http.Response) string {
		return fmt.Sprintf("%d retry=%v", resp.StatusCode, resp.Header.Get("Retry-After") != "")
	}
	url := roomPath("submitMessage", roomA)
	want := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	count := func(endpoint string, reason Reason) {
		t.Helper()
		if a.refusals(endpoint, reason) == 0 {
			t.Errorf("no refusal counted for %s", reason)
		}
	}
	// The rate.
	for range 5 {
		want("within the burst", status(send(&b, "b.example", url, bytes.NewReader(submit))), "200 retry=false")
	}
	want("beyond it", status(send(&b, "b.example", url, bytes.NewReader(submit))), "429 retry=true")
	want("another peer", status(send(&c, "c.example", url, bytes.NewReader(submit))), "200 retry=false")
	count("submitMessage", ReasonRate)
	// Changed while running.
	for _, d := range []mimi.ProviderDomain{"b.example", "c.example"} {
		if err := a.peers.SetQuota(d, Quota{PerSecond: 1000, Burst: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	want("after SetQuota", status(send(&b, "b.example", url, bytes.NewReader(submit))), "200 retry=false")
	// Requests under way.
	a.hub.mu.Lock()
	a.hub.wait = make(chan struct{})
	a.hub.mu.Unlock()
	results := make(chan string, 3)
	for range 3 {
		go func() { results <- status(send(&b, "b.example", url, bytes.NewReader(submit))) }()
	}
	waitFor(t, func() bool { s, _ := a.peers.Status("b.example"); return s.InFlight == 3 })
	want("a fourth", status(send(&b, "b.example", url, bytes.NewReader(submit))), "429 retry=true")
	count("submitMessage", ReasonPeerConcurrency)
	info := marshalT(t, &mimi.GroupInfoRequest{Protocol: mimi.MLS10, CipherSuite: 1, RequestingCredential: keyMaterialRequest().RequesterCredential})
	go func() { results <- status(send(&c, "c.example", roomPath("groupInfo", roomA), bytes.NewReader(info))) }()
	waitFor(t, func() bool { s, _ := a.peers.Status("c.example"); return s.InFlight == 1 })
	want("a second to one endpoint", status(send(&c, "c.example", roomPath("groupInfo", roomA), bytes.NewReader(info))), "429 retry=true")
	count("groupInfo", ReasonConcurrency)
	close(a.hub.wait)
	for range 4 {
		want("those under way", <-results, "200 retry=false")
	}
	// Memory: what one peer has in flight is bounded, whatever each request may have.
	want("memory of one peer", status(send(&b, "b.example", roomPath("update", roomA), zeros(2*mib))), "429 retry=true")
	count("update", ReasonPeerMemory)
	a.server.memory.mu.Lock()
	held := a.server.memory.held
	a.server.memory.held = 3 * mib
	a.server.memory.mu.Unlock()
	if held != 0 {
		t.Errorf("%d octets still counted", held)
	}
	want("all memory", status(send(&c, "c.example", url, bytes.NewReader(submit))), "503 retry=true")
	count("submitMessage", ReasonMemory)
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 200 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("waited in vain")
}

// A hub that does not answer in time costs one 503, not a connection for ever.
func TestSlowHub(t *testing.T) {
	a, b := two(t, providerConfig{limits: Limits{Endpoints: map[string]EndpointLimit{"submitMessage": {Time: 100 * time.Millisecond}}}})
	a.hub.wait = make(chan struct{})
	_, err := b.client.Peer("a.example").SubmitMessage(context.Background(), "b.example", roomA, submitRequest(t))
	if wait, again := Again(err); !again || wait == 0 {
		t.Errorf("%v: wait %v, again %v", err, wait, again)
	}
	if a.refusals("submitMessage", ReasonUnavailable) != 1 {
		t.Error("not counted")
	}
}

// A panic in the hub is a 500 for one request.
func TestPanic(t *testing.T) {
	a, b := two(t, providerConfig{edit: func(cfg *ServerConfig) { cfg.Hub = struct{ mimi.Hub }{} }})
	_, err := b.client.Peer("a.example").SubmitMessage(context.Background(), "b.example", roomA, submitRequest(t))
	var pe *PeerError
	if !errors.As(err, &pe) || pe.Status != 500 {
		t.Error(err)
	}
	if lines := a.log.find(t, map[string]any{"msg": "panic in a federation request"}); len(lines) != 1 {
		t.Errorf("%d log lines", len(lines))
	}
}

// Trust per peer: a private CA and a pinned key count for the peer they are
// configured for and for nobody else; the kill switch and new trust work on
// connections that are open.
func TestTrustAtRunTime(t *testing.T) {
	ca, private := newCA(t), newCA(t)
	self, err := devpki.SelfSigned(devpki.Leaf{Names: []string{"p.example"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	caFile := writeFile(t, filepath.Join(dir, "b.pem"), private.PEM())
	a := start(t, ca, providerConfig{domain: "a.example", peers: PeersConfig{Peers: map[mimi.ProviderDomain]PeerConfig{
		"b.example": {Trust: TrustCA, CAFile: caFile},
		"p.example": {Trust: TrustPin, Pins: []string{self.SPKI()}},
	}}})
	clock := time.Now()
	now := func() time.Time { return clock }
	a.peers.now, a.server.now = now, now
	b := issue(t, private, devpki.Leaf{Names: []string{"b.example"}})
	c := issue(t, private, devpki.Leaf{Names: []string{"c.example"}})
	webB := issue(t, ca, devpki.Leaf{Names: []string{"b.example"}})
	webP := issue(t, ca, devpki.Leaf{Names: []string{"p.example"}})
	clients := make(map[*devpki.Pair]*http.Client)
	send := func(pair *devpki.Pair, domain string, want int) {
		t.Helper()
		if clients[pair] == nil {
			clients[pair] = a.raw(pair)
		}
		req, err := http.NewRequest("POST", base+"identifierQuery/a.example", bytes.NewReader(marshalT(t, &mimi.IdentifierRequest{})))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("From", "mimi@"+domain)
		resp, err := clients[pair].Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", domain, resp.StatusCode, want)
		}
	}
	send(&b, "b.example", 200)
	send(&webB, "b.example", 403) // the web's CA does not count for it
	send(&c, "c.example", 403)    // b's CA does not count for c
	send(&self, "p.example", 200)
	send(&webP, "p.example", 403)
	// The kill switch, on and off.
	if err := a.peers.Block("b.example", "test"); err != nil {
		t.Fatal(err)
	}
	send(&b, "b.example", 403)
	if err := a.peers.Unblock("b.example"); err != nil {
		t.Fatal(err)
	}
	send(&b, "b.example", 200)
	// The CA file changes under our feet, then back by Reload.
	writeFile(t, caFile, newCA(t).PEM())
	clock = clock.Add(2 * watchInterval)
	send(&b, "b.example", 403)
	writeFile(t, caFile, private.PEM())
	a.peers.Reload()
	send(&b, "b.example", 200)
	// The allow list.
	other := issue(t, ca, devpki.Leaf{Names: []string{"other.example"}})
	send(&other, "other.example", 200)
	if err := a.peers.SetPolicy(PolicyAllowlist); err != nil {
		t.Fatal(err)
	}
	send(&other, "other.example", 403)
	send(&b, "b.example", 200)
	// A certificate that ends while its connection is open.
	clock = clock.AddDate(2, 0, 0)
	send(&b, "b.example", 403)
}
