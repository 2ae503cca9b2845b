package federation

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/comity-im/comity/mimi"
)

// AssetConfig is what an AssetProxy needs. Peers is required: their AssetHosts
// are all that is ever fetched.
type AssetConfig struct {
	Peers *Peers
	// MaxBytes is how long an asset may be. Default: 100 MiB.
	MaxBytes int64
	// ConnectTimeout bounds connecting, the TLS handshake, and the time to the
	// header of the answer, each. Default: 10 s.
	ConnectTimeout time.Duration
}

// An AssetProxy fetches assets from the asset hosts of peers on behalf of others
// (MIMI protocol §5.10, Decisions 76, 77). It is no open proxy: a host is one that
// the operator named for a peer, on port 443 unless named with another; its
// address is public; no redirect is followed; nothing of the asking client is passed on
// but Range and If-None-Match. It is safe for concurrent use.
type AssetProxy struct {
	cfg AssetConfig
}

// NewAssetProxy checks the settings and returns a proxy.
func NewAssetProxy(cfg AssetConfig) (*AssetProxy, error) {
	if cfg.Peers == nil {
		return nil, errors.New("federation: an asset proxy needs peers")
	}
	setDefault(&cfg.MaxBytes, 100*mib)
	setDefault(&cfg.ConnectTimeout, 10*time.Second)
	return &AssetProxy{cfg: cfg}, nil
}

// An AssetError says why an asset is not fetched.
type AssetError struct {
	Reason Reason // ReasonAssetURL, ReasonAssetHost, ReasonAssetUnreachable or ReasonAssetTooLarge
	Err    error
}

func (e *AssetError) Error() string { return fmt.Sprintf("federation: asset: %v", e.Err) }

// Unwrap returns the cause.
func (e *AssetError) Unwrap() error { return e.Err }

var (
	errAssetURL      = errors.New("not an https URL of a host name, without user and fragment")
	errAssetHost     = errors.New("not an asset host of a peer")
	errAssetRedirect = errors.New("the asset host redirects, which is not followed")
	errAssetEncoding = errors.New("the asset host sent a compressed answer")
	errAssetTooLarge = errors.New("the asset is longer than allowed")
	errAssetAnswer   = errors.New("the asset host's answer has an unusable header")
)

// checkAssetURL returns the URL and the peer whose asset it is.
func (a *AssetProxy) checkAssetURL(raw string) (*url.URL, *peer, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" || u.Opaque != "" || u.User != nil || u.Fragment != "" || u.Hostname() == "" || len(raw) > 4096 {
		return nil, nil, &AssetError{ReasonAssetURL, errAssetURL}
	}
	// The list names hosts in one form only; every other form of a name, and
	// every address, fails to match.
	name := u.Host
	if port := u.Port(); port == "443" || port == "" {
		name = u.Hostname()
	}
	n, ok := a.cfg.Peers.assetHost(name)
	if !ok {
		return nil, nil, &AssetError{ReasonAssetHost, fmt.Errorf("%w: %s", errAssetHost, short(u.Host))}
	}
	return u, n, nil
}

// ProxyDownload gets an asset, as mimi.Hub asks for. It ends with ctx, also while
// the Body is read; reading fails with an *AssetError once the asset is longer
// than allowed. Its own errors are *AssetErrors.
func (a *AssetProxy) ProxyDownload(ctx context.Context, _ mimi.ProviderDomain, r *mimi.DownloadRequest) (*mimi.Download, error) {
	u, n, err := a.checkAssetURL(r.URL)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, &AssetError{ReasonAssetURL, err}
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "comity")
	if r.Range != "" {
		req.Header.Set("Range", r.Range)
	}
	if r.IfNoneMatch != "" {
		req.Header.Set("If-None-Match", r.IfNoneMatch)
	}
	transport := a.transport(n)
	resp, err := transport.RoundTrip(req) // and not a Client: it follows no redirect
	if err != nil {
		transport.CloseIdleConnections()
		return nil, &AssetError{ReasonAssetUnreachable, fmt.Errorf("%s: %w", stepOf(err), err)}
	}
	asset, err := a.accept(resp, transport)
	if err != nil {
		resp.Body.Close()
		transport.CloseIdleConnections()
		return nil, err
	}
	return asset, nil
}

// transport is used for one request: what a connection was checked for must not
// outlive a change of the peer's settings.
func (a *AssetProxy) transport(n *peer) *http.Transport {
	dial := n.dialer(a.cfg.ConnectTimeout)
	if n.cfg.AssetAddress != "" {
		d := dialer(a.cfg.ConnectTimeout, true)
		dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, n.cfg.AssetAddress)
		}
	} else if n.cfg.Address != "" {
		d := dialer(a.cfg.ConnectTimeout, n.private) // Address is where the endpoints are, not the assets
		dial = d.DialContext
	}
	return &http.Transport{
		DialContext: dial,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12, // asset hosts are ordinary web servers
			InsecureSkipVerify: true,
			VerifyConnection: func(cs tls.ConnectionState) error {
				return n.trust.verifyServer(cs.PeerCertificates, cs.ServerName, time.Now())
			},
		},
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    a.cfg.ConnectTimeout,
		ResponseHeaderTimeout:  a.cfg.ConnectTimeout,
		MaxResponseHeaderBytes: 64 * kib,
		DisableCompression:     true,
		DisableKeepAlives:      true,
	}
}

func (a *AssetProxy) accept(resp *http.Response, transport *http.Transport) (*mimi.Download, error) {
	if resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.StatusCode != http.StatusNotModified {
		return nil, &AssetError{ReasonAssetUnreachable, errAssetRedirect}
	}
	if resp.StatusCode >= 500 || resp.StatusCode < 200 {
		return nil, &AssetError{ReasonAssetUnreachable, fmt.Errorf("the asset host answered %d", resp.StatusCode)}
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, &AssetError{ReasonAssetUnreachable, errAssetEncoding}
	}
	if resp.ContentLength > a.cfg.MaxBytes {
		return nil, &AssetError{ReasonAssetTooLarge, fmt.Errorf("%w: %d of %d octets", errAssetTooLarge, resp.ContentLength, a.cfg.MaxBytes)}
	}
	asset := &mimi.Download{
		Status:        resp.StatusCode,
		ContentLength: resp.ContentLength,
		ContentRange:  resp.Header.Get("Content-Range"),
		ETag:          resp.Header.Get("ETag"),
		Body:          &assetBody{body: resp.Body, left: a.cfg.MaxBytes, transport: transport},
	}
	for _, v := range []string{asset.ContentRange, asset.ETag} {
		if len(v) > 256 {
			return nil, &AssetError{ReasonAssetUnreachable, errAssetAnswer}
		}
	}
	return asset, nil
}

// assetBody is a body that must not be longer than left.
type assetBody struct {
	body      io.ReadCloser
	left      int64
	transport *http.Transport
}

func (b *assetBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.body.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, &AssetError{ReasonAssetTooLarge, errAssetTooLarge}
	}
	return n, err
}

func (b *assetBody) Close() error {
	defer b.transport.CloseIdleConnections()
	return b.body.Close()
}

// checkAssetHost reports what keeps s from naming an asset host in the config:
// a host name in lower case, with a port if it is not 443.
func checkAssetHost(s string) error {
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, port = s[:i], s[i+1:]
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || n == 443 {
			return fmt.Errorf("the asset host %q: 443 is not written, other ports are numbers", s)
		}
	}
	return checkHostName(host)
}
