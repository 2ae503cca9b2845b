package federation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comity-im/comity/federation/devpki"
	"github.com/comity-im/comity/mimi"
)

// assetServer is c.example's host for assets.
func assetServer(t *testing.T, ca *devpki.CA, names ...string) *stranger {
	content := strings.Repeat("0123456789", 10)
	return strange(t, issue(t, ca, devpki.Leaf{Names: names}), nil, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.EscapedPath() {
		case "/file", "/a%2Fb":
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Set-Cookie", "track=1")
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		case "/redirect":
			http.Redirect(w, r, "https://127.0.0.1/admin", http.StatusFound)
		case "/long":
			w.Header().Set("Content-Length", "1000001")
			w.WriteHeader(200)
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64*kib)); err != nil {
					return
				}
			}
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
		case "/fail":
			w.WriteHeader(500)
		case "/headers":
			for k := range r.Header {
				if !slices.Contains([]string{"User-Agent", "Accept-Encoding"}, k) {
					fmt.Fprintln(w, k)
				}
			}
			fmt.Fprint(w, r.Header.Get("Accept-Encoding"))
		default:
			http.NotFound(w, r)
		}
	})
}

func TestProxyDownload(t *testing.T) {
	ca := newCA(t)
	s := assetServer(t, ca, "assets.c.example")
	a, b := two(t, providerConfig{})
	web := writeFile(t, filepath.Join(t.TempDir(), "web.pem"), ca.PEM())
	peers, err := NewPeers(PeersConfig{WebCAFile: web, Peers: map[mimi.ProviderDomain]PeerConfig{
		"c.example": {AssetHosts: []string{"assets.c.example", "assets.c.example:8443"}, AssetAddress: s.address},
		// Its assets are at an address that is not public, and not named as AssetAddress.
		"d.example": {AssetHosts: []string{"localhost", "d.example"}, Address: s.address},
	}})
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := NewAssetProxy(AssetConfig{Peers: peers, MaxBytes: 1000000})
	if err != nil {
		t.Fatal(err)
	}
	a.hub.asset = func(ctx context.Context, r *mimi.DownloadRequest) (*mimi.Download, error) {
		return proxy.ProxyDownload(ctx, "b.example", r)
	}
	get := func(r mimi.DownloadRequest) (*mimi.Download, string, error) {
		t.Helper()
		d, err := b.client.Peer("a.example").ProxyDownload(context.Background(), "b.example", &r)
		if err != nil {
			return nil, "", err
		}
		defer d.Body.Close()
		body, err := io.ReadAll(d.Body)
		return d, string(body), err
	}
	content := strings.Repeat("0123456789", 10)
	for _, tc := range []struct {
		name   string
		req    mimi.DownloadRequest
		status int
		body   string
		rng    string
	}{
		{"whole", mimi.DownloadRequest{URL: "https://assets.c.example/file"}, 200, content, ""},
		{"port 443", mimi.DownloadRequest{URL: "https://assets.c.example:443/file"}, 200, content, ""},
		{"configured port", mimi.DownloadRequest{URL: "https://assets.c.example:8443/file"}, 200, content, ""},
		{"escaped path", mimi.DownloadRequest{URL: "https://assets.c.example/a%2Fb?x=y"}, 200, content, ""},
		{"range", mimi.DownloadRequest{URL: "https://assets.c.example/file", Range: "bytes=5-9"}, 206, "56789", "bytes 5-9/100"},
		{"bad range", mimi.DownloadRequest{URL: "https://assets.c.example/file", Range: "bytes=500-"}, 416, "invalid range: failed to overlap\n", "bytes */100"},
		{"not modified", mimi.DownloadRequest{URL: "https://assets.c.example/file", IfNoneMatch: `"v1"`}, 304, "", ""},
		{"missing", mimi.DownloadRequest{URL: "https://assets.c.example/none"}, 404, "404 page not found\n", ""},
		{"what is passed on", mimi.DownloadRequest{URL: "https://assets.c.example/headers"}, 200, "identity", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, body, err := get(tc.req)
			if err != nil {
				t.Fatal(err)
			}
			if d.Status != tc.status || body != tc.body || d.ContentRange != tc.rng {
				t.Errorf("%d %q %q, want %d %q %q", d.Status, body, d.ContentRange, tc.status, tc.body, tc.rng)
			}
			if tc.status == 200 && tc.body == content && (d.ETag != `"v1"` || d.ContentLength != 100) {
				t.Errorf("ETag %q, length %d", d.ETag, d.ContentLength)
			}
		})
	}
	for _, tc := range []struct {
		url    string
		status int
		reason Reason
	}{
		{"https://evil.example/file", 403, ReasonAssetHost},
		{"https://c.example/file", 403, ReasonAssetHost},
		{"https://x.assets.c.example/file", 403, ReasonAssetHost},
		{"https://ASSETS.c.example/file", 403, ReasonAssetHost},
		{"https://assets.c.example./file", 403, ReasonAssetHost},
		{"https://assets.c.example:22/file", 403, ReasonAssetHost},
		{"https://127.0.0.1/file", 403, ReasonAssetHost},
		{"https://[::1]/file", 403, ReasonAssetHost},
		{"https://169.254.169.254/latest", 403, ReasonAssetHost},
		{"https://2130706433/", 403, ReasonAssetHost},
		{"http://assets.c.example/file", 400, ReasonAssetURL},
		{"https:assets.c.example/file", 400, ReasonAssetURL},
		{"file:///etc/passwd", 400, ReasonAssetURL},
		{"gopher://assets.c.example/", 400, ReasonAssetURL},
		{"https://user@assets.c.example/file", 400, ReasonAssetURL},
		{"https://assets.c.example@evil.example/file", 400, ReasonAssetURL},
		{"https://assets.c.example/file#x", 400, ReasonAssetURL},
		{"https:///file", 400, ReasonAssetURL},
		{"https://assets.c.example/" + strings.Repeat("x", 5000), 400, ReasonAssetURL},
		{"x", 400, ReasonAssetURL},
		{"https://localhost/file", 502, ReasonAssetUnreachable}, // on the list, but inside
		{"https://assets.c.example/redirect", 502, ReasonAssetUnreachable},
		{"https://assets.c.example/fail", 502, ReasonAssetUnreachable},
		{"https://assets.c.example/gzip", 502, ReasonAssetUnreachable},
		{"https://assets.c.example/long", 502, ReasonAssetTooLarge},
	} {
		t.Run(tc.url[:min(len(tc.url), 40)], func(t *testing.T) {
			before := a.refusals("proxyDownload", tc.reason)
			_, _, err := get(mimi.DownloadRequest{URL: tc.url})
			var pe *PeerError
			if !errors.As(err, &pe) || pe.Status != tc.status {
				t.Fatalf("got %v, want %d", err, tc.status)
			}
			if got := a.refusals("proxyDownload", tc.reason) - before; got != 1 {
				t.Errorf("%v refusals counted for %s", got, tc.reason)
			}
		})
	}
	t.Run("endless", func(t *testing.T) {
		_, body, err := get(mimi.DownloadRequest{URL: "https://assets.c.example/endless"})
		if err == nil || len(body) > 1000000 {
			t.Errorf("%d octets, %v", len(body), err)
		}
	})
	t.Run("kill switch", func(t *testing.T) {
		if err := peers.Block("c.example", "test"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := get(mimi.DownloadRequest{URL: "https://assets.c.example/file"}); err == nil {
			t.Error("assets of a blocked peer are fetched")
		}
	})
}

