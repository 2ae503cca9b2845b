package federation

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comity-im/comity/mimi"
)

// ClientConfig is what a Client needs. Certificate and Peers are required.
type ClientConfig struct {
	Certificate *Certificate
	Peers       *Peers
	// Timeout bounds one request with its answer. Default: 60 s.
	Timeout time.Duration
	// ConnectTimeout bounds connecting, and then the TLS handshake. Default: 10 s.
	ConnectTimeout time.Duration
	// Logger is told about peers that fail. Nil means slog.Default.
	Logger *slog.Logger
	// Registry takes the metrics. Nil: they are counted but not registered.
	Registry prometheus.Registerer
}

// A Client speaks the MIMI protocol to other providers. It keeps connections and
// directories for each peer. It is safe for concurrent use.
type Client struct {
	cfg     ClientConfig
	logger  *slog.Logger
	metrics *clientMetrics
	now     func() time.Time

	mu    sync.Mutex
	links map[mimi.ProviderDomain]*link
}

// maxLinks bounds how many peers connections are kept for.
const maxLinks = 1024

// link is our way to one peer under one state of its trust and our certificate.
type link struct {
	peer       *peer
	trustGen   uint64
	certGen    uint64
	transport  *http.Transport
	client     *http.Client
	fetching   chan struct{} // holds one token: the right to fetch the directory
	used       time.Time     // guarded by Client.mu
	mu         sync.Mutex
	cached     *cachedDirectory
	failed     error // of the last fetch
	failedTime time.Time
	waits      map[string]wait          // by endpoint
	slots      map[string]chan struct{} // by endpoint, one for each request under way
}

// NewClient checks the settings and returns a client.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Certificate == nil || cfg.Peers == nil {
		return nil, errors.New("federation: a client needs a certificate and peers")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	setDefault(&cfg.Timeout, time.Minute)
	setDefault(&cfg.ConnectTimeout, 10*time.Second)
	c := &Client{cfg: cfg, logger: cfg.Logger, now: time.Now, links: make(map[mimi.ProviderDomain]*link)}
	var err error
	if c.metrics, err = newClientMetrics(cfg.Registry); err != nil {
		return nil, fmt.Errorf("federation: metrics: %w", err)
	}
	cfg.Peers.watch(c.drop)
	return c, nil
}

// Close closes all connections that are not in use.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for domain, l := range c.links {
		l.transport.CloseIdleConnections()
		delete(c.links, domain)
	}
}

// drop forgets the connections to a peer whose settings changed.
func (c *Client) drop(domain mimi.ProviderDomain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.links[domain]; l != nil {
		l.transport.CloseIdleConnections()
		delete(c.links, domain)
	}
}

// link returns the way to a peer that we talk to.
func (c *Client) link(domain mimi.ProviderDomain) (*link, error) {
	if _, err := mimi.ParseProviderDomain(string(domain)); err != nil {
		return nil, fmt.Errorf("federation: peer: %w", err)
	}
	if domain == c.cfg.Certificate.Domain() {
		return nil, fmt.Errorf("federation: %s is this provider itself", domain)
	}
	n, known := c.cfg.Peers.find(domain)
	if err := c.cfg.Peers.admits(n); err != nil {
		return nil, err
	}
	if !known {
		n = c.cfg.Peers.remember(n)
	}
	now := c.now()
	_, trustGen := n.trust.get(now)
	_, certGen := c.cfg.Certificate.get()
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.links[domain]
	if l == nil || l.peer != n || l.trustGen != trustGen || l.certGen != certGen {
		next := c.newLink(n, trustGen, certGen)
		if l != nil {
			l.transport.CloseIdleConnections()
			l.mu.Lock()
			if l.peer == n { // the same peer, new keys: the directory holds
				next.cached = l.cached
			}
			l.mu.Unlock()
		} else if len(c.links) >= maxLinks {
			c.evict()
		}
		l = next
		c.links[domain] = l
	}
	l.used = now
	return l, nil
}

// evict closes the link that was unused for longest. The caller holds mu.
func (c *Client) evict() {
	var oldest *link
	for _, l := range c.links {
		if oldest == nil || l.used.Before(oldest.used) {
			oldest = l
		}
	}
	if oldest != nil {
		oldest.transport.CloseIdleConnections()
		delete(c.links, oldest.peer.domain)
	}
}

func (c *Client) newLink(n *peer, trustGen, certGen uint64) *link {
	l := &link{peer: n, trustGen: trustGen, certGen: certGen, fetching: make(chan struct{}, 1), waits: make(map[string]wait),
		slots: make(map[string]chan struct{})}
	l.transport = &http.Transport{
		DialContext:            n.dialer(c.cfg.ConnectTimeout),
		TLSClientConfig:        c.tlsConfig(n),
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		TLSHandshakeTimeout:    c.cfg.ConnectTimeout,
		MaxIdleConnsPerHost:    4,
		MaxConnsPerHost:        16,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 * kib,
		DisableCompression:     true, // an answer that unfolds can't be bounded by its length
	}
	l.client = &http.Client{Transport: l.transport, CheckRedirect: sameHost}
	return l
}

