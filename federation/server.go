package federation

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/ohttp"
)

// ServerConfig is what a Server needs. Certificate, Peers and Hub are required.
type ServerConfig struct {
	Certificate *Certificate
	Peers       *Peers
	// Hub answers the requests of other providers.
	Hub mimi.Hub
	// Base is the URL below which the endpoints are announced in the directory,
	// without a trailing slash. Default: https://<Certificate.Host()>/v1.
	Base string
	// Limits bounds what the server spends.
	Limits Limits
	// Issuers is the document with our issuing roots (docs/design/identity.md).
	// Nil: not offered.
	Issuers func(context.Context) ([]byte, error)
	// Ready reports what keeps the provider from working; nil when it works.
	Ready func(context.Context) error
	// NotOffered lists endpoints, by directory key, that are left out. Without
	// proxyDownload there is no OHTTP gateway either.
	NotOffered []string
	// ObliviousSecret is what the keys of the OHTTP gateway are derived from, 32
	// octets or more, the same for all nodes of a provider. Nil: a new one with
	// each start, after which clients fetch the keys again.
	ObliviousSecret []byte
	// DirectoryAge is how long peers may cache the directory. Default: 1 h.
	DirectoryAge time.Duration
	// Logger gets one line for each refusal. Nil means slog.Default.
	Logger *slog.Logger
	// Registry takes the metrics. Nil: they are counted but not registered.
	Registry prometheus.Registerer
}

// A Server serves the MIMI protocol to other providers. It checks who is
// asking, bounds what they may spend, decodes, and leaves the rest to the Hub.
type Server struct {
	cfg       ServerConfig
	logger    *slog.Logger
	directory mimi.Directory
	document  []byte // the directory as JSON
	etag      string
	endpoints []*endpoint
	gateway   *gatewayKeys // nil: not offered
	memory    memory
	metrics   *serverMetrics
	now       func() time.Time
}

// endpoint is one endpoint that this server offers.
type endpoint struct {
	handler
	template mimi.Template
	prefix   string // of the path, up to its variable
	limit    EndpointLimit
	slots    chan struct{} // one for each request under way

	inFlight prometheus.Gauge
	seconds  prometheus.Observer
	done     prometheus.Counter // with the status of success
}

// NewServer checks the settings and returns a server.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Certificate == nil || cfg.Peers == nil || cfg.Hub == nil {
		return nil, errors.New("federation: a server needs a certificate, peers and a hub")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Base == "" {
		cfg.Base = "https://" + cfg.Certificate.Host() + "/v1"
	}
	setDefault(&cfg.DirectoryAge, time.Hour)
	var err error
	if cfg.Limits, err = cfg.Limits.withDefaults(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, logger: cfg.Logger, now: time.Now,
		memory: memory{total: cfg.Limits.Memory, perPeer: cfg.Limits.PeerMemory}}
	if s.directory, err = mimi.NewDirectory(cfg.Base); err != nil {
		return nil, fmt.Errorf("federation: the base URL %q: %w", cfg.Base, err)
	}
	if err := s.leaveOut(cfg.NotOffered); err != nil {
		return nil, err
	}
	if cfg.Issuers == nil {
		s.directory.Issuers = ""
	}
	if s.document, err = s.directory.Marshal(); err != nil {
		return nil, fmt.Errorf("federation: %w", err)
	}
	s.document = append(s.document, '\n')
	sum := sha256.Sum256(s.document)
	s.etag = `"` + hex.EncodeToString(sum[:8]) + `"`
	templates := make(map[string]mimi.Template)
	for _, e := range s.directory.Endpoints() {
		templates[e.Key] = e.Template
	}
	for _, h := range handlers {
		if templates[h.key] == "" {
			continue
		}
		limit := cfg.Limits.Endpoints[h.key]
		s.endpoints = append(s.endpoints, &endpoint{handler: h, template: templates[h.key],
			limit: limit, slots: make(chan struct{}, limit.Concurrent)})
	}
	if s.directory.ProxyDownload != "" {
		if s.gateway, err = newGatewayKeys(cfg.ObliviousSecret); err != nil {
			return nil, err
		}
		authority, _, _ := strings.Cut(strings.TrimPrefix(cfg.Base, "https://"), "/")
		limit := cfg.Limits.Endpoints[gatewayKey]
		s.endpoints = append(s.endpoints, &endpoint{template: mimi.Template("https://" + authority + gatewayPath), limit: limit,
			handler: handler{gatewayKey, http.MethodPost, 200, noVariable, s.serveGateway}, slots: make(chan struct{}, limit.Concurrent)})
	}
	s.metrics, err = newServerMetrics(cfg.Registry, func() float64 {
		s.memory.mu.Lock()
		defer s.memory.mu.Unlock()
		return float64(s.memory.held)
	})
	if err != nil {
		return nil, fmt.Errorf("federation: metrics: %w", err)
	}
	for _, e := range s.endpoints {
		_, path, _ := strings.Cut(string(e.template), "://")
		e.prefix = path[max(0, strings.IndexByte(path, '/')):]
		e.prefix, _, _ = strings.Cut(e.prefix, "{")
		e.inFlight, e.seconds = s.metrics.inFlight.WithLabelValues(e.key), s.metrics.seconds.WithLabelValues(e.key)
		e.done = s.metrics.requests.WithLabelValues(e.key, strconv.Itoa(e.status))
	}
	return s, nil
}

