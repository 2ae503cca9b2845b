// Package assets keeps the files that a provider's users upload (MIMI protocol
// §5.10), which are encrypted before they come here, and fetches what users of
// other providers uploaded.
package assets

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// A Config configures Assets.
type Config struct {
	Domain mimi.ProviderDomain
	Store  *store.Store
	Now    func() time.Time
	Logger *slog.Logger
	Dir    string // folder of the files
	Base   string // URL below which they are served, without a trailing slash
	// MaxBytes bounds one file, QuotaBytes all files of a user.
	MaxBytes, QuotaBytes int64
	// Keep is for how long a file is kept.
	Keep time.Duration
	// Hub reaches the hub of a room, which fetches others' files for us.
	Hub func(room mimi.RoomURI) mimi.Hub
}

// Assets are the files of one provider. Safe for concurrent use.
type Assets struct{ cfg Config }

// New returns the assets of a provider, whose folder it makes.
func New(cfg Config) (*Assets, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder for assets can't be made: %w", err)
	}
	return &Assets{cfg}, nil
}

func (a *Assets) path(id string) string { return filepath.Join(a.cfg.Dir, id[:2], id) }

// Upload stores a file as it comes in, and returns its URL when it is on disk.
func (a *Assets) Upload(ctx context.Context, d clientapi.Device, mediaType string, size int64, body io.Reader) (clientapi.Asset, error) {
	var none clientapi.Asset
	if size > a.cfg.MaxBytes {
		return none, clientapi.Errorf(clientapi.CodeTooLarge, "the file has %d octets; at most %d are taken", size, a.cfg.MaxBytes)
	}
	if mediaType == "" {
		mediaType = "application/octet-stream"
	}
	if _, _, err := mime.ParseMediaType(mediaType); err != nil || len(mediaType) > 255 {
		return none, clientapi.Errorf(clientapi.CodeBadRequest, "the media type %q can't be read", mediaType)
	}
	if err := a.checkQuota(ctx, d.User, size); err != nil {
		return none, err
	}
	id := strings.ToLower(rand.Text())
	if err := a.write(id, size, body); err != nil {
		return none, err
	}
	err := a.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		used, err := tx.AssetBytes(string(d.User))
		if err != nil {
			return err
		}
		if used+size > a.cfg.QuotaBytes {
			return a.overQuota(used, size)
		}
		return tx.PutAsset(store.Asset{ID: id, User: string(d.User), MediaType: mediaType, Size: size, CreatedMillis: a.cfg.Now().UnixMilli()})
	})
	if err != nil {
		os.Remove(a.path(id))
		return none, err
	}
	return clientapi.Asset{URL: a.cfg.Base + "/" + id, MediaType: mediaType, Size: size}, nil
}

func (a *Assets) overQuota(used, size int64) error {
	return clientapi.Errorf(clientapi.CodeTooLarge, "%d octets are in use; with %d more there would be over %d", used, size, a.cfg.QuotaBytes)
}

func (a *Assets) checkQuota(ctx context.Context, user mimi.UserURI, size int64) error {
	return a.cfg.Store.View(ctx, func(tx *store.Tx) error {
		used, err := tx.AssetBytes(string(user))
		if err == nil && used+size > a.cfg.QuotaBytes {
			err = a.overQuota(used, size)
		}
		return err
	})
}

