package federation

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/federation/devpki"
	"github.com/comity-im/comity/mimi"
)

// Anybody may read the directory, the issuers and the health, without a
// certificate and without From, as curl does.
func TestPublicDocuments(t *testing.T) {
	ca := newCA(t)
	ready := errors.New("database locked")
	a := start(t, ca, providerConfig{domain: "a.example", edit: func(cfg *ServerConfig) {
		cfg.Issuers = func(context.Context) ([]byte, error) { return []byte(`{"provider":"a.example"}`), nil }
		cfg.Ready = func(context.Context) error { return ready }
		cfg.NotOffered = []string{"identifierQuery", "proxyDownload"}
	}})
	client := a.raw(nil)
	get := func(method, url string, header ...string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	url := "https://a.example" + mimi.DirectoryPath
	resp, body := get("GET", url)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "public, max-age=3600" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	var keys map[string]string
	if err := json.Unmarshal([]byte(body), &keys); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"keyMaterial": "https://a.example/v1/keyMaterial/{targetUser}", "notify": "https://a.example/v1/notify/{roomId}",
		"comityIssuers": "https://a.example/v1/issuers", "identifierQuery": "", "proxyDownload": "",
	} {
		if keys[key] != want {
			t.Errorf("%s: %q, want %q", key, keys[key], want)
		}
	}
	if resp, body := get("HEAD", url); resp.StatusCode != 200 || body != "" || resp.ContentLength <= 0 {
		t.Errorf("HEAD: %d %q %d", resp.StatusCode, body, resp.ContentLength)
	}
	for _, tag := range []string{resp.Header.Get("ETag"), "W/" + resp.Header.Get("ETag"), `"x", ` + resp.Header.Get("ETag"), "*"} {
		if resp, _ := get("GET", url, "If-None-Match", tag); resp.StatusCode != 304 {
			t.Errorf("If-None-Match %s: %d", tag, resp.StatusCode)
		}
	}
	if resp, body := get("GET", "https://a.example/v1/issuers"); resp.StatusCode != 200 || body != `{"provider":"a.example"}` {
		t.Errorf("issuers: %d %q", resp.StatusCode, body)
	}
	if resp, body := get("GET", "https://127.0.0.1/healthz"); resp.StatusCode != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", resp.StatusCode, body)
	}
	if resp, body := get("GET", "https://127.0.0.1/readyz"); resp.StatusCode != 503 || strings.Contains(body, "database") {
		t.Errorf("readyz: %d %q", resp.StatusCode, body)
	}
	if lines := a.log.find(t, map[string]any{"error": "database locked"}); len(lines) != 1 {
		t.Errorf("%d lines say why", len(lines))
	}
	ready = nil
	if resp, _ := get("GET", "https://127.0.0.1/readyz"); resp.StatusCode != 200 {
		t.Errorf("readyz: %d", resp.StatusCode)
	}
	if resp, _ := get("POST", "https://a.example/v1/identifierQuery/a.example"); resp.StatusCode != 404 {
		t.Errorf("an endpoint that is not offered: %d", resp.StatusCode)
	}
}

func TestIssuersTravel(t *testing.T) {
	doc := []byte(`{"provider":"a.example","issuers":[]}`)
	_, b := two(t, providerConfig{edit: func(cfg *ServerConfig) {
		cfg.Issuers = func(context.Context) ([]byte, error) { return doc, nil }
	}})
	got, age, err := b.client.Issuers(context.Background(), "a.example")
	if err != nil || string(got) != string(doc) || age != 5*time.Minute {
		t.Errorf("%q, %v, %v", got, age, err)
	}
	c := start(t, newCA(t), providerConfig{domain: "c.example"})
	c.knows(b, PeerConfig{})
	if _, _, err := c.client.Issuers(context.Background(), "b.example"); err == nil {
		t.Error("issuers came over an untrusted connection")
	}
}

func TestListen(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Listen(l.Addr().String())
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()+" is already in use") {
		t.Error(err)
	}
	if _, err := Listen("127.0.0.1:x"); err == nil || !strings.Contains(err.Error(), "can't listen on") {
		t.Error(err)
	}
}

// A server that ends lets the requests under way finish and takes no new ones.
func TestServeDrains(t *testing.T) {
	a, b := two(t, providerConfig{})
	a.hub.wait = make(chan struct{})
	result := make(chan error, 1)
	go func() {
		_, err := b.client.Peer("a.example").SubmitMessage(context.Background(), "b.example", roomA, submitRequest(t))
		result <- err
	}()
	waitFor(t, func() bool { s, _ := a.peers.Status("b.example"); return s.InFlight == 1 })
	stopped := make(chan struct{})
	go func() { a.stop(); close(stopped) }()
	waitFor(t, func() bool {
		conn, err := net.Dial("tcp", a.address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(a.hub.wait)
	if err := <-result; err != nil {
		t.Error(err)
	}
	<-stopped
}

func TestServerSettings(t *testing.T) {
	ca := newCA(t)
	cert := loadCertificate(t, issue(t, ca, devpki.Leaf{Names: []string{"a.example"}}), "a.example", "")
	peers, err := NewPeers(PeersConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]ServerConfig{
		"nothing":       {},
		"no hub":        {Certificate: cert, Peers: peers},
		"base":          {Certificate: cert, Peers: peers, Hub: &fakeHub{}, Base: "http://a.example"},
		"not offered":   {Certificate: cert, Peers: peers, Hub: &fakeHub{}, NotOffered: []string{"notify"}},
		"endpoint name": {Certificate: cert, Peers: peers, Hub: &fakeHub{}, Limits: Limits{Endpoints: map[string]EndpointLimit{"notfy": {}}}},
	} {
		if _, err := NewServer(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Connections beyond the limit wait until one ends.
func TestConnectionLimit(t *testing.T) {
	ca := newCA(t)
	a := start(t, ca, providerConfig{domain: "a.example", limits: Limits{Connections: 1, HeaderTime: 500 * time.Millisecond}})
	started := time.Now()
	silent, err := net.Dial("tcp", a.address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	resp, err := a.raw(nil).Get("https://a.example/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	// The silent connection is dropped after the time for its header; then it is our turn.
	if took := time.Since(started); took < 450*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
}