func (s *Server) leaveOut(keys []string) error {
	for _, key := range keys {
		switch key {
		case "requestConsent":
			s.directory.RequestConsent = ""
		case "updateConsent":
			s.directory.UpdateConsent = ""
		case "identifierQuery":
			s.directory.IdentifierQuery = ""
		case "reportAbuse":
			s.directory.ReportAbuse = ""
		case "proxyDownload":
			s.directory.ProxyDownload = ""
		default:
			return fmt.Errorf("federation: the endpoint %q can't be left out", key)
		}
	}
	return nil
}

// Directory returns the directory that the server announces.
func (s *Server) Directory() mimi.Directory { return s.directory }

// TLSConfig returns the configuration for the server's listener. Clients are
// asked for a certificate but it is judged with each request, because who it must
// name stands in the request, and because a peer's trust may change while a
// connection is open.
func (s *Server) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, _ := s.cfg.Certificate.get()
			return cert, nil
		},
	}
}

// Listen opens a TCP listener; its error is a sentence for whoever starts the program.
func Listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("the address %s is already in use: another program, or another Comity, listens there", address)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("this user may not listen on %s: ports below 1024 need a privilege", address)
	}
	return nil, fmt.Errorf("can't listen on %s: %w", address, err)
}

// drainTime is how long requests under way may take when a server ends.
const drainTime = 15 * time.Second

// Serve answers requests on l, with TLS, until ctx ends; then it lets the
// requests under way finish. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s.Handler(),
		TLSConfig:         s.TLSConfig(),
		ReadHeaderTimeout: s.cfg.Limits.HeaderTime,
		IdleTimeout:       s.cfg.Limits.IdleTime,
		MaxHeaderBytes:    s.cfg.Limits.HeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 256, SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
	failed := make(chan error, 1)
	go func() { failed <- server.ServeTLS(gatherListener{limitListener(l, s.cfg.Limits.Connections)}, "", "") }()
	select {
	case err := <-failed:
		return fmt.Errorf("federation: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err := server.Shutdown(drain)
	if err != nil {
		err = errors.Join(fmt.Errorf("federation: requests were cut off: %w", err), server.Close())
	}
	<-failed
	return err
}

// limitListener bounds the connections that are open at once. Further ones wait
// in the operating system's queue.
func limitListener(l net.Listener, n int) net.Listener {
	return &limitedListener{Listener: l, slots: make(chan struct{}, n), closed: make(chan struct{})}
}

type limitedListener struct {
	net.Listener
	slots  chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, slots: l.slots}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	once  sync.Once
	slots chan struct{}
}