// write puts exactly size octets into a file, which appears whole or not at
// all.
func (a *Assets) write(id string, size int64, body io.Reader) error {
	path := a.path(id)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(a.cfg.Dir, "upload-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(body, size+1))
	if err != nil {
		return err
	}
	if n != size {
		return clientapi.Errorf(clientapi.CodeBadRequest, "%d octets came of the %d that were announced", n, size)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// ServeHTTP serves a file to anybody who knows its name; ranges and caching work
// (the names are never used again).
func (a *Assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	if !validID(id) {
		http.NotFound(w, r)
		return
	}
	var meta store.Asset
	err := a.cfg.Store.View(r.Context(), func(tx *store.Tx) (err error) {
		meta, err = tx.Asset(id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		http.NotFound(w, r)
		return
	}
	f, err2 := os.Open(a.path(id))
	if err = errors.Join(err, err2); err != nil {
		a.cfg.Logger.Error("an asset can't be read", "asset", id, "error", err)
		http.Error(w, "the asset can't be read at present", http.StatusInternalServerError)
		return
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", meta.MediaType)
	h.Set("ETag", `"`+id+`"`)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	// What a browser shows of it, if somebody opens the URL there: nothing.
	h.Set("Content-Disposition", "attachment")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	http.ServeContent(w, r, "", time.UnixMilli(meta.CreatedMillis), f)
}

func validID(id string) bool {
	if len(id) < 20 || len(id) > 64 {
		return false
	}
	for _, c := range id {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9') {
			return false
		}
	}
	return true
}

// Download gets what a message of a room links to: our own users' files from
// disk, others' through the room's hub, so that their provider does not learn who
// reads them.
func (a *Assets) Download(ctx context.Context, _ clientapi.Device, room mimi.RoomURI, url string, part clientapi.Range) (io.ReadCloser, error) {
	if id, ok := strings.CutPrefix(url, a.cfg.Base+"/"); ok && validID(id) {
		return a.open(ctx, id, part)
	}
	req := &mimi.DownloadRequest{URL: url}
	if part != (clientapi.Range{}) {
		req.Range = fmt.Sprintf("bytes=%d-", part.From)
		if part.Length > 0 {
			req.Range += fmt.Sprint(part.From + part.Length - 1)
		}
	}
	d, err := a.cfg.Hub(room).ProxyDownload(ctx, a.cfg.Domain, req)
	if err != nil {
		return nil, err
	}
	want := http.StatusOK
	if req.Range != "" {
		want = http.StatusPartialContent
	}
	if d.Status != want {
		d.Body.Close()
		return nil, clientapi.Errorf(clientapi.CodeUnreachable, "the asset's server answered with status %d", d.Status)
	}
	return d.Body, nil
}

// Own answers, as the hub, a request for a file that is kept here, and reports
// whether it is.
func (a *Assets) Own(ctx context.Context, req *mimi.DownloadRequest) (*mimi.Download, bool, error) {
	id, ok := strings.CutPrefix(req.URL, a.cfg.Base+"/")
	if !ok || !validID(id) {
		return nil, false, nil
	}
	var part clientapi.Range
	if req.Range != "" {
		from, to, _ := strings.Cut(strings.TrimPrefix(req.Range, "bytes="), "-")
		var err error
		if part.From, err = strconv.ParseInt(from, 10, 62); err != nil || part.From < 0 {
			return &mimi.Download{Status: http.StatusRequestedRangeNotSatisfiable, Body: http.NoBody}, true, nil
		}
		if to != "" {
			last, err := strconv.ParseInt(to, 10, 62)
			if err != nil || last < part.From {
				return &mimi.Download{Status: http.StatusRequestedRangeNotSatisfiable, Body: http.NoBody}, true, nil
			}
			part.Length = last - part.From + 1
		}
	}
	etag := `"` + id + `"`
	if req.IfNoneMatch == etag {
		return &mimi.Download{Status: http.StatusNotModified, ETag: etag, Body: http.NoBody}, true, nil
	}
	info, err := os.Stat(a.path(id))
	if errors.Is(err, os.ErrNotExist) {
		return &mimi.Download{Status: http.StatusNotFound, Body: http.NoBody}, true, nil
	}
	if err != nil {
		return nil, true, err
	}
	size := info.Size()
	if part.From > 0 && part.From >= size {
		return &mimi.Download{Status: http.StatusRequestedRangeNotSatisfiable, ContentRange: fmt.Sprintf("bytes */%d", size), Body: http.NoBody}, true, nil
	}
	length := size - part.From
	if part.Length > 0 {
		length = min(length, part.Length)
		part.Length = length
	}
	body, err := a.open(ctx, id, part)
	if err != nil {
		return nil, true, err
	}
	d := &mimi.Download{Status: http.StatusOK, ContentLength: length, ETag: etag, Body: body}
	if req.Range != "" {
		d.Status, d.ContentRange = http.StatusPartialContent, fmt.Sprintf("bytes %d-%d/%d", part.From, part.From+length-1, size)
	}
	return d, true, nil
}

func (a *Assets) open(ctx context.Context, id string, part clientapi.Range) (io.ReadCloser, error) {
	err := a.cfg.Store.View(ctx, func(tx *store.Tx) error {
		_, err := tx.Asset(id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, clientapi.Errorf(clientapi.CodeNotFound, "there is no such asset any more")
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(a.path(id))
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(part.From, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	if part.Length == 0 {
		return f, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, part.Length), f}, nil
}

// trimAtOnce bounds how many files are removed at a time.
const trimAtOnce = 500

// Trim removes files that are older than they are kept.
func (a *Assets) Trim(ctx context.Context) error {
	var old []store.Asset
	err := a.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		old, err = tx.AssetsBefore(a.cfg.Now().Add(-a.cfg.Keep).UnixMilli(), trimAtOnce)
		return err
	})
	for _, meta := range old {
		if err := os.Remove(a.path(meta.ID)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := a.cfg.Store.Update(ctx, func(tx *store.Tx) error { return tx.DropAsset(meta.ID) }); err != nil {
			return err
		}
	}
	return err
}
