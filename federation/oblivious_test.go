package federation

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/ohttp"
)

// A client of b.example downloads an asset through b's relay and a's gateway.
func TestObliviousDownload(t *testing.T) {
	a, b := two(t, providerConfig{})
	ctx := context.Background()
	doc, age, err := b.client.GatewayKeys(ctx, "a.example")
	if err != nil || age != time.Hour {
		t.Fatal(age, err)
	}
	keys, err := ohttp.ParseKeys(doc)
	if err != nil {
		t.Fatal(err)
	}
	download := func(req *ohttp.Request) *ohttp.Response {
		t.Helper()
		message, x, err := keys.Encapsulate(req.Marshal(512))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := b.client.Relay(ctx, "a.example", message)
		if err != nil {
			t.Fatal(err)
		}
		inner, err := x.Open(answer)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := ohttp.UnmarshalResponse(inner)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	get := &ohttp.Request{Method: "GET", Scheme: "https", Authority: "assets.c.example", Path: "/file", Header: []ohttp.Field{{Name: "range", Value: "bytes=0-4"}}}
	a.hub.asset = func(_ context.Context, r *mimi.DownloadRequest) (*mimi.Download, error) {
		if r.Range != "bytes=0-4" {
			t.Errorf("range %q", r.Range)
		}
		return &mimi.Download{Status: 206, ContentLength: 5, ContentRange: "bytes 0-4/9", ETag: `"x"`, Body: io.NopCloser(strings.NewReader("asset"))}, nil
	}
	resp := download(get)
	if resp.Status != 206 || string(resp.Content) != "asset" || resp.Get("content-range") != "bytes 0-4/9" || resp.Get("etag") != `"x"` {
		t.Errorf("%+v", resp)
	}
	if calls := a.hub.taken(); !slices.Equal(calls, []string{"proxyDownload b.example https://assets.c.example/file"}) {
		t.Errorf("calls %q", calls)
	}
	// What fails inside is sealed too: the relay learns nothing of it.
	a.hub.asset = func(context.Context, *mimi.DownloadRequest) (*mimi.Download, error) {
		return nil, &AssetError{ReasonAssetHost, errAssetHost}
	}
	if resp := download(get); resp.Status != 403 {
		t.Errorf("%+v", resp)
	}
	if resp := download(&ohttp.Request{Method: "POST", Scheme: "https", Authority: "assets.c.example", Path: "/file"}); resp.Status != 405 {
		t.Errorf("%+v", resp)
	}
	for _, length := range []int64{maxObliviousAsset + 1, -1} {
		a.hub.asset = func(context.Context, *mimi.DownloadRequest) (*mimi.Download, error) {
			return &mimi.Download{Status: 200, ContentLength: length, Body: io.NopCloser(zeros(maxObliviousAsset + 1))}, nil
		}
		if resp := download(get); resp.Status != 413 || !strings.Contains(string(resp.Content), "ranges of at most") {
			t.Errorf("%d %q", resp.Status, resp.Content)
		}
	}
	// A restart brings new keys: the client can tell.
	a.server.gateway.secret = bytes.Repeat([]byte{1}, 32)
	message, _, err := keys.Encapsulate(get.Marshal(0))
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.client.Relay(ctx, "a.example", message)
	var pe *PeerError
	if !errors.As(err, &pe) || pe.Status != 400 {
		t.Error(err)
	}
}

// Keys change with the day; yesterday's are still accepted, those of the day
// before are not and the answer says so.
func TestGatewayKeysRotate(t *testing.T) {
	ca := newCA(t)
	secret := bytes.Repeat([]byte{7}, 32)
	a := start(t, ca, providerConfig{domain: "a.example", edit: func(cfg *ServerConfig) { cfg.ObliviousSecret = secret }})
	clock := time.Now()
	a.server.now = func() time.Time { return clock }
	g, err := newGatewayKeys(secret)
	if err != nil {
		t.Fatal(err)
	}
	all, err := g.at(clock)
	if err != nil {
		t.Fatal(err)
	}
	today, err := ohttp.ParseKeys(all[:1].Marshal())
	if err != nil {
		t.Fatal(err)
	}
	b := issueFor(t, ca, "b.example")
	post := func() *http.Response {
		t.Helper()
		message, _, err := today.Encapsulate((&ohttp.Request{Method: "GET", Scheme: "https", Authority: "x.example", Path: "/"}).Marshal(0))
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest("POST", "https://a.example"+gatewayPath, bytes.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("From", "mimi@b.example")
		resp, err := a.raw(&b).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == 400 && (resp.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(string(body), ohttp.KeyProblem)) {
			t.Errorf("%v %q", resp.Header, body)
		}
		return resp
	}
	for _, tc := range []struct {
		days, want int
	}{{0, 200}, {1, 200}, {2, 400}, {-1, 200}} {
		clock = time.Now().Add(time.Duration(tc.days) * obliviousPeriod)
		if resp := post(); resp.StatusCode != tc.want {
			t.Errorf("after %d days: %d, want %d", tc.days, resp.StatusCode, tc.want)
		}
	}
	if _, err := newGatewayKeys(secret[:31]); err == nil {
		t.Error("a short secret was taken")
	}
}

// The gateway takes requests of known providers only, as every endpoint does.
func TestGatewayRefuses(t *testing.T) {
	ca := newCA(t)
	a := start(t, ca, providerConfig{domain: "a.example"})
	b := issueFor(t, ca, "b.example")
	url := "https://a.example" + gatewayPath
	for _, at := range []attempt{
		{name: "no certificate", url: url, body: zeros(50), endpoint: gatewayKey, status: 403, reason: ReasonNoCertificate},
		{name: "another's From", cert: &b, from: []string{"mimi@c.example"}, url: url, body: zeros(50), endpoint: gatewayKey, status: 403, reason: ReasonFromMismatch},
		{name: "garbage", cert: &b, url: url, body: zeros(10), endpoint: gatewayKey, status: 400, reason: ReasonMalformed},
		{name: "unknown key", cert: &b, url: url, body: zeros(50), endpoint: gatewayKey, status: 400, reason: ReasonMalformed, text: ohttp.KeyProblem},
		{name: "too long", cert: &b, url: url, body: zeros(17 * kib), endpoint: gatewayKey, status: 413, reason: ReasonTooLarge},
	} {
		t.Run(at.name, func(t *testing.T) { a.attempt(t, at) })
	}
	c := start(t, ca, providerConfig{domain: "c.example", edit: func(cfg *ServerConfig) { cfg.NotOffered = []string{"proxyDownload"} }})
	c.attempt(t, attempt{cert: &b, url: "https://c.example" + gatewayPath, body: zeros(50), endpoint: "none", status: 404, reason: ReasonUnknownPath})
}