func (c *limitedConn) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.Conn.Close()
}

// Handler returns the handler of the directory, of all endpoints, and of
// /healthz and /readyz. It needs connections made with TLSConfig.
func (s *Server) Handler() http.Handler { return newWorkers(s.serve) }

// exchange is one request on its way through the server.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	started time.Time
	name    string    // of the endpoint, for metrics and the log
	e       *endpoint // nil: none
	from    mimi.ProviderDomain
	proven  bool // the certificate speaks for from
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	x := &exchange{w: w, r: r, started: s.now(), name: "none"}
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler {
				panic(v)
			}
			s.logger.Error("panic in a federation request", "endpoint", x.name, "panic", v, "stack", string(debug.Stack()))
			s.refuse(x, &refusal{status: 500, reason: ReasonFailed, text: "internal error"})
		}
	}()
	if r.ProtoMajor < 2 {
		// A connection keeps the deadline of its last answer, which may be over.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // not supported: a test's recorder
	}
	// Routed by the path as it came: %2F is part of a URI, "/" is not (Decision 3).
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(path, "/") { // the absolute form of HTTP/1.1
		path = r.URL.EscapedPath()
	}
	if public := s.public(r.Method, path); public != nil {
		x.name = strings.Trim(path, "/.")
		if err := s.servePublic(x, public); err != nil {
			s.refuse(x, err)
		}
		return
	}
	for _, e := range s.endpoints {
		if !strings.HasPrefix(path, e.prefix) {
			continue
		}
		values, ok := e.template.Match(path)
		if !ok {
			continue
		}
		x.name, x.e = e.key, e
		e.inFlight.Inc()
		err := s.serveEndpoint(x, e, values)
		e.inFlight.Dec()
		e.seconds.Observe(s.now().Sub(x.started).Seconds())
		if err != nil {
			s.refuse(x, err)
		}
		return
	}
	s.refuse(x, &refusal{status: 404, reason: ReasonUnknownPath, text: "there is no such endpoint; see " + mimi.DirectoryPath})
}

// serveEndpoint takes a request through all checks, in the order of their cost.
func (s *Server) serveEndpoint(x *exchange, e *endpoint, values map[string]string) *refusal {
	// The method.
	if x.r.Method != e.method {
		return &refusal{status: 405, reason: ReasonMethod, allow: e.method,
			text: fmt.Sprintf("%s takes %s, not %s", e.key, e.method, short(x.r.Method))}
	}
	// The target provider, then the source provider (MIMI protocol §4.1).
	if err := s.checkHost(x.r); err != nil {
		return err
	}
	n, refused := s.authenticate(x)
	if refused != nil {
		return refused
	}
	// What it may ask.
	wait, err := n.begin(s.now())
	if err != nil {
		reason := ReasonRate
		if errors.Is(err, errConcurrent) {
			reason = ReasonPeerConcurrency
		}
		return &refusal{status: 429, reason: reason, retry: wait, text: err.Error()}
	}
	defer n.end()
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	default:
		return &refusal{status: 429, reason: ReasonConcurrency, retry: time.Second, text: "too many requests to this endpoint at the same time"}
	}
	// The path's URI.
	c := &call{from: x.from, own: s.cfg.Certificate.Domain()}
	if refused := e.path(c, values); refused != nil {
		return refused
	}
	if e.serve == nil {
		return s.proxyDownload(x, e, c)
	}
	// The body.
	var release func()
	c.body, release, refused = s.readBody(x, n, e)
	defer release()
	if refused != nil {
		return refused
	}
	// The answer.
	ctx, span := traced(x.r, e.key, x.from)
	defer span.End()
	ctx, cancel := context.WithTimeout(ctx, e.limit.Time)
	defer cancel()
	answer, err := e.serve(ctx, s.cfg.Hub, c)
	if err != nil {
		return refusalOf(err)
	}
	if e.key == gatewayKey {
		x.w.Header().Set("Content-Type", ohttp.ResponseMediaType)
	} else if e.status == http.StatusOK {
		x.w.Header().Set("Content-Type", "application/octet-stream")
	}
	s.answer(x, e.status, answer)
	return nil
}

