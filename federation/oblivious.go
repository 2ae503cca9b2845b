package federation

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/ohttp"
)

// gatewayPath is where a host has its OHTTP gateway (RFC 9540 §4, Decision 78).
const gatewayPath = "/.well-known/ohttp-gateway"

// gatewayKey names the gateway in limits, metrics and the log. It stands in no
// directory.
const gatewayKey = "ohttpGateway"

const (
	// maxObliviousAsset is how much of an asset travels in one encapsulated
	// response, which is sealed in one piece: the rest is for further ranges.
	maxObliviousAsset = 8 * mib
	maxGatewayKeys    = 16 * kib
	// obliviousPeriod is how long a gateway's key is the first. The one before it
	// is still accepted, and the one after it, for nodes whose clocks differ.
	obliviousPeriod = 24 * time.Hour
)

// gatewayKeys derives the gateway's keys from a secret and the time, so that all
// nodes of a provider have the same ones and none is ever stored.
type gatewayKeys struct {
	secret []byte
}

func (g *gatewayKeys) at(now time.Time) (ohttp.Keys, error) {
	period := uint64(now.Unix()) / uint64(obliviousPeriod/time.Second)
	var keys ohttp.Keys
	for _, p := range []uint64{period, period - 1, period + 1} {
		mac := hmac.New(sha256.New, g.secret)
		mac.Write([]byte("comity ohttp gateway key"))
		mac.Write(binary.BigEndian.AppendUint64(nil, p))
		k, err := ohttp.DeriveKey(uint8(p), mac.Sum(nil))
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func newGatewayKeys(secret []byte) (*gatewayKeys, error) {
	if secret == nil {
		secret = make([]byte, 32)
		if _, err := rand.Read(secret); err != nil {
			return nil, fmt.Errorf("federation: %w", err)
		}
	}
	if len(secret) < 32 {
		return nil, errors.New("federation: the secret of the OHTTP gateway has fewer than 32 octets")
	}
	return &gatewayKeys{secret}, nil
}

// serveGatewayKeys answers GET /.well-known/ohttp-gateway (RFC 9540 §5).
func (s *Server) serveGatewayKeys(x *exchange) *refusal {
	keys, err := s.gateway.at(s.now())
	if err != nil {
		return &refusal{status: 500, reason: ReasonFailed, err: err, text: "internal error"}
	}
	x.w.Header().Set("Cache-Control", "public, max-age=3600")
	s.writeDocument(x, ohttp.KeysMediaType, keys[:1].Marshal())
	return nil
}

// serveGateway opens a peer's client's request, has the asset fetched, and seals the
// answer. The peer is the relay: it is known and pays with its quota; the client
// is not (RFC 9458 §6.5). What goes wrong after the opening is sealed too.
func (s *Server) serveGateway(ctx context.Context, hub mimi.Hub, c *call) ([]byte, error) {
	keys, err := s.gateway.at(s.now())
	if err != nil {
		return nil, err
	}
	inner, x, err := keys.Decapsulate(c.body)
	switch {
	case errors.Is(err, ohttp.ErrKey):
		return nil, &refusal{status: 400, reason: ReasonMalformed, text: "key identifier or algorithms unknown", problem: ohttp.KeyProblem}
	case err != nil:
		return nil, &mimi.MalformedError{Err: err}
	}
	return x.Seal(rand.Reader, oblivious(ctx, hub, c.from, inner).Marshal())
}

// oblivious answers the request inside.
func oblivious(ctx context.Context, hub mimi.Hub, relay mimi.ProviderDomain, inner []byte) *ohttp.Response {
	refuse := func(r *refusal) *ohttp.Response {
		resp := &ohttp.Response{Status: r.status, Header: []ohttp.Field{{Name: "content-type", Value: "text/plain; charset=utf-8"}}, Content: []byte(r.text + "\n")}
		if r.retry > 0 {
			resp.Header = append(resp.Header, ohttp.Field{Name: "retry-after", Value: retryAfter(r.retry)})
		}
		return resp
	}
	req, err := ohttp.UnmarshalRequest(inner)
	if err != nil {
		return refuse(&refusal{status: 400, text: err.Error()})
	}
	if req.Method != http.MethodGet || len(req.Content) > 0 {
		return refuse(&refusal{status: 405, text: "only GET"})
	}
	asset, err := hub.ProxyDownload(ctx, relay, &mimi.DownloadRequest{
		URL:   req.Scheme + "://" + req.Authority + req.Path,
		Range: req.Get("range"), IfNoneMatch: req.Get("if-none-match"),
	})
	if err != nil {
		return refuse(refusalOf(err))
	}
	defer asset.Body.Close()
	tooLong := &refusal{status: 413, text: fmt.Sprintf("ask for ranges of at most %d octets", maxObliviousAsset)}
	if asset.ContentLength > maxObliviousAsset {
		return refuse(tooLong)
	}
	content, err := io.ReadAll(io.LimitReader(asset.Body, maxObliviousAsset+1))
	if err != nil {
		return refuse(refusalOf(err))
	}
	if len(content) > maxObliviousAsset {
		return refuse(tooLong)
	}
	if asset.Status < 200 || asset.Status > 599 {
		return refuse(&refusal{status: 502, text: "the asset is not fetched"})
	}
	resp := &ohttp.Response{Status: asset.Status, Content: content, Header: []ohttp.Field{{Name: "content-type", Value: "application/octet-stream"}}}
	for _, f := range []ohttp.Field{{Name: "content-range", Value: asset.ContentRange}, {Name: "etag", Value: asset.ETag}} {
		if f.Value != "" && !strings.ContainsAny(f.Value, "\x00\r\n") {
			resp.Header = append(resp.Header, f)
		}
	}
	return resp
}

// gatewayURL is where a peer has its gateway: on the host of its endpoints.
func gatewayURL(d *cachedDirectory) (u *url.URL, ok bool) {
	for _, e := range d.Endpoints() {
		if e.Template != "" && (e.Key == "proxyDownload" || d.ProxyDownload == "") {
			authority, _, _ := strings.Cut(strings.TrimPrefix(string(e.Template), "https://"), "/")
			return &url.URL{Scheme: "https", Host: authority, Path: gatewayPath}, true
		}
	}
	return nil, false
}

// GatewayKeys fetches the key configurations of a hub's OHTTP gateway, for
// ohttp.ParseKeys in a client, and says how long they may be kept.
func (c *Client) GatewayKeys(ctx context.Context, hub mimi.ProviderDomain) (keys []byte, age time.Duration, err error) {
	keys, age, err = c.gatewayRequest(ctx, hub, http.MethodGet, nil, ohttp.KeysMediaType, maxGatewayKeys)
	c.metrics.requested(gatewayKey, hub, err)
	return keys, age, err
}

// Relay passes an encapsulated request of one of our clients to a hub's OHTTP
// gateway and returns the encapsulated response. Nothing else of the client goes
// with it. A *PeerError with status 400 may mean that the client's keys are out of
// date (RFC 9458 §5.3).
func (c *Client) Relay(ctx context.Context, hub mimi.ProviderDomain, encapsulated []byte) ([]byte, error) {
	resp, _, err := c.gatewayRequest(ctx, hub, http.MethodPost, encapsulated, ohttp.ResponseMediaType, maxObliviousAsset+64*kib)
	c.metrics.requested(gatewayKey, hub, err)
	return resp, err
}

func (c *Client) gatewayRequest(ctx context.Context, hub mimi.ProviderDomain, method string, body []byte, mediaType string, longest int64) ([]byte, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	l, err := c.link(hub)
	if err != nil {
		return nil, 0, err
	}
	if err := l.waiting(gatewayKey, c.now()); err != nil {
		return nil, 0, err
	}
	d, err := c.directory(ctx, l)
	if err != nil {
		return nil, 0, err
	}
	target, ok := gatewayURL(d)
	if !ok {
		return nil, 0, &NotOfferedError{hub, gatewayKey}
	}
	req, err := c.newRequest(ctx, method, target, body)
	if err != nil {
		return nil, 0, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", ohttp.RequestMediaType)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, 0, c.unreachable(l, gatewayKey, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, c.refusedBy(l, gatewayKey, resp)
	}
	answer, err := readAnswer(resp, longest)
	if err == nil && resp.Header.Get("Content-Type") != mediaType {
		err = fmt.Errorf("the answer is %s and not %s", strconv.Quote(short(resp.Header.Get("Content-Type"))), mediaType)
	}
	if err != nil {
		return nil, 0, c.unreachable(l, gatewayKey, err)
	}
	l.peer.reached(c.now())
	return answer, cacheAge(resp.Header), nil
}
