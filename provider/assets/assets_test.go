package assets_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/provider/assets"
	"github.com/comity-im/comity/store/sqlite"
)

// hub is a room's hub that downloads one body for everybody.
type hub struct {
	mimi.Hub
	asked []mimi.DownloadRequest
}

func (h *hub) ProxyDownload(_ context.Context, _ mimi.ProviderDomain, r *mimi.DownloadRequest) (*mimi.Download, error) {
	h.asked = append(h.asked, *r)
	status := http.StatusOK
	if r.Range != "" {
		status = http.StatusPartialContent
	}
	return &mimi.Download{Status: status, Body: io.NopCloser(strings.NewReader("theirs"))}, nil
}

type world struct {
	*assets.Assets
	hub *hub
	dir string
	now time.Time
}

func open(t *testing.T) *world {
	w := &world{hub: &hub{}, dir: t.TempDir(), now: time.UnixMilli(1_800_000_000_000)}
	db, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w.Assets, err = assets.New(assets.Config{
		Domain: "a.example", Store: db, Now: func() time.Time { return w.now }, Logger: slog.New(slog.DiscardHandler), Dir: w.dir,
		Base: "https://a.example/assets", MaxBytes: 1000, QuotaBytes: 1500, Keep: time.Hour, Hub: func(mimi.RoomURI) mimi.Hub { return w.hub },
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

var (
	ctx   = context.Background()
	alice = clientapi.Device{User: "mimi://a.example/u/alice", Client: "mimi://a.example/d/alice/1"}
)

func read(t *testing.T, r io.ReadCloser, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUploadAndDownload(t *testing.T) {
	w := open(t)
	body := bytes.Repeat([]byte("0123456789"), 50)
	a, err := w.Upload(ctx, alice, "image/png", 500, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Download(ctx, alice, "mimi://b.example/r/x", a.URL, clientapi.Range{})
	if got := read(t, r, err); got != string(body) {
		t.Errorf("downloaded %q", got)
	}
	r, err = w.Download(ctx, alice, "mimi://b.example/r/x", a.URL, clientapi.Range{From: 12, Length: 3})
	if got := read(t, r, err); got != "234" {
		t.Errorf("downloaded %q of a range", got)
	}
	if len(w.hub.asked) != 0 {
		t.Error("a hub was asked for our own file")
	}
	r, err = w.Download(ctx, alice, "mimi://b.example/r/x", "https://c.example/assets/x", clientapi.Range{From: 2, Length: 3})
	if got := read(t, r, err); got != "theirs" || w.hub.asked[0] != (mimi.DownloadRequest{URL: "https://c.example/assets/x", Range: "bytes=2-4"}) {
		t.Errorf("downloaded %q by %+v", got, w.hub.asked)
	}

	get := func(method, id string, header ...string) *http.Response {
		req := httptest.NewRequest(method, "https://a.example/assets/"+id, nil)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, req)
		return rec.Result()
	}
	id := a.URL[strings.LastIndexByte(a.URL, '/')+1:]
	resp := get(http.MethodGet, id, "Range", "bytes=0-4")
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 206 || string(b) != "01234" || resp.Header.Get("Content-Type") != "image/png" {
		t.Errorf("a range over HTTP: %s %q %v", resp.Status, b, resp.Header)
	}
	if resp := get(http.MethodGet, id, "If-None-Match", resp.Header.Get("ETag")); resp.StatusCode != 304 {
		t.Errorf("a cached file: %s", resp.Status)
	}
	for _, bad := range []string{"", "..", "%2e%2e", strings.Repeat("a", 26), strings.ToUpper(id)} {
		if resp := get(http.MethodGet, bad); resp.StatusCode != 404 {
			t.Errorf("%q: %s", bad, resp.Status)
		}
	}
	if resp := get(http.MethodDelete, id); resp.StatusCode != 405 {
		t.Errorf("DELETE: %s", resp.Status)
	}
	w.now = w.now.Add(2 * time.Hour)
	if err := w.Trim(ctx); err != nil {
		t.Fatal(err)
	}
	if resp := get(http.MethodGet, id); resp.StatusCode != 404 {
		t.Errorf("after it was kept: %s", resp.Status)
	}
}

func TestUploadRefuses(t *testing.T) {
	w := open(t)
	for _, c := range []struct {
		name string
		kind string
		size int64
		body string
		code clientapi.Code
	}{
		{"too large", "", 1001, "", clientapi.CodeTooLarge},
		{"shorter than announced", "", 10, "123", clientapi.CodeBadRequest},
		{"longer than announced", "", 2, "123", clientapi.CodeBadRequest},
		{"no media type", "???", 3, "123", clientapi.CodeBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.Upload(ctx, alice, c.kind, c.size, strings.NewReader(c.body))
			var e *clientapi.Error
			if !errors.As(err, &e) || e.Code != c.code {
				t.Errorf("error is %v, want code %s", err, c.code)
			}
		})
	}
	if _, err := w.Upload(ctx, alice, "", 1000, strings.NewReader(strings.Repeat("x", 1000))); err != nil {
		t.Fatal(err)
	}
	_, err := w.Upload(ctx, alice, "", 501, strings.NewReader(strings.Repeat("x", 501)))
	var e *clientapi.Error
	if !errors.As(err, &e) || e.Code != clientapi.CodeTooLarge {
		t.Errorf("over the quota: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(w.dir, "upload-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("refused uploads left %v, %v", left, err)
	}
	files := 0
	filepath.WalkDir(w.dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
		}
		return err
	})
	if files != 1 {
		t.Errorf("%d files, want the one that was taken", files)
	}
}