func (s *Server) checkHost(r *http.Request) *refusal {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h // the port is ignored
	}
	host = strings.ToLower(host)
	if host != s.cfg.Certificate.Host() && host != string(s.cfg.Certificate.Domain()) {
		return &refusal{status: 421, reason: ReasonHost, text: fmt.Sprintf("this is %s, not %s", s.cfg.Certificate.Domain(), short(host))}
	}
	return nil
}

// authenticate finds out which provider is asking: the one in From, if the
// client certificate speaks for it (Decision 6).
func (s *Server) authenticate(x *exchange) (*peer, *refusal) {
	from := x.r.Header.Values("From")
	switch len(from) {
	case 0:
		return nil, &refusal{status: 400, reason: ReasonFromMissing, text: "the From header field is missing: it must be mimi@<your domain>"}
	case 1:
	default:
		return nil, &refusal{status: 400, reason: ReasonUnsupportedRequest, text: "more than one From header field"}
	}
	name, ok := strings.CutPrefix(from[0], "mimi@")
	domain, err := mimi.ParseProviderDomain(name)
	if !ok || err != nil {
		return nil, &refusal{status: 400, reason: ReasonFromInvalid,
			text: fmt.Sprintf("From is %q: it must be mimi@<your domain>, in lower case", short(from[0]))}
	}
	x.from = domain
	n, known := s.cfg.Peers.find(domain)
	if x.r.TLS == nil || len(x.r.TLS.PeerCertificates) == 0 {
		return nil, &refusal{status: 403, reason: ReasonNoCertificate, text: "no client certificate was shown: it must name " + string(domain)}
	}
	if err := n.verifyClient(x.r.TLS.PeerCertificates, s.now()); err != nil {
		r := &refusal{status: 403, reason: ReasonUntrusted, err: err, text: "the client certificate is not trusted for " + string(domain)}
		var ce *CertificateError
		if errors.As(err, &ce) {
			r.text, r.err = "client certificate: "+ce.Text, ce.Err
			if ce.Problem == ProblemWrongName {
				r.reason = ReasonFromMismatch
			}
		}
		return nil, r
	}
	x.proven = true
	if err := s.cfg.Peers.admits(n); err != nil {
		return nil, &refusal{status: 403, reason: ReasonBlocked, err: err, text: "this provider does not talk to " + string(domain)}
	}
	if !known {
		n = s.cfg.Peers.remember(n)
	}
	return n, nil
}

// readBody reads a body within the endpoint's bounds of size, time and memory.
func (s *Server) readBody(x *exchange, n *peer, e *endpoint) (body []byte, release func(), refused *refusal) {
	release = func() {}
	if encoding := x.r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, release, &refusal{status: 415, reason: ReasonContentEncoding, text: "bodies must not be compressed"}
	}
	tooLarge := &refusal{status: 413, reason: ReasonTooLarge, text: fmt.Sprintf("%s takes bodies of at most %d octets", e.key, e.limit.Body)}
	if x.r.ContentLength > e.limit.Body {
		return nil, release, tooLarge
	}
	late, err := readUntil(x, e.limit.BodyTime)
	if err != nil {
		return nil, release, refusalOf(err)
	}
	body, release, err = s.memory.readBody(n, x.r.Body, x.r.ContentLength, e.limit.Body)
	if failed := late(); err == nil {
		err = failed
	}
	switch {
	case err == nil:
		return body, release, nil
	case errors.Is(err, errBodyTooLarge):
		return nil, release, tooLarge
	case errors.Is(err, errPeerMemory):
		return nil, release, &refusal{status: 429, reason: ReasonPeerMemory, retry: 2 * time.Second, text: err.Error()}
	case errors.Is(err, errMemory):
		return nil, release, &refusal{status: 503, reason: ReasonMemory, retry: 2 * time.Second, text: err.Error()}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, release, &refusal{status: 408, reason: ReasonSlowBody, text: fmt.Sprintf("the body did not arrive within %v", e.limit.BodyTime)}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w after %d octets", err, len(body))
	}
	return nil, release, &refusal{status: 400, reason: ReasonBrokenBody, err: err, text: "the body could not be read"}
}