// tlsConfig is how we greet a peer's servers. VerifyConnection takes the place of
// Go's own check, because what is trusted depends on the peer.
func (c *Client) tlsConfig(n *peer) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return n.trust.verifyHost(cs.PeerCertificates, cs.ServerName, n.domain, c.now())
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, _ := c.cfg.Certificate.get()
			return cert, nil
		},
	}
}

// sameHost lets the directory be redirected, on its own host only, and nothing
// else (Decision 4).
func sameHost(r *http.Request, via []*http.Request) error {
	if len(via) >= 3 || r.URL.Scheme != "https" || r.URL.Host != via[0].URL.Host || via[0].URL.Path != mimi.DirectoryPath {
		return http.ErrUseLastResponse
	}
	return nil
}

// answerLimit is how long an answer to an endpoint may be, in octets (Decision 10).
func answerLimit(key string) int64 {
	if key == "groupInfo" {
		return 64 * mib
	}
	return mib
}

// post sends one request to an endpoint of a peer and returns its answer.
func (c *Client) post(ctx context.Context, domain mimi.ProviderDomain, key string, v mimi.Variables, body []byte) ([]byte, error) {
	started := c.now()
	ctx, span := otel.Tracer(tracer).Start(ctx, key, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("server.address", string(domain))))
	defer span.End()
	r, err := c.exchange(ctx, domain, key, v, body)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	c.metrics.seconds.WithLabelValues(key).Observe(c.now().Sub(started).Seconds())
	c.metrics.requested(key, domain, err)
	return r, err
}

func (c *Client) exchange(ctx context.Context, domain mimi.ProviderDomain, key string, v mimi.Variables, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	l, err := c.link(domain)
	if err != nil {
		return nil, err
	}
	leave, err := l.enter(ctx, key)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := l.waiting(key, c.now()); err != nil {
		return nil, err
	}
	req, err := c.request(ctx, l, http.MethodPost, key, v, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, c.unreachable(l, key, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return nil, c.refusedBy(l, key, resp)
	}
	answer, err := readAnswer(resp, answerLimit(key))
	if err != nil {
		return nil, c.unreachable(l, key, err)
	}
	l.peer.reached(c.now())
	return answer, nil
}

// maxUnderWay is how many requests to one endpoint of a peer are under way at
// once. Further ones wait here rather than to be refused there: a 429 would stop
// all of them for a second. It is below what a Server takes by default.
const maxUnderWay = 64

// enter waits for a slot, until leave is called.
func (l *link) enter(ctx context.Context, key string) (leave func(), err error) {
	l.mu.Lock()
	slots := l.slots[key]
	if slots == nil {
		slots = make(chan struct{}, maxUnderWay)
		l.slots[key] = slots
	}
	l.mu.Unlock()
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, &PeerError{l.peer.domain, key, StepSlow, 0, &mimi.FailedError{Err: ctx.Err()}}
	}
}

// request prepares a request to an endpoint, whose URL the peer's directory names.
func (c *Client) request(ctx context.Context, l *link, method, key string, v mimi.Variables, body []byte) (*http.Request, error) {
	d, err := c.directory(ctx, l)
	if err != nil {
		return nil, err
	}
	template := d.templates[key]
	if template == "" {
		return nil, &NotOfferedError{l.peer.domain, key}
	}
	var target *url.URL
	expanded, err := template.Expand(v)
	if err == nil {
		target, err = checkEndpointURL(expanded)
	}
	if err != nil {
		err = &PeerError{l.peer.domain, key, StepDirectory, 0, &mimi.FailedError{Err: err}}
		l.peer.failed(c.now(), err)
		return nil, err
	}
	return c.newRequest(ctx, method, target, body)
}

func (c *Client) newRequest(ctx context.Context, method string, target *url.URL, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, "", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("federation: %w", err)
	}
	req.URL, req.Host = target, strings.TrimSuffix(target.Host, ":")
	req.Header.Set("From", "mimi@"+string(c.cfg.Certificate.Domain()))
	req.Header.Set("User-Agent", "comity")
	otel.GetTextMapPropagator().Inject(ctx, propagation.HeaderCarrier(req.Header))
	return req, nil
}

func checkEndpointURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "https" || u.User != nil {
		return nil, fmt.Errorf("the endpoint %q is not a plain https URL", short(s))
	}
	if _, err := mimi.ParseProviderDomain(strings.ToLower(u.Hostname())); err != nil {
		return nil, fmt.Errorf("the endpoint %q has no host name", short(s))
	}
	return u, nil
}

var (
	errAnswerTooLarge = errors.New("the answer is longer than allowed")
	errAnswerEncoding = errors.New("the answer is compressed, which was not asked for")
)

// readAnswer reads a body of at most longest octets.
func readAnswer(resp *http.Response, longest int64) ([]byte, error) {
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, errAnswerEncoding
	}
	if resp.ContentLength > longest {
		return nil, fmt.Errorf("%w: %d of %d octets", errAnswerTooLarge, resp.ContentLength, longest)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, longest+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > longest {
		return nil, fmt.Errorf("%w: %d octets", errAnswerTooLarge, longest)
	}
	return body, nil
}
