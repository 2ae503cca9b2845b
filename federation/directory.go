package federation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/comity-im/comity/mimi"
)

const (
	// maxDirectory is how long a directory document may be, in octets.
	maxDirectory = 64 * kib
	// A directory is kept for an hour where it doesn't say (Decision 4), and never
	// so short that every request asks for it.
	directoryAge    = time.Hour
	minDirectoryAge = time.Minute
	maxDirectoryAge = 24 * time.Hour
	// staleDirectory is how long an old one serves while no new one can be had.
	staleDirectory = 24 * time.Hour
	// fetchPause is how long a failed fetch speaks for those that come next.
	fetchPause = 2 * time.Second
)

// cachedDirectory is a peer's directory and how long it is good.
type cachedDirectory struct {
	mimi.Directory
	templates map[string]mimi.Template // by endpoint
	etag      string
	expires   time.Time
}

func newCachedDirectory(d mimi.Directory, etag string, expires time.Time) *cachedDirectory {
	c := &cachedDirectory{Directory: d, templates: make(map[string]mimi.Template), etag: etag, expires: expires}
	for _, e := range d.Endpoints() {
		c.templates[e.Key] = e.Template
	}
	return c
}

// Directory returns a peer's directory, from the cache if it is fresh.
func (c *Client) Directory(ctx context.Context, domain mimi.ProviderDomain) (mimi.Directory, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	l, err := c.link(domain)
	if err != nil {
		return mimi.Directory{}, err
	}
	d, err := c.directory(ctx, l)
	if err != nil {
		return mimi.Directory{}, err
	}
	return d.Directory, nil
}

// directory returns the cached directory or fetches it; those who come while it
// is being fetched wait for the same answer.
func (c *Client) directory(ctx context.Context, l *link) (*cachedDirectory, error) {
	if d := l.fresh(c.now()); d != nil {
		return d, nil
	}
	select {
	case l.fetching <- struct{}{}:
		defer func() { <-l.fetching }()
	case <-ctx.Done():
		return nil, &PeerError{l.peer.domain, "directory", StepDirectory, 0, &mimi.FailedError{Err: ctx.Err()}}
	}
	now := c.now()
	if d := l.fresh(now); d != nil {
		return d, nil
	}
	l.mu.Lock()
	old, failed, failedTime := l.cached, l.failed, l.failedTime
	l.mu.Unlock()
	if failed == nil || now.Sub(failedTime) >= fetchPause {
		d, err := c.fetchDirectory(ctx, l, old)
		l.mu.Lock()
		if err == nil {
			l.cached, l.failed = d, nil
		} else if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			l.failed, l.failedTime = err, c.now()
		}
		l.mu.Unlock()
		if err == nil {
			return d, nil
		}
		failed = err
	}
	if old != nil && now.Before(old.expires.Add(staleDirectory)) {
		return old, nil
	}
	return nil, failed
}

func (l *link) fresh(now time.Time) *cachedDirectory {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cached != nil && now.Before(l.cached.expires) {
		return l.cached
	}
	return nil
}

// expire makes the next request fetch the directory again, after an answer that
// says the endpoints have moved.
func (l *link) expire(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cached != nil && l.cached.expires.After(now) {
		d := *l.cached
		d.expires = now
		l.cached = &d
	}
}

// fetchDirectory asks the provider domain itself: no other host's word counts
// (Decision 5).
func (c *Client) fetchDirectory(ctx context.Context, l *link, old *cachedDirectory) (*cachedDirectory, error) {
	const key = "directory"
	started := c.now()
	d, err := c.askDirectory(ctx, l, old)
	c.metrics.seconds.WithLabelValues(key).Observe(c.now().Sub(started).Seconds())
	c.metrics.requested(key, l.peer.domain, err)
	return d, err
}

func (c *Client) askDirectory(ctx context.Context, l *link, old *cachedDirectory) (*cachedDirectory, error) {
	const key = "directory"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+string(l.peer.domain)+mimi.DirectoryPath, nil)
	if err != nil {
		return nil, fmt.Errorf("federation: %w", err)
	}
	req.Header.Set("From", "mimi@"+string(c.cfg.Certificate.Domain()))
	req.Header.Set("User-Agent", "comity")
	req.Header.Set("Accept", "application/json")
	if old != nil && old.etag != "" {
		req.Header.Set("If-None-Match", old.etag)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, c.unreachable(l, key, err)
	}
	defer resp.Body.Close()
	age := cacheAge(resp.Header)
	if resp.StatusCode == http.StatusNotModified && old != nil {
		return newCachedDirectory(old.Directory, old.etag, c.now().Add(age)), nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, c.refusedBy(l, key, resp)
	}
	body, err := readAnswer(resp, maxDirectory)
	if err != nil {
		return nil, c.unreachable(l, key, err)
	}
	d, err := mimi.ParseDirectory(body)
	if err != nil {
		err = &PeerError{l.peer.domain, key, StepDirectory, 0, &mimi.FailedError{Err: err}}
		l.peer.failed(c.now(), err)
		return nil, err
	}
	l.peer.reached(c.now())
	return newCachedDirectory(d, resp.Header.Get("ETag"), c.now().Add(age)), nil
}

// cacheAge is how long an answer may be kept (RFC 9111 §4.2.1), within our bounds.
func cacheAge(h http.Header) time.Duration {
	age := directoryAge
	for _, d := range strings.Split(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(d)), "=")
		switch name {
		case "no-store", "no-cache":
			return minDirectoryAge
		case "max-age":
			if n, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); err == nil && n >= 0 {
				age = time.Duration(n) * time.Second
			}
		}
	}
	if n, err := strconv.ParseInt(h.Get("Age"), 10, 32); err == nil && n > 0 {
		age -= time.Duration(n) * time.Second
	}
	return min(max(age, minDirectoryAge), maxDirectoryAge)
}