// readUntil bounds how long a request's body may take, until done is called. In
// HTTP/2 a deadline costs the connection a turn, twice: there it is set only when
// time is up.
func readUntil(x *exchange, limit time.Duration) (done func() error, err error) {
	control := http.NewResponseController(x.w)
	if x.r.ProtoMajor >= 2 {
		timer := time.AfterFunc(limit, func() { _ = control.SetReadDeadline(time.Unix(1, 0)) })
		return func() error {
			if !timer.Stop() {
				return os.ErrDeadlineExceeded
			}
			return nil
		}, nil
	}
	// A writer without deadlines is a test's recorder; the real ones have them.
	supported := func(err error) error {
		if errors.Is(err, http.ErrNotSupported) {
			return nil
		}
		return err
	}
	if err := supported(control.SetReadDeadline(time.Now().Add(limit))); err != nil {
		return nil, err
	}
	// Off again: the connection is watched for its end while the hub works.
	return func() error { return supported(control.SetReadDeadline(time.Time{})) }, nil
}

// answerTime is how long a peer may take to read an answer.
const answerTime = 60 * time.Second

func (s *Server) answer(x *exchange, status int, body []byte) {
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(answerTime)) // not supported: a test's recorder
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	x.w.Header().Set("Cache-Control", "no-store")
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body) // a peer that is gone asks again
	s.finished(x, status)
}

func (s *Server) finished(x *exchange, status int) {
	if x.e != nil && status == x.e.status {
		x.e.done.Inc()
	} else {
		s.metrics.requests.WithLabelValues(x.name, strconv.Itoa(status)).Inc()
	}
	s.metrics.peer(x, "ok")
	s.logger.Debug("federation request", "endpoint", x.name, "status", status, "peer", x.from, "took", s.now().Sub(x.started))
}

// refuse answers with an error, counts it and writes its one line to the log.
func (s *Server) refuse(x *exchange, r *refusal) {
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(answerTime))
	if r.reason == ReasonSlowBody {
		// What comes after half a body can't be understood.
		x.w.Header().Set("Connection", "close")
	}
	r.write(x.w)
	s.metrics.requests.WithLabelValues(x.name, strconv.Itoa(r.status)).Inc()
	s.metrics.refusals.WithLabelValues(x.name, string(r.reason)).Inc()
	if r.status >= 500 {
		s.metrics.peer(x, "failed")
	} else {
		s.metrics.peer(x, "refused")
	}
	attrs := []any{"endpoint", x.name, "status", r.status, "reason", string(r.reason), "text", r.text,
		"remote", x.r.RemoteAddr, "method", short(x.r.Method)}
	if x.from != "" {
		// A claim is not a peer: nobody shall be blamed for another's request.
		key := "claimed"
		if x.proven {
			key = "peer"
		}
		attrs = append(attrs, key, string(x.from))
	}
	if r.err != nil {
		attrs = append(attrs, "error", r.err.Error())
	}
	level := slog.LevelWarn
	if r.status >= 500 {
		level = slog.LevelError
	}
	s.logger.Log(x.r.Context(), level, "federation request refused", attrs...)
}

// short bounds what of a stranger's text is repeated.
func short(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
