package serve

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/federation"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/provider"
	"github.com/comity-im/comity/provider/assets"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/postgres"
	"github.com/comity-im/comity/store/sqlite"
)

// A Server is one provider with its listeners open.
type Server struct {
	cfg      Config
	logger   *slog.Logger
	store    *store.Store
	lock     io.Closer // of the data folder; nil: several nodes may use it
	cert     *federation.Certificate
	peers    *federation.Peers
	out      *federation.Client
	in       *federation.Server
	provider *provider.Provider
	registry *prometheus.Registry
	metrics  *provider.Metrics
	assets   *assets.Assets // nil: none are kept

	applying sync.Mutex // covers what of the operator's words holds here:
	applied  map[mimi.ProviderDomain]provider.PeerSettings
	policy   string

	federationListener, clientListener, adminListener net.Listener
}

// NewLogger returns the logger that a config asks for.
func NewLogger(w io.Writer, cfg Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// Open checks a config, opens the database and the listeners, and returns a
// server that Run makes work. Its errors are sentences for whoever starts it.
func Open(ctx context.Context, cfg Config, logger *slog.Logger) (*Server, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg.Limits = cfg.Limits.share()
	s := &Server{cfg: cfg, logger: logger, registry: prometheus.NewRegistry()}
	if err := s.open(ctx); err != nil {
		var engine *store.EngineError
		if errors.As(err, &engine) && s.store != nil {
			err = fmt.Errorf("%w: %s", err, s.store.Advise(err))
		}
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) (err error) {
	cfg, logger := s.cfg, s.logger
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	domain := mimi.ProviderDomain(cfg.Domain)
	s.cert, err = federation.LoadCertificate(federation.CertificateConfig{Domain: domain, CertFile: cfg.path(cfg.Certificate.Cert), KeyFile: cfg.path(cfg.Certificate.Key), Logger: logger})
	if err != nil {
		return err
	}
	peers, err := cfg.peers()
	if err != nil {
		return err
	}
	peers.Logger = logger
	s.applied = map[mimi.ProviderDomain]provider.PeerSettings{}
	if s.peers, err = federation.NewPeers(peers); err != nil {
		return err
	}
	fixed, err := cfg.issuers()
	if err != nil {
		return err
	}
	if s.federationListener, err = federation.Listen(cfg.Listen.Federation); err != nil {
		return err
	}
	if s.clientListener, err = federation.Listen(cfg.Listen.Clients); err != nil {
		return err
	}
	if cfg.Listen.Admin != "" {
		if s.adminListener, err = federation.Listen(cfg.Listen.Admin); err != nil {
			return err
		}
	}
	if s.store, s.lock, err = openStore(ctx, cfg); err != nil {
		return err
	}
	if was, err := s.store.WasRestored(ctx, time.Now().UnixMilli()); err != nil {
		return err
	} else if was {
		logger.Warn("this database is a backup that was restored: events go on with new numbers, and the stock of KeyPackages was dropped; rooms hosted here may be in an earlier epoch than their members, whose devices then come in anew")
	}
	if s.out, err = federation.NewClient(federation.ClientConfig{Certificate: s.cert, Peers: s.peers, Logger: logger, Registry: s.registry}); err != nil {
		return err
	}
	s.metrics = provider.NewMetrics(s.registry)
	health := &health{logger: logger, advise: s.store.Advise, now: time.Now}
	s.store.Observe(func(c store.Commit) {
		s.metrics.Committed(c)
		health.committed(c)
		if cfg.Committed != nil {
			cfg.Committed()
		}
	})
	s.store.ObserveReads(func(err error) {
		s.metrics.Unread()
		health.unread(err)
	})
	s.store.ObserveCheckpoints(func(c store.Checkpoint) {
		s.metrics.Checkpointed(c)
		health.checkpointed(c)
	})
	proxy, err := federation.NewAssetProxy(federation.AssetConfig{Peers: s.peers, MaxBytes: cfg.Limits.MaxAsset})
	if err != nil {
		return err
	}
	var kept provider.Assets // stays nil if nothing is to be kept
	if cfg.Limits.MaxAsset > 0 {
		keep, _ := time.ParseDuration(cfg.Limits.KeepAssets) // checked
		s.assets, err = assets.New(assets.Config{
			Domain: domain, Store: s.store, Now: time.Now, Logger: logger, Dir: filepath.Join(cfg.path(cfg.Data), "assets"), Base: cfg.assetBase(),
			MaxBytes: cfg.Limits.MaxAsset, QuotaBytes: cfg.Limits.AssetQuota, Keep: keep,
			Hub: func(room mimi.RoomURI) mimi.Hub {
				if room.Host() == domain {
					return s.provider
				}
				return s.out.Peer(room.Host())
			},
		})
		if err != nil {
			return err
		}
		kept = s.assets
	}
	retention, _ := time.ParseDuration(cfg.Limits.Retention)   // checked
	keepUnread, _ := time.ParseDuration(cfg.Limits.KeepUnread) // checked
	keepReports, _ := time.ParseDuration(cfg.Limits.KeepReports)
	frankingAge, _ := time.ParseDuration(cfg.Limits.FrankingAge)
	var suites []suite.ID
	for _, id := range cfg.Limits.Suites {
		suites = append(suites, suite.ID(id))
	}
	s.provider, err = provider.New(ctx, provider.Config{
		Domain: domain, Store: s.store, Peers: outside{s.out}, Node: cfg.Node, Now: cfg.Now, Logger: logger, FixedIssuers: fixed, Metrics: s.metrics,
		Registration: cfg.Accounts.Registration, Invites: cfg.Accounts.Invites, ConsentFirst: cfg.Accounts.ConsentFirst, HiddenHandles: cfg.Accounts.HiddenHandles, Pseudonyms: cfg.Accounts.Pseudonyms,
		Suites: suites, StockFloor: cfg.Limits.StockFloor, StockCeiling: cfg.Limits.StockCeiling, KeysPerRequester: cfg.Limits.KeysPerRequester,
		Retention: retention, KeepUnread: keepUnread, QueriesPerSecond: cfg.Limits.QueriesPerSecond,
		KeysPerProvider: cfg.Limits.KeysPerProvider, ReportsPerHour: cfg.Limits.ReportsPerHour, KeepReports: keepReports, FrankingAge: frankingAge,
		Assets: kept, MaxAsset: cfg.Limits.MaxAsset, AssetDomains: cfg.assetDomains(),
		Proxy: func(ctx context.Context, from mimi.ProviderDomain, req *mimi.DownloadRequest) (*mimi.Download, error) {
			if s.assets != nil {
				if d, own, err := s.assets.Own(ctx, req); own {
					return d, err
				}
			}
			return proxy.ProxyDownload(ctx, from, req)
		},
	})
	if err != nil {
		return err
	}
	if err := s.restorePeers(ctx); err != nil {
		return err
	}
	if err := s.registry.Register(s.provider.Gauges()); err != nil {
		return err
	}
	network := networkBytes(s.registry)
	s.federationListener = count(s.federationListener, network, "federation")
	s.clientListener = count(s.clientListener, network, "clients")
	gateway, err := s.provider.Secret(ctx, "ohttp gateway")
	if err != nil {
		return err
	}
	s.in, err = federation.NewServer(federation.ServerConfig{
		Certificate: s.cert, Peers: s.peers, Hub: s.provider, Base: cfg.base(), Logger: logger, Registry: s.registry, Ready: s.store.Ping, ObliviousSecret: gateway,
		Issuers: func(context.Context) ([]byte, error) { return s.provider.IssuersDocument() },
	})
	return err
}

// openStore opens the database. That of a data folder belongs to one process: it
// does not look for what others write.
func openStore(ctx context.Context, cfg Config) (*store.Store, io.Closer, error) {
	data := cfg.path(cfg.Data)
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, nil, fmt.Errorf("the data folder can't be made: %w", err)
	}
	if cfg.Store != "" {
		s, err := postgres.Open(ctx, cfg.Store, 0)
		return s, nil, err
	}
	lock, err := lockFolder(data)
	if err != nil {
		return nil, nil, err
	}
	s, err := sqlite.Open(ctx, filepath.Join(data, "comity.db"))
	if err != nil {
		lock.Close()
		return nil, nil, err
	}
	return s, lock, nil
}

// issuers reads the credential issuers of peers that are fixed.
func (c *Config) issuers() (map[mimi.ProviderDomain][]*x509.Certificate, error) {
	out := map[mimi.ProviderDomain][]*x509.Certificate{}
	for name, p := range c.Peers.Peer {
		if p.Issuers == "" {
			continue
		}
		b, err := os.ReadFile(c.path(p.Issuers))
		if err != nil {
			return nil, fmt.Errorf("peers.peer.%s.issuers: %w", name, err)
		}
		if out[mimi.ProviderDomain(name)], err = identity.ParseAnchorsPEM(b); err != nil {
			return nil, fmt.Errorf("peers.peer.%s.issuers: %s: %w", name, p.Issuers, err)
		}
	}
	return out, nil
}

// outside is how the provider reaches others.
type outside struct{ c *federation.Client }

func (o outside) Peer(d mimi.ProviderDomain) mimi.Hub { return o.c.Peer(d) }

func (o outside) Issuers(ctx context.Context, d mimi.ProviderDomain) ([]*x509.Certificate, error) {
	doc, _, err := o.c.Issuers(ctx, d)
	if err != nil {
		return nil, err
	}
	return identity.ParseIssuers(doc, d)
}

func (o outside) GatewayKeys(ctx context.Context, hub mimi.ProviderDomain) ([]byte, error) {
	keys, _, err := o.c.GatewayKeys(ctx, hub)
	return keys, err
}

func (o outside) Relay(ctx context.Context, hub mimi.ProviderDomain, encapsulated []byte) ([]byte, error) {
	return o.c.Relay(ctx, hub, encapsulated)
}

// FederationAddr, ClientAddr and AdminAddr are where the listeners are; nil for
// one that isn't.
func (s *Server) FederationAddr() net.Addr { return addr(s.federationListener) }

// ClientAddr is where our users' clients connect.
func (s *Server) ClientAddr() net.Addr { return addr(s.clientListener) }

// AdminAddr is where the operator connects.
func (s *Server) AdminAddr() net.Addr { return addr(s.adminListener) }

func addr(l net.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// Run serves until ctx ends, then lets what is under way finish, and closes
// everything.
func (s *Server) Run(ctx context.Context) error {
	s.logger.Info("provider is up", "domain", s.cfg.Domain, "federation", s.federationListener.Addr().String(), "clients", s.clientListener.Addr().String(), "store", s.store.Engine())
	// Memory that is never touched, and so never taken: it makes the collector
	// wait for some tens of megabytes of garbage instead of for a few.
	ballast := make([]byte, ballastBytes)
	defer runtime.KeepAlive(ballast)
	stopTracing, err := startTracing(ctx, s.cfg.Domain)
	if err != nil {
		return errors.Join(err, s.close())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	run := func(f func(context.Context) error) {
		wg.Go(func() {
			err := f(ctx)
			cancel() // one that ends takes the others along
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	// The provider outlives the listeners: requests under way still use it.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var worker sync.WaitGroup
	worker.Go(func() { s.provider.Run(work) })
	worker.Go(func() { s.notePeers(work) })
	run(func(ctx context.Context) error { return s.in.Serve(ctx, s.federationListener) })
	run(s.serveClients)
	if s.adminListener != nil {
		run(s.serveAdmin)
	}
	wg.Wait()
	stop()
	worker.Wait()
	last, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	if err := stopTracing(last); err != nil {
		s.logger.Warn("the last traces were not sent", "error", err)
	}
	s.logger.Info("provider is down", "domain", s.cfg.Domain)
	return errors.Join(append(errs, s.close())...)
}

// ballastBytes is how much is not touched.
const ballastBytes = 32 << 20

// Reload reads certificates and trust anchors again.
func (s *Server) Reload() error {
	s.peers.Reload()
	return s.cert.Reload()
}

// drainTime is how long requests may take when the server ends.
const drainTime = 10 * time.Second

// serveHTTP serves a handler until ctx ends.
func serveHTTP(ctx context.Context, server *http.Server, serve func() error) error {
	// Streams end with the server, not with their clients.
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server.BaseContext = func(net.Listener) context.Context { return base }
	failed := make(chan error, 1)
	go func() { failed <- serve() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	cancel()
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer stop()
	err := server.Shutdown(drain)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	<-failed
	return err
}

func (s *Server) serveClients(ctx context.Context) error {
	mux := http.NewServeMux()
	api := clientapi.NewHandler(clientapi.HandlerConfig{Service: s.provider.Clients(), Logger: s.logger, Observe: s.metrics.ClientRequest, Refused: s.metrics.ClientRefused, Limits: s.cfg.Limits.clients()})
	defer api.Close()
	defer context.AfterFunc(ctx, api.Close)()
	mux.Handle(clientapi.Prefix, api)
	if s.assets != nil {
		mux.Handle("/assets/", s.assets)
	}
	mux.HandleFunc("/healthz", s.healthz)
	mux.HandleFunc("/readyz", s.readyz)
	server := &http.Server{
		Handler: mux, TLSConfig: s.cert.ServerTLS(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 256},
	}
	return serveHTTP(ctx, server, func() error { return server.ServeTLS(s.clientListener, "", "") })
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") }

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := s.store.Ping(ctx); err != nil {
		http.Error(w, "the database does not answer: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n")
}

func (s *Server) close() error {
	var errs []error
	if s.out != nil {
		s.out.Close()
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	for _, l := range []net.Listener{s.federationListener, s.clientListener, s.adminListener} {
		if l != nil {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