// The certificate of an asset host is judged like the peer's.
func TestAssetHostCertificate(t *testing.T) {
	ca := newCA(t)
	s := assetServer(t, newCA(t), "assets.c.example")
	peers, err := NewPeers(PeersConfig{WebCAFile: writeFile(t, filepath.Join(t.TempDir(), "web.pem"), ca.PEM()),
		Peers: map[mimi.ProviderDomain]PeerConfig{"c.example": {AssetHosts: []string{"assets.c.example"}, AssetAddress: s.address}}})
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := NewAssetProxy(AssetConfig{Peers: peers})
	if err != nil {
		t.Fatal(err)
	}
	_, err = proxy.ProxyDownload(context.Background(), "b.example", &mimi.DownloadRequest{URL: "https://assets.c.example/file"})
	var ce *CertificateError
	if !errors.As(err, &ce) || ce.Problem != ProblemUntrusted {
		t.Error(err)
	}
}

// A download that breaks off must not look whole to the peer.
func TestBrokenDownload(t *testing.T) {
	a, b := two(t, providerConfig{})
	var closed atomic.Bool
	a.hub.asset = func(context.Context, *mimi.DownloadRequest) (*mimi.Download, error) {
		return &mimi.Download{Status: 200, ContentLength: -1, Body: &brokenBody{closed: &closed}}, nil
	}
	d, err := b.client.Peer("a.example").ProxyDownload(context.Background(), "b.example", &mimi.DownloadRequest{URL: "https://assets.c.example/file"})
	if err == nil { // else it broke before the header left
		defer d.Body.Close()
		if _, err := io.ReadAll(d.Body); err == nil {
			t.Error("half an asset looks whole")
		}
	}
	waitFor(t, closed.Load)
}

type brokenBody struct {
	read   bool
	closed *atomic.Bool
}

func (b *brokenBody) Read(p []byte) (int, error) {
	if !b.read {
		b.read = true
		return copy(p, "half"), nil
	}
	return 0, errors.New("broken")
}

func (b *brokenBody) Close() error { b.closed.Store(true); return nil }

// The header of a download can't be used to attack the downloading side.
func TestDownloadHeader(t *testing.T) {
	a, b := two(t, providerConfig{})
	req := httptest.NewRequest("GET", base+"proxyDownload/"+mimi.Escape("https://assets.c.example/file"), nil)
	req.RequestURI = ""
	req.Header.Set("From", "mimi@b.example")
	resp, err := a.raw(&b.pair).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/octet-stream" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}
