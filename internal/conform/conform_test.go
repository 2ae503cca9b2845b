package conform

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/comity-im/comity/federation"
	"github.com/comity-im/comity/federation/devpki"
	"github.com/comity-im/comity/mimi"
)

// check runs all checks against a server of b.example that answers the directory
// itself and everything else by h.
func check(t *testing.T, h http.HandlerFunc) map[string]Finding {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	ca, err := devpki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	roots := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(roots, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	pair := map[string]*federation.Certificate{}
	files := map[string][2]string{}
	for _, domain := range []string{"a.example", "b.example"} {
		p, err := ca.Issue(devpki.Leaf{Names: []string{domain}})
		if err != nil {
			t.Fatal(err)
		}
		cert, key, err := p.WriteFiles(dir, domain)
		if err != nil {
			t.Fatal(err)
		}
		files[domain] = [2]string{cert, key}
		if pair[domain], err = federation.LoadCertificate(federation.CertificateConfig{Domain: mimi.ProviderDomain(domain), CertFile: cert, KeyFile: key, Logger: quiet}); err != nil {
			t.Fatal(err)
		}
	}
	d, err := mimi.NewDirectory("https://b.example/v1")
	if err != nil {
		t.Fatal(err)
	}
	document, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == mimi.DirectoryPath {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(document)
			return
		}
		h(w, r)
	}))
	own, err := tls.LoadX509KeyPair(files["b.example"][0], files["b.example"][1])
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13}
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	peers, err := federation.NewPeers(federation.PeersConfig{WebCAFile: roots, Logger: quiet,
		Peers: map[mimi.ProviderDomain]federation.PeerConfig{"b.example": {Address: server.Listener.Addr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	client, err := federation.NewClient(federation.ClientConfig{Certificate: pair["a.example"], Peers: peers, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	findings := map[string]Finding{}
	_, err = Run(context.Background(), Config{Own: "a.example", Target: "b.example", Client: client, User: "mimi://b.example/u/bob"}, func(f Finding) {
		findings[f.Check] = f
	})
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// TestYesSayer checks a server that accepts whatever comes: no check that is
// about refusing may be content with it.
func TestYesSayer(t *testing.T) {
	findings := check(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
	})
	tried := 0
	for name, f := range findings {
		if strings.HasPrefix(name, "reach:") || name == "consent requests do not tell whether a user exists" {
			continue
		}
		tried++
		if f.Verdict == Pass || f.Verdict == Skip {
			t.Errorf("%s: %s, %s", name, f.Verdict, f.Text)
		}
	}
	if tried < 35 {
		t.Errorf("%d checks were tried", tried)
	}
}

// TestFindings are servers with one fault each.
func TestFindings(t *testing.T) {
	for _, tc := range []struct {
		name    string
		h       http.HandlerFunc
		check   string
		verdict Verdict
		says    string
	}{
		{"fails on malformed bodies", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "oops", 500) },
			"update: an empty body", Fail, "it failed with 500"},
		{"tells who exists", func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/u/bob") {
				w.WriteHeader(http.StatusCreated)
				return
			}
			http.Error(w, "no such user", http.StatusNotFound)
		}, "consent requests do not tell whether a user exists", Fail, "201 for a user who exists, 404"},
		{"waits for all of a body", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		}, "a body of a gibibyte", Fail, "it still waited"},
		{"another status than ours", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusUnauthorized) },
			"a request without a client certificate", Warn, "403 says it better"},
		{"asks for patience", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "later", http.StatusTooManyRequests) },
			"a compressed body", Skip, "go slower"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f, ok := check(t, tc.h)[tc.check]
			if !ok || f.Verdict != tc.verdict || !strings.Contains(f.Text, tc.says) {
				t.Errorf("%+v", f)
			}
		})
	}
}
